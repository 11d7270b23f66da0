//! Spatial inertia about the reference point and the bias wrench.
//!
//! `G = Tᵀ diag(I, m 1) T` with `T = [[R̄, 0], [[p̄] R̄, R̄]]`, R̄ the rotation matrix of the conjugate quaternion and
//! `p̄ = -R̄ com`. T carries a twist into the body's axes about its centre of mass. The form holds, and is
//! differentiated, off the unit sphere too.

use super::model::{Link, Model};
use super::spatial::{Spatial, SpatialInertia};
use super::vec3::{Mat3, Vec3};
use super::work::{BodyCotangent, BodyWork, Cotangents, Work};
use crate::device::Scalar;

/// Angular part of a twist x in body axes, and the momentum `G x` about the centre of mass.
struct Local<S> {
    ang: Vec3<S>,
    torque: Vec3<S>,
    force: Vec3<S>,
}

#[inline(always)]
fn local<S: Scalar>(link: &Link<S>, b: &BodyWork<S>, x: Spatial<S>) -> Local<S> {
    let ang = b.rot.transpose_mul_vec(x.ang);
    let lin = b.rot.transpose_mul_vec_add(x.lin, b.back.cross(ang));
    let force = lin.scale(link.mass);
    let torque = link.inertia.mul_vec_add(ang, force.cross(b.back));
    Local { ang, torque, force }
}

/// `G x` without forming G.
#[inline(always)]
pub fn apply_inertia<S: Scalar>(link: &Link<S>, b: &BodyWork<S>, x: Spatial<S>) -> Spatial<S> {
    let at = local(link, b, x);
    Spatial::turned(&b.rot, at.torque, at.force)
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

/// Adjoint of [`body_bias`] of body `i`, from the cotangent of its wrench, a twist `F̄`.
///
/// G is symmetric, so `Ā = G F̄`, and with the momentum `P = G V`: `P̄ = F̄ ×ₘ V`, `V̄ = G P̄ - F̄ ×_f P`. Where G
/// stands between two twists, its own cotangent follows from both of them in body axes.
#[inline(always)]
pub fn body_bias_adjoint<S: Scalar, const B: usize, const D: usize>(
    model: &Model<S>,
    i: usize,
    w: &Work<S, B, D>,
    c: &mut Cotangents<S, B, D>,
) {
    let link = &model.links[i];
    let (b, bar) = (&w.body[i], &mut c.body[i]);
    let momentum_bar = bar.f.cross_motion(b.v);
    let (v, a) = (local(link, b, b.v), local(link, b, b.a));
    let (f, m) = (local(link, b, bar.f), local(link, b, momentum_bar));
    let momentum = Spatial::turned(&b.rot, v.torque, v.force);
    bar.a += Spatial::turned(&b.rot, f.torque, f.force);
    bar.v += Spatial::turned(&b.rot, m.torque, m.force) - bar.f.cross_force(momentum);

    let mut back = Vec3::zero();
    for (x, y, x_local, y_local) in [(b.a, bar.f, &a, &f), (b.v, momentum_bar, &v, &m)] {
        // yᵀ G x = ang_y·I ang_x + m lin_y·lin_x, with ang = Rᵀ ω, lin = Rᵀ v + p̄ × ang.
        back += x_local.ang.cross(y_local.force) + y_local.ang.cross(x_local.force);
        bar.rot.add_outer(x.ang, y_local.torque);
        bar.rot.add_outer(x.lin, y_local.force);
        bar.rot.add_outer(y.ang, x_local.torque);
        bar.rot.add_outer(y.lin, x_local.force);
    }
    let com = bar.f.ang.cross(model.gravity.scale(link.mass));
    lever_adjoint(link, b, back, com, bar);
}

/// From the cotangents of `back = -Rᵀ com` and of `com = R com_body + p` to those of R and p.
#[inline(always)]
fn lever_adjoint<S: Scalar>(link: &Link<S>, b: &BodyWork<S>, back: Vec3<S>, com: Vec3<S>, bar: &mut BodyCotangent<S>) {
    let com = com - b.rot.mul_vec(back);
    bar.rot.add_outer(-b.com, back);
    bar.rot.add_outer(com, link.com);
    bar.p += com;
}

/// Adjoint of [`spatial_inertia`]. Of the symmetric off-diagonal blocks, `g.al` is the cotangent of both together.
#[inline(always)]
pub fn spatial_inertia_adjoint<S: Scalar>(
    link: &Link<S>,
    b: &BodyWork<S>,
    g: &SpatialInertia<S>,
    bar: &mut BodyCotangent<S>,
) {
    let (r, rt) = (&b.rot, b.rot.transpose());
    let lever = Mat3::skew(b.back);
    let inner = link.inertia.add(&lever.mul(&lever).scale(-link.mass));
    let across = lever.scale(-link.mass);
    let both = |m: &Mat3<S>| m.add(&m.transpose());
    let odd = |m: &Mat3<S>| m.transpose().add(&m.scale(-S::one()));
    // M = R X Rᵀ: R̄ = M̄ R Xᵀ + M̄ᵀ R X and X̄ = Rᵀ M̄ R, with X symmetric, skew and a multiple of the unit matrix.
    let of_r = both(&g.aa).mul(r).mul(&inner).add(&odd(&g.al).mul(r).mul(&across));
    bar.rot = bar.rot.add(&of_r).add(&both(&g.ll).mul(r).scale(link.mass));
    let of_inner = rt.mul(&g.aa).mul(r);
    let of_across = rt.mul(&g.al).mul(r);
    // X = I - m [p̄][p̄] and X = -m [p̄].
    let lever_t = lever.transpose();
    let of_lever = of_inner.mul(&lever_t).add(&lever_t.mul(&of_inner)).add(&of_across).scale(-link.mass);
    lever_adjoint(link, b, of_lever.skew_adjoint(), Vec3::zero(), bar);
}
