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

use super::{ACT, ACTION_SCALE, Ant, BODIES, NQ, NQD, OBS};
use crate::device::{Real, Scalar};
use crate::sim::{Model, Number, Quat, Vec3, Work, step};

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
    let mut actuation = [S::zero(); NQD];
    for k in 0..ACT {
        actuation[6 + k] = action[k] * S::of(ACTION_SCALE);
    }
    let mut work = Work::<S, BODIES, NQD>::new(model);
    step(model, &ant.timing(), q, qd, &actuation, &mut work);
    (observe(ant, q, qd, &action), reward(ant, entries, &action))
}

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
