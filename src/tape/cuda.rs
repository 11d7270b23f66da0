//! Programs on a GPU: what an operation sees of its operands there, and programs bound to one block of device memory,
//! each recorded once as a graph and then replayed.
//!
//! The plan is the CPU's: the same [`Layout`], the same offsets. Variables have a mirror on the host that is filled when
//! it is read and sent when it was written, so whoever owns a [`super::Machine`] need not know where it runs.

use super::op::Cx;
use super::plan::Layout;
use super::program::{DType, Node, Program, VarId, Vars};
use crate::device::cuda::driver::{Buffer, Context, Function, Graph, Module};
use crate::device::cuda::launch::{In, IndexIn, IndexOut, Out};
use crate::device::cuda::multiply::Multiply;
use crate::device::cuda::nvrtc::Nvrtc;
use crate::device::cuda::unit::units;
use crate::device::cuda::{CudaError, Launch, cache};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The operands of a node: shapes and device addresses, and how matrix products are made.
#[derive(Debug)]
pub struct Operands<'a> {
    pub(super) cx: &'a Cx<f32>,
    pub(super) multiply: &'a Multiply,
}

impl Operands<'_> {
    pub fn multiply(&self) -> &Multiply {
        self.multiply
    }
    pub fn inputs_len(&self) -> usize {
        self.cx.inputs.len()
    }
    pub fn outputs_len(&self) -> usize {
        self.cx.outputs.len()
    }
    pub fn shape(&self, i: usize) -> &[usize] {
        &self.cx.inputs[i].shape
    }
    pub fn out_shape(&self, i: usize) -> &[usize] {
        &self.cx.outputs[i].shape
    }
    pub fn len(&self, i: usize) -> usize {
        self.cx.inputs[i].len
    }
    pub fn out_len(&self, i: usize) -> usize {
        self.cx.outputs[i].len
    }
    pub fn input(&self, i: usize) -> In {
        assert!(!self.cx.inputs[i].is_index, "invariant: operand {i} holds reals");
        In(self.cx.inputs[i].address as u64)
    }
    pub fn index(&self, i: usize) -> IndexIn {
        assert!(self.cx.inputs[i].is_index, "invariant: operand {i} holds indices");
        IndexIn(self.cx.inputs[i].address as u64)
    }
    pub fn out(&self, i: usize) -> Out {
        assert!(!self.cx.outputs[i].is_index, "invariant: output {i} holds reals");
        Out(self.cx.outputs[i].address as u64)
    }
    pub fn out_index(&self, i: usize) -> IndexOut {
        assert!(self.cx.outputs[i].is_index, "invariant: output {i} holds indices");
        IndexOut(self.cx.outputs[i].address as u64)
    }
    /// Scratch memory.
    pub fn scratch(&self) -> Out {
        Out(self.cx.workspace.as_ref().expect("invariant: an op that uses scratch memory asked for it").address as u64)
    }
}

/// Blocks of `threads` for `n` elements.
pub fn cover(n: usize, threads: usize) -> [usize; 3] {
    [n.div_ceil(threads), 1, 1]
}

/// The launches of a program whose values lie at the addresses of `cx`.
pub(super) fn launches(program: &Program, cx: &[Cx<f32>], multiply: &Multiply) -> Result<Vec<Launch>, CudaError> {
    let mut list = Vec::new();
    for (node, cx) in program.nodes.iter().zip(cx) {
        list.extend(node_launches(program, node, cx, multiply)?);
    }
    Ok(list)
}

/// Those of one of its nodes.
pub(super) fn node_launches(
    program: &Program,
    node: &Node,
    cx: &Cx<f32>,
    multiply: &Multiply,
) -> Result<Vec<Launch>, CudaError> {
    match node.op.cuda(&Operands { cx, multiply }) {
        Some(l) => Ok(l.into_iter().filter(|l| l.blocks() > 0).collect()),
        None => Err(CudaError::NoKernel { op: node.op.name(), program: program.name }),
    }
}

/// How a machine uses a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Launch every kernel each time instead of replaying graphs: the same bits, slower.
    pub eager: bool,
    pub multiply: Multiply,
}

/// Programs on a GPU.
#[derive(Debug)]
pub struct CudaPrograms {
    // Graphs and functions are dropped before the modules, and these before the memory.
    programs: Vec<Recorded>,
    #[allow(dead_code, reason = "functions live as long as their modules")]
    modules: Vec<Module>,
    memory: Arc<Memory>,
    options: Options,
}

#[derive(Debug)]
struct Recorded {
    graph: Option<Graph>,
    launches: Vec<(Function, Launch)>,
}

/// Device memory: real numbers, then indices.
#[derive(Debug)]
pub struct Memory {
    pub context: Arc<Context>,
    buffer: Buffer,
    reals: usize,
}

/// Bits of a quiet NaN.
const POISON: u32 = 0x7fc0_0000;

impl Memory {
    /// Room for a layout: variables hold zeros, the activation region poison.
    pub fn new(context: &Arc<Context>, layout: &Layout) -> Result<Self, CudaError> {
        let total = layout.total();
        let buffer = Buffer::new(context, total.real + total.index)?;
        buffer.fill(0, layout.persistent.real, 0)?;
        buffer.fill(layout.persistent.real, layout.activations.real, POISON)?;
        buffer.fill(total.real, total.index, 0)?;
        Ok(Self { context: context.clone(), buffer, reals: total.real })
    }

    /// Address of the real numbers and of the indices.
    pub fn addresses(&self) -> (usize, usize) {
        (self.buffer.address as usize, self.buffer.address as usize + 4 * self.reals)
    }

    pub fn bytes(&self) -> usize {
        self.buffer.words * 4
    }

    fn word(&self, dtype: DType, offset: usize) -> usize {
        if dtype == DType::Index { self.reals + offset } else { offset }
    }
}

impl CudaPrograms {
    /// Compiles and records `programs`: for each its launches on `memory`.
    pub fn new(memory: Arc<Memory>, programs: Vec<Vec<Launch>>, options: Options) -> Result<Self, CudaError> {
        let context = memory.context.clone();
        let (units, which) = units(programs.iter().flatten());
        let arch = context.info.arch();
        let nvrtc = Nvrtc::load()?;
        // Units are compiled side by side: they know nothing of each other.
        let codes: Vec<Result<Vec<u8>, CudaError>> = std::thread::scope(|scope| {
            let (nvrtc, arch) = (&nvrtc, &arch);
            let jobs: Vec<_> = units.iter().map(|u| scope.spawn(move || cache::compile(nvrtc, u, arch))).collect();
            jobs.into_iter().map(|j| j.join().expect("invariant: the compiler does not panic")).collect()
        });
        let mut modules = Vec::new();
        for code in codes {
            modules.push(Module::load(&context, &code?)?);
        }
        let mut which = which.into_iter();
        let mut recorded = Vec::new();
        for launches in programs {
            let mut list = Vec::with_capacity(launches.len());
            for mut launch in launches {
                let module = &modules[which.next().expect("invariant: every launch has its unit")];
                let function = module.function(&launch.symbol())?;
                function.allow_shared(launch.shared)?;
                context.encode(&mut launch)?;
                list.push((function, launch));
            }
            let all = || list.iter().try_for_each(|(f, l)| context.launch(*f, l));
            let graph = if options.eager || list.is_empty() { None } else { Some(context.capture(all)?) };
            recorded.push(Recorded { graph, launches: list });
        }
        context.synchronise()?;
        Ok(Self { programs: recorded, modules, memory, options })
    }

    /// Puts a program on the stream; returns before it is done.
    pub fn run(&self, i: usize) -> Result<(), CudaError> {
        let p = &self.programs[i];
        match &p.graph {
            Some(g) if !self.options.eager => g.replay(),
            _ => p.launches.iter().try_for_each(|(f, l)| self.memory.context.launch(*f, l)),
        }
    }

    /// Kernels that one run of a program launches.
    pub fn launches(&self, i: usize) -> usize {
        self.programs[i].launches.len()
    }

    /// How matrix products are made.
    pub fn multiply(&self) -> &Multiply {
        &self.options.multiply
    }

    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }
}

/// Which side has the newest numbers of each variable.
#[derive(Debug)]
pub(super) struct Mirror {
    pub programs: CudaPrograms,
    /// The host's copy is older than the device's.
    stale: Vec<AtomicBool>,
    /// The host's copy is newer.
    written: Vec<bool>,
    /// A read that failed: `run` reports it.
    failed: std::sync::Mutex<Option<CudaError>>,
}

impl Mirror {
    pub fn new(programs: CudaPrograms, vars: &Vars) -> Self {
        let n = vars.iter().count();
        // Fresh memory is zero on both sides.
        let stale = (0..n).map(|_| AtomicBool::new(false)).collect();
        Self { programs, stale, written: vec![false; n], failed: std::sync::Mutex::new(None) }
    }

    /// Brings the host's copy of `var`, at `host`, up to date.
    ///
    /// # Safety
    /// `host` is the variable's place in the mirror, and nothing borrowed from it while it was stale is alive.
    pub unsafe fn fetch(&self, var: VarId, dtype: DType, offset: usize, len: usize, host: *mut u8) {
        if !self.stale[var.0 as usize].swap(false, Relaxed) {
            return;
        }
        let memory = self.programs.memory();
        // SAFETY: the caller's promise; both number types have four bytes.
        let to = unsafe { std::slice::from_raw_parts_mut(host, 4 * len) };
        if let Err(e) = memory.buffer.read(memory.word(dtype, offset), to) {
            self.failed.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(e);
        }
    }

    /// Waits until no kernel writes `var` any more, which lies where the host reads it in place.
    pub fn settle(&self, var: VarId) {
        if self.stale[var.0 as usize].swap(false, Relaxed)
            && let Err(e) = self.programs.memory().context.synchronise()
        {
            self.failed.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(e);
        }
    }

    pub fn touched(&mut self, var: VarId) {
        self.written[var.0 as usize] = true;
    }

    /// Sends what the host wrote, runs a program, and lets the host's copies age.
    pub fn run(
        &mut self,
        i: usize,
        vars: &Vars,
        layout: &Layout,
        reals: *const u8,
        indices: *const u8,
    ) -> Result<(), CudaError> {
        if let Some(e) = self.failed.lock().unwrap_or_else(|e| e.into_inner()).take() {
            return Err(e);
        }
        let memory = self.programs.memory();
        for (id, info) in vars.iter().filter(|(id, _)| self.written[id.0 as usize] && !vars.is_apart(*id)) {
            let offset = layout.vars[id.0 as usize];
            let base = if info.dtype == DType::Index { indices } else { reals };
            // SAFETY: the variable's place in the mirror.
            let from = unsafe { std::slice::from_raw_parts(base.add(4 * offset), 4 * info.len()) };
            memory.buffer.write(memory.word(info.dtype, offset), from)?;
        }
        self.written.fill(false);
        self.programs.run(i)?;
        for s in &mut self.stale {
            *s.get_mut() = true;
        }
        Ok(())
    }

    /// Waits for the stream; an earlier read that failed is reported here too.
    pub fn wait(&self) -> Result<(), CudaError> {
        self.programs.memory().context.synchronise()?;
        self.failed.lock().unwrap_or_else(|e| e.into_inner()).take().map_or(Ok(()), Err)
    }

    /// Poison in the activation region.
    pub fn poison(&self, layout: &Layout) {
        let (from, len) = (layout.persistent.real, layout.activations.real);
        if let Err(e) = self.programs.memory().buffer.fill(from, len, POISON) {
            self.failed.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(e);
        }
    }
}
