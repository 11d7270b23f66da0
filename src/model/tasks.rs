//! What a world model of several tasks knows of each: an embedding, which it learns, and which entries of an action the
//! task has.
//!
//! Embeddings are kept no longer than 1, as TD-MPC2's (Hansen et al., 2024) are, and start as short as its.

use super::params::{GroupBuilder, Init, Param, ParamGroup};
use crate::ops::embedding::{cap_rows, gather_rows, mask};
use crate::tape::{DType, Program, Region, Val, VarId, Vars};

/// The norm that an embedding does not exceed.
const MOST: f64 = 1.0;
/// Entries of an embedding start uniformly within plus or minus this.
const START: f64 = 0.02;

/// The name of the table of embeddings among the parameters.
pub const EMBEDDINGS: &str = "task_emb.weight";

/// Tables with a row for each task.
#[derive(Clone, Debug)]
pub struct TaskTables {
    /// Width of an embedding.
    pub width: usize,
    /// `[T, E]`.
    embedding: Param,
    /// `[T, A]`: 1 for an entry of the action that a task has, 0 behind its last. Constant; the host writes it before a
    /// run begins, and checkpoints hold it.
    pub keep: VarId,
}

/// What belongs to the tasks of rows; nothing in a model of one task.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskRows {
    /// `[M, E]`.
    pub embedding: Option<Val>,
    /// `[M, A]`.
    pub keep: Option<Val>,
}

impl TaskRows {
    /// What actor and critics see of latents `[M, D]`: behind them the embeddings of their tasks.
    pub fn seen(&self, z: Val) -> Vec<Val> {
        [z].into_iter().chain(self.embedding).collect()
    }

    /// Appends actions `[M, A]` with zeros behind the entries that a task has.
    pub fn masked(&self, p: &mut Program, action: Val) -> Val {
        self.keep.map_or(action, |keep| mask(p, action, keep, None))
    }
}

impl TaskTables {
    /// For `count` tasks with embeddings of `width`, and actions of `act_dim` entries.
    pub fn new(g: &mut GroupBuilder, vars: &mut Vars, count: usize, width: usize, act_dim: usize) -> Self {
        let embedding = g.add(EMBEDDINGS, &[count, width], Init::UniformFanIn { fan_in: 1, gain: START });
        let keep = vars.add(Region::Statistics, "action_mask", DType::Real, &[count, act_dim]);
        Self { width, embedding, keep }
    }

    /// Appends what belongs to the tasks `ids` of rows, an index value `[M]`. `group` has the embeddings.
    pub fn rows(&self, p: &mut Program, vars: &Vars, group: &ParamGroup, ids: Val) -> TaskRows {
        let (table, keep) = (group.val(p, vars, self.embedding), p.var(vars, self.keep));
        cap_rows(p, table, MOST);
        TaskRows { embedding: Some(gather_rows(p, table, ids)), keep: Some(gather_rows(p, keep, ids)) }
    }
}
