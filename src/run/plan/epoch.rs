//! What a GPU launches in an ordinary epoch, counted, and how long it would take by the model of
//! [`crate::device::cuda::estimate`]. Counts are exact; times are no measurement.

use crate::backend::cuda::NodeKinds;
use crate::backend::cuda::epoch_graph::{self, is_whole};
use crate::device::cuda::Launch;
use crate::device::cuda::estimate::{Gpu, Seconds};
use crate::tape::Program;
use std::collections::BTreeMap;

/// Launches that belong together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Nodes of a graph: launches of kernels.
    pub nodes: u64,
    /// Operations of matrix products, a multiply-add being two.
    pub flops: f64,
    /// Bytes that blocks ask for: see [`crate::device::cuda::estimate::Work`].
    pub bytes: f64,
    /// By the model.
    pub seconds: Seconds,
}

impl Tally {
    fn of(gpu: &Gpu, launch: &Launch) -> Self {
        let work = launch.work();
        Self { nodes: 1, flops: work.flops, bytes: work.bytes, seconds: gpu.seconds(launch) }
    }

    /// `n` times as much.
    #[must_use]
    pub fn times(self, n: usize) -> Self {
        let times = n as f64;
        Self {
            nodes: self.nodes * n as u64,
            flops: self.flops * times,
            bytes: self.bytes * times,
            seconds: self.seconds.times(times),
        }
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, x: Self) {
        self.nodes += x.nodes;
        self.flops += x.flops;
        self.bytes += x.bytes;
        self.seconds += x.seconds;
    }
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, x| {
            sum += x;
            sum
        })
    }
}

/// One program of an epoch.
#[derive(Clone, Debug)]
pub struct ProgramEstimate {
    pub name: &'static str,
    /// How often an epoch runs it.
    pub runs: usize,
    /// Of one run: each kernel by its name, the one that takes longest first.
    pub kernels: Vec<(&'static str, Tally)>,
}

impl ProgramEstimate {
    /// Of one run.
    pub fn once(&self) -> Tally {
        self.kernels.iter().map(|k| k.1).sum()
    }

    /// Of all its runs in an epoch.
    pub fn all(&self) -> Tally {
        self.once().times(self.runs)
    }
}

/// An epoch on a GPU of the model.
#[derive(Clone, Debug)]
pub struct EpochEstimate {
    pub gpu: Gpu,
    pub programs: Vec<ProgramEstimate>,
    /// The kernels before and after the programs.
    pub around: Tally,
}

impl EpochEstimate {
    /// `usual`: programs by their place in `programs`, with the runs of an ordinary epoch.
    pub(super) fn new(gpu: &Gpu, programs: &[&Program], kinds: &NodeKinds, usual: &[(usize, usize)]) -> Self {
        let mut runs: Vec<(usize, usize)> = vec![];
        for &(which, more) in usual {
            match runs.iter_mut().find(|p| p.0 == which) {
                Some(same) => same.1 += more,
                None => runs.push((which, more)),
            }
        }
        let estimate = |(which, runs): (usize, usize)| ProgramEstimate {
            name: programs[which].name,
            runs,
            kernels: kernels_of(gpu, kinds, which),
        };
        let around = epoch_graph::describe_launches().iter().map(|l| Tally::of(gpu, l)).sum();
        Self { gpu: *gpu, programs: runs.into_iter().map(estimate).collect(), around }
    }

    /// Of the whole epoch.
    pub fn total(&self) -> Tally {
        self.programs.iter().map(ProgramEstimate::all).chain([self.around]).sum()
    }

    /// Each kernel of all programs, the one that takes longest first.
    pub fn kernels(&self) -> Vec<(&'static str, Tally)> {
        by_kernel(self.programs.iter().flat_map(|p| p.kernels.iter().map(|&(name, t)| (name, t.times(p.runs)))))
    }

    /// Graphs that the host launches: the whole epoch as one, or each run of a program by itself.
    pub fn graph_launches(&self) -> u64 {
        let inside: u64 = self.programs.iter().map(|p| p.all().nodes).sum();
        if is_whole(inside) {
            return 1;
        }
        self.programs.iter().filter(|p| p.once().nodes > 0).map(|p| p.runs as u64).sum()
    }
}

fn kernels_of(gpu: &Gpu, kinds: &NodeKinds, program: usize) -> Vec<(&'static str, Tally)> {
    let launches = kinds.of[program].iter().flat_map(|&kind| &kinds.launches[kind]);
    by_kernel(launches.map(|launch| (launch.kernel.name, Tally::of(gpu, launch))))
}

/// Each kernel once, the one that takes longest first.
fn by_kernel(all: impl Iterator<Item = (&'static str, Tally)>) -> Vec<(&'static str, Tally)> {
    let mut of: BTreeMap<&'static str, Tally> = BTreeMap::new();
    for (name, tally) in all {
        *of.entry(name).or_default() += tally;
    }
    let mut kernels: Vec<_> = of.into_iter().collect();
    kernels.sort_by(|a, b| b.1.seconds.total().total_cmp(&a.1.seconds.total()));
    kernels
}
