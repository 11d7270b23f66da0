//! Metrics: what they are called, how many epochs become one number of a row, and where an epoch's number comes from.
//!
//! An algorithm declares its metrics as a list of [`Measured`]: a [`Metric`] of the catalogue below and a
//! [`MetricSource`]. The tracker makes the columns of `metrics.jsonl` and the tags of TensorBoard of that list,
//! the screen shows what the metrics say of themselves, and the report finds titles here. None of them knows a network
//! or a loss by name.

use super::programs::Handle;
use crate::tape::VarId;

/// How the numbers of several epochs become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduce {
    /// The mean of the finite ones, over epochs that learned; the others are counted.
    Mean,
    /// The sum over all epochs.
    Sum,
    /// The number of the last epoch.
    Last,
    /// The mean over episodes that ended: epochs weigh as much as [`TRAIN_EPISODES`] says.
    PerEpisode,
}

/// What a metric is, for those who show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    Loss,
    GradNorm,
    LearningRate,
    /// Time of a part of the run, in seconds.
    Seconds,
    Other,
}

/// A figure of the report: the file's name, the title, and what the vertical axis counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FigureSpec {
    pub name: &'static str,
    pub title: &'static str,
    pub unit: &'static str,
}

/// A number of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Key in `metrics.jsonl` and tag in TensorBoard.
    pub name: &'static str,
    /// What screen and report call it. Numbers of one kind and label are added up on the screen.
    pub label: &'static str,
    pub kind: MetricKind,
    pub reduce: Reduce,
    pub figure: Option<FigureSpec>,
}

impl Metric {
    const fn new(name: &'static str, label: &'static str, kind: MetricKind, reduce: Reduce) -> Self {
        Self { name, label, kind, reduce, figure: None }
    }

    /// The mean loss of the updates of an epoch.
    pub const fn loss(name: &'static str, label: &'static str) -> Self {
        Self::new(name, label, MetricKind::Loss, Reduce::Mean)
    }

    /// The norm of a network's gradient before clipping.
    pub const fn grad_norm(name: &'static str, label: &'static str) -> Self {
        Self::new(name, label, MetricKind::GradNorm, Reduce::Mean)
    }

    pub const fn learning_rate(name: &'static str, label: &'static str) -> Self {
        Self::new(name, label, MetricKind::LearningRate, Reduce::Last)
    }

    pub const fn seconds(name: &'static str, label: &'static str) -> Self {
        Self::new(name, label, MetricKind::Seconds, Reduce::Sum)
    }

    /// Something that is counted.
    pub const fn count(name: &'static str) -> Self {
        Self::new(name, name, MetricKind::Other, Reduce::Sum)
    }

    /// A number of the training episodes that ended.
    pub const fn per_episode(name: &'static str) -> Self {
        Self::new(name, name, MetricKind::Other, Reduce::PerEpisode)
    }

    /// A number that the run itself knows, of this moment.
    pub const fn now(name: &'static str) -> Self {
        Self::new(name, name, MetricKind::Other, Reduce::Last)
    }

    /// The same metric with a figure in the report.
    pub const fn drawn(self, name: &'static str, title: &'static str, unit: &'static str) -> Self {
        Self { figure: Some(FigureSpec { name, title, unit }), ..self }
    }
}

macro_rules! catalogue {
    ($( $(#[doc = $doc:literal])* $name:ident = $metric:expr; )+) => {
        $( $(#[doc = $doc])* pub const $name: Metric = $metric; )+

        /// Every metric below, in the order of a row.
        pub const CATALOGUE: &[Metric] = &[$($name),+];
    };
}

catalogue! {
    EVAL_MEAN = Metric::now("eval/return_mean");
    EVAL_STD = Metric::now("eval/return_std");
    EVAL_LENGTH = Metric::now("eval/length");
    TRAIN_RETURN = Metric::per_episode("train/return");
    TRAIN_LENGTH = Metric::per_episode("train/length");
    TRAIN_EPISODES = Metric::count("train/episodes");
    LOSS_ACTOR = Metric::loss("loss/actor", "actor");
    LOSS_CRITIC = Metric::loss("loss/critic", "critic").drawn("loss_critic", "Loss of the critics", "loss");
    LOSS_DYNAMICS = Metric::loss("loss/dynamics", "model")
        .drawn("loss_model", "Loss of the world model's dynamics", "loss");
    LOSS_REWARD = Metric::loss("loss/reward", "model").drawn("loss_reward", "Loss of the reward head", "loss");
    GRAD_NORM_ACTOR = Metric::grad_norm("grad_norm/actor", "actor")
        .drawn("grad_actor", "Norm of the actor's gradient", "norm before clipping");
    GRAD_NORM_CRITIC = Metric::grad_norm("grad_norm/critic", "critic");
    GRAD_NORM_MODEL = Metric::grad_norm("grad_norm/world_model", "model");
    LR_ACTOR = Metric::learning_rate("lr/actor", "actor");
    LR_CRITIC = Metric::learning_rate("lr/critic", "critic");
    LR_MODEL = Metric::learning_rate("lr/world_model", "model");
    ELAPSED = Metric::now("time/elapsed_s");
    /// Processor time of all threads, all sittings together.
    CPU = Metric::now("time/cpu_s");
    /// Environment steps a second since the last row.
    SPEED = Metric::now("time/steps_per_s");
    ACTOR_SECONDS = Metric::seconds("time/actor_s", "actor and simulator");
    CRITIC_SECONDS = Metric::seconds("time/critic_s", "critics");
    MODEL_SECONDS = Metric::seconds("time/world_model_s", "model");
    EVAL_SECONDS = Metric::seconds("time/eval_s", "evaluation");
    SAVE_SECONDS = Metric::seconds("time/save_s", "checkpoints");
    /// Memory of the process that is resident.
    RSS = Metric::now("memory/rss_mib").drawn("memory", "Memory of the process", "MiB");
    /// States that left physics and were reset.
    BLOWN_UP = Metric::count("env/blown_up");
    /// Updates of all networks since the start of the run that were skipped, because a gradient was not finite.
    SKIPPED_UPDATES = Metric::now("skipped_updates");
    /// Losses of epochs that were not finite.
    NONFINITE_LOSSES = Metric::now("nonfinite_losses");
    ROLLBACKS = Metric::now("rollbacks");
    /// Gradients of single environment steps that were scaled down.
    BOUNDED_GRADIENTS = Metric::count("env/bounded_gradients");
    /// Those that were not finite and left out.
    LOST_GRADIENTS = Metric::count("env/lost_gradients");
}

/// Where the number of an epoch comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricSource {
    /// Number `index` of a variable that adds up over an epoch.
    Sum {
        var: VarId,
        index: usize,
    },
    /// The same as a mean: divided by the runs of `program` times the updates of each run; NaN if it did not run.
    PerUpdate {
        var: VarId,
        index: usize,
        program: Handle,
        updates: usize,
    },
    /// Of the network with this place among the networks: the norm of its gradient in the last update, its learning
    /// rate.
    GradNorm(usize),
    LearningRate(usize),
    /// Seconds of these programs.
    Seconds(Vec<Handle>),
    /// Training episodes that ended, their mean undiscounted return and length, and states that left physics.
    Episodes,
    EpisodeReturn,
    EpisodeLength,
    BlownUp,
    /// The algorithm has nothing to count here.
    Zero,
}

/// A metric and where its numbers come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    pub metric: Metric,
    pub source: MetricSource,
}

impl Measured {
    pub fn new(metric: Metric, source: MetricSource) -> Self {
        Self { metric, source }
    }

    /// What every algorithm measures of the training environments.
    pub fn of_episodes() -> [Self; 4] {
        [
            Self::new(TRAIN_RETURN, MetricSource::EpisodeReturn),
            Self::new(TRAIN_LENGTH, MetricSource::EpisodeLength),
            Self::new(TRAIN_EPISODES, MetricSource::Episodes),
            Self::new(BLOWN_UP, MetricSource::BlownUp),
        ]
    }
}

/// What the catalogue says of the metric with a name.
pub fn known(name: &str) -> Option<&'static Metric> {
    CATALOGUE.iter().find(|m| m.name == name)
}
