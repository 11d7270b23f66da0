//! What values are for: the actor's loss, and the critics' update, which is TD(lambda) targets once an epoch and then
//! regression in minibatches of the rollout.

use super::RolloutBuffers;
use crate::config::Config;
use crate::device::philox::Stream;
use crate::model::Critics;
use crate::ops::control::{accumulate, increment};
use crate::ops::embedding::gather_rows;
use crate::ops::loss::squared_error;
use crate::ops::random::permutation;
use crate::ops::returns::{ActorLossSpec, td_lambda};
use crate::tape::{Program, Val, Vars};

/// Appends the targets of the latest rollout, with the critics as they were during it.
pub fn targets(p: &mut Program, vars: &Vars, c: &Config, x: &RolloutBuffers) {
    let [reward, value, done, terminated, out] =
        [x.rewards, x.values, x.done, x.terminated, x.targets].map(|v| p.var(vars, v));
    td_lambda(p, c.gamma, c.lam, c.value_scale, reward, value, done, terminated, out);
}

/// Appends one pass over the rollout: an update on each of `critic_batches` minibatches, which are consecutive rows,
/// or random ones with `critic_shuffle`. `embeddings` `[H N, E]` are those of the rows' tasks, of which critics of several
/// tasks are told. `loss` `[1]` receives the sum of the minibatches' losses, `passes` is counted.
pub fn pass(
    p: &mut Program,
    vars: &Vars,
    c: &Config,
    critics: &Critics,
    x: &RolloutBuffers,
    embeddings: Option<Val>,
    (passes, loss): (Val, Val),
) {
    let rows = c.rollout_states();
    let latents = p.var_at(vars, x.latents, 0, &[rows, vars.info(x.latents).shape[2]]);
    let targets = p.var_at(vars, x.targets, 0, &[rows, 1]);
    let size = c.critic_batch_size();
    let order = c.critic_shuffle.then(|| permutation(p, c.seed, Stream::Critic, passes, rows));
    increment(p, passes);
    for j in 0..c.critic_batches {
        let index = order.map(|order| p.view(order, j * size, &[size]));
        let part = |p: &mut Program, of: Val| match index {
            None => p.rows(of, j * size, (j + 1) * size),
            Some(index) => gather_rows(p, of, index),
        };
        let mut seen = vec![part(p, latents)];
        let target = part(p, targets);
        seen.extend(embeddings.map(|e| part(p, e)));
        let bound = critics.bind(p, vars);
        let values = bound.all(p, &seen, true);
        let error = minibatch_loss(p, c.num_critics, values, target);
        critics.group.update(p, vars, &[(error, 1.0)]);
        accumulate(p, error, loss, false);
    }
}

/// Mean over critics and rows of the squared error, `[1]`.
pub fn minibatch_loss(p: &mut Program, critics: usize, values: Val, target: Val) -> Val {
    let n = p.len_of(values);
    squared_error(p, values, target, vec![1.0 / n as f64; critics])
}

/// How a rollout's rewards and values become the actor's loss.
pub(super) fn loss_spec(c: &Config) -> ActorLossSpec {
    ActorLossSpec {
        gamma: c.gamma,
        lambda: c.actor_lambda,
        bootstrap: c.bootstrap,
        normalise: c.ret_norm,
        decay: if c.ret_norm_decay > 0.0 { c.ret_norm_decay } else { 1.0 },
    }
}
