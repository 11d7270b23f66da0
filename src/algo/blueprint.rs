//! What an algorithm writes for a run, before anything is allocated.

use super::evaluate::Judge;
use super::in_flight::ahead;
use super::metrics::{self, Measured, Metric, MetricSource};
use super::probe::ProbeVars;
use super::programs::{Handle, Programs, Sequence};
use super::schedule::{Network, Schedule};
use crate::config::Config;
use crate::env::EnvBatch;
use crate::model::ParamGroup;
use crate::ops::replay::ReplayVars;
use crate::ops::windows::Feed;
use crate::tape::{EpochIo, VarId, Vars};

/// Epochs that may be in flight where the host writes the windows of each: while one runs, others are drawn.
const FED_AHEAD: usize = 3;

/// Variables, programs, and what they are for.
pub struct Blueprint {
    pub vars: Vars,
    pub programs: Programs,
    pub parts: Parts,
}

/// What the runner must know of the variables and programs of a run.
#[derive(Clone, Debug)]
pub struct Parts {
    pub config: Config,
    /// What learns.
    pub networks: Vec<TrainedNetwork>,
    /// Variables that the host gives these numbers before a run begins.
    pub constants: Vec<(VarId, Vec<f64>)>,
    /// Running statistics, `[.., 3]` each: they start as if they had seen nothing.
    pub statistics: Vec<VarId>,
    /// The training environments, if it learns in any.
    pub env: Option<EnvBatch>,
    /// The replay buffer, if there is one.
    pub replay: Option<ReplayVars>,
    /// Index `[1]`: epochs begun. A program of every epoch counts it up.
    pub epoch: VarId,
    /// Sums over an epoch, which begin at zero.
    pub sums: Vec<VarId>,
    /// What the host draws before an epoch and writes to its inputs.
    pub feeds: Vec<Feed>,
    /// Starts the training environments; runs once, before the first epoch.
    pub begin: Option<Handle>,
    pub judge: Judge,
    /// The program that probes the world model, if there is one.
    pub probe: Option<(Handle, ProbeVars)>,
    /// What the host draws for it.
    pub probe_feed: Option<Feed>,
    pub epochs: EpochSchedule,
    /// What an epoch measures, in the order of the rows.
    pub metrics: Vec<Measured>,
}

impl Parts {
    /// What must be finite beside the networks.
    pub fn finite_checked(&self) -> impl Iterator<Item = VarId> + '_ {
        let env = self.env.iter().flat_map(|e| e.states().chain([e.obs]));
        self.statistics.iter().copied().chain(env)
    }

    /// What host and device tell each other about an epoch.
    pub fn epoch_io(&self) -> EpochIo {
        let groups = || self.networks.iter().map(|n| &n.group);
        let sums = || self.sums.iter().copied();
        let counters = [Some(self.epoch), self.replay.as_ref().map(|r| r.ready)];
        // The first epoch that learns runs once, so a graph of it would not pay.
        let recorded = [Some(&self.epochs.usual), self.epochs.collect.as_ref()];
        EpochIo {
            inputs: (groups().flat_map(|g| [g.rate, g.norm]).chain(sums()))
                .chain(self.feeds.iter().map(|f| f.var))
                .collect(),
            outputs: (groups().flat_map(|g| [g.norm, g.skipped]))
                .chain(sums())
                .chain(counters.into_iter().flatten())
                .collect(),
            finite_checked: groups().flat_map(|g| [g.params, g.m, g.v]).chain(self.finite_checked()).collect(),
            sequences: recorded.into_iter().flatten().map(Sequence::numbered).collect(),
            ahead: if self.feeds.is_empty() { ahead(&self.config) } else { ahead(&self.config).min(FED_AHEAD) },
        }
    }
}

/// A network with its optimiser and learning rate.
#[derive(Clone, Debug)]
pub struct TrainedNetwork {
    /// As messages call it.
    pub name: &'static str,
    pub group: ParamGroup,
    /// Its learning rate as a function of the epoch.
    pub schedule: Schedule,
    /// Updates of an ordinary epoch.
    pub updates: u32,
    /// What the norm of its gradient and its learning rate are called.
    grad_norm: Metric,
    learning_rate: Metric,
}

impl TrainedNetwork {
    /// The network of `group` with the settings that `c` has for it; `updates` of it make an ordinary epoch.
    pub fn new(c: &Config, network: Network, group: &ParamGroup, updates: usize) -> Self {
        let (name, grad_norm, learning_rate) = match network {
            Network::Actor => ("actor", metrics::GRAD_NORM_ACTOR, metrics::LR_ACTOR),
            Network::Critic => ("critic", metrics::GRAD_NORM_CRITIC, metrics::LR_CRITIC),
            Network::Model => ("world model", metrics::GRAD_NORM_MODEL, metrics::LR_MODEL),
        };
        let (group, schedule, updates) = (group.clone(), Schedule::of(c, network), updates as u32);
        Self { name, group, schedule, updates, grad_norm, learning_rate }
    }

    /// What is measured of networks: norms of gradients, then learning rates.
    pub fn metrics(networks: &[Self]) -> Vec<Measured> {
        let norm = |(i, n): (usize, &Self)| Measured::new(n.grad_norm, MetricSource::GradNorm(i));
        let rate = |(i, n): (usize, &Self)| Measured::new(n.learning_rate, MetricSource::LearningRate(i));
        let each = || networks.iter().enumerate();
        each().map(norm).chain(each().map(rate)).collect()
    }
}

/// Which programs an epoch runs.
#[derive(Clone, Debug)]
pub struct EpochSchedule {
    /// An epoch that learns.
    pub usual: Sequence,
    /// The first epoch that learns, where it is another one.
    pub first: Option<Sequence>,
    /// An epoch in which the environments are only driven, because the replay holds no window yet; none without a
    /// replay.
    pub collect: Option<Sequence>,
}

/// A kind of epoch of an [`EpochSchedule`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EpochKind {
    Collect,
    First,
    #[default]
    Usual,
}

impl EpochSchedule {
    /// The programs of an epoch. A kind that the schedule has not is an ordinary epoch.
    pub fn of(&self, kind: EpochKind) -> &Sequence {
        match kind {
            EpochKind::Collect => self.collect.as_ref(),
            EpochKind::First => self.first.as_ref(),
            EpochKind::Usual => None,
        }
        .unwrap_or(&self.usual)
    }
}
