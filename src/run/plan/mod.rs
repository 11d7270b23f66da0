//! What a run holds, before it starts: every byte of the arena, and a bound on everything beside it.
//!
//! | file | idea |
//! |---|---|
//! | `mod.rs` | the plan: what is held, line by line |
//! | `planner.rs` | where everything lies, and how much is rematerialised, to keep within limits |
//! | `overhead.rs` | what is held beside the arena: bounds, on the host and on a device |
//! | `epoch.rs` | what a GPU launches in an epoch, and how long it would take |
//! | `limits.rs` | what may be held, and the refusal of what is more |
//! | `fit.rs` | the largest settings that fit |
//!
//! The arena's lines come from the run's own [`Layout`](crate::tape::Layout), the one that the machine binds, so they
//! are exact. Beside the arena a run holds code, threads, tables of operations, buffers of files and what an evaluation
//! is drawn from: each is bounded by a constant or by the settings, and has a line. Nothing is allocated but the tables
//! of the programs.

mod epoch;
mod fit;
mod limits;
mod overhead;
mod planner;

pub use epoch::{EpochEstimate, ProgramEstimate, Tally};
pub use fit::{Fit, KNOBS, Knob, knobs};
pub use limits::{DoesNotFit, Limits, WrongPlace};
pub use planner::Planner;

use crate::algo::ExecPlan;
use crate::config::Config;
use crate::device::cuda::CudaError;
use crate::tape::recompute::Level;
use crate::tape::{Placement, Region};

/// The line that recompute makes smaller.
const ACTIVATIONS: &str = "activations";

/// A kind of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    Host,
    /// An accelerator's own.
    Device,
    /// A file that is mapped. What of it is in main memory the system takes back when it is short of it.
    Disk,
}

/// A line of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub name: &'static str,
    /// What is in it.
    pub what: &'static str,
    pub bytes: u64,
    pub on: MemoryKind,
}

/// Where the arena lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArenaPlace {
    #[default]
    Host,
    /// An accelerator's own memory; the rest stays on the host.
    Device,
}

impl ArenaPlace {
    fn memory(self) -> MemoryKind {
        match self {
            ArenaPlace::Host => MemoryKind::Host,
            ArenaPlace::Device => MemoryKind::Device,
        }
    }
}

/// What a run holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub place: ArenaPlace,
    /// Where the replay's finished episodes lie.
    pub replay: Placement,
    /// Exact; together they are the arena.
    pub arena: Vec<Item>,
    /// Exact, outside the arena: the replay's finished episodes, if they are not in it.
    pub offloaded: Option<Item>,
    /// Activations of each program, all in the arena's one activation region.
    pub programs: Vec<(&'static str, u64)>,
    /// What is held beside them, bounded.
    pub fixed: Vec<Item>,
    /// What each program rematerialises: computes a second time so as not to keep it.
    pub levels: Vec<Level>,
    /// Address space of the host that is taken and never used: stacks and workspaces come in round sizes. A limit of
    /// the process counts it.
    pub unused: u64,
    /// Why the device cannot run the programs, however much memory it has.
    pub refused: Option<CudaError>,
    index_activations: usize,
}

impl Plan {
    /// Plans a run of `c`, whose rules hold, with the arena at `place` and no budget to keep to.
    pub fn new(c: &Config, place: ArenaPlace) -> Self {
        Self::within(c, place, &Limits::default())
    }

    /// As [`Plan::new`]; with `recompute=auto` and `replay=auto` whatever is cheapest and keeps within the limits. If
    /// nothing does, what exceeds them least.
    pub fn within(c: &Config, place: ArenaPlace, limits: &Limits) -> Self {
        Planner::new(c, place).within(limits)
    }

    /// How many operations each program rematerialises.
    pub fn rematerialised(&self) -> Vec<usize> {
        self.levels.iter().map(|l| l.taken).collect()
    }

    /// What a run takes over from its plan.
    pub fn exec_plan(&self) -> ExecPlan {
        ExecPlan { rematerialised: self.rematerialised(), replay: self.replay.clone() }
    }

    /// Where the replay's finished episodes lie, in words; none if there are none.
    pub fn replay_place(&self) -> Option<String> {
        let own = match self.place {
            ArenaPlace::Host => "in main memory",
            ArenaPlace::Device => "in the device's memory",
        };
        (self.replay_bytes() > 0).then(|| match &self.replay {
            Placement::Arena => own.into(),
            Placement::Pinned => "in main memory, locked, read by the device in place".into(),
            Placement::File(folder) => format!("in a file without a name on the disk of {}", folder.display()),
        })
    }

    /// Bytes of the replay's finished episodes, wherever they lie.
    pub fn replay_bytes(&self) -> u64 {
        self.items().filter(|i| i.name == describe(Region::Replay).0).map(|i| i.bytes).sum()
    }

    /// Bytes that the machine will bind.
    pub fn arena_bytes(&self) -> u64 {
        self.arena.iter().map(|i| i.bytes).sum()
    }

    /// Bytes of what is exact but lies outside the arena.
    pub fn offloaded_bytes(&self) -> u64 {
        self.offloaded.as_ref().map_or(0, |i| i.bytes)
    }

    /// Bytes of files that are mapped.
    pub fn mapped_bytes(&self) -> u64 {
        if matches!(self.replay, Placement::File(_)) { self.offloaded_bytes() } else { 0 }
    }

    /// Host memory beside the arena.
    pub fn fixed_bytes(&self) -> u64 {
        self.fixed.iter().filter(|i| i.on == MemoryKind::Host).map(|i| i.bytes).sum()
    }

    /// The most that is held of a kind of memory at any time.
    pub fn held(&self, on: MemoryKind) -> u64 {
        self.items().filter(|i| i.on == on).map(|i| i.bytes).sum()
    }

    /// The most that is held on the host at any time.
    pub fn host(&self) -> u64 {
        self.held(MemoryKind::Host)
    }

    /// The most that is held on the device at any time.
    pub fn device(&self) -> u64 {
        self.held(MemoryKind::Device)
    }

    /// The most that is held where the arena lies.
    pub fn working(&self) -> u64 {
        self.held(self.place.memory())
    }

    /// Bytes of files: checkpoints, and the replay if it is mapped.
    pub fn disk(&self) -> u64 {
        self.held(MemoryKind::Disk)
    }

    fn items(&self) -> impl Iterator<Item = &Item> {
        self.arena.iter().chain(&self.offloaded).chain(&self.fixed)
    }

    /// All lines with their bytes on host, device and disk.
    pub fn lines(&self) -> impl Iterator<Item = (&Item, [u64; 3])> {
        let split = |i: &Item| {
            [MemoryKind::Host, MemoryKind::Device, MemoryKind::Disk].map(|on| if i.on == on { i.bytes } else { 0 })
        };
        self.items().map(move |i| (i, split(i)))
    }

    /// The largest items of a kind of memory, the largest first.
    pub fn largest(&self, on: MemoryKind, count: usize) -> Vec<&Item> {
        let mut items: Vec<&Item> = self.items().filter(|i| i.on == on).collect();
        items.sort_by_key(|i| std::cmp::Reverse(i.bytes));
        items.truncate(count);
        items
    }
}

/// Name and contents of a region's line.
fn describe(region: Region) -> (&'static str, &'static str) {
    match region {
        Region::Parameters => ("parameters", "weights of all networks"),
        Region::Gradients => ("gradients", "one for each parameter"),
        Region::Optimiser => ("optimiser", "Adam's two moments of each parameter"),
        Region::Replay => ("replay", "finished episodes"),
        Region::Episodes => ("episodes", "unfinished ones, and a directory of the finished ones"),
        Region::Environment => ("environment", "states of training and evaluation environments"),
        Region::Statistics => ("statistics", "means and deviations of rewards, returns, observations"),
        Region::RolloutBuffers => ("rollout", "what one program of an epoch leaves to the next"),
        Region::Control => ("control", "random state, counters, rates, losses"),
    }
}
