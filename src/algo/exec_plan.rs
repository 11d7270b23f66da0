//! What a plan decides of a run beside its settings.

use crate::config::{Config, Recompute};
use crate::tape::{Placement, Program, Region, Vars, recompute};

/// How much each of `programs` programs rematerialises where no budget decides: see [`crate::tape::recompute`].
pub fn rematerialised(c: &Config, programs: usize) -> Vec<usize> {
    vec![if c.recompute == Recompute::All { usize::MAX } else { 0 }; programs]
}

/// What a plan decides of a run beside its settings. No result depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecPlan {
    /// For each program, how many of its candidates are rematerialised: see [`crate::tape::recompute`].
    pub rematerialised: Vec<usize>,
    /// Where the replay's finished episodes lie.
    pub replay: Placement,
}

impl ExecPlan {
    /// With the first so many candidates of each program rematerialised, and everything in the arena.
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
