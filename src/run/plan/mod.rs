//! What a run holds, before it starts: every byte of the arena, and a bound on everything beside it.
//!
//! | file | idea |
//! |---|---|
//! | `mod.rs` | the plan: where everything lies, and how much is computed twice, to keep within budgets |
//! | `beside.rs` | what is held beside the arena: bounds, on the host and on a device |
//! | `budgets.rs` | what may be held, and the refusal of what is more |
//! | `fit.rs` | the largest settings that fit |
//!
//! The arena's lines come from the run's own [`Layout`], the one that the machine binds, so they are exact. Beside the
//! arena a run holds code, threads, tables of operations, buffers of files and what an evaluation is drawn from: each is
//! bounded by a constant or by the settings, and has a line. Nothing is allocated but the tables of the programs.

mod beside;
mod budgets;
mod fit;

pub use budgets::{Budgets, DoesNotFit, WrongPlace};
pub use fit::{KNOBS, Knob, knobs};

use crate::algo::{Arrangement, repeats, written};
use crate::config::{Config, Recompute, ReplayPlace};
use crate::tape::recompute::{self, Level};
use crate::tape::{Home, Layout, Program, Region, Vars};
use beside::{Beside, Launches};

/// The line that recompute makes smaller.
const ACTIVATIONS: &str = "activations";

/// A kind of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
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
    pub on: Memory,
}

/// Where the arena lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    #[default]
    Host,
    /// An accelerator's own memory; the rest stays on the host.
    Device,
}

impl Place {
    fn memory(self) -> Memory {
        match self {
            Place::Host => Memory::Host,
            Place::Device => Memory::Device,
        }
    }
}

/// What a run holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub place: Place,
    /// Where the replay's finished episodes lie.
    pub replay: Home,
    /// Exact; together they are the arena.
    pub arena: Vec<Item>,
    /// Exact, outside the arena: the replay's finished episodes, if they are not in it.
    pub apart: Option<Item>,
    /// Activations of each program, all in the arena's one activation region.
    pub programs: Vec<(&'static str, u64)>,
    /// What is held beside them, bounded.
    pub fixed: Vec<Item>,
    /// What each program computes twice so as not to keep it.
    pub levels: Vec<Level>,
    /// Address space of the host that is taken and never used: stacks and workspaces come in round sizes. A limit of the
    /// process counts it.
    pub unused: u64,
    index_activations: usize,
}

/// What a run is made of, before anything is decided.
struct Written {
    vars: Vars,
    programs: Vec<Program>,
    launches: Launches,
}

impl Written {
    fn new(c: &Config, place: Place) -> Self {
        let (vars, mut programs) = written(c);
        if place == Place::Device {
            programs = programs.into_iter().map(Program::for_device).collect();
        }
        Self { launches: Launches::new(c, place, &vars, &programs), vars, programs }
    }
}

/// How much a plan may compute twice.
#[derive(Clone, Copy)]
enum Twice {
    /// What the settings say where no budget decides.
    AsSet,
    /// As little as keeps within the budgets.
    Least,
}

impl Plan {
    /// Plans a run of `c`, whose rules hold, with the arena at `place` and no budget to keep to.
    pub fn new(c: &Config, place: Place) -> Self {
        Self::within(c, place, &Budgets::default())
    }

    /// As [`Plan::new`]; with `recompute=auto` and `replay=auto` whatever is cheapest and keeps within the budgets. If
    /// nothing does, what exceeds them least.
    pub fn within(c: &Config, place: Place, budgets: &Budgets) -> Self {
        let written = Written::new(c, place);
        let mut nearest: Option<Self> = None;
        for (home, twice) in choices(c, place, &written.vars) {
            let plan = Self::at(c, place, &home, twice, &written, budgets);
            let excess = budgets.excess(&plan);
            if excess == 0 {
                return plan;
            }
            if nearest.as_ref().is_none_or(|n| excess < budgets.excess(n)) {
                nearest = Some(plan);
            }
        }
        nearest.expect("invariant: there is a choice")
    }

    /// With the replay at `home`. If nothing that is computed twice makes it keep within the budgets, all that can be is.
    fn at(c: &Config, place: Place, home: &Home, twice: Twice, written: &Written, budgets: &Budgets) -> Self {
        let of = |taken: &[usize]| Self::of(c, place, home, written, taken);
        let programs = &written.programs;
        let none = of(&repeats(c, programs.len()));
        if matches!(twice, Twice::AsSet) || c.recompute != Recompute::Auto || budgets.hold(&none) {
            return none;
        }
        let all = of(&vec![usize::MAX; programs.len()]);
        if !budgets.hold(&all) {
            return all;
        }
        // What activations may take beside all else, whose tables are at most those of `all`.
        let activations = all.arena.iter().find(|i| i.name == ACTIVATIONS).map_or(0, |i| i.bytes);
        let room = activations + budgets.spare(&all, place.memory()).unwrap_or(u64::MAX - activations);
        // Index activations are few: the largest program's are set aside.
        let indices = (all.index_activations * size_of::<u32>()) as u64;
        let reals = (room.saturating_sub(indices) / size_of::<f32>() as u64) as usize;
        let taken: Vec<usize> = programs.iter().map(|p| recompute::least(p, reals).unwrap_or(usize::MAX)).collect();
        of(&taken)
    }

    /// Whether a run keeps within the budgets, whatever it takes.
    fn fits(c: &Config, place: Place, budgets: &Budgets) -> bool {
        let written = Written::new(c, place);
        let programs = written.programs.len();
        let mut taken = vec![repeats(c, programs)];
        if c.recompute == Recompute::Auto {
            taken.push(vec![usize::MAX; programs]);
        }
        let fits = |home: &Home| taken.iter().any(|t| budgets.hold(&Self::of(c, place, home, &written, t)));
        choices(c, place, &written.vars).iter().any(|(home, _)| fits(home))
    }

    /// The plan with so many candidates of each program computed twice.
    fn of(c: &Config, place: Place, home: &Home, written: &Written, taken: &[usize]) -> Self {
        let programs = written.programs.iter().zip(taken);
        let (programs, levels): (Vec<_>, Vec<_>) = programs.map(|(p, &taken)| recompute::with(p, taken)).unzip();
        let mut vars = written.vars.clone();
        if *home != Home::Arena {
            vars.set_apart(Region::Replay);
        }
        let layout = Layout::new(&vars, &programs);
        let (real, on) = (size_of::<f32>(), place.memory());
        let mut arena: Vec<Item> = (layout.regions.iter())
            .map(|(&region, elements)| {
                let (name, what) = describe(region);
                Item { name, what, bytes: elements.bytes(real) as u64, on }
            })
            .collect();
        arena.push(Item {
            name: ACTIVATIONS,
            what: "what a program computes on the way; programs share it",
            bytes: layout.activations.bytes(real) as u64,
            on,
        });
        let (on, what) = match home {
            Home::Arena => (on, ""),
            Home::Pinned => (Memory::Host, "finished episodes, in locked memory that the device reads"),
            Home::File(_) => (Memory::Disk, "finished episodes, in a file that is mapped"),
        };
        let apart = (layout.apart * real) as u64;
        let beside = Beside::new(c, place, &programs, &layout, &written.launches);
        Self {
            place,
            replay: home.clone(),
            arena,
            apart: (apart > 0).then_some(Item { name: describe(Region::Replay).0, what, bytes: apart, on }),
            programs: layout.programs.iter().map(|p| (p.name, p.activations.bytes(real) as u64)).collect(),
            fixed: beside.items,
            levels,
            unused: beside.unused,
            index_activations: layout.activations.index,
        }
    }

    /// The same run at five levels of recompute, from nothing to all that can be: plans to compare.
    pub fn ladder(&self, c: &Config) -> Vec<Self> {
        let written = Written::new(c, self.place);
        let most: Vec<usize> = written.programs.iter().map(|p| recompute::candidates(p).len()).collect();
        let share = |quarters: usize| most.iter().map(|n| n * quarters / 4).collect::<Vec<_>>();
        let of = |quarters| Self::of(c, self.place, &self.replay, &written, &share(quarters));
        (0..=4).map(of).collect()
    }

    /// How many operations each program repeats.
    pub fn repeats(&self) -> Vec<usize> {
        self.levels.iter().map(|l| l.taken).collect()
    }

    /// What a run takes over from its plan.
    pub fn arrangement(&self) -> Arrangement {
        Arrangement { repeats: self.repeats(), replay: self.replay.clone() }
    }

    /// Where the replay's finished episodes lie, in words; none if there are none.
    pub fn replay_place(&self) -> Option<String> {
        let own = match self.place {
            Place::Host => "in main memory",
            Place::Device => "in the device's memory",
        };
        (self.replay_bytes() > 0).then(|| match &self.replay {
            Home::Arena => own.into(),
            Home::Pinned => "in main memory, locked, read by the device in place".into(),
            Home::File(folder) => format!("in a file without a name on the disk of {}", folder.display()),
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
    pub fn apart_bytes(&self) -> u64 {
        self.apart.as_ref().map_or(0, |i| i.bytes)
    }

    /// Host memory beside the arena.
    pub fn fixed_bytes(&self) -> u64 {
        self.fixed.iter().filter(|i| i.on == Memory::Host).map(|i| i.bytes).sum()
    }

    /// The most that is held of a kind of memory at any time.
    pub fn held(&self, on: Memory) -> u64 {
        self.items().filter(|i| i.on == on).map(|i| i.bytes).sum()
    }

    /// The most that is held on the host at any time.
    pub fn host(&self) -> u64 {
        self.held(Memory::Host)
    }

    /// The most that is held on the device at any time.
    pub fn device(&self) -> u64 {
        self.held(Memory::Device)
    }

    /// The most that is held where the arena lies.
    pub fn working(&self) -> u64 {
        self.held(self.place.memory())
    }

    /// Bytes of the file that is mapped.
    pub fn disk(&self) -> u64 {
        self.held(Memory::Disk)
    }

    fn items(&self) -> impl Iterator<Item = &Item> {
        self.arena.iter().chain(&self.apart).chain(&self.fixed)
    }

    /// All lines with their bytes on host, device and disk.
    pub fn lines(&self) -> impl Iterator<Item = (&Item, [u64; 3])> {
        let split =
            |i: &Item| [Memory::Host, Memory::Device, Memory::Disk].map(|on| if i.on == on { i.bytes } else { 0 });
        self.items().map(move |i| (i, split(i)))
    }

    /// The largest items of a kind of memory, the largest first.
    pub fn largest(&self, on: Memory, count: usize) -> Vec<&Item> {
        let mut items: Vec<&Item> = self.items().filter(|i| i.on == on).collect();
        items.sort_by_key(|i| std::cmp::Reverse(i.bytes));
        items.truncate(count);
        items
    }
}

/// Where the replay may lie and how much may be computed twice, the cheapest first. Arithmetic costs what it costs; a
/// disk may be slow, so it comes after. What a GPU reads of the host's memory is a few windows an update, cheaper than most
/// of what it could compute twice; and the host holds the replay in any case, to write checkpoints from.
fn choices(c: &Config, place: Place, vars: &Vars) -> Vec<(Home, Twice)> {
    use Twice::{AsSet, Least};
    let file = || Home::File(c.run_folder());
    if vars.iter().all(|(_, info)| info.region != Region::Replay) {
        return vec![(Home::Arena, Least)];
    }
    match (c.replay, place) {
        (ReplayPlace::Auto, Place::Host) => vec![(Home::Arena, Least), (file(), Least)],
        (ReplayPlace::Auto, Place::Device) => vec![(Home::Arena, AsSet), (Home::Pinned, Least)],
        (ReplayPlace::Device, _) | (ReplayPlace::Host, Place::Host) => vec![(Home::Arena, Least)],
        (ReplayPlace::Host, Place::Device) => vec![(Home::Pinned, Least)],
        (ReplayPlace::File, _) => vec![(file(), Least)],
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
        Region::Exchange => ("exchange", "what one program of an epoch leaves to the next"),
        Region::Control => ("control", "random state, counters, rates, losses"),
    }
}
