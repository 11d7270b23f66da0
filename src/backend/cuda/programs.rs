//! Programs on a GPU: compiled, recorded once as a graph each, and replayed.

use super::Options;
use super::epoch_graph::{EpochGraph, PinnedRing};
use crate::device::cuda::cache::{self, Cached};
use crate::device::cuda::driver::{Buffer, Context, Function, Graph};
use crate::device::cuda::matmul::Matmul;
use crate::device::cuda::nvrtc::Nvrtc;
use crate::device::cuda::unit::units;
use crate::device::cuda::{CudaError, Launch};
use crate::tape::backend::ProgramId;
use crate::tape::program::DType;
use crate::tape::{EpochIo, Layout, VarId};
use std::sync::Arc;
use std::time::Instant;

/// Runs of an operation that are timed together.
const REPEATS: usize = 20;

/// Programs on a GPU.
#[derive(Debug)]
pub struct CudaPrograms {
    // Graphs are dropped before the functions, which hold the modules, and these before the memory. Graphs of epochs
    // call the functions of programs.
    /// Whole epochs, if the machine was made for some.
    epochs: Option<EpochGraph>,
    programs: Vec<Recorded>,
    memory: Arc<DeviceMemory>,
    options: Options,
}

/// Launches with the entry points that they call.
pub(super) type Loaded = Vec<(Function, Launch)>;

#[derive(Debug)]
struct Recorded {
    graph: Option<Graph>,
    launches: Loaded,
    /// Where the launches of each operation end.
    ends: Vec<usize>,
}

/// Device memory: real numbers, then indices.
#[derive(Debug)]
pub struct DeviceMemory {
    pub context: Arc<Context>,
    pub(super) buffer: Buffer,
    reals: usize,
}

/// Bits of a quiet NaN.
pub(super) const POISON: u32 = 0x7fc0_0000;

impl DeviceMemory {
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

    pub(super) fn address(&self, word: usize) -> u64 {
        self.buffer.address + 4 * word as u64
    }

    pub(super) fn word(&self, dtype: DType, offset: usize) -> usize {
        if dtype == DType::Index { self.reals + offset } else { offset }
    }
}

impl CudaPrograms {
    /// Compiles and records `programs`: for each of its operations the launches on `memory`.
    pub(super) fn new(
        memory: Arc<DeviceMemory>,
        programs: Vec<Vec<Vec<Launch>>>,
        options: Options,
    ) -> Result<Self, CudaError> {
        let mut all = Self { programs: vec![], epochs: None, memory, options };
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
    pub(super) fn load(&self, lists: Vec<Vec<Launch>>) -> Result<Vec<Loaded>, CudaError> {
        let context = &self.memory.context;
        let (units, which) = units(lists.iter().flatten());
        let nvrtc = Nvrtc::load()?;
        let arch = nvrtc.arch(&context.info)?;
        let codes = cache::compile_all(&nvrtc, &units, &arch);
        let load = |(unit, code): (_, Result<Cached, CudaError>)| cache::load(context, &nvrtc, unit, &arch, &code?);
        let modules = units.iter().zip(codes).map(load).collect::<Result<Vec<_>, _>>()?;
        let mut which = which.into_iter();
        let mut stack = 0;
        let mut loaded = |mut launch: Launch| {
            let unit = which.next().expect("invariant: every launch has its unit");
            let function = modules[unit].function(&launch.symbol())?;
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

    /// Makes ready for the epochs of `io`, whose variables lie at `place`.
    pub(super) fn prepare_epochs(
        &mut self,
        io: &EpochIo,
        place: impl Fn(VarId) -> (u64, usize),
    ) -> Result<PinnedRing, CudaError> {
        let ring = PinnedRing::new(&self.memory, io, &place)?;
        self.epochs = Some(EpochGraph::record(self, &ring, io, &place)?);
        self.memory.context.synchronise()?;
        Ok(ring)
    }

    /// Launches of a program.
    pub(super) fn program(&self, i: usize) -> &[(Function, Launch)] {
        &self.programs[i].launches
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// Puts a program on the stream; returns before it is done.
    pub(super) fn run(&self, i: usize) -> Result<(), CudaError> {
        let p = &self.programs[i];
        match &p.graph {
            Some(g) => g.replay(),
            None => launch_all(&self.memory.context, &p.launches),
        }
    }

    /// Puts an epoch on the stream: one launch if it was recorded as a whole.
    pub(super) fn submit(&self, ring: &mut PinnedRing, steps: &[(ProgramId, usize)]) -> Result<(), CudaError> {
        let epochs = self.epochs.as_ref().expect("invariant: the machine was made for epochs");
        epochs.submit(self, ring, steps)
    }

    /// Runs one operation of a program.
    pub(super) fn run_node(&self, i: usize, node: usize) -> Result<(), CudaError> {
        launch_all(&self.memory.context, self.node(i, node))
    }

    /// Seconds that one operation of a program takes, sampled for about `seconds`: each is the mean of some runs in a
    /// row, so that the time between launches counts as it does in a graph.
    pub(super) fn time_node(&self, i: usize, node: usize, seconds: f64) -> Result<Vec<f64>, CudaError> {
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

    pub fn memory(&self) -> &Arc<DeviceMemory> {
        &self.memory
    }
}

pub(super) fn launch_all(context: &Context, launches: &[(Function, Launch)]) -> Result<(), CudaError> {
    // SAFETY: the launches were made for these functions. What they read and write lies in memory that is dropped after
    // the functions and graphs of its owner; one stream runs one launch after another.
    launches.iter().try_for_each(|(f, l)| unsafe { context.launch(f, l) })
}
