//! The machine: one arena, programs bound to fixed addresses, run by a team of threads.

use super::op::{Cx, Op, Slot};
use super::plan::Layout;
use super::program::{DType, Program, Storage, Val, VarId, Vars};
use crate::device::cpu::team::{Job, JobPanicked, Team};
use crate::device::{Dual, Real};
use crate::mem::{Arena, OutOfMemory};
use bytemuck::Pod;
use std::marker::PhantomData;
use std::sync::Arc;

/// A number type that machines are made for: picks the kernel of an operation.
pub trait Number: Real + Pod {
    /// What fresh memory holds, so that a read before a write is seen in the results.
    const POISON: Self;
    fn run(op: &dyn Op, cx: &Cx<Self>, phase: usize, task: usize);
}

impl Number for f32 {
    const POISON: Self = f32::NAN;
    #[inline]
    fn run(op: &dyn Op, cx: &Cx<Self>, phase: usize, task: usize) {
        op.run_f32(cx, phase, task);
    }
}
impl Number for f64 {
    const POISON: Self = f64::NAN;
    #[inline]
    fn run(op: &dyn Op, cx: &Cx<Self>, phase: usize, task: usize) {
        op.run_f64(cx, phase, task);
    }
}
impl Number for Dual {
    const POISON: Self = Dual { v: f64::NAN, d: f64::NAN };
    #[inline]
    fn run(op: &dyn Op, cx: &Cx<Self>, phase: usize, task: usize) {
        op.run_dual(cx, phase, task);
    }
}

/// A phase of a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub node: usize,
    pub phase: usize,
    pub tasks: usize,
}

/// Phases that touch disjoint memory and so run side by side, between two barriers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stage {
    from: usize,
    to: usize,
    tasks: usize,
}

pub(super) struct Bound<F> {
    pub program: Arc<Program>,
    pub cx: Vec<Cx<F>>,
    pub steps: Vec<Step>,
    pub stages: Vec<Stage>,
}

/// Programs and their memory, ready to run.
pub struct Machine<F: Number> {
    vars: Vars,
    layout: Layout,
    reals: Arena<F>,
    indices: Arena<u32>,
    pub(super) bound: Vec<Bound<F>>,
    team: Arc<Team>,
}

/// Which program of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramId(pub(super) usize);

impl<F: Number> Machine<F> {
    /// Plans, allocates everything the programs will ever need, and binds. Variables hold zeros.
    pub fn new(vars: Vars, programs: Vec<Program>, team: Arc<Team>) -> Result<Self, OutOfMemory> {
        let layout = Layout::new(&vars, &programs);
        let total = layout.total();
        let mut reals = Arena::new("number", total.real, F::POISON)?;
        let indices = Arena::new("index", total.index, 0)?;
        reals.as_mut_slice()[..layout.persistent.real].fill(F::default());
        let bound = programs
            .into_iter()
            .enumerate()
            .map(|(i, p)| bind(&vars, &layout, i, Arc::new(p), reals.as_ptr() as usize, indices.as_ptr() as usize))
            .collect();
        Ok(Self { vars, layout, reals, indices, bound, team })
    }

    pub fn vars(&self) -> &Vars {
        &self.vars
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Bytes allocated: equal to what [`Layout`] planned, by construction and by test.
    pub fn bytes(&self) -> usize {
        self.reals.len() * size_of::<F>() + self.indices.len() * size_of::<u32>()
    }

    pub fn program(&self, i: usize) -> ProgramId {
        assert!(i < self.bound.len(), "invariant: the program exists");
        ProgramId(i)
    }

    /// The name a program was written under.
    pub fn name(&self, id: ProgramId) -> &'static str {
        self.bound[id.0].program.name
    }

    /// Runs a program once.
    pub fn run(&mut self, id: ProgramId) -> Result<(), JobPanicked> {
        self.team.run(&self.bound[id.0])
    }

    /// The numbers of a variable.
    pub fn real(&self, var: VarId) -> &[F] {
        let info = self.vars.info(var);
        assert_eq!(info.dtype, DType::Real, "invariant: {} holds reals", info.name);
        &self.reals.as_slice()[self.layout.vars[var.0 as usize]..][..info.len()]
    }

    pub fn real_mut(&mut self, var: VarId) -> &mut [F] {
        let info = self.vars.info(var);
        assert_eq!(info.dtype, DType::Real, "invariant: {} holds reals", info.name);
        let (at, len) = (self.layout.vars[var.0 as usize], info.len());
        &mut self.reals.as_mut_slice()[at..][..len]
    }

    #[allow(clippy::should_implement_trait, reason = "the indices of a variable, not an element: `[]` would mislead")]
    pub fn index(&self, var: VarId) -> &[u32] {
        let info = self.vars.info(var);
        assert_eq!(info.dtype, DType::Index, "invariant: {} holds indices", info.name);
        &self.indices.as_slice()[self.layout.vars[var.0 as usize]..][..info.len()]
    }

    #[allow(clippy::should_implement_trait, reason = "the indices of a variable, not an element: `[]` would mislead")]
    pub fn index_mut(&mut self, var: VarId) -> &mut [u32] {
        let info = self.vars.info(var);
        assert_eq!(info.dtype, DType::Index, "invariant: {} holds indices", info.name);
        let (at, len) = (self.layout.vars[var.0 as usize], info.len());
        &mut self.indices.as_mut_slice()[at..][..len]
    }

    /// Fills the activation region with poison: results must not depend on what an earlier program left there.
    pub fn poison(&mut self) {
        let from = self.layout.persistent.real;
        self.reals.as_mut_slice()[from..].fill(F::POISON);
    }
}

impl<F: Number> Job for Bound<F> {
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
                F::run(&*self.program.nodes[step.node].op, &self.cx[step.node], step.phase, task);
                return;
            }
            task -= step.tasks;
        }
    }
}

fn bind<F: Number>(
    vars: &Vars,
    layout: &Layout,
    which: usize,
    program: Arc<Program>,
    reals: usize,
    indices: usize,
) -> Bound<F> {
    let offsets = &layout.programs[which].offsets;
    let slot = |v: Val| {
        let info = program.info(v);
        let is_index = info.dtype == DType::Index;
        let owned = |b: Val| {
            let start = if is_index { layout.persistent.index } else { layout.persistent.real };
            start + offsets[b.0 as usize].expect("invariant: a value that a node touches has an offset")
        };
        let at = match info.storage {
            Storage::Activation => owned(v),
            Storage::View { base, offset } => owned(base) + offset,
            Storage::Var { var, offset } => {
                debug_assert_eq!(vars.info(var).dtype, info.dtype);
                layout.vars[var.0 as usize] + offset
            }
        };
        let address = if is_index { indices + at * size_of::<u32>() } else { reals + at * size_of::<F>() };
        Slot { address, len: info.len(), shape: info.shape.clone(), is_index }
    };
    let mut cx = Vec::with_capacity(program.nodes.len());
    let (mut steps, mut stages) = (Vec::<Step>::new(), Vec::<Stage>::new());
    // Address ranges touched since the last barrier, and whether they were written.
    let mut touched: Vec<(usize, usize, bool)> = Vec::new();
    let mut open = 0;
    for (i, node) in program.nodes.iter().enumerate() {
        let slots = |vs: &[Val]| vs.iter().map(|&v| slot(v)).collect::<Vec<_>>();
        let c = Cx::<F> {
            inputs: slots(&node.inputs),
            outputs: slots(&node.outputs),
            workspace: node.workspace.map(slot),
            number: PhantomData,
        };
        let range = |s: &Slot, written: bool| {
            (s.address, s.address + s.len * if s.is_index { size_of::<u32>() } else { size_of::<F>() }, written)
        };
        let mine: Vec<_> = (c.inputs.iter().map(|s| range(s, false)))
            .chain(c.outputs.iter().chain(&c.workspace).map(|s| range(s, true)))
            .collect();
        let conflict = mine.iter().any(|m| touched.iter().any(|t| m.0 < t.1 && t.0 < m.1 && (m.2 || t.2)));
        let shapes = |vs: &[Slot]| vs.iter().map(|s| s.shape.clone()).collect::<Vec<_>>();
        let phases = node.op.phases(&shapes(&c.inputs), &shapes(&c.outputs));
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
        cx.push(c);
    }
    close(&steps, &mut stages, &mut open);
    Bound { program, cx, steps, stages }
}

/// Ends the stage that holds the steps from `open` on.
fn close(steps: &[Step], stages: &mut Vec<Stage>, open: &mut usize) {
    if *open < steps.len() {
        let tasks = steps[*open..].iter().map(|s| s.tasks).sum();
        stages.push(Stage { from: *open, to: steps.len(), tasks });
        *open = steps.len();
    }
}
