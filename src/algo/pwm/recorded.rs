//! Learning from recorded episodes: a model of all their tasks, or a policy for one task in a model that is there.
//!
//! A policy's rollouts begin with recorded observations and go on in the model alone: no episode ends in them, and the
//! true environments are only there to judge (the multi-task experiments of Georgiev et al., 2024).

use super::build::{loss_metric, rollout_embeddings};
use super::rollout::{EnvStepVals, rollout};
use super::world::{self, Batch};
use super::{PwmLoss, PwmNets, RewardLoss, critic, probe};
use crate::algo::evaluate::{EvalPlan, Judge};
use crate::algo::metrics::{self, Measured, MetricSource};
use crate::algo::programs::{Handle, Programs, Sequence};
use crate::algo::schedule::Network;
use crate::algo::validate::Validation;
use crate::algo::{Blueprint, EpochSchedule, Networks, Parts, ProbeVars, RolloutBuffers, TrainedNetwork};
use crate::config::{Config, Device};
use crate::device::philox::Stream;
use crate::env::{EnvBatch, Mode, dims};
use crate::io::episodes::{DataError, Index, Store};
use crate::ops::control::{accumulate, increment};
use crate::ops::random::normal;
use crate::ops::sum::sum;
use crate::ops::windows::{Feed, Part, WindowSpec, starts, windows};
use crate::tape::fill::Fill;
use crate::tape::{DType, Program, Region, Val, VarId, Vars};
use std::path::PathBuf;
use std::sync::Arc;

/// Tells the draws of a validation from those of learning.
const VALIDATION: u64 = 0x5641_4c49_4400_0000;
/// Tells those of a probe from both.
const PROBE: u64 = 0x5052_4f42_4500_0000;

/// The number of a task among those of the model.
fn number_of(c: &Config, task: &str) -> u32 {
    c.model_tasks().iter().position(|t| t == task).unwrap_or(0) as u32
}

/// The recorded episodes that a run of `c` learns from: of the tasks that `env` names.
pub fn open(c: &Config) -> Result<Store, DataError> {
    let mut indices = vec![];
    for path in c.data.iter().map(PathBuf::from) {
        let index = Index::load(&path)?;
        indices.push((path, index));
    }
    Store::open(&indices, &c.env_names())
}

/// Whether the host draws windows before an epoch begins: wherever it may run on a device.
fn is_fed(c: &Config) -> bool {
    c.device != Device::Cpu
}

/// Single rows to roll out from, where windows are `of`.
fn starts_of(c: &Config, of: &WindowSpec) -> WindowSpec {
    WindowSpec { horizon: 0, batch: c.num_envs, ..of.clone() }
}

/// What both kinds of runs have.
struct Recorded<'a> {
    c: &'a Config,
    nets: PwmNets,
    spec: WindowSpec,
    /// Of the run on a device, which cannot read the files: windows of an epoch, starts of an epoch.
    feeds: [Option<Feed>; 2],
    /// Index `[1]`: epochs begun.
    epoch: VarId,
    /// Index `[1]`: batches of windows drawn to learn the model; starts drawn to roll out from.
    draws: [VarId; 2],
    /// `[4]`: see [`PwmLoss`].
    losses: VarId,
}

impl<'a> Recorded<'a> {
    fn new(vars: &mut Vars, c: &'a Config, reward_loss: RewardLoss) -> Self {
        let (obs_dim, act_dim) = dims(c);
        let nets = PwmNets { reward_loss, ..PwmNets::new(vars, c, obs_dim, act_dim) };
        let store = open(c).unwrap_or_else(|e| panic!("invariant: the data of a configuration was opened before: {e}"));
        let spec = WindowSpec {
            numbers: store.tasks().iter().map(|t| number_of(c, &t.name)).collect(),
            store: Arc::new(store),
            horizon: c.horizon,
            batch: c.wm_batch_size,
            obs_dim,
            act_dim,
            sampling: c.task_sampling,
            held_out: c.held_out,
            part: Part::Learned,
            seed: c.seed,
        };
        let mut index = |name: &str| vars.add(Region::Control, name, DType::Index, &[1]);
        let epoch = index("epoch");
        let draws = [index("windows.draws"), index("starts.draws")];
        let losses = vars.add(Region::Control, "losses", DType::Real, &[4]);
        let (learns, acts) = (!c.is_played() || c.finetune, c.is_played());
        let mut feed = |wanted: bool, name: &str, spec: &WindowSpec, samples: usize| {
            (wanted && is_fed(c)).then(|| Feed::new(vars, name, spec, samples))
        };
        let feeds = [
            feed(learns, "windows.samples", &spec, c.wm_iterations),
            feed(acts, "starts.samples", &starts_of(c, &spec), 1),
        ];
        Self { c, nets, spec, feeds, epoch, draws, losses }
    }

    /// Room for one sample of `spec` that a program outside of epochs takes.
    fn one(&self, vars: &mut Vars, name: &str, spec: &WindowSpec) -> Option<Feed> {
        is_fed(self.c).then(|| Feed::new(vars, name, spec, 1))
    }

    /// A batch of windows for the model.
    fn batch(&self, p: &mut Program, vars: &Vars, spec: &WindowSpec, draws: Val, feed: Option<&Feed>) -> Batch {
        let samples = feed.map(|f| p.var(vars, f.var));
        let w = windows(p, spec, draws, samples);
        let tau = world::taus(p, self.c, draws);
        let tasks = w.tasks.filter(|_| self.nets.world.tasks().is_some());
        Batch { obs: w.obs, act: w.act, rew: w.rew, tasks, tau }
    }

    fn update_model(&self, p: &mut Program, vars: &Vars) {
        let draws = p.var(vars, self.draws[0]);
        let batch = self.batch(p, vars, &self.spec, draws, self.feeds[0].as_ref());
        let loss = world::update(p, vars, self.c, &self.nets, batch);
        loss.accumulate(p, vars, self.losses);
    }

    /// Counts an epoch that steps no environments.
    fn count(&self, programs: &mut Programs, vars: &Vars) -> Handle {
        programs.push("count", |p| {
            let epoch = p.var(vars, self.epoch);
            increment(p, epoch);
        })
    }

    /// The loss on held out windows. Statistics are read, not updated.
    fn validation(&self, programs: &mut Programs, vars: &mut Vars) -> Validation {
        let spec = WindowSpec { part: Part::HeldOut, seed: self.spec.seed ^ VALIDATION, ..self.spec.clone() };
        let feed = self.one(vars, "validation.samples", &spec);
        Validation::push(programs, vars, self.c.horizon, feed.clone(), |p, vars, draws| {
            let batch = self.batch(p, vars, &spec, draws, feed.as_ref());
            let (obs, rew) = world::normalised(p, vars, self.c, &self.nets, batch.obs, batch.rew);
            let loss = world::world_loss(p, vars, self.c, &self.nets, Batch { obs, rew, ..batch });
            let both = sum(p, loss.dynamics, loss.reward, None);
            loss.endpoint.map_or(both, |endpoint| sum(p, both, endpoint, None))
        })
    }

    fn probe(&self, programs: &mut Programs, vars: &mut Vars) -> (Handle, ProbeVars, Option<Feed>) {
        let of = ProbeVars::new(vars);
        let spec = WindowSpec { part: Part::HeldOut, seed: self.spec.seed ^ PROBE, ..self.spec.clone() };
        let feed = self.one(vars, "probe.samples", &spec);
        let program = programs.push("probe", |p| {
            let draws = p.var(vars, of.draws);
            let batch = self.batch(p, vars, &spec, draws, feed.as_ref());
            probe::probe(p, vars, self.c, &self.nets, batch, &of);
        });
        (program, of, feed)
    }

    fn metrics(&self, trained: &[TrainedNetwork], own: Vec<Measured>) -> Vec<Measured> {
        // No training episode ends, and no state leaves physics.
        let none = [
            metrics::TRAIN_RETURN,
            metrics::TRAIN_LENGTH,
            metrics::TRAIN_EPISODES,
            metrics::BLOWN_UP,
            metrics::BOUNDED_GRADIENTS,
            metrics::LOST_GRADIENTS,
        ];
        let none = none.map(|m| Measured::new(m, MetricSource::Zero));
        none.into_iter().chain(own).chain(TrainedNetwork::metrics(trained)).collect()
    }

    fn parts(&self, judge: Judge, epochs: EpochSchedule, networks: Vec<TrainedNetwork>, own: Vec<Measured>) -> Parts {
        Parts {
            config: self.c.clone(),
            constants: self.nets.constants(self.c),
            statistics: self.nets.statistics(),
            replay: None,
            epoch: self.epoch,
            sums: vec![self.losses],
            begin: None,
            feeds: self.feeds.iter().flatten().cloned().collect(),
            judge,
            probe: None,
            probe_feed: None,
            epochs,
            metrics: self.metrics(&networks, own),
            networks,
            env: None,
        }
    }

    fn loss(&self, metric: metrics::Metric, slot: PwmLoss, program: Handle, updates: usize) -> Measured {
        loss_metric(self.losses, metric, slot, program, updates)
    }
}

/// A world model of all tasks, and nothing else.
pub fn pretrain(c: &Config, reward_loss: RewardLoss) -> Blueprint {
    let (mut vars, mut programs) = (Vars::default(), Programs::default());
    let r = Recorded::new(&mut vars, c, reward_loss);
    let count = r.count(&mut programs, &vars);
    let update = programs.push("wm_update", |p| r.update_model(p, &vars));
    let judge = Judge::Validate(r.validation(&mut programs, &mut vars));
    let (probe, probed, probe_feed) = r.probe(&mut programs, &mut vars);
    let trained = vec![TrainedNetwork::new(c, Network::Model, &r.nets.world.group, c.wm_iterations)];
    let own = vec![
        r.loss(metrics::LOSS_DYNAMICS, PwmLoss::Dynamics, update, 1),
        r.loss(metrics::LOSS_REWARD, PwmLoss::Reward, update, 1),
        Measured::new(metrics::MODEL_SECONDS, MetricSource::Seconds(vec![update])),
    ];
    let usual = Sequence::new([(count, 1), (update, c.wm_iterations)]);
    let epochs = EpochSchedule { usual, first: None, collect: None };
    let parts = Parts { probe: Some((probe, probed)), probe_feed, ..r.parts(judge, epochs, trained, own) };
    Blueprint { vars, programs, parts }
}

/// A policy for one task, in a model whose weights the host brings.
pub fn policy(c: &Config, reward_loss: RewardLoss) -> Blueprint {
    let (mut vars, mut programs) = (Vars::default(), Programs::default());
    let r = Recorded::new(&mut vars, c, reward_loss);
    let buffers = RolloutBuffers::new(&mut vars, c, r.nets.world.width);
    let passes = vars.add(Region::Control, "critic_passes", DType::Index, &[1]);
    let eval = EnvBatch::of_config(&mut vars, "eval", c, c.eval_episodes, Mode::Evaluate, Stream::Eval);
    let networks = Networks::from(r.nets.clone());

    let actor_update = programs.push("actor_update", |p| act(p, &vars, &r, &buffers));
    let targets = programs.push("targets", |p| critic::targets(p, &vars, c, &buffers));
    let critic_update = programs.push("critic_update", |p| {
        let (passes, loss) = (p.var(&vars, passes), p.var_at(&vars, r.losses, PwmLoss::Critic as usize, &[1]));
        let embeddings = rollout_embeddings(p, &vars, c, &r.nets);
        critic::pass(p, &vars, c, &r.nets.critics, &buffers, embeddings, (passes, loss));
    });
    let wm_update = c.finetune.then(|| programs.push("wm_update", |p| r.update_model(p, &vars)));
    let plan = EvalPlan::push(&mut programs, &vars, eval, |p, obs| networks.policy(p, &vars, obs, c.played()));
    let (probe, probed, probe_feed) = r.probe(&mut programs, &mut vars);

    let mut trained = vec![
        TrainedNetwork::new(c, Network::Actor, &r.nets.actor.group, 1),
        TrainedNetwork::new(c, Network::Critic, &r.nets.critics.group, c.critic_iterations * c.critic_batches),
    ];
    let seconds = |metric, programs: &[Handle]| Measured::new(metric, MetricSource::Seconds(programs.into()));
    let mut own = vec![
        r.loss(metrics::LOSS_ACTOR, PwmLoss::Actor, actor_update, 1),
        r.loss(metrics::LOSS_CRITIC, PwmLoss::Critic, critic_update, c.critic_batches),
        seconds(metrics::ACTOR_SECONDS, &[actor_update]),
        seconds(metrics::CRITIC_SECONDS, &[targets, critic_update]),
    ];
    let mut steps = vec![(actor_update, 1), (targets, 1), (critic_update, c.critic_iterations)];
    if let Some(update) = wm_update {
        trained.push(TrainedNetwork::new(c, Network::Model, &r.nets.world.group, c.wm_iterations));
        own.extend([
            r.loss(metrics::LOSS_DYNAMICS, PwmLoss::Dynamics, update, 1),
            r.loss(metrics::LOSS_REWARD, PwmLoss::Reward, update, 1),
            seconds(metrics::MODEL_SECONDS, &[update]),
        ]);
        steps.push((update, c.wm_iterations));
    }
    let epochs = EpochSchedule { usual: Sequence::new(steps), first: None, collect: None };
    let parts = Parts { probe: Some((probe, probed)), probe_feed, ..r.parts(Judge::Play(plan), epochs, trained, own) };
    Blueprint { vars, programs, parts }
}

/// The rollout from recorded observations, and the actor's update.
fn act(p: &mut Program, vars: &Vars, r: &Recorded, buffers: &RolloutBuffers) {
    let c = r.c;
    let epoch = p.var(vars, r.epoch);
    let noise = normal(p, c.seed, Stream::Policy, epoch, &[c.horizon, c.num_envs, r.spec.act_dim]);
    increment(p, epoch);
    let draws = p.var(vars, r.draws[1]);
    let samples = r.feeds[1].as_ref().map(|f| p.var(vars, f.var));
    let obs = starts(p, &starts_of(c, &r.spec), draws, samples);
    let mut step = |p: &mut Program, _: usize, _, (done, terminated)| {
        for flag in [done, terminated] {
            p.push(Fill { value: 0.0 }, &[], &[flag]);
        }
        EnvStepVals { done, next_obs: None }
    };
    let loss = rollout(p, vars, c, &r.nets, buffers, obs, noise, true, &mut step);
    r.nets.actor.group.update(p, vars, &[(loss, 1.0)]);
    let slot = p.var_at(vars, r.losses, PwmLoss::Actor as usize, &[1]);
    accumulate(p, loss, slot, true);
}
