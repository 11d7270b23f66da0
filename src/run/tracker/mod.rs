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
            steps_per_epoch: parts.config.rollout_states() as f64,
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
#[cfg(test)]
mod tests {
    use super::*;
    use crate::algo::{TaskEvaluation, learner};
    use crate::config::{Algorithm, Config};

    fn parts(algorithm: Algorithm) -> Parts {
        let c = Config { algorithm, wm_buffer_size: 5000, horizon: 4, ..Config::default() };
        learner(algorithm).build(&c).parts
    }

    fn tracker(parts: &Parts, skipped: &[u32; 3], partial: &PartialRow) -> Tracker {
        Tracker::new(parts, &["run".into()], skipped, partial)
    }

    fn epoch(parts: &Parts, loss: f64, skipped: [u32; 3], numbers: &[(Metric, f64)]) -> EpochReport {
        let metrics: Vec<Metric> = parts.metrics.iter().map(|m| m.metric).collect();
        let mut r = EpochReport::new(metrics.into(), 3);
        (r.learned, r.skipped) = (true, skipped.into());
        let usual = [
            (metrics::LOSS_ACTOR, loss),
            (metrics::LOSS_CRITIC, 0.0),
            (metrics::LOSS_DYNAMICS, 0.0),
            (metrics::LOSS_REWARD, 0.0),
            (metrics::TRAIN_EPISODES, 2.0),
            (metrics::TRAIN_RETURN, 10.0 * loss),
            (metrics::TRAIN_LENGTH, 5.0),
            (metrics::BLOWN_UP, 0.0),
        ];
        for (m, x) in usual.iter().chain(numbers) {
            r.values[place(&r.metrics, *m)] = *x;
        }
        r
    }

    fn at(t: &mut Tracker, eval: Option<&Evaluation>, name: &str) -> f64 {
        let i = t.columns().iter().position(|c| *c == name).unwrap();
        t.row(eval, None, [7.0, 9.0], 0)[i]
    }

    #[test]
    fn several_tasks_have_columns_of_their_own() {
        let parts = parts(Algorithm::Shac);
        let tasks = ["run".to_owned(), "hop".to_owned()];
        let mut t = Tracker::new(&parts, &tasks, &[0; 2], &PartialRow::default());
        let task = |i: usize, returns: &[f64]| TaskEvaluation {
            task: tasks[i].clone(),
            returns: returns.into(),
            lengths: vec![3.0; returns.len()],
        };
        let e = Evaluation { tasks: vec![task(0, &[10.0, 30.0]), task(1, &[f64::NAN])] };
        let own = at(&mut t, Some(&e), "eval/run/return_mean");
        assert_eq!((own, at(&mut t, Some(&e), "eval/run/length")), (20.0, 3.0));
        // One task that was lost is lost in the mean over tasks too.
        assert_eq!(at(&mut t, Some(&e), "eval/hop/return_mean"), f64::INFINITY);
        assert_eq!(at(&mut t, Some(&e), "eval/return_mean"), f64::INFINITY);
        let e = Evaluation { tasks: vec![task(0, &[10.0, 30.0]), task(1, &[4.0])] };
        assert_eq!(at(&mut t, Some(&e), "eval/return_mean"), 12.0);
        assert_eq!(t.columns().iter().filter(|c| c.starts_with("eval/")).count(), 9);
    }

    #[test]
    fn rows_are_means_and_name_what_was_lost() {
        let parts = parts(Algorithm::Pwm);
        let mut t = tracker(&parts, &[0; 3], &PartialRow::default());
        for (i, loss) in [1.0, 3.0, f64::NAN].into_iter().enumerate() {
            let episodes = if i == 2 { 0.0 } else { 2.0 };
            t.add(&epoch(&parts, loss, [i as u32, 0, 0], &[(metrics::TRAIN_EPISODES, episodes)]), 0.5);
        }
        assert_eq!(t.skipped().collect::<Vec<_>>(), [("actor", 2)]);
        assert_eq!(t.lost().collect::<Vec<_>>(), [("actor", 1)]);
        assert_eq!(t.episodes(), [20.0, 5.0]);
        let names = ["loss/actor", "train/return", "skipped_updates", "nonfinite_losses", "time/steps_per_s"];
        let steps = parts.config.rollout_states() as f64;
        assert_eq!(names.map(|n| at(&mut t, None, n)), [2.0, 20.0, 2.0, 1.0, 2.0 * steps]);
        t.written();
        assert!(at(&mut t, None, "eval/return_mean").is_nan() && at(&mut t, None, "loss/actor").is_nan());
        let lost = TaskEvaluation { task: "run".into(), returns: vec![f64::NAN], lengths: vec![5.0] };
        let lost = Evaluation { tasks: vec![lost] };
        assert_eq!(at(&mut t, Some(&lost), "eval/return_mean"), f64::INFINITY, "measured, and no number");
    }

    #[test]
    fn what_a_checkpoint_remembers_makes_the_same_row() {
        let parts = parts(Algorithm::Pwm);
        let new = || tracker(&parts, &[0; 3], &PartialRow::default());
        let (mut whole, mut first) = (new(), new());
        for (i, loss) in [0.1, f64::NAN, 0.7, 1e-7].into_iter().enumerate() {
            let r = epoch(&parts, loss, [i as u32; 3], &[(metrics::TRAIN_RETURN, 1.0 / 3.0)]);
            whole.add(&r, 0.5);
            first.add(&r, 0.5);
        }
        let text = serde_json::to_string(&first.partial_row()).unwrap();
        assert!(!text.contains("null") && !text.contains("time/") && !text.contains("lr/"), "{text}");
        let mut second = tracker(&parts, &[3; 3], &serde_json::from_str(&text).unwrap());
        whole.add(&epoch(&parts, 0.3, [4; 3], &[]), 0.5);
        second.add(&epoch(&parts, 0.3, [4; 3], &[]), 0.25);
        let (a, b) = (whole.row(None, None, [7.0; 2], 0).to_vec(), second.row(None, None, [7.0; 2], 0).to_vec());
        for (name, (a, b)) in whole.columns().iter().zip(a.iter().zip(b)) {
            if !name.starts_with("time/") && *name != metrics::RSS.name {
                assert_eq!(a.to_bits(), b.to_bits(), "{name}");
            }
        }
        // The speed is that of the epochs that were timed.
        let speed = "time/steps_per_s";
        assert_eq!(at(&mut second, None, speed), 2.0 * at(&mut whole, None, speed));
        assert_eq!(
            serde_json::from_str::<PartialRow>("{}").unwrap(),
            PartialRow::default(),
            "files written before it existed"
        );
    }

    /// As a checkpoint of version 0.1 has it.
    #[test]
    fn what_earlier_builds_remembered_is_read() {
        let text = r#"{"now":{"actor":{"sum":2.5,"count":2,"lost":1},"critic":{"sum":1.0,"count":3,"lost":0},
            "dynamics":{"sum":0.5,"count":3,"lost":0},"reward":{"sum":0.75,"count":3,"lost":0},
            "norms":[{"sum":9.0,"count":3,"lost":0},{"sum":6.0,"count":3,"lost":0},{"sum":3.0,"count":3,"lost":0}],
            "episodes":4.0,"returns":40.0,"lengths":12.0,"blown_up":1.0,"bounded":[5.0,6.0],"skipped":[0,7,8]},
            "idle":[0,0,9]}"#;
        let parts = parts(Algorithm::Pwm);
        let mut t = tracker(&parts, &[0, 7, 8], &serde_json::from_str(text).unwrap());
        for (name, x) in [
            ("loss/actor", 1.25),
            ("loss/critic", 1.0 / 3.0),
            ("loss/dynamics", 0.5 / 3.0),
            ("loss/reward", 0.25),
            ("grad_norm/actor", 3.0),
            ("grad_norm/critic", 2.0),
            ("grad_norm/world_model", 1.0),
            ("train/episodes", 4.0),
            ("train/return", 10.0),
            ("train/length", 3.0),
            ("env/blown_up", 1.0),
            ("env/bounded_gradients", 5.0),
            ("env/lost_gradients", 6.0),
            ("skipped_updates", 15.0),
            ("nonfinite_losses", 1.0),
        ] {
            assert_eq!(at(&mut t, None, name), x, "{name}");
        }
        assert_eq!(t.skipped().collect::<Vec<_>>(), [("critic", 7), ("world model", 8)]);
        assert_eq!(t.dead(), None);
        let wm = parts.config.wm_iterations as u32;
        t.add(&epoch(&parts, 1.0, [0, 7, 8 + wm], &[]), 0.1);
        assert_eq!(t.dead(), Some("world model"));
    }

    #[test]
    fn a_network_that_never_learns_is_named() {
        let parts = parts(Algorithm::Pwm);
        let mut t = tracker(&parts, &[0; 3], &PartialRow::default());
        let wm = parts.config.wm_iterations as u32;
        for e in 1..=PATIENCE {
            assert_eq!(t.dead(), None);
            // One skipped update of many critic updates does no harm.
            t.add(&epoch(&parts, 1.0, [0, e, e * wm], &[]), 0.1);
        }
        assert_eq!(t.dead(), Some("world model"));
        assert_eq!(tracker(&parts, &[0; 3], &t.partial_row().forgiven()).dead(), None);
        t.add(&epoch(&parts, 1.0, [0, PATIENCE, PATIENCE * wm], &[]), 0.1);
        assert_eq!(t.dead(), None);
    }

    #[test]
    fn numbers_of_one_label_are_one_on_the_screen() {
        let parts = parts(Algorithm::Pwm);
        let mut t = tracker(&parts, &[0; 3], &PartialRow::default());
        let mut shown = t.shown();
        let numbers = [
            (metrics::LOSS_DYNAMICS, 0.25),
            (metrics::LOSS_REWARD, 0.5),
            (metrics::LR_CRITIC, 1e-3),
            (metrics::MODEL_SECONDS, 2.0),
        ];
        t.add(&epoch(&parts, -1.0, [0; 3], &numbers), 0.1);
        t.show(&mut shown);
        t.written();
        t.show(&mut shown);
        let known: Vec<_> = shown.iter().filter(|s| !s.value.is_nan()).map(|s| (s.kind, s.label, s.value)).collect();
        assert_eq!(
            known,
            [
                (MetricKind::Loss, "actor", -1.0),
                (MetricKind::Loss, "critic", 0.0),
                (MetricKind::Loss, "model", 0.75),
                (MetricKind::LearningRate, "critic", 1e-3),
                (MetricKind::Seconds, "model", 2.0)
            ]
        );
    }
}
