//! The machine: programs and their memory, ready to run. Where they run is the back end's business.

use super::backend::{Backend, Planned, ProgramId, RunError};
use super::number::TapeReal;
use super::plan::{ByType, Layout};
use super::profile::{OpKind, Profile, kinds_of};
use super::program::{DType, Program, VarId, Vars};
use std::any::Any;
use std::sync::Arc;

/// Programs and their memory, ready to run.
pub struct Machine<F: TapeReal> {
    planned: Arc<Planned>,
    backend: Box<dyn Backend<F>>,
}

impl<F: TapeReal> Machine<F> {
    /// A machine whose programs are bound to `backend` as they are planned.
    pub fn bound(planned: Arc<Planned>, backend: Box<dyn Backend<F>>) -> Self {
        Self { planned, backend }
    }

    /// What runs the programs, for those who know its type.
    pub fn backend(&self) -> &dyn Any {
        &*self.backend
    }

    pub fn vars(&self) -> &Vars {
        &self.planned.vars
    }

    pub fn layout(&self) -> &Layout {
        &self.planned.layout
    }

    /// Bytes of the arena.
    pub fn bytes(&self) -> usize {
        self.backend.bytes()
    }

    /// Bytes outside the arena: equal to what [`Layout`] planned.
    pub fn offloaded_bytes(&self) -> usize {
        self.backend.offloaded_bytes()
    }

    /// One past the last element of each type that a variable in the arena, or an operand there, lies on.
    pub fn extent(&self) -> ByType {
        let mut extent = self.backend.extent();
        let vars = &self.planned.vars;
        for (id, info) in vars.iter().filter(|(id, _)| !vars.is_offloaded(*id)) {
            let end = extent.of(info.dtype);
            *end = (*end).max(self.planned.layout.vars[id.0 as usize] + info.len());
        }
        extent
    }

    pub fn program(&self, i: usize) -> ProgramId {
        assert!(i < self.planned.programs.len(), "invariant: the program exists");
        ProgramId(i)
    }

    fn source(&self, id: ProgramId) -> &Program {
        &self.planned.programs[id.0]
    }

    /// The name a program was written under.
    pub fn name(&self, id: ProgramId) -> &'static str {
        self.source(id).name
    }

    /// Runs a program once. It may only be begun when this returns; reading a variable waits for it.
    pub fn run(&mut self, id: ProgramId) -> Result<(), RunError> {
        self.backend.run(id)
    }

    /// Waits for everything that was begun, and says whether it went well.
    pub fn wait(&self) -> Result<(), RunError> {
        self.backend.wait()
    }

    /// What a variable will be when the next epoch begins: one of [`super::EpochIo::inputs`], to be written before
    /// every epoch.
    pub fn input(&mut self, var: VarId) -> &mut [F] {
        self.assert_holds(var, DType::Real);
        self.backend.input(var)
    }

    /// Begins an epoch: programs one after another, each as often as it says. The epoch may be under way when this
    /// returns; no more of them than [`super::EpochIo::ahead`] are submitted without a [`Machine::sync`].
    pub fn submit(&mut self, steps: &[(ProgramId, usize)]) -> Result<(), RunError> {
        self.backend.submit(steps)
    }

    /// Epochs submitted whose outputs were not waited for.
    pub fn in_flight(&self) -> usize {
        self.backend.in_flight()
    }

    /// Whether the next epoch must wait for those before it.
    pub fn must_sync(&self) -> bool {
        self.backend.must_sync()
    }

    /// Waits for all epochs in flight: how many they were. Their outputs can be read until the next epoch is submitted.
    pub fn sync(&mut self) -> Result<usize, RunError> {
        self.backend.sync()
    }

    /// What a variable of [`super::EpochIo::outputs`] was after the epoch `back` epochs before the last synced one; on
    /// the processor there is only the last.
    pub fn output(&self, back: usize, var: VarId) -> &[F] {
        self.assert_holds(var, DType::Real);
        self.backend.output(back, var)
    }

    /// The same of indices.
    pub fn output_index(&self, back: usize, var: VarId) -> &[u32] {
        self.assert_holds(var, DType::Index);
        self.backend.output_index(back, var)
    }

    /// Whether a variable of [`super::EpochIo::finite_checked`] may hold a number that is not finite: on a GPU what the
    /// last synced epochs found, on the processor it is not checked.
    pub fn non_finite(&self) -> bool {
        self.backend.non_finite()
    }

    /// Seconds of each step of the last synced epoch.
    pub fn seconds(&self) -> &[f64] {
        self.backend.seconds()
    }

    /// The numbers of a variable.
    pub fn real(&self, var: VarId) -> &[F] {
        self.assert_holds(var, DType::Real);
        self.backend.read(var)
    }

    pub fn real_mut(&mut self, var: VarId) -> &mut [F] {
        self.assert_holds(var, DType::Real);
        self.backend.write(var)
    }

    #[allow(clippy::should_implement_trait, reason = "the indices of a variable, not an element: `[]` would mislead")]
    pub fn index(&self, var: VarId) -> &[u32] {
        self.assert_holds(var, DType::Index);
        self.backend.read_index(var)
    }

    #[allow(clippy::should_implement_trait, reason = "the indices of a variable, not an element: `[]` would mislead")]
    pub fn index_mut(&mut self, var: VarId) -> &mut [u32] {
        self.assert_holds(var, DType::Index);
        self.backend.write_index(var)
    }

    fn assert_holds(&self, var: VarId, dtype: DType) {
        let info = self.planned.vars.info(var);
        assert_eq!(info.dtype, dtype, "invariant: {} is asked for what it holds", info.name);
    }

    /// Fills the activation region with poison: results must not depend on what an earlier program left there.
    pub fn poison(&mut self) {
        self.backend.poison();
    }

    /// Runs a program `repetitions` times on this thread and times its steps; no lines if the host does not run them.
    /// Of each step the fastest repetition counts, so that what else the computer does is left out. The effects are
    /// those of as many runs. Allocates; a kernel that panics unwinds through.
    pub fn profile(&mut self, id: ProgramId, repetitions: usize) -> Profile {
        self.backend.profile(id, repetitions)
    }

    /// Runs a program once, operation by operation, and where one is the first of its kind again and again for about
    /// `seconds`. So every operation sees operands of an ordinary run; what it leaves behind is that of many runs.
    pub fn kinds(&mut self, id: ProgramId, seconds: f64) -> Result<Vec<OpKind>, RunError> {
        let mut kinds = kinds_of(self.source(id));
        for i in 0..self.source(id).nodes.len() {
            self.backend.run_node(id, i)?;
            if let Some((_, kind)) = kinds.iter_mut().find(|(first, _)| *first == i) {
                kind.seconds = self.backend.time_node(id, i, seconds)?;
            }
        }
        self.wait()?;
        Ok(kinds.into_iter().map(|(_, k)| k).collect())
    }

    /// The same for callers with a clock of their own: `visit` gets each kind and a function that runs it once.
    pub fn visit_kinds(
        &mut self,
        id: ProgramId,
        visit: &mut dyn FnMut(&OpKind, &mut dyn FnMut()),
    ) -> Result<(), RunError> {
        let kinds = kinds_of(self.source(id));
        for i in 0..self.source(id).nodes.len() {
            self.backend.run_node(id, i)?;
            let Some((_, kind)) = kinds.iter().find(|(first, _)| *first == i) else { continue };
            let mut went = Ok(());
            visit(kind, &mut || went = std::mem::replace(&mut went, Ok(())).and(self.backend.run_node(id, i)));
            went?;
        }
        self.wait()
    }
}
