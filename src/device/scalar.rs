//! The number types everything is written over.
//!
//! [`Scalar`] is what physics needs (lanes of several environments included, hence the mask type and `select`);
//! [`Real`] adds what the tape's kernels need: order, more functions and a matrix product.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, BitAnd, BitOr, Div, Mul, MulAssign, Neg, Not, Sub, SubAssign};

/// A number, or several independent ones side by side. All operations act lane by lane.
pub trait Scalar:
    Copy
    + Debug
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
{
    /// Result of a comparison, one truth value a lane.
    type Mask: Copy + Debug + BitAnd<Output = Self::Mask> + BitOr<Output = Self::Mask> + Not<Output = Self::Mask>;

    /// Environments side by side in one value.
    const LANES: usize;

    /// The constant `x` in every lane, rounded to the lane's precision, with zero derivative.
    fn of(x: f64) -> Self;
    fn sqrt(self) -> Self;
    fn abs(self) -> Self;
    /// Sine and cosine; the argument is an angle in radians of moderate size (|x| < 1e4).
    fn sin_cos(self) -> (Self, Self);
    /// The angle in [-π, π] of the point (x, self); its derivative is infinite at the origin.
    fn atan2(self, x: Self) -> Self;
    fn exp(self) -> Self;
    /// `ln(1 + self)`.
    fn ln_1p(self) -> Self;
    /// `self * a + b`, fused where the type's instructions offer it.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// `self * a`, rounded before anything is added to it, even where compilers may fuse products with sums.
    #[inline(always)]
    fn mul_rounded(self, a: Self) -> Self {
        self * a
    }
    fn lt(self, other: Self) -> Self::Mask;
    fn le(self, other: Self) -> Self::Mask;
    /// `a` where `mask` holds, else `b`; values and derivatives of the other branch do not leak.
    fn select(mask: Self::Mask, a: Self, b: Self) -> Self;

    #[inline(always)]
    fn zero() -> Self {
        Self::of(0.0)
    }
    #[inline(always)]
    fn one() -> Self {
        Self::of(1.0)
    }
    /// The smaller; a tie takes `other`, and so does its derivative (`physics` sub-gradient choice).
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self::select(self.lt(other), self, other)
    }
    /// The larger; a tie takes `other`.
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self::select(other.lt(self), self, other)
    }
}

/// One number with order: what the tape's kernels are written over.
pub trait Real: Scalar<Mask = bool> + PartialOrd + Default {
    fn ln(self) -> Self;
    fn exp_m1(self) -> Self;
    fn tanh(self) -> Self;
    /// The value as `f64`, without its derivative.
    fn value(self) -> f64;
    /// True if value and derivative are finite.
    fn is_finite(self) -> bool;

    /// `C <- A B + beta C` with element strides, `beta` 0 or 1; `A` is m x k, `B` k x n, `C` m x n, one thread.
    ///
    /// # Safety
    /// Every element reached by the strides must lie in memory valid for the access, and `c` must not overlap `a` or
    /// `b`.
    #[allow(clippy::too_many_arguments)]
    unsafe fn gemm(
        mkn: (usize, usize, usize),
        a: (*const Self, usize, usize),
        b: (*const Self, usize, usize),
        accumulate: bool,
        c: (*mut Self, usize, usize),
    );
}

/// A product as it is written on paper: for numbers that the product crate does not know, and for Miri, which does not
/// know its instructions.
///
/// # Safety
/// That of [`Real::gemm`].
pub(super) unsafe fn plain_product<F: Real>(
    (m, k, n): (usize, usize, usize),
    a: (*const F, usize, usize),
    b: (*const F, usize, usize),
    accumulate: bool,
    c: (*mut F, usize, usize),
) {
    for i in 0..m {
        for j in 0..n {
            // SAFETY: the caller promises that every strided element is valid.
            unsafe {
                let out = c.0.add(i * c.1 + j * c.2);
                let mut sum = if accumulate { *out } else { F::zero() };
                for l in 0..k {
                    sum += *a.0.add(i * a.1 + l * a.2) * *b.0.add(l * b.1 + j * b.2);
                }
                *out = sum;
            }
        }
    }
}

macro_rules! float {
    ($t:ty, $exp:path, $tanh:path) => {
        impl Scalar for $t {
            type Mask = bool;
            const LANES: usize = 1;
            #[inline(always)]
            fn of(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            #[inline(always)]
            fn abs(self) -> Self {
                self.abs()
            }
            #[inline(always)]
            fn sin_cos(self) -> (Self, Self) {
                self.sin_cos()
            }
            #[inline(always)]
            fn atan2(self, x: Self) -> Self {
                self.atan2(x)
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }
            #[inline(always)]
            fn ln_1p(self) -> Self {
                self.ln_1p()
            }
            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                self * a + b
            }
            #[inline(always)]
            fn lt(self, other: Self) -> bool {
                self < other
            }
            #[inline(always)]
            fn le(self, other: Self) -> bool {
                self <= other
            }
            #[inline(always)]
            fn select(mask: bool, a: Self, b: Self) -> Self {
                if mask { a } else { b }
            }
        }

        impl Real for $t {
            #[inline(always)]
            fn ln(self) -> Self {
                self.ln()
            }
            #[inline(always)]
            fn exp_m1(self) -> Self {
                self.exp_m1()
            }
            #[inline(always)]
            fn tanh(self) -> Self {
                $tanh(self)
            }
            #[inline(always)]
            fn value(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                self.is_finite()
            }
            #[cfg(miri)]
            unsafe fn gemm(
                size: (usize, usize, usize),
                a: (*const Self, usize, usize),
                b: (*const Self, usize, usize),
                accumulate: bool,
                c: (*mut Self, usize, usize),
            ) {
                // SAFETY: the caller's promise.
                unsafe { plain_product(size, a, b, accumulate, c) }
            }
            #[cfg(not(miri))]
            #[inline]
            unsafe fn gemm(
                (m, k, n): (usize, usize, usize),
                a: (*const Self, usize, usize),
                b: (*const Self, usize, usize),
                accumulate: bool,
                c: (*mut Self, usize, usize),
            ) {
                let beta = if accumulate { 1.0 } else { 0.0 };
                let s = |x: usize| x as isize;
                // SAFETY: the caller's promise is gemmkit's requirement.
                crate::device::cpu::packing::with(|workspace| unsafe {
                    gemmkit::gemm_unchecked_with::<$t>(
                        workspace,
                        m,
                        k,
                        n,
                        1.0,
                        a.0,
                        s(a.1),
                        s(a.2),
                        b.0,
                        s(b.1),
                        s(b.2),
                        beta,
                        c.0,
                        s(c.1),
                        s(c.2),
                        gemmkit::Parallelism::Serial,
                    )
                })
            }
        }
    };
}

float!(f32, crate::device::cpu::vmath::exp_f32, crate::device::cpu::vmath::tanh_f32);
float!(f64, f64::exp, f64::tanh);
