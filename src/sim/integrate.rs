//! Semi-implicit Euler: velocities first, then positions with the new velocities.

use super::articulation::JointKind;
use super::model::Model;
use super::quat::Quat;
use super::vec3::Vec3;
use crate::device::Scalar;

/// Advances (q, qd) by `h` seconds under the accelerations `qdd`.
///
/// The free joint's position moves with the velocity of the body point at the torso origin, `v' + ω' × p`; its quaternion
/// takes a first-order step and is divided by its norm.
#[inline(always)]
pub fn integrate<S: Scalar>(model: &Model<S>, h: S, qdd: &[S], q: &mut [S], qd: &mut [S]) {
    for (rate, &acceleration) in qd.iter_mut().zip(qdd) {
        *rate = acceleration.mul_add(h, *rate);
    }
    for link in &model.links {
        match link.kind {
            JointKind::Free => {
                let (omega, v) = (Vec3::read(&qd[link.qd..]), Vec3::read(&qd[link.qd + 3..]));
                let (p, r) = (Vec3::read(&q[link.q..]), Quat::read(&q[link.q + 3..]));
                omega.cross_add(p, v).scale_add(h, p).write(&mut q[link.q..]);
                let spin = Quat { v: omega.scale(h * S::of(0.5)), w: S::zero() } * r;
                Quat { v: r.v + spin.v, w: r.w + spin.w }.normalised().write(&mut q[link.q + 3..]);
            }
            JointKind::Hinge | JointKind::Slide => q[link.q] = qd[link.qd].mul_add(h, q[link.q]),
            JointKind::Fixed => {}
        }
    }
}
