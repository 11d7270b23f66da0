//! What happened since the last row of metrics: means over epochs, and every number that was not finite.
//!
//! The columns of a row stand once, in [`Tracker::columns`]: what the run knows of itself, what the algorithm declares
//! ([`crate::algo::metrics`]) and, of runs with several tasks, the evaluation of each. `metrics.jsonl` and TensorBoard
//! are written by that list.
//!
//! A learning signal that dies must be heard of. Updates whose gradient was not finite change nothing (`ops::optim`);
//! here they are counted for each network, and [`Tracker::dead`] tells when one network has not learned for
//! [`PATIENCE`] epochs.
//!
//! `columns` says which columns a row has, `partial_row` what a checkpoint remembers of a row that is not written yet.

mod columns;
mod partial_row;

pub use partial_row::PartialRow;

use std::borrow::Cow;

use columns::{Cell, columns, measured};
use partial_row::{Mean, Updates};

use crate::algo::metrics::{self, Metric, MetricKind, Reduce};
use crate::algo::{EpochReport, Evaluation, Parts, Probe};

/// Epochs in a row in which every update of one network was skipped before the run is stopped.
pub const PATIENCE: u32 = 10;

/// A number on the screen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shown {
    pub kind: MetricKind,
    pub label: &'static str,
    /// NaN for what was not measured yet.
    pub value: f64,
}

/// A network as the tracker sees it.
#[derive(Clone, Copy, Debug)]
struct NetworkUpdates {
    name: &'static str,
    /// Updates of an ordinary epoch.
    updates: u32,
    now: Updates,
    /// Skipped updates since the start of the run.
    skipped: u32,
}

/// Aggregates epochs into rows. Allocates nothing once it is made.
#[derive(Clone, Debug)]
pub struct Tracker {
    metrics: Vec<Metric>,
    columns: Vec<(Cow<'static, str>, Cell)>,
    networks: Vec<NetworkUpdates>,
    steps_per_epoch: f64,
    /// Of each metric since the last row.
    now: Vec<Mean>,
    /// Of each metric in the last epoch.
    last: Vec<f64>,
    /// Seconds of the epochs since the last row, and environment steps in them.
    seconds: f64,
    steps: f64,
    /// Seconds of evaluations and of checkpoints.
    pauses: [f64; 2],
    row: Vec<f64>,
    /// States that left physics, since this sitting began.
    pub blown_up: f64,
}

/// The place of a metric that every algorithm declares.
fn place(metrics: &[Metric], of: Metric) -> usize {
    let place = metrics.iter().position(|m| m.name == of.name);
    place.unwrap_or_else(|| panic!("invariant: every algorithm measures {}", of.name))
}

impl Tracker {
    /// Of a run that is continued, `skipped` are the updates of each network that were skipped before, and `partial`
    /// what its checkpoint remembers of the epochs since the last row.
    pub fn new(parts: &Parts, tasks: &[String], skipped: &[u32], partial: &PartialRow) -> Self {
        let metrics: Vec<Metric> = parts.metrics.iter().map(|m| m.metric).collect();
        let columns = columns(&metrics, tasks, parts.probe.is_some());
        let networks = parts.networks.iter().zip(skipped).map(|(n, &skipped)| {
            let now = partial.networks.get(n.name).copied().unwrap_or_default();
            NetworkUpdates { name: n.name, updates: n.updates, now, skipped }
        });
        Self {
            networks: networks.collect(),
            steps_per_epoch: parts.config.epoch_steps() as f64,
            now: metrics.iter().map(|m| partial.metrics.get(m.name).copied().unwrap_or_default()).collect(),
            last: vec![f64::NAN; metrics.len()],
            seconds: 0.0,
            steps: 0.0,
            pauses: [0.0; 2],
            row: vec![f64::NAN; columns.len()],
            blown_up: 0.0,
            columns,
            metrics,
        }
    }

    /// The columns of a row: keys of `metrics.jsonl` and tags of TensorBoard.
    pub fn columns(&self) -> Vec<&str> {
        self.columns.iter().map(|(name, _)| &**name).collect()
    }

    /// One epoch.
    pub fn add(&mut self, r: &EpochReport, seconds: f64) {
        let episodes = r.values[place(&self.metrics, metrics::TRAIN_EPISODES)];
        for ((m, now), &x) in self.metrics.iter().zip(&mut self.now).zip(&r.values) {
            match m.reduce {
                Reduce::Mean if r.learned => now.add(x),
                Reduce::Sum => now.add(x),
                Reduce::PerEpisode if episodes > 0.0 => now.add(episodes * x),
                Reduce::Mean | Reduce::PerEpisode | Reduce::Last => {}
            }
        }
        self.last.copy_from_slice(&r.values);
        if r.learned {
            for (n, &skipped) in self.networks.iter_mut().zip(&r.skipped) {
                let more = skipped.wrapping_sub(n.skipped);
                n.now.skipped += more;
                n.now.idle = if more >= n.updates { n.now.idle + 1 } else { 0 };
                n.skipped = skipped;
            }
        }
        self.blown_up += r.values[place(&self.metrics, metrics::BLOWN_UP)];
        self.seconds += seconds;
        self.steps += self.steps_per_epoch;
    }

    /// Seconds of an evaluation and of a checkpoint.
    pub fn add_pause(&mut self, evaluating: f64, saving: f64) {
        self.pauses[0] += evaluating;
        self.pauses[1] += saving;
    }

    /// A metric since the last row; NaN if it was not measured.
    fn reduced(&self, metric: usize) -> f64 {
        let now = self.now[metric];
        match self.metrics[metric].reduce {
            Reduce::Mean => now.get(),
            Reduce::Sum => now.sum,
            Reduce::Last if self.steps > 0.0 => self.last[metric],
            Reduce::Last => f64::NAN,
            Reduce::PerEpisode => now.sum / self.now[place(&self.metrics, metrics::TRAIN_EPISODES)].sum,
        }
    }

    /// Mean return and length of the episodes that ended since the last row; NaN if there was none.
    pub fn episodes(&self) -> [f64; 2] {
        [metrics::TRAIN_RETURN, metrics::TRAIN_LENGTH].map(|m| self.reduced(place(&self.metrics, m)))
    }

    /// What the screen shows of the metrics: losses, learning rates and times, those of one label together. Nothing is
    /// measured yet.
    pub fn shown(&self) -> Vec<Shown> {
        let mut shown: Vec<Shown> = Vec::new();
        for m in self
            .metrics
            .iter()
            .filter(|m| [MetricKind::Loss, MetricKind::LearningRate, MetricKind::Seconds].contains(&m.kind))
        {
            if !shown.iter().any(|s| (s.kind, s.label) == (m.kind, m.label)) {
                shown.push(Shown { kind: m.kind, label: m.label, value: f64::NAN });
            }
        }
        shown
    }

    /// Brings the numbers on the screen up to date: losses since the last row, the others of the last epoch. What was
    /// not measured stays.
    pub fn show(&self, shown: &mut [Shown]) {
        for s in shown {
            let own = |i: &usize| (self.metrics[*i].kind, self.metrics[*i].label) == (s.kind, s.label);
            let number = |i| if s.kind == MetricKind::Loss { self.reduced(i) } else { self.last[i] };
            let sum = (0..self.metrics.len()).filter(own).fold(0.0, |sum, i| sum + number(i));
            if !sum.is_nan() {
                s.value = sum;
            }
        }
    }

    /// Networks that have skipped updates since the last row, with how many.
    pub fn skipped(&self) -> impl Iterator<Item = (&'static str, u32)> + '_ {
        self.networks.iter().map(|n| (n.name, n.now.skipped)).filter(|(_, n)| *n > 0)
    }

    /// Losses that were not finite since the last row, with the number of epochs in which they were not.
    pub fn lost(&self) -> impl Iterator<Item = (&'static str, u32)> + '_ {
        let losses = self.metrics.iter().zip(&self.now).filter(|(m, now)| m.kind == MetricKind::Loss && now.lost > 0);
        losses.map(|(m, now)| (m.name.trim_start_matches("loss/"), now.lost))
    }

    /// The first network that has made no update for [`PATIENCE`] epochs.
    pub fn dead(&self) -> Option<&'static str> {
        self.networks.iter().find(|n| n.now.idle >= PATIENCE).map(|n| n.name)
    }

    /// What a checkpoint has to remember.
    pub fn partial_row(&self) -> PartialRow {
        // Times and rates are those of this machine and sitting.
        let stored = self.metrics.iter().zip(&self.now).filter(|(m, _)| {
            m.reduce != Reduce::Last && !matches!(m.kind, MetricKind::Seconds | MetricKind::LearningRate)
        });
        PartialRow {
            metrics: stored.map(|(m, now)| (m.name.into(), *now)).collect(),
            networks: self.networks.iter().map(|n| (n.name.into(), n.now)).collect(),
        }
    }

    /// The row is written: the next one begins.
    pub fn written(&mut self) {
        self.now.fill(Mean::default());
        self.networks.iter_mut().for_each(|n| n.now.skipped = 0);
        (self.seconds, self.steps, self.pauses) = (0.0, 0.0, [0.0; 2]);
    }

    /// The row since the last one, a number for each column. `seconds` are those of the run so far: by the clock, and
    /// of the processor.
    pub fn row(
        &mut self,
        eval: Option<&Evaluation>,
        probe: Option<&Probe>,
        seconds: [f64; 2],
        rollbacks: u64,
    ) -> &[f64] {
        let probed = probe.unwrap_or(&Probe::NONE).columns();
        let mut row = std::mem::take(&mut self.row);
        for (x, (_, cell)) in row.iter_mut().zip(&self.columns) {
            *x = match *cell {
                Cell::Eval(task, stat) => eval.map_or(f64::NAN, |e| measured(e, task, stat)),
                Cell::Metric(i) => self.reduced(i),
                Cell::Elapsed => seconds[0],
                Cell::Cpu => seconds[1],
                Cell::Speed => self.steps / self.seconds,
                Cell::EvalSeconds => self.pauses[0],
                Cell::SaveSeconds => self.pauses[1],
                Cell::Resident => resident_mib(),
                Cell::SkippedUpdates => self.networks.iter().map(|n| f64::from(n.skipped)).sum(),
                Cell::LostLosses => f64::from(self.lost().map(|(_, n)| n).sum::<u32>()),
                Cell::Rollbacks => rollbacks as f64,
                Cell::Probe(i) => probed[i].1,
            };
        }
        self.row = row;
        &self.row
    }
}
/// Resident memory of this process in MiB, where the system tells it; NaN elsewhere. Allocates nothing.
pub fn resident_mib() -> f64 {
    use std::io::Read;
    let mut text = [0; 128];
    let read = std::fs::File::open("/proc/self/statm").and_then(|mut f| f.read(&mut text));
    let pages = read.ok().and_then(|n| std::str::from_utf8(&text[..n]).ok()?.split(' ').nth(1)?.parse::<f64>().ok());
    // Pages of 4 KiB, as on every x86-64; where they are larger the figure is too small by that factor.
    pages.map_or(f64::NAN, |p| p / 256.0)
}
