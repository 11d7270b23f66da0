//! Replay: whole episodes in a ring of rows, and windows of consecutive rows drawn from it.
//!
//! An episode is a list of rows `[observation, action, reward]`. Row 0 is the observation after a reset, with NaN for
//! action and reward; row i is the observation after step i *before* any reset, with the action and the raw reward of
//! that step. Where environments of several tasks are recorded, the number of the task stands behind the reward, in
//! row 0 NaN, too. Rows gather in a staging area, one episode an environment, and move to the ring when the episode ends.
//! Episodes that end together are appended in environment order.
//!
//! The ring counts rows without end; row `r` lies in slot `r % capacity`. A directory lists the episodes that a window
//! of `horizon + 1` rows still fits into. Writing cuts the oldest one from the front and drops it once it is too short.
//!
//! | builder | effect |
//! |---|---|
//! | [`replay_begin`] | every environment starts an episode |
//! | [`replay_record`] | one row an environment; finished episodes move to the ring |
//! | [`replay_sample`] | a batch of windows |
//!
//! Draw `b` of sample `u` is a pure function of the directory and of `Philox(seed, Replay).bits(u, b)`.
//! Nothing here is differentiable: windows are data.

mod cpu;
mod cuda;
pub(crate) mod directory;

pub(super) use directory::below;
pub use directory::{Counter, ENTRY};

pub use crate::config::ReplaySampling as Sampling;

use crate::device::cuda::Launch;
use crate::tape::cuda::Operands;
use crate::tape::{DType, Op, Program, Region, Val, VarId, Vars};

#[derive(Clone, Debug)]
pub struct ReplaySpec {
    pub num_envs: usize,
    /// Tasks among which the environments are shared out, equally and in order.
    pub tasks: usize,
    /// Steps of a window; it has one row more.
    pub horizon: usize,
    /// Rows of the ring.
    pub capacity: usize,
    /// Rows an unfinished episode can hold: `episode_length + 1`. A full one is moved to the ring as if it had ended.
    pub staging_rows: usize,
    pub obs_dim: usize,
    pub act_dim: usize,
    /// Windows of a sample.
    pub batch: usize,
    pub sampling: Sampling,
    /// Whether episodes that have not ended can be drawn from.
    pub unfinished: bool,
    pub seed: u64,
}

impl ReplaySpec {
    /// Numbers of a row.
    pub fn width(&self) -> usize {
        self.obs_dim + self.act_dim + 1 + usize::from(self.tasks > 1)
    }

    /// Environments of a task; 0 where there is one task and rows do not tell it.
    pub fn envs_of_task(&self) -> usize {
        if self.tasks > 1 { self.num_envs / self.tasks } else { 0 }
    }

    /// Episodes that the directory can hold: each has a window of readable rows of its own.
    pub fn directory_len(&self) -> usize {
        self.capacity / (self.horizon + 1)
    }

    fn check(&self) {
        assert!(self.horizon > 0 && self.num_envs > 0 && self.batch > 0, "invariant: replay sizes are positive");
        assert!(self.num_envs.is_multiple_of(self.tasks), "invariant: each task has as many environments");
        assert!(self.capacity > self.horizon, "invariant: a window fits into the ring");
        assert!(self.staging_rows > 1, "invariant: an episode has a step");
        assert!(
            self.capacity < 1 << 30 && self.staging_rows < 1 << 30 && self.num_envs * self.staging_rows < 1 << 30,
            "invariant: row numbers fit into 32 bits"
        );
    }
}

/// The variables of one replay; all of them belong to a checkpoint.
#[derive(Clone, Debug)]
pub struct ReplayVars {
    pub spec: ReplaySpec,
    /// `[capacity, width]`.
    pub ring: VarId,
    /// `[num_envs, staging_rows, width]`.
    pub staging: VarId,
    /// Rows of each unfinished episode: index `[num_envs]`.
    pub lengths: VarId,
    /// First row, rows and window starts before it, of each episode that can be drawn from: a queue, index `[_, 3]`.
    pub directory: VarId,
    /// Index `[Counter::COUNT]`: see [`Counter`].
    pub counters: VarId,
    /// Samples drawn, the step of the random stream: index `[1]`.
    pub draws: VarId,
    /// Window starts that can be drawn: index `[1]`. The host asks for no sample before this is positive.
    pub ready: VarId,
}

impl ReplayVars {
    pub fn new(vars: &mut Vars, spec: &ReplaySpec) -> Self {
        spec.check();
        let (n, s, w) = (spec.num_envs, spec.staging_rows, spec.width());
        let ring = vars.add(Region::Replay, "replay.ring", DType::Real, &[spec.capacity, w]);
        let mut add =
            |name: &str, dtype, shape: &[usize]| vars.add(Region::Episodes, format!("replay.{name}"), dtype, shape);
        Self {
            ring,
            staging: add("staging", DType::Real, &[n, s, w]),
            lengths: add("lengths", DType::Index, &[n]),
            directory: add("directory", DType::Index, &[spec.directory_len(), ENTRY]),
            counters: add("counters", DType::Index, &[Counter::COUNT]),
            draws: add("draws", DType::Index, &[1]),
            ready: add("ready", DType::Index, &[1]),
            spec: spec.clone(),
        }
    }
}

/// Appends: every environment starts an episode whose row 0 is its row of `obs` `[N, O]`. Unfinished episodes are lost;
/// the ring stays.
pub fn replay_begin(p: &mut Program, vars: &Vars, r: &ReplayVars, obs: Val) {
    let s = &r.spec;
    assert_eq!(p.len_of(obs), s.num_envs * s.obs_dim, "invariant: one observation an environment");
    let counters = p.var(vars, r.counters);
    let directory = p.var(vars, r.directory);
    let outputs = [r.staging, r.lengths, r.ready].map(|v| p.var(vars, v));
    p.push(Begin { spec: s.clone() }, &[obs, counters, directory], &outputs);
}

/// What one step of all environments adds to the replay.
#[derive(Clone, Copy, Debug)]
pub struct Transition {
    /// Observation after the step, before any reset: `[N, O]`.
    pub obs: Val,
    /// `[N, A]`.
    pub action: Val,
    /// Raw reward of the step: `[N]`.
    pub reward: Val,
    /// 1 where the episode ended with this step, else 0: `[N]`.
    pub done: Val,
    /// Observation to go on from, after resets: `[N, O]`.
    pub next: Val,
}

/// Appends: one row an environment; where `done`, or where the staging area is full, the episode moves to the ring and
/// a new one starts with row 0 = `next`.
pub fn replay_record(p: &mut Program, vars: &Vars, r: &ReplayVars, t: &Transition) {
    let s = &r.spec;
    let n = s.num_envs;
    for (v, width) in [(t.obs, s.obs_dim), (t.action, s.act_dim), (t.reward, 1), (t.done, 1), (t.next, s.obs_dim)] {
        assert_eq!(p.len_of(v), n * width, "invariant: one row an environment");
    }
    let moves = p.index(&[n]);
    let mut outputs = [r.staging, r.lengths, r.ring, r.directory, r.counters, r.ready].map(|v| p.var(vars, v)).to_vec();
    outputs.push(moves);
    p.push(Record { spec: s.clone() }, &[t.obs, t.action, t.reward, t.done, t.next], &outputs);
}

/// A batch of windows.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// `[H+1, B, O]`: observations.
    pub obs: Val,
    /// `[H, B, A]` and `[H, B]`: actions and rewards of the steps between them.
    pub act: Val,
    pub rew: Val,
    /// Index `[B]`: the task of each window, where there are several.
    pub tasks: Option<Val>,
}

/// Appends a batch of windows. Zeros if there is nothing to draw from (`ready` is 0).
pub fn replay_sample(p: &mut Program, vars: &Vars, r: &ReplayVars) -> Windows {
    let s = &r.spec;
    let (h, b) = (s.horizon, s.batch);
    let inputs = [r.ring, r.staging, r.lengths, r.directory, r.counters].map(|v| p.var(vars, v));
    let (obs, act, rew) = (p.real(&[h + 1, b, s.obs_dim]), p.real(&[h, b, s.act_dim]), p.real(&[h, b]));
    let draws = p.var(vars, r.draws);
    let setup = p.index(&[cpu::SETUP_HEAD + 2 * s.num_envs]);
    let tasks = (s.tasks > 1).then(|| p.index(&[b]));
    let outputs: Vec<Val> = [obs, act, rew, draws, setup].into_iter().chain(tasks).collect();
    p.push(Sample { spec: s.clone() }, &inputs, &outputs);
    Windows { obs, act, rew, tasks }
}

/// Inputs: obs, counters, directory. Outputs: staging, lengths, ready.
#[derive(Debug)]
struct Begin {
    spec: ReplaySpec,
}

// SAFETY: a phase has one task.
unsafe impl Op for Begin {
    fn name(&self) -> &'static str {
        "replay_begin"
    }
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![1]
    }
    fn differentiable(&self) -> bool {
        false
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// Inputs: obs, action, reward, done, next. Outputs: staging, lengths, ring, directory, counters, ready, and for each
/// environment where its episode goes.
///
/// Phases: rows into the staging area; then, in one task, the directory; then finished episodes into the ring.
#[derive(Debug)]
struct Record {
    spec: ReplaySpec,
}

// SAFETY: tasks write rows of their own environments and disjoint rows of the ring; counters that all of them need they
// read shared.
unsafe impl Op for Record {
    fn name(&self) -> &'static str {
        "replay_record"
    }
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        let tasks = self.spec.num_envs.div_ceil(cpu::ENVS);
        vec![tasks, 1, tasks]
    }
    fn differentiable(&self) -> bool {
        false
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// Inputs: ring, staging, lengths, directory, counters. Outputs: obs, act, rew, draws, what all draws share and, where
/// there are several, tasks.
///
/// Phases: what all draws share, in one task; then the draws.
#[derive(Debug)]
struct Sample {
    spec: ReplaySpec,
}

// SAFETY: the first phase has one task; tasks of the second write their own windows and read what it left shared.
unsafe impl Op for Sample {
    fn name(&self) -> &'static str {
        "replay_sample"
    }
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![1, self.spec.batch.div_ceil(cpu::DRAWS)]
    }
    fn differentiable(&self) -> bool {
        false
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}
