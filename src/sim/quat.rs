//! Quaternions `(x, y, z, w)`, scalar last, and rigid transforms.
//!
//! `rot(q, x) = x (2w² - 1) + 2w (v × x) + 2v (v · x)` is a polynomial in the four numbers and never normalises inside:
//! off the unit sphere other formulas for a rotation differ, and so do their derivatives.

use super::vec3::{Mat3, Vec3};
use crate::device::Scalar;
use std::ops::Mul;

/// A quaternion with vector part `v` and scalar part `w`.
#[derive(Clone, Copy, Debug)]
pub struct Quat<S> {
    pub v: Vec3<S>,
    pub w: S,
}

impl<S: Scalar> Quat<S> {
    #[inline(always)]
    pub fn new(x: S, y: S, z: S, w: S) -> Self {
        Self { v: Vec3::new(x, y, z), w }
    }
    #[inline(always)]
    pub fn identity() -> Self {
        Self { v: Vec3::zero(), w: S::one() }
    }
    #[inline(always)]
    pub fn of(a: [f64; 4]) -> Self {
        Self::new(S::of(a[0]), S::of(a[1]), S::of(a[2]), S::of(a[3]))
    }
    #[inline(always)]
    pub fn read(a: &[S]) -> Self {
        Self::new(a[0], a[1], a[2], a[3])
    }
    #[inline(always)]
    pub fn write(self, a: &mut [S]) {
        self.v.write(a);
        a[3] = self.w;
    }
    /// The conjugate, never divided by the norm.
    #[inline(always)]
    pub fn conj(self) -> Self {
        Self { v: -self.v, w: self.w }
    }
    /// Rotation by `angle` (rad) about the unit vector `axis`.
    #[inline(always)]
    pub fn about(axis: Vec3<S>, angle: S) -> Self {
        let (s, c) = (angle * S::of(0.5)).sin_cos();
        Self { v: axis.scale(s), w: c }
    }
    /// The matrix of `x -> rot(self, x)`; that of the conjugate is its transpose, unit norm or not.
    #[inline(always)]
    pub fn matrix(self) -> Mat3<S> {
        let Vec3 { x, y, z } = self.v;
        let (x2, y2, z2, w2) = (x + x, y + y, z + z, self.w + self.w);
        let d = w2.mul_add(self.w, -S::one());
        let (xy, xz, yz) = (x2 * y, x2 * z, y2 * z);
        let (wx, wy, wz) = (w2 * x, w2 * y, w2 * z);
        Mat3([
            Vec3::new(x2.mul_add(x, d), xy - wz, xz + wy),
            Vec3::new(xy + wz, y2.mul_add(y, d), yz - wx),
            Vec3::new(xz - wy, yz + wx, z2.mul_add(z, d)),
        ])
    }
    /// `rot(self, x)`.
    #[inline(always)]
    pub fn rotate(self, x: Vec3<S>) -> Vec3<S> {
        let two = S::of(2.0);
        let d = (two * self.w).mul_add(self.w, -S::one());
        x.scale_add(d, self.v.cross(x).scale_add(two * self.w, self.v.scale(two * self.v.dot(x))))
    }
    /// Divided by its norm; the zero quaternion becomes the identity.
    #[inline(always)]
    pub fn normalised(self) -> Self {
        let norm = self.w.mul_add(self.w, self.v.dot(self.v)).sqrt();
        let positive = S::zero().lt(norm);
        let inverse = S::one() / S::select(positive, norm, S::one());
        Self {
            v: self.v.scale(inverse),
            // A zero vector part stays zero, so only the scalar part needs the other branch.
            w: S::select(positive, self.w * inverse, S::one()),
        }
    }
}

/// Adjoints. The four numbers are independent: nothing here assumes a unit norm.
impl<S: Scalar> Quat<S> {
    #[inline(always)]
    pub fn zero() -> Self {
        Self { v: Vec3::zero(), w: S::zero() }
    }
    #[inline(always)]
    pub fn dot(self, o: Self) -> S {
        self.w.mul_add(o.w, self.v.dot(o.v))
    }
    /// `self * s + b`.
    #[inline(always)]
    pub fn scale_add(self, s: S, b: Self) -> Self {
        Self { v: self.v.scale_add(s, b.v), w: self.w.mul_add(s, b.w) }
    }
    /// Cotangents of (a, b) from that of the product `c = a ⊗ b`: `ā = c̄ ⊗ b*`, `b̄ = a* ⊗ c̄`.
    #[inline(always)]
    pub fn product_adjoint(a: Self, b: Self, bar: Self) -> (Self, Self) {
        (bar * b.conj(), a.conj() * bar)
    }
    /// Adjoint of [`Quat::matrix`]: the quaternion's cotangent from the matrix's.
    #[inline(always)]
    pub fn matrix_adjoint(self, m: &Mat3<S>) -> Self {
        let Vec3 { x, y, z } = self.v;
        let [r0, r1, r2] = &m.0;
        let (xy, xz, yz) = (r0.y + r1.x, r0.z + r2.x, r1.z + r2.y);
        let turn = m.skew_adjoint();
        let two = S::of(2.0);
        let twice = |a: S| a + a;
        let v = Vec3::new(
            twice(r0.x).mul_add(x, xy.mul_add(y, xz * z)),
            twice(r1.y).mul_add(y, xy.mul_add(x, yz * z)),
            twice(r2.z).mul_add(z, xz.mul_add(x, yz * y)),
        );
        let trace = r0.x + r1.y + r2.z;
        Self { v: turn.scale_add(self.w, v).scale(two), w: twice(trace).mul_add(self.w, self.v.dot(turn)) * two }
    }
    /// Adjoint of [`Quat::normalised`] at `self`: `(r̄' - r' (r'·r̄')) / |r|`, and nothing for the zero quaternion.
    #[inline(always)]
    pub fn normalised_adjoint(self, bar: Self) -> Self {
        let norm = self.dot(self).sqrt();
        let positive = S::zero().lt(norm);
        let inverse = S::select(positive, S::one() / S::select(positive, norm, S::one()), S::zero());
        let unit = Self { v: self.v.scale(inverse), w: self.w * inverse };
        let across = unit.scale_add(-unit.dot(bar), bar);
        Self { v: across.v.scale(inverse), w: across.w * inverse }
    }
}

impl Quat<f64> {
    /// The unit quaternion of a rotation matrix given by rows, by the largest of its four components (Shepperd 1978).
    pub fn of_matrix(m: [[f64; 3]; 3]) -> Self {
        let trace = m[0][0] + m[1][1] + m[2][2];
        let squares = [m[0][0], m[1][1], m[2][2]].map(|d| 1.0 + 2.0 * d - trace);
        let squares = [squares[0], squares[1], squares[2], 1.0 + trace];
        let largest = (0..4).max_by(|&a, &b| squares[a].total_cmp(&squares[b])).unwrap_or(3);
        let s = squares[largest].max(1e-12).sqrt();
        // Products of the largest component with each of the others, from sums and differences across the diagonal.
        let mut q = [0.0; 4];
        q[largest] = 0.5 * s;
        let wise = |i: usize| {
            let (j, k) = ((i + 1) % 3, (i + 2) % 3);
            m[k][j] - m[j][k]
        };
        let across = |i: usize, j: usize| m[i][j] + m[j][i];
        for (i, x) in q.iter_mut().enumerate().filter(|(i, _)| *i != largest) {
            let product = match (i, largest) {
                (3, l) => wise(l),
                (i, 3) => wise(i),
                (i, l) => across(i, l),
            };
            *x = 0.5 * product / s;
        }
        Self::of(q)
    }
}

/// Hamilton's product.
impl<S: Scalar> Mul for Quat<S> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, o: Self) -> Self {
        Self {
            v: self.v.cross_add(o.v, o.v.scale_add(self.w, self.v.scale(o.w))),
            w: self.w.mul_add(o.w, -self.v.dot(o.v)),
        }
    }
}

/// A frame: position `p` (m) of its origin and orientation `q`, both in the parent frame.
#[derive(Clone, Copy, Debug)]
pub struct Transform<S> {
    pub p: Vec3<S>,
    pub q: Quat<S>,
}

impl<S: Scalar> Transform<S> {
    #[inline(always)]
    pub fn identity() -> Self {
        Self { p: Vec3::zero(), q: Quat::identity() }
    }
    /// At `p`, not turned.
    pub fn at(p: [f64; 3]) -> Self {
        Self { p: Vec3::of(p), q: Quat::identity() }
    }
}

/// `A B = (rot(A.q, B.p) + A.p, A.q ⊗ B.q)`.
impl<S: Scalar> Mul for Transform<S> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        Self { p: self.q.rotate(b.p) + self.p, q: self.q * b.q }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_give_their_quaternion_back() {
        for q in [
            [0.0, 0.0, 0.0, 1.0],
            [1.0, 0.0, 0.0, 0.0],
            [0.1, -0.7, 0.3, 0.2],
            [0.5, 0.5, -0.5, 0.5],
            [0.0, 0.8, 0.6, 0.0],
        ] {
            let rows = |q: Quat<f64>| q.matrix().0.map(Vec3::array);
            let a = rows(Quat::of(q).normalised());
            let b = rows(Quat::of_matrix(a));
            for (x, y) in a.iter().flatten().zip(b.iter().flatten()) {
                assert!((x - y).abs() < 1e-12, "{q:?}: {a:?} {b:?}");
            }
        }
    }
}
