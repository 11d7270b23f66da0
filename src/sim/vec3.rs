//! Three-vectors and 3x3 matrices over [`Scalar`]. No allocation, everything by value.

use crate::device::Scalar;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};

/// A vector of three numbers, usually in world axes.
#[derive(Clone, Copy, Debug)]
pub struct Vec3<S> {
    pub x: S,
    pub y: S,
    pub z: S,
}

impl<S: Scalar> Vec3<S> {
    #[inline(always)]
    pub fn new(x: S, y: S, z: S) -> Self {
        Self { x, y, z }
    }
    #[inline(always)]
    pub fn zero() -> Self {
        Self::new(S::zero(), S::zero(), S::zero())
    }
    /// The constant vector `a`, rounded to the number type.
    #[inline(always)]
    pub fn of(a: [f64; 3]) -> Self {
        Self::new(S::of(a[0]), S::of(a[1]), S::of(a[2]))
    }
    /// The first three numbers of `a`.
    #[inline(always)]
    pub fn read(a: &[S]) -> Self {
        Self::new(a[0], a[1], a[2])
    }
    #[inline(always)]
    pub fn write(self, a: &mut [S]) {
        a[0] = self.x;
        a[1] = self.y;
        a[2] = self.z;
    }
    #[inline(always)]
    pub fn array(self) -> [S; 3] {
        [self.x, self.y, self.z]
    }
    #[inline(always)]
    pub fn scale(self, s: S) -> Self {
        Self::new(self.x * s, self.y * s, self.z * s)
    }
    /// `self * s + b`.
    #[inline(always)]
    pub fn scale_add(self, s: S, b: Self) -> Self {
        Self::new(self.x.mul_add(s, b.x), self.y.mul_add(s, b.y), self.z.mul_add(s, b.z))
    }
    #[inline(always)]
    pub fn dot(self, o: Self) -> S {
        self.x.mul_add(o.x, self.y.mul_add(o.y, self.z * o.z))
    }
    #[inline(always)]
    pub fn cross(self, o: Self) -> Self {
        Self::new(
            self.y.mul_add(o.z, -(self.z * o.y)),
            self.z.mul_add(o.x, -(self.x * o.z)),
            self.x.mul_add(o.y, -(self.y * o.x)),
        )
    }
    /// `self x o + b`.
    #[inline(always)]
    pub fn cross_add(self, o: Self, b: Self) -> Self {
        Self::new(
            self.y.mul_add(o.z, (-self.z).mul_add(o.y, b.x)),
            self.z.mul_add(o.x, (-self.x).mul_add(o.z, b.y)),
            self.x.mul_add(o.y, (-self.y).mul_add(o.x, b.z)),
        )
    }
    #[inline(always)]
    pub fn norm(self) -> S {
        self.dot(self).sqrt()
    }

    /// `b + self x o`, with the round-off of products and sums carried along where `mul_add` is fused.
    ///
    /// Moving a twist between the world origin and a robot x metres away cancels terms of size ω·x; single precision
    /// would lose there what working about the torso gains.
    #[inline(always)]
    pub fn cross_add_exact(self, o: Self, b: Self) -> Self {
        Self::new(
            minor_add(self.y, o.z, self.z, o.y, b.x),
            minor_add(self.z, o.x, self.x, o.z, b.y),
            minor_add(self.x, o.y, self.y, o.x, b.z),
        )
    }
}

/// `a b - c d + e` by error-free transformations (Knuth's two-sum, two-product by fused multiply-add).
#[inline(always)]
fn minor_add<S: Scalar>(a: S, b: S, c: S, d: S, e: S) -> S {
    let (p, r) = (a.mul_rounded(b), -c.mul_rounded(d));
    let low = a.mul_add(b, -p) - c.mul_add(d, r);
    let (s, s_low) = two_sum(p, r);
    let (t, t_low) = two_sum(e, s);
    t + (t_low + (s_low + low))
}

#[inline(always)]
fn two_sum<S: Scalar>(a: S, b: S) -> (S, S) {
    let s = a + b;
    let b_part = s - a;
    (s, (a - (s - b_part)) + (b - b_part))
}

impl<S: Scalar> Add for Vec3<S> {
    type Output = Self;
    #[inline(always)]
    fn add(self, o: Self) -> Self {
        Self::new(self.x + o.x, self.y + o.y, self.z + o.z)
    }
}
impl<S: Scalar> Sub for Vec3<S> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        Self::new(self.x - o.x, self.y - o.y, self.z - o.z)
    }
}
impl<S: Scalar> SubAssign for Vec3<S> {
    #[inline(always)]
    fn sub_assign(&mut self, o: Self) {
        *self = *self - o;
    }
}
impl<S: Scalar> Neg for Vec3<S> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Self::new(-self.x, -self.y, -self.z)
    }
}
impl<S: Scalar> AddAssign for Vec3<S> {
    #[inline(always)]
    fn add_assign(&mut self, o: Self) {
        *self = *self + o;
    }
}

/// A 3x3 matrix by rows.
#[derive(Clone, Copy, Debug)]
pub struct Mat3<S>(pub [Vec3<S>; 3]);

impl<S: Scalar> Mat3<S> {
    #[inline(always)]
    pub fn zero() -> Self {
        Self([Vec3::zero(); 3])
    }
    #[inline(always)]
    pub fn identity() -> Self {
        let (o, z) = (S::one(), S::zero());
        Self([Vec3::new(o, z, z), Vec3::new(z, o, z), Vec3::new(z, z, o)])
    }
    #[inline(always)]
    pub fn of(a: [[f64; 3]; 3]) -> Self {
        Self([Vec3::of(a[0]), Vec3::of(a[1]), Vec3::of(a[2])])
    }
    /// The matrix of `x -> c x x`.
    #[inline(always)]
    pub fn skew(c: Vec3<S>) -> Self {
        let z = S::zero();
        Self([Vec3::new(z, -c.z, c.y), Vec3::new(c.z, z, -c.x), Vec3::new(-c.y, c.x, z)])
    }
    /// Adjoint of [`Mat3::skew`]: the cotangent of c from that of its matrix.
    #[inline(always)]
    pub fn skew_adjoint(&self) -> Vec3<S> {
        let [r0, r1, r2] = &self.0;
        Vec3::new(r2.y - r1.z, r0.z - r2.x, r1.x - r0.y)
    }
    #[inline(always)]
    pub fn column(&self, k: usize) -> Vec3<S> {
        Vec3::new(self.0[0].array()[k], self.0[1].array()[k], self.0[2].array()[k])
    }
    #[inline(always)]
    pub fn transpose(&self) -> Self {
        Self([self.column(0), self.column(1), self.column(2)])
    }
    #[inline(always)]
    pub fn mul_vec(&self, v: Vec3<S>) -> Vec3<S> {
        Vec3::new(self.0[0].dot(v), self.0[1].dot(v), self.0[2].dot(v))
    }
    /// `M v + b`.
    #[inline(always)]
    pub fn mul_vec_add(&self, v: Vec3<S>, b: Vec3<S>) -> Vec3<S> {
        let [r0, r1, r2] = &self.0;
        Vec3::new(
            r0.x.mul_add(v.x, r0.y.mul_add(v.y, r0.z.mul_add(v.z, b.x))),
            r1.x.mul_add(v.x, r1.y.mul_add(v.y, r1.z.mul_add(v.z, b.y))),
            r2.x.mul_add(v.x, r2.y.mul_add(v.y, r2.z.mul_add(v.z, b.z))),
        )
    }
    /// `M^T v`.
    #[inline(always)]
    pub fn transpose_mul_vec(&self, v: Vec3<S>) -> Vec3<S> {
        self.0[0].scale_add(v.x, self.0[1].scale_add(v.y, self.0[2].scale(v.z)))
    }
    /// `M^T v + b`.
    #[inline(always)]
    pub fn transpose_mul_vec_add(&self, v: Vec3<S>, b: Vec3<S>) -> Vec3<S> {
        self.0[0].scale_add(v.x, self.0[1].scale_add(v.y, self.0[2].scale_add(v.z, b)))
    }
    #[inline(always)]
    pub fn mul(&self, o: &Self) -> Self {
        Self([o.transpose_mul_vec(self.0[0]), o.transpose_mul_vec(self.0[1]), o.transpose_mul_vec(self.0[2])])
    }
    #[inline(always)]
    pub fn scale(&self, s: S) -> Self {
        Self([self.0[0].scale(s), self.0[1].scale(s), self.0[2].scale(s)])
    }
    /// `M += a bᵀ`.
    #[inline(always)]
    pub fn add_outer(&mut self, a: Vec3<S>, b: Vec3<S>) {
        self.0[0] = b.scale_add(a.x, self.0[0]);
        self.0[1] = b.scale_add(a.y, self.0[1]);
        self.0[2] = b.scale_add(a.z, self.0[2]);
    }
    #[inline(always)]
    pub fn add(&self, o: &Self) -> Self {
        Self([self.0[0] + o.0[0], self.0[1] + o.0[1], self.0[2] + o.0[2]])
    }
}
