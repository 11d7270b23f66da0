//! Forward kinematics: frames, motion axes, twists and velocity-product accelerations, one body at a time in tree
//! order.

use super::articulation::JointKind;
use super::model::Model;
use super::quat::Quat;
use super::spatial::Spatial;
use super::vec3::{Mat3, Vec3};
use super::work::{Cotangents, Work};
use crate::device::Scalar;

/// Fills `p, q, rot, com, back, v, a` of body `i` and the axes of its joint, from those of its parent.
///
/// `V_i = V_p + S q̇` and `A_i = A_p + V_i ×ₘ (S q̇)`. For the free joint S is the identity in world axes, hence
/// `V ×ₘ V = 0`; a ball joint turns about the three axes of the joint frame on the parent's side.
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
        JointKind::Ball => {
            let mut rate = Spatial::zero();
            for k in 0..3 {
                let ang = rot.column(k);
                let axis = Spatial::new(ang, p.cross(ang));
                w.axis[link.qd + k] = axis;
                rate = axis.scale_add(qd[link.qd + k], rate);
            }
            v += rate;
            a += v.cross_motion(rate);
            quat = quat * Quat::read(&q[link.q..]);
            rot = quat.matrix();
        }
        JointKind::Fixed => {}
    }
    let com = rot.mul_vec_add(link.com, p);
    let b = &mut w.body[i];
    (b.p, b.q, b.rot, b.v, b.a) = (p, quat, rot, v, a);
    b.com = com;
    b.back = -rot.transpose_mul_vec(com);
}

/// Adjoint of [`body_kinematics`] of body `i`, from the cotangents of the body and of its axes. Bodies in reverse tree
/// order: it adds to the cotangents of the parent and of the joint's coordinates.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a state and its cotangents")]
pub fn body_kinematics_adjoint<S: Scalar, const B: usize, const D: usize>(
    model: &Model<S>,
    i: usize,
    q: &[S],
    qd: &[S],
    w: &Work<S, B, D>,
    c: &mut Cotangents<S, B, D>,
    q_bar: &mut [S],
    qd_bar: &mut [S],
) {
    let link = &model.links[i];
    let (parent_quat, parent_rot) =
        link.parent.map_or((Quat::identity(), Mat3::identity()), |k| (w.body[k].q, w.body[k].rot));
    // The joint frame before the joint's own motion.
    let (quat, rot) = match link.rotation {
        Some(turn) => (parent_quat * turn, (parent_quat * turn).matrix()),
        None => (parent_quat, parent_rot),
    };
    let bar = c.body[i];
    let (mut p_bar, mut v_bar) = (bar.p, bar.v);
    // Cotangents of `quat` and `rot`.
    let (mut quat_bar, mut rot_bar) = (bar.q, bar.rot);

    // V = V_p + S q̇, A = A_p + V ×ₘ (S q̇): cotangent of S.
    let mut axis_bar = Spatial::zero();
    let mut ball_bar = [Spatial::zero(); 3];
    match link.kind {
        JointKind::Hinge | JointKind::Slide => {
            let (axis, rate) = (w.axis[link.qd], qd[link.qd]);
            v_bar += axis.scale(rate).cross_force(bar.a);
            let rate_bar = v_bar - w.body[i].v.cross_force(bar.a);
            qd_bar[link.qd] += axis.dot(rate_bar);
            axis_bar = rate_bar.scale_add(rate, c.axis[link.qd]);
        }
        JointKind::Ball => {
            let mut moved = Spatial::zero();
            let dofs = link.qd..link.qd + 3;
            for (axis, &rate) in w.axis[dofs.clone()].iter().zip(&qd[dofs]) {
                moved = axis.scale_add(rate, moved);
            }
            v_bar += moved.cross_force(bar.a);
            let rate_bar = v_bar - w.body[i].v.cross_force(bar.a);
            for (bar, k) in ball_bar.iter_mut().zip(link.qd..) {
                qd_bar[k] += w.axis[k].dot(rate_bar);
                *bar = rate_bar.scale_add(qd[k], c.axis[k]);
            }
        }
        JointKind::Free | JointKind::Fixed => {}
    }
    match link.kind {
        JointKind::Free => {
            (quat_bar, rot_bar) = (quat_bar.scale_add(S::one(), w.body[i].q.matrix_adjoint(&rot_bar)), Mat3::zero());
            let (moved, turned) = (Vec3::read(&q[link.q..]), Quat::read(&q[link.q + 3..]));
            let turned_bar;
            (quat_bar, turned_bar) = Quat::product_adjoint(quat, turned, quat_bar);
            Quat::read(&q_bar[link.q + 3..]).scale_add(S::one(), turned_bar).write(&mut q_bar[link.q + 3..]);
            rot.transpose_mul_vec_add(p_bar, Vec3::read(&q_bar[link.q..])).write(&mut q_bar[link.q..]);
            rot_bar.add_outer(p_bar, moved);
            let twist_bar = Spatial::read(&qd_bar[link.qd..]) + v_bar;
            twist_bar.write(&mut qd_bar[link.qd..]);
        }
        JointKind::Hinge => {
            quat_bar = quat_bar.scale_add(S::one(), w.body[i].q.matrix_adjoint(&rot_bar));
            let turn = Quat::about(link.axis, q[link.q]);
            let turn_bar;
            (quat_bar, turn_bar) = Quat::product_adjoint(quat, turn, quat_bar);
            // turn = (axis sin, cos) of half the angle: its derivative is (axis cos, -sin) / 2.
            let (cos, sin) = (turn.w, turn.v.dot(link.axis));
            q_bar[link.q] += S::of(0.5) * (cos * turn_bar.v.dot(link.axis) - sin * turn_bar.w);
            // S = (ang, p × ang), ang = R axis.
            let ang = w.axis[link.qd].ang;
            let at = w.body[i].p;
            p_bar += ang.cross(axis_bar.lin);
            rot_bar = Mat3::zero();
            rot_bar.add_outer(axis_bar.lin.cross_add(at, axis_bar.ang), link.axis);
        }
        JointKind::Slide => {
            // S = (0, lin), lin = R axis; p moves along it.
            let lin = w.axis[link.qd].lin;
            q_bar[link.q] += lin.dot(p_bar);
            rot_bar.add_outer(p_bar.scale_add(q[link.q], axis_bar.lin), link.axis);
        }
        JointKind::Ball => {
            quat_bar = quat_bar.scale_add(S::one(), w.body[i].q.matrix_adjoint(&rot_bar));
            let turned_bar;
            (quat_bar, turned_bar) = Quat::product_adjoint(quat, Quat::read(&q[link.q..]), quat_bar);
            Quat::read(&q_bar[link.q..]).scale_add(S::one(), turned_bar).write(&mut q_bar[link.q..]);
            // S_k = (ang, p × ang), ang = R e_k.
            let at = w.body[i].p;
            rot_bar = Mat3::zero();
            for (k, axis_bar) in ball_bar.into_iter().enumerate() {
                p_bar += w.axis[link.qd + k].ang.cross(axis_bar.lin);
                rot_bar.add_outer(axis_bar.lin.cross_add(at, axis_bar.ang), Spatial::unit(k).ang);
            }
        }
        JointKind::Fixed => {}
    }
    if let Some(turn) = link.rotation {
        quat_bar = quat_bar.scale_add(S::one(), quat.matrix_adjoint(&rot_bar)) * turn.conj();
        rot_bar = Mat3::zero();
    }
    if let Some(k) = link.parent {
        let parent = &mut c.body[k];
        parent.p += p_bar;
        parent.q = parent.q.scale_add(S::one(), quat_bar);
        parent.rot = parent.rot.add(&rot_bar);
        parent.rot.add_outer(p_bar, link.position);
        parent.v += v_bar;
        parent.a += bar.a;
    }
}
