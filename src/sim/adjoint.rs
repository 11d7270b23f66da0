//! Reverse mode of an environment step: exact derivative of the discrete algorithm, stage by stage.
//!
//! The adjoint of each stage stands beside the stage. Here is their order, and what is kept: the state and the
//! accelerations of every substep, in memory that the caller lends; all else is computed again. A mass matrix that
//! several substeps share collects its cotangent from all of them and sends it back in the substep that built it.
//!
//! Sub-gradients: [`super::subgradient`]. docs/MATH.md derives the formulas.

use super::articulation::JointKind;
use super::contact::body_contact_adjoint;
use super::inertia::body_bias_adjoint;
use super::integrate::{integrate, integrate_adjoint};
use super::joint::joint_force_adjoint;
use super::kinematics::body_kinematics_adjoint;
use super::mass_matrix::{factorise, mass_matrix, mass_matrix_adjoint, solve_adjoint};
use super::model::Model;
use super::number::SimScalar;
use super::step::{Timing, accelerations, forces, moving_root, off_rail, on_rail, origin, shift_state, sliding};
use super::vec3::Vec3;
use super::work::{Cotangents, Work};

/// Numbers that [`step_adjoint`] keeps a substep: q, qd and q̈.
pub const fn kept_per_substep(coordinates: usize, velocities: usize) -> usize {
    coordinates + 2 * velocities
}

/// Cotangents of the state before one substep (q, qd, in place of those after it) and of its actuation, which is added
/// to. `w` holds the forces, accelerations and the factor of this substep. With `rebuilt` it built its mass matrix.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a state and its cotangents")]
pub fn substep_adjoint<S: SimScalar, const B: usize, const D: usize>(
    model: &Model<S>,
    h: S,
    q: &[S],
    qd: &[S],
    ground: S,
    rebuilt: bool,
    w: &Work<S, B, D>,
    c: &mut Cotangents<S, B, D>,
    q_bar: &mut [S],
    qd_bar: &mut [S],
    actuation_bar: &mut [S],
) {
    integrate_adjoint(model, h, q, qd, &w.qdd, q_bar, qd_bar, &mut c.tau);
    solve_adjoint(model, &w.factor, &w.pivot, &w.qdd, &mut c.tau, &mut c.mass);
    for i in 0..model.links.len() {
        joint_force_adjoint(model, i, q, w, c, q_bar, qd_bar, actuation_bar);
    }
    if rebuilt {
        mass_matrix_adjoint(model, w, c);
    }
    for i in (0..model.links.len()).rev() {
        body_contact_adjoint(model, i, ground, w, c);
        body_bias_adjoint(model, i, w, c);
        body_kinematics_adjoint(model, i, q, qd, w, c, q_bar, qd_bar);
    }
}

/// [`super::step()`] once more, keeping the state and the accelerations of every substep in `kept`, which has room for
/// `timing.substeps` times [`kept_per_substep`] numbers. `w` is left as the last substep had it.
///
/// # Panics
/// If `kept` is too short.
#[inline(always)]
pub fn step_keeping<S: SimScalar, const B: usize, const D: usize>(
    model: &Model<S>,
    timing: &Timing<S>,
    q: &mut [S],
    qd: &mut [S],
    actuation: &[S],
    w: &mut Work<S, B, D>,
    kept: &mut [S],
) {
    let (nq, nd) = (model.coordinates, model.velocities);
    let size = kept_per_substep(nq, nd);
    let origin = origin(model, timing, q);
    shift_state(model, origin, q, qd);
    let slid = off_rail(model, timing, q);
    for (s, kept) in kept[..timing.substeps * size].chunks_exact_mut(size).enumerate() {
        accelerations(model, q, qd, actuation, -origin.y, s % timing.mass_matrix_every == 0, w);
        kept[..nq].copy_from_slice(&q[..nq]);
        kept[nq..nq + nd].copy_from_slice(&qd[..nd]);
        kept[nq + nd..].copy_from_slice(&w.qdd[..nd]);
        integrate(model, timing.h, &w.qdd, q, qd);
    }
    on_rail(slid, q);
    shift_state(model, -origin, q, qd);
}

/// Adjoint of [`super::step()`]: (`q_bar`, `qd_bar`) turn from cotangents of the state after the step into those of the
/// state (q, qd) before it; that of `actuation` is added to `actuation_bar`. [`step_keeping`] filled `w` and `kept`.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a state, its cotangents and scratch memory")]
pub fn step_adjoint<S: SimScalar, const B: usize, const D: usize>(
    model: &Model<S>,
    timing: &Timing<S>,
    q: &[S],
    qd: &[S],
    actuation: &[S],
    q_bar: &mut [S],
    qd_bar: &mut [S],
    actuation_bar: &mut [S],
    w: &mut Work<S, B, D>,
    c: &mut Cotangents<S, B, D>,
    kept: &[S],
) {
    let (nq, nd) = (model.coordinates, model.velocities);
    let (n, every) = (timing.substeps, timing.mass_matrix_every);
    let size = kept_per_substep(nq, nd);
    let origin = origin(model, timing, q);
    let ground = -origin.y;

    *c = Cotangents::zero();
    // How far the robot had slid comes out as it went in, and nothing else depends on it.
    let slid_bar = sliding(model, timing).map(|at| (at, q_bar[at]));
    let root = moving_root(model, timing);
    // Sums begin at minus zero, which changes no number that is added: +0 would turn a -0 into +0.
    let mut origin_bar = -Vec3::zero();
    if root.is_some() {
        // p' = p₁' + o, v' = v₁' - ω' × o, with ω' of the state after the last substep.
        let last = &kept[(n - 1) * size..];
        for link in model.links.iter().filter(|l| l.kind == JointKind::Free) {
            let next = |k: usize| last[nq + nd + link.qd + k].mul_add(timing.h, last[nq + link.qd + k]);
            let omega = Vec3::new(next(0), next(1), next(2));
            let v_bar = Vec3::read(&qd_bar[link.qd + 3..]);
            origin_bar += Vec3::read(&q_bar[link.q..]) + omega.cross(v_bar);
            (Vec3::read(&qd_bar[link.qd..]) - origin.cross(v_bar)).write(&mut qd_bar[link.qd..]);
        }
    }
    // The work of the last substep is still there, and with it the last factor.
    let (mut at, mut factor_of) = (n - 1, (n - 1) - (n - 1) % every);
    for s in (0..n).rev() {
        let state = |s: usize| kept[s * size..(s + 1) * size].split_at(nq);
        let first = s - s % every;
        let rebuild = first != factor_of;
        // Where the factor comes from first, if that is another substep, then this one.
        for of in [first, s].into_iter().skip(usize::from(!rebuild || first == s)) {
            let (q, rates) = state(of);
            let (qd, qdd) = rates.split_at(nd);
            if of != at {
                forces(model, q, qd, actuation, ground, w);
                w.qdd[..nd].copy_from_slice(qdd);
                at = of;
            }
            if rebuild && of == first {
                mass_matrix(model, w);
                factorise(model, w);
            }
        }
        factor_of = first;
        let (q, rates) = state(s);
        substep_adjoint(model, timing.h, q, &rates[..nd], ground, first == s, w, c, q_bar, qd_bar, actuation_bar);
    }
    if let Some(link) = root {
        // p₁ = p - o, v₁ = v + ω × o, the ground at -o_y, and o = p of the root: the cotangent of its p₁ drops out.
        for free in model.links.iter().filter(|l| l.kind == JointKind::Free) {
            let v_bar = Vec3::read(&qd_bar[free.qd + 3..]);
            let omega = Vec3::read(&qd[free.qd..]);
            (Vec3::read(&qd_bar[free.qd..]) + origin.cross(v_bar)).write(&mut qd_bar[free.qd..]);
            origin_bar += v_bar.cross(omega);
            if free.q != link.q {
                origin_bar -= Vec3::read(&q_bar[free.q..]);
            }
        }
        origin_bar.y -= c.ground;
        origin_bar.write(&mut q_bar[link.q..]);
    }
    if let Some((at, bar)) = slid_bar {
        q_bar[at] = bar;
    }
}
