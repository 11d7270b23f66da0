//! How far the model's gradient can be trusted.
//!
//! The actor climbs along the gradient of an *imagined* return, so the model promises a slope. Here the parameters are
//! moved that way, forwards and backwards, and the same rollouts are driven again with the same noise: so much does the
//! return of the true environment change for each unit of movement. A model that is good enough keeps its promise; one
//! that is not lets the policy climb where there is no hill. (The direction is the one that training takes; the promise
//! is the whole gradient's, feedback through the policy's input included.)

use super::rollout::{EnvStepVals, rollout};
use super::{Pwm, PwmNets};
use crate::algo::TrainError;
use crate::algo::networks::of_played;
use crate::algo::programs::{Handle, Programs};
use crate::config::Config;
use crate::device::cpu::team::Team;
use crate::device::philox::Stream;
use crate::ops::control::{copy, increment};
use crate::ops::random::normal;
use crate::tape::{DType, Machine, Program, Region, RunError, TapeReal, VarId, Vars};
use std::sync::Arc;

/// Length of the step in parameter space: about that of one update of the actor.
const STEP: f64 = 0.04;

/// Agreement of two series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// Correlation; NaN if one of them is constant.
    pub correlation: f64,
    /// Root mean square of the difference, and the standard deviation of the true series.
    pub rmse: f64,
    pub deviation: f64,
    /// Mean of the model's series and of the true one.
    pub model_mean: f64,
    pub true_mean: f64,
    /// Pairs compared.
    pub count: usize,
}

/// What [`Fidelity::measure`] finds.
#[derive(Clone, Debug)]
pub struct FidelityReport {
    /// Predicted against true rewards, for each step of the rollout.
    pub rewards: Vec<Agreement>,
    /// Value of the imagined last state against that of the true one.
    pub value: Agreement,
    /// Slope of the discounted return along the policy gradient, mean over rollouts: as the model's gradient promises
    /// it, and as the environments pay it whose episode goes on.
    pub promised_slope: f64,
    pub paid_slope: f64,
    /// Mean cosine between policy gradients of consecutive rollouts.
    pub gradient_cosine: f64,
}

/// A policy, its model and environments to compare them in.
pub struct Fidelity<F: TapeReal> {
    pub machine: Machine<F>,
    pwm: Pwm,
    env_rewards: VarId,
    last_values: VarId,
    begin: Handle,
    drive: Handle,
    learn: Handle,
    whole: Handle,
}

impl<F: TapeReal> Fidelity<F> {
    /// Environments as a training of `c` has them. Networks hold zeros until a checkpoint fills them.
    pub fn new(c: &Config) -> Result<Self, TrainError> {
        // Nothing is replayed, so a small ring does. With these settings the actor's loss is minus the return over the
        // horizon.
        let wm_buffer_size = (c.num_envs * (c.horizon + 1)).max(c.wm_batch_size);
        let c = &Config { wm_buffer_size, ret_norm: false, actor_lambda: 1.0, ..c.clone() };
        let mut vars = Vars::default();
        let pwm = Pwm::new(&mut vars, c);
        let env_rewards = vars.add(Region::RolloutBuffers, "fidelity.rewards", DType::Real, &[c.horizon, c.num_envs]);
        let last_values = vars.add(Region::RolloutBuffers, "fidelity.values", DType::Real, &[c.num_envs]);
        let mut programs = Programs::default();
        let begin = programs.push("begin", |p| pwm.env.reset(p, &vars));
        let mut write =
            |name, gradient| programs.push(name, |p| write(p, &vars, &pwm, env_rewards, last_values, gradient));
        let drive = write("drive", None);
        let learn = write("actor_gradient", Some(c.detach));
        let whole = write("whole_gradient", Some(false));
        let machine = Machine::new(vars, programs.into_vec(), Arc::new(Team::new(c.threads)?))?;
        Ok(Self { machine, pwm, env_rewards, last_values, begin, drive, learn, whole })
    }

    /// The networks of the policy and its model.
    pub fn nets(&self) -> &PwmNets {
        &self.pwm.nets
    }

    /// Starts the environments, drives them for `warm_up` rollouts, and compares on `rollouts` more.
    pub fn measure(&mut self, warm_up: usize, rollouts: usize) -> Result<FidelityReport, RunError> {
        let (h, n) = (self.pwm.config.horizon, self.pwm.config.num_envs);
        self.run(self.begin)?;
        for _ in 0..warm_up {
            self.run(self.drive)?;
        }
        let (mut rewards, mut value) = (vec![Pairs::default(); h], Pairs::default());
        let (mut promised, mut paid) = (vec![], vec![]);
        let mut gradients = Vec::with_capacity(rollouts);
        for _ in 0..rollouts {
            let before = self.snapshot();
            self.run(self.learn)?;
            let gradient = self.numbers(self.pwm.nets.actor.group.grads);
            self.rewards(&mut rewards);
            let after = self.snapshot();
            let norm = dot(&gradient, &gradient).sqrt();
            if norm > 0.0 {
                self.restore(&before);
                self.run(self.whole)?;
                let whole = self.numbers(self.pwm.nets.actor.group.grads);
                let mut ends = Vec::with_capacity(2);
                // The loss is minus the return.
                for side in [STEP, -STEP] {
                    self.restore(&before);
                    let params = self.machine.real_mut(self.pwm.nets.actor.group.params);
                    for (p, g) in params.iter_mut().zip(&gradient) {
                        *p = F::of(p.value() - side * g / norm);
                    }
                    self.run(self.drive)?;
                    ends.push(self.returns());
                }
                let slopes: Vec<f64> =
                    (0..n).filter_map(|e| Some((ends[0][e]? - ends[1][e]?) / (2.0 * STEP))).collect();
                // A rollout in which every episode ended says nothing about either slope.
                if !slopes.is_empty() {
                    promised.push(dot(&whole, &gradient) / norm * h as f64);
                    paid.push(mean(&slopes));
                }
            }
            self.restore(&after);
            let imagined = &self.numbers(self.pwm.buffers.values)[(h - 1) * n..];
            let (seen, done) = (self.numbers(self.last_values), self.numbers(self.pwm.buffers.done));
            for e in (0..n).filter(|&e| (0..h).all(|t| done[t * n + e] == 0.0)) {
                value.push(imagined[e], seen[e]);
            }
            gradients.push(gradient);
        }
        let cosines: Vec<f64> =
            gradients.windows(2).map(|w| dot(&w[0], &w[1]) / (dot(&w[0], &w[0]) * dot(&w[1], &w[1])).sqrt()).collect();
        Ok(FidelityReport {
            rewards: rewards.iter().map(Pairs::agreement).collect(),
            value: value.agreement(),
            promised_slope: mean(&promised),
            paid_slope: mean(&paid),
            gradient_cosine: mean(&cosines),
        })
    }

    fn run(&mut self, program: Handle) -> Result<(), RunError> {
        self.machine.run(program.on(&self.machine))
    }

    fn numbers(&self, var: VarId) -> Vec<f64> {
        self.machine.real(var).iter().map(|x| x.value()).collect()
    }

    /// Rewards of the last rollout, up to the end of each environment's episode.
    fn rewards(&self, into: &mut [Pairs]) {
        let n = self.pwm.config.num_envs;
        let [model, real, done] =
            [self.pwm.buffers.rewards, self.env_rewards, self.pwm.buffers.done].map(|v| self.numbers(v));
        for e in 0..n {
            for (t, pairs) in into.iter_mut().enumerate() {
                pairs.push(model[t * n + e], real[t * n + e]);
                if done[t * n + e] != 0.0 {
                    break;
                }
            }
        }
    }

    /// Discounted true return of the last rollout, with the value of the true last state: for each environment, unless
    /// its episode ended on the way.
    fn returns(&self) -> Vec<Option<f64>> {
        let c = &self.pwm.config;
        let (h, n) = (c.horizon, c.num_envs);
        let [rewards, last, done] =
            [self.env_rewards, self.last_values, self.pwm.buffers.done].map(|v| self.numbers(v));
        let whole = |e: usize| (0..h).all(|t| done[t * n + e] == 0.0);
        let total = |e: usize| {
            let sum: f64 = (0..h).map(|t| c.gamma.powi(t as i32) * rewards[t * n + e]).sum();
            sum + c.gamma.powi(h as i32) * last[e]
        };
        (0..n).map(|e| whole(e).then(|| total(e))).collect()
    }

    fn snapshot(&self) -> Vec<(VarId, Vec<F>, Vec<u32>)> {
        let stored = |(id, dtype): (VarId, DType)| match dtype {
            DType::Real => (id, self.machine.real(id).to_vec(), vec![]),
            DType::Index => (id, vec![], self.machine.index(id).to_vec()),
        };
        let of_replay = |r| matches!(r, Region::Replay | Region::Episodes);
        let wanted = self.machine.vars().iter().filter(|(_, info)| !of_replay(info.region));
        wanted.map(|(id, info)| stored((id, info.dtype))).collect()
    }

    fn restore(&mut self, from: &[(VarId, Vec<F>, Vec<u32>)]) {
        for (id, reals, indices) in from {
            if indices.is_empty() {
                self.machine.real_mut(*id).copy_from_slice(reals);
            } else {
                self.machine.index_mut(*id).copy_from_slice(indices);
            }
        }
    }
}

/// A rollout that keeps the true rewards and the value of the true last state; with `gradient` also the actor's, which
/// is cut at the actor's input if it holds true.
fn write(p: &mut Program, vars: &Vars, pwm: &Pwm, env_rewards: VarId, last_values: VarId, gradient: Option<bool>) {
    let c = &Config { detach: gradient == Some(true), ..pwm.config.clone() };
    let epoch = p.var(vars, pwm.epoch);
    let noise = normal(p, c.seed, Stream::Policy, epoch, &[c.horizon, c.num_envs, pwm.env.act_dim]);
    increment(p, epoch);
    let (obs, rewards) = (p.var(vars, pwm.env.obs), p.var(vars, env_rewards));
    let mut step = |p: &mut Program, t: usize, action, (done, terminated)| {
        let reward = p.at(rewards, t);
        pwm.env.step(p, vars, action, Some((reward, done, terminated)));
        EnvStepVals { done, next_obs: Some(obs) }
    };
    let learn = gradient.is_some();
    let loss = rollout(p, vars, c, &pwm.nets, &pwm.buffers, obs, noise, learn, &mut step);
    if learn {
        pwm.nets.actor.group.gradient(p, vars, &[(loss, 1.0)]);
    }
    let seen = pwm.nets.prepare(p, vars, obs);
    let tasks = of_played(p, vars, &pwm.nets.world, c.num_envs, c.played());
    let latent = pwm.nets.world.bind_encoder(p, vars).apply(p, seen, tasks.embedding, false, None);
    let value = pwm.nets.critics.bind(p, vars).min(p, &tasks.seen(latent), false);
    let to = p.var(vars, last_values);
    copy(p, value, to);
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}

/// Pairs of a model's number and the true one.
#[derive(Clone, Debug, Default)]
struct Pairs {
    model: Vec<f64>,
    real: Vec<f64>,
}

impl Pairs {
    fn push(&mut self, model: f64, real: f64) {
        self.model.push(model);
        self.real.push(real);
    }

    fn agreement(&self) -> Agreement {
        let n = self.model.len() as f64;
        let (m, r) = (mean(&self.model), mean(&self.real));
        let centred = |x: &[f64], by: f64| -> Vec<f64> { x.iter().map(|x| x - by).collect() };
        let (cm, cr) = (centred(&self.model, m), centred(&self.real, r));
        let (vm, vr) = (dot(&cm, &cm), dot(&cr, &cr));
        let squares: f64 = self.model.iter().zip(&self.real).map(|(a, b)| (a - b) * (a - b)).sum();
        Agreement {
            correlation: dot(&cm, &cr) / (vm * vr).sqrt(),
            rmse: (squares / n).sqrt(),
            deviation: (vr / n).sqrt(),
            model_mean: m,
            true_mean: r,
            count: self.model.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;

    #[test]
    fn agreement_of_known_series() {
        let mut pairs = Pairs::default();
        for x in [0.0, 1.0, 2.0, 5.0] {
            pairs.push(2.0 * x + 1.0, x);
        }
        let a = pairs.agreement();
        assert!((a.correlation - 1.0).abs() < 1e-12 && a.count == 4);
        assert_eq!((a.model_mean, a.true_mean), (5.0, 2.0));
        assert_abs_diff_eq!(a.rmse, (1.0f64 + 4.0 + 9.0 + 36.0).sqrt() / 2.0, epsilon = 1e-12);
        assert_abs_diff_eq!(a.deviation, 3.5f64.sqrt(), epsilon = 1e-12);
    }
}
