//! Spatial inertia about the reference point and the bias wrench.
//!
//! `G = Tᵀ diag(I, m 1) T` with `T = [[R̄, 0], [[p̄] R̄, R̄]]`, R̄ the rotation matrix of the conjugate quaternion and
//! `p̄ = -R̄ com`. T carries a twist into the body's axes about its centre of mass. The form holds, and is
//! differentiated, off the unit sphere too.

use super::model::{Link, Model};
use super::spatial::{Spatial, SpatialInertia};
use super::vec3::{Mat3, Vec3};
use super::work::{BodyWork, Work};
use crate::device::Scalar;

/// `G x` without forming G.
#[inline(always)]
pub fn apply_inertia<S: Scalar>(link: &Link<S>, b: &BodyWork<S>, x: Spatial<S>) -> Spatial<S> {
    let ang = b.rot.transpose_mul_vec(x.ang);
    let lin = b.rot.transpose_mul_vec_add(x.lin, b.back.cross(ang));
    let force = lin.scale(link.mass);
    let torque = link.inertia.mul_vec_add(ang, force.cross(b.back));
    Spatial::new(b.rot.mul_vec(torque), b.rot.mul_vec(force))
}

/// G itself, for the mass matrix.
#[inline(always)]
pub fn spatial_inertia<S: Scalar>(link: &Link<S>, b: &BodyWork<S>) -> SpatialInertia<S> {
    let turned = b.rot.transpose();
    let lever = Mat3::skew(b.back);
    // Rotational part in body axes: I + m [p̄]ᵀ[p̄], with [p̄]ᵀ = -[p̄].
    let inner = link.inertia.add(&lever.mul(&lever).scale(-link.mass));
    SpatialInertia {
        aa: b.rot.mul(&inner).mul(&turned),
        al: b.rot.mul(&lever.scale(-link.mass)).mul(&turned),
        ll: b.rot.scale(link.mass).mul(&turned),
    }
}

/// `F = G A + V ×_f (G V) - (c × m g, m g)`: the wrench that would leave the body with the acceleration A.
#[inline(always)]
pub fn body_bias<S: Scalar, const B: usize, const D: usize>(model: &Model<S>, i: usize, w: &mut Work<S, B, D>) {
    let link = &model.links[i];
    let b = &mut w.body[i];
    let weight = model.gravity.scale(link.mass);
    let momentum = apply_inertia(link, b, b.v);
    let rate = apply_inertia(link, b, b.a) + b.v.cross_force(momentum);
    b.f = rate - Spatial::new(b.com.cross(weight), weight);
    b.children = Spatial::new(Vec3::zero(), Vec3::zero());
}
