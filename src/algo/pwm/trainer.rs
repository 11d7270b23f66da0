//! Runs the programs of PWM: initialisation, epochs, evaluation, state in and out.

use super::evaluate::{self, Evaluation, StepView};
use super::rollout::{EnvStepVals, rollout};
use super::world::Batch;
use super::{Loss, Probe, Pwm, RewardLoss, critic, probe, world};
use crate::algo::learner::{InFlight, Submitted, ahead};
use crate::algo::schedule::{Network, Schedule};
use crate::algo::{ExecPlan, Learner, rematerialised};
use crate::backend::Target;
use crate::config::Config;
use crate::device::cpu::team::Team;
use crate::device::cuda::CudaError;
use crate::device::philox::Stream;
use crate::env::{EnvBatch, EpisodeStat, Mode};
use crate::mem::{MapError, OutOfMemory};
use crate::model::Group;
use crate::ops::control::{accumulate, clip, increment};
use crate::ops::random::normal;
use crate::ops::replay::{ReplayVars, Transition, replay_begin, replay_record, replay_sample};
use crate::tape::{BindError, EpochIo, Machine, Number, Program, ProgramId, RunError, VarId, Vars};
use std::sync::Arc;

/// What an epoch did. Losses are means over its updates; `NaN` where there was none.
#[derive(Clone, Copy, Debug, Default)]
pub struct EpochReport {
    /// True if the networks learned; false while the replay holds no window.
    pub learned: bool,
    pub actor_loss: f64,
    pub critic_loss: f64,
    pub dynamics_loss: f64,
    pub reward_loss: f64,
    pub actor_grad_norm: f64,
    pub critic_grad_norm: f64,
    pub wm_grad_norm: f64,
    /// Learning rates of actor, critics and world model.
    pub rates: [f64; 3],
    /// Seconds of rollout and actor, critics with their targets, world model.
    pub seconds: [f64; 3],
    /// Episodes of the training environments that ended, their mean undiscounted return and length.
    pub episodes: f64,
    pub train_return: f64,
    pub train_length: f64,
    /// States that left physics and were reset.
    pub blown_up: f64,
    /// Gradients of single environment steps that were scaled down, and those that were not finite and left out.
    pub bounded: [f64; 2],
    /// Updates of each network skipped since the start because a gradient was not finite.
    pub skipped: [u32; 3],
}

/// Anything that stops a trainer.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    #[error(transparent)]
    File(#[from] MapError),
    #[error(transparent)]
    Kernel(#[from] RunError),
    #[error(transparent)]
    Cuda(#[from] CudaError),
    #[error("cannot start worker threads: {0}")]
    Threads(#[from] std::io::Error),
}

/// What a machine was refused for is what the trainer is refused for.
impl From<BindError> for TrainError {
    fn from(e: BindError) -> Self {
        match e {
            BindError::Memory(e) => Self::Memory(e),
            BindError::File(e) => Self::File(e),
            BindError::Cuda(e) => Self::Cuda(e),
        }
    }
}

/// Programs of a trainer, in the order they were written.
#[derive(Clone, Copy, Debug)]
struct Programs {
    begin: ProgramId,
    collect: ProgramId,
    eval_begin: ProgramId,
    eval_step: ProgramId,
    probe: ProgramId,
}

/// A run of PWM on a machine.
pub struct Trainer<F: Number> {
    pub pwm: Pwm,
    pub eval_env: EnvBatch,
    pub machine: Machine<F>,
    programs: Programs,
    bootstrapped: bool,
    /// Factor on all learning rates: below 1 after a rollback.
    lr_scale: f64,
    in_flight: InFlight,
    /// Windows in the replay after the last epoch that was synced.
    windows: usize,
}

/// Variables and programs of a run, before anything is allocated: what `Layout` plans.
pub fn write(c: &Config) -> (Vars, Pwm, EnvBatch, Vec<Program>) {
    write_with(c, world::reward_loss)
}

fn write_with(c: &Config, reward_loss: RewardLoss) -> (Vars, Pwm, EnvBatch, Vec<Program>) {
    let mut vars = Vars::default();
    let mut pwm = Pwm::new(&mut vars, c);
    pwm.nets.reward_loss = reward_loss;
    let eval_env = EnvBatch::of_config(&mut vars, "eval", c, c.eval_episodes, Mode::Evaluate, Stream::Eval);
    let mut programs = vec![
        begin(&vars, &pwm),
        act(&vars, &pwm, false),
        act(&vars, &pwm, true),
        program("targets", |p| critic::targets(p, &vars, c, &pwm.buffers)),
        program("critic_update", |p| {
            let (passes, loss) = (p.var(&vars, pwm.passes), p.var_at(&vars, pwm.losses, Loss::Critic as usize, &[1]));
            critic::pass(p, &vars, c, &pwm.nets.critics, &pwm.buffers, passes, loss);
        }),
        program("wm_update", |p| {
            let (obs, act, rew) = replay_sample(p, &vars, &pwm.replay);
            let draws = p.var(&vars, pwm.replay.draws);
            let tau = world::taus(p, c, draws);
            let loss = world::update(p, &vars, c, &pwm.nets, Batch { obs, act, rew, tau });
            let parts = [
                (Some(loss.dynamics), Loss::Dynamics),
                (loss.endpoint, Loss::Dynamics),
                (Some(loss.reward), Loss::Reward),
            ];
            for (x, slot) in parts.into_iter().filter_map(|(x, slot)| Some((x?, slot))) {
                let slot = p.var_at(&vars, pwm.losses, slot as usize, &[1]);
                accumulate(p, x, slot, false);
            }
        }),
    ];
    programs.extend(evaluate::programs(&vars, &eval_env, |p, obs| evaluate::policy(p, &vars, &pwm.nets, obs)));
    programs.push(program("probe", |p| probe::probe(p, &vars, &pwm, &pwm.probe)));
    (vars, pwm, eval_env, programs)
}

fn program(name: &'static str, f: impl FnOnce(&mut Program)) -> Program {
    let mut p = Program::new(name);
    f(&mut p);
    p
}

/// All environments start, and with them the replay's first episodes.
fn begin(vars: &Vars, pwm: &Pwm) -> Program {
    program("begin", |p| {
        pwm.env.reset(p, vars);
        let obs = p.var(vars, pwm.env.obs);
        replay_begin(p, vars, &pwm.replay, obs);
    })
}

/// The rollout; with `learn` also the actor's update.
fn act(vars: &Vars, pwm: &Pwm, learn: bool) -> Program {
    let c = &pwm.config;
    program(if learn { "actor_update" } else { "collect" }, |p| {
        let epoch = p.var(vars, pwm.epoch);
        let noise = normal(p, c.seed, Stream::Policy, epoch, &[c.horizon, c.num_envs, pwm.env.act_dim]);
        increment(p, epoch);
        let obs = p.var(vars, pwm.env.obs);
        let mut step = |p: &mut Program, _: usize, action, (done, terminated)| {
            let reward = p.real(&[c.num_envs]);
            let stepped = pwm.env.step(p, vars, action, Some((reward, done, terminated)));
            let reward = if c.reward_clip > 0.0 { clip(p, reward, c.reward_clip) } else { reward };
            let t = Transition { obs: stepped.obs_before_reset, action, reward, done, next: obs };
            replay_record(p, vars, &pwm.replay, &t);
            EnvStepVals { done, next_obs: obs }
        };
        let loss = rollout(p, vars, c, &pwm.nets, &pwm.buffers, obs, noise, learn, &mut step);
        if learn {
            pwm.nets.actor.group.update(p, vars, &[(loss, 1.0)]);
        }
        let slot = p.var_at(vars, pwm.losses, Loss::Actor as usize, &[1]);
        accumulate(p, loss, slot, true);
    })
}

/// What must be finite beside the networks.
fn others(pwm: &Pwm) -> impl Iterator<Item = VarId> + '_ {
    let (nets, e) = (&pwm.nets, &pwm.env);
    [nets.rew_stats, nets.ret_stats].into_iter().chain(nets.obs_stats).chain(e.states()).chain([e.obs])
}

/// The programs of an epoch that learns, by number, and how often each runs.
fn steps(c: &Config, updates: usize) -> [(usize, usize); 4] {
    [(2, 1), (3, 1), (4, c.critic_iterations), (5, updates)]
}

/// An epoch that learns, and one that waits for replay.
fn sequences(c: &Config) -> Vec<Vec<(usize, usize)>> {
    vec![steps(c, c.wm_iterations).into(), vec![(1, 1)]]
}

/// What host and device tell each other about an epoch.
pub(in crate::algo) fn epoch_io(pwm: &Pwm) -> EpochIo {
    let (c, nets) = (&pwm.config, &pwm.nets);
    let groups = [&nets.actor.group, &nets.critics.group, &nets.world.group];
    let sums = [pwm.losses, pwm.env.episode_stats];
    let mut finite_checked: Vec<VarId> = groups.iter().flat_map(|g| [g.params, g.m, g.v]).collect();
    finite_checked.extend(others(pwm));
    EpochIo {
        inputs: groups.iter().flat_map(|g| [g.rate, g.norm]).chain(sums).collect(),
        outputs: (groups.iter().flat_map(|g| [g.norm, g.skipped]))
            .chain(sums)
            .chain([pwm.epoch, pwm.replay.ready])
            .collect(),
        finite_checked,
        sequences: sequences(c),
        ahead: ahead(c),
    }
}

impl<F: Number> Trainer<F> {
    /// Plans, allocates and initialises a run, on the processor whatever `device` says.
    pub fn new(c: &Config) -> Result<Self, TrainError> {
        Self::on(c, &Target::Cpu)
    }

    /// The same on `target`: see [`crate::algo::target()`].
    pub fn on(c: &Config, target: &Target) -> Result<Self, TrainError> {
        Self::with(c, target, world::reward_loss)
    }

    /// As [`Trainer::new`], with the first so many candidates of each program computed twice, as a plan has it.
    pub fn rematerialising(c: &Config, taken: &[usize]) -> Result<Self, TrainError> {
        Self::bind(c, &Target::Cpu, write(c), &ExecPlan::rematerialising(taken))
    }

    /// As [`Trainer::new`], with another loss of the reward head than the one that belongs to it: for tests of what a
    /// run does when its rewards cannot be learned.
    #[doc(hidden)]
    pub fn with_reward_loss(c: &Config, reward_loss: RewardLoss) -> Result<Self, TrainError> {
        Self::with(c, &Target::Cpu, reward_loss)
    }

    fn with(c: &Config, target: &Target, reward_loss: RewardLoss) -> Result<Self, TrainError> {
        let written = write_with(c, reward_loss);
        let exec_plan = ExecPlan::rematerialising(&rematerialised(c, written.3.len()));
        Self::bind(c, target, written, &exec_plan)
    }

    fn bind(
        c: &Config,
        target: &Target,
        written: (Vars, Pwm, EnvBatch, Vec<Program>),
        exec_plan: &ExecPlan,
    ) -> Result<Self, TrainError> {
        let team = Arc::new(Team::new(c.threads)?);
        let (vars, pwm, eval_env, programs) = written;
        let (vars, programs) = exec_plan.of(vars, programs);
        let io = epoch_io(&pwm);
        let machine = Machine::with_epochs(target, vars, programs, &io, team, &exec_plan.replay)?;
        let id = |i| machine.program(i);
        let programs = Programs { begin: id(0), collect: id(1), eval_begin: id(6), eval_step: id(7), probe: id(8) };
        let mut t = Self {
            pwm,
            eval_env,
            machine,
            programs,
            bootstrapped: false,
            lr_scale: 1.0,
            in_flight: InFlight::default(),
            windows: 0,
        };
        t.init()?;
        Ok(t)
    }

    fn init(&mut self) -> Result<(), TrainError> {
        self.pwm.nets.init(&mut self.machine, self.pwm.config.seed);
        self.machine.run(self.programs.begin)?;
        Ok(())
    }

    pub fn config(&self) -> &Config {
        &self.pwm.config
    }

    /// Epochs begun, warm-up included.
    pub fn epoch(&self) -> u64 {
        self.in_flight.epoch().unwrap_or_else(|| u64::from(self.machine.index(self.pwm.epoch)[0]))
    }

    /// True steps of the training environments so far.
    pub fn env_steps(&self) -> u64 {
        self.epoch() * (self.pwm.config.horizon * self.pwm.config.num_envs) as u64
    }

    /// One epoch from beginning to end: see [`Learner`].
    pub fn run_epoch(&mut self) -> Result<EpochReport, TrainError> {
        Learner::run_epoch(self)
    }

    /// Begins an epoch. While the replay holds no window the environments are only driven.
    fn begin(&mut self) -> Result<(), TrainError> {
        assert!(!self.must_sync(), "invariant: epochs are synced when they must be");
        let (c, e, scale) = (&self.pwm.config, self.epoch(), self.lr_scale);
        let rates = [Network::Actor, Network::Critic, Network::Model].map(|n| scale * Schedule::of(c, n).rate(e));
        let (usual, first) = (c.wm_iterations, c.bootstrap_updates());
        let nets = &self.pwm.nets;
        let groups = [&nets.actor.group, &nets.critics.group, &nets.world.group].map(|g| (g.rate, g.norm));
        for ((rate, norm), lr) in groups.into_iter().zip(rates) {
            self.machine.input(rate)[0] = F::of(lr);
            self.machine.input(norm)[0] = F::of(f64::NAN);
        }
        for sums in [self.pwm.losses, self.pwm.env.episode_stats] {
            self.machine.input(sums).fill(F::zero());
        }
        // Between two looks there are windows if there were enough.
        let learned = if self.in_flight.is_empty() { self.can_learn() } else { true };
        let mut updates = 0;
        if learned {
            updates = if self.bootstrapped { usual } else { first.max(usual) };
            self.bootstrapped = true;
            self.machine.submit(&self.schedule(updates))?;
        } else {
            self.machine.submit(&[(self.programs.collect, 1)])?;
        }
        self.in_flight.push(e, Submitted { learned, updates, rates });
        Ok(())
    }

    /// Whether the next epoch must know what the last one left: while there are so few windows that they might run out
    /// unseen.
    fn must_look(&self) -> bool {
        let (c, s) = (&self.pwm.config, &self.pwm.replay.spec);
        let rows = s.num_envs * (s.staging_rows + ahead(c) * c.horizon);
        // Each row that comes pushes out at most one window's start.
        !self.in_flight.is_empty() && self.windows <= rows
    }

    /// Says of each epoch that was begun what it did.
    fn sync_each(&mut self, mut each: impl FnMut(&EpochReport)) -> Result<(), TrainError> {
        self.machine.sync()?;
        // Of an epoch that only collects there is one.
        let [actor, targets, critics, world] =
            [0, 1, 2, 3].map(|step| self.machine.seconds().get(step).copied().unwrap_or(0.0));
        let (c, nets, m) = (&self.pwm.config, &self.pwm.nets, &self.machine);
        let groups = [&nets.actor.group, &nets.critics.group, &nets.world.group];
        for (back, begun) in self.in_flight.take() {
            let Submitted { learned, updates, rates } = begun;
            let real = |v: VarId, i: usize| m.output(back, v)[i].value();
            let loss = |l: Loss, n: usize| {
                let sum = real(self.pwm.losses, l as usize);
                if n > 0 { sum / n as f64 } else { f64::NAN }
            };
            let stat = |m: EpisodeStat| self.pwm.env.total(|i| real(self.pwm.env.episode_stats, i), m);
            let episodes = stat(EpisodeStat::Episodes);
            let per_episode = |m: EpisodeStat| if episodes > 0.0 { stat(m) / episodes } else { f64::NAN };
            let norms = groups.map(|g| real(g.norm, 0));
            let passes = c.critic_iterations * c.critic_batches;
            each(&EpochReport {
                learned,
                actor_loss: loss(Loss::Actor, learned.into()),
                critic_loss: loss(Loss::Critic, if learned { passes } else { 0 }),
                dynamics_loss: loss(Loss::Dynamics, updates),
                reward_loss: loss(Loss::Reward, updates),
                actor_grad_norm: norms[0],
                critic_grad_norm: norms[1],
                wm_grad_norm: norms[2],
                rates,
                seconds: if learned { [actor, targets + critics, world] } else { [actor, 0.0, 0.0] },
                episodes,
                train_return: per_episode(EpisodeStat::Return),
                train_length: per_episode(EpisodeStat::Length),
                blown_up: stat(EpisodeStat::BlownUp),
                bounded: [0.0; 2],
                skipped: groups.map(|g| m.output_index(back, g.skipped)[0]),
            });
            self.windows = m.output_index(back, self.pwm.replay.ready)[0] as usize;
        }
        Ok(())
    }

    /// The programs of an epoch that learns, in order, and how often each runs.
    pub fn schedule(&self, updates: usize) -> [(ProgramId, usize); 4] {
        steps(&self.pwm.config, updates).map(|(i, runs)| (self.machine.program(i), runs))
    }

    /// Whether there is anything to learn from: a window in the replay and, unless unfinished episodes count, one
    /// finished episode.
    pub fn can_learn(&self) -> bool {
        self.machine.index(self.pwm.replay.ready)[0] > 0
    }

    /// Plays one episode in each evaluation environment with the deterministic policy, encoding every observation.
    /// `watch` sees every step.
    pub fn evaluate(&mut self, watch: impl FnMut(StepView<F>)) -> Result<Evaluation, TrainError> {
        let programs = [self.programs.eval_begin, self.programs.eval_step];
        Ok(evaluate::play(&mut self.machine, programs, &self.eval_env, self.pwm.config.episode_length, watch)?)
    }

    /// What the world model knows, on replayed windows; none while there are none.
    pub fn probe(&mut self) -> Result<Option<Probe>, TrainError> {
        if !self.can_learn() {
            return Ok(None);
        }
        let epoch = self.epoch();
        self.pwm.probe.choose(&mut self.machine, epoch);
        self.machine.run(self.programs.probe)?;
        Ok(Some(self.pwm.probe.read(&self.machine)))
    }

    /// Variables of a checkpoint: all that the next epoch depends on, or with `policy_only` networks and statistics.
    /// An evaluation starts from nothing, so its environments are left out.
    pub fn state(&self, policy_only: bool) -> Vec<VarId> {
        evaluate::state(self.machine.vars(), &self.eval_env, policy_only)
    }

    /// Whether the world model has had its first, longer training.
    pub fn bootstrapped(&self) -> bool {
        self.bootstrapped
    }

    /// For a run that continues from a checkpoint.
    pub fn set_bootstrapped(&mut self, done: bool) {
        self.bootstrapped = done;
    }

    /// Factor on all learning rates.
    pub fn lr_scale(&self) -> f64 {
        self.lr_scale
    }

    /// Lowers (or, in a drill, raises) all learning rates from the next epoch on.
    pub fn set_lr_scale(&mut self, scale: f64) {
        self.lr_scale = scale;
    }

    /// Forgets what the optimisers remember: for weights that did not come from their steps.
    pub fn reset_optimisers(&mut self) {
        let nets = &self.pwm.nets;
        for group in [&nets.actor.group, &nets.critics.group, &nets.world.group] {
            group.reset(&mut self.machine);
        }
    }

    /// The first number of the state that is infinite or not a number, named: networks by tensor, the rest by
    /// variable. The replay's ring is left out: its rows were environment states, which are looked at every epoch.
    pub fn non_finite(&self) -> Option<String> {
        if !self.machine.non_finite() {
            return None;
        }
        let nets = &self.pwm.nets;
        let groups = [&nets.actor.group, &nets.critics.group, &nets.world.group];
        if let Some(name) = groups.iter().find_map(|g| g.non_finite(&self.machine)) {
            return Some(name);
        }
        let bad = |id: &VarId| !self.machine.real(*id).iter().fold(true, |fine, x| fine & x.value().is_finite());
        others(&self.pwm).find(bad).map(|id| self.machine.vars().info(id).name.clone())
    }
}

impl<F: Number> Learner for Trainer<F> {
    type F = F;

    fn build(c: &Config) -> (Vars, Vec<Program>) {
        let (vars, _, _, programs) = write(c);
        (vars, programs)
    }
    fn from_plan(c: &Config, target: &Target, exec_plan: &ExecPlan) -> Result<Self, TrainError> {
        Self::bind(c, target, write(c), exec_plan)
    }
    fn config(&self) -> &Config {
        self.config()
    }
    fn machine(&self) -> &Machine<F> {
        &self.machine
    }
    fn machine_mut(&mut self) -> &mut Machine<F> {
        &mut self.machine
    }
    fn eval_env(&self) -> &EnvBatch {
        &self.eval_env
    }
    fn groups(&self) -> [Option<&Group>; 3] {
        let nets = &self.pwm.nets;
        [&nets.actor.group, &nets.critics.group, &nets.world.group].map(Some)
    }
    fn replay(&self) -> Option<&ReplayVars> {
        Some(&self.pwm.replay)
    }
    fn steps(&self) -> Vec<(ProgramId, usize)> {
        self.schedule(self.pwm.config.wm_iterations).into()
    }
    fn epoch(&self) -> u64 {
        self.epoch()
    }
    fn begin_epoch(&mut self) -> Result<(), TrainError> {
        self.begin()
    }
    fn sync(&mut self, each: impl FnMut(&EpochReport)) -> Result<(), TrainError> {
        self.sync_each(each)
    }
    fn must_sync(&self) -> bool {
        self.machine.must_sync() || self.must_look()
    }
    fn evaluate(&mut self, watch: impl FnMut(StepView<F>)) -> Result<Evaluation, TrainError> {
        self.evaluate(watch)
    }
    fn probe(&mut self) -> Result<Option<Probe>, TrainError> {
        self.probe()
    }
    fn non_finite(&self) -> Option<String> {
        self.non_finite()
    }
    fn bootstrapped(&self) -> bool {
        self.bootstrapped
    }
    fn set_bootstrapped(&mut self, done: bool) {
        self.bootstrapped = done;
    }
    fn lr_scale(&self) -> f64 {
        self.lr_scale
    }
    fn set_lr_scale(&mut self, scale: f64) {
        self.lr_scale = scale;
    }
    fn reset_optimisers(&mut self) {
        self.reset_optimisers();
    }
}
