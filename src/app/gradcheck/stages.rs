//! The stages of a step of the Ant: those of a substep of its body, observation and reward.

use super::physics::check_physics;
use super::stage::{Stage, check};
use super::states::State;
use crate::device::philox::Philox;
use crate::env::ant::task::{
    REWARD_ENTRIES, actuation, clip, clip_adjoint, observe, observe_adjoint, reward, reward_adjoint,
};
use crate::env::ant::{ACT, Ant, DT, NQ, NQD, OBS, SUBSTEPS};
use crate::sim::Number;

pub use super::stage::StageError;

/// All stages at a state; `e` chooses among the random directions.
pub fn check_stages(ant: &Ant, state: &State, rng: &Philox, e: u32) -> Vec<StageError> {
    let action = clip(&state.action);
    let at = [&state.q[..], &state.qd, &actuation(&action)];
    let mut errors = check_physics((&ant.f64, &ant.dual), DT / SUBSTEPS as f64, at, rng, e);
    let seen = [&state.q[..], &state.qd, &action].concat();
    errors.push(check::<Observation>((&ant, &ant), &seen, rng, e));
    let obs = observe(ant, &state.q, &state.qd, &[0.0; ACT]);
    let rewarded: Vec<f64> = REWARD_ENTRIES.map(|k| obs[k]).into_iter().chain(state.action).collect();
    errors.push(check::<Reward>((&ant, &ant), &rewarded, rng, e));
    errors
}

/// The first `N` numbers.
fn first<S: Copy, const N: usize>(x: &[S]) -> [S; N] {
    std::array::from_fn(|k| x[k])
}

struct Observation;

impl Stage for Observation {
    type At<'a, S: Number> = &'a Ant;
    const NAME: &'static str = "observation";
    fn forward<S: Number>(ant: &&Ant, x: &[S]) -> Vec<S> {
        observe(ant, &first(x), &first(&x[NQ..]), &first(&x[NQ + NQD..])).to_vec()
    }
    fn adjoint(ant: &&Ant, x: &[f64], bar: &[f64]) -> Vec<f64> {
        let (mut q, mut qd, mut action) = ([0.0; NQ], [0.0; NQD], [0.0; ACT]);
        observe_adjoint(ant, &first(x), &first(&x[NQ..]), &first::<_, OBS>(bar), &mut q, &mut qd, &mut action);
        [&q[..], &qd, &action].concat()
    }
}

/// Clip of the action and reward.
struct Reward;

impl Stage for Reward {
    type At<'a, S: Number> = &'a Ant;
    const NAME: &'static str = "reward";
    fn forward<S: Number>(ant: &&Ant, x: &[S]) -> Vec<S> {
        vec![reward(ant, first(x), &clip(&first(&x[4..])))]
    }
    fn adjoint(ant: &&Ant, x: &[f64], bar: &[f64]) -> Vec<f64> {
        let (raw, mut clipped_bar) = (first(&x[4..]), [0.0; ACT]);
        let entries = reward_adjoint(ant, &clip(&raw), bar[0], &mut clipped_bar);
        entries.into_iter().chain(clip_adjoint(ant, &raw, &clipped_bar)).collect()
    }
}
