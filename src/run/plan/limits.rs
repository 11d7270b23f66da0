//! What a run may hold, and the refusal of one that would hold more.

use super::fit::Fit;
use super::{ArenaPlace, MemoryKind, Plan, Planner};
use crate::config::{Bytes, Config, ReplayPlace};
use crate::device::cuda::CudaError;
use crate::mem::{Budget, Limit, in_memory};
use std::fmt;
use std::path::PathBuf;

/// Limits of a run; none means that nothing is known that could be exceeded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub host: Option<Budget>,
    pub device: Option<Budget>,
    pub disk: Option<Budget>,
}

/// A setting that asks for what the place of the run does not have.
#[derive(Debug, thiserror::Error)]
pub enum WrongPlace {
    #[error("replay=file cannot be read by a GPU; set replay to host, or device to cpu")]
    Gpu,
    #[error("replay=file has no disk: {0} lies in main memory; set run_dir to a folder on a disk, or replay to device")]
    Memory(PathBuf),
}

impl Limits {
    /// To plan with: what the settings ask for, of this machine or of another; else what the system allows here.
    pub fn of(c: &Config) -> Self {
        Self {
            host: c.mem.map(|b| Budget::asked("mem", b)).or_else(Budget::of_host),
            device: c.device_mem.map(|b| Budget::asked("device_mem", b)),
            disk: Budget::of_disk(&c.run_folder()),
        }
    }

    /// To run with: what the settings ask for, as far as this machine has it. `free` are the free bytes of the device
    /// whose name follows.
    pub fn of_run(c: &Config, free: Option<(u64, &str)>) -> Self {
        let tighter = |a: Option<Budget>, b: Option<Budget>| a.into_iter().chain(b).min_by_key(Budget::usable);
        let Self { host, device, disk } = Self::of(c);
        let on_device = free.map(|(free, name)| Budget {
            // The context is open already, and in the plan.
            limit: free + super::overhead::CONTEXT,
            from: Limit::Device(name.into()),
        });
        Self { host: tighter(host, Budget::of_host()), device: tighter(device, on_device), disk }
    }

    /// The memories: name, kind, budget.
    fn all(&self) -> [(&'static str, MemoryKind, &Option<Budget>); 3] {
        [
            ("host memory", MemoryKind::Host, &self.host),
            ("device memory", MemoryKind::Device, &self.device),
            ("disk", MemoryKind::Disk, &self.disk),
        ]
    }

    /// What a plan takes of a budget.
    fn counted(plan: &Plan, on: MemoryKind, budget: &Budget) -> u64 {
        plan.held(on)
            + match budget.from {
                Limit::Data => plan.unused,
                Limit::AddressSpace => plan.unused + plan.mapped_bytes(),
                _ => 0,
            }
    }

    /// Bytes of a kind of memory that a plan leaves free; none if there is no budget of it.
    pub fn spare(&self, plan: &Plan, on: MemoryKind) -> Option<u64> {
        let (_, _, budget) = self.all().into_iter().find(|b| b.1 == on)?;
        let budget = budget.as_ref()?;
        Some(budget.usable().saturating_sub(Self::counted(plan, on, budget)))
    }

    /// Bytes by which a plan exceeds its limits, all together.
    pub fn excess(&self, plan: &Plan) -> u64 {
        let over = |(_, on, budget): (_, _, &Option<Budget>)| {
            budget.as_ref().map_or(0, |b| Self::counted(plan, on, b).saturating_sub(b.usable()))
        };
        self.all().into_iter().map(over).sum()
    }

    /// Whether a plan keeps within them, and can be run where it has its arena.
    pub fn hold(&self, plan: &Plan) -> bool {
        plan.refused.is_none() && self.excess(plan) == 0
    }

    /// Plans a run and refuses one that does not fit.
    pub fn admit(&self, c: &Config) -> Result<Plan, DoesNotFit> {
        self.admit_at(c, ArenaPlace::Host)
    }

    /// The same with the arena at `place`.
    pub fn admit_at(&self, c: &Config, place: ArenaPlace) -> Result<Plan, DoesNotFit> {
        let planner = Planner::new(c, place);
        let plan = planner.within(self);
        if self.hold(&plan) {
            return Ok(plan);
        }
        Err(DoesNotFit::new(&planner, &plan, self))
    }
}

impl ArenaPlace {
    /// An error if the settings ask for what this place does not have.
    pub fn suits(self, c: &Config) -> Result<(), WrongPlace> {
        let mapped = c.replay == ReplayPlace::File && c.has_replay();
        let folder = c.run_folder();
        match self {
            ArenaPlace::Device if mapped => Err(WrongPlace::Gpu),
            ArenaPlace::Host if mapped && in_memory(&folder) => Err(WrongPlace::Memory(folder)),
            _ => Ok(()),
        }
    }
}

/// A run that would need more memory than it may take, or more numbers than a kernel counts. Nothing was allocated.
#[derive(Clone, Debug)]
pub struct DoesNotFit {
    /// Each memory that is too small: name, bytes needed, budget, and its largest items.
    over: Vec<Over>,
    /// Why the device could not run it if it fitted.
    refused: Option<Box<CudaError>>,
    change: Option<(&'static str, usize, usize)>,
}

#[derive(Clone, Debug)]
struct Over {
    name: &'static str,
    bytes: u64,
    budget: Budget,
    largest: Vec<(&'static str, u64)>,
}

impl DoesNotFit {
    /// Finds the largest items and the smallest change that would make the plan fit.
    pub fn new(planner: &Planner, plan: &Plan, limits: &Limits) -> Self {
        let over = |(name, on, budget): (_, _, &Option<Budget>)| {
            let budget = budget.clone()?;
            let bytes = Limits::counted(plan, on, &budget);
            let largest = plan.largest(on, 3).iter().map(|i| (i.name, i.bytes)).collect();
            (bytes > budget.usable()).then_some(Over { name, bytes, budget, largest })
        };
        Self {
            refused: plan.refused.clone().map(Box::new),
            over: limits.all().into_iter().filter_map(over).collect(),
            change: Fit::new(planner, limits).smallest_change(),
        }
    }
}

impl fmt::Display for DoesNotFit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(e) = &self.refused {
            writeln!(f, "{e}")?;
        }
        for Over { name, bytes, budget, largest } in &self.over {
            writeln!(f, "this run needs {} of {name} and may take {budget}", Bytes(*bytes))?;
            let largest: Vec<String> = largest.iter().map(|(n, b)| format!("{n} {}", Bytes(*b))).collect();
            writeln!(f, "  largest: {}", largest.join(", "))?;
        }
        match self.change {
            Some((key, from, to)) => write!(f, "  smallest change that makes it fit: {key}={to} instead of {from}"),
            None => write!(f, "  no single setting makes it fit: choose a smaller configuration, or more memory"),
        }
    }
}

impl std::error::Error for DoesNotFit {}
