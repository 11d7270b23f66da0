//! A step of time: the acceleration of a state, and the state after it.

use super::force::{add_forces, drag};
use super::law::{Integrator, Law, View};
use super::mass::mass_matrix;
use super::rows::{Rows, make_rows};
use super::solve::{Lower, Solved, solve};
use crate::sim::articulation::JointKind;
use crate::sim::inertia::body_bias;
use crate::sim::joint::joint_force;
use crate::sim::kinematics::body_kinematics;
use crate::sim::mass_matrix::{eliminate, solve as solve_sparse};
use crate::sim::number::SimScalar;
use crate::sim::quat::Quat;
use crate::sim::vec3::Vec3;
use crate::sim::work::Work;

/// Intermediate quantities of a step, with room for `B` links, `D` dofs and `R` rows.
#[derive(Clone, Copy, Debug)]
pub struct Scratch<S, const B: usize, const D: usize, const R: usize> {
    /// Links, seen from `far`: see [`View`].
    pub work: Work<S, B, D>,
    pub far: Vec3<S>,
    /// Mass matrix with armature (kg, kg m, kg m²).
    pub mass: Lower<S, D>,
    /// Forces without constraints [N or N m], and the acceleration under them [m/s² or rad/s²].
    pub smooth: [S; D],
    pub unconstrained: [S; D],
    pub rows: Rows<S, D, R>,
    /// What each row pushes with, and that as generalised forces.
    pub row_force: [S; R],
    pub constraint: [S; D],
    pub acceleration: [S; D],
    pub solved: Solved<S>,
    shortfalls: [[S; R]; 2],
}

impl<S: SimScalar, const B: usize, const D: usize, const R: usize> Scratch<S, B, D, R> {
    /// What `work` holds, as seen.
    #[inline(always)]
    pub fn view(&self) -> View<'_, S, B, D> {
        View { work: &self.work, far: self.far }
    }

    /// # Panics
    /// If the robot is larger.
    #[inline(always)]
    pub fn new(law: &Law<S>) -> Self {
        assert!(law.most_rows() <= R, "{} rows, room for {R}", law.most_rows());
        let zeros = [S::zero(); D];
        Self {
            work: Work::new(&law.model),
            far: Vec3::zero(),
            mass: [zeros; D],
            smooth: zeros,
            unconstrained: zeros,
            rows: Rows::new(),
            row_force: [S::zero(); R],
            constraint: zeros,
            acceleration: zeros,
            solved: Solved { steps: S::zero(), capped: S::zero() },
            shortfalls: [[S::zero(); R]; 2],
        }
    }
}

/// Bodies, forces and mass matrix of the state (q, qd) under `control`.
#[inline(always)]
fn smooth<S: SimScalar, const B: usize, const D: usize, const R: usize>(
    law: &Law<S>,
    q: &[S],
    qd: &[S],
    control: &[S],
    s: &mut Scratch<S, B, D, R>,
) {
    let model = &law.model;
    let w = &mut s.work;
    s.far = law.far(q);
    let near = law.near(q);
    for i in 0..model.links.len() {
        body_kinematics(model, i, &near, qd, w);
        body_bias(model, i, w);
    }
    for d in &law.drags {
        let wrench = drag(d, w);
        let f = &mut w.body[d.link].f;
        *f = *f - wrench;
    }
    let mut forces = [S::zero(); D];
    add_forces(law, q, control, View { work: w, far: s.far }, &mut forces);
    for i in (0..model.links.len()).rev() {
        joint_force(model, i, q, qd, &forces, w);
    }
    s.smooth = w.tau;
    mass_matrix(model, w, &mut s.mass);
}

/// `x <- (M + diag(extra))⁻¹ x`.
#[inline(always)]
fn accelerate<S: SimScalar, const B: usize, const D: usize>(
    law: &Law<S>,
    mass: &Lower<S, D>,
    extra: Option<&[S]>,
    x: &mut [S; D],
    w: &mut Work<S, B, D>,
) {
    let model = &law.model;
    for row in 0..model.velocities {
        w.factor[row][row] = mass[row][row];
        for &column in model.ancestors(row) {
            w.factor[row][column] = mass[row][column];
        }
        if let Some(extra) = extra {
            w.factor[row][row] += extra[row];
        }
    }
    eliminate(model, w);
    solve_sparse(model, &w.factor, &w.pivot, x);
}

/// The acceleration of the state `q` (coordinates), `qd` (velocities) under `control` (one number for each actuator), and
/// all that leads to it, into `s`.
#[inline(always)]
pub fn forward<S: SimScalar, const B: usize, const D: usize, const R: usize>(
    law: &Law<S>,
    q: &[S],
    qd: &[S],
    control: &[S],
    s: &mut Scratch<S, B, D, R>,
) {
    smooth(law, q, qd, control, s);
    s.unconstrained = s.smooth;
    accelerate(law, &s.mass, None, &mut s.unconstrained, &mut s.work);
    s.acceleration = s.unconstrained;
    make_rows(law, q, qd, View { work: &s.work, far: s.far }, &mut s.rows);
    let n = law.model.velocities;
    s.constraint = [S::zero(); D];
    s.solved = Solved { steps: S::zero(), capped: S::zero() };
    if s.rows.len == 0 {
        return;
    }
    s.solved = solve(n, &s.mass, &s.rows, &mut s.acceleration, &mut s.row_force, &mut s.shortfalls);
    for row in 0..s.rows.len {
        for (to, &j) in s.constraint[..n].iter_mut().zip(&s.rows.jacobian[row]) {
            *to = j.mul_add(s.row_force[row], *to);
        }
    }
}

/// `q <- q ⊕ h v`.
#[inline(always)]
fn advance<S: SimScalar>(law: &Law<S>, h: S, v: &[S], q: &mut [S]) {
    for link in &law.model.links {
        match link.kind {
            JointKind::Hinge | JointKind::Slide => q[link.q] = v[link.qd].mul_add(h, q[link.q]),
            JointKind::Ball => {
                let rate = Vec3::read(&v[link.qd..]);
                let speed = rate.norm();
                let (sin, cos) = (speed * h * S::of(0.5)).sin_cos();
                let rests = speed.lt(S::of(1e-15));
                let share = S::select(rests, S::zero(), sin / S::select(rests, S::one(), speed));
                let turn = Quat { v: rate.scale(share), w: cos };
                (turn * Quat::read(&q[link.q..])).normalised().write(&mut q[link.q..]);
            }
            // Free joints are slides and a ball.
            JointKind::Free | JointKind::Fixed => {}
        }
    }
}

/// Advances `q` (coordinates) and `qd` (velocities) by one time step under `control`, one number for each actuator.
#[inline(always)]
pub fn step<S: SimScalar, const B: usize, const D: usize, const R: usize>(
    law: &Law<S>,
    q: &mut [S],
    qd: &mut [S],
    control: &[S],
    s: &mut Scratch<S, B, D, R>,
) {
    match law.integrator {
        Integrator::RungeKutta4 => runge_kutta(law, q, qd, control, s),
        _ => euler(law, q, qd, control, s),
    }
}

/// Semi-implicit Euler; damping of joints is that of the end of the step.
#[inline(always)]
fn euler<S: SimScalar, const B: usize, const D: usize, const R: usize>(
    law: &Law<S>,
    q: &mut [S],
    qd: &mut [S],
    control: &[S],
    s: &mut Scratch<S, B, D, R>,
) {
    forward(law, q, qd, control, s);
    advance_under(law, q, qd, s);
}

/// The second half of a step by Euler's method: advances the state under the forces that `s` holds, wherever they come
/// from.
#[inline(always)]
pub fn advance_under<S: SimScalar, const B: usize, const D: usize, const R: usize>(
    law: &Law<S>,
    q: &mut [S],
    qd: &mut [S],
    s: &mut Scratch<S, B, D, R>,
) {
    let n = law.model.velocities;
    let mut a = s.acceleration;
    if let Some(damping) = &law.implicit {
        a = s.smooth;
        for (x, &f) in a[..n].iter_mut().zip(&s.constraint) {
            *x += f;
        }
        accelerate(law, &s.mass, Some(damping), &mut a, &mut s.work);
    }
    for (rate, &a) in qd[..n].iter_mut().zip(&a) {
        *rate = a.mul_add(law.timestep, *rate);
    }
    advance(law, law.timestep, qd, q);
}

/// The classical method of fourth order; constraints are made and solved anew at each of its four stages.
#[inline(always)]
fn runge_kutta<S: SimScalar, const B: usize, const D: usize, const R: usize>(
    law: &Law<S>,
    q: &mut [S],
    qd: &mut [S],
    control: &[S],
    s: &mut Scratch<S, B, D, R>,
) {
    let (n, h) = (law.model.velocities, law.timestep);
    let (mut rate, mut rate_sum, mut a_sum) = ([S::zero(); D], [S::zero(); D], [S::zero(); D]);
    rate[..n].copy_from_slice(&qd[..n]);
    // Hinges and slides alone: coordinates and velocities go side by side.
    let mut at = [S::zero(); D];
    at[..n].copy_from_slice(&q[..n]);
    for (reach, weight) in [(0.5, 1.0), (0.5, 2.0), (1.0, 2.0), (0.0, 1.0)] {
        forward(law, &at, &rate, control, s);
        let (reach, weight) = (S::of(reach) * h, S::of(weight));
        for i in 0..n {
            rate_sum[i] = rate[i].mul_add(weight, rate_sum[i]);
            a_sum[i] = s.acceleration[i].mul_add(weight, a_sum[i]);
            at[i] = rate[i].mul_add(reach, q[i]);
            rate[i] = s.acceleration[i].mul_add(reach, qd[i]);
        }
    }
    let sixth = h / S::of(6.0);
    for i in 0..n {
        q[i] = rate_sum[i].mul_add(sixth, q[i]);
        qd[i] = a_sum[i].mul_add(sixth, qd[i]);
    }
}
