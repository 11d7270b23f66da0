//! Spatial (6-D) vectors and inertias after Featherstone, "Rigid Body Dynamics Algorithms" (2008).
//!
//! Angular part first, world axes, one common reference point for all bodies (the world origin, or the torso: see
//! [`super::ReferencePoint`]). A twist is `(ω, v)` with v the velocity of the body-fixed point that is at the reference
//! point now [rad/s, m/s]; a wrench is `(torque, force)` [N m, N]. The plain dot product of the two is power.

use super::vec3::{Mat3, Vec3};
use crate::device::Scalar;
use std::ops::{Add, AddAssign, Neg, Sub};

/// A twist, motion axis or acceleration `(ω, v)`, or a wrench `(torque, force)`.
#[derive(Clone, Copy, Debug)]
pub struct Spatial<S> {
    pub ang: Vec3<S>,
    pub lin: Vec3<S>,
}

impl<S: Scalar> Spatial<S> {
    #[inline(always)]
    pub fn new(ang: Vec3<S>, lin: Vec3<S>) -> Self {
        Self { ang, lin }
    }
    #[inline(always)]
    pub fn zero() -> Self {
        Self::new(Vec3::zero(), Vec3::zero())
    }
    /// Unit vector number `k` of six.
    #[inline(always)]
    pub fn unit(k: usize) -> Self {
        let mut a = [S::zero(); 6];
        a[k] = S::one();
        Self::read(&a)
    }
    #[inline(always)]
    pub fn read(a: &[S]) -> Self {
        Self::new(Vec3::read(a), Vec3::read(&a[3..6]))
    }
    #[inline(always)]
    pub fn write(self, a: &mut [S]) {
        self.ang.write(a);
        self.lin.write(&mut a[3..6]);
    }
    #[inline(always)]
    pub fn array(self) -> [S; 6] {
        [self.ang.x, self.ang.y, self.ang.z, self.lin.x, self.lin.y, self.lin.z]
    }
    #[inline(always)]
    pub fn scale(self, s: S) -> Self {
        Self::new(self.ang.scale(s), self.lin.scale(s))
    }
    /// `self * s + b`.
    #[inline(always)]
    pub fn scale_add(self, s: S, b: Self) -> Self {
        Self::new(self.ang.scale_add(s, b.ang), self.lin.scale_add(s, b.lin))
    }
    #[inline(always)]
    pub fn dot(self, o: Self) -> S {
        let (a, b) = (self.ang, o.ang);
        a.x.mul_add(b.x, a.y.mul_add(b.y, a.z.mul_add(b.z, self.lin.dot(o.lin))))
    }
    /// `(R ang, R lin)`.
    #[inline(always)]
    pub fn turned(rot: &Mat3<S>, ang: Vec3<S>, lin: Vec3<S>) -> Self {
        Self::new(rot.mul_vec(ang), rot.mul_vec(lin))
    }
    /// `(ω, v) ×ₘ (ω', v') = (ω × ω', v × ω' + ω × v')`, the cross product with a motion.
    #[inline(always)]
    pub fn cross_motion(self, o: Self) -> Self {
        Self::new(self.ang.cross(o.ang), self.lin.cross_add(o.ang, self.ang.cross(o.lin)))
    }
    /// `(ω, v) ×_f (τ, f) = (ω × τ + v × f, ω × f)`, the cross product with a wrench.
    #[inline(always)]
    pub fn cross_force(self, o: Self) -> Self {
        Self::new(self.ang.cross_add(o.ang, self.lin.cross(o.lin)), self.ang.cross(o.lin))
    }
}

impl<S: Scalar> Add for Spatial<S> {
    type Output = Self;
    #[inline(always)]
    fn add(self, o: Self) -> Self {
        Self::new(self.ang + o.ang, self.lin + o.lin)
    }
}
impl<S: Scalar> Sub for Spatial<S> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        Self::new(self.ang - o.ang, self.lin - o.lin)
    }
}
impl<S: Scalar> Neg for Spatial<S> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Self::new(-self.ang, -self.lin)
    }
}
impl<S: Scalar> AddAssign for Spatial<S> {
    #[inline(always)]
    fn add_assign(&mut self, o: Self) {
        *self = *self + o;
    }
}

/// A symmetric 6x6 inertia `[[aa, al], [alᵀ, ll]]`: twist in, momentum out.
#[derive(Clone, Copy, Debug)]
pub struct SpatialInertia<S> {
    pub aa: Mat3<S>,
    pub al: Mat3<S>,
    pub ll: Mat3<S>,
}

impl<S: Scalar> SpatialInertia<S> {
    #[inline(always)]
    pub fn zero() -> Self {
        Self { aa: Mat3::zero(), al: Mat3::zero(), ll: Mat3::zero() }
    }
    #[inline(always)]
    pub fn mul(&self, v: Spatial<S>) -> Spatial<S> {
        Spatial::new(
            self.aa.mul_vec_add(v.ang, self.al.mul_vec(v.lin)),
            self.al.transpose_mul_vec_add(v.ang, self.ll.mul_vec(v.lin)),
        )
    }
    #[inline(always)]
    pub fn add(&self, o: &Self) -> Self {
        Self { aa: self.aa.add(&o.aa), al: self.al.add(&o.al), ll: self.ll.add(&o.ll) }
    }
}
