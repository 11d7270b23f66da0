//! What the host says before an epoch and learns after it, so that epochs can be submitted ahead.

use super::program::{VarId, Vars};

/// Epochs that can be in flight, at most.
pub const MAX_IN_FLIGHT: usize = 64;

/// The inputs and outputs of an epoch: programs in a fixed order, submitted without waiting for the epochs before.
#[derive(Clone, Debug, Default)]
pub struct EpochIo {
    /// Real variables that the host writes before each epoch, all of them.
    pub inputs: Vec<VarId>,
    /// Variables that it reads after each.
    pub outputs: Vec<VarId>,
    /// Real variables in which a number that is not finite is reported: see [`super::Machine::non_finite`].
    pub finite_checked: Vec<VarId>,
    /// Sequences of programs, each with how often it runs, that will be submitted again and again: on a GPU recorded as
    /// one graph each.
    pub sequences: Vec<Vec<(usize, usize)>>,
    /// Epochs that may be in flight before the host waits, [`MAX_IN_FLIGHT`] at most.
    pub ahead: usize,
}

impl EpochIo {
    /// Epochs that may be in flight.
    pub fn rows(&self) -> usize {
        self.ahead.clamp(1, MAX_IN_FLIGHT)
    }

    /// Words of all inputs and outputs together.
    pub fn words(&self, vars: &Vars) -> usize {
        self.inputs.iter().chain(&self.outputs).map(|&v| vars.info(v).len()).sum()
    }

    /// Steps of the longest sequence.
    pub fn most_steps(&self) -> usize {
        self.sequences.iter().map(Vec::len).max().unwrap_or(0)
    }
}
