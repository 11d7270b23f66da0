//! Programs on a GPU: what an operation sees of its operands there, and programs bound to one block of device memory,
//! each recorded once as a graph and then replayed.
//!
//! The plan is the CPU's: the same [`Layout`], the same offsets. Variables have a mirror on the host that is filled when
//! it is read and sent when it was written, so whoever owns a [`super::Machine`] need not know where it runs.

pub(super) mod mirror;
pub mod round;

use super::op::OpArgs;
use super::plan::Layout;
use super::program::{DType, Node, Program};
use crate::device::cuda::cache::{self, Cached};
use crate::device::cuda::driver::{Buffer, Context, Function, Graph, Module};
use crate::device::cuda::launch::{In, IndexIn, IndexOut, Out};
use crate::device::cuda::matmul::Matmul;
use crate::device::cuda::nvrtc::Nvrtc;
use crate::device::cuda::unit::units;
use crate::device::cuda::{CudaError, Launch};
use round::{Frame, MOST_LAUNCHES, Mail, Rounds};
use std::sync::Arc;
use std::time::Instant;

/// The operands of a node: shapes and device addresses, and how matrix products are made.
#[derive(Debug)]
pub struct Operands<'a> {
    pub(super) args: &'a OpArgs<f32>,
    pub(super) matmul: &'a Matmul,
}

impl Operands<'_> {
    pub fn matmul(&self) -> &Matmul {
        self.matmul
    }
    pub fn inputs_len(&self) -> usize {
        self.args.inputs.len()
    }
    pub fn outputs_len(&self) -> usize {
        self.args.outputs.len()
    }
    pub fn shape(&self, i: usize) -> &[usize] {
        &self.args.inputs[i].shape
    }
    pub fn out_shape(&self, i: usize) -> &[usize] {
        &self.args.outputs[i].shape
    }
    pub fn len(&self, i: usize) -> usize {
        self.args.inputs[i].len
    }
    pub fn out_len(&self, i: usize) -> usize {
        self.args.outputs[i].len
    }
    pub fn input(&self, i: usize) -> In {
        assert!(!self.args.inputs[i].is_index, "invariant: operand {i} holds reals");
        In(self.args.inputs[i].address as u64)
    }
    pub fn index(&self, i: usize) -> IndexIn {
        assert!(self.args.inputs[i].is_index, "invariant: operand {i} holds indices");
        IndexIn(self.args.inputs[i].address as u64)
    }
    pub fn out(&self, i: usize) -> Out {
        assert!(!self.args.outputs[i].is_index, "invariant: output {i} holds reals");
        Out(self.args.outputs[i].address as u64)
    }
    pub fn out_index(&self, i: usize) -> IndexOut {
        assert!(self.args.outputs[i].is_index, "invariant: output {i} holds indices");
        IndexOut(self.args.outputs[i].address as u64)
    }
    /// Scratch memory.
    pub fn scratch(&self) -> Out {
        Out(self.args.workspace.as_ref().expect("invariant: an op that uses scratch memory asked for it").address
            as u64)
    }
}

/// Blocks of `threads` for `n` elements.
pub fn cover(n: usize, threads: usize) -> [usize; 3] {
    [n.div_ceil(threads), 1, 1]
}

/// The launches of each node of a program whose values lie at the addresses of `args`.
pub(super) fn launches(
    program: &Program,
    args: &[OpArgs<f32>],
    matmul: &Matmul,
) -> Result<Vec<Vec<Launch>>, CudaError> {
    program.nodes.iter().zip(args).map(|(node, args)| node_launches(program, node, args, matmul)).collect()
}

/// Those of one of its nodes.
pub(super) fn node_launches(
    program: &Program,
    node: &Node,
    args: &OpArgs<f32>,
    matmul: &Matmul,
) -> Result<Vec<Launch>, CudaError> {
    match node.op.cuda(&Operands { args, matmul }) {
        Some(l) => Ok(l.into_iter().filter(|l| l.blocks() > 0).collect()),
        None => Err(CudaError::NoKernel { op: node.op.name(), program: program.name }),
    }
}

/// How a machine uses a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Launch every kernel each time instead of replaying graphs: the same bits, slower.
    pub eager: bool,
    pub matmul: Matmul,
}

/// Runs of an operation that are timed together.
const REPEATS: usize = 20;

/// Programs on a GPU.
#[derive(Debug)]
pub struct CudaPrograms {
    // Graphs and functions are dropped before the modules, and these before the memory.
    programs: Vec<Recorded>,
    rounds: Option<RecordedRounds>,
    modules: Vec<Module>,
    memory: Arc<Memory>,
    options: Options,
}

type Loaded = Vec<(Function, Launch)>;

#[derive(Debug)]
struct Recorded {
    graph: Option<Graph>,
    launches: Loaded,
    /// Where the launches of each operation end.
    ends: Vec<usize>,
}

/// What surrounds the programs of a round, and the rounds that are one graph.
#[derive(Debug)]
struct RecordedRounds {
    begin: Loaded,
    end: Loaded,
    whole: Vec<(Vec<(usize, usize)>, Graph)>,
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

    fn address(&self, word: usize) -> u64 {
        self.buffer.address + 4 * word as u64
    }

    fn word(&self, dtype: DType, offset: usize) -> usize {
        if dtype == DType::Index { self.reals + offset } else { offset }
    }
}

impl CudaPrograms {
    /// Compiles and records `programs`: for each of its operations the launches on `memory`.
    pub fn new(memory: Arc<Memory>, programs: Vec<Vec<Vec<Launch>>>, options: Options) -> Result<Self, CudaError> {
        let mut all = Self { programs: vec![], rounds: None, modules: vec![], memory, options };
        let context = all.memory.context.clone();
        let sums = |nodes: &Vec<Vec<Launch>>| {
            let mut end = 0;
            nodes
                .iter()
                .map(|n| {
                    end += n.len();
                    end
                })
                .collect::<Vec<_>>()
        };
        let ends: Vec<_> = programs.iter().map(sums).collect();
        let flat = programs.into_iter().map(|nodes| nodes.into_iter().flatten().collect()).collect();
        for (launches, ends) in all.load(flat)?.into_iter().zip(ends) {
            let graph = match options.eager || launches.is_empty() {
                true => None,
                false => Some(context.capture(|| launch_all(&context, &launches))?),
            };
            all.programs.push(Recorded { graph, launches, ends });
        }
        context.synchronise()?;
        Ok(all)
    }

    /// Compiles what the launches need and finds their entry points.
    fn load(&mut self, lists: Vec<Vec<Launch>>) -> Result<Vec<Loaded>, CudaError> {
        let context = &self.memory.context;
        let (units, which) = units(lists.iter().flatten());
        let nvrtc = Nvrtc::load()?;
        let arch = nvrtc.arch(&context.info)?;
        // Units are compiled side by side: they know nothing of each other.
        let codes: Vec<Result<Cached, CudaError>> = std::thread::scope(|scope| {
            let (nvrtc, arch) = (&nvrtc, &arch);
            let compile = |u| scope.spawn(move || cache::compile(nvrtc, u, arch, true));
            let jobs: Vec<_> = units.iter().map(compile).collect();
            jobs.into_iter().map(|j| j.join().expect("invariant: the compiler does not panic")).collect()
        });
        let first = self.modules.len();
        for (unit, code) in units.iter().zip(codes) {
            self.modules.push(cache::load(context, &nvrtc, unit, &arch, &code?)?);
        }
        let mut which = which.into_iter();
        let mut stack = 0;
        let mut loaded = |mut launch: Launch| {
            let unit = which.next().expect("invariant: every launch has its unit");
            let function = self.modules[first + unit].function(&launch.symbol())?;
            function.allow_shared(launch.shared)?;
            stack = function.stack()?.max(stack);
            context.encode(&mut launch)?;
            Ok((function, launch))
        };
        let lists = lists.into_iter().map(|list| list.into_iter().map(&mut loaded).collect());
        let lists: Vec<Loaded> = lists.collect::<Result<_, CudaError>>()?;
        context.allow_stack(stack)?;
        Ok(lists)
    }

    /// Records the rounds that will be run again and again, each as one graph.
    fn record_rounds(&mut self, rounds: &Rounds, mail: &Mail, frame: Frame) -> Result<(), CudaError> {
        let mut loaded = self.load(vec![frame.begin, frame.end])?.into_iter();
        let mut next = || loaded.next().expect("invariant: as many lists as were given");
        let mut recorded = RecordedRounds { begin: next(), end: next(), whole: vec![] };
        let context = self.memory.context.clone();
        for steps in &rounds.sequences {
            let launches: usize = steps.iter().map(|&(p, runs)| runs * self.launches(p)).sum();
            if self.options.eager || launches > MOST_LAUNCHES {
                continue;
            }
            let program = |i: usize| launch_all(&context, &self.programs[i].launches);
            let graph = context.capture(|| round(&context, &recorded, mail, steps, true, program))?;
            recorded.whole.push((steps.clone(), graph));
        }
        self.rounds = Some(recorded);
        context.synchronise()
    }

    /// Puts a program on the stream; returns before it is done.
    pub fn run(&self, i: usize) -> Result<(), CudaError> {
        let p = &self.programs[i];
        match &p.graph {
            Some(g) => g.replay(),
            None => launch_all(&self.memory.context, &p.launches),
        }
    }

    /// Puts a round on the stream: one launch if it was recorded as a whole.
    fn run_round(&self, mail: &Mail, steps: &[(usize, usize)]) -> Result<(), CudaError> {
        let rounds = self.rounds.as_ref().expect("invariant: the machine was made for rounds");
        match rounds.whole.iter().find(|(s, _)| s == steps) {
            Some((_, graph)) => graph.replay(),
            None => round(&self.memory.context, rounds, mail, steps, false, |i| self.run(i)),
        }
    }

    /// Runs one operation of a program.
    pub fn run_node(&self, i: usize, node: usize) -> Result<(), CudaError> {
        launch_all(&self.memory.context, self.node(i, node))
    }

    /// Seconds that one operation of a program takes, sampled for about `seconds`: each is the mean of some runs in a row,
    /// so that the time between launches counts as it does in a graph.
    pub fn time_node(&self, i: usize, node: usize, seconds: f64) -> Result<Vec<f64>, CudaError> {
        let (context, launches) = (&self.memory.context, self.node(i, node));
        if launches.is_empty() {
            return Ok(vec![0.0]);
        }
        let graph = context.capture(|| (0..REPEATS).try_for_each(|_| launch_all(context, launches)))?;
        graph.replay()?;
        context.synchronise()?;
        let (mut samples, start) = (vec![], Instant::now());
        while samples.len() < 3 || (samples.len() < 50 && start.elapsed().as_secs_f64() < seconds) {
            samples.push(context.time(|| graph.replay())? / REPEATS as f64);
        }
        Ok(samples)
    }

    fn node(&self, i: usize, node: usize) -> &[(Function, Launch)] {
        let p = &self.programs[i];
        &p.launches[node.checked_sub(1).map_or(0, |before| p.ends[before])..p.ends[node]]
    }

    /// Kernels that one run of a program launches.
    pub fn launches(&self, i: usize) -> usize {
        self.programs[i].launches.len()
    }

    /// How matrix products are made.
    pub fn matmul(&self) -> &Matmul {
        &self.options.matmul
    }

    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }
}

fn launch_all(context: &Context, launches: &[(Function, Launch)]) -> Result<(), CudaError> {
    launches.iter().try_for_each(|(f, l)| context.launch(*f, l))
}

/// Orders, programs, reports, with marks between the steps.
fn round(
    context: &Context,
    frame: &RecordedRounds,
    mail: &Mail,
    steps: &[(usize, usize)],
    captured: bool,
    program: impl Fn(usize) -> Result<(), CudaError>,
) -> Result<(), CudaError> {
    launch_all(context, &frame.begin)?;
    mail.mark(0, captured)?;
    for (step, &(which, runs)) in steps.iter().enumerate() {
        (0..runs).try_for_each(|_| program(which))?;
        mail.mark(step + 1, captured)?;
    }
    launch_all(context, &frame.end)
}
