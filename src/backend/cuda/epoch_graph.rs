//! Epochs: programs in a fixed order, submitted without waiting for the epochs before.
//!
//! What the host decides for an epoch (learning rates) and what it wants to know of it (losses, counters) lie in one
//! ring of pinned memory, a row an epoch: the first kernel of an epoch takes its row's inputs, the last one leaves the
//! outputs there. So the host may submit as many epochs as there are rows before it waits once and reads all.

use super::programs::{CudaPrograms, DeviceMemory, Loaded, launch_all};
use crate::device::cuda::driver::{Buffer, Context, Event, Graph, Pinned};
use crate::device::cuda::launch::{IndexOut, Spans, SpansIn};
use crate::device::cuda::{CudaError, Launch};
use crate::tape::backend::ProgramId;
use crate::tape::{EpochIo, VarId, Vars};
use std::sync::Arc;

/// Words before the first row: the number of epochs that are over. As in `kernels/tape/epoch_graph.cu`.
const HEAD: usize = 16;
/// Words of a row before the inputs: whether a number was not finite.
const FLAG: usize = 1;
/// An epoch of more launches than this is not one graph: each of its programs is a graph of its own, whose launch costs
/// nothing beside the work in it.
pub const MOST_LAUNCHES: usize = 20_000;
/// Blocks of the kernel that looks at every number: enough to keep a large GPU's memory busy.
const CHECKERS: usize = 264;
/// Words of a row that a block fetches: rows of recorded episodes are long, and the bus to the host has to be kept busy.
const FETCHED: usize = 1 << 12;

mod kernels {
    use super::{IndexOut, SpansIn};
    crate::cuda_kernels! {
        "tape/epoch_graph.cu";
        fn epoch_prologue[256](ring: IndexOut, inputs: SpansIn, count: u32, rows: u32, width: u32);
        fn epoch_check_finite[256](ring: IndexOut, checked: SpansIn, count: u32, rows: u32, width: u32);
        fn epoch_epilogue[64](ring: IndexOut, outputs: SpansIn, count: u32, rows: u32, width: u32);
    }
}

/// Bytes of pinned memory that the ring of `io` takes.
pub fn pinned_bytes(io: &EpochIo, vars: &Vars) -> usize {
    4 * (HEAD + io.rows() * (FLAG + io.words(vars)))
}

/// Bytes of device memory that the tables of `io` take: where what is told and checked lies.
pub fn table_bytes(io: &EpochIo) -> usize {
    Spans::size(io.inputs.len() + io.finite_checked.len() + io.outputs.len())
}

/// Whether epochs of `launches` launches are recorded as a whole.
pub fn is_whole(launches: u64) -> bool {
    launches <= MOST_LAUNCHES as u64
}

/// The rows of epochs, shared with the device.
#[derive(Debug)]
pub struct PinnedRing {
    memory: Pinned,
    rows: usize,
    width: usize,
    /// Variables with their first word in a row and their length.
    inputs: Vec<(VarId, usize, usize)>,
    outputs: Vec<(VarId, usize, usize)>,
    /// Epochs submitted, and synced: the rows between them are in flight.
    submitted: u64,
    synced: u64,
    /// The beginning of an epoch, and the ends of its steps.
    events: Vec<Event>,
    context: Arc<Context>,
    /// Steps of the last epoch submitted.
    steps: usize,
    /// Of the last epoch that was synced.
    seconds: Vec<f64>,
    /// Of all epochs that were synced last.
    pub non_finite: bool,
}

impl PinnedRing {
    /// Makes room for the epochs of `io`; `place` says where a variable lies and how many words it has.
    pub fn new(
        memory: &Arc<DeviceMemory>,
        io: &EpochIo,
        place: impl Fn(VarId) -> (u64, usize),
    ) -> Result<Self, CudaError> {
        let (rows, mut at) = (io.rows(), FLAG);
        let mut words = |list: &[VarId]| -> Vec<(VarId, usize, usize)> {
            let each = |&var: &VarId| {
                let (from, len) = (at, place(var).1);
                at += len;
                (var, from, len)
            };
            list.iter().map(each).collect()
        };
        let (inputs, outputs) = (words(&io.inputs), words(&io.outputs));
        let context = memory.context.clone();
        let mut ring = Self {
            memory: Pinned::new(&context, HEAD + rows * at)?,
            rows,
            width: at,
            inputs,
            outputs,
            submitted: 0,
            synced: 0,
            events: vec![],
            context,
            steps: 0,
            seconds: vec![],
            non_finite: false,
        };
        ring.reserve_steps(io.most_steps())?;
        Ok(ring)
    }

    /// Makes the events that time so many steps.
    fn reserve_steps(&mut self, steps: usize) -> Result<(), CudaError> {
        while self.events.len() <= steps {
            self.events.push(Event::new(&self.context)?);
        }
        self.seconds.reserve(steps.saturating_sub(self.seconds.len()));
        Ok(())
    }

    /// First word of an epoch's row.
    fn row(&self, epoch: u64) -> usize {
        HEAD + (epoch % self.rows as u64) as usize * self.width
    }

    pub fn in_flight(&self) -> usize {
        (self.submitted - self.synced) as usize
    }

    pub fn is_full(&self) -> bool {
        self.in_flight() == self.rows
    }

    /// What an input will be in the next epoch.
    pub fn input(&mut self, var: VarId) -> &mut [u32] {
        assert!(!self.is_full(), "invariant: the host syncs before it submits more epochs than there are rows");
        let row = self.row(self.submitted);
        let &(_, at, len) = self.inputs.iter().find(|i| i.0 == var).expect("invariant: the variable is an input");
        // SAFETY: the row belongs to the next epoch, which is not submitted while this borrow of the ring lasts; epochs in
        // flight have rows of their own, since there are fewer of them than rows.
        unsafe { self.memory.words_mut(row + at, len) }
    }

    /// What an output was at the end of the epoch `back` epochs before the last synced one.
    pub fn output(&self, back: usize, var: VarId) -> &[u32] {
        let synced = (back as u64) < self.synced;
        assert!(synced && self.in_flight() + back < self.rows, "invariant: the epoch was synced and is still there");
        let &(_, at, len) = self.outputs.iter().find(|o| o.0 == var).expect("invariant: the variable is an output");
        let row = self.row(self.synced - 1 - back as u64);
        // SAFETY: that epoch is over, those in flight have other rows, and none is submitted while this borrow lasts.
        unsafe { self.memory.words(row + at, len) }
    }

    /// Variables whose numbers are known on the host after a synced epoch.
    pub fn outputs(&self) -> impl Iterator<Item = VarId> + '_ {
        self.outputs.iter().map(|o| o.0)
    }

    /// To be called when the stream has been waited for, so that all epochs are over. Returns how many there were since
    /// the last call.
    pub fn sync(&mut self) -> Result<usize, CudaError> {
        let in_flight = self.in_flight();
        if in_flight > 0 {
            self.seconds.clear();
            for pair in self.events[..=self.steps].windows(2) {
                self.seconds.push(pair[1].since(&pair[0])?);
            }
            // SAFETY: the caller waited for all epochs.
            let flag = |e| unsafe { self.memory.words(self.row(e), 1)[0] };
            self.non_finite = (self.synced..self.submitted).any(|e| flag(e) != 0);
            self.synced = self.submitted;
        }
        Ok(in_flight)
    }

    pub fn seconds(&self) -> &[f64] {
        &self.seconds
    }
}

/// Kernels around the programs of an epoch.
struct Surrounding {
    prologue: Vec<Launch>,
    epilogue: Vec<Launch>,
}

/// A table of spans on the device, and how many they are.
type SpanTable = (SpansIn, u32);

impl Surrounding {
    fn new(ring: IndexOut, [inputs, checked, outputs]: [SpanTable; 3], rows: usize, width: usize) -> Self {
        let (r, w) = (rows as u32, width as u32);
        let fetchers = width.div_ceil(FETCHED).min(CHECKERS);
        Self {
            prologue: vec![kernels::epoch_prologue([fetchers, 1, 1], [], ring, inputs.0, inputs.1, r, w)],
            epilogue: vec![
                kernels::epoch_check_finite([CHECKERS, 1, 1], [], ring, checked.0, checked.1, r, w),
                kernels::epoch_epilogue([1, 1, 1], [], ring, outputs.0, outputs.1, r, w),
            ],
        }
    }
}

/// The launches around an epoch at made-up addresses: to be compiled or counted, never run.
pub fn describe_launches() -> Vec<Launch> {
    let around = Surrounding::new(IndexOut(1 << 20), [(SpansIn(1 << 30), 1); 3], 1, 1);
    [around.prologue, around.epilogue].concat()
}

/// Epochs that are one graph each, and the kernels around the programs of all others.
#[derive(Debug)]
pub struct EpochGraph {
    // Graphs are dropped before the functions, and these before the memory that they read.
    whole: Vec<(Vec<(usize, usize)>, Graph)>,
    prologue: Loaded,
    epilogue: Loaded,
    /// Where inputs, numbers to be checked and outputs lie.
    _spans: Buffer,
}

impl EpochGraph {
    /// Records the epochs that will be submitted again and again, each as one graph.
    pub fn record(
        programs: &CudaPrograms,
        ring: &PinnedRing,
        io: &EpochIo,
        place: impl Fn(VarId) -> (u64, usize),
    ) -> Result<Self, CudaError> {
        let context = programs.memory().context.clone();
        // A span says where in a row its words lie: words that are only checked are not copied to one.
        let spans =
            |list: &[(VarId, usize, usize)]| Spans::new(list.iter().map(|&(var, from, len)| (place(var).0, len, from)));
        let checked = Spans::new(io.finite_checked.iter().map(|&v| (place(v).0, place(v).1, 0)));
        let tables = [spans(&ring.inputs), checked, spans(&ring.outputs)];
        let buffer = Buffer::new(&context, tables.iter().map(Spans::words).sum())?;
        let mut at = 0;
        let mut placed = [(SpansIn::default(), 0); 3];
        for (table, placed) in tables.iter().zip(&mut placed) {
            buffer.write(at, table.bytes())?;
            *placed = (SpansIn(buffer.address + 4 * at as u64), table.len() as u32);
            at += table.words();
        }
        let around = Surrounding::new(IndexOut(ring.memory.address), placed, ring.rows, ring.width);
        let mut loaded = programs.load(vec![around.prologue, around.epilogue])?.into_iter();
        let mut next = || loaded.next().expect("invariant: as many lists as were given");
        let mut epochs = Self { prologue: next(), epilogue: next(), whole: vec![], _spans: buffer };
        for steps in &io.sequences {
            let launches: usize = steps.iter().map(|&(p, runs)| runs * programs.launches(p)).sum();
            if programs.options().eager || !is_whole(launches as u64) {
                continue;
            }
            let program = |i: usize| launch_all(&context, programs.program(i));
            let graph = context.capture(|| epochs.put(&context, ring, steps.iter().copied(), true, program))?;
            epochs.whole.push((steps.clone(), graph));
        }
        Ok(epochs)
    }

    /// Puts an epoch on the stream.
    pub fn submit(
        &self,
        programs: &CudaPrograms,
        ring: &mut PinnedRing,
        steps: &[(ProgramId, usize)],
    ) -> Result<(), CudaError> {
        assert!(!ring.is_full(), "invariant: the host syncs before it submits more epochs than there are rows");
        let numbers = || steps.iter().map(|&(p, runs)| (p.0, runs));
        ring.reserve_steps(steps.len())?;
        match self.whole.iter().find(|(s, _)| s.iter().copied().eq(numbers())) {
            Some((_, graph)) => graph.replay()?,
            None => self.put(&programs.memory().context, ring, numbers(), false, |i| programs.run(i))?,
        }
        ring.submitted += 1;
        ring.steps = steps.len();
        Ok(())
    }

    /// Inputs, programs, outputs, with marks between the steps.
    fn put(
        &self,
        context: &Context,
        ring: &PinnedRing,
        steps: impl Iterator<Item = (usize, usize)>,
        captured: bool,
        program: impl Fn(usize) -> Result<(), CudaError>,
    ) -> Result<(), CudaError> {
        launch_all(context, &self.prologue)?;
        let mut events = ring.events.iter();
        let mut mark = || events.next().expect("invariant: a step has its event").record(captured);
        mark()?;
        for (which, runs) in steps {
            (0..runs).try_for_each(|_| program(which))?;
            mark()?;
        }
        launch_all(context, &self.epilogue)
    }
}
