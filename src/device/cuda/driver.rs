//! The driver: one context, one stream, memory, modules, graphs. A thin layer of typed results over `cudarc`'s
//! bindings.
//!
//! The stream is not the default one, which cannot be captured. Memory copies are ordered by the stream and waited for.

use super::CudaError;
use super::binding::{Code, SUCCESS, code, cu, message};
use super::launch::{Launch, MapElement, TensorMap};
use cudarc::driver::sys;
use std::ffi::{CStr, CString, c_void};
use std::sync::Arc;

/// Oldest driver that runs what the compiler of CUDA 12 makes.
const NEEDED_DRIVER: i32 = 12_000;

/// What a GPU is.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    pub ordinal: usize,
    pub name: String,
    /// Compute capability.
    pub major: i32,
    pub minor: i32,
    pub multiprocessors: i32,
    pub memory: usize,
    /// Clock of the multiprocessors and of the memory in kHz, and bits of the memory's bus; 0 where it is not told.
    pub clock: i32,
    pub memory_clock: i32,
    pub bus: i32,
}

impl DeviceInfo {
    /// The architecture to compile for, with the instructions of just this one where it has some.
    pub fn arch(&self) -> String {
        let own = if matches!((self.major, self.minor), (9, 0) | (10, _) | (12, _)) { "a" } else { "" };
        format!("sm_{}{}{own}", self.major, self.minor)
    }

    /// Bytes a second that memory can give, and operations a second of the plain units in single precision (a fused
    /// multiply-add is two), by its clocks; 0 where they are not told.
    pub fn ceilings(&self) -> [f64; 2] {
        let lanes = if (self.major, self.minor) == (8, 0) { 64.0 } else { 128.0 };
        let memory = 2.0 * f64::from(self.memory_clock) * 1e3 * f64::from(self.bus) / 8.0;
        [memory, 2.0 * lanes * f64::from(self.multiprocessors) * f64::from(self.clock) * 1e3]
    }
}

/// Loads the driver; its version.
pub fn version() -> Result<i32, CudaError> {
    // SAFETY: only looks for the library.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::NoDriver("libcuda.so.1 is not found".into()));
    }
    let mut found = 0;
    cu!(cuDriverGetVersion(&mut found))?;
    if found < NEEDED_DRIVER {
        return Err(CudaError::OldDriver { found, needed: NEEDED_DRIVER });
    }
    cu!(cuInit(0)).map_err(|e| CudaError::NoDriver(format!("the driver is there but does not start ({e})")))?;
    Ok(found)
}

/// All GPUs that the driver shows.
pub fn devices() -> Result<Vec<DeviceInfo>, CudaError> {
    version()?;
    let mut count = 0;
    cu!(cuDeviceGetCount(&mut count))?;
    (0..count as usize).map(info).collect()
}

fn info(ordinal: usize) -> Result<DeviceInfo, CudaError> {
    use sys::CUdevice_attribute_enum as A;
    let mut device = 0;
    cu!(cuDeviceGet(&mut device, ordinal as i32))?;
    let mut name = [0u8; 128];
    cu!(cuDeviceGetName(name.as_mut_ptr().cast(), name.len() as i32, device))?;
    let attribute = |a| {
        let mut v = 0;
        cu!(cuDeviceGetAttribute(&mut v, a, device)).map(|()| v)
    };
    let mut memory = 0;
    cu!(cuDeviceTotalMem_v2(&mut memory, device))?;
    Ok(DeviceInfo {
        ordinal,
        name: CStr::from_bytes_until_nul(&name).map_or(String::new(), |s| s.to_string_lossy().into_owned()),
        major: attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        minor: attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        multiprocessors: attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        memory,
        clock: attribute(A::CU_DEVICE_ATTRIBUTE_CLOCK_RATE).unwrap_or(0),
        memory_clock: attribute(A::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE).unwrap_or(0),
        bus: attribute(A::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH).unwrap_or(0),
    })
}

/// The primary context of a GPU and the stream that everything runs on.
#[derive(Debug)]
pub struct Context {
    pub info: DeviceInfo,
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
}

// SAFETY: handles of the driver, which may be used from any thread that has made the context current (`enter`).
unsafe impl Send for Context {}
// SAFETY: as above; the driver serialises calls on one stream.
unsafe impl Sync for Context {}

impl Context {
    pub fn open(ordinal: usize) -> Result<Arc<Self>, CudaError> {
        let all = devices()?;
        let count = all.len() as i32;
        let info = all.into_iter().nth(ordinal).ok_or(CudaError::NoDevice { ordinal, count })?;
        if info.major < 8 {
            return Err(CudaError::OldDevice { name: info.name, major: info.major, minor: info.minor });
        }
        let (mut device, mut context, mut stream) = (0, std::ptr::null_mut(), std::ptr::null_mut());
        cu!(cuDeviceGet(&mut device, ordinal as i32))?;
        const UNAVAILABLE: Code = sys::CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE as Code;
        const FULL: Code = sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY as Code;
        let why = match code!(cuDevicePrimaryCtxRetain(&mut context, device))? {
            SUCCESS => None,
            UNAVAILABLE => Some("a process that does not share it has it to itself (exclusive mode)".into()),
            FULL => Some("its memory is full, there is no room for a context".into()),
            other => Some(format!("code {other}, {}", message(other))),
        };
        if let Some(why) = why {
            return Err(CudaError::Busy { ordinal, name: info.name, why });
        }
        cu!(cuCtxSetCurrent(context))?;
        cu!(cuStreamCreate(&mut stream, sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32))?;
        Ok(Arc::new(Self { info, device, context, stream }))
    }

    /// Makes the context current on this thread.
    fn enter(&self) -> Result<(), CudaError> {
        cu!(cuCtxSetCurrent(self.context))
    }

    pub fn synchronise(&self) -> Result<(), CudaError> {
        self.enter()?;
        cu!(cuStreamSynchronize(self.stream))
    }

    /// Free and total bytes.
    pub fn memory(&self) -> Result<(usize, usize), CudaError> {
        self.enter()?;
        let (mut free, mut total) = (0, 0);
        cu!(cuMemGetInfo_v2(&mut free, &mut total))?;
        Ok((free, total))
    }

    /// Lets every thread keep `bytes` in memory off the chip. The driver does so by itself when a launch needs it,
    /// which takes device memory: better before a graph is recorded than while it is replayed.
    pub fn allow_stack(&self, bytes: usize) -> Result<(), CudaError> {
        const STACK: sys::CUlimit = sys::CUlimit_enum::CU_LIMIT_STACK_SIZE;
        self.enter()?;
        let mut now = 0;
        cu!(cuCtxGetLimit(&mut now, STACK))?;
        if bytes <= now {
            return Ok(());
        }
        cu!(cuCtxSetLimit(STACK, bytes))
    }

    /// Seconds that `work` takes on the stream.
    pub fn time(self: &Arc<Self>, work: impl FnOnce() -> Result<(), CudaError>) -> Result<f64, CudaError> {
        let (from, to) = (Event::new(self)?, Event::new(self)?);
        from.record(false)?;
        work()?;
        to.record(false)?;
        self.synchronise()?;
        to.since(&from)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let _ = self.enter();
        let _ = cu!(cuStreamDestroy_v2(self.stream));
        let _ = cu!(cuDevicePrimaryCtxRelease_v2(self.device));
    }
}

/// A block of device memory, in units of four bytes.
#[derive(Debug)]
pub struct Buffer {
    context: Arc<Context>,
    pub address: u64,
    pub words: usize,
}

impl Buffer {
    pub fn new(context: &Arc<Context>, words: usize) -> Result<Self, CudaError> {
        let (free, total) = context.memory()?;
        let (mut address, bytes) = (0, words.max(1) * 4);
        if cu!(cuMemAlloc_v2(&mut address, bytes)).is_err() {
            return Err(CudaError::Memory { bytes, free, total });
        }
        Ok(Self { context: context.clone(), address, words })
    }

    /// Writes `bits` to `len` words from `at` on.
    pub fn fill(&self, at: usize, len: usize, bits: u32) -> Result<(), CudaError> {
        assert!(at + len <= self.words, "invariant: a fill stays inside its buffer");
        self.context.enter()?;
        if len == 0 {
            return Ok(());
        }
        cu!(cuMemsetD32Async(self.address + 4 * at as u64, bits, len, self.context.stream))
    }

    /// Copies `from` to word `at`, and waits.
    pub fn write(&self, at: usize, from: &[u8]) -> Result<(), CudaError> {
        assert!(4 * at + from.len() <= 4 * self.words, "invariant: a copy stays inside its buffer");
        self.context.enter()?;
        if from.is_empty() {
            return Ok(());
        }
        let to = self.address + 4 * at as u64;
        cu!(cuMemcpyHtoDAsync_v2(to, from.as_ptr().cast(), from.len(), self.context.stream))?;
        cu!(cuStreamSynchronize(self.context.stream))
    }

    /// Copies from word `at`, and waits.
    pub fn read(&self, at: usize, to: &mut [u8]) -> Result<(), CudaError> {
        assert!(4 * at + to.len() <= 4 * self.words, "invariant: a copy stays inside its buffer");
        self.context.enter()?;
        if to.is_empty() {
            return Ok(());
        }
        let from = self.address + 4 * at as u64;
        cu!(cuMemcpyDtoHAsync_v2(to.as_mut_ptr().cast(), from, to.len(), self.context.stream))?;
        cu!(cuStreamSynchronize(self.context.stream))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let _ = self.context.enter();
        let _ = cu!(cuMemFree_v2(self.address));
    }
}

/// Page-locked memory of the host, in units of four bytes, which kernels read and write in place. Zeros at first.
#[derive(Debug)]
pub struct Pinned {
    context: Arc<Context>,
    host: *mut c_void,
    /// Where kernels find it.
    pub address: u64,
    pub words: usize,
}

// SAFETY: the block belongs to this value alone; its owner decides who touches which part, and when.
unsafe impl Send for Pinned {}
// SAFETY: as above.
unsafe impl Sync for Pinned {}

impl Pinned {
    pub fn new(context: &Arc<Context>, words: usize) -> Result<Self, CudaError> {
        context.enter()?;
        let (mut host, mut address, bytes) = (std::ptr::null_mut(), 0, words.max(1) * 4);
        let flags = sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP;
        let failed = |e: CudaError| CudaError::Pinned { bytes, message: e.to_string() };
        cu!(cuMemHostAlloc(&mut host, bytes, flags)).map_err(failed)?;
        let mut pinned = Self { context: context.clone(), host, address: 0, words };
        cu!(cuMemHostGetDevicePointer_v2(&mut address, host, 0)).map_err(failed)?;
        pinned.address = address;
        // SAFETY: a new block of so many bytes, to which there is no other pointer.
        unsafe { host.cast::<u8>().write_bytes(0, bytes) };
        Ok(pinned)
    }

    /// Where the host finds it.
    pub fn as_ptr(&self) -> *mut u32 {
        self.host.cast()
    }

    /// The words that lie there.
    ///
    /// # Safety
    /// No launch that is under way, or begins while the view is in use, writes them.
    pub unsafe fn words(&self, from: usize, len: usize) -> &[u32] {
        assert!(from + len <= self.words, "invariant: a view stays inside its memory");
        // SAFETY: inside the block, which was filled when it was made; nobody writes it, by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.as_ptr().add(from), len) }
    }

    /// The same, to be written.
    ///
    /// # Safety
    /// No launch that is under way, or begins while the view is in use, reads or writes them.
    pub unsafe fn words_mut(&mut self, from: usize, len: usize) -> &mut [u32] {
        assert!(from + len <= self.words, "invariant: a view stays inside its memory");
        // SAFETY: as above, and exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.as_ptr().add(from), len) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.context.enter();
        let _ = cu!(cuMemFreeHost(self.host));
    }
}

/// A point in the work of the stream: an event.
#[derive(Debug)]
pub struct Event {
    context: Arc<Context>,
    event: sys::CUevent,
}

// SAFETY: a handle of the driver.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    pub fn new(context: &Arc<Context>) -> Result<Self, CudaError> {
        context.enter()?;
        let mut event = std::ptr::null_mut();
        cu!(cuEventCreate(&mut event, 0))?;
        Ok(Self { context: context.clone(), event })
    }

    /// Marks what was put on the stream so far; `captured` if it is being recorded, so that each replay marks anew.
    pub fn record(&self, captured: bool) -> Result<(), CudaError> {
        self.context.enter()?;
        let external = sys::CUevent_record_flags_enum::CU_EVENT_RECORD_EXTERNAL as u32;
        cu!(cuEventRecordWithFlags(self.event, self.context.stream, if captured { external } else { 0 }))
    }

    /// Seconds from `earlier` to this one; both have passed.
    pub fn since(&self, earlier: &Self) -> Result<f64, CudaError> {
        let mut ms = 0.0;
        cu!(cuEventElapsedTime(&mut ms, earlier.event, self.event))?;
        Ok(f64::from(ms) * 1e-3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let _ = self.context.enter();
        let _ = cu!(cuEventDestroy_v2(self.event));
    }
}

/// Loaded code.
#[derive(Debug)]
pub struct Module {
    context: Arc<Context>,
    module: sys::CUmodule,
}

// SAFETY: a handle of the driver.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

impl Module {
    pub fn load(context: &Arc<Context>, code: &[u8]) -> Result<Arc<Self>, CudaError> {
        context.enter()?;
        let mut module = std::ptr::null_mut();
        cu!(cuModuleLoadData(&mut module, code.as_ptr().cast()))?;
        Ok(Arc::new(Self { context: context.clone(), module }))
    }

    /// The entry point called `symbol`, which keeps the module loaded.
    pub fn function(self: &Arc<Self>, symbol: &str) -> Result<Function, CudaError> {
        self.context.enter()?;
        let name = CString::new(symbol).expect("invariant: symbols have no zero byte");
        let mut function = std::ptr::null_mut();
        cu!(cuModuleGetFunction(&mut function, self.module, name.as_ptr()))?;
        Ok(Function { function, _module: self.clone() })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let _ = self.context.enter();
        let _ = cu!(cuModuleUnload(self.module));
    }
}

/// An entry point of a module, which stays loaded as long as one of its entry points is there: so this is no plain
/// handle that could be copied.
///
/// ```compile_fail,E0277
/// fn copies<T: Copy>() {}
/// copies::<pwm::device::cuda::driver::Function>();
/// ```
#[derive(Clone, Debug)]
pub struct Function {
    function: sys::CUfunction,
    _module: Arc<Module>,
}

impl Function {
    /// Bytes that a thread keeps in memory off the chip, with those of the functions that are called.
    pub fn stack(&self) -> Result<usize, CudaError> {
        let mut bytes = 0;
        cu!(cuFuncGetAttribute(
            &mut bytes,
            sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES,
            self.function
        ))?;
        Ok(usize::try_from(bytes).unwrap_or(0))
    }

    /// Allows launches with `bytes` of shared memory beside what the kernel declares.
    pub fn allow_shared(&self, bytes: u32) -> Result<(), CudaError> {
        use sys::CUfunction_attribute_enum as A;
        if bytes <= Launch::USUAL_SHARED {
            return Ok(());
        }
        cu!(cuFuncSetAttribute(self.function, A::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes as i32))
    }
}

// SAFETY: a handle of the driver.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

impl Context {
    /// Encodes the tensor maps among the arguments of a launch.
    pub fn encode(&self, launch: &mut Launch) -> Result<(), CudaError> {
        for (i, map) in &launch.maps {
            launch.args[*i] = self.tensor_map(map)?;
        }
        Ok(())
    }

    fn tensor_map(&self, m: &TensorMap) -> Result<Vec<u8>, CudaError> {
        use sys::CUtensorMapDataType_enum as Type;
        self.enter()?;
        let kind = match m.element {
            MapElement::Tf32 => Type::CU_TENSOR_MAP_DATA_TYPE_TFLOAT32,
            MapElement::Bf16 => Type::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        };
        let (size, step) = (m.size.map(|n| n as u64), m.step.map(|n| n as u64));
        let (part, every) = (m.part.map(|n| n as u32), [1u32; 3]);
        let mut map = sys::CUtensorMap { opaque: [0; TensorMap::BYTES / 8] };
        cu!(cuTensorMapEncodeTiled(
            &mut map,
            kind,
            3,
            m.address as *mut c_void,
            size.as_ptr(),
            step.as_ptr(),
            part.as_ptr(),
            every.as_ptr(),
            sys::CUtensorMapInterleave_enum::CU_TENSOR_MAP_INTERLEAVE_NONE,
            sys::CUtensorMapSwizzle_enum::CU_TENSOR_MAP_SWIZZLE_128B,
            sys::CUtensorMapL2promotion_enum::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
            sys::CUtensorMapFloatOOBfill_enum::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        ))?;
        Ok(bytemuck::cast_slice(&map.opaque).to_vec())
    }

    /// Puts a launch on the stream, or records it: see [`Context::capture`].
    ///
    /// ```compile_fail,E0133
    /// use pwm::device::cuda::{CudaError, Launch, driver::{Context, Function}};
    ///
    /// fn launch(context: &Context, function: &Function, launch: &Launch) -> Result<(), CudaError> {
    ///     context.launch(function, launch)
    /// }
    /// ```
    ///
    /// # Safety
    /// `launch` describes `function`, a function of this context. What its addresses point to, and the function's
    /// module, stay there until the launch has run, and where it is recorded until the graph is dropped; nobody else
    /// writes what it reads, or touches what it writes, in the meantime.
    pub unsafe fn launch(&self, function: &Function, launch: &Launch) -> Result<(), CudaError> {
        if launch.blocks() == 0 {
            return Ok(());
        }
        self.enter()?;
        // On the stack: launches happen in loops that allocate nothing.
        let mut args = [std::ptr::null_mut::<c_void>(); Launch::MOST_ARGS];
        args.iter_mut().zip(&launch.args).for_each(|(to, a)| *to = a.as_ptr().cast_mut().cast());
        let [x, y, z] = launch.grid;
        let (threads, shared, none) = (launch.threads, launch.shared, std::ptr::null_mut());
        cu!(cuLaunchKernel(function.function, x, y, z, threads, 1, 1, shared, self.stream, args.as_mut_ptr(), none))
    }

    /// Records what `work` puts on the stream instead of running it.
    pub fn capture(self: &Arc<Self>, work: impl FnOnce() -> Result<(), CudaError>) -> Result<Graph, CudaError> {
        self.enter()?;
        cu!(cuStreamBeginCapture_v2(self.stream, sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL))?;
        let worked = work();
        let (mut graph, mut exec) = (std::ptr::null_mut(), std::ptr::null_mut());
        // A capture must end even if the work failed.
        let ended = cu!(cuStreamEndCapture(self.stream, &mut graph));
        let made = worked.and(ended).and_then(|()| cu!(cuGraphInstantiateWithFlags(&mut exec, graph, 0)));
        if !graph.is_null() {
            let _ = cu!(cuGraphDestroy(graph));
        }
        made?;
        Ok(Graph { context: self.clone(), exec })
    }
}

/// Recorded work, replayed at the cost of one launch. Whoever recorded the launches promised that what they use lives
/// as long as this.
#[derive(Debug)]
pub struct Graph {
    context: Arc<Context>,
    exec: sys::CUgraphExec,
}

// SAFETY: a handle of the driver; replays are ordered by `&mut` of the machine that owns it.
unsafe impl Send for Graph {}
// SAFETY: as above.
unsafe impl Sync for Graph {}

impl Graph {
    pub fn replay(&self) -> Result<(), CudaError> {
        self.context.enter()?;
        cu!(cuGraphLaunch(self.exec, self.context.stream))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let _ = self.context.enter();
        let _ = cu!(cuGraphExecDestroy(self.exec));
    }
}
