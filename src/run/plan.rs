//! What a run holds, before it starts: every byte of the arena, and a bound on everything beside it.
//!
//! The arena's lines come from the run's own [`Layout`], the one that the machine binds, so they are exact. Beside the
//! arena a run holds code, threads, tables of operations, buffers of files and what an evaluation is drawn from: each is
//! bounded by a constant or by the settings, and has a line. Nothing is allocated but the tables of the programs.

use crate::algo::{repeats, written};
use crate::config::{Algorithm, Bytes, Config, Latent, Recompute};
use crate::device::cpu::team;
use crate::env::ant::OBS;
use crate::mem::Budget;
use crate::run::film::{self, FILMED};
use crate::run::signals;
use crate::tape::cuda::round::MAIL_BYTES;
use crate::tape::plan::packing;
use crate::tape::recompute::{self, Level};
use crate::tape::{Layout, Program, Region, Vars};
use std::fmt;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Code, libraries, the allocator's own books and the command line: resident in every run, whatever it trains.
const CODE: u64 = 8 * MIB;
/// The main thread's stack, as far as it is used.
const MAIN_STACK: u64 = 256 * KIB;
/// Buffers of metrics, TensorBoard events and the progress line.
const LOGS: u64 = 128 * KIB;
/// A checkpoint is written from where the state lies; its header is text.
const CHECKPOINT: u64 = 128 * KIB;
/// Text, numbers and page of a frame of the moving picture, with the pushes of the ground.
const FRAME: u64 = 3 * KIB;
/// The curve of an evaluation: its points, its picture as text, and a row of metrics as it is read back.
const CURVE: u64 = 256 * KIB;

/// The line that recompute makes smaller.
const ACTIVATIONS: &str = "activations";

/// A line of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub name: &'static str,
    /// What is in it.
    pub what: &'static str,
    pub bytes: u64,
}

/// Where the arena lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    #[default]
    Host,
    /// An accelerator's own memory; the rest stays on the host.
    Device,
}

/// What a run holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub place: Place,
    /// Exact; together they are the arena.
    pub arena: Vec<Item>,
    /// Activations of each program, all in the arena's one activation region.
    pub programs: Vec<(&'static str, u64)>,
    /// Host memory beside the arena, bounded.
    pub fixed: Vec<Item>,
    /// What each program computes twice so as not to keep it.
    pub levels: Vec<Level>,
    index_activations: usize,
}

impl Plan {
    /// Plans a run of `c`, whose rules hold, with the arena at `place` and no budget to keep to.
    pub fn new(c: &Config, place: Place) -> Self {
        Self::within(c, place, &Budgets::default())
    }

    /// As [`Plan::new`]; with `recompute=auto` as little is computed twice as keeps within the budgets. If nothing does,
    /// all that can be is.
    pub fn within(c: &Config, place: Place, budgets: &Budgets) -> Self {
        let (vars, programs) = written(c);
        let of = |taken: &[usize]| Self::of(c, place, &vars, &programs, taken);
        let none = of(&repeats(c, programs.len()));
        if c.recompute != Recompute::Auto || budgets.hold(&none) {
            return none;
        }
        let all = of(&vec![usize::MAX; programs.len()]);
        if !budgets.hold(&all) {
            return all;
        }
        // What activations may take beside all else, whose tables are at most those of `all`.
        let others = |i: &&Item| i.name != ACTIVATIONS;
        let rest: u64 = all.arena.iter().filter(others).map(|i| i.bytes).sum();
        let room = |b: &Option<Budget>, held| b.as_ref().map_or(u64::MAX, |b| b.usable().saturating_sub(held));
        let (host, device) = (all.fixed_bytes(), rest);
        let room = match place {
            Place::Host => room(&budgets.host, host + rest),
            Place::Device => room(&budgets.device, device),
        };
        // Index activations are few: the largest program's are set aside.
        let indices = (all.index_activations * size_of::<u32>()) as u64;
        let reals = (room.saturating_sub(indices) / size_of::<f32>() as u64) as usize;
        let taken: Vec<usize> = programs.iter().map(|p| recompute::least(p, reals).unwrap_or(usize::MAX)).collect();
        of(&taken)
    }

    /// Whether a run keeps within the budgets, whatever it takes.
    fn fits(c: &Config, place: Place, budgets: &Budgets) -> bool {
        let (vars, programs) = written(c);
        let fits = |taken: Vec<usize>| budgets.hold(&Self::of(c, place, &vars, &programs, &taken));
        fits(repeats(c, programs.len())) || (c.recompute == Recompute::Auto && fits(vec![usize::MAX; programs.len()]))
    }

    /// The plan with so many candidates of each program computed twice.
    fn of(c: &Config, place: Place, vars: &Vars, programs: &[Program], taken: &[usize]) -> Self {
        let (programs, levels): (Vec<_>, Vec<_>) =
            programs.iter().zip(taken).map(|(p, &taken)| recompute::with(p, taken)).unzip();
        let layout = Layout::new(vars, &programs);
        let real = size_of::<f32>();
        let mut arena: Vec<Item> = (layout.regions.iter())
            .map(|(&region, elements)| {
                let (name, what) = describe(region);
                Item { name, what, bytes: elements.bytes(real) as u64 }
            })
            .collect();
        arena.push(Item {
            name: ACTIVATIONS,
            what: "what a program computes on the way; programs share it",
            bytes: layout.activations.bytes(real) as u64,
        });
        let needs = layout.programs.iter().map(|p| (p.name, p.activations.bytes(real) as u64)).collect();
        let tables = layout.programs.iter().map(|p| p.tables as u64).sum();
        let index_activations = layout.activations.index;
        Self {
            place,
            arena,
            programs: needs,
            fixed: fixed(c, (place == Place::Device).then_some(&layout), tables, packing(&programs, real)),
            levels,
            index_activations,
        }
    }

    /// The same run at five levels of recompute, from nothing to all that can be: plans to compare.
    pub fn ladder(c: &Config, place: Place) -> Vec<Self> {
        let (vars, programs) = written(c);
        let most: Vec<usize> = programs.iter().map(|p| recompute::candidates(p).len()).collect();
        let share = |quarters: usize| most.iter().map(|n| n * quarters / 4).collect::<Vec<_>>();
        (0..=4).map(|quarters| Self::of(c, place, &vars, &programs, &share(quarters))).collect()
    }

    /// How many operations each program repeats, for [`crate::algo::Learner::repeating_on`].
    pub fn repeats(&self) -> Vec<usize> {
        self.levels.iter().map(|l| l.taken).collect()
    }

    /// Bytes that the machine will bind.
    pub fn arena_bytes(&self) -> u64 {
        self.arena.iter().map(|i| i.bytes).sum()
    }

    /// Bytes beside the arena.
    pub fn fixed_bytes(&self) -> u64 {
        self.fixed.iter().map(|i| i.bytes).sum()
    }

    /// The most that is held on the host at any time.
    pub fn host(&self) -> u64 {
        self.fixed_bytes() + if self.place == Place::Host { self.arena_bytes() } else { 0 }
    }

    /// The most that is held on the device at any time.
    pub fn device(&self) -> u64 {
        if self.place == Place::Device { self.arena_bytes() } else { 0 }
    }

    /// All lines with their bytes on host and device.
    pub fn lines(&self) -> impl Iterator<Item = (&Item, u64, u64)> {
        let split = |i| move |on: bool| if on { i } else { 0 };
        let host = self.place == Place::Host;
        (self.arena.iter().map(move |i| (i, split(i.bytes)(host), split(i.bytes)(!host))))
            .chain(self.fixed.iter().map(|i| (i, i.bytes, 0)))
    }

    /// The largest items, the largest first.
    pub fn largest(&self, count: usize) -> Vec<&Item> {
        let mut items: Vec<&Item> = self.arena.iter().chain(&self.fixed).collect();
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
        Region::Replay => ("replay", "finished episodes, unfinished ones, their directory"),
        Region::Environment => ("environment", "states of training and evaluation environments"),
        Region::Statistics => ("statistics", "means and deviations of rewards, returns, observations"),
        Region::Exchange => ("exchange", "what one program of an epoch leaves to the next"),
        Region::Control => ("control", "random state, counters, rates, losses"),
    }
}

/// Everything beside the arena; `on_device`: the layout of an arena that lies there.
fn fixed(c: &Config, on_device: Option<&Layout>, tables: u64, packing: usize) -> Vec<Item> {
    let item = |name, what, bytes| Item { name, what, bytes };
    let steps = c.episode_length as u64;
    let film = steps * c.eval_episodes.min(FILMED) as u64 * film::FRAME as u64 * size_of::<f32>() as u64;
    let threads = ((team::count(c.threads) - 1) * team::STACK + signals::STACK) as u64;
    let mut all = vec![
        item("code", "program, libraries, main stack", CODE + MAIN_STACK),
        item("threads", "stacks of the workers and the signals' thread", threads),
        item("packing", "workspaces for matrix products, one a thread", (team::count(c.threads) * packing) as u64),
        item("tables", "operations and operands of all programs", tables),
        item("logs", "metrics, TensorBoard, progress", LOGS),
        item("evaluation", "the film of an evaluation, its pictures, the curve", film + steps * FRAME + CURVE),
        item("start", "a critic's weights while they are drawn", drawn(c)),
        item("checkpoints", "header; the state is written from where it lies", CHECKPOINT),
    ];
    if let Some(layout) = on_device {
        all.extend([
            item("mail", "pinned memory: what host and device tell each other about an epoch", MAIL_BYTES as u64),
            item(
                "mirror",
                "variables as the host reads and writes them",
                layout.persistent.bytes(size_of::<f32>()) as u64,
            ),
        ]);
    }
    all
}

/// The largest matrix of a critic: it is made orthogonal in double precision before it is stored.
fn drawn(c: &Config) -> u64 {
    let encoded = c.algorithm == Algorithm::Pwm && c.latent == Latent::Encoded;
    let input = if encoded { c.latent_dim } else { OBS };
    let widths: Vec<usize> = [&[input], &c.critic_units[..], &[1]].concat();
    let most = widths.windows(2).map(|w| w[0] * w[1]).max().unwrap_or(0);
    (most * size_of::<f64>()) as u64
}

/// Budgets of a run; none means that nothing is known that could be exceeded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budgets {
    pub host: Option<Budget>,
    pub device: Option<Budget>,
}

impl Budgets {
    /// What the settings ask for, else what the system allows.
    pub fn of(c: &Config) -> Self {
        Self {
            host: c.mem.map(|b| Budget::asked("mem", b)).or_else(Budget::of_host),
            device: c.device_mem.map(|b| Budget::asked("device_mem", b)),
        }
    }

    /// Whether a plan keeps within them.
    pub fn hold(&self, plan: &Plan) -> bool {
        let within = |b: &Option<Budget>, bytes| b.as_ref().is_none_or(|b| bytes <= b.usable());
        within(&self.host, plan.host()) && within(&self.device, plan.device())
    }

    /// Plans a run and refuses one that does not fit.
    pub fn admit(&self, c: &Config) -> Result<Plan, DoesNotFit> {
        self.admit_at(c, Place::Host)
    }

    /// The same with the arena at `place`.
    pub fn admit_at(&self, c: &Config, place: Place) -> Result<Plan, DoesNotFit> {
        let plan = Plan::within(c, place, self);
        if self.hold(&plan) {
            return Ok(plan);
        }
        Err(DoesNotFit::new(c, &plan, self))
    }
}

/// A setting that decides how much memory a run takes.
#[derive(Clone, Copy, Debug)]
pub struct Knob {
    pub key: &'static str,
    pub unit: &'static str,
    pub get: fn(&Config) -> usize,
    set: fn(&mut Config, usize),
    /// The largest value that the other settings allow.
    most: fn(&Config) -> usize,
    /// What it must be a multiple of.
    step: fn(&Config) -> usize,
}

/// The settings that are searched for what fits.
pub const KNOBS: [Knob; 4] = [
    Knob {
        key: "wm_batch_size",
        unit: "windows",
        get: |c| c.wm_batch_size,
        set: |c, n| c.wm_batch_size = n,
        most: |c| c.wm_buffer_size.min(1 << 20),
        step: |_| 1,
    },
    Knob {
        key: "num_envs",
        unit: "environments",
        get: |c| c.num_envs,
        set: |c, n| c.num_envs = n,
        most: |c| (c.wm_buffer_size / (c.horizon + 1)).min(((1 << 30) - 1) / (c.episode_length + 1)).min(1 << 20),
        step: |c| c.critic_batches / gcd(c.critic_batches, c.horizon),
    },
    Knob {
        key: "horizon",
        unit: "steps",
        get: |c| c.horizon,
        set: |c, n| c.horizon = n,
        most: |c| c.episode_length.min((c.wm_buffer_size / c.num_envs).saturating_sub(1)).min(MAX_HORIZON),
        step: |c| c.critic_batches / gcd(c.critic_batches, c.num_envs),
    },
    Knob {
        key: "wm_buffer_size",
        unit: "rows",
        get: |c| c.wm_buffer_size,
        set: |c, n| c.wm_buffer_size = n,
        most: |_| (1 << 30) - 1,
        step: |_| 1,
    },
];

/// Those of the settings that a run of `c` reads: without a world model there is no replay.
pub fn knobs(c: &Config) -> impl Iterator<Item = &'static Knob> {
    let world = c.algorithm == Algorithm::Pwm;
    KNOBS.iter().filter(move |k| world || !k.key.starts_with("wm_"))
}

/// Longer rollouts are not searched: a program grows with them, and so does the time to plan it.
const MAX_HORIZON: usize = 1024;

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Knob {
    /// `c` with this setting at `value`.
    pub fn with(&self, c: &Config, value: usize) -> Config {
        let mut c = c.clone();
        (self.set)(&mut c, value);
        c
    }

    /// The largest value that keeps within the budgets, all other settings as they are; none if not even the least does.
    pub fn largest(&self, c: &Config, place: Place, budgets: &Budgets) -> Option<usize> {
        self.largest_below(c, place, budgets, (self.most)(c) + 1)
    }

    /// As [`Knob::largest`], of the values less than `end`. Memory grows with every one of these settings, but for how
    /// well values happen to pack: bisection finds the place, and the values right above it are tried too.
    fn largest_below(&self, c: &Config, place: Place, budgets: &Budgets, end: usize) -> Option<usize> {
        let step = (self.step)(c).max(1);
        let allowed = |n: usize| self.with(c, n * step).broken_rules().is_empty();
        let fits = |n: usize| allowed(n) && Plan::fits(&self.with(c, n * step), place, budgets);
        let most = (end.max(1) - 1) / step;
        // Below the least value that the rules allow nothing fits, whatever the budget.
        let least = (0..24).map(|i| 1usize << i).find(|&n| allowed(n)).filter(|n| *n <= most)?;
        if fits(most) {
            return Some(most * step);
        }
        if !fits(least) {
            return None;
        }
        let (mut low, mut high) = (least, most);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            *(if fits(middle) { &mut low } else { &mut high }) = middle;
        }
        let above = (low + 1..most.min(low + NEAR)).rev().find(|&n| fits(n));
        Some(above.unwrap_or(low) * step)
    }
}

/// Values above the bisected one that are tried too.
const NEAR: usize = 16;

/// A run that would need more memory than it may take. Nothing was allocated.
#[derive(Clone, Debug)]
pub struct DoesNotFit {
    /// Name, bytes needed and budget of each memory that is too small.
    over: Vec<(&'static str, u64, Budget)>,
    largest: Vec<(&'static str, u64)>,
    change: Option<(&'static str, usize, usize)>,
}

impl DoesNotFit {
    /// Finds the largest items and the smallest change that would make the plan fit.
    pub fn new(c: &Config, plan: &Plan, budgets: &Budgets) -> Self {
        let over = [("host", plan.host(), &budgets.host), ("device", plan.device(), &budgets.device)];
        let over = over.into_iter().filter_map(|(name, bytes, budget)| {
            let budget = budget.clone()?;
            (bytes > budget.usable()).then_some((name, bytes, budget))
        });
        Self {
            over: over.collect(),
            largest: plan.largest(3).iter().map(|i| (i.name, i.bytes)).collect(),
            change: smallest_change(c, plan.place, budgets),
        }
    }
}

/// The one setting that must shrink by the smallest factor: key, from, to.
fn smallest_change(c: &Config, place: Place, budgets: &Budgets) -> Option<(&'static str, usize, usize)> {
    knobs(c)
        .filter_map(|k| {
            let from = (k.get)(c);
            Some((k.key, from, k.largest_below(c, place, budgets, from)?))
        })
        .max_by(|a, b| (a.2 as f64 / a.1 as f64).total_cmp(&(b.2 as f64 / b.1 as f64)))
}

impl fmt::Display for DoesNotFit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, bytes, budget) in &self.over {
            writeln!(f, "this run needs {} of {name} memory and may take {budget}", Bytes(*bytes))?;
        }
        let largest: Vec<String> = self.largest.iter().map(|(n, b)| format!("{n} {}", Bytes(*b))).collect();
        writeln!(f, "  largest: {}", largest.join(", "))?;
        match self.change {
            Some((key, from, to)) => write!(f, "  smallest change that makes it fit: {key}={to} instead of {from}"),
            None => write!(f, "  no single setting makes it fit: choose a smaller configuration, or more memory"),
        }
    }
}

impl std::error::Error for DoesNotFit {}
