//! Closed-loop evaluation: the deterministic policy on the true environment, acting on what is observed at each step.

use super::Nets;
use super::trainer::TrainError;
use crate::algo::shac;
use crate::config::{Algorithm, Config};
use crate::device::cpu::team::Team;
use crate::device::philox::Stream;
use crate::env::{EnvBatch, Mode};
use crate::tape::{Machine, Number, Program, ProgramId, Region, RunError, Val, VarId, Vars};
use std::sync::Arc;

/// What an evaluation measured, one number an episode.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    pub returns: Vec<f64>,
    pub lengths: Vec<f64>,
}

impl Evaluation {
    pub fn mean(&self) -> f64 {
        mean(&self.returns)
    }

    /// Standard deviation over episodes (n - 1).
    pub fn std(&self) -> f64 {
        let (m, n) = (self.mean(), self.returns.len() as f64);
        (self.returns.iter().map(|r| (r - m).powi(2)).sum::<f64>() / (n - 1.0).max(1.0)).sqrt()
    }

    pub fn mean_length(&self) -> f64 {
        mean(&self.lengths)
    }

    /// The episode in the middle of the order of returns: the one to show.
    pub fn median_episode(&self) -> usize {
        let mut order: Vec<usize> = (0..self.returns.len()).collect();
        order.sort_by(|&a, &b| self.returns[a].total_cmp(&self.returns[b]).then(a.cmp(&b)));
        order.get(order.len() / 2).copied().unwrap_or(0)
    }
}

/// The published format of the number: training and `pwm eval` print the same line.
impl std::fmt::Display for Evaluation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let n = self.returns.len();
        write!(f, "return {:.2} ± {:.2}, length {:.1} ({n} episodes)", self.mean(), self.std(), self.mean_length())
    }
}

fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len().max(1) as f64
}

/// Two programs: one starts an episode in each environment, one makes a step with the action that `policy` takes on the
/// observations `[N, O]`.
pub(crate) fn programs(vars: &Vars, env: &EnvBatch, policy: impl FnOnce(&mut Program, Val) -> Val) -> [Program; 2] {
    let mut begin = Program::new("eval_begin");
    env.reset(&mut begin, vars);
    let mut step = Program::new("eval_step");
    let p = &mut step;
    let obs = p.var(vars, env.obs);
    let action = policy(p, obs);
    env.step(p, vars, action, None);
    [begin, step]
}

/// PWM's policy: the mean action on the encoded observation.
pub(super) fn policy(p: &mut Program, vars: &Vars, nets: &Nets, obs: Val) -> Val {
    let obs = nets.prepare(p, vars, obs);
    let encoder = nets.world.bind_encoder(p, vars);
    let actor = nets.actor.bind(p, vars);
    let z = encoder.apply(p, obs, false, None);
    actor.act(p, z, None, false, None)
}

/// The environments of the first task before a step of an evaluation.
#[derive(Clone, Copy, Debug)]
pub struct StepView<'a, F> {
    /// Coordinates `[N, nq]` and velocities `[N, nqd]`.
    pub q: &'a [F],
    pub qd: &'a [F],
    /// Returns so far `[N]`.
    pub returns: &'a [F],
}

/// Plays one episode in each environment; `watch` sees every step of it.
pub(crate) fn play<F: Number>(
    machine: &mut Machine<F>,
    [begin, step]: [ProgramId; 2],
    env: &EnvBatch,
    episode_length: usize,
    mut watch: impl FnMut(StepView<F>),
) -> Result<Evaluation, RunError> {
    machine.run(begin)?;
    for _ in 0..episode_length {
        let shown = &env.groups[0];
        let [q, qd, returns] = [shown.q, shown.qd, env.ep_return].map(|v| machine.real(v));
        watch(StepView { q, qd, returns: &returns[shown.rows()] });
        if machine.real(env.alive).iter().all(|a| a.value() == 0.0) {
            break;
        }
        machine.run(step)?;
    }
    Ok(Evaluation {
        returns: machine.real(env.ep_return).iter().map(|r| r.value()).collect(),
        lengths: machine.index(env.progress).iter().map(|&l| f64::from(l)).collect(),
    })
}

/// Variables of a checkpoint, see [`super::Trainer::state`]; `env` are the environments of the evaluation.
pub(crate) fn state(vars: &Vars, env: &EnvBatch, policy_only: bool) -> Vec<VarId> {
    let keep = |r: Region| match r {
        Region::Parameters | Region::Statistics => true,
        Region::Optimiser | Region::Replay | Region::Episodes | Region::Environment | Region::Control => !policy_only,
        Region::Gradients | Region::Exchange => false,
    };
    let evaluation = env.vars();
    vars.iter().filter(|(id, info)| keep(info.region) && !evaluation.contains(id)).map(|(id, _)| id).collect()
}

/// A policy and the environments to judge it in, without replay and training environments.
pub struct Evaluator<F: Number> {
    pub env: EnvBatch,
    pub machine: Machine<F>,
    programs: [ProgramId; 2],
    episode_length: usize,
}

impl<F: Number> Evaluator<F> {
    /// Environments for `episodes` episodes that start from random stream `stream`. Networks hold zeros until a
    /// checkpoint fills them.
    pub fn new(c: &Config, episodes: usize, stream: Stream) -> Result<Self, TrainError> {
        let mut vars = Vars::default();
        let env = EnvBatch::of_config(&mut vars, "eval", c, episodes, Mode::Evaluate, stream);
        let written = match c.algorithm {
            Algorithm::Pwm => {
                let nets = Nets::new(&mut vars, c, env.obs_dim, env.act_dim);
                programs(&vars, &env, |p, obs| policy(p, &vars, &nets, obs))
            }
            Algorithm::Shac => {
                let nets = shac::Nets::new(&mut vars, c, env.obs_dim, env.act_dim);
                programs(&vars, &env, |p, obs| nets.policy(p, &vars, obs))
            }
        };
        let machine = Machine::new(vars, written.into(), Arc::new(Team::new(c.threads)?))?;
        let programs = [machine.program(0), machine.program(1)];
        Ok(Self { env, machine, programs, episode_length: c.episode_length })
    }

    /// See [`super::Trainer::evaluate`].
    pub fn evaluate(&mut self, watch: impl FnMut(StepView<F>)) -> Result<Evaluation, TrainError> {
        Ok(play(&mut self.machine, self.programs, &self.env, self.episode_length, watch)?)
    }

    /// What a checkpoint must fill.
    pub fn state(&self) -> Vec<VarId> {
        let keep = |r: Region| matches!(r, Region::Parameters | Region::Statistics);
        self.machine.vars().iter().filter(|(_, info)| keep(info.region)).map(|(id, _)| id).collect()
    }
}
