//! A task: what an environment is, as data, and ready to be stepped under its law.

use super::dflex::{DflexSpec, DflexTask};
use super::mujoco::{MujocoSpec, MujocoTask, START_STACK};
use crate::device::Real;
use crate::device::philox::Philox;
use crate::draw::plot::Reference;
use crate::sim::Articulation;
use crate::sim::size::CLASSES;

/// The largest robot under dFlex's law that can be stepped: coordinates and velocities.
pub const MOST_COORDINATES: usize = CLASSES[CLASSES.len() - 1].coordinates;
pub const MOST_VELOCITIES: usize = CLASSES[CLASSES.len() - 1].velocities;
/// Entries of an observation at most, under any law.
pub const MOST_ENTRIES: usize = 256;

/// Sizes of one environment's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EnvSizes {
    pub obs: usize,
    pub act: usize,
    /// Coordinates of the robot, with the numbers of a goal behind them, and velocities.
    pub nq: usize,
    pub nqd: usize,
}

/// What some policy earns in an episode: the range over starts or seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownReturn {
    pub policy: String,
    pub low: f64,
    pub high: f64,
    /// Whether it is drawn beside learning curves.
    pub draw: bool,
}

/// What a task says under any law. [`super::spec`] reads it from the part `spec` of an environment's file.
#[derive(Clone, Debug)]
pub struct TaskSpec {
    /// Shipped name, or the file's without folder and ending.
    pub name: String,
    /// As titles have it.
    pub title: String,
    pub robot: Articulation,
    /// An environment step (s).
    pub dt: f64,
    /// Steps after which an episode is truncated.
    pub episode_length: usize,
    pub returns: Vec<KnownReturn>,
}

impl TaskSpec {
    /// The known returns that are drawn beside learning curves, highest first.
    pub fn drawn_returns(&self) -> Vec<Reference> {
        let mut drawn: Vec<&KnownReturn> = self.returns.iter().filter(|r| r.draw).collect();
        drawn.sort_by(|a, b| b.low.total_cmp(&a.low));
        drawn.into_iter().map(KnownReturn::level).collect()
    }
}

impl KnownReturn {
    /// The level it is drawn at.
    pub fn level(&self) -> Reference {
        Reference { label: self.policy.clone(), low: self.low, high: self.high }
    }
}

/// By what law a robot moves.
#[derive(Clone)]
pub enum Law {
    /// Penalty contacts, differentiable.
    Dflex(Box<DflexTask>),
    /// MuJoCo's, forward alone.
    Mujoco(Box<MujocoTask>),
}

/// A task, ready to be stepped.
#[derive(Clone)]
pub struct Task {
    pub spec: TaskSpec,
    pub sizes: EnvSizes,
    pub law: Law,
    identity: String,
}

/// Everything that it is made of: operations that hold a task are compared by their `Debug` output.
impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.identity)?;
        match &self.law {
            Law::Dflex(task) => write!(f, " {:?}", task.layout),
            Law::Mujoco(_) => Ok(()),
        }
    }
}

impl Task {
    /// Under dFlex's law.
    ///
    /// # Panics
    /// If the robot or the observation is larger than any that can be stepped.
    pub fn under_dflex(spec: TaskSpec, law: DflexSpec) -> Self {
        let identity = format!("{spec:?} {law:?}");
        let task = DflexTask::new(&spec, law);
        Self { spec, sizes: task.sizes, law: Law::Dflex(Box::new(task)), identity }
    }

    /// Under MuJoCo's law.
    ///
    /// # Panics
    /// As [`Task::under_dflex`].
    pub fn under_mujoco(spec: TaskSpec, law: MujocoSpec) -> Self {
        let identity = format!("{spec:?} {law:?}");
        let task = MujocoTask::new(law);
        Self { spec, sizes: task.sizes, law: Law::Mujoco(Box::new(task)), identity }
    }

    /// All that an episode can pay where a control step pays at most 1.
    pub fn most(&self) -> f64 {
        let repeat = if let Law::Mujoco(task) = &self.law { task.spec.repeat } else { 1 };
        (self.spec.episode_length * repeat) as f64
    }

    /// Whether a gradient flows through its steps.
    pub fn is_differentiable(&self) -> bool {
        matches!(self.law, Law::Dflex(_))
    }

    /// The task under dFlex's law.
    ///
    /// # Panics
    /// If it is under another one.
    pub fn dflex(&self) -> &DflexTask {
        match &self.law {
            Law::Dflex(task) => task,
            Law::Mujoco(_) => panic!("invariant: only tasks under dFlex's law come here, not `{}`", self.spec.name),
        }
    }

    /// An episode that has run for `progress` steps is cut.
    pub fn is_truncated(&self, progress: usize) -> bool {
        progress + 1 > self.spec.episode_length
    }

    /// Whether an observation ends the episode.
    pub fn is_terminal<R: Real>(&self, obs: &[R]) -> bool {
        match &self.law {
            Law::Dflex(task) => task.is_terminal(obs),
            Law::Mujoco(_) => false,
        }
    }

    /// Philox blocks (of four uniforms) that a start takes.
    pub fn start_blocks(&self) -> u32 {
        match &self.law {
            Law::Dflex(task) => task.spec.reset.blocks(),
            Law::Mujoco(task) => task.start_blocks(),
        }
    }

    /// Start of an episode that the Philox blocks from `block` on draw, at `step` of the stream: coordinates,
    /// velocities and the observation of one row.
    pub fn begin<R: Real>(&self, random: &Philox, step: u64, block: u32, q: &mut [R], qd: &mut [R], obs: &mut [R]) {
        let (q, qd) = (&mut q[..self.sizes.nq], &mut qd[..self.sizes.nqd]);
        match &self.law {
            Law::Dflex(task) => {
                task.spec.reset.write(random, step, block, q, qd);
                task.observe_row(q, qd, None, obs);
            }
            Law::Mujoco(task) => task.begin(random, step, block, q, qd, obs),
        }
    }

    /// Bytes of the stack that a start touches.
    pub(super) fn start_stack(&self) -> usize {
        match &self.law {
            Law::Dflex(_) => 0,
            Law::Mujoco(_) => START_STACK,
        }
    }

    /// Bytes of the stack that a step of rows of single precision touches, starts of new episodes included.
    pub(super) fn step_stack(&self) -> usize {
        match &self.law {
            Law::Dflex(task) => task.step_stack(),
            Law::Mujoco(task) => task.step_stack(),
        }
    }

    /// The start of environment `env` among many: see [`Task::begin`].
    pub fn begin_row<R: Real>(&self, random: &Philox, step: u64, env: u32, q: &mut [R], qd: &mut [R], obs: &mut [R]) {
        self.begin(random, step, env.wrapping_mul(self.start_blocks()), q, qd, obs);
    }
}
