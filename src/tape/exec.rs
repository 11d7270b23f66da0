//! The machine: one arena, programs bound to fixed addresses, run by a team of threads.

use super::cuda::mirror::{Host, Mirror};
use super::cuda::round::{Rounds, STEPS};
use super::cuda::{self, CudaPrograms, Memory};
use super::offloaded::{Offloaded, Placement};
use super::op::{Op, OpArgs, Operand};
use super::plan::{ByType, Layout, packing};
use super::program::{DType, Program, Storage, Val, VarId, Vars};
use crate::device::cpu::packing;
use crate::device::cpu::team::{Job, JobPanicked, Team};
use crate::device::cuda::driver::Context;
use crate::device::cuda::matmul::Matmul;
use crate::device::cuda::{CudaError, Launch};
use crate::device::{Dual, Real};
use crate::mem::{Arena, MapError, OutOfMemory};
use bytemuck::Pod;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;

/// A number type that machines are made for: picks the kernel of an operation.
pub trait Number: Real + Pod {
    /// What fresh memory holds, so that a read before a write is seen in the results.
    const POISON: Self;
    fn run(op: &dyn Op, args: &OpArgs<Self>, phase: usize, task: usize);
}

impl Number for f32 {
    const POISON: Self = f32::NAN;
    #[inline]
    fn run(op: &dyn Op, args: &OpArgs<Self>, phase: usize, task: usize) {
        op.run_f32(args, phase, task);
    }
}
impl Number for f64 {
    const POISON: Self = f64::NAN;
    #[inline]
    fn run(op: &dyn Op, args: &OpArgs<Self>, phase: usize, task: usize) {
        op.run_f64(args, phase, task);
    }
}
impl Number for Dual {
    const POISON: Self = Dual { v: f64::NAN, d: f64::NAN };
    #[inline]
    fn run(op: &dyn Op, args: &OpArgs<Self>, phase: usize, task: usize) {
        op.run_dual(args, phase, task);
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
    pub args: Vec<OpArgs<F>>,
    pub steps: Vec<Step>,
    pub stages: Vec<Stage>,
}

/// Programs and their memory, ready to run.
pub struct Machine<F: Number> {
    pub(super) vars: Vars,
    pub(super) layout: Layout,
    reals: Arena<F>,
    indices: Arena<u32>,
    pub(super) bound: Vec<Bound<F>>,
    team: Arc<Team>,
    /// Present if the programs run on a GPU: the arenas are then its mirror, without activations.
    pub(super) gpu: Option<Mirror>,
    /// On the processor: rounds since the last [`Machine::sync`], and what the last one took.
    rounds: usize,
    seconds: [f64; STEPS],
    /// Given back after the GPU has let go of it.
    offloaded: Offloaded<F>,
}

/// Why a program did not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Kernel(#[from] JobPanicked),
    #[error(transparent)]
    Cuda(#[from] CudaError),
}

/// Why a machine was not made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    #[error(transparent)]
    File(#[from] MapError),
    #[error(transparent)]
    Cuda(#[from] CudaError),
}

/// Where the blocks begin that operands lie in.
#[derive(Clone, Copy, Debug)]
struct Bases {
    reals: usize,
    indices: usize,
    offloaded: usize,
}

/// Where programs run.
#[derive(Clone, Debug)]
pub enum Target {
    Cpu,
    Cuda(Arc<Context>, cuda::Options),
}

/// Which program of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramId(pub(super) usize);

impl<F: Number> Machine<F> {
    /// Plans, allocates everything the programs will ever need, and binds. Variables hold zeros.
    pub fn new(vars: Vars, programs: Vec<Program>, team: Arc<Team>) -> Result<Self, OutOfMemory> {
        Self::resident(vars, programs, team, Offloaded::None)
    }

    /// As [`Machine::new`], with `offloaded` for what lies outside the arena.
    fn resident(
        vars: Vars,
        programs: Vec<Program>,
        team: Arc<Team>,
        offloaded: Offloaded<F>,
    ) -> Result<Self, OutOfMemory> {
        let packing = packing(&programs, size_of::<F>());
        let mut machine = Self::reserve_beside(vars, programs, team, offloaded)?;
        // A thread that did not get its workspace now gets it with its first product.
        let zeros = machine.reals.as_slice();
        let _ = machine.team.on_each(&|| packing::reserve(packing, zeros));
        let persistent = machine.layout.persistent.real;
        machine.reals.as_mut_slice()[..persistent].fill(F::default());
        machine.indices.as_mut_slice().fill(0);
        machine.poison();
        Ok(machine)
    }

    /// As [`Machine::new`], but pages become resident only when they are touched: to see what would be bound.
    pub fn reserve(vars: Vars, programs: Vec<Program>, team: Arc<Team>) -> Result<Self, OutOfMemory> {
        Self::reserve_beside(vars, programs, team, Offloaded::None)
    }

    /// As [`Machine::reserve`], with what [`Vars::offload`] took out of the arena at `placement`.
    pub fn reserve_at(
        vars: Vars,
        programs: Vec<Program>,
        team: Arc<Team>,
        placement: &Placement,
    ) -> Result<Self, BindError> {
        let offloaded = Offloaded::on_cpu(placement, vars.offloaded_len())?;
        Ok(Self::reserve_beside(vars, programs, team, offloaded)?)
    }

    fn reserve_beside(
        vars: Vars,
        programs: Vec<Program>,
        team: Arc<Team>,
        offloaded: Offloaded<F>,
    ) -> Result<Self, OutOfMemory> {
        let layout = Layout::new(&vars, &programs);
        let total = layout.total();
        let reals = Arena::reserve("number", total.real)?;
        let indices = Arena::reserve("index", total.index)?;
        let (reals_at, indices_at) = (reals.as_ptr() as usize, indices.as_ptr() as usize);
        let bases = Bases { reals: reals_at, indices: indices_at, offloaded: offloaded.address() };
        let programs = programs.into_iter().enumerate();
        let bound = programs.map(|(i, p)| bind(&vars, &layout, i, Arc::new(p), bases)).collect();
        Ok(Self { vars, layout, reals, indices, bound, team, gpu: None, rounds: 0, seconds: [0.0; STEPS], offloaded })
    }

    /// A machine on `target`, with what [`Vars::offload`] took out of the arena at `placement`; the team serves the CPU.
    pub fn on(
        target: &Target,
        vars: Vars,
        programs: Vec<Program>,
        team: Arc<Team>,
        placement: &Placement,
    ) -> Result<Self, BindError> {
        let Target::Cuda(context, options) = target else {
            let offloaded = Offloaded::on_cpu(placement, vars.offloaded_len())?;
            return Ok(Self::resident(vars, programs, team, offloaded)?);
        };
        if std::any::TypeId::of::<F>() != std::any::TypeId::of::<f32>() {
            return Err(CudaError::NumberType.into());
        }
        let programs: Vec<_> = programs.into_iter().map(Program::for_device).collect();
        let layout = Layout::new(&vars, &programs);
        let memory = Arc::new(Memory::new(context, &layout)?);
        // A mirror of the variables; its pages are there once they are used.
        let reals = Arena::reserve("number", layout.persistent.real)?;
        let indices = Arena::reserve("index", layout.persistent.index)?;
        let offloaded = Offloaded::on_gpu(placement, context, layout.offloaded)?;
        let (reals_at, indices_at) = memory.addresses();
        let bases = Bases { reals: reals_at, indices: indices_at, offloaded: offloaded.address() };
        let launches = device_launches(&vars, &layout, &programs, bases, &options.matmul)?;
        let on_gpu = CudaPrograms::new(memory, launches, *options)?;
        // The CPU's kernels are never given device addresses: only names and shapes are kept.
        let kept = |p| Bound { program: Arc::new(p), args: vec![], steps: vec![], stages: vec![] };
        let bound = programs.into_iter().map(kept).collect();
        let gpu = Some(Mirror::new(on_gpu, &vars));
        Ok(Self { vars, layout, reals, indices, bound, team, gpu, rounds: 0, seconds: [0.0; STEPS], offloaded })
    }

    /// As [`Machine::on`], for programs that will run in rounds: see [`cuda::round`].
    pub fn with_rounds(
        target: &Target,
        vars: Vars,
        programs: Vec<Program>,
        rounds: &Rounds,
        team: Arc<Team>,
        placement: &Placement,
    ) -> Result<Self, BindError> {
        let mut machine = Self::on(target, vars, programs, team, placement)?;
        if let Some(gpu) = &mut machine.gpu {
            gpu.prepare(rounds, &machine.vars, &machine.layout)?;
        }
        Ok(machine)
    }

    /// Whether the programs run on a GPU.
    pub fn gpu(&self) -> Option<&CudaPrograms> {
        self.gpu.as_ref().map(|m| &m.programs)
    }

    /// Brings the host's copy of a variable up to date, if it lives on a GPU.
    fn fetch(&self, var: VarId) {
        let Some(gpu) = &self.gpu else { return };
        if self.vars.is_offloaded(var) {
            return gpu.sync(var);
        }
        let (info, offset) = (self.vars.info(var), self.layout.vars[var.0 as usize]);
        let base = match info.dtype {
            DType::Real => self.reals.as_ptr().cast::<u8>(),
            DType::Index => self.indices.as_ptr().cast::<u8>(),
        };
        // SAFETY: the variable's place in the mirror. It is written only after a `run`, which borrowed the machine
        // exclusively and so ended all earlier borrows.
        unsafe { gpu.fetch(var, info.dtype, offset, info.len(), base.add(4 * offset)) };
    }

    pub fn vars(&self) -> &Vars {
        &self.vars
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Bytes allocated: equal to what [`Layout`] planned, by construction and by test.
    pub fn bytes(&self) -> usize {
        match &self.gpu {
            Some(gpu) => gpu.programs.memory().bytes(),
            None => self.reals.len() * size_of::<F>() + self.indices.len() * size_of::<u32>(),
        }
    }

    /// Bytes outside the arena: equal to what [`Layout`] planned.
    pub fn offloaded_bytes(&self) -> usize {
        match &self.offloaded {
            Offloaded::None => 0,
            Offloaded::Mapped(m) => size_of_val(m.as_slice()),
            Offloaded::Pinned(p) => 4 * p.words,
        }
    }

    /// One past the last element of each type that a variable in the arena, or an operand there, lies on.
    pub fn extent(&self) -> ByType {
        let mut extent = ByType::default();
        for (id, info) in self.vars.iter().filter(|(id, _)| !self.vars.is_offloaded(*id)) {
            let end = extent.of(info.dtype);
            *end = (*end).max(self.layout.vars[id.0 as usize] + info.len());
        }
        let slots = self.bound.iter().flat_map(|b| &b.args);
        let (offloaded, bytes) = (self.offloaded.address(), self.offloaded_bytes());
        let slots = slots.flat_map(|c| c.inputs.iter().chain(&c.outputs).chain(&c.workspace));
        for s in slots.filter(|s| !(offloaded..offloaded + bytes).contains(&s.address)) {
            let (dtype, start, size) = match s.is_index {
                true => (DType::Index, self.indices.as_ptr() as usize, size_of::<u32>()),
                false => (DType::Real, self.reals.as_ptr() as usize, size_of::<F>()),
            };
            let end = extent.of(dtype);
            *end = (*end).max((s.address - start) / size + s.len);
        }
        extent
    }

    pub fn program(&self, i: usize) -> ProgramId {
        assert!(i < self.bound.len(), "invariant: the program exists");
        ProgramId(i)
    }

    /// The name a program was written under.
    pub fn name(&self, id: ProgramId) -> &'static str {
        self.bound[id.0].program.name
    }

    /// Runs a program once. On a GPU it is only begun; reading a variable waits for it.
    pub fn run(&mut self, id: ProgramId) -> Result<(), RunError> {
        let host = self.host();
        if let Some(gpu) = &mut self.gpu {
            return Ok(gpu.run(id.0, &self.vars, &self.layout, host)?);
        }
        Ok(self.team.run(&self.bound[id.0])?)
    }

    pub(super) fn host(&self) -> Host {
        Host { reals: self.reals.as_ptr().cast(), indices: self.indices.as_ptr().cast() }
    }

    /// What a variable will be when the next round begins: one of [`Rounds::orders`], to be written before every round.
    pub fn order(&mut self, var: VarId) -> &mut [F] {
        if self.gpu.is_none() {
            return self.real_mut(var);
        }
        self.gpu.as_mut().expect("invariant: just looked").mail_mut().order(var)
    }

    /// Runs programs one after another, each as often as it says. On a GPU the round is only begun, and not more of them
    /// than [`Rounds::ahead`] without a [`Machine::sync`].
    pub fn round(&mut self, steps: &[(ProgramId, usize)]) -> Result<(), RunError> {
        assert!(steps.len() <= STEPS, "invariant: a round has at most {STEPS} steps");
        let host = self.host();
        if let Some(gpu) = &mut self.gpu {
            let mut all = [(0, 0); STEPS];
            all.iter_mut().zip(steps).for_each(|(to, &(id, runs))| *to = (id.0, runs));
            return Ok(gpu.run_round(&all[..steps.len()], &self.vars, &self.layout, host)?);
        }
        for (i, &(id, runs)) in steps.iter().enumerate() {
            let from = std::time::Instant::now();
            for _ in 0..runs {
                self.team.run(&self.bound[id.0])?;
            }
            self.seconds[i] = from.elapsed().as_secs_f64();
        }
        self.rounds = 1;
        Ok(())
    }

    /// Rounds begun whose reports were not waited for.
    pub fn pending(&self) -> usize {
        self.gpu.as_ref().map_or(self.rounds, |gpu| gpu.mail().pending())
    }

    /// Whether the next round must wait for those before it.
    pub fn must_sync(&self) -> bool {
        self.gpu.as_ref().map_or(self.rounds > 0, |gpu| gpu.mail().is_full())
    }

    /// Waits for all rounds that were begun: how many since the last time. Their reports can be read until the next
    /// round begins.
    pub fn sync(&mut self) -> Result<usize, RunError> {
        let host = self.host();
        match &mut self.gpu {
            None => Ok(std::mem::take(&mut self.rounds)),
            // SAFETY: the machine's own mirror, borrowed exclusively.
            Some(gpu) => Ok(unsafe { gpu.settle_rounds(&self.vars, &self.layout, host) }?),
        }
    }

    /// What a variable of [`Rounds::reports`] was after the round `back` rounds before the last synced one; on the
    /// processor there is only the last.
    pub fn reported(&self, back: usize, var: VarId) -> &[F] {
        match &self.gpu {
            None => self.real(var),
            Some(gpu) => bytemuck::cast_slice(gpu.mail().report(back, var)),
        }
    }

    /// The same of indices.
    pub fn reported_index(&self, back: usize, var: VarId) -> &[u32] {
        match &self.gpu {
            None => self.index(var),
            Some(gpu) => gpu.mail().report(back, var),
        }
    }

    /// Whether a variable of [`Rounds::watched`] may hold a number that is not finite: on a GPU what the last synced
    /// rounds found, on the processor nobody looked.
    pub fn alarm(&self) -> bool {
        self.gpu.as_ref().is_none_or(|gpu| gpu.mail().alarm)
    }

    /// Seconds of each step of the last synced round.
    pub fn seconds(&self) -> [f64; STEPS] {
        self.gpu.as_ref().map_or(self.seconds, |gpu| gpu.mail().seconds)
    }

    /// Waits for everything that was begun on a GPU, and says whether it went well.
    pub fn wait(&self) -> Result<(), RunError> {
        Ok(self.gpu.as_ref().map_or(Ok(()), |gpu| gpu.wait())?)
    }

    /// The numbers of a variable.
    pub fn real(&self, var: VarId) -> &[F] {
        let info = self.vars.info(var);
        assert_eq!(info.dtype, DType::Real, "invariant: {} holds reals", info.name);
        self.fetch(var);
        let (at, len) = (self.layout.vars[var.0 as usize], info.len());
        if self.vars.is_offloaded(var) {
            // SAFETY: the variable's place in its block; writers need `&mut self` or run inside `run(&mut self)`, which on
            // a GPU has been waited for.
            return unsafe { std::slice::from_raw_parts(self.offloaded.as_ptr().add(at), len) };
        }
        &self.reals.as_slice()[at..][..len]
    }

    pub fn real_mut(&mut self, var: VarId) -> &mut [F] {
        let info = self.vars.info(var);
        assert_eq!(info.dtype, DType::Real, "invariant: {} holds reals", info.name);
        let (at, len) = (self.layout.vars[var.0 as usize], info.len());
        self.fetch(var);
        if let Some(gpu) = &mut self.gpu {
            gpu.touched(var);
        }
        if self.vars.is_offloaded(var) {
            // SAFETY: as above, exclusively borrowed.
            return unsafe { std::slice::from_raw_parts_mut(self.offloaded.as_ptr().add(at), len) };
        }
        &mut self.reals.as_mut_slice()[at..][..len]
    }

    #[allow(clippy::should_implement_trait, reason = "the indices of a variable, not an element: `[]` would mislead")]
    pub fn index(&self, var: VarId) -> &[u32] {
        let info = self.vars.info(var);
        assert_eq!(info.dtype, DType::Index, "invariant: {} holds indices", info.name);
        self.fetch(var);
        &self.indices.as_slice()[self.layout.vars[var.0 as usize]..][..info.len()]
    }

    #[allow(clippy::should_implement_trait, reason = "the indices of a variable, not an element: `[]` would mislead")]
    pub fn index_mut(&mut self, var: VarId) -> &mut [u32] {
        let info = self.vars.info(var);
        assert_eq!(info.dtype, DType::Index, "invariant: {} holds indices", info.name);
        let (at, len) = (self.layout.vars[var.0 as usize], info.len());
        self.fetch(var);
        if let Some(gpu) = &mut self.gpu {
            gpu.touched(var);
        }
        &mut self.indices.as_mut_slice()[at..][..len]
    }

    /// Fills the activation region with poison: results must not depend on what an earlier program left there.
    pub fn poison(&mut self) {
        if let Some(gpu) = &self.gpu {
            return gpu.poison(&self.layout);
        }
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
                F::run(&*self.program.nodes[step.node].op, &self.args[step.node], step.phase, task);
                return;
            }
            task -= step.tasks;
        }
    }
}

/// What a GPU launches for each program, if its memory begins at `bases`.
fn device_launches(
    vars: &Vars,
    layout: &Layout,
    programs: &[Program],
    bases: Bases,
    matmul: &Matmul,
) -> Result<Vec<Vec<Vec<Launch>>>, CudaError> {
    let of = |(i, p)| cuda::launches(p, &operands::<f32>(vars, layout, i, p, bases), matmul);
    programs.iter().enumerate().map(of).collect()
}

/// Made-up addresses: of launches that are compiled or counted, and never run.
const NOWHERE: Bases = Bases { reals: 1 << 20, indices: 1 << 40, offloaded: 1 << 50 };

/// The launches of programs at made-up addresses. Needs no driver.
pub fn describe_launches(
    vars: &Vars,
    programs: &[Program],
    matmul: &Matmul,
) -> Result<Vec<Vec<Vec<Launch>>>, CudaError> {
    let programs: Vec<_> = programs.iter().cloned().map(Program::for_device).collect();
    device_launches(vars, &Layout::new(vars, &programs), &programs, NOWHERE, matmul)
}

/// How many launches each node of programs makes, and one of every kind: for plans. Nodes of the same operation and
/// shapes launch the same, so that of a rollout's many steps one is described.
pub fn count_launches(
    vars: &Vars,
    layout: &Layout,
    programs: &[&Program],
    matmul: &Matmul,
) -> Result<(Vec<Vec<usize>>, Vec<Launch>), CudaError> {
    let (mut known, mut kinds) = (HashMap::<String, usize>::new(), Vec::new());
    let mut counts = Vec::with_capacity(programs.len());
    for (i, p) in programs.iter().enumerate() {
        let args = operands::<f32>(vars, layout, i, p, NOWHERE);
        let mut of = Vec::with_capacity(args.len());
        for (node, args) in p.nodes.iter().zip(&args) {
            let shapes = |s: &[Operand]| s.iter().map(|s| s.shape.clone()).collect::<Vec<_>>();
            let key = format!("{:?} {:?} {:?}", node.op, shapes(&args.inputs), shapes(&args.outputs));
            let count = match known.get(&key) {
                Some(&count) => count,
                None => {
                    let launches = cuda::node_launches(p, node, args, matmul)?;
                    known.insert(key, launches.len());
                    kinds.extend_from_slice(&launches);
                    launches.len()
                }
            };
            of.push(count);
        }
        counts.push(of);
    }
    Ok((counts, kinds))
}

/// The operands of every node of a program.
fn operands<F: Number>(vars: &Vars, layout: &Layout, which: usize, program: &Program, bases: Bases) -> Vec<OpArgs<F>> {
    let offsets = &layout.programs[which].offsets;
    let slot = |v: Val| {
        let info = program.info(v);
        let is_index = info.dtype == DType::Index;
        let owned = |b: Val| {
            let start = if is_index { layout.persistent.index } else { layout.persistent.real };
            start + offsets[b.0 as usize].expect("invariant: a value that a node touches has an offset")
        };
        let arena = if is_index { bases.indices } else { bases.reals };
        let (block, at) = match info.storage {
            Storage::Activation => (arena, owned(v)),
            Storage::View { base, offset } => (arena, owned(base) + offset),
            Storage::Var { var, offset } => {
                debug_assert_eq!(vars.info(var).dtype, info.dtype);
                (if vars.is_offloaded(var) { bases.offloaded } else { arena }, layout.vars[var.0 as usize] + offset)
            }
        };
        let address = block + at * if is_index { size_of::<u32>() } else { size_of::<F>() };
        Operand { address, len: info.len(), shape: info.shape.clone(), is_index }
    };
    let slots = |vs: &[Val]| vs.iter().map(|&v| slot(v)).collect::<Vec<_>>();
    let nodes = program.nodes.iter();
    nodes
        .map(|node| OpArgs {
            inputs: slots(&node.inputs),
            outputs: slots(&node.outputs),
            workspace: node.workspace.map(slot),
            number: PhantomData,
        })
        .collect()
}

fn bind<F: Number>(vars: &Vars, layout: &Layout, which: usize, program: Arc<Program>, bases: Bases) -> Bound<F> {
    let args = operands::<F>(vars, layout, which, &program, bases);
    let (mut steps, mut stages) = (Vec::<Step>::new(), Vec::<Stage>::new());
    // Address ranges touched since the last barrier, and whether they were written.
    let mut touched: Vec<(usize, usize, bool)> = Vec::new();
    let mut open = 0;
    for (i, (node, c)) in program.nodes.iter().zip(&args).enumerate() {
        let range = |s: &Operand, written: bool| {
            (s.address, s.address + s.len * if s.is_index { size_of::<u32>() } else { size_of::<F>() }, written)
        };
        let mine: Vec<_> = (c.inputs.iter().map(|s| range(s, false)))
            .chain(c.outputs.iter().chain(&c.workspace).map(|s| range(s, true)))
            .collect();
        let conflict = mine.iter().any(|m| touched.iter().any(|t| m.0 < t.1 && t.0 < m.1 && (m.2 || t.2)));
        let shapes = |vs: &[Operand]| vs.iter().map(|s| s.shape.clone()).collect::<Vec<_>>();
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
    }
    close(&steps, &mut stages, &mut open);
    Bound { program, args, steps, stages }
}

/// Ends the stage that holds the steps from `open` on.
fn close(steps: &[Step], stages: &mut Vec<Stage>, open: &mut usize) {
    if *open < steps.len() {
        let tasks = steps[*open..].iter().map(|s| s.tasks).sum();
        stages.push(Stage { from: *open, to: steps.len(), tasks });
        *open = steps.len();
    }
}
