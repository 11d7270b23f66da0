//! Semi-implicit Euler: velocities first, then positions with the new velocities.

use super::articulation::JointKind;
use super::model::Model;
use super::quat::Quat;
use super::vec3::Vec3;
use crate::device::Scalar;

/// Advances (q, qd) by `h` seconds under the accelerations `qdd`.
///
/// The free joint's position moves with the velocity of the body point at the torso origin, `v' + ω' × p`; its
/// quaternion, and that of a ball joint, takes a first-order step and is divided by its norm.
#[inline(always)]
pub fn integrate<S: Scalar>(model: &Model<S>, h: S, qdd: &[S], q: &mut [S], qd: &mut [S]) {
    for (rate, &acceleration) in qd[..model.velocities].iter_mut().zip(qdd) {
        *rate = acceleration.mul_add(h, *rate);
    }
    for link in &model.links {
        match link.kind {
            JointKind::Free => {
                let (omega, v) = (Vec3::read(&qd[link.qd..]), Vec3::read(&qd[link.qd + 3..]));
                let (p, r) = (Vec3::read(&q[link.q..]), Quat::read(&q[link.q + 3..]));
                omega.cross_add(p, v).scale_add(h, p).write(&mut q[link.q..]);
                turn(r, omega, h).normalised().write(&mut q[link.q + 3..]);
            }
            JointKind::Ball => {
                let (omega, r) = (Vec3::read(&qd[link.qd..]), Quat::read(&q[link.q..]));
                turn(r, omega, h).normalised().write(&mut q[link.q..]);
            }
            JointKind::Hinge | JointKind::Slide => q[link.q] = qd[link.qd].mul_add(h, q[link.q]),
            JointKind::Fixed => {}
        }
    }
}

/// `r + (h/2 ω, 0) ⊗ r`: a first-order step of the quaternion r under the angular velocity ω, not yet normalised.
#[inline(always)]
fn turn<S: Scalar>(r: Quat<S>, omega: Vec3<S>, h: S) -> Quat<S> {
    let spin = Quat { v: omega.scale(h * S::of(0.5)), w: S::zero() } * r;
    Quat { v: r.v + spin.v, w: r.w + spin.w }
}

/// Adjoint of [`turn`] and of the division by the norm: cotangents of r and of `h/2 ω` from that of the new quaternion.
#[inline(always)]
fn turn_adjoint<S: Scalar>(r: Quat<S>, omega: Vec3<S>, h: S, bar: Quat<S>) -> (Quat<S>, Vec3<S>) {
    let a = Quat { v: omega.scale(h * S::of(0.5)), w: S::zero() };
    let sum_bar = turn(r, omega, h).normalised_adjoint(bar);
    let (a_bar, turned_back) = Quat::product_adjoint(a, r, sum_bar);
    (sum_bar.scale_add(S::one(), turned_back), a_bar.v)
}

/// Adjoint of [`integrate`]: (`q_bar`, `qd_bar`) turn from cotangents of the new state into those of the old one, and
/// `qdd_bar` receives that of the accelerations. `q`, `qd` are the old state.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a state, its rates and their cotangents")]
pub fn integrate_adjoint<S: Scalar>(
    model: &Model<S>,
    h: S,
    q: &[S],
    qd: &[S],
    qdd: &[S],
    q_bar: &mut [S],
    qd_bar: &mut [S],
    qdd_bar: &mut [S],
) {
    for link in &model.links {
        let next = |k: usize| qdd[link.qd + k].mul_add(h, qd[link.qd + k]);
        match link.kind {
            JointKind::Free => {
                let omega = Vec3::new(next(0), next(1), next(2));
                let (p, r) = (Vec3::read(&q[link.q..]), Quat::read(&q[link.q + 3..]));
                let (p_bar, r_bar) = (Vec3::read(&q_bar[link.q..]), Quat::read(&q_bar[link.q + 3..]));

                // p' = p + h (v' + ω' × p)
                let moved = p_bar.scale(h);
                (p_bar + moved.cross(omega)).write(&mut q_bar[link.q..]);
                let (r_bar, half_bar) = turn_adjoint(r, omega, h, r_bar);
                r_bar.write(&mut q_bar[link.q + 3..]);
                let omega_bar = half_bar.scale_add(h * S::of(0.5), p.cross(moved));
                (Vec3::read(&qd_bar[link.qd..]) + omega_bar).write(&mut qd_bar[link.qd..]);
                (Vec3::read(&qd_bar[link.qd + 3..]) + moved).write(&mut qd_bar[link.qd + 3..]);
            }
            JointKind::Ball => {
                let omega = Vec3::new(next(0), next(1), next(2));
                let (r, r_bar) = (Quat::read(&q[link.q..]), Quat::read(&q_bar[link.q..]));
                let (r_bar, half_bar) = turn_adjoint(r, omega, h, r_bar);
                r_bar.write(&mut q_bar[link.q..]);
                half_bar.scale_add(h * S::of(0.5), Vec3::read(&qd_bar[link.qd..])).write(&mut qd_bar[link.qd..]);
            }
            JointKind::Hinge | JointKind::Slide => qd_bar[link.qd] = q_bar[link.q].mul_add(h, qd_bar[link.qd]),
            JointKind::Fixed => {}
        }
    }
    for (acceleration, &rate) in qdd_bar.iter_mut().zip(qd_bar.iter()) {
        *acceleration = rate * h;
    }
}
