//! One binary for every processor: kernels are compiled for the baseline and for AVX2 + FMA; the choice is made at run
//! time.

/// True if the wide kernels run on this processor.
#[inline]
pub fn wide() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        // The standard library caches the answer in an atomic.
        std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Runs `kernel`, an `#[inline(always)]` closure, compiled for the best instructions this processor has.
#[inline(always)]
pub fn dispatch<R>(kernel: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        unsafe fn with_avx2<R>(kernel: impl FnOnce() -> R) -> R {
            kernel()
        }
        if wide() {
            // SAFETY: both features were detected.
            return unsafe { with_avx2(kernel) };
        }
    }
    kernel()
}

/// Name of the instruction set in use, for run headers: bits are promised for the same binary and the same set.
pub fn describe() -> &'static str {
    if wide() { "avx2+fma" } else { "baseline" }
}
