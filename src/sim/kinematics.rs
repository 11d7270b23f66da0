//! Forward kinematics: frames, motion axes, twists and velocity-product accelerations, one body at a time in tree order.

use super::articulation::JointKind;
use super::model::Model;
use super::quat::Quat;
use super::spatial::Spatial;
use super::vec3::{Mat3, Vec3};
use super::work::Work;
use crate::device::Scalar;

/// Fills `p, q, rot, com, back, v, a` of body `i` and the axes of its joint, from those of its parent.
///
/// `V_i = V_p + S q̇` and `A_i = A_p + V_i ×ₘ (S q̇)`. For the free joint S is the identity in world axes, hence
/// `V ×ₘ V = 0`.
#[inline(always)]
pub fn body_kinematics<S: Scalar, const B: usize, const D: usize>(
    model: &Model<S>,
    i: usize,
    q: &[S],
    qd: &[S],
    w: &mut Work<S, B, D>,
) {
    let link = &model.links[i];
    let (mut p, mut quat, mut rot, mut v, mut a) = match link.parent {
        Some(k) => {
            let b = &w.body[k];
            (b.rot.mul_vec_add(link.position, b.p), b.q, b.rot, b.v, b.a)
        }
        None => (link.position, Quat::identity(), Mat3::identity(), Spatial::zero(), Spatial::zero()),
    };
    if let Some(turn) = link.rotation {
        quat = quat * turn;
        rot = quat.matrix();
    }
    match link.kind {
        JointKind::Free => {
            p = rot.mul_vec_add(Vec3::read(&q[link.q..]), p);
            quat = quat * Quat::read(&q[link.q + 3..]);
            rot = quat.matrix();
            v += Spatial::read(&qd[link.qd..]);
        }
        JointKind::Hinge => {
            let ang = rot.mul_vec(link.axis);
            let axis = Spatial::new(ang, p.cross(ang));
            w.axis[link.qd] = axis;
            let rate = axis.scale(qd[link.qd]);
            v += rate;
            a += v.cross_motion(rate);
            quat = quat * Quat::about(link.axis, q[link.q]);
            rot = quat.matrix();
        }
        JointKind::Slide => {
            let lin = rot.mul_vec(link.axis);
            let axis = Spatial::new(Vec3::zero(), lin);
            w.axis[link.qd] = axis;
            let rate = axis.scale(qd[link.qd]);
            v += rate;
            a += v.cross_motion(rate);
            p = lin.scale_add(q[link.q], p);
        }
        JointKind::Fixed => {}
    }
    let com = rot.mul_vec_add(link.com, p);
    let b = &mut w.body[i];
    (b.p, b.q, b.rot, b.v, b.a) = (p, quat, rot, v, a);
    b.com = com;
    b.back = -rot.transpose_mul_vec(com);
}
