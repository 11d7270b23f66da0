//! The stages of a step of a task: those of a substep of its robot, observation and reward.

use super::physics::check_physics;
use super::stage::{Stage, check};
use super::states::StateAction;
use crate::device::philox::Philox;
use crate::env::DflexTask;
use crate::env::dflex::clip;
use crate::env::term::{reward, reward_adjoint, squares, squares_adjoint};
use crate::sim::SimScalar;

pub use super::stage::StageError;

/// All stages at a state; `e` chooses among the random directions.
pub fn check_stages(task: &DflexTask, state: &StateAction, rng: &Philox, e: u32) -> Vec<StageError> {
    let mut action = vec![0.0; task.sizes.act];
    clip(&state.action, &mut action);
    let mut forces = vec![0.0; task.sizes.nqd];
    task.actuate(&action, &mut forces);
    let at = [&state.q[..], &state.qd, &forces];
    let mut errors = check_physics((&task.f64, &task.dual), task.substep, at, rng, e);
    let seen = [&state.q[..], &state.qd, &action].concat();
    errors.push(check::<Observation>((&task, &task), &seen, rng, e));
    let mut obs = vec![0.0; task.sizes.obs];
    task.observe_row(&state.q, &state.qd, None, &mut obs);
    errors.push(check::<Reward>((&task, &task), &[&obs[..], &state.action].concat(), rng, e));
    errors
}

struct Observation;

impl Stage for Observation {
    type At<'a, S: SimScalar> = &'a DflexTask;
    const NAME: &'static str = "observation";
    fn forward<S: SimScalar>(task: &&DflexTask, x: &[S]) -> Vec<S> {
        let (q, rest) = x.split_at(task.sizes.nq);
        let (qd, action) = rest.split_at(task.sizes.nqd);
        let mut obs = vec![S::zero(); task.sizes.obs];
        task.spec.observation.write(q, qd, action, &mut obs);
        obs
    }
    fn adjoint(task: &&DflexTask, x: &[f64], bar: &[f64]) -> Vec<f64> {
        let (q, rest) = x.split_at(task.sizes.nq);
        let (qd, action) = rest.split_at(task.sizes.nqd);
        let mut out = vec![0.0; x.len()];
        let (q_bar, rest) = out.split_at_mut(task.sizes.nq);
        let (qd_bar, action_bar) = rest.split_at_mut(task.sizes.nqd);
        task.spec.observation.adjoint(q, qd, action, bar, q_bar, qd_bar, action_bar);
        out
    }
}

/// Clip of the action and reward.
struct Reward;

impl Stage for Reward {
    type At<'a, S: SimScalar> = &'a DflexTask;
    const NAME: &'static str = "reward";
    fn forward<S: SimScalar>(task: &&DflexTask, x: &[S]) -> Vec<S> {
        let (obs, raw) = x.split_at(task.sizes.obs);
        let mut action = vec![S::zero(); raw.len()];
        clip(raw, &mut action);
        vec![reward(&task.spec.terms, |k| obs[k], squares(&action))]
    }
    fn adjoint(task: &&DflexTask, x: &[f64], bar: &[f64]) -> Vec<f64> {
        let (obs, raw) = x.split_at(task.sizes.obs);
        let mut action = vec![0.0; raw.len()];
        clip(raw, &mut action);
        let mut out = vec![0.0; x.len()];
        let (obs_bar, action_bar) = out.split_at_mut(task.sizes.obs);
        let (terms, at_end) = (&task.spec.terms, task.at_end());
        let squares_bar = reward_adjoint(terms, |k| obs[k], bar[0], at_end, obs_bar);
        squares_adjoint(&action, squares_bar, action_bar);
        task.clip_adjoint(raw, action_bar);
        out
    }
}
