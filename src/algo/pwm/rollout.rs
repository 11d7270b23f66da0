//! The actor's update: imagined rollout and true environment, interleaved.
//!
//! At each step the policy acts on the latent, the true environment takes the action, and the model imagines the next
//! latent. Where an episode ended, the next latent is that of the true observation after the reset; elsewhere it stays
//! the imagined one until the horizon, or with `rollout: anchored` becomes that of the true observation, which the
//! gradient passes as if it were the imagined one: forward through the environment, backward through the model, the
//! idea of "First Order Model-Based RL through Decoupled Backpropagation" (DMO, CoRL 2025). Rewards and values of all
//! steps are computed at once, on `H N` rows.

use super::{PwmNets, RolloutBuffers};
use crate::algo::critic::loss_spec;
use crate::algo::networks::of_played;
use crate::config::{self, Config};
use crate::ops::control::copy;
use crate::ops::embedding::{mask, repeat_ids, task_ids};
use crate::ops::policy::{anchor_rows, select_rows};
use crate::ops::returns::actor_loss;
use crate::ops::twohot::two_hot_decode;
use crate::tape::{Program, Val, Vars};

/// What one step of the environments gives, whatever steps them.
#[derive(Clone, Copy, Debug)]
pub struct EnvStepVals {
    /// `[N]`, 0 or 1.
    pub done: Val,
    /// `[N, O]`: observation to go on from, after resets; none where there is nothing but the model.
    pub next_obs: Option<Val>,
}

/// Steps the environments with an action `[N, A]`, writing done and terminated of the step to the given values `[N]`.
pub type Stepper<'a> = dyn FnMut(&mut Program, usize, Val, (Val, Val)) -> EnvStepVals + 'a;

/// Appends the rollout from `obs` `[N, O]` with `noise` `[H, N, A]`, and the actor's loss `[1]`. With `learn`, what the
/// reverse pass needs is kept. Results also go to `buffers`.
#[allow(clippy::too_many_arguments, reason = "each is another part of the run; a struct would only name them again")]
pub fn rollout(
    p: &mut Program,
    vars: &Vars,
    c: &Config,
    nets: &PwmNets,
    buffers: &RolloutBuffers,
    obs: Val,
    noise: Val,
    learn: bool,
    step: &mut Stepper,
) -> Val {
    let (h, n, d) = (c.horizon, c.num_envs, nets.world.width);
    let act_dim = p.shape(noise)[2];
    let world = nets.world.bind(p, vars);
    let actor = nets.actor.bind(p, vars);
    let critics = nets.critics.bind(p, vars);
    let (latents, imagined) = (p.real(&[h, n, d]), p.real(&[h, n, d]));
    let actions = p.real(&[h, n, act_dim]);
    let (done, terminated) = (p.real(&[h, n]), p.real(&[h, n]));
    let first = p.at(latents, 0);
    let tasks = of_played(p, vars, &nets.world, n, c.played());
    let obs = nets.prepare(p, vars, obs);
    world.encoder.apply(p, obs, tasks.embedding, false, Some(first));
    for i in 0..h {
        let z = p.at(latents, i);
        let seen = if c.detach { p.detach(z) } else { z };
        let (eps, into) = (p.at(noise, i), p.at(actions, i));
        let action = match tasks.keep {
            None => actor.act(p, &tasks.seen(seen), Some(eps), learn, Some(into)),
            Some(keep) => {
                let action = actor.act(p, &tasks.seen(seen), Some(eps), learn, None);
                mask(p, action, keep, Some(into))
            }
        };
        let into = p.at(imagined, i);
        let next = world.next(p, z, action, tasks.embedding, learn, Some(into));
        let flags = (p.at(done, i), p.at(terminated, i));
        let stepped = step(p, i, action, flags);
        if i + 1 < h {
            let anew = match stepped.next_obs {
                Some(obs) => {
                    let obs = nets.prepare(p, vars, obs);
                    world.encoder.apply(p, obs, tasks.embedding, false, None)
                }
                // Nothing is done, so this is not looked at.
                None => next,
            };
            let anew = p.detach(anew);
            let into = p.at(latents, i + 1);
            match if stepped.next_obs.is_some() { c.rollout } else { config::Rollout::Imagined } {
                config::Rollout::Imagined => select_rows(p, stepped.done, anew, next, Some(into)),
                config::Rollout::Anchored => anchor_rows(p, stepped.done, anew, next, Some(into)),
            };
        }
    }
    let flat = |p: &mut Program, v: Val| {
        let width = p.shape(v)[2];
        p.reshape(v, &[h * n, width])
    };
    let (z, a, after) = (flat(p, latents), flat(p, actions), flat(p, imagined));
    let all = nets.world.tasks().map(|_| {
        let ids = task_ids(p, n, c.played().start, c.played().len());
        repeat_ids(p, ids, h)
    });
    let of_row = nets.world.rows(p, vars, all);
    let head = world.reward(p, z, a, of_row.embedding, learn);
    let reward = decode(p, c, head);
    let reward = p.reshape(reward, &[h, n]);
    let value = critics.min(p, &of_row.seen(after), learn);
    let value = p.reshape(value, &[h, n]);
    let stats = p.var(vars, nets.ret_stats);
    let loss = actor_loss(p, loss_spec(c), reward, value, done, terminated, stats);
    for (from, to) in [
        (latents, buffers.latents),
        (reward, buffers.rewards),
        (value, buffers.values),
        (done, buffers.done),
        (terminated, buffers.terminated),
    ] {
        let to = p.var(vars, to);
        copy(p, from, to);
    }
    loss
}

/// Rewards from the reward head's output, in a shape of the same number of rows.
pub fn decode(p: &mut Program, c: &Config, head: Val) -> Val {
    match c.reward_head {
        config::RewardHead::Scalar => head,
        config::RewardHead::TwoHot => two_hot_decode(p, head, (c.vmin, c.vmax), c.decode),
    }
}
