//! Joint forces from leaves to root: what is left for the joints to accelerate.

use super::articulation::JointKind;
use super::model::Model;
use super::spatial::Spatial;
use super::work::{BodyCotangent, Cotangents, Work};
use crate::device::Scalar;

/// `τ` of the joint of body `i`, and the body's wrench handed to its parent. Bodies in reverse tree order.
///
/// `τ = -S·F̂ - k_drive (q - target) - d q̇ + u + τ_limit`, where d is drive and limit damping together; a ball joint
/// has no springs, `τ = -S·F̂ - d q̇ + u` for each of its axes; the free joint gets `τ = -F̂`. `actuation` holds u per
/// dof and is not read for free joints.
#[inline(always)]
pub fn joint_force<S: Scalar, const B: usize, const D: usize>(
    model: &Model<S>,
    i: usize,
    q: &[S],
    qd: &[S],
    actuation: &[S],
    w: &mut Work<S, B, D>,
) {
    let link = &model.links[i];
    let total = w.body[i].f + w.body[i].children;
    if let Some(k) = link.parent {
        w.body[k].children += total;
    }
    match link.kind {
        JointKind::Free => (-total).write(&mut w.tau[link.qd..]),
        JointKind::Hinge | JointKind::Slide => {
            let (x, rate) = (q[link.q], qd[link.qd]);
            let bound = S::select(x.lt(link.lower), link.lower, S::select(link.upper.lt(x), link.upper, x));
            let passive =
                link.limit_stiffness * (bound - x) - link.drive_stiffness * (x - link.target) - link.damping * rate;
            w.tau[link.qd] = actuation[link.qd] + passive - w.axis[link.qd].dot(total);
        }
        JointKind::Ball => {
            for k in link.qd..link.qd + 3 {
                w.tau[k] = actuation[k] - link.damping * qd[k] - w.axis[k].dot(total);
            }
        }
        JointKind::Fixed => {}
    }
}

/// Adjoint of [`joint_force`] of body `i`, from `c.tau`. Bodies in tree order: it begins the cotangents of the body,
/// its wrench's from those of its parent's, and those of its joint's axis.
///
/// A wrench is passed to every joint between body and root, so its cotangent is minus the twist that the rates τ̄ of
/// those joints would give the body.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a state and its cotangents")]
pub fn joint_force_adjoint<S: Scalar, const B: usize, const D: usize>(
    model: &Model<S>,
    i: usize,
    q: &[S],
    w: &Work<S, B, D>,
    c: &mut Cotangents<S, B, D>,
    q_bar: &mut [S],
    qd_bar: &mut [S],
    actuation_bar: &mut [S],
) {
    let link = &model.links[i];
    let mut f = link.parent.map_or(Spatial::zero(), |k| c.body[k].f);
    match link.kind {
        JointKind::Free => {
            f = f - Spatial::read(&c.tau[link.qd..]);
            for k in 0..6 {
                c.axis[link.qd + k] = Spatial::zero();
            }
        }
        JointKind::Hinge | JointKind::Slide => {
            let total = w.body[i].f + w.body[i].children;
            let minus = -c.tau[link.qd];
            f = w.axis[link.qd].scale_add(minus, f);
            c.axis[link.qd] = total.scale(minus);
            let x = q[link.q];
            let (outside, beyond) = (x.lt(link.lower) | link.upper.lt(x), x.le(link.lower) | link.upper.le(x));
            let at_limit = S::select(beyond, model.kinks.tie * link.limit_stiffness, S::zero());
            let stiffness = link.drive_stiffness + S::select(outside, link.limit_stiffness, at_limit);
            q_bar[link.q] = stiffness.mul_add(minus, q_bar[link.q]);
            qd_bar[link.qd] = link.damping.mul_add(minus, qd_bar[link.qd]);
            actuation_bar[link.qd] -= minus;
        }
        JointKind::Ball => {
            let total = w.body[i].f + w.body[i].children;
            for k in link.qd..link.qd + 3 {
                let minus = -c.tau[k];
                f = w.axis[k].scale_add(minus, f);
                c.axis[k] = total.scale(minus);
                qd_bar[k] = link.damping.mul_add(minus, qd_bar[k]);
                actuation_bar[k] -= minus;
            }
        }
        JointKind::Fixed => {}
    }
    c.body[i] = BodyCotangent { f, ..BodyCotangent::zero() };
}
