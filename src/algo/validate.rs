//! A model judged by recorded episodes that it does not learn from.

use super::evaluate::{Evaluation, Measure, TaskEvaluation};
use super::programs::{Handle, Programs};
use crate::ops::control::accumulate;
use crate::ops::windows::Feed;
use crate::tape::{DType, Machine, Program, Region, RunError, TapeReal, Val, VarId, Vars};

/// Batches of windows that a validation takes, the same every time.
const BATCHES: u32 = 8;

/// The program that takes the loss of a batch, and what it reads and writes.
#[derive(Clone, Debug)]
pub struct Validation {
    program: Handle,
    /// Index `[1]`: the number of the next batch.
    draws: VarId,
    /// `[1]`: the loss.
    loss: VarId,
    /// Steps of a window.
    horizon: usize,
    /// What the host draws for it.
    feed: Option<Feed>,
}

impl Validation {
    /// Pushes the program; `loss` appends the loss `[1]` of the batch whose number it is given.
    pub(super) fn push(
        programs: &mut Programs,
        vars: &mut Vars,
        horizon: usize,
        feed: Option<Feed>,
        loss: impl FnOnce(&mut Program, &Vars, Val) -> Val,
    ) -> Self {
        let draws = vars.add(Region::RolloutBuffers, "validation.draws", DType::Index, &[1]);
        let slot = vars.add(Region::RolloutBuffers, "validation.loss", DType::Real, &[1]);
        let program = programs.push("validate", |p| {
            let draws = p.var(vars, draws);
            let loss = loss(p, vars, draws);
            let to = p.var(vars, slot);
            accumulate(p, loss, to, true);
        });
        Self { program, draws, loss: slot, horizon, feed }
    }

    /// The losses of all batches.
    pub(super) fn run<F: TapeReal>(&self, machine: &mut Machine<F>) -> Result<Evaluation, RunError> {
        let program = self.program.on(machine);
        machine.index_mut(self.draws)[0] = 0;
        let mut losses = vec![];
        for batch in 0..BATCHES {
            if let Some(f) = &self.feed {
                f.write(batch.into(), machine.real_mut(f.var));
            }
            machine.run(program)?;
            losses.push(-machine.real(self.loss)[0].value());
        }
        let lengths = vec![self.horizon as f64; losses.len()];
        let all = TaskEvaluation { task: "held out".into(), returns: losses, lengths };
        Ok(Evaluation { tasks: vec![all], measure: Measure::Loss })
    }
}
