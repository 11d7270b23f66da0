//! Intermediate quantities of one substep, all in world axes about the reference point; plain values, no allocation.

use super::articulation::JointKind;
use super::model::Model;
use super::quat::Quat;
use super::spatial::Spatial;
use super::vec3::{Mat3, Vec3};
use crate::device::Scalar;

/// One body. Positions are relative to the reference point.
#[derive(Clone, Copy, Debug)]
pub struct BodyWork<S> {
    /// Body frame: origin, orientation and its matrix.
    pub p: Vec3<S>,
    pub q: Quat<S>,
    pub rot: Mat3<S>,
    /// Centre of mass in world axes, and `-Rᵀ com`: the reference point seen from the centre of mass, body axes.
    pub com: Vec3<S>,
    pub back: Vec3<S>,
    /// Twist and velocity-product acceleration.
    pub v: Spatial<S>,
    pub a: Spatial<S>,
    /// Minus the contact wrench on the body.
    pub contact: Spatial<S>,
    /// Bias wrench (inertial, gravity) plus `contact`.
    pub f: Spatial<S>,
    /// Sum of what the children pass up.
    pub children: Spatial<S>,
}

/// Scratch of the dynamics of a robot with at most `B` bodies and `D` velocity coordinates: what stands behind those
/// that it has is never read.
#[derive(Clone, Copy, Debug)]
pub struct Work<S, const B: usize, const D: usize> {
    pub body: [BodyWork<S>; B],
    /// Motion axis of each dof; those of a free joint are the unit vectors, set once.
    pub axis: [Spatial<S>; D],
    /// Generalised force of each dof [N m or N].
    pub tau: [S; D],
    pub qdd: [S; D],
    /// Mass matrix, then its factor: lower triangle, only ancestors' columns are meaningful.
    pub factor: [[S; D]; D],
    /// Reciprocals of the factor's diagonal.
    pub pivot: [S; D],
}

impl<S: Scalar, const B: usize, const D: usize> Work<S, B, D> {
    /// # Panics
    /// If the robot is larger.
    #[inline(always)]
    pub fn new(model: &Model<S>) -> Self {
        assert!(model.links.len() <= B && model.velocities <= D);
        let body = BodyWork {
            p: Vec3::zero(),
            q: Quat::identity(),
            rot: Mat3::identity(),
            com: Vec3::zero(),
            back: Vec3::zero(),
            v: Spatial::zero(),
            a: Spatial::zero(),
            contact: Spatial::zero(),
            f: Spatial::zero(),
            children: Spatial::zero(),
        };
        let mut axis = [Spatial::zero(); D];
        for link in model.links.iter().filter(|l| l.kind == JointKind::Free) {
            for k in 0..6 {
                axis[link.qd + k] = Spatial::unit(k);
            }
        }
        Self {
            body: [body; B],
            axis,
            tau: [S::zero(); D],
            qdd: [S::zero(); D],
            factor: [[S::zero(); D]; D],
            pivot: [S::zero(); D],
        }
    }
}

/// Cotangents of one body's quantities in a [`Work`]. `com` and `back` follow from `p` and `rot` and have none of their
/// own.
#[derive(Clone, Copy, Debug)]
pub struct BodyCotangent<S> {
    pub p: Vec3<S>,
    /// Of `q`, beside what reaches it through `rot`.
    pub q: Quat<S>,
    pub rot: Mat3<S>,
    pub v: Spatial<S>,
    pub a: Spatial<S>,
    /// Of the wrench on the body: a twist.
    pub f: Spatial<S>,
}

impl<S: Scalar> BodyCotangent<S> {
    #[inline(always)]
    pub fn zero() -> Self {
        Self {
            p: Vec3::zero(),
            q: Quat::zero(),
            rot: Mat3::zero(),
            v: Spatial::zero(),
            a: Spatial::zero(),
            f: Spatial::zero(),
        }
    }
}

/// Scratch of the adjoint: cotangents of what stands in a [`Work`].
#[derive(Clone, Copy, Debug)]
pub struct Cotangents<S, const B: usize, const D: usize> {
    pub body: [BodyCotangent<S>; B],
    pub axis: [Spatial<S>; D],
    pub tau: [S; D],
    /// Of the mass matrix, for each entry that is computed (lower triangle, ancestors' columns): both halves together.
    /// Summed over the substeps that share a factor.
    pub mass: [[S; D]; D],
    /// Of the height of the ground over the reference point. Summed over all substeps.
    pub ground: S,
}

impl<S: Scalar, const B: usize, const D: usize> Cotangents<S, B, D> {
    #[inline(always)]
    pub fn zero() -> Self {
        Self {
            body: [BodyCotangent::zero(); B],
            axis: [Spatial::zero(); D],
            tau: [S::zero(); D],
            mass: [[S::zero(); D]; D],
            ground: S::zero(),
        }
    }
}
