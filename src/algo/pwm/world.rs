//! The world model's update on a batch of replayed windows.
//!
//! The first observation is encoded and rolled forward with the recorded actions; each imagined latent is compared with
//! the encoding of the observation that was seen (no gradient through the target), each predicted reward with the
//! recorded one. With `S_dyn = sum_t gamma^t mean (z_t+1 - target)²` and `S_rew = mean_t,b gamma^t (r - r̂)²` the loss
//! is `(S_dyn + S_rew) / H`; the two-hot head has `S_rew = reward_coef sum_t gamma^t mean_b CE` instead.
//!
//! Flow dynamics are trained by matching velocities: `S_dyn = sum_t gamma^t mean (v(z_τ, a_t, τ) - (target - z_t))²` at
//! `z_τ = (1 - τ) z_t + τ target`. The chain is advanced by the integrator, whose end points this never compares with
//! the targets; `flow_consistency` adds that comparison, as above, with a weight.

use super::{PwmLoss, PwmNets};
use crate::config::{Config, Dynamics, RewNorm, RewardHead, TauSampling};
use crate::device::philox::Stream;
use crate::ops::control::accumulate;
use crate::ops::embedding::repeat_ids;
use crate::ops::flow::matching::{interpolate, velocity_error};
use crate::ops::loss::squared_error;
use crate::ops::random::uniform;
use crate::ops::stats::{normalise, update_stats};
use crate::ops::twohot::two_hot_loss;
use crate::tape::fill::Fill;
use crate::tape::{Program, Val, VarId, Vars};

/// What [`world_loss`] computes on the way.
#[derive(Clone, Copy, Debug)]
pub struct WorldLoss {
    /// `S_dyn / H` and `S_rew / H`, `[1]` each; their sum is the loss.
    pub dynamics: Val,
    pub reward: Val,
    /// The integrated latents' error times `flow_consistency`, `[1]`, to be added; none where it is `dynamics`.
    pub endpoint: Option<Val>,
    /// `[H+1, B, D]`: encoding of the first observation, then imagined latents.
    pub latents: Val,
    /// `[H, B, D]`: encodings of observations 1 to H.
    pub targets: Val,
    /// Output of the reward head, `[H B, 1]` or `[H B, bins]`.
    pub head: Val,
}

/// A batch of windows inside a program.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// `[H+1, B, O]`.
    pub obs: Val,
    /// `[H, B, A]`.
    pub act: Val,
    /// `[H, B]`.
    pub rew: Val,
    /// Index `[B]`: the task of each window, for a model of several.
    pub tasks: Option<Val>,
    /// `[H, B, 1]`: model times at which flow dynamics are trained; nothing else reads them.
    pub tau: Option<Val>,
}

/// Appends a loss `[1]` of the reward head's output `[H B, ..]` on rewards `[H, B]`; the discount's powers are the
/// weights of steps.
pub type RewardLoss = fn(&mut Program, &Config, Val, Val, &[f64]) -> Val;

/// The loss that belongs to each reward head.
pub fn reward_loss(p: &mut Program, c: &Config, head: Val, rew: Val, powers: &[f64]) -> Val {
    let (h, b) = (p.shape(rew)[0], p.shape(rew)[1]);
    let weights = |scale: f64| powers.iter().map(|g| g * scale).collect();
    match c.reward_head {
        RewardHead::Scalar => squared_error(p, head, rew, weights(1.0 / (h * h * b) as f64)),
        RewardHead::TwoHot => {
            let logits = p.reshape(head, &[h, b, c.num_bins]);
            two_hot_loss(p, logits, rew, (c.vmin, c.vmax), weights(c.reward_coef / (h * b) as f64))
        }
    }
}

/// Appends the model times for update `step`, an index value `[1]`, if there are any.
pub fn taus(p: &mut Program, c: &Config, step: Val) -> Option<Val> {
    let shape = [c.horizon, c.wm_batch_size, 1];
    match (c.dynamics, c.flow_tau_sampling) {
        (Dynamics::Mlp, _) => None,
        (Dynamics::Flow, TauSampling::Uniform) => Some(uniform(p, c.seed, Stream::Tau, step, &shape)),
        (Dynamics::Flow, TauSampling::Midpoint) => {
            let half = p.real(&shape);
            p.push(Fill { value: 0.5 }, &[], &[half]);
            Some(half)
        }
    }
}

/// Appends the loss on a batch that is prepared.
pub fn world_loss(p: &mut Program, vars: &Vars, c: &Config, nets: &PwmNets, batch: Batch) -> WorldLoss {
    let Batch { obs, act, rew, tasks, tau } = batch;
    let (h, b, o) = (p.shape(act)[0], p.shape(act)[1], p.shape(obs)[2]);
    let (d, a) = (nets.world.width, p.shape(act)[2]);
    let all = tasks.map(|ids| repeat_ids(p, ids, h));
    let (of_window, of_row) = (nets.world.rows(p, vars, tasks), nets.world.rows(p, vars, all));
    let act = p.reshape(act, &[h * b, a]);
    // Data may hold anything behind a task's actions.
    let act = of_row.masked(p, act);
    let act = p.reshape(act, &[h, b, a]);
    let world = nets.world.bind(p, vars);
    let later = p.view(obs, b * o, &[h * b, o]);
    let targets = world.encoder.apply(p, later, of_row.embedding, false, None);
    let targets = p.detach(targets);
    let latents = p.real(&[h + 1, b, d]);
    let (first, start) = (p.at(obs, 0), p.at(latents, 0));
    world.encoder.apply(p, first, of_window.embedding, true, Some(start));
    for t in 0..h {
        let (z, action, into) = (p.at(latents, t), p.at(act, t), p.at(latents, t + 1));
        world.next(p, z, action, of_window.embedding, true, Some(into));
    }
    let powers: Vec<f64> = (0..h).map(|t| c.gamma.powi(t as i32)).collect();
    let imagined = p.view(latents, b * d, &[h * b, d]);
    let scale = 1.0 / (h * b * d) as f64;
    let weights = |factor: f64| powers.iter().map(|g| g * factor * scale).collect::<Vec<_>>();
    let (before, actions) = (p.view(latents, 0, &[h * b, d]), p.reshape(act, &[h * b, a]));
    let (dynamics, endpoint) = match world.flow() {
        None => (squared_error(p, imagined, targets, weights(1.0)), None),
        Some(flow) => {
            let tau = tau.expect("invariant: flow dynamics are trained at given times");
            let tau = p.reshape(tau, &[h * b, 1]);
            let between = interpolate(p, before, targets, tau);
            let velocity = flow.velocity(p, between, actions, tau, of_row.embedding, true);
            let matching = velocity_error(p, velocity, before, targets, weights(1.0));
            let weight = c.flow_consistency;
            (matching, (weight > 0.0).then(|| squared_error(p, imagined, targets, weights(weight))))
        }
    };
    let head = world.reward(p, before, actions, of_row.embedding, true);
    let reward = (nets.reward_loss)(p, c, head, rew, &powers);
    WorldLoss { dynamics, reward, endpoint, latents, targets, head }
}

/// Appends the statistics' update by this batch, and the batch normalised by them: observations and rewards.
pub fn prepare(p: &mut Program, vars: &Vars, c: &Config, nets: &PwmNets, obs: Val, rew: Val) -> (Val, Val) {
    if let Some(s) = nets.obs_stats {
        let stats = p.var(vars, s);
        update_stats(p, obs, stats, 1.0);
    }
    if c.rew_norm != RewNorm::None {
        let stats = p.var(vars, nets.rew_stats);
        update_stats(p, rew, stats, 1.0);
    }
    normalised(p, vars, c, nets, obs, rew)
}

/// Appends the batch normalised by the statistics as they are: observations and rewards.
pub fn normalised(p: &mut Program, vars: &Vars, c: &Config, nets: &PwmNets, obs: Val, rew: Val) -> (Val, Val) {
    let obs = nets.prepare(p, vars, obs);
    if c.rew_norm == RewNorm::None {
        return (obs, rew);
    }
    let stats = p.var(vars, nets.rew_stats);
    (obs, normalise(p, rew, stats, c.rew_norm == RewNorm::CenterScale))
}

/// Appends one update of the world model on a batch as it was recorded. Returns the parts of the loss.
pub fn update(p: &mut Program, vars: &Vars, c: &Config, nets: &PwmNets, batch: Batch) -> WorldLoss {
    let (obs, rew) = prepare(p, vars, c, nets, batch.obs, batch.rew);
    let loss = world_loss(p, vars, c, nets, Batch { obs, rew, ..batch });
    nets.world.group.update(p, vars, &loss.roots());
    loss
}

impl WorldLoss {
    /// Adds the parts to the slots of `losses`, see [`PwmLoss`].
    pub fn accumulate(&self, p: &mut Program, vars: &Vars, losses: VarId) {
        let parts = [
            (Some(self.dynamics), PwmLoss::Dynamics),
            (self.endpoint, PwmLoss::Dynamics),
            (Some(self.reward), PwmLoss::Reward),
        ];
        for (x, slot) in parts.into_iter().filter_map(|(x, slot)| Some((x?, slot))) {
            let slot = p.var_at(vars, losses, slot as usize, &[1]);
            accumulate(p, x, slot, false);
        }
    }

    /// What is minimised, with weights.
    pub fn roots(&self) -> Vec<(Val, f64)> {
        [Some(self.dynamics), Some(self.reward), self.endpoint].into_iter().flatten().map(|v| (v, 1.0)).collect()
    }
}
