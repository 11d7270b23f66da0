//! How a run is planned: where the replay lies and how much each program rematerialises, so that all of it keeps within
//! the limits.

use super::epoch::EpochEstimate;
use super::overhead::{Launches, Overhead};
use super::{ACTIVATIONS, ArenaPlace, Item, Limits, MemoryKind, Plan, describe};
use crate::algo::{Blueprint, learner, rematerialised};
use crate::backend::cuda::node_kinds;
use crate::config::{Config, Recompute, ReplayPlace};
use crate::device::cuda::CudaError;
use crate::device::cuda::estimate::Gpu;
use crate::device::cuda::matmul::Matmul;
use crate::mem::{Budget, Limit, in_memory};
use crate::tape::recompute::Rematerialisable;
use crate::tape::{Layout, Placement, Program, Region, Vars};

/// A run of a configuration at a place, written down: what all its plans have in common. Nothing is allocated but the
/// tables of its programs.
pub struct Planner<'a> {
    pub(super) c: &'a Config,
    pub(super) place: ArenaPlace,
    vars: Vars,
    programs: Vec<Rematerialisable>,
    launches: Launches,
    /// The programs of an ordinary epoch, each with its runs.
    usual: Vec<(usize, usize)>,
}

/// A plan that exceeds the limits by more than this part of what it holds is far from them.
const NEAR: u64 = 16;
/// Operations of programs that are too long to try many plans of them.
const LONG: usize = 8000;

/// How much a plan may rematerialise.
#[derive(Clone, Copy)]
enum Remat {
    /// What the settings say where no budget decides.
    AsSet,
    /// As little as keeps within the limits.
    Least,
}

impl<'a> Planner<'a> {
    pub fn new(c: &'a Config, place: ArenaPlace) -> Self {
        let Blueprint { vars, programs, parts } = learner(c.algorithm).build(c);
        let mut programs = programs.into_vec();
        if place == ArenaPlace::Device {
            programs = programs.into_iter().map(Program::for_device).collect();
        }
        let programs: Vec<_> = programs.into_iter().map(Rematerialisable::new).collect();
        let launches = Launches::new(c, place, &vars, &programs, &parts.epoch_io());
        Self { c, place, launches, usual: parts.epochs.usual.numbered(), vars, programs }
    }

    /// With `recompute=auto` and `replay=auto` whatever is cheapest and keeps within the limits. If nothing does, what
    /// exceeds them least.
    pub fn within(&self, limits: &Limits) -> Plan {
        let mut nearest: Option<Plan> = None;
        for (placement, remat) in choices(self.c, self.place, &self.vars) {
            let plan = self.at(&placement, remat, limits);
            let excess = limits.excess(&plan);
            if excess == 0 {
                return plan;
            }
            if nearest.as_ref().is_none_or(|n| excess < limits.excess(n)) {
                nearest = Some(plan);
            }
        }
        nearest.expect("invariant: there is a choice")
    }

    /// What a GPU launches in an ordinary epoch of `plan`, and how long it would take by the model of
    /// [`crate::device::cuda::estimate`].
    pub fn epoch_on(&self, gpu: &Gpu, plan: &Plan) -> Result<EpochEstimate, CudaError> {
        let taken = plan.rematerialised();
        let rematerialised: Vec<_> =
            self.programs.iter().zip(taken).map(|(p, taken)| p.rematerialising(taken)).collect();
        let programs: Vec<&Program> = rematerialised.iter().map(|r| &*r.program).collect();
        let layout = Layout::of(&self.vars, rematerialised.iter().map(|r| r.layout.clone()).collect());
        let kinds = node_kinds(&self.vars, &layout, &programs, &Matmul::best(gpu.major, self.c.precision))?;
        Ok(EpochEstimate::new(gpu, &programs, &kinds, &self.usual))
    }

    /// What the run holds where it holds least.
    pub fn least(&self) -> Plan {
        let nothing = |name| Some(Budget { limit: 0, from: Limit::Asked(name) });
        self.within(&Limits { host: nothing("mem"), device: nothing("device_mem"), disk: None })
    }

    /// The run at five levels of recompute, from nothing to where it holds least, each a quarter of the way: plans to
    /// compare with `plan`.
    pub fn ladder(&self, plan: &Plan) -> Vec<Plan> {
        let (most, floor) = (self.keeping_all(), self.floor());
        let of = |quarters| self.of(&plan.replay, &self.rematerialised(most - (most - floor) * quarters / 4));
        (0..=4).map(of).collect()
    }

    /// With the replay at `placement`.
    fn at(&self, placement: &Placement, remat: Remat, limits: &Limits) -> Plan {
        let none = self.of(placement, &rematerialised(self.c, self.programs.len()));
        if matches!(remat, Remat::AsSet) || self.c.recompute != Recompute::Auto || limits.hold(&none) {
            return none;
        }
        let tightest = self.of(placement, &self.rematerialised(0));
        if !limits.hold(&tightest) {
            return if limits.excess(&none) <= limits.excess(&tightest) { none } else { tightest };
        }
        // What activations may take beside all else; no program rematerialises more, and has larger tables, than in
        // `tightest`.
        let activations = tightest.arena.iter().find(|i| i.name == ACTIVATIONS).map_or(0, |i| i.bytes);
        let room = activations + limits.spare(&tightest, self.place.memory()).unwrap_or(u64::MAX - activations);
        // Index activations are few: the largest program's are set aside.
        let indices = (tightest.index_activations * size_of::<u32>()) as u64;
        let reals = (room.saturating_sub(indices) / size_of::<f32>() as u64) as usize;
        let plan = self.of(placement, &self.rematerialised(reals));
        if limits.hold(&plan) { plan } else { tightest }
    }

    /// Whether a run keeps within the limits. With `shares` of its candidates rematerialised each program holds about
    /// the least that it can: if even that is far above the limits nothing else is tried, nor if programs are so long
    /// that trying takes seconds.
    pub(super) fn fits(&self, limits: &Limits, shares: &[f64]) -> bool {
        let choices = choices(self.c, self.place, &self.vars);
        let excess = |taken: &[usize]| {
            let plans = choices.iter().map(|(placement, _)| self.of(placement, taken));
            plans.map(|p| (limits.excess(&p), p.working())).min().unwrap_or((0, 0))
        };
        if self.launches.refused.is_some() {
            return false;
        }
        if excess(&rematerialised(self.c, self.programs.len())).0 == 0 {
            return true;
        }
        if self.c.recompute != Recompute::Auto {
            return false;
        }
        let share = |(p, share): (&Rematerialisable, &f64)| (p.most() as f64 * share).round() as usize;
        let (excess, holds) = excess(&self.programs.iter().zip(shares).map(share).collect::<Vec<_>>());
        let nodes: usize = self.programs.iter().map(|p| p.plain().0.nodes.len()).sum();
        excess == 0 || excess < holds / NEAR && nodes < LONG && limits.hold(&self.within(limits))
    }

    /// Shares of what each program can rematerialise with which it holds least.
    pub(super) fn shares(&self) -> Vec<f64> {
        let share = |p: &Rematerialisable| p.least(p.floor()).unwrap_or(0) as f64 / p.most().max(1) as f64;
        self.programs.iter().map(share).collect()
    }

    /// How much of each program is rematerialised, as little as keeps its activations within `reals` numbers; within
    /// all programs' floor if that is more.
    fn rematerialised(&self, reals: usize) -> Vec<usize> {
        let reals = reals.max(self.floor());
        let least = |p: &Rematerialisable| p.least(reals).expect("invariant: no program's floor is above that of all");
        self.programs.iter().map(least).collect()
    }

    /// The fewest numbers that the activations of all programs can be brought to: they share one region.
    fn floor(&self) -> usize {
        self.programs.iter().map(Rematerialisable::floor).max().unwrap_or(0)
    }

    /// Numbers of the activation region if nothing is rematerialised.
    fn keeping_all(&self) -> usize {
        self.programs.iter().map(|p| p.plain().1.activations.real).max().unwrap_or(0)
    }

    /// The plan with so many candidates of each program rematerialised.
    fn of(&self, placement: &Placement, taken: &[usize]) -> Plan {
        let rematerialised: Vec<_> =
            self.programs.iter().zip(taken).map(|(p, &taken)| p.rematerialising(taken)).collect();
        let programs: Vec<&Program> = rematerialised.iter().map(|r| &*r.program).collect();
        let mut vars = self.vars.clone();
        if *placement != Placement::Arena {
            vars.offload(Region::Replay);
        }
        let layout = Layout::of(&vars, rematerialised.iter().map(|r| r.layout.clone()).collect());
        let (real, on) = (size_of::<f32>(), self.place.memory());
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
        let (on, what) = match placement {
            Placement::Arena => (on, ""),
            Placement::Pinned => (MemoryKind::Host, "finished episodes, in locked memory that the device reads"),
            Placement::File(_) => (MemoryKind::Disk, "finished episodes, in a file that is mapped"),
        };
        let offloaded = (layout.offloaded * real) as u64;
        let overhead = Overhead::new(self.c, self.place, &programs, &layout, &self.launches);
        Plan {
            place: self.place,
            replay: placement.clone(),
            arena,
            offloaded: (offloaded > 0).then_some(Item { name: describe(Region::Replay).0, what, bytes: offloaded, on }),
            programs: layout.programs.iter().map(|p| (p.name, p.activations.bytes(real) as u64)).collect(),
            fixed: overhead.items,
            levels: rematerialised.iter().map(|r| r.level).collect(),
            unused: overhead.unused,
            refused: self.launches.refused.clone(),
            index_activations: layout.activations.index,
        }
    }
}

/// Where the replay may lie and how much may be rematerialised, the cheapest first. Arithmetic costs what it costs; a
/// disk may be slow, so it comes after. What a GPU reads of the host's memory is a few windows an update, cheaper than
/// most of what it could rematerialise; and the host holds the replay in any case, to write checkpoints from.
fn choices(c: &Config, place: ArenaPlace, vars: &Vars) -> Vec<(Placement, Remat)> {
    use Remat::{AsSet, Least};
    let file = || Placement::File(c.run_folder());
    // A file in main memory saves nothing there.
    let disk = !in_memory(&c.run_folder());
    if vars.iter().all(|(_, info)| info.region != Region::Replay) {
        return vec![(Placement::Arena, Least)];
    }
    match (c.replay, place) {
        (ReplayPlace::Auto, ArenaPlace::Host) if disk => vec![(Placement::Arena, Least), (file(), Least)],
        (ReplayPlace::Auto, ArenaPlace::Host) => vec![(Placement::Arena, Least)],
        (ReplayPlace::Auto, ArenaPlace::Device) => vec![(Placement::Arena, AsSet), (Placement::Pinned, Least)],
        (ReplayPlace::Device, _) | (ReplayPlace::Host, ArenaPlace::Host) => vec![(Placement::Arena, Least)],
        (ReplayPlace::Host, ArenaPlace::Device) => vec![(Placement::Pinned, Least)],
        (ReplayPlace::File, _) => vec![(file(), Least)],
    }
}
