//! The stand-in driver and compiler: built with the C++ compiler of this machine, loaded in place of the real ones.

use std::ffi::{CStr, c_char};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use super::only;

fn compiler() -> String {
    std::env::var("CXX").unwrap_or_else(|_| "c++".into())
}

/// Folder of the built libraries; `flags` go to the compiler of the kernels too.
pub fn build(flags: &str) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/standin");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("standin{}", flags.replace([' ', '='], "")));
    std::fs::create_dir_all(&out).unwrap();
    for (source, library, soname) in
        [("driver.cpp", "libcuda.so", "libcuda.so"), ("nvrtc.cpp", "libnvrtc.so.12", "none")]
    {
        // Beside and renamed: another test process may load it right now.
        let (beside, path) = (out.join(format!("{library}.{}", std::process::id())), out.join(library));
        let newer = |a: &Path, b: &Path| {
            a.metadata().and_then(|m| m.modified()).ok() > b.metadata().and_then(|m| m.modified()).ok()
        };
        let parts = [source, "shim.hpp", "hardware.hpp", "hopper.hpp"];
        if parts.iter().all(|part| newer(&path, &sources.join(part))) {
            continue;
        }
        let status = Command::new(compiler())
            .args(["-O2", "-std=c++17", "-shared", "-fPIC", "-w"])
            .args(flags.split_whitespace())
            .args([format!("-Wl,-soname,{soname}"), "-o".into()])
            .arg(&beside)
            .arg(sources.join(source))
            .arg("-ldl")
            .status()
            .expect("these tests need a C++ compiler: set CXX");
        assert!(status.success(), "{source} does not compile");
        std::fs::rename(beside, path).unwrap();
        // Kernels that were compiled behind another shim.
        let _ = std::fs::remove_dir_all(out.join("cache"));
    }
    out
}

/// What a process needs to use the stand-ins of `build(flags)`.
pub fn environment(flags: &str) -> Vec<(&'static str, String)> {
    let dir = build(flags);
    let text = |p: &Path| p.display().to_string();
    vec![
        ("PWM_NVRTC_PATH", text(&dir)),
        ("PWM_STANDIN_CXX", format!("{} -O1 -march=native {flags}", compiler())),
        ("PWM_STANDIN_SHIM", text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/standin"))),
        ("PWM_STANDIN_OUT", text(&dir.join("units"))),
        ("PWM_CACHE", text(&dir.join("cache"))),
        ("LD_LIBRARY_PATH", text(&dir)),
    ]
}

/// Loads the stand-ins into this process, once. Flags of the kernels' compiler come from `PWM_STANDIN_FLAGS`.
pub fn load() {
    static LOADED: OnceLock<()> = OnceLock::new();
    LOADED.get_or_init(|| {
        let flags = std::env::var("PWM_STANDIN_FLAGS").unwrap_or_default();
        for (name, value) in environment(&flags) {
            // SAFETY: before any other thread of this process reads the environment: every test begins here.
            unsafe { std::env::set_var(name, value) };
        }
        let driver = build(&flags).join("libcuda.so");
        // The driver is found by its name once it is loaded; kernels find the shim in it.
        // SAFETY: the library has no initialisers of its own.
        let lib = unsafe {
            libloading::os::unix::Library::open(
                Some(driver),
                libloading::os::unix::RTLD_NOW | libloading::os::unix::RTLD_GLOBAL,
            )
        };
        std::mem::forget(lib.expect("the stand-in driver loads"));
    });
}

/// A function of the stand-in driver, loaded for everyone and never unloaded.
fn function<T: Copy>(name: &[u8]) -> T {
    load();
    // SAFETY: the caller names the function's type.
    unsafe { *libloading::os::unix::Library::this().get::<T>(name).unwrap() }
}

/// How often this thread has called a function of the driver. Allocates nothing once it was called.
pub fn calls(name: &CStr) -> u64 {
    type Calls = unsafe extern "C" fn(*const c_char) -> u64;
    static CALLS: OnceLock<Calls> = OnceLock::new();
    // SAFETY: its only argument is a string.
    unsafe { CALLS.get_or_init(|| function(b"standin_calls\0"))(name.as_ptr()) }
}

/// Entry points that this thread has launched.
pub fn launched() -> Vec<String> {
    let list: unsafe extern "C" fn() -> *const c_char = function(b"standin_launched\0");
    // SAFETY: a string that lives as long as this thread, and grows only when it launches.
    unsafe { CStr::from_ptr(list()) }.to_str().unwrap().lines().map(str::to_owned).collect()
}

/// Runs this test binary again in another environment, one test of it.
pub fn again(test: &str, environment: &[(&str, String)]) {
    let me = std::env::current_exe().unwrap();
    let out = Command::new(me).args(only(test)).envs(environment.iter().map(|(k, v)| (k, v))).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && text.contains(" 1 passed;"), "{environment:?}:\n{text}");
}

/// Whether nothing is left out: cases that take seconds each, and harsh environments whole.
pub fn all() -> bool {
    std::env::var("PWM_LONG_CASES").is_ok()
}

/// Environments in which threads run in other orders, and under the address sanitizer, where a number that is not
/// aligned as the GPU wants it ends the process.
pub fn harsh() -> Vec<Vec<(&'static str, String)>> {
    let found = Command::new(compiler()).arg("-print-file-name=libasan.so").output().unwrap();
    let library = String::from_utf8(found.stdout).unwrap().trim().to_owned();
    let options = "detect_leaks=0:detect_stack_use_after_return=0:verify_asan_link_order=0";
    // Checks by calls: they take the compiler half as long as checks in place.
    let flags = "-fsanitize=address,alignment -fsanitize-undefined-trap-on-error \
                 --param asan-instrumentation-with-call-threshold=0";
    vec![
        vec![("PWM_STANDIN_ORDER", "reverse".into())],
        vec![("PWM_STANDIN_ORDER", "hashed".into())],
        vec![("LD_PRELOAD", library), ("ASAN_OPTIONS", options.into()), ("PWM_STANDIN_FLAGS", flags.into())],
    ]
}
