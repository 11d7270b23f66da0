//! The processor: programs as stages of tasks, which a team of threads walks.

mod profile;

use super::bind::{Bases, operands};
use super::host::HostMemory;
use super::offloaded::Offloaded;
use crate::device::cpu::packing;
use crate::device::cpu::team::{Job, Team};
use crate::mem::OutOfMemory;
use crate::tape::backend::{Backend, Planned, ProgramId, RunError};
use crate::tape::op::{BoundOperand, OpArgs};
use crate::tape::plan::{self, ByType};
use crate::tape::profile::Profile;
use crate::tape::program::{DType, Program, VarId};
use crate::tape::{EpochIo, TapeReal};
use std::sync::Arc;
use std::time::Instant;

/// A phase of a node.
#[derive(Clone, Copy, Debug)]
struct Step {
    node: usize,
    phase: usize,
    tasks: usize,
}

/// Phases that touch disjoint memory and so run side by side, between two barriers.
#[derive(Clone, Copy, Debug)]
struct Stage {
    from: usize,
    to: usize,
    tasks: usize,
}

/// A program with the places of its operands.
struct BoundProgram<F> {
    planned: Arc<Planned>,
    /// Which of its programs this is.
    which: usize,
    args: Vec<OpArgs<F>>,
    steps: Vec<Step>,
    stages: Vec<Stage>,
}

impl<F> BoundProgram<F> {
    fn source(&self) -> &Program {
        &self.planned.programs[self.which]
    }
}

/// Programs and their memory on the processor.
pub(super) struct Processor<F: TapeReal> {
    planned: Arc<Planned>,
    memory: HostMemory<F>,
    bound: Vec<BoundProgram<F>>,
    team: Arc<Team>,
    /// Epochs since the last time they were synced: none or one.
    epochs: usize,
    /// Of the steps of the last epoch.
    seconds: Vec<f64>,
}

impl<F: TapeReal> Processor<F> {
    /// Everything is resident, variables hold zeros, and activations poison.
    pub fn resident(
        planned: Arc<Planned>,
        io: Option<&EpochIo>,
        team: Arc<Team>,
        offloaded: Offloaded<F>,
    ) -> Result<Self, OutOfMemory> {
        let packing = plan::packing(&planned.programs, size_of::<F>());
        let mut processor = Self::reserve(planned, io, team, offloaded)?;
        let (planned, memory) = (&processor.planned, &mut processor.memory);
        // A thread that got no workspace here allocates it with its first product.
        let zeros = memory.reals.as_slice();
        let _ = processor.team.on_each(&|| packing::reserve(packing, zeros));
        memory.reals.as_mut_slice()[..planned.layout.persistent.real].fill(F::default());
        memory.indices.as_mut_slice().fill(0);
        processor.poison();
        Ok(processor)
    }

    /// Pages become resident when they are touched.
    pub fn reserve(
        planned: Arc<Planned>,
        io: Option<&EpochIo>,
        team: Arc<Team>,
        offloaded: Offloaded<F>,
    ) -> Result<Self, OutOfMemory> {
        let memory = HostMemory::reserve(planned.clone(), planned.layout.total(), offloaded)?;
        let bases = Bases {
            reals: memory.reals.as_ptr().cast(),
            indices: memory.indices.as_ptr().cast(),
            offloaded: memory.offloaded.as_ptr().cast(),
        };
        let bound = (0..planned.programs.len()).map(|i| bind(&planned, i, bases)).collect();
        // Allocates once if an epoch has more steps than any that was announced.
        let seconds = Vec::with_capacity(io.map_or(0, EpochIo::most_steps));
        Ok(Self { planned, memory, bound, team, epochs: 0, seconds })
    }
}

impl<F: TapeReal> Backend<F> for Processor<F> {
    fn run(&mut self, program: ProgramId) -> Result<(), RunError> {
        Ok(self.team.run(&self.bound[program.0])?)
    }

    fn wait(&self) -> Result<(), RunError> {
        Ok(())
    }

    fn submit(&mut self, steps: &[(ProgramId, usize)]) -> Result<(), RunError> {
        self.seconds.clear();
        for &(program, runs) in steps {
            let from = Instant::now();
            (0..runs).try_for_each(|_| self.team.run(&self.bound[program.0]))?;
            self.seconds.push(from.elapsed().as_secs_f64());
        }
        self.epochs = 1;
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.epochs
    }

    fn must_sync(&self) -> bool {
        self.epochs > 0
    }

    fn sync(&mut self) -> Result<usize, RunError> {
        Ok(std::mem::take(&mut self.epochs))
    }

    fn input(&mut self, var: VarId) -> &mut [F] {
        self.write(var)
    }

    fn output(&self, _: usize, var: VarId) -> &[F] {
        self.read(var)
    }

    fn output_index(&self, _: usize, var: VarId) -> &[u32] {
        self.read_index(var)
    }

    fn non_finite(&self) -> bool {
        true
    }

    fn seconds(&self) -> &[f64] {
        &self.seconds
    }

    fn read(&self, var: VarId) -> &[F] {
        self.memory.read(var)
    }

    fn read_index(&self, var: VarId) -> &[u32] {
        self.memory.read_index(var)
    }

    fn write(&mut self, var: VarId) -> &mut [F] {
        self.memory.write(var)
    }

    fn write_index(&mut self, var: VarId) -> &mut [u32] {
        self.memory.write_index(var)
    }

    fn poison(&mut self) {
        let from = self.planned.layout.persistent.real;
        self.memory.reals.as_mut_slice()[from..].fill(F::POISON);
    }

    fn bytes(&self) -> usize {
        self.memory.reals.len() * size_of::<F>() + self.memory.indices.len() * size_of::<u32>()
    }

    fn offloaded_bytes(&self) -> usize {
        self.memory.offloaded.bytes()
    }

    fn extent(&self) -> ByType {
        let mut extent = ByType::default();
        let outside = self.memory.offloaded.as_ptr().addr();
        let outside = outside..outside + self.offloaded_bytes();
        let args = self.bound.iter().flat_map(|b| &b.args);
        let operands = args.flat_map(|a| a.bound_inputs().iter().chain(a.bound_outputs()).chain(a.bound_workspace()));
        for o in operands.filter(|o| !outside.contains(&o.start.addr())) {
            let (dtype, start, size) = match o.is_index {
                true => (DType::Index, self.memory.indices.as_ptr().addr(), size_of::<u32>()),
                false => (DType::Real, self.memory.reals.as_ptr().addr(), size_of::<F>()),
            };
            let end = extent.of(dtype);
            *end = (*end).max((o.start.addr() - start) / size + o.len);
        }
        extent
    }

    fn run_node(&mut self, program: ProgramId, node: usize) -> Result<(), RunError> {
        self.bound[program.0].run_node(node);
        Ok(())
    }

    fn time_node(&mut self, program: ProgramId, node: usize, seconds: f64) -> Result<Vec<f64>, RunError> {
        Ok(self.bound[program.0].time_node(node, seconds))
    }

    fn profile(&mut self, program: ProgramId, repetitions: usize) -> Profile {
        self.bound[program.0].profile(repetitions)
    }
}

impl<F: TapeReal> Job for BoundProgram<F> {
    fn stages(&self) -> usize {
        self.stages.len()
    }
    fn tasks(&self, stage: usize) -> usize {
        self.stages[stage].tasks
    }
    #[inline]
    fn run(&self, stage: usize, mut task: usize) {
        let stage = &self.stages[stage];
        for step in &self.steps[stage.from..stage.to] {
            if task < step.tasks {
                F::run(&*self.source().nodes[step.node].op, &self.args[step.node], step.phase, task);
                return;
            }
            task -= step.tasks;
        }
    }
}

/// Divides a program into stages: a node joins the open one if it touches nothing that the stage writes.
fn bind<F: TapeReal>(planned: &Arc<Planned>, which: usize, bases: Bases) -> BoundProgram<F> {
    let program = &planned.programs[which];
    let args = operands::<F>(&planned.vars, &planned.layout, which, program, bases);
    let (mut steps, mut stages) = (Vec::<Step>::new(), Vec::<Stage>::new());
    // Address ranges touched since the last barrier, and whether they were written.
    let mut touched: Vec<(usize, usize, bool)> = Vec::new();
    let mut open = 0;
    for (i, (node, c)) in program.nodes.iter().zip(&args).enumerate() {
        let range = |s: &BoundOperand, written: bool| {
            let span = s.span(size_of::<F>());
            (span.start, span.end, written)
        };
        let mine: Vec<_> = (c.bound_inputs().iter().map(|s| range(s, false)))
            .chain(c.bound_outputs().iter().chain(c.bound_workspace()).map(|s| range(s, true)))
            .collect();
        let conflict = mine.iter().any(|m| touched.iter().any(|t| m.0 < t.1 && t.0 < m.1 && (m.2 || t.2)));
        let shapes = |vs: &[BoundOperand]| vs.iter().map(|s| s.shape.clone()).collect::<Vec<_>>();
        let phases = node.op.phases(&shapes(c.bound_inputs()), &shapes(c.bound_outputs()));
        if conflict {
            close(&steps, &mut stages, &mut open);
            touched.clear();
        }
        for (phase, &tasks) in phases.iter().enumerate() {
            if phase > 0 {
                close(&steps, &mut stages, &mut open);
                touched.clear();
            }
            if tasks > 0 {
                steps.push(Step { node: i, phase, tasks });
            }
        }
        touched.extend(mine);
    }
    close(&steps, &mut stages, &mut open);
    BoundProgram { planned: planned.clone(), which, args, steps, stages }
}

/// Ends the stage that holds the steps from `open` on.
fn close(steps: &[Step], stages: &mut Vec<Stage>, open: &mut usize) {
    if *open < steps.len() {
        let tasks: usize = steps[*open..].iter().map(|s| s.tasks).sum();
        assert!(i32::try_from(tasks).is_ok(), "invariant: a stage has fewer than 2^31 tasks");
        stages.push(Stage { from: *open, to: steps.len(), tasks });
        *open = steps.len();
    }
}
