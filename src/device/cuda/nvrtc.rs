//! The run-time compiler, loaded from where it is found.

use super::CudaError;
use super::driver::{self, DeviceInfo};
use super::unit::Unit;
use libloading::Library;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};

type Status = c_int;
type Program = *mut c_void;

/// What the compiler says about one entry point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    pub symbol: String,
    pub registers: u32,
    /// Bytes of shared memory that the kernel declares.
    pub shared: u32,
    /// Bytes a thread keeps in memory because registers do not suffice, or because an array is indexed at run time,
    /// with those of the functions it calls.
    pub stack: u32,
    pub spill_stores: u32,
    pub spill_loads: u32,
}

/// Machine code of one unit.
#[derive(Clone, Debug)]
pub struct Image {
    pub code: Vec<u8>,
    /// One a entry point; empty if the compiler does not report.
    pub usage: Vec<Usage>,
    /// What the assembler says about lost speed, as that products by groups of warps wait for each other.
    pub losses: Vec<String>,
}

macro_rules! symbols {
    ($($name:ident: fn($($t:ty),*);)*) => {
        /// Functions of the library; it is never unloaded.
        #[allow(non_snake_case)]
        struct Symbols { $($name: unsafe extern "C" fn($($t),*) -> Status),* }
        impl Symbols {
            fn load(lib: &Library) -> Result<Self, String> {
                // SAFETY: the types are those of the library's header.
                unsafe {
                    Ok(Self { $($name: *lib.get(concat!(stringify!($name), "\0").as_bytes()).map_err(|e| e.to_string())?),* })
                }
            }
        }
    };
}
symbols! {
    nvrtcVersion: fn(*mut c_int, *mut c_int);
    nvrtcCreateProgram: fn(*mut Program, *const c_char, *const c_char, c_int, *const *const c_char, *const *const c_char);
    nvrtcDestroyProgram: fn(*mut Program);
    nvrtcCompileProgram: fn(Program, c_int, *const *const c_char);
    nvrtcGetProgramLogSize: fn(Program, *mut usize);
    nvrtcGetProgramLog: fn(Program, *mut c_char);
    nvrtcGetCUBINSize: fn(Program, *mut usize);
    nvrtcGetCUBIN: fn(Program, *mut c_char);
    nvrtcGetPTXSize: fn(Program, *mut usize);
    nvrtcGetPTX: fn(Program, *mut c_char);
    nvrtcGetNumSupportedArchs: fn(*mut c_int);
    nvrtcGetSupportedArchs: fn(*mut c_int);
}

/// The compiler.
pub struct Nvrtc {
    symbols: Symbols,
    /// File that was loaded.
    pub path: String,
    pub version: (i32, i32),
}

const NAMES: [&str; 4] = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so", "libnvrtc.so.11.2"];

/// Folders that may hold the library, in order: `PWM_NVRTC_PATH` alone if it is set.
fn folders() -> Vec<PathBuf> {
    if let Some(p) = std::env::var_os("PWM_NVRTC_PATH") {
        return vec![p.into()];
    }
    let mut list = vec![PathBuf::new()];
    if let Some(home) = std::env::var_os("CUDA_HOME").or_else(|| std::env::var_os("CUDA_PATH")) {
        list.push(Path::new(&home).join("lib64"));
    }
    list.push("/usr/local/cuda/lib64".into());
    list
}

impl Nvrtc {
    /// Finds and loads the library: in `PWM_NVRTC_PATH` if that is set, else where the system looks, else beside CUDA.
    /// Of a driver that is there, it must be no newer: a driver runs what compilers of its own major version and older
    /// make.
    pub fn load() -> Result<Self, CudaError> {
        let driver = driver::version().ok();
        let (mut tried, mut newer) = (Vec::new(), None);
        for dir in folders() {
            // Its helper library is found by name once it is loaded, and not at all in a Python package otherwise.
            for helper in builtins(&dir) {
                // SAFETY: initialisers of NVIDIA's library; it stays loaded.
                if let Ok(lib) = unsafe { Library::new(&helper) } {
                    std::mem::forget(lib);
                }
            }
            for name in NAMES {
                let path = if dir.as_os_str().is_empty() { name.into() } else { dir.join(name) };
                // SAFETY: as above.
                match unsafe { Library::new(&path) } {
                    Ok(lib) => {
                        let symbols = match Symbols::load(&lib) {
                            Ok(symbols) => symbols,
                            Err(e) => {
                                tried.push(e);
                                continue;
                            }
                        };
                        let (mut major, mut minor) = (0, 0);
                        // SAFETY: two valid places.
                        unsafe { (symbols.nvrtcVersion)(&mut major, &mut minor) };
                        let (path, version) = (path.display().to_string(), (major, minor));
                        if let Some(driver) = driver.filter(|d| major > d / 1000) {
                            newer.get_or_insert(CudaError::NewCompiler { path, version, driver });
                            continue;
                        }
                        std::mem::forget(lib);
                        return Ok(Self { symbols, path, version });
                    }
                    Err(_) => tried.push(path.display().to_string()),
                }
            }
        }
        Err(newer.unwrap_or_else(|| CudaError::NoCompiler(format!("tried {}", tried.join(", ")))))
    }

    /// What to compile for on a GPU: its own architecture, or the newest that the compiler knows and the GPU can run,
    /// as instructions that the driver translates (`compute_90`).
    pub fn arch(&self, gpu: &DeviceInfo) -> Result<String, CudaError> {
        let mut count = 0;
        // SAFETY: a place for a number; then room for as many numbers as the library said.
        let known = unsafe {
            (self.symbols.nvrtcGetNumSupportedArchs)(&mut count);
            let mut known = vec![0; count.max(0) as usize];
            (self.symbols.nvrtcGetSupportedArchs)(known.as_mut_ptr());
            known
        };
        let own = 10 * gpu.major + gpu.minor;
        match known.into_iter().filter(|&k| k <= own).max() {
            Some(k) if k == own => Ok(gpu.arch()),
            // The kernels are written for 8.0 and newer.
            Some(k) if k >= 80 => Ok(format!("compute_{k}")),
            _ => {
                Err(CudaError::UnknownArchitecture { name: gpu.name.clone(), arch: gpu.arch(), version: self.version })
            }
        }
    }

    /// The GPU as the compiler sees it: without units of its own if it is newer than the compiler.
    pub fn sees(&self, gpu: &DeviceInfo) -> Result<DeviceInfo, CudaError> {
        let own = self.arch(gpu)? == gpu.arch();
        Ok(DeviceInfo { major: if own { gpu.major } else { 8 }, ..gpu.clone() })
    }

    /// Compiles a unit for an architecture such as `sm_90a`; for one such as `compute_90` to what the driver
    /// translates.
    pub fn compile(&self, unit: &Unit, arch: &str) -> Result<Image, CudaError> {
        let error =
            |log: String| CudaError::Compile { unit: unit.describe(), arch: arch.into(), log: first_lines(&log) };
        let c = |s: &str| CString::new(s).map_err(|_| error("a source holds a zero byte".into()));
        let (source, name) = (c(&unit.source())?, c("unit.cu")?);
        let headers = unit.headers();
        let names = headers.iter().map(|h| c(h.0)).collect::<Result<Vec<_>, _>>()?;
        let texts = headers.iter().map(|h| c(h.1)).collect::<Result<Vec<_>, _>>()?;
        let pointers = |list: &[CString]| list.iter().map(|s| s.as_ptr()).collect::<Vec<_>>();
        let options = options(arch).iter().map(|o| c(o)).collect::<Result<Vec<_>, _>>()?;
        let s = &self.symbols;
        let mut program: Program = std::ptr::null_mut();
        // SAFETY: all strings outlive the calls; buffers have the sizes that the library asked for.
        unsafe {
            let (names, texts) = (pointers(&names), pointers(&texts));
            let count = headers.len() as c_int;
            if (s.nvrtcCreateProgram)(
                &mut program,
                source.as_ptr(),
                name.as_ptr(),
                count,
                texts.as_ptr(),
                names.as_ptr(),
            ) != 0
            {
                return Err(error("the compiler refused the source".into()));
            }
            let status = (s.nvrtcCompileProgram)(program, options.len() as c_int, pointers(&options).as_ptr());
            let mut size = 0;
            let mut log = String::new();
            if (s.nvrtcGetProgramLogSize)(program, &mut size) == 0 && size > 1 {
                let mut text = vec![0u8; size];
                (s.nvrtcGetProgramLog)(program, text.as_mut_ptr().cast());
                log = CStr::from_bytes_until_nul(&text).map_or(String::new(), |t| t.to_string_lossy().into_owned());
            }
            let mut code = Vec::new();
            let (measure, get) = match arch.starts_with("compute") {
                true => (s.nvrtcGetPTXSize, s.nvrtcGetPTX),
                false => (s.nvrtcGetCUBINSize, s.nvrtcGetCUBIN),
            };
            if status == 0 && measure(program, &mut size) == 0 {
                code = vec![0u8; size];
                get(program, code.as_mut_ptr().cast());
            }
            (s.nvrtcDestroyProgram)(&mut program);
            if status != 0 || code.is_empty() {
                return Err(error(if log.is_empty() { format!("status {status}") } else { log }));
            }
            let losses = log.lines().filter(|l| l.contains("Performance Loss")).map(str::to_owned).collect();
            Ok(Image { code, usage: usage(&log), losses })
        }
    }
}

/// Options of every compilation. Contraction into fused multiply-adds is on; approximate functions are not. Pointers
/// are taken not to meet (`--restrict`), so that a loop's loads need not wait for its stores. Kernels that are launched
/// in place (rows of a layer, tangents, steps of a flow) compute each number from the one that lay there and read it
/// nowhere else, so that no order of loads and stores changes a result.
pub fn options(arch: &str) -> Vec<String> {
    vec![
        format!("--gpu-architecture={arch}"),
        "--std=c++17".into(),
        "--restrict".into(),
        "--ptxas-options=-v".into(),
        "--device-as-default-execution-space".into(),
    ]
}

fn builtins(dir: &Path) -> Vec<PathBuf> {
    let Ok(list) = std::fs::read_dir(dir) else { return vec![] };
    let mut found: Vec<_> = (list.filter_map(Result::ok).map(|e| e.path()))
        .filter(|p| {
            let name = p.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with("libnvrtc-builtins.so")
        })
        .collect();
    found.sort();
    found
}

/// The lines of a log that say what is wrong.
fn first_lines(log: &str) -> String {
    let wrong: Vec<_> = log.lines().filter(|l| l.contains("error")).take(5).collect();
    if wrong.is_empty() { log.lines().take(5).collect::<Vec<_>>().join("; ") } else { wrong.join("; ") }
}

/// Reads the assembler's report. Each entry begins with `Compiling entry function 'f'`; the stack and the spills stand
/// below `Function properties for f`, then a line of registers and, if functions are called, of the stack with theirs.
/// Properties of other functions are those of called ones.
fn usage(log: &str) -> Vec<Usage> {
    let mut found: Vec<Usage> = Vec::new();
    let number_before = |line: &str, what: &str| -> Option<u32> {
        let at = line.find(what)?;
        line[..at].split(|c: char| !c.is_ascii_digit()).rfind(|s| !s.is_empty())?.parse().ok()
    };
    let mut own = false;
    for line in log.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            let symbol = rest.split('\'').next().unwrap_or_default().to_owned();
            found.push(Usage { symbol, registers: 0, shared: 0, stack: 0, spill_stores: 0, spill_loads: 0 });
            own = true;
            continue;
        }
        let Some(u) = found.last_mut() else { continue };
        if let Some(name) = line.split("Function properties for ").nth(1) {
            own = name.trim() == u.symbol;
        } else if own {
            let most = |to: &mut u32, what: &str| *to = number_before(line, what).map_or(*to, |n| n.max(*to));
            most(&mut u.stack, " bytes stack frame");
            most(&mut u.stack, " bytes cumulative stack size");
            most(&mut u.spill_stores, " bytes spill stores");
            most(&mut u.spill_loads, " bytes spill loads");
            most(&mut u.registers, " registers");
            most(&mut u.shared, " bytes smem");
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_read() {
        let log = "ptxas info    : 0 bytes gmem\n\
                   ptxas info    : Compiling entry function 'a_8' for 'sm_80'\n\
                   ptxas info    : Function properties for a_8\n    16 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads\n\
                   ptxas info    : Used 40 registers, used 1 barriers, 16384 bytes smem, 400 bytes cmem[0]\n";
        let want =
            Usage { symbol: "a_8".into(), registers: 40, shared: 16384, stack: 16, spill_stores: 4, spill_loads: 8 };
        assert_eq!(usage(log), [want]);
    }

    /// As NVRTC 12.9 writes it of two entries, the first of which calls functions that keep nothing of their own in
    /// memory.
    #[test]
    fn called_functions_are_not_the_entry() {
        let log = "ptxas info    : 24 bytes gmem\n\
                   ptxas info    : Compiling entry function 'one_k' for 'sm_90a'\n\
                   ptxas info    : Function properties for one_k\n\
                   ptxas         .     624 bytes stack frame, 12 bytes spill stores, 20 bytes spill loads\n\
                   ptxas info    : Used 32 registers, used 0 barriers, 640 bytes cumulative stack size\n\
                   ptxas info    : Compile time = 38.596 ms\n\
                   ptxas info    : Function properties for _Z1fPfi\n\
                   ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n\
                   ptxas info    : Function properties for _Z1gPfi\n\
                   ptxas         .     8 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n\
                   ptxas info    : Compiling entry function 'two_k' for 'sm_90a'\n\
                   ptxas info    : Function properties for two_k\n\
                   ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n\
                   ptxas info    : Used 10 registers, used 1 barriers, 256 bytes smem\n";
        let of = |symbol: &str, registers, shared, stack, spill_stores, spill_loads| Usage {
            symbol: symbol.into(),
            registers,
            shared,
            stack,
            spill_stores,
            spill_loads,
        };
        assert_eq!(usage(log), [of("one_k", 32, 0, 640, 12, 20), of("two_k", 10, 256, 0, 0, 0)]);
    }
}
