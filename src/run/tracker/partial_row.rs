//! The row of metrics that is not written yet: what a checkpoint remembers of the epochs since the last one.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::algo::metrics;

/// A number that is reduced over epochs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Mean {
    /// Of the finite ones.
    pub sum: f64,
    count: u32,
    pub lost: u32,
}

impl Mean {
    pub fn add(&mut self, x: f64) {
        if x.is_finite() {
            self.sum += x;
            self.count += 1;
        } else {
            self.lost += 1;
        }
    }

    /// NaN, "not measured", if there was none.
    pub fn get(&self) -> f64 {
        self.sum / f64::from(self.count)
    }
}

/// Updates of a network that were skipped since the last row, and epochs in a row without a single update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Updates {
    pub skipped: u32,
    pub idle: u32,
}

/// What the next row depends on besides the epochs to come: part of a checkpoint, so that a run that goes on between
/// two rows writes the one that an uninterrupted run would have written. All numbers are finite, so that they can be
/// written as text and read back; those of this machine and sitting are not stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Remembered")]
pub struct PartialRow {
    pub(super) metrics: BTreeMap<Cow<'static, str>, Mean>,
    pub(super) networks: BTreeMap<Cow<'static, str>, Updates>,
}

impl PartialRow {
    /// The same for a run that has been rolled back: its networks get their full patience again.
    pub fn forgiven(mut self) -> Self {
        self.networks.values_mut().for_each(|u| u.idle = 0);
        self
    }
}

/// [`PartialRow`] as it stands in a file, of this build or of an earlier one.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Remembered {
    metrics: BTreeMap<Cow<'static, str>, Mean>,
    networks: BTreeMap<Cow<'static, str>, Updates>,
    now: Option<Earlier>,
    idle: [u32; 3],
}

/// What earlier builds wrote: three networks and four losses by place.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Earlier {
    actor: Mean,
    critic: Mean,
    dynamics: Mean,
    reward: Mean,
    norms: [Mean; 3],
    episodes: f64,
    returns: f64,
    lengths: f64,
    blown_up: f64,
    bounded: [f64; 2],
    skipped: [u32; 3],
}

impl From<Remembered> for PartialRow {
    fn from(s: Remembered) -> Self {
        let Some(e) = s.now else { return Self { metrics: s.metrics, networks: s.networks } };
        let sum = |sum: f64| Mean { sum, ..Mean::default() };
        let [actor, critic, model] = e.norms;
        let metrics = [
            (metrics::LOSS_ACTOR, e.actor),
            (metrics::LOSS_CRITIC, e.critic),
            (metrics::LOSS_DYNAMICS, e.dynamics),
            (metrics::LOSS_REWARD, e.reward),
            (metrics::GRAD_NORM_ACTOR, actor),
            (metrics::GRAD_NORM_CRITIC, critic),
            (metrics::GRAD_NORM_MODEL, model),
            (metrics::TRAIN_EPISODES, sum(e.episodes)),
            (metrics::TRAIN_RETURN, sum(e.returns)),
            (metrics::TRAIN_LENGTH, sum(e.lengths)),
            (metrics::BLOWN_UP, sum(e.blown_up)),
            (metrics::BOUNDED_GRADIENTS, sum(e.bounded[0])),
            (metrics::LOST_GRADIENTS, sum(e.bounded[1])),
        ];
        let networks = ["actor", "critic", "world model"].into_iter().zip(e.skipped.into_iter().zip(s.idle));
        Self {
            metrics: metrics.map(|(m, x)| (m.name.into(), x)).into(),
            networks: networks.map(|(name, (skipped, idle))| (name.into(), Updates { skipped, idle })).collect(),
        }
    }
}
