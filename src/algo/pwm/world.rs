//! The world model's update on a batch of replayed windows.
//!
//! The first observation is encoded and rolled forward with the recorded actions; each imagined latent is compared with
//! the encoding of the observation that was seen (no gradient through the target), each predicted reward with the
//! recorded one. With `S_dyn = sum_t gamma^t mean (z_t+1 - target)²` and `S_rew = mean_t,b gamma^t (r - r̂)²` the loss is
//! `(S_dyn + S_rew) / H`; the two-hot head has `S_rew = reward_coef sum_t gamma^t mean_b CE` instead.

use super::Nets;
use crate::config::{Config, RewNorm, RewardHead};
use crate::ops::loss::squared_error;
use crate::ops::stats::{normalise, update_stats};
use crate::ops::twohot::two_hot_loss;
use crate::tape::{Program, Val, Vars};

/// What [`world_loss`] computes on the way.
#[derive(Clone, Copy, Debug)]
pub struct WorldLoss {
    /// `S_dyn / H` and `S_rew / H`, `[1]` each; their sum is the loss.
    pub dynamics: Val,
    pub reward: Val,
    /// `[H+1, B, D]`: encoding of the first observation, then imagined latents.
    pub latents: Val,
    /// `[H, B, D]`: encodings of observations 1 to H.
    pub targets: Val,
    /// Output of the reward head, `[H B, 1]` or `[H B, bins]`.
    pub head: Val,
}

/// Appends the loss on observations `[H+1, B, O]`, actions `[H, B, A]` and rewards `[H, B]`, all prepared.
pub fn world_loss(p: &mut Program, vars: &Vars, c: &Config, nets: &Nets, obs: Val, act: Val, rew: Val) -> WorldLoss {
    let (h, b, o) = (p.shape(act)[0], p.shape(act)[1], p.shape(obs)[2]);
    let (d, a) = (nets.world.width, p.shape(act)[2]);
    let world = nets.world.bind(p, vars);
    let later = p.view(obs, b * o, &[h * b, o]);
    let targets = world.encoder.apply(p, later, false, None);
    let targets = p.detach(targets);
    let latents = p.real(&[h + 1, b, d]);
    let (first, start) = (p.at(obs, 0), p.at(latents, 0));
    world.encoder.apply(p, first, true, Some(start));
    for t in 0..h {
        let (z, action, into) = (p.at(latents, t), p.at(act, t), p.at(latents, t + 1));
        world.next(p, z, action, true, Some(into));
    }
    let powers: Vec<f64> = (0..h).map(|t| c.gamma.powi(t as i32)).collect();
    let imagined = p.view(latents, b * d, &[h * b, d]);
    let scale = 1.0 / (h * b * d) as f64;
    let dynamics = squared_error(p, imagined, targets, powers.iter().map(|g| g * scale).collect());
    let (before, actions) = (p.view(latents, 0, &[h * b, d]), p.reshape(act, &[h * b, a]));
    let head = world.reward(p, before, actions, true);
    let reward = match c.reward_head {
        RewardHead::Scalar => {
            let scale = 1.0 / (h * h * b) as f64;
            squared_error(p, head, rew, powers.iter().map(|g| g * scale).collect())
        }
        RewardHead::TwoHot => {
            let logits = p.reshape(head, &[h, b, c.num_bins]);
            let scale = c.reward_coef / (h * b) as f64;
            let weights = powers.iter().map(|g| g * scale).collect();
            two_hot_loss(p, logits, rew, (c.vmin, c.vmax), weights)
        }
    };
    WorldLoss { dynamics, reward, latents, targets, head }
}

/// Appends the statistics' update by this batch, and the batch normalised by them: observations and rewards.
pub fn prepare(p: &mut Program, vars: &Vars, c: &Config, nets: &Nets, obs: Val, rew: Val) -> (Val, Val) {
    if let Some(s) = nets.obs_stats {
        let stats = p.var(vars, s);
        update_stats(p, obs, stats, 1.0);
    }
    let obs = nets.prepare(p, vars, obs);
    if c.rew_norm == RewNorm::None {
        return (obs, rew);
    }
    let stats = p.var(vars, nets.rew_stats);
    update_stats(p, rew, stats, 1.0);
    (obs, normalise(p, rew, stats, c.rew_norm == RewNorm::CenterScale))
}

/// Appends one update of the world model on a batch as it was recorded. Returns the two parts of the loss.
pub fn update(p: &mut Program, vars: &Vars, c: &Config, nets: &Nets, obs: Val, act: Val, rew: Val) -> WorldLoss {
    let (obs, rew) = prepare(p, vars, c, nets, obs, rew);
    let loss = world_loss(p, vars, c, nets, obs, act, rew);
    nets.world.group.update(p, vars, &[(loss.dynamics, 1.0), (loss.reward, 1.0)]);
    loss
}
