//! One environment step: substeps of the dynamics, with the mass matrix built only in some of them.

use super::articulation::JointKind;
use super::contact::body_contact;
use super::inertia::body_bias;
use super::integrate::integrate;
use super::joint::joint_force;
use super::kinematics::body_kinematics;
use super::mass_matrix::{factorise, mass_matrix, solve};
use super::model::{Link, Model};
use super::number::SimScalar;
use super::vec3::Vec3;
use super::work::Work;
use crate::device::Scalar;

pub use crate::config::ReferencePoint;

/// How time is cut up.
#[derive(Clone, Copy, Debug)]
pub struct Timing<S> {
    /// Substep (s).
    pub h: S,
    pub substeps: usize,
    /// The mass matrix is rebuilt in substeps whose number is a multiple of this.
    pub mass_matrix_every: usize,
    pub reference_point: ReferencePoint,
}

/// Kinematics, bias, contacts and joint forces of one substep: everything up to τ.
#[inline(always)]
pub fn forces<S: SimScalar, const B: usize, const D: usize>(
    model: &Model<S>,
    q: &[S],
    qd: &[S],
    actuation: &[S],
    ground: S,
    w: &mut Work<S, B, D>,
) {
    for i in 0..model.links.len() {
        body_kinematics(model, i, q, qd, w);
        body_bias(model, i, w);
        body_contact(model, i, ground, w);
    }
    for i in (0..model.links.len()).rev() {
        joint_force(model, i, q, qd, actuation, w);
    }
}

/// Accelerations of one substep into `w.qdd`; `rebuild` the factor of the mass matrix or take the one in `w`.
#[inline(always)]
pub fn accelerations<S: SimScalar, const B: usize, const D: usize>(
    model: &Model<S>,
    q: &[S],
    qd: &[S],
    actuation: &[S],
    ground: S,
    rebuild: bool,
    w: &mut Work<S, B, D>,
) {
    forces(model, q, qd, actuation, ground, w);
    if rebuild {
        mass_matrix(model, w);
        factorise(model, w);
    }
    w.qdd = w.tau;
    solve(model, &w.factor, &w.pivot, &mut w.qdd);
}

/// Moves the state so that `origin` becomes the reference point: `p <- p - origin`, `v <- v + ω × origin`.
#[inline(always)]
pub fn shift_state<S: Scalar>(model: &Model<S>, origin: Vec3<S>, q: &mut [S], qd: &mut [S]) {
    for link in model.links.iter().filter(|l| l.kind == JointKind::Free) {
        let (omega, v) = (Vec3::read(&qd[link.qd..]), Vec3::read(&qd[link.qd + 3..]));
        omega.cross_add_exact(origin, v).write(&mut qd[link.qd + 3..]);
        (Vec3::read(&q[link.q..]) - origin).write(&mut q[link.q..]);
    }
}

/// The reference point of an environment step that begins with the coordinates `q`.
#[inline(always)]
pub(super) fn origin<S: Scalar>(model: &Model<S>, timing: &Timing<S>, q: &[S]) -> Vec3<S> {
    match moving_root(model, timing) {
        Some(link) => Vec3::read(&q[link.q..]),
        None => Vec3::zero(),
    }
}

/// The first body, if the reference point goes with it: when every root is free. A robot that is fixed to the world
/// stays near its base: nothing to gain there.
#[inline(always)]
pub(super) fn moving_root<'a, S: Scalar>(model: &'a Model<S>, timing: &Timing<S>) -> Option<&'a Link<S>> {
    let mut roots = model.links.iter().filter(|l| l.parent.is_none());
    let moves = timing.reference_point == ReferencePoint::Torso && roots.all(|l| l.kind == JointKind::Free);
    model.links.first().filter(|_| moves)
}

/// The coordinate along which the reference point goes with a robot that slides: see [`Model::rail`].
#[inline(always)]
pub(super) fn sliding<S: Scalar>(model: &Model<S>, timing: &Timing<S>) -> Option<usize> {
    model.rail.filter(|_| timing.reference_point == ReferencePoint::Torso)
}

/// Takes how far the robot has slid out of its coordinates: nothing depends on it, but far away it rounds all
/// positions.
#[inline(always)]
pub(super) fn off_rail<S: Scalar>(model: &Model<S>, timing: &Timing<S>, q: &mut [S]) -> Option<(usize, S)> {
    sliding(model, timing).map(|at| (at, std::mem::replace(&mut q[at], S::zero())))
}

/// Puts it back.
#[inline(always)]
pub(super) fn on_rail<S: Scalar>(slid: Option<(usize, S)>, q: &mut [S]) {
    if let Some((at, far)) = slid {
        q[at] += far;
    }
}

/// Advances (q, qd) by `timing.substeps` substeps under the constant `actuation` (per dof).
#[inline(always)]
pub fn step<S: SimScalar, const B: usize, const D: usize>(
    model: &Model<S>,
    timing: &Timing<S>,
    q: &mut [S],
    qd: &mut [S],
    actuation: &[S],
    w: &mut Work<S, B, D>,
) {
    let origin = origin(model, timing, q);
    shift_state(model, origin, q, qd);
    let slid = off_rail(model, timing, q);
    for substep in 0..timing.substeps {
        let rebuild = substep % timing.mass_matrix_every == 0;
        accelerations(model, q, qd, actuation, -origin.y, rebuild, w);
        integrate(model, timing.h, &w.qdd, q, qd);
    }
    on_rail(slid, q);
    shift_state(model, -origin, q, qd);
}
