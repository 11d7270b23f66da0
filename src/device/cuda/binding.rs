//! How functions of the driver are called: `cudarc`'s bindings give their arguments, and the code they return is a
//! plain number.

use super::CudaError;
use cudarc::driver::sys;
use std::ffi::{CStr, c_char, c_int};
use std::sync::OnceLock;

/// What a function of the driver returns. A plain number: newer drivers know codes that the bindings' enumeration
/// lacks.
pub(super) type Code = c_int;

pub(super) const SUCCESS: Code = sys::CUresult::CUDA_SUCCESS as Code;

pub(super) fn check(call: &'static str, code: Code) -> Result<(), CudaError> {
    if code == SUCCESS {
        return Ok(());
    }
    Err(CudaError::Driver { call, code, message: message(code) })
}

/// What the driver says of a code.
pub(super) fn message(code: Code) -> String {
    type Describe = unsafe extern "C" fn(Code, *mut *const c_char) -> Code;
    static DESCRIBE: OnceLock<usize> = OnceLock::new();
    let Ok(describe) = symbol("cuGetErrorString", &DESCRIBE) else { return String::new() };
    let mut text = std::ptr::null();
    // SAFETY: the function's type, but for the number that stands for an enumeration; the text is static.
    unsafe {
        match std::mem::transmute::<usize, Describe>(describe)(code, &mut text) {
            SUCCESS if !text.is_null() => CStr::from_ptr(text).to_string_lossy().into_owned(),
            _ => "a code that the driver does not explain".into(),
        }
    }
}

/// Address of a function of the driver, looked up once.
fn symbol(name: &'static str, place: &OnceLock<usize>) -> Result<usize, CudaError> {
    if let Some(&address) = place.get() {
        return Ok(address);
    }
    // SAFETY: only `version` is called before the library is known to be there, and it asks first.
    let found = unsafe { sys::culib().get::<unsafe extern "C" fn()>(name.as_bytes()).map(|f| *f as usize) };
    let address = found.map_err(|e| CudaError::NoDriver(format!("it has no function {name} ({e})")))?;
    Ok(*place.get_or_init(|| address))
}

/// A function of the bindings; `Plain` is the driver's with the same arguments, as it is called here.
pub(super) trait Binding {
    type Plain: Copy;
}

macro_rules! bindings {
    ($($a:ident)*) => {
        impl<$($a),*> Binding for unsafe fn($($a),*) -> sys::CUresult {
            type Plain = unsafe extern "C" fn($($a),*) -> Code;
        }
        bindings!(@fewer $($a)*);
    };
    (@fewer) => {};
    (@fewer $first:ident $($rest:ident)*) => { bindings!($($rest)*); };
}
bindings!(A B C D E F G H I J K L);

/// The driver's function that a binding stands for.
pub(super) fn plain<B: Binding>(_: B, name: &'static str, place: &OnceLock<usize>) -> Result<B::Plain, CudaError> {
    let address = symbol(name, place)?;
    assert_eq!(size_of::<B::Plain>(), size_of::<usize>(), "invariant: functions are known by their addresses");
    // SAFETY: a pointer to the function of that name, whose type is the binding's but for the plain code.
    Ok(unsafe { std::mem::transmute_copy(&address) })
}

/// Calls a function of the driver and gives its code.
macro_rules! code {
    ($f:ident($($a:expr),* $(,)?)) => {{
        static PLACE: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
        let binding: unsafe fn($($crate::device::cuda::binding::code!(@any $a)),*) -> cudarc::driver::sys::CUresult =
            cudarc::driver::sys::$f;
        // SAFETY: each caller passes pointers that are valid for the call, see there.
        $crate::device::cuda::binding::plain(binding, stringify!($f), &PLACE).map(|f| unsafe { f($($a),*) })
    }};
    (@any $a:expr) => { _ };
}

/// The same; its name goes into the error.
macro_rules! cu {
    ($f:ident($($a:expr),* $(,)?)) => {
        $crate::device::cuda::binding::code!($f($($a),*))
            .and_then(|code| $crate::device::cuda::binding::check(stringify!($f), code))
    };
}

pub(super) use {code, cu};
