//! Runs the programs of an algorithm: initialisation, epochs, evaluation, state in and out.
//!
//! The runner knows no algorithm. It runs the programs that a [`Blueprint`] names, gives each network its learning
//! rate, keeps account of the epochs that a GPU is still busy with, and reads what the metrics of the blueprint ask
//! for.

use super::blueprint::{Blueprint, EpochKind, Parts, TrainedNetwork};
use super::in_flight::{InFlight, ahead};
use super::metrics::{Metric, MetricSource};
use super::programs::Sequence;
use super::{EpochReport, Evaluation, ExecPlan, Probe, StepView, TrainError, learner, rematerialised};
use crate::backend::Target;
use crate::config::Config;
use crate::device::cpu::team::Team;
use crate::env::{EnvBatch, EpisodeStat};
use crate::ops::replay::ReplayVars;
use crate::ops::stats::START_COUNT;
use crate::tape::{Machine, ProgramId, TapeReal, VarId};
use std::sync::Arc;

/// A run of an algorithm on a machine.
pub struct Runner<F: TapeReal> {
    pub machine: Machine<F>,
    pub parts: Parts,
    /// The programs of an epoch of each [`EpochKind`].
    steps: [Vec<(ProgramId, usize)>; 3],
    /// Whether the first epoch that learns is over, if it is another one than those after it.
    bootstrapped: bool,
    /// Factor on all learning rates: below 1 after a rollback.
    lr_scale: f64,
    in_flight: InFlight,
    /// Windows in the replay after the last epoch that was synced.
    windows: usize,
    report: EpochReport,
}

impl<F: TapeReal> Runner<F> {
    /// Plans, allocates and initialises a run of `c` on the processor, whatever `device` says.
    pub fn new(c: &Config) -> Result<Self, TrainError> {
        Self::on(c, &Target::Cpu)
    }

    /// The same on `target`: see [`super::target()`].
    pub fn on(c: &Config, target: &Target) -> Result<Self, TrainError> {
        Self::of(learner(c.algorithm).build(c), target)
    }

    /// A run of what an algorithm has written.
    pub fn of(blueprint: Blueprint, target: &Target) -> Result<Self, TrainError> {
        let Blueprint { programs, parts, .. } = &blueprint;
        let exec_plan = ExecPlan::rematerialising(&rematerialised(&parts.config, programs.len()));
        Self::bind(blueprint, target, &exec_plan)
    }

    /// As [`Runner::new`], with the first so many candidates of each program rematerialised, as a plan has it.
    pub fn rematerialising(c: &Config, taken: &[usize]) -> Result<Self, TrainError> {
        Self::from_plan(c, &Target::Cpu, &ExecPlan::rematerialising(taken))
    }

    /// Allocates and initialises a run on `target` as a plan has it.
    pub fn from_plan(c: &Config, target: &Target, exec_plan: &ExecPlan) -> Result<Self, TrainError> {
        Self::bind(learner(c.algorithm).build(c), target, exec_plan)
    }

    fn bind(blueprint: Blueprint, target: &Target, exec_plan: &ExecPlan) -> Result<Self, TrainError> {
        let Blueprint { vars, programs, parts } = blueprint;
        let team = Arc::new(Team::new(parts.config.threads)?);
        let (vars, programs) = exec_plan.of(vars, programs.into_vec());
        let machine = Machine::with_epochs(target, vars, programs, &parts.epoch_io(), team, &exec_plan.replay)?;
        let kinds = [EpochKind::Collect, EpochKind::First, EpochKind::Usual];
        let metrics: Arc<[Metric]> = parts.metrics.iter().map(|m| m.metric).collect();
        let mut runner = Self {
            steps: kinds.map(|kind| parts.epochs.of(kind).on(&machine)),
            bootstrapped: parts.epochs.first.is_none(),
            lr_scale: 1.0,
            in_flight: InFlight::new(parts.networks.len()),
            windows: 0,
            report: EpochReport::new(metrics, parts.networks.len()),
            machine,
            parts,
        };
        runner.init()?;
        Ok(runner)
    }

    /// Draws all parameters, lets the statistics start as if they had seen nothing, writes constants and starts the
    /// environments.
    fn init(&mut self) -> Result<(), TrainError> {
        let Self { machine, parts, .. } = self;
        for network in &parts.networks {
            network.group.init(machine, parts.config.seed);
        }
        for &stats in &parts.statistics {
            for s in machine.real_mut(stats).chunks_exact_mut(3) {
                s.copy_from_slice(&[F::zero(), F::one(), F::of(START_COUNT)]);
            }
        }
        for (var, values) in &parts.constants {
            machine.real_mut(*var).iter_mut().zip(values).for_each(|(x, v)| *x = F::of(*v));
        }
        if let Some(begin) = parts.begin {
            machine.run(begin.on(machine))?;
        }
        Ok(())
    }

    pub fn config(&self) -> &Config {
        &self.parts.config
    }

    /// Environments of the evaluation, if a policy is played in any.
    pub fn eval_env(&self) -> Option<&EnvBatch> {
        self.parts.judge.env()
    }

    /// The tasks of the evaluation by name.
    pub fn tasks(&self) -> Vec<String> {
        self.parts.judge.tasks()
    }

    /// The network of this name, as messages use it.
    ///
    /// # Panics
    ///
    /// If the algorithm has none of this name.
    pub fn network(&self, name: &str) -> &TrainedNetwork {
        let network = self.parts.networks.iter().find(|n| n.name == name);
        network.unwrap_or_else(|| panic!("invariant: the algorithm trains a network `{name}`"))
    }

    /// The replay buffer, if there is one.
    pub fn replay(&self) -> Option<&ReplayVars> {
        self.parts.replay.as_ref()
    }

    /// What an epoch measures, as its reports have it.
    pub fn metrics(&self) -> &Arc<[Metric]> {
        &self.report.metrics
    }

    /// The programs of an ordinary epoch, in order, and how often each runs.
    pub fn steps(&self) -> &[(ProgramId, usize)] {
        &self.steps[EpochKind::Usual as usize]
    }

    /// Epochs begun, those without learning included.
    pub fn epoch(&self) -> u64 {
        self.in_flight.epoch().unwrap_or_else(|| u64::from(self.machine.index(self.parts.epoch)[0]))
    }

    /// True steps of the training environments so far; of what learns from recorded episodes, steps that it has learned
    /// from.
    pub fn env_steps(&self) -> u64 {
        self.epoch() * self.config().epoch_steps() as u64
    }

    /// Whether there is anything to learn from: a window in the replay and, unless unfinished episodes count, one
    /// finished episode. Without a replay there always is.
    pub fn can_learn(&self) -> bool {
        self.replay().is_none_or(|r| self.machine.index(r.ready)[0] > 0)
    }

    /// What the next epoch does.
    fn kind(&self) -> EpochKind {
        // While epochs are in flight the replay need not be asked: `must_look` syncs them before the windows could run
        // out.
        if self.in_flight.is_empty() && !self.can_learn() {
            EpochKind::Collect
        } else if self.bootstrapped {
            EpochKind::Usual
        } else {
            EpochKind::First
        }
    }

    /// Begins an epoch. While the replay holds no window the environments are only driven. On a GPU the epoch may be
    /// under way when this returns; [`Runner::sync`] waits for it.
    pub fn begin_epoch(&mut self) -> Result<(), TrainError> {
        assert!(!self.must_sync(), "invariant: epochs are synced when they must be");
        let (e, kind) = (self.epoch(), self.kind());
        let Self { machine, parts, lr_scale, .. } = self;
        let rate = |n: &TrainedNetwork| *lr_scale * n.schedule.rate(e);
        for n in &parts.networks {
            machine.input(n.group.rate)[0] = F::of(rate(n));
            machine.input(n.group.norm)[0] = F::of(f64::NAN);
        }
        for &sum in &parts.sums {
            machine.input(sum).fill(F::zero());
        }
        for f in &parts.feeds {
            f.write(e * f.samples as u64, machine.input(f.var));
        }
        machine.submit(&self.steps[kind as usize])?;
        self.bootstrapped |= kind != EpochKind::Collect;
        self.in_flight.push(e, kind, parts.networks.iter().map(rate));
        Ok(())
    }

    /// Whether the next epoch cannot begin before those begun are synced.
    pub fn must_sync(&self) -> bool {
        self.machine.must_sync() || self.must_look()
    }

    /// Whether the replay must be looked at before the next epoch: while it holds so few windows that they could run
    /// out while epochs are in flight.
    fn must_look(&self) -> bool {
        let Some(replay) = self.replay() else { return false };
        let (c, s) = (self.config(), &replay.spec);
        let rows = s.num_envs * (s.staging_rows + ahead(c) * c.horizon);
        // Each new row overwrites at most one window start.
        !self.in_flight.is_empty() && self.windows <= rows
    }

    /// Waits for the epochs that were begun and passes their reports to `each`, in order. Allocates nothing.
    pub fn sync(&mut self, mut each: impl FnMut(&EpochReport)) -> Result<(), TrainError> {
        self.machine.sync()?;
        let Self { machine, parts, report, in_flight, windows, .. } = self;
        let seconds = machine.seconds();
        for (back, (kind, rates)) in in_flight.iter().rev().enumerate().rev() {
            let sequence = parts.epochs.of(kind);
            let epoch = Epoch { machine, parts, back, sequence, seconds, rates };
            report.learned = kind != EpochKind::Collect;
            for (value, m) in report.values.iter_mut().zip(&parts.metrics) {
                *value = epoch.number(&m.source);
            }
            for (skipped, n) in report.skipped.iter_mut().zip(&parts.networks) {
                *skipped = machine.output_index(back, n.group.skipped)[0];
            }
            if let Some(r) = &parts.replay {
                *windows = machine.output_index(back, r.ready)[0] as usize;
            }
            each(report);
        }
        in_flight.clear();
        Ok(())
    }

    /// One epoch from beginning to end.
    pub fn run_epoch(&mut self) -> Result<EpochReport, TrainError> {
        self.begin_epoch()?;
        self.sync(|_| ())?;
        Ok(self.report.clone())
    }

    /// Judges what was learned: plays one episode in each evaluation environment with the deterministic policy, of which
    /// `watch` sees every step, or takes the model's losses on what was held out.
    pub fn evaluate(&mut self, watch: impl FnMut(StepView<F>)) -> Result<Evaluation, TrainError> {
        Ok(self.parts.judge.run(&mut self.machine, watch)?)
    }

    /// What a world model knows, on replayed windows; none without a model, or while there are no windows.
    pub fn probe(&mut self) -> Result<Option<Probe>, TrainError> {
        let Some((program, probe)) = self.parts.probe.filter(|_| self.can_learn()) else { return Ok(None) };
        let epoch = self.epoch();
        probe.choose(&mut self.machine, epoch);
        if let Some(f) = &self.parts.probe_feed {
            f.write(epoch, self.machine.real_mut(f.var));
        }
        self.machine.run(program.on(&self.machine))?;
        Ok(Some(probe.read(&self.machine)))
    }

    /// Variables of a checkpoint: all that the next epoch depends on, or with `policy_only` networks and statistics.
    pub fn state(&self, policy_only: bool) -> Vec<VarId> {
        self.parts.judge.state(self.machine.vars(), policy_only)
    }

    /// The first number of the state that is infinite or not a number, named: networks by tensor, the rest by
    /// variable. The replay's ring is left out: its rows were environment states, which are looked at every epoch. The
    /// epochs begun are synced.
    pub fn non_finite(&self) -> Option<String> {
        if !self.machine.non_finite() {
            return None;
        }
        if let Some(name) = self.parts.networks.iter().find_map(|n| n.group.non_finite(&self.machine)) {
            return Some(name);
        }
        // No early exit: a sum of tests is what vectorises, and as good as always all are fine.
        let bad = |id: &VarId| !self.machine.real(*id).iter().fold(true, |fine, x| fine & x.value().is_finite());
        self.parts.finite_checked().find(bad).map(|id| self.machine.vars().info(id).name.clone())
    }

    /// Updates that each network has skipped since the start of the run.
    pub fn skipped(&self) -> Vec<u32> {
        self.parts.networks.iter().map(|n| self.machine.index(n.group.skipped)[0]).collect()
    }

    /// Whether the first, longer epoch is over.
    pub fn bootstrapped(&self) -> bool {
        self.bootstrapped
    }

    /// For a run that continues from a checkpoint.
    pub fn set_bootstrapped(&mut self, done: bool) {
        self.bootstrapped = done || self.parts.epochs.first.is_none();
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
        for n in &self.parts.networks {
            n.group.reset(&mut self.machine);
        }
    }
}

/// An epoch that is over, as the machine reports it.
struct Epoch<'a, F: TapeReal> {
    machine: &'a Machine<F>,
    parts: &'a Parts,
    /// Epochs that were begun after it.
    back: usize,
    sequence: &'a Sequence,
    /// Of each step of the last epoch that was synced.
    seconds: &'a [f64],
    /// Of each network.
    rates: &'a [f64],
}

impl<F: TapeReal> Epoch<'_, F> {
    fn real(&self, var: VarId, index: usize) -> f64 {
        self.machine.output(self.back, var)[index].value()
    }

    /// A sum over the training episodes that ended, of all tasks.
    fn total(&self, stat: EpisodeStat) -> f64 {
        let env = self.parts.env.as_ref();
        env.map_or(0.0, |env| env.total(|i| self.real(env.episode_stats, i), stat))
    }

    /// Training episodes that ended, their mean return and length. Episodes whose sums are not finite count as none.
    fn episodes(&self) -> [f64; 3] {
        let [n, returns, lengths] =
            [EpisodeStat::Episodes, EpisodeStat::Return, EpisodeStat::Length].map(|s| self.total(s));
        let (mean_return, mean_length) = (returns / n, lengths / n);
        let known = n > 0.0 && (mean_return + mean_length).is_finite();
        if known { [n, mean_return, mean_length] } else { [0.0, f64::NAN, f64::NAN] }
    }

    fn number(&self, source: &MetricSource) -> f64 {
        match source {
            &MetricSource::Sum { var, index } => self.real(var, index),
            &MetricSource::PerUpdate { var, index, program, updates } => match self.sequence.runs(program) * updates {
                0 => f64::NAN,
                n => self.real(var, index) / n as f64,
            },
            &MetricSource::GradNorm(network) => self.real(self.parts.networks[network].group.norm, 0),
            &MetricSource::LearningRate(network) => self.rates[network],
            MetricSource::Seconds(programs) => {
                let steps = programs.iter().filter_map(|&p| self.sequence.place(p));
                // The last epoch that was synced is timed for all of them.
                steps.fold(0.0, |sum, step| sum + self.seconds.get(step).copied().unwrap_or(0.0))
            }
            MetricSource::Episodes => self.episodes()[0],
            MetricSource::EpisodeReturn => self.episodes()[1],
            MetricSource::EpisodeLength => self.episodes()[2],
            MetricSource::BlownUp => self.total(EpisodeStat::BlownUp),
            MetricSource::Zero => 0.0,
        }
    }
}
