//! What is held beside the arena: bounds, each with a line.
//!
//! On the host they are tight, and measured (`docs/memory.md`). What a driver takes has been measured nowhere yet: its
//! lines are meant to be generous.

use super::{ArenaPlace, Item, MemoryKind};
use crate::backend::cuda::epoch_graph::{self, is_whole, pinned_bytes, table_bytes};
use crate::backend::cuda::node_kinds;
use crate::config::{Config, Latent};
use crate::device::cpu::{packing, team};
use crate::device::cuda::matmul::Matmul;
use crate::device::cuda::unit::units;
use crate::device::cuda::{CudaError, Launch};
use crate::env;
use crate::run::signals;
use crate::run::trajectory::{self, KEPT};
use crate::tape::program::Node;
use crate::tape::recompute::Rematerialisable;
use crate::tape::{EpochIo, Layout, Program, Region, Vars, plan};
use std::collections::HashMap;
use std::sync::Arc;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Program and libraries as far as a run touches them: how much of the files around it the system brings in varies.
const CODE: u64 = 9 * MIB;
/// The settings, the command line, the allocator's own bookkeeping.
const SETTINGS: u64 = 384 * KIB;
/// What a run uses of the main thread's stack and of a worker's beside what its operations say of their tasks, and of
/// the signals' thread's.
const MAIN_STACK: u64 = 192 * KIB;
const WORKER_STACK: u64 = 32 * KIB;
const SIGNALS_STACK: u64 = 16 * KIB;
/// Buffers of metrics, TensorBoard events and the progress line.
const LOGS: u64 = 128 * KIB;
/// A checkpoint is written from where the state lies; its header is text.
const CHECKPOINT: u64 = 128 * KIB;
/// Numbers and text of a frame of the moving picture, with the forces of the ground; and the page around them.
const FRAME: u64 = KIB + 256;
const PAGE: u64 = 384 * KIB;
/// The curve of an evaluation: its points, its picture as text, and a row of metrics as it is read back.
const CURVE: u64 = 192 * KIB;

/// What a context takes of a device before anything is asked of it.
pub(super) const CONTEXT: u64 = 768 * MIB;
/// What the driver takes of the host, with the copies it stages.
const DRIVER: u64 = 512 * MIB;
/// What the compiler takes of the host while it makes machine code of all files side by side.
const COMPILER: u64 = 512 * MIB;
/// Code is loaded in blocks of this size, at least one for each file; an entry point takes less than `ENTRY`.
const CODE_BLOCK: u64 = 2 * MIB;
const ENTRY: u64 = 64 * KIB;
/// Threads that keep a stack off the chip: of a multiprocessor, and how many there are. No GPU of today has more.
const THREADS: u64 = 2048;
const MULTIPROCESSORS: u64 = 148;
/// A launch in a graph, on the device and on the host.
const NODE_ON_DEVICE: u64 = 4 * KIB;
const NODE_ON_HOST: u64 = 8 * KIB;

/// The lines, and address space that is taken and not used.
pub(super) struct Overhead {
    pub items: Vec<Item>,
    pub unused: u64,
}

/// What programs launch on a GPU; nothing on the processor.
#[derive(Default)]
pub(super) struct Launches {
    files: u64,
    entries: u64,
    /// Bytes of the largest stack of a thread.
    stack: u32,
    /// Of each operation. One that is rematerialised launches the same twice.
    of: HashMap<*const (), u64>,
    /// Sequences of programs that are recorded as a whole.
    sequences: Vec<Vec<(usize, usize)>>,
    /// Bytes of what host and device tell each other.
    pinned: u64,
    /// Bytes on the device of the tables that say where it goes.
    tables: u64,
    /// Why a GPU cannot run the programs at all.
    pub refused: Option<CudaError>,
}

impl Launches {
    pub fn new(c: &Config, place: ArenaPlace, vars: &Vars, programs: &[Rematerialisable], io: &EpochIo) -> Self {
        if place == ArenaPlace::Host {
            return Self::default();
        }
        // As on a GPU of compute capability 9.
        let layout = Layout::of(vars, programs.iter().map(|p| p.plain().1.clone()).collect());
        let programs: Vec<&Program> = programs.iter().map(|p| p.plain().0).collect();
        let kinds = match node_kinds(vars, &layout, &programs, &Matmul::best(9, c.precision)) {
            Ok(kinds) => kinds,
            Err(e) => return Self { refused: Some(e), ..Self::default() },
        };
        let nodes = programs.iter().flat_map(|p| &p.nodes);
        let count = |&kind: &usize| kinds.launches[kind].len() as u64;
        let of = nodes.zip(kinds.of.iter().flatten()).map(|(n, kind)| (address(n), count(kind))).collect();
        let all = || kinds.launches.iter().flatten();
        let (units, _) = units(all());
        let entries = units.iter().map(|u| u.symbols().count() as u64).sum();
        let (pinned, tables) = (pinned_bytes(io, vars) as u64, table_bytes(io) as u64);
        let stack = all().map(|l| l.stack).max().unwrap_or(0);
        let (files, sequences) = (units.len() as u64, io.sequences.clone());
        Self { files, entries, stack, of, sequences, pinned, tables, refused: None }
    }

    /// Launches of a program that was made of those described.
    fn count(&self, program: &Program) -> u64 {
        program.nodes.iter().filter_map(|n| self.of.get(&address(n))).sum()
    }

    /// Of all graphs: each program's, and those of whole epochs.
    fn in_graphs(&self, programs: &[&Program]) -> u64 {
        let of: Vec<u64> = programs.iter().map(|p| self.count(p)).collect();
        let epochs = self.sequences.iter();
        let whole = epochs.map(|steps| steps.iter().map(|&(p, runs)| runs as u64 * of[p]).sum::<u64>());
        let around = epoch_graph::describe_launches().len() as u64;
        let whole = whole.filter(|&n| is_whole(n)).map(|n| n + around);
        of.iter().sum::<u64>() + whole.sum::<u64>()
    }
}

/// What tells an operation from others: copies share it.
fn address(n: &Node) -> *const () {
    Arc::as_ptr(&n.op).cast()
}

impl Overhead {
    pub fn new(c: &Config, place: ArenaPlace, programs: &[&Program], layout: &Layout, launches: &Launches) -> Self {
        let threads = team::count(c.threads) as u64;
        // The processor runs no operation if the arena is on a device.
        let packed =
            if place == ArenaPlace::Host { plan::packing(programs.iter().copied(), size_of::<f32>()) } else { 0 };
        let tasks = if place == ArenaPlace::Host { plan::stack(programs.iter().copied()) as u64 } else { 0 };
        let tables = layout.programs.iter().map(|p| p.tables as u64).sum();
        let steps = c.episode_length as u64;
        let trajectory =
            steps * c.eval_episodes.min(KEPT) as u64 * trajectory::frame(c) as u64 * size_of::<f32>() as u64;
        let item = |name, what, bytes| Item { name, what, bytes, on: MemoryKind::Host };
        let stacks = (threads - 1) * (WORKER_STACK + tasks) + SIGNALS_STACK;
        let mut items = vec![
            item("code", "program and libraries", CODE),
            item("settings", "settings, command line, the allocator's bookkeeping", SETTINGS),
            item("stacks", "of the main thread, the workers and the signals' thread", MAIN_STACK + tasks + stacks),
            item("packing", "workspaces for matrix products, one a thread", threads * packed as u64),
            item("tables", "operations and operands of all programs", tables),
            item("logs", "metrics, TensorBoard, progress", LOGS),
            item("trajectory", "the states of an evaluation, to be drawn", trajectory),
            item(
                "pictures",
                "of an evaluation, and its curve; or a checkpoint's header",
                (steps * FRAME + PAGE + CURVE).max(CHECKPOINT),
            ),
            // The allocator may keep what it had for them.
            item("start", "a critic's weights while they are drawn", drawn(c)),
        ];
        items.push(Item {
            name: "run folder",
            what: "the latest checkpoint and the next one beside it, the best policies",
            bytes: files(c, layout),
            on: MemoryKind::Disk,
        });
        if place == ArenaPlace::Device {
            items.extend(driver(layout, launches, launches.in_graphs(programs)));
        }
        let reserved = (threads - 1) * team::STACK as u64 + signals::STACK as u64;
        let unused = reserved - stacks + threads * (packing::taken(packed) - packed) as u64;
        Self { items, unused }
    }
}

/// Bytes of the checkpoints of a run, once its replay is full. Those of every `keep_every` epochs add to it, and what
/// metrics and pictures take.
fn files(c: &Config, layout: &Layout) -> u64 {
    let real = size_of::<f32>();
    let state = layout.persistent.bytes(real) + layout.offloaded * real;
    let region = |r| layout.regions.get(&r).map_or(0, |b| b.bytes(real));
    let policy = region(Region::Parameters) + region(Region::Statistics);
    let policies = c.keep_best + 2;
    (2 * state + policies * policy) as u64
}

/// What a GPU asks for beside the arena, on both sides.
fn driver(layout: &Layout, launches: &Launches, launched: u64) -> Vec<Item> {
    let code = (launches.files * CODE_BLOCK).max(launches.entries * ENTRY);
    let mirror = layout.persistent.bytes(size_of::<f32>()) as u64;
    let item = |name, what, bytes, on| Item { name, what, bytes, on };
    let mut items = vec![
        item(
            "mirror",
            "what the host reads and writes of the device's variables, for checkpoints",
            mirror,
            MemoryKind::Host,
        ),
        item(
            "epoch io",
            "locked: what host and device tell each other about an epoch",
            launches.pinned,
            MemoryKind::Host,
        ),
        item("driver", "the driver on the host, with the copies it stages: a bound", DRIVER, MemoryKind::Host),
        item("compiler", "machine code while it is made, at the start", COMPILER, MemoryKind::Host),
        item(
            "graphs",
            "launches of all programs and of whole epochs, as they are replayed",
            launched * NODE_ON_HOST,
            MemoryKind::Host,
        ),
        item("context", "the driver on the device: a bound", CONTEXT, MemoryKind::Device),
        item(
            "epoch tables",
            "which variables host and device tell each other at an epoch, and which are checked",
            launches.tables,
            MemoryKind::Device,
        ),
        item("kernels", "machine code of all kernels", code, MemoryKind::Device),
        item(
            "graphs",
            "launches of all programs and of whole epochs, as they are replayed",
            launched * NODE_ON_DEVICE,
            MemoryKind::Device,
        ),
    ];
    // The usual one is part of the context.
    if launches.stack > Launch::USUAL_STACK {
        let bytes = u64::from(launches.stack) * THREADS * MULTIPROCESSORS;
        items.push(item(
            "stack",
            "what threads keep off the chip, of all that can run: a bound",
            bytes,
            MemoryKind::Device,
        ));
    }
    items
}

/// The largest matrix of a critic: it is made orthogonal in double precision before it is stored.
fn drawn(c: &Config) -> u64 {
    let encoded = c.has_world_model() && c.latent == Latent::Encoded;
    let input = if encoded { c.latent_dim } else { env::dims(c).0 };
    let widths: Vec<usize> = [&[input], &c.critic_units[..], &[1]].concat();
    let most = widths.windows(2).map(|w| w[0] * w[1]).max().unwrap_or(0);
    (most * size_of::<f64>()) as u64
}
