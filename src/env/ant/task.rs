//! Observation, reward and termination of the Ant.
//!
//! | obs | content |
//! |---|---|
//! | 0 | torso height |
//! | 1-4 | torso quaternion, raw |
//! | 5-7 | velocity of the torso origin, world axes |
//! | 8-10 | angular velocity, world axes |
//! | 11-18 | hinge angles |
//! | 19-26 | hinge velocities, scaled |
//! | 27, 28 | upright, heading: cosines |
//! | 29-36 | clipped action, or zeros |
//!
//! The reward of a step is that of the observation *before* it, so the step's own action moves only later rewards.

use super::{ACT, ACTION_SCALE, Ant, BODIES, NQ, NQD, OBS, SUBSTEPS};
use crate::device::{Real, Scalar};
use crate::sim::adjoint::kept_per_substep;
use crate::sim::{Cotangents, Mat3, Model, Number, Quat, Vec3, Work, step, step_adjoint, step_keeping};

/// The observation entries that the reward reads: forward velocity, upright, heading, height.
pub const REWARD_ENTRIES: [usize; 4] = [5, 27, 28, 0];

/// The action cut to [-1, 1]; the end points belong to the inside, and so does their derivative.
#[inline(always)]
pub fn clip<S: Scalar>(action: &[S; ACT]) -> [S; ACT] {
    let (low, high) = (-S::one(), S::one());
    action.map(
        #[inline(always)]
        |a| S::select(a.lt(low), low, S::select(high.lt(a), high, a)),
    )
}

/// Observation of a state; `action` is the clipped action that led to it (zeros after a reset).
#[inline(always)]
pub fn observe<S: Scalar>(ant: &Ant, q: &[S; NQ], qd: &[S; NQD], action: &[S; ACT]) -> [S; OBS] {
    let mut obs = [S::zero(); OBS];
    let (p, torso) = (Vec3::read(q), Quat::read(&q[3..]));
    let (omega, v) = (Vec3::read(qd), Vec3::read(&qd[3..]));
    obs[0] = p.y;
    torso.write(&mut obs[1..]);
    omega.cross_add_exact(p, v).write(&mut obs[5..]);
    omega.write(&mut obs[8..]);
    obs[11..19].copy_from_slice(&q[7..]);
    let scaling = S::of(ant.settings.joint_vel_obs_scaling);
    for k in 0..8 {
        obs[19 + k] = scaling * qd[6 + k];
    }
    let start = Quat::of([super::START_Q[3], super::START_Q[4], super::START_Q[5], super::START_Q[6]]);
    let turned = (torso * start.conj()).matrix();
    obs[27] = turned.0[1].y;
    let target = Vec3::new(S::of(1e4) - p.x, S::zero(), -p.z);
    obs[28] = turned.column(0).dot(target) / target.norm().max(S::of(1e-9));
    if ant.settings.action_in_obs {
        obs[29..].copy_from_slice(action);
    }
    obs
}

/// Reward of the [`REWARD_ENTRIES`] of an observation under a clipped action.
#[inline(always)]
pub fn reward<S: Scalar>(ant: &Ant, entries: [S; 4], action: &[S; ACT]) -> S {
    let s = &ant.settings;
    let [forward, up, heading, height] = entries;
    let mut squares = S::zero();
    for &a in action {
        squares = a.mul_add(a, squares);
    }
    forward
        + S::of(s.up_rew_scale) * up
        + heading
        + (height - S::of(s.termination_height))
        + S::of(s.action_penalty) * squares
}

/// Hinge torques of a clipped action, one number a dof [N m].
#[inline(always)]
pub fn actuation<S: Scalar>(action: &[S; ACT]) -> [S; NQD] {
    let mut u = [S::zero(); NQD];
    for k in 0..ACT {
        u[6 + k] = action[k] * S::of(ACTION_SCALE);
    }
    u
}

/// One environment step: advances (q, qd) and returns the next observation and the reward.
#[inline(always)]
pub fn env_step<S: Number>(
    ant: &Ant,
    model: &Model<S>,
    q: &mut [S; NQ],
    qd: &mut [S; NQD],
    entries: [S; 4],
    action: &[S; ACT],
) -> ([S; OBS], S) {
    let action = clip(action);
    let actuation = actuation(&action);
    let mut work = Work::<S, BODIES, NQD>::new(model);
    step(model, &ant.timing(), q, qd, &actuation, &mut work);
    (observe(ant, q, qd, &action), reward(ant, entries, &action))
}

/// Adjoint of [`clip`]: the end points pass their cotangent on, or half of it.
#[inline(always)]
pub fn clip_adjoint<S: Scalar>(ant: &Ant, action: &[S; ACT], bar: &[S; ACT]) -> [S; ACT] {
    let at_end = S::one() - ant.settings.subgradient.kinks::<S>().tie;
    let mut out = [S::zero(); ACT];
    for k in 0..ACT {
        let size = action[k].abs();
        let end = S::select(size.le(S::one()), at_end * bar[k], S::zero());
        out[k] = S::select(size.lt(S::one()), bar[k], end);
    }
    out
}

/// Adjoint of [`observe`]: adds to the cotangents of state and clipped action.
#[inline(always)]
pub fn observe_adjoint<S: Scalar>(
    ant: &Ant,
    q: &[S; NQ],
    qd: &[S; NQD],
    bar: &[S; OBS],
    q_bar: &mut [S; NQ],
    qd_bar: &mut [S; NQD],
    action_bar: &mut [S; ACT],
) {
    let (p, torso, omega) = (Vec3::read(q), Quat::read(&q[3..]), Vec3::read(qd));
    let velocity = Vec3::read(&bar[5..]);
    // v + ω × p
    (Vec3::read(&qd_bar[3..]) + velocity).write(&mut qd_bar[3..]);
    (Vec3::read(&*qd_bar) + Vec3::read(&bar[8..]) + p.cross(velocity)).write(qd_bar);
    let mut p_bar = velocity.cross(omega);
    p_bar.y += bar[0];
    let scaling = S::of(ant.settings.joint_vel_obs_scaling);
    for k in 0..8 {
        q_bar[7 + k] += bar[11 + k];
        qd_bar[6 + k] = scaling.mul_add(bar[19 + k], qd_bar[6 + k]);
    }
    let start = Quat::of([super::START_Q[3], super::START_Q[4], super::START_Q[5], super::START_Q[6]]);
    let turned = torso * start.conj();
    let target = Vec3::new(S::of(1e4) - p.x, S::zero(), -p.z);
    // heading = x·t / max(|t|, ε), x the first column of the turned matrix.
    let (norm, x) = (target.norm(), turned.matrix().column(0));
    let far = S::of(1e-9).lt(norm);
    let inverse = S::one() / S::select(far, norm, S::of(1e-9));
    let (unit, pull) = (target.scale(inverse), bar[28]);
    let column = unit.scale(pull);
    let along = S::select(far, x.dot(unit), S::zero());
    let target_bar = (x - unit.scale(along)).scale(pull * inverse);
    p_bar.x -= target_bar.x;
    p_bar.z -= target_bar.z;
    let z = S::zero();
    let matrix = Mat3([Vec3::new(column.x, z, z), Vec3::new(column.y, bar[27], z), Vec3::new(column.z, z, z)]);
    let torso_bar = turned.matrix_adjoint(&matrix) * start;
    let torso_bar = torso_bar.scale_add(S::one(), Quat::read(&bar[1..]));
    Quat::read(&q_bar[3..]).scale_add(S::one(), torso_bar).write(&mut q_bar[3..]);
    (Vec3::read(&*q_bar) + p_bar).write(q_bar);
    if ant.settings.action_in_obs {
        for k in 0..ACT {
            action_bar[k] += bar[29 + k];
        }
    }
}

/// Adjoint of [`reward`]: cotangents of its entries, and an addition to that of the clipped action.
#[inline(always)]
pub fn reward_adjoint<S: Scalar>(ant: &Ant, action: &[S; ACT], bar: S, action_bar: &mut [S; ACT]) -> [S; 4] {
    let s = &ant.settings;
    let twice = S::of(2.0 * s.action_penalty) * bar;
    for k in 0..ACT {
        action_bar[k] = twice.mul_add(action[k], action_bar[k]);
    }
    [bar, S::of(s.up_rew_scale) * bar, bar, bar]
}

/// What the adjoint of [`env_step`] gives.
#[derive(Clone, Copy, Debug)]
pub struct StepCotangents<S> {
    pub q: [S; NQ],
    pub qd: [S; NQD],
    /// Of the [`REWARD_ENTRIES`] of the observation before the step.
    pub entries: [S; 4],
    /// Of the raw action.
    pub action: [S; ACT],
}

/// Adjoint of [`env_step`] at the state (q, qd) *before* the step, from the cotangents of the state after it, of its
/// observation and of the reward.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a step's operands and the cotangents of its results")]
pub fn env_step_adjoint<S: Number>(
    ant: &Ant,
    model: &Model<S>,
    q: &[S; NQ],
    qd: &[S; NQD],
    raw: &[S; ACT],
    (mut q_bar, mut qd_bar): ([S; NQ], [S; NQD]),
    obs_bar: &[S; OBS],
    reward_bar: S,
) -> StepCotangents<S> {
    let action = clip(raw);
    let mut action_bar = [S::zero(); ACT];
    let entries = reward_adjoint(ant, &action, reward_bar, &mut action_bar);
    let (timing, actuation) = (ant.timing(), actuation(&action));
    let mut work = Work::<S, BODIES, NQD>::new(model);
    let mut kept = [S::zero(); KEPT];
    let (mut next_q, mut next_qd) = (*q, *qd);
    step_keeping(model, &timing, &mut next_q, &mut next_qd, &actuation, &mut work, &mut kept);
    observe_adjoint(ant, &next_q, &next_qd, obs_bar, &mut q_bar, &mut qd_bar, &mut action_bar);
    let (mut cotangents, mut actuation_bar) = (Cotangents::zero(), [S::zero(); NQD]);
    step_adjoint(
        model,
        &timing,
        q,
        qd,
        &actuation,
        &mut q_bar,
        &mut qd_bar,
        &mut actuation_bar,
        &mut work,
        &mut cotangents,
        &kept,
    );
    for k in 0..ACT {
        action_bar[k] = actuation_bar[6 + k].mul_add(S::of(ACTION_SCALE), action_bar[k]);
    }
    StepCotangents { q: q_bar, qd: qd_bar, entries, action: clip_adjoint(ant, raw, &action_bar) }
}

/// Numbers of scratch memory of [`env_step_adjoint`].
const KEPT: usize = SUBSTEPS * kept_per_substep(NQ, NQD);

/// Observation of one row; `action` is the raw action that led to the state, or zeros.
pub fn observe_row<R: Real>(ant: &Ant, q: &[R], qd: &[R], action: &[R], obs: &mut [R]) {
    let (q, qd, action) = (row::<R, NQ>(q), row::<R, NQD>(qd), row::<R, ACT>(action));
    obs.copy_from_slice(&observe(ant, &q, &qd, &clip(&action)));
}

/// Whether an observation ends the episode.
pub fn is_terminal<R: Real>(ant: &Ant, obs: &[R]) -> bool {
    ant.settings.early_termination && obs[0] < R::of(ant.settings.termination_height)
}

/// The first `N` numbers of a row.
#[inline(always)]
pub(super) fn row<R: Copy + Default, const N: usize>(slice: &[R]) -> [R; N] {
    let mut a = [R::default(); N];
    a.copy_from_slice(&slice[..N]);
    a
}
