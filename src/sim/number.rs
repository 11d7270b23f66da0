//! What the dynamics ask of a number beyond [`Scalar`]: whether a comparison holds anywhere.

use crate::device::cpu::lanes::Lanes8;
use crate::device::{Dual, Scalar};

/// A number the dynamics can be computed in: one value or several lanes.
pub trait SimScalar: Scalar {
    /// From 1 to the next larger number of a lane.
    const EPSILON: f64;

    /// True if `mask` holds in some lane: work that no lane needs can be left out.
    fn any(mask: Self::Mask) -> bool;
}

macro_rules! single {
    ($($t:ty: $epsilon:expr),*) => {$(
        impl SimScalar for $t {
            const EPSILON: f64 = $epsilon;

            #[inline(always)]
            fn any(mask: bool) -> bool {
                mask
            }
        }
    )*};
}
single!(f32: f32::EPSILON as f64, f64: f64::EPSILON, Dual: f64::EPSILON);

impl SimScalar for Lanes8 {
    const EPSILON: f64 = f32::EPSILON as f64;

    #[inline(always)]
    fn any(mask: Self::Mask) -> bool {
        mask.any()
    }
}

#[cfg(target_arch = "x86_64")]
impl SimScalar for crate::device::cpu::lanes::Avx8 {
    const EPSILON: f64 = f32::EPSILON as f64;

    #[inline(always)]
    fn any(mask: Self::Mask) -> bool {
        mask.any()
    }
}
