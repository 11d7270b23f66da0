//! The actor's update: a rollout of the true environments that the gradient flows back through.
//!
//! At each step the policy acts on the normalised observation, whose gradient flows into the state as well. A value
//! stands for what comes after an episode was cut, or after the horizon; it is that of the observation before the
//! reset.

use super::Shac;
use crate::algo::critic::loss_spec;
use crate::env::GradientBound;
use crate::ops::control::copy;
use crate::ops::returns::actor_loss;
use crate::ops::stats::{normalise, normalise_into, update_stats};
use crate::tape::{Program, Val, Vars};

/// Appends the rollout with `noise` `[H, N, A]`, and gives the actor's loss `[1]` and the observations `[N, O]` of the
/// policy. Results also go to the buffers. The reverse pass reads the statistics of observations: [`observe`] may only
/// come behind it.
pub fn rollout(p: &mut Program, vars: &Vars, s: &Shac, noise: Val) -> (Val, Vec<Val>) {
    let c = &s.config;
    let (h, n) = (c.horizon, c.num_envs);
    let actor = s.nets.actor.bind(p, vars);
    let critics = s.nets.critics.bind(p, vars);
    let stats = p.var(vars, s.nets.obs_stats);
    // A step's gradient is that of the mean over environments: the bound on one environment's is a share of it.
    let bound = GradientBound { norm: c.step_grad_norm / n as f64, count: p.var(vars, s.bounded) };

    let (seen, before) = (p.real(&[h, n, s.env.obs_dim]), p.real(&[h, n, s.env.obs_dim]));
    let [reward, done, terminated] = [(); 3].map(|()| p.real(&[h, n]));
    let mut state = s.env.state(p, vars);
    let mut observed = Vec::with_capacity(h);
    for i in 0..h {
        observed.push(state.obs);
        let into = p.at(seen, i);
        let x = normalise_into(p, state.obs, stats, true, Some(into));
        let eps = p.at(noise, i);
        let action = actor.act(p, &[x], Some(eps), true, None);
        let into = [before, reward, done, terminated].map(|v| p.at(v, i));
        (_, state) = s.env.step_through(p, vars, &state, action, bound, into);
    }
    let after = p.reshape(before, &[h * n, s.env.obs_dim]);
    let after = normalise(p, after, stats, true);
    let value = critics.min(p, &[after], true);
    let value = p.reshape(value, &[h, n]);
    let ret_stats = p.var(vars, s.nets.ret_stats);
    let loss = actor_loss(p, loss_spec(c), reward, value, done, terminated, ret_stats);
    for (from, to) in [
        (seen, s.buffers.latents),
        (reward, s.buffers.rewards),
        (value, s.buffers.values),
        (done, s.buffers.done),
        (terminated, s.buffers.terminated),
    ] {
        let to = p.var(vars, to);
        copy(p, from, to);
    }
    (loss, observed)
}

/// Appends the update of the statistics by the observations of a rollout.
pub fn observe(p: &mut Program, vars: &Vars, s: &Shac, observed: &[Val]) {
    let stats = p.var(vars, s.nets.obs_stats);
    for &obs in observed {
        update_stats(p, obs, stats, 1.0);
    }
}
