//! What a run asks of an algorithm: epochs, evaluations, and the state that a checkpoint holds.

use super::pwm::evaluate;
use super::pwm::{EpochReport, Evaluation, Probe, StepView, TrainError};
use crate::backend::Target;
use crate::config::{Algorithm, Config, Recompute};
use crate::env::EnvBatch;
use crate::model::Group;
use crate::ops::replay::ReplayVars;
use crate::tape::{
    EpochIo, MAX_IN_FLIGHT, Machine, Number, Placement, Program, ProgramId, Region, VarId, Vars, recompute,
};

/// What the algorithm of `c` allocates and runs: [`Learner::build`].
pub fn build(c: &Config) -> (Vars, Vec<Program>) {
    match c.algorithm {
        Algorithm::Pwm => super::pwm::Trainer::<f32>::build(c),
        Algorithm::Shac => super::shac::Trainer::<f32>::build(c),
    }
}

/// What host and device of a run tell each other about its epochs.
pub fn epoch_io(c: &Config) -> EpochIo {
    match c.algorithm {
        Algorithm::Pwm => super::pwm::trainer::epoch_io(&super::pwm::trainer::write(c).1),
        Algorithm::Shac => super::shac::trainer::epoch_io(&super::shac::trainer::write(c).1),
    }
}

/// How much each of `programs` programs rematerialised where no budget decides: see [`crate::tape::recompute`].
pub fn rematerialised(c: &Config, programs: usize) -> Vec<usize> {
    vec![if c.recompute == Recompute::All { usize::MAX } else { 0 }; programs]
}

/// What a plan decides of a run beside its settings. No result depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecPlan {
    /// For each program, how many of its candidates are computed twice: see [`crate::tape::recompute`].
    pub rematerialised: Vec<usize>,
    /// Where the replay's finished episodes lie.
    pub replay: Placement,
}

impl ExecPlan {
    /// With the first so many candidates of each program computed twice, and everything in the arena.
    pub fn rematerialising(rematerialised: &[usize]) -> Self {
        Self { rematerialised: rematerialised.to_vec(), replay: Placement::Arena }
    }

    /// Variables and programs as they are bound.
    pub fn of(&self, mut vars: Vars, programs: Vec<Program>) -> (Vars, Vec<Program>) {
        if self.replay != Placement::Arena {
            vars.offload(Region::Replay);
        }
        let programs = programs.into_iter().zip(&self.rematerialised);
        (vars, programs.map(|(p, &taken)| recompute::rematerialising(p, taken)).collect())
    }
}

/// What the host remembers of an epoch that was begun, to report it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Submitted {
    pub learned: bool,
    /// Updates of the world model.
    pub updates: usize,
    pub rates: [f64; 3],
}

/// Epochs that were begun and not synced, of at most [`MAX_IN_FLIGHT`].
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    begun: [Submitted; MAX_IN_FLIGHT],
    count: usize,
    /// Epochs before the first of them.
    from: u64,
}

impl Default for InFlight {
    fn default() -> Self {
        Self { begun: [Submitted::default(); MAX_IN_FLIGHT], count: 0, from: 0 }
    }
}

impl InFlight {
    pub fn push(&mut self, epoch: u64, begun: Submitted) {
        if self.count == 0 {
            self.from = epoch;
        }
        self.begun[self.count] = begun;
        self.count += 1;
    }

    /// Those begun, none in_flight any more.
    pub fn take(&mut self) -> impl Iterator<Item = (usize, Submitted)> + use<> {
        let (begun, count) = (self.begun, std::mem::take(&mut self.count));
        // The last one has no round after it.
        begun.into_iter().take(count).enumerate().map(move |(i, b)| (count - 1 - i, b))
    }

    /// Epochs begun, if the host need not ask the device.
    pub fn epoch(&self) -> Option<u64> {
        (self.count > 0).then(|| self.from + self.count as u64)
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Rounds that a run of `c` may begin before it looks: as many as lie between two rows of metrics.
pub(super) fn ahead(c: &Config) -> usize {
    usize::try_from(c.log_every).map_or(MAX_IN_FLIGHT, |n| n.min(MAX_IN_FLIGHT))
}

/// An algorithm in the middle of a run. See [`super::pwm::Trainer`] for what the methods promise.
pub trait Learner: Sized {
    type F: Number;

    /// Variables and programs of a run, before anything is allocated: what a plan is made of.
    fn build(c: &Config) -> (Vars, Vec<Program>);
    /// Allocates and initialises a run on `target` (see [`super::target()`]) as a plan has it.
    fn from_plan(c: &Config, target: &Target, exec_plan: &ExecPlan) -> Result<Self, TrainError>;
    fn config(&self) -> &Config;
    fn machine(&self) -> &Machine<Self::F>;
    fn machine_mut(&mut self) -> &mut Machine<Self::F>;
    /// Environments of the evaluation.
    fn eval_env(&self) -> &EnvBatch;
    /// What learns: actor, critics and, if there is one, the world model.
    fn groups(&self) -> [Option<&Group>; 3];
    /// The replay buffer, if there is one.
    fn replay(&self) -> Option<&ReplayVars>;
    /// The programs of an ordinary epoch, in order, and how often each runs.
    fn steps(&self) -> Vec<(ProgramId, usize)>;
    /// Epochs begun.
    fn epoch(&self) -> u64;
    /// Begins an epoch. On a GPU it may be under way when this returns; [`Learner::sync`] waits for it.
    fn begin_epoch(&mut self) -> Result<(), TrainError>;
    /// Waits for the epochs that were begun, and says of each in order what it did.
    fn sync(&mut self, each: impl FnMut(&EpochReport)) -> Result<(), TrainError>;
    /// Whether the next epoch cannot begin before those begun are synced.
    fn must_sync(&self) -> bool;
    /// One epoch from beginning to end.
    fn run_epoch(&mut self) -> Result<EpochReport, TrainError> {
        self.begin_epoch()?;
        let mut last = EpochReport::default();
        self.sync(|r| last = *r)?;
        Ok(last)
    }
    fn evaluate(&mut self, watch: impl FnMut(StepView<Self::F>)) -> Result<Evaluation, TrainError>;
    /// What a world model knows, on replayed windows; none without a model, or while there are no windows.
    fn probe(&mut self) -> Result<Option<Probe>, TrainError> {
        Ok(None)
    }
    /// The first number of the state that is infinite or not a number, named. The epochs begun are synced.
    fn non_finite(&self) -> Option<String>;
    /// Whether the first, longer epoch is over.
    fn bootstrapped(&self) -> bool;
    fn set_bootstrapped(&mut self, done: bool);
    /// Factor on all learning rates.
    fn lr_scale(&self) -> f64;
    fn set_lr_scale(&mut self, scale: f64);

    /// True steps of the training environments so far.
    fn env_steps(&self) -> u64 {
        self.epoch() * self.config().rollout_states() as u64
    }

    /// Variables of a checkpoint: all that the next epoch depends on, or with `policy_only` networks and statistics.
    fn state(&self, policy_only: bool) -> Vec<VarId> {
        evaluate::state(self.machine().vars(), self.eval_env(), policy_only)
    }

    /// Updates that each network has skipped since the start of the run.
    fn skipped(&self) -> [u32; 3] {
        self.groups().map(|g| g.map_or(0, |g| self.machine().index(g.skipped)[0]))
    }

    /// Forgets what the optimisers remember: for weights that did not come from their steps.
    fn reset_optimisers(&mut self);
}
