//! Forward-mode dual numbers of `f64`: the derivative oracle of every hand-written adjoint.

use super::scalar::{Real, Scalar, plain_product};
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

/// `v + d ε` with ε² = 0: a value and its derivative along one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Dual {
    pub v: f64,
    pub d: f64,
}

// SAFETY: two f64 without padding; every bit pattern is a value.
unsafe impl bytemuck::Zeroable for Dual {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Dual {}

impl Dual {
    #[inline(always)]
    pub fn new(v: f64, d: f64) -> Self {
        Self { v, d }
    }
}

impl PartialOrd for Dual {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.v.partial_cmp(&other.v)
    }
}
impl Add for Dual {
    type Output = Self;
    #[inline(always)]
    fn add(self, o: Self) -> Self {
        Self::new(self.v + o.v, self.d + o.d)
    }
}
impl Sub for Dual {
    type Output = Self;
    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        Self::new(self.v - o.v, self.d - o.d)
    }
}
impl Mul for Dual {
    type Output = Self;
    #[inline(always)]
    fn mul(self, o: Self) -> Self {
        Self::new(self.v * o.v, self.d * o.v + self.v * o.d)
    }
}
impl Div for Dual {
    type Output = Self;
    #[inline(always)]
    fn div(self, o: Self) -> Self {
        let q = self.v / o.v;
        Self::new(q, (self.d - q * o.d) / o.v)
    }
}
impl Neg for Dual {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Self::new(-self.v, -self.d)
    }
}
impl AddAssign for Dual {
    #[inline(always)]
    fn add_assign(&mut self, o: Self) {
        *self = *self + o;
    }
}
impl SubAssign for Dual {
    #[inline(always)]
    fn sub_assign(&mut self, o: Self) {
        *self = *self - o;
    }
}
impl MulAssign for Dual {
    #[inline(always)]
    fn mul_assign(&mut self, o: Self) {
        *self = *self * o;
    }
}

impl Scalar for Dual {
    type Mask = bool;
    const LANES: usize = 1;
    fn of(x: f64) -> Self {
        Self::new(x, 0.0)
    }
    fn sqrt(self) -> Self {
        let r = self.v.sqrt();
        // The derivative at zero is taken as zero: |u| at u = 0 has none (`physics` sub-gradient choice).
        Self::new(r, if r == 0.0 { 0.0 } else { 0.5 * self.d / r })
    }
    fn abs(self) -> Self {
        if self.v < 0.0 { -self } else { self }
    }
    fn sin_cos(self) -> (Self, Self) {
        let (s, c) = self.v.sin_cos();
        (Self::new(s, c * self.d), Self::new(c, -s * self.d))
    }
    fn atan2(self, x: Self) -> Self {
        let square = x.v * x.v + self.v * self.v;
        Self::new(self.v.atan2(x.v), (x.v * self.d - self.v * x.d) / square)
    }
    fn exp(self) -> Self {
        let e = self.v.exp();
        Self::new(e, e * self.d)
    }
    fn ln_1p(self) -> Self {
        Self::new(self.v.ln_1p(), self.d / (1.0 + self.v))
    }
    fn mul_add(self, a: Self, b: Self) -> Self {
        self * a + b
    }
    fn lt(self, other: Self) -> bool {
        self.v < other.v
    }
    fn le(self, other: Self) -> bool {
        self.v <= other.v
    }
    fn select(mask: bool, a: Self, b: Self) -> Self {
        if mask { a } else { b }
    }
}

impl Real for Dual {
    fn ln(self) -> Self {
        Self::new(self.v.ln(), self.d / self.v)
    }
    fn exp_m1(self) -> Self {
        Self::new(self.v.exp_m1(), self.v.exp() * self.d)
    }
    fn tanh(self) -> Self {
        let t = self.v.tanh();
        Self::new(t, (1.0 - t * t) * self.d)
    }
    fn value(self) -> f64 {
        self.v
    }
    fn is_finite(self) -> bool {
        self.v.is_finite() && self.d.is_finite()
    }
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
}
