//! Eight `f32` side by side: one environment a lane.
//!
//! [`Lanes8`] is plain Rust for any processor; [`Avx8`] uses AVX2 and FMA and may be used only after
//! [`avx2_fma`] said yes. Every operation acts lane by lane, so a lane's result depends neither on its position nor on
//! its neighbours.

use super::vmath::exp_f32;
use crate::device::scalar::Scalar;
use std::ops::{Add, AddAssign, BitAnd, BitOr, Div, Mul, MulAssign, Neg, Not, Sub, SubAssign};

/// Environments in one value.
pub const WIDTH: usize = 8;

/// Several `f32` that can be filled from and read back into rows.
pub trait Lanes: Scalar {
    fn from_array(a: [f32; WIDTH]) -> Self;
    fn to_array(self) -> [f32; WIDTH];
}

/// True if this processor has the instructions [`Avx8`] is made of.
#[cfg(target_arch = "x86_64")]
pub fn avx2_fma() -> bool {
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
}

/// True if AVX-512 adds sixteen registers to those [`Avx8`] can use: the same instructions and bits, fewer spills.
#[cfg(target_arch = "x86_64")]
pub fn avx512vl() -> bool {
    avx2_fma() && std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512vl")
}

/// Eight lanes in plain Rust.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub struct Lanes8([f32; WIDTH]);

/// Truth values of eight lanes in plain Rust.
#[derive(Clone, Copy, Debug)]
pub struct Mask8([bool; WIDTH]);

impl Mask8 {
    #[inline(always)]
    pub fn any(self) -> bool {
        self.0.iter().any(|&m| m)
    }
}

macro_rules! each {
    ($f:expr) => {
        std::array::from_fn(
            #[inline(always)]
            $f,
        )
    };
}

macro_rules! plain_operator {
    ($trait:ident, $f:ident, $op:tt) => {
        impl $trait for Lanes8 {
            type Output = Self;
            #[inline(always)]
            fn $f(self, o: Self) -> Self {
                Self(each!(|k| self.0[k] $op o.0[k]))
            }
        }
    };
}
plain_operator!(Add, add, +);
plain_operator!(Sub, sub, -);
plain_operator!(Mul, mul, *);
plain_operator!(Div, div, /);

impl Neg for Lanes8 {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Self(each!(|k| -self.0[k]))
    }
}
impl BitAnd for Mask8 {
    type Output = Self;
    #[inline(always)]
    fn bitand(self, o: Self) -> Self {
        Self(each!(|k| self.0[k] & o.0[k]))
    }
}
impl BitOr for Mask8 {
    type Output = Self;
    #[inline(always)]
    fn bitor(self, o: Self) -> Self {
        Self(each!(|k| self.0[k] | o.0[k]))
    }
}
impl Not for Mask8 {
    type Output = Self;
    #[inline(always)]
    fn not(self) -> Self {
        Self(each!(|k| !self.0[k]))
    }
}

impl Scalar for Lanes8 {
    type Mask = Mask8;
    const LANES: usize = WIDTH;
    #[inline(always)]
    fn of(x: f64) -> Self {
        Self([x as f32; WIDTH])
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(each!(|k| self.0[k].sqrt()))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        Self(each!(|k| self.0[k].abs()))
    }
    #[inline(always)]
    fn sin_cos(self) -> (Self, Self) {
        let pairs: [(f32, f32); WIDTH] = each!(|k| self.0[k].sin_cos());
        (Self(each!(|k| pairs[k].0)), Self(each!(|k| pairs[k].1)))
    }
    #[inline(always)]
    fn atan2(self, x: Self) -> Self {
        Self(each!(|k| self.0[k].atan2(x.0[k])))
    }
    #[inline(always)]
    fn exp(self) -> Self {
        Self(each!(|k| exp_f32(self.0[k])))
    }
    #[inline(always)]
    fn ln_1p(self) -> Self {
        Self(each!(|k| self.0[k].ln_1p()))
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        // Fused only where the instruction is always there; elsewhere a library call would cost a hundred times more.
        if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
            Self(each!(|k| self.0[k].mul_add(a.0[k], b.0[k])))
        } else {
            self * a + b
        }
    }
    #[inline(always)]
    fn lt(self, o: Self) -> Mask8 {
        Mask8(each!(|k| self.0[k] < o.0[k]))
    }
    #[inline(always)]
    fn le(self, o: Self) -> Mask8 {
        Mask8(each!(|k| self.0[k] <= o.0[k]))
    }
    #[inline(always)]
    fn select(mask: Mask8, a: Self, b: Self) -> Self {
        Self(each!(|k| if mask.0[k] { a.0[k] } else { b.0[k] }))
    }
}

impl Lanes for Lanes8 {
    #[inline(always)]
    fn from_array(a: [f32; WIDTH]) -> Self {
        Self(a)
    }
    #[inline(always)]
    fn to_array(self) -> [f32; WIDTH] {
        self.0
    }
}

macro_rules! assign {
    ($t:ty) => {
        impl AddAssign for $t {
            #[inline(always)]
            fn add_assign(&mut self, o: Self) {
                *self = *self + o;
            }
        }
        impl SubAssign for $t {
            #[inline(always)]
            fn sub_assign(&mut self, o: Self) {
                *self = *self - o;
            }
        }
        impl MulAssign for $t {
            #[inline(always)]
            fn mul_assign(&mut self, o: Self) {
                *self = *self * o;
            }
        }
    };
}
assign!(Lanes8);

#[cfg(target_arch = "x86_64")]
pub use avx::{Avx8, AvxMask8};

#[cfg(target_arch = "x86_64")]
mod avx {
    use super::*;
    use std::arch::x86_64::*;

    /// Eight lanes in one AVX register.
    #[derive(Clone, Copy, Debug)]
    #[repr(transparent)]
    pub struct Avx8(__m256);

    /// Truth values of eight lanes, all bits of a lane set or clear.
    #[derive(Clone, Copy, Debug)]
    #[repr(transparent)]
    pub struct AvxMask8(__m256);

    // One promise for the whole module: values of these types are made only on processors for which `avx2_fma` holds.
    // To be fast as well, code that uses them is inlined into a function compiled for these instructions.
    macro_rules! avx {
        ($e:expr) => {
            // SAFETY: see the promise above.
            unsafe { $e }
        };
    }

    macro_rules! operator {
        ($type:ident, $trait:ident, $f:ident, $intrinsic:ident) => {
            impl $trait for $type {
                type Output = Self;
                #[inline(always)]
                fn $f(self, o: Self) -> Self {
                    Self(avx!($intrinsic(self.0, o.0)))
                }
            }
        };
    }
    operator!(Avx8, Add, add, _mm256_add_ps);
    operator!(Avx8, Sub, sub, _mm256_sub_ps);
    operator!(Avx8, Mul, mul, _mm256_mul_ps);
    operator!(Avx8, Div, div, _mm256_div_ps);
    operator!(AvxMask8, BitAnd, bitand, _mm256_and_ps);
    operator!(AvxMask8, BitOr, bitor, _mm256_or_ps);
    assign!(Avx8);

    impl Neg for Avx8 {
        type Output = Self;
        #[inline(always)]
        fn neg(self) -> Self {
            Self(avx!(_mm256_xor_ps(self.0, _mm256_set1_ps(-0.0))))
        }
    }
    impl Not for AvxMask8 {
        type Output = Self;
        #[inline(always)]
        fn not(self) -> Self {
            Self(avx!(_mm256_xor_ps(self.0, _mm256_castsi256_ps(_mm256_set1_epi32(-1)))))
        }
    }
    impl AvxMask8 {
        #[inline(always)]
        pub fn any(self) -> bool {
            avx!(_mm256_movemask_ps(self.0)) != 0
        }
    }

    impl Scalar for Avx8 {
        type Mask = AvxMask8;
        const LANES: usize = WIDTH;
        #[inline(always)]
        fn of(x: f64) -> Self {
            Self(avx!(_mm256_set1_ps(x as f32)))
        }
        #[inline(always)]
        fn sqrt(self) -> Self {
            Self(avx!(_mm256_sqrt_ps(self.0)))
        }
        #[inline(always)]
        fn abs(self) -> Self {
            Self(avx!(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0)))
        }
        #[inline(always)]
        fn sin_cos(self) -> (Self, Self) {
            sin_cos(self)
        }
        #[inline(always)]
        fn atan2(self, x: Self) -> Self {
            let (y, x) = (self.to_array(), x.to_array());
            Self::from_array(std::array::from_fn(|k| y[k].atan2(x[k])))
        }
        #[inline(always)]
        fn exp(self) -> Self {
            Self::from_array(self.to_array().map(exp_f32))
        }
        #[inline(always)]
        fn ln_1p(self) -> Self {
            Self::from_array(self.to_array().map(f32::ln_1p))
        }
        #[inline(always)]
        fn mul_add(self, a: Self, b: Self) -> Self {
            Self(avx!(_mm256_fmadd_ps(self.0, a.0, b.0)))
        }
        #[inline(always)]
        fn lt(self, o: Self) -> AvxMask8 {
            AvxMask8(avx!(_mm256_cmp_ps::<_CMP_LT_OQ>(self.0, o.0)))
        }
        #[inline(always)]
        fn le(self, o: Self) -> AvxMask8 {
            AvxMask8(avx!(_mm256_cmp_ps::<_CMP_LE_OQ>(self.0, o.0)))
        }
        #[inline(always)]
        fn select(mask: AvxMask8, a: Self, b: Self) -> Self {
            Self(avx!(_mm256_blendv_ps(b.0, a.0, mask.0)))
        }
    }

    impl Lanes for Avx8 {
        #[inline(always)]
        fn from_array(a: [f32; WIDTH]) -> Self {
            Self(avx!(_mm256_loadu_ps(a.as_ptr())))
        }
        #[inline(always)]
        fn to_array(self) -> [f32; WIDTH] {
            let mut a = [0.0; WIDTH];
            avx!(_mm256_storeu_ps(a.as_mut_ptr(), self.0));
            a
        }
    }

    /// Sine and cosine: Cody-Waite reduction to [-π/4, π/4] in three parts, minimax polynomials of Cephes (S. Moshier).
    #[inline(always)]
    fn sin_cos(x: Avx8) -> (Avx8, Avx8) {
        let c = |v: f32| Avx8(avx!(_mm256_set1_ps(v)));
        let quadrant = avx!(_mm256_cvtps_epi32((x * c(std::f32::consts::FRAC_2_PI)).0));
        let n = Avx8(avx!(_mm256_cvtepi32_ps(quadrant)));
        // π/2 split so that n times the leading parts is exact for the n in use.
        let mut r = n.mul_add(c(-1.570_312_5), x);
        r = n.mul_add(c(-4.837_513e-4), r);
        r = n.mul_add(c(-7.549_79e-8), r);
        let z = r * r;
        let s = c(-1.951_529_6e-4).mul_add(z, c(8.332_161e-3)).mul_add(z, c(-1.666_665_5e-1));
        let sin = (s * z).mul_add(r, r);
        let p = c(2.443_315_7e-5).mul_add(z, c(-1.388_731_6e-3)).mul_add(z, c(4.166_664_6e-2));
        let cos = p.mul_add(z * z, c(-0.5).mul_add(z, c(1.0)));
        // Odd quadrants exchange the two; the sign bits follow from bit 1 of n and of n + 1.
        avx!({
            let odd = AvxMask8(_mm256_castsi256_ps(_mm256_slli_epi32::<31>(quadrant)));
            let sign =
                |q: __m256i| _mm256_castsi256_ps(_mm256_slli_epi32::<30>(_mm256_and_si256(q, _mm256_set1_epi32(2))));
            let next = _mm256_add_epi32(quadrant, _mm256_set1_epi32(1));
            let s = Avx8::select(odd, cos, sin);
            let c = Avx8::select(odd, sin, cos);
            (Avx8(_mm256_xor_ps(s.0, sign(quadrant))), Avx8(_mm256_xor_ps(c.0, sign(next))))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sine and cosine against `f64`, within 1.5e-7 for angles of moderate size.
    fn sin_cos_is_accurate<S: Lanes>() {
        let mut worst = 0.0f64;
        for k in (0..100_000).step_by(if cfg!(miri) { 1000 } else { 1 }) {
            let x = [0, 1, 2, 3, 4, 5, 6, 7].map(|lane| (k * 8 + lane) as f32 * 2.5e-4 - 100.0);
            let (s, c) = S::from_array(x).sin_cos();
            for ((&x, s), c) in x.iter().zip(s.to_array()).zip(c.to_array()) {
                let (exact_s, exact_c) = f64::from(x).sin_cos();
                worst = worst.max((f64::from(s) - exact_s).abs()).max((f64::from(c) - exact_c).abs());
            }
        }
        assert!(worst < 1.5e-7, "{worst:e}");
    }

    fn operations_act_lane_by_lane<S: Lanes>() {
        let a = [1.0, -2.0, 3.5, 0.0, -0.5, 8.0, 1e-3, 7.0];
        let b = [2.0, 2.0, -1.5, 1.0, -0.5, 0.25, 4.0, 9.0];
        let (x, y) = (S::from_array(a), S::from_array(b));
        let each = |f: &dyn Fn(f32, f32) -> f32| -> [f32; WIDTH] { std::array::from_fn(|k| f(a[k], b[k])) };
        assert_eq!((x + y).to_array(), each(&|a, b| a + b));
        assert_eq!((x - y).to_array(), each(&|a, b| a - b));
        assert_eq!((x * y).to_array(), each(&|a, b| a * b));
        assert_eq!((x / y).to_array(), each(&|a, b| a / b));
        assert_eq!((-x).abs().sqrt().to_array(), each(&|a, _| a.abs().sqrt()));
        assert_eq!(x.min(y).to_array(), each(&f32::min));
        assert_eq!(x.max(y).to_array(), each(&f32::max));
        let both = x.lt(y) & !x.le(S::zero()) | y.lt(x);
        let want = each(&|a, b| if a < b && a > 0.0 || b < a { a } else { b });
        assert_eq!(S::select(both, x, y).to_array(), want);
    }

    #[test]
    fn plain_lanes() {
        sin_cos_is_accurate::<Lanes8>();
        operations_act_lane_by_lane::<Lanes8>();
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn avx_lanes() {
        if avx2_fma() {
            sin_cos_is_accurate::<Avx8>();
            operations_act_lane_by_lane::<Avx8>();
        }
    }
}
