//! Rounds: programs in a fixed order, begun without waiting for the rounds before.
//!
//! An epoch is a round. What the host decides for it (learning rates) and what it wants to know of it (losses, counters)
//! lie in one block of pinned memory, a row a round: the first kernel of a round takes its row's orders, the last one
//! leaves the reports there. So the host may begin as many rounds as there are rows before it waits once and reads all.

use super::super::exec::Number;
use super::super::program::VarId;
use super::Memory;
use crate::device::cuda::driver::{Event, Pinned};
use crate::device::cuda::launch::{IndexOut, Spans};
use crate::device::cuda::{CudaError, Launch};
use std::sync::Arc;

/// Steps of a round that are timed apart, at most.
pub const STEPS: usize = 4;
/// Words before the first row: the number of rounds that are over. As in `kernels/tape/round.cu`.
const HEAD: usize = 16;
/// Graphs of more launches than this are not made of whole rounds: each of their programs is a graph then, whose launch
/// costs nothing beside what it launches.
pub const MOST_LAUNCHES: usize = 20_000;
/// Rows of the mail, at most: rounds that can be begun before the host waits.
pub const MOST_ROWS: usize = 64;
/// Bytes of pinned memory that rounds take, at most.
pub const MAIL_BYTES: usize = 4 * (HEAD + MOST_ROWS * WIDTH);
/// Words of a row, at most.
const WIDTH: usize = 128;

mod kernels {
    use super::{IndexOut, Spans};
    crate::cuda_kernels! {
        "tape/round.cu";
        fn round_begin[64](mail: IndexOut, orders: Spans, rows: u32, width: u32);
        fn round_watch[256](mail: IndexOut, watched: Spans, rows: u32, width: u32);
        fn round_end[64](mail: IndexOut, reports: Spans, from: u32, rows: u32, width: u32);
    }
}

/// What rounds are made of, before anything is bound.
#[derive(Clone, Debug, Default)]
pub struct Rounds {
    /// Real variables that the host writes before each round, all of them.
    pub orders: Vec<VarId>,
    /// Variables that it reads after each.
    pub reports: Vec<VarId>,
    /// Real variables in which a number that is not finite raises an alarm.
    pub watched: Vec<VarId>,
    /// Orders of programs, each with how often it runs, that will be run again and again: recorded as one graph each.
    pub sequences: Vec<Vec<(usize, usize)>>,
    /// Rounds that may be begun before the host reads.
    pub ahead: usize,
}

/// Blocks of the kernel that looks at every number: enough to keep a large GPU's memory busy.
const WATCHERS: usize = 264;

/// The mail of a machine's rounds and their place in it.
#[derive(Debug)]
pub struct Mail {
    memory: Pinned,
    rows: usize,
    width: usize,
    /// First word of each order and report in a row.
    orders: Vec<(VarId, usize, usize)>,
    reports: Vec<(VarId, usize, usize)>,
    /// Begun, and read: the rows between them are pending.
    begun: u64,
    read: u64,
    events: [Event; STEPS + 1],
    /// Of the last round that was waited for.
    pub seconds: [f64; STEPS],
    pub alarm: bool,
}

/// Launches before and after the programs of a round.
#[derive(Debug)]
pub struct Frame {
    pub begin: Vec<Launch>,
    pub end: Vec<Launch>,
}

impl Frame {
    /// Orders, reports and what is watched, with the mail at `mail`.
    fn new(mail: IndexOut, [orders, reports, watched]: [Spans; 3], rows: usize, width: usize) -> Self {
        let (from, r, w) = (1 + orders.words() as u32, rows as u32, width as u32);
        Self {
            begin: vec![kernels::round_begin([1, 1, 1], [], mail, orders, r, w)],
            end: vec![
                kernels::round_watch([WATCHERS, 1, 1], [], mail, watched, r, w),
                kernels::round_end([1, 1, 1], [], mail, reports, from, r, w),
            ],
        }
    }
}

/// The launches around a round at made-up addresses: to be compiled, never run.
pub fn describe_launches() -> Vec<Launch> {
    let frame = Frame::new(IndexOut(1 << 20), [Spans::default(); 3], 1, 1);
    [frame.begin, frame.end].concat()
}

impl Mail {
    /// Makes room for the rounds of a machine; `place` says where a variable lies and how many words it has.
    pub fn new(
        memory: &Arc<Memory>,
        rounds: &Rounds,
        place: impl Fn(VarId) -> (u64, usize),
    ) -> Result<(Self, Frame), CudaError> {
        let rows = rounds.ahead.clamp(1, MOST_ROWS);
        // The alarm is the first word of a row.
        let mut at = 1;
        let mut words = |list: &[VarId]| -> Vec<(VarId, usize, usize)> {
            let each = |&var: &VarId| {
                let (from, len) = (at, place(var).1);
                at += len;
                (var, from, len)
            };
            list.iter().map(each).collect()
        };
        let (orders, reports) = (words(&rounds.orders), words(&rounds.reports));
        let width = at;
        assert!(width <= WIDTH, "invariant: what host and device tell each other fits into {WIDTH} words");
        let pinned = Pinned::new(&memory.context, HEAD + rows * width)?;
        let spans = |list: &[VarId]| Spans::new(&list.iter().map(|&v| place(v)).collect::<Vec<_>>());
        let [orders_at, reports_at, watched] = [&rounds.orders, &rounds.reports, &rounds.watched].map(|l| spans(l));
        let frame = Frame::new(IndexOut(pinned.address), [orders_at, reports_at, watched], rows, width);
        let event = || Event::new(&memory.context);
        let events = [event()?, event()?, event()?, event()?, event()?];
        let mail = Self {
            memory: pinned,
            rows,
            width,
            orders,
            reports,
            begun: 0,
            read: 0,
            events,
            seconds: [0.0; STEPS],
            alarm: false,
        };
        Ok((mail, frame))
    }

    fn row(&self, round: u64) -> usize {
        HEAD + (round % self.rows as u64) as usize * self.width
    }

    /// Marks the beginning of a round, or the end of a step of it.
    pub fn mark(&self, event: usize, captured: bool) -> Result<(), CudaError> {
        self.events[event].record(captured)
    }

    pub fn pending(&self) -> usize {
        (self.begun - self.read) as usize
    }

    pub fn is_full(&self) -> bool {
        self.pending() == self.rows
    }

    /// The numbers that an ordered variable will have in the next round.
    pub fn order<F: Number>(&mut self, var: VarId) -> &mut [F] {
        assert!(!self.is_full(), "invariant: the host reads before it begins more rounds than there are rows");
        let row = self.row(self.begun);
        let &(_, at, len) = self.orders.iter().find(|o| o.0 == var).expect("invariant: the variable is ordered");
        bytemuck::cast_slice_mut(self.memory.words_mut(row + at, len))
    }

    /// A round was put on the stream.
    pub fn began(&mut self) {
        self.begun += 1;
    }

    /// The stream was waited for: all rounds are over. How many there were since the last time.
    pub fn sync(&mut self, steps: usize) -> Result<usize, CudaError> {
        let pending = self.pending();
        if pending > 0 {
            for i in 0..steps {
                self.seconds[i] = self.events[i + 1].since(&self.events[i])?;
            }
            self.alarm = (self.read..self.begun).any(|r| self.memory.words(self.row(r), 1)[0] != 0);
            self.read = self.begun;
        }
        Ok(pending)
    }

    /// What a variable was at the end of the round `back` rounds before the last one.
    pub fn report(&self, back: usize, var: VarId) -> &[u32] {
        assert!(back < self.rows && (back as u64) < self.read, "invariant: the round was read and is still there");
        let &(_, at, len) = self.reports.iter().find(|r| r.0 == var).expect("invariant: the variable is reported");
        self.memory.words(self.row(self.read - 1 - back as u64) + at, len)
    }

    /// Variables whose numbers are known on the host after a synced round.
    pub fn reported(&self) -> impl Iterator<Item = VarId> + '_ {
        self.reports.iter().map(|r| r.0)
    }
}
