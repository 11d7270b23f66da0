//! What the world model knows, measured on replayed windows at every evaluation.
//!
//! A model can have a small loss and be of no use: a reward head that always says the mean, latents that drift while
//! they are imagined, velocities that are right at one model time only. None of these is seen in the return until much
//! time is lost. Errors are relative: 1 is what predicting "nothing changes" would get.
//!
//! Windows are a function of the epoch alone, drawn from a random stream of their own, so that probing leaves no mark
//! on training.

use super::build::of_windows;
use super::rollout::decode;
use super::world::Batch;
use super::{Pwm, PwmNets};
use crate::algo::{ProbeVars, TAUS};
use crate::config::{Config, Latent};
use crate::ops::control::accumulate;
use crate::ops::embedding::repeat_ids;
use crate::ops::flow::matching::{interpolate, velocity_error};
use crate::ops::loss::squared_error;
use crate::ops::probe::{covariance, group_drift};
use crate::ops::replay::{ReplaySpec, ReplayVars, Windows, replay_sample};
use crate::tape::fill::Fill;
use crate::tape::{Program, Val, Vars};

/// Appends a batch of windows of the replay, to be probed.
pub fn replayed(p: &mut Program, vars: &Vars, pwm: &Pwm) -> Batch {
    let spec = ReplaySpec { seed: pwm.replay.spec.seed ^ 0x5052_4f42_4500_0000, ..pwm.replay.spec.clone() };
    let windows = ReplayVars { spec, draws: pwm.probe.draws, ..pwm.replay.clone() };
    let Windows { obs, act, rew, tasks } = replay_sample(p, vars, &windows);
    let tasks = of_windows(p, &pwm.config, &pwm.nets, tasks);
    Batch { obs, act, rew, tasks, tau: None }
}

/// Appends the probe of one batch of windows.
pub fn probe(p: &mut Program, vars: &Vars, c: &Config, nets: &PwmNets, batch: Batch, probe: &ProbeVars) {
    let Batch { obs, act, rew, tasks, .. } = batch;
    let (h, b, d) = (p.shape(act)[0], p.shape(act)[1], nets.world.width);
    let (o, a) = (p.shape(obs)[2], p.shape(act)[2]);
    let obs = nets.prepare(p, vars, obs);
    let obs = p.reshape(obs, &[(h + 1) * b, o]);
    let all = tasks.map(|ids| (repeat_ids(p, ids, h), repeat_ids(p, ids, h + 1)));
    let of_window = nets.world.rows(p, vars, tasks).embedding;
    let rows = nets.world.rows(p, vars, all.map(|a| a.0));
    let of_row = rows.embedding;
    let act_rows = p.reshape(act, &[h * b, a]);
    // As the model learns them.
    let act_rows = rows.masked(p, act_rows);
    let act = p.reshape(act_rows, &[h, b, a]);
    let of_seen = nets.world.rows(p, vars, all.map(|a| a.1)).embedding;
    let world = nets.world.bind(p, vars);
    let seen = world.encoder.apply(p, obs, of_seen, false, None);
    let (before, after) = (p.rows(seen, 0, h * b), p.rows(seen, b, (h + 1) * b));
    let mut at = 0;
    let mut leave = |p: &mut Program, x: Val| {
        for i in 0..p.len_of(x) {
            let (from, to) = (p.view(x, i, &[1]), p.var_at(vars, probe.slots, at, &[1]));
            accumulate(p, from, to, true);
            at += 1;
        }
    };

    let head = world.reward(p, before, act_rows, of_row, false);
    let predicted = decode(p, c, head);
    let rewards = covariance(p, predicted, rew);
    leave(p, rewards);

    let mean = |rows: usize| vec![1.0 / (rows * d) as f64];
    let next = world.next(p, before, act_rows, of_row, false, None);
    for (x, y) in [(next, after), (before, after)] {
        let error = squared_error(p, x, y, mean(h * b));
        leave(p, error);
    }
    let start = p.rows(before, 0, b);
    let mut z = start;
    for t in 0..h {
        let action = p.at(act, t);
        z = world.next(p, z, action, of_window, false, None);
    }
    let end = p.rows(after, (h - 1) * b, h * b);
    for (x, y) in [(z, end), (start, end)] {
        let error = squared_error(p, x, y, mean(b));
        leave(p, error);
    }
    let drift = match c.latent {
        Latent::Encoded => group_drift(p, z, c.simnorm_dim),
        Latent::Observed => constant(p, f64::NAN, &[1]),
    };
    leave(p, drift);
    for tau in TAUS {
        let error = match world.flow() {
            None => constant(p, f64::NAN, &[1]),
            Some(flow) => {
                let tau = constant(p, tau, &[h * b, 1]);
                let between = interpolate(p, before, after, tau);
                let v = flow.velocity(p, between, act_rows, tau, of_row, false);
                velocity_error(p, v, before, after, mean(h * b))
            }
        };
        leave(p, error);
    }
}

fn constant(p: &mut Program, value: f64, shape: &[usize]) -> Val {
    let v = p.real(shape);
    p.push(Fill { value }, &[], &[v]);
    v
}
