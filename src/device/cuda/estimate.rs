//! How long a GPU that is not at hand would take for a launch: a model, to compare designs with where there is nothing
//! to measure on.
//!
//! A node of a graph waits for the one before, starts, and then takes as long as the slowest of three: its bytes, its
//! arithmetic, and the longest chain of steps of a thread that wait for memory or for each other. Small kernels are all
//! start and chain, and a GPU's rates say nothing about them.
//!
//! Rates are those that kernels of this kind reach, not those of a data sheet: `mma.sync` on operands in single
//! precision from blocks that fill a multiprocessor each, `wgmma` fed by the copy unit. Nothing here has been measured
//! on a GPU; what takes the place of a figure until there is one says so wherever it is printed.

use super::Launch;

/// The units that a launch computes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Units {
    #[default]
    Plain,
    MmaTf32,
    MmaBf16,
    WgmmaTf32,
    WgmmaBf16,
}

/// What a launch has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Floating-point operations, a multiply-add being two, and what does them.
    pub flops: f64,
    pub units: Units,
    /// Bytes that its blocks ask the second-level cache for; what several of them read counts as often. And those of its
    /// operands, each once, which memory gives if they are more than the cache holds.
    pub bytes: f64,
    pub distinct: f64,
    /// Steps that a thread takes one after another, each waiting for memory or for other threads.
    pub steps: f64,
}

/// A GPU of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gpu {
    /// As commands and tables call it.
    pub name: &'static str,
    /// Compute capability.
    pub major: i32,
    multiprocessors: f64,
    /// Threads that a multiprocessor holds.
    resident: f64,
    /// Seconds from the end of a node to the start of the one that waits for it, and those in which a kernel starts and
    /// ends.
    gap: f64,
    start: f64,
    /// Seconds of a dependent step.
    step: f64,
    /// Bytes a second of the second-level cache and of the memory behind it, and bytes that the cache holds.
    cache_rate: f64,
    memory_rate: f64,
    cache: f64,
    /// Operations a second, in the order of [`Units`].
    rates: [f64; 5],
}

/// Bytes a second that one multiprocessor takes at most.
const MULTIPROCESSOR_RATE: f64 = 100e9;

/// The GPUs that are estimated.
pub const GPUS: [Gpu; 3] = [
    Gpu {
        name: "h200",
        major: 9,
        multiprocessors: 132.0,
        resident: 2048.0,
        gap: 0.8e-6,
        start: 1.2e-6,
        step: 0.35e-6,
        cache_rate: 7.5e12,
        memory_rate: 4.2e12,
        cache: 50e6,
        rates: [50e12, 150e12, 170e12, 380e12, 650e12],
    },
    Gpu {
        name: "l40s",
        major: 8,
        multiprocessors: 142.0,
        resident: 1536.0,
        gap: 0.8e-6,
        start: 1.2e-6,
        step: 0.35e-6,
        cache_rate: 4.5e12,
        memory_rate: 0.8e12,
        cache: 96e6,
        rates: [65e12, 95e12, 150e12, 0.0, 0.0],
    },
    Gpu {
        name: "a100",
        major: 8,
        multiprocessors: 108.0,
        resident: 2048.0,
        gap: 1.0e-6,
        start: 1.5e-6,
        step: 0.4e-6,
        cache_rate: 4.5e12,
        memory_rate: 1.8e12,
        cache: 40e6,
        rates: [15e12, 90e12, 130e12, 0.0, 0.0],
    },
];

/// Seconds of a launch, by what they go to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seconds {
    /// Waiting for the node before, starting, ending.
    pub node: f64,
    /// Whichever takes longest; the others are 0.
    pub steps: f64,
    pub bytes: f64,
    pub flops: f64,
}

impl Seconds {
    pub fn total(&self) -> f64 {
        self.node + self.steps + self.bytes + self.flops
    }

    /// `n` times as much.
    #[must_use]
    pub fn times(self, n: f64) -> Self {
        Self { node: n * self.node, steps: n * self.steps, bytes: n * self.bytes, flops: n * self.flops }
    }
}

impl std::ops::AddAssign for Seconds {
    fn add_assign(&mut self, x: Self) {
        self.node += x.node;
        self.steps += x.steps;
        self.bytes += x.bytes;
        self.flops += x.flops;
    }
}

impl Gpu {
    /// What the model gives for a launch.
    pub fn seconds(&self, launch: &Launch) -> Seconds {
        let work = launch.work();
        let blocks = launch.blocks() as f64;
        let from_memory = if work.distinct > self.cache { work.distinct / self.memory_rate } else { 0.0 };
        let bytes = (work.bytes / self.cache_rate.min(blocks * MULTIPROCESSOR_RATE)).max(from_memory);
        // The last blocks leave some multiprocessors idle.
        let rounds = (blocks / self.multiprocessors).ceil();
        let rate = self.rates[work.units as usize] * blocks / (rounds * self.multiprocessors);
        let flops = if work.flops > 0.0 { work.flops / rate } else { 0.0 };
        let resident = (self.resident / f64::from(launch.threads)).floor().max(1.0);
        let steps = work.steps * self.step * (blocks / (self.multiprocessors * resident)).ceil();
        let node = self.gap + self.start;
        if flops >= bytes && flops >= steps {
            Seconds { node, flops, ..Seconds::default() }
        } else if bytes >= steps {
            Seconds { node, bytes, ..Seconds::default() }
        } else {
            Seconds { node, steps, ..Seconds::default() }
        }
    }
}
