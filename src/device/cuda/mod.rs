//! The CUDA back end below the tape: kernels as text, the compiler, the driver. Knows no operation.
//!
//! | file | idea |
//! |---|---|
//! | [`launch`] | a kernel's signature, one launch of it, the macro that makes typed launch functions |
//! | [`matmul`]   | in which precision and on which units matrix products run |
//! | [`unit`](mod@unit) | launches gathered into sources: kernels are templates over sizes, each size one instance |
//! | [`traced`] | formulas over any number type as text of kernels |
//! | [`estimate`] | how long a GPU that is not at hand would take |
//! | [`nvrtc`] | the run-time compiler, and what it reports about registers and spills |
//! | [`cache`] | compiled code on disk, by the hash of everything it depends on |
//! | [`driver`] | context, memory, modules, graphs |
//! | `binding` | how a function of the driver is called, and the number it returns |
//!
//! Nothing here needs a driver until [`driver::Context::open`] and nothing needs a compiler until
//! [`nvrtc::Nvrtc::load`]; both say in one line what is missing.

mod binding;
pub mod cache;
pub mod driver;
pub mod estimate;
pub mod launch;
pub mod matmul;
pub mod nvrtc;
pub mod traced;
pub mod unit;

pub use launch::Launch;

/// Why the GPU cannot be used: one line, with what was found and what is needed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CudaError {
    #[error("no CUDA driver: {0}; install one, or use device=cpu")]
    NoDriver(String),
    #[error("the CUDA driver is of version {}.{}, needed is {}.{} or newer", found / 1000, found % 1000 / 10, needed / 1000, needed % 1000 / 10)]
    OldDriver { found: i32, needed: i32 },
    #[error(
        "GPU {ordinal}, {name}, is taken: {why}; wait until it is free, or choose another one with device=cuda:N or cpu"
    )]
    Busy { ordinal: usize, name: String, why: String },
    #[error(
        "the run-time compiler, NVRTC {}.{}, knows no architecture that {name} ({arch}) can run; install a newer \
         nvidia-cuda-nvrtc and set PWM_NVRTC_PATH to its folder",
        version.0, version.1
    )]
    UnknownArchitecture { name: String, arch: String, version: (i32, i32) },
    #[error("no GPU {ordinal}: the driver shows {count}")]
    NoDevice { ordinal: usize, count: i32 },
    #[error("{name} has compute capability {major}.{minor}, needed is 8.0 or newer")]
    OldDevice { name: String, major: i32, minor: i32 },
    #[error(
        "no run-time compiler (libnvrtc): {0}; install the CUDA toolkit or the Python package nvidia-cuda-nvrtc-cu12, \
         and set PWM_NVRTC_PATH to the folder that holds libnvrtc.so.12"
    )]
    NoCompiler(String),
    #[error(
        "the run-time compiler {path} is NVRTC {}.{}, and the driver, of CUDA {}.{}, runs only what older ones make; update \
         the driver, or install nvidia-cuda-nvrtc-cu{} and set PWM_NVRTC_PATH to its folder",
        version.0, version.1, driver / 1000, driver % 1000 / 10, driver / 1000
    )]
    NewCompiler { path: String, version: (i32, i32), driver: i32 },
    #[error("cannot compile {unit} for {arch}: {log}")]
    Compile { unit: String, arch: String, log: String },
    #[error(
        "the GPU has no room for {bytes} bytes: {free} of {total} are free; reduce num_envs, wm_batch_size, horizon or wm_buffer_size"
    )]
    Memory { bytes: usize, free: usize, total: usize },
    #[error(
        "cannot lock {bytes} bytes of main memory for the GPU: {message}; lower wm_buffer_size, or set replay=device"
    )]
    Pinned { bytes: usize, message: String },
    #[error("the operation `{op}` of program `{program}` has no CUDA kernel yet; use device=cpu")]
    NoKernel { op: &'static str, program: &'static str },
    #[error(
        "an operand of the operation `{op}` of program `{program}` has {numbers} numbers, a kernel counts to 4294967295; \
         reduce num_envs, horizon, wm_batch_size or wm_buffer_size"
    )]
    Numbers { op: &'static str, program: &'static str, numbers: usize },
    #[error("PWM_PRODUCTS={0} is none of fma, mma, wgmma and clusters")]
    Products(String),
    #[error("the GPU computes in single precision only")]
    NumberType,
    #[error("CUDA: {call} failed with code {code}: {message}")]
    Driver { call: &'static str, code: i32, message: String },
}
