//! What happened since the last row of metrics: means over epochs, and every number that was not finite.
//!
//! A learning signal that dies must be heard of. Updates whose gradient was not finite change nothing (`ops::optim`);
//! here they are counted for each network, and [`Tracker::dead`] tells when one network has not learned for
//! [`PATIENCE`] epochs.

use serde::{Deserialize, Serialize};

use crate::algo::pwm::EpochReport;
use crate::config::{Algorithm, Config};

/// Columns of `metrics.jsonl` and tags of TensorBoard, in the order of [`Tracker::row`].
pub const COLUMNS: [&str; 30] = [
    EVAL_MEAN,
    EVAL_STD,
    "eval/length",
    TRAIN_RETURN,
    "train/length",
    "train/episodes",
    "loss/actor",
    "loss/critic",
    "loss/dynamics",
    "loss/reward",
    "grad_norm/actor",
    "grad_norm/critic",
    "grad_norm/world_model",
    "lr/actor",
    "lr/critic",
    "lr/world_model",
    "time/elapsed_s",
    "time/steps_per_s",
    TIMES[0],
    TIMES[1],
    TIMES[2],
    TIMES[3],
    TIMES[4],
    RSS,
    "env/blown_up",
    "skipped_updates",
    "nonfinite_losses",
    "rollbacks",
    "env/bounded_gradients",
    "env/lost_gradients",
];
pub const EVAL_MEAN: &str = "eval/return_mean";
pub const EVAL_STD: &str = "eval/return_std";
pub const TRAIN_RETURN: &str = "train/return";
/// Seconds since the last row: rollout with the actor's update, critics, world model, evaluations, checkpoints.
pub const TIMES: [&str; 5] = ["time/actor_s", "time/critic_s", "time/world_model_s", "time/eval_s", "time/save_s"];
/// Memory of the process that is resident.
pub const RSS: &str = "memory/rss_mib";

/// Epochs in a row in which every update of one network was skipped before the run is stopped.
pub const PATIENCE: u32 = 10;

/// The networks, in the order of all arrays of three here.
pub const NETWORKS: [&str; 3] = ["actor", "critic", "world model"];

/// A mean of the finite ones among some numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Mean {
    sum: f64,
    count: u32,
    lost: u32,
}

impl Mean {
    fn add(&mut self, x: f64) {
        if x.is_finite() {
            self.sum += x;
            self.count += 1;
        } else {
            self.lost += 1;
        }
    }

    /// NaN, "not measured", if there was none.
    fn get(&self) -> f64 {
        self.sum / f64::from(self.count)
    }
}

/// Sums since the last row. All of them are finite, so that they can be written as text and read back; those of this
/// machine and sitting are not stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Interval {
    actor: Mean,
    critic: Mean,
    dynamics: Mean,
    reward: Mean,
    norms: [Mean; 3],
    episodes: f64,
    returns: f64,
    lengths: f64,
    blown_up: f64,
    /// Of environment steps: scaled down, not finite.
    bounded: [f64; 2],
    skipped: [u32; 3],
    /// Of the last epoch, once there is one.
    #[serde(skip)]
    rates: Option<[f64; 3]>,
    #[serde(skip)]
    seconds: f64,
    /// Environment steps in these seconds.
    #[serde(skip)]
    steps: f64,
    #[serde(skip)]
    phases: [f64; 5],
}

/// What the next row depends on besides the epochs to come: part of a checkpoint, so that a run that goes on between two
/// rows writes the one that an uninterrupted run would have written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pending {
    now: Interval,
    /// Epochs in a row without a single update, by network.
    idle: [u32; 3],
}

impl Pending {
    /// The same for a run that has been rolled back: its networks get their full patience again.
    pub fn forgiven(self) -> Self {
        Self { idle: [0; 3], ..self }
    }
}

/// Aggregates epochs into rows. Allocates nothing.
#[derive(Clone, Debug)]
pub struct Tracker {
    /// Updates of an epoch, by network.
    updates: [u32; 3],
    /// Whether there is a world model to have losses.
    modelled: bool,
    steps_per_epoch: f64,
    pending: Pending,
    /// Skipped updates since the start of the run.
    skipped: [u32; 3],
    /// States that left physics, since this sitting began.
    pub blown_up: f64,
}

impl Tracker {
    /// Of a run that is continued, `skipped` are the updates that were skipped before, and `pending` what its checkpoint
    /// remembers of the epochs since the last row.
    pub fn new(c: &Config, skipped: [u32; 3], pending: Pending) -> Self {
        Self {
            updates: [1, (c.critic_iterations * c.critic_batches) as u32, c.wm_iterations as u32],
            modelled: c.algorithm == Algorithm::Pwm,
            steps_per_epoch: (c.horizon * c.num_envs) as f64,
            pending,
            skipped,
            blown_up: 0.0,
        }
    }

    /// One epoch; `skipped` counts from the start of the run.
    pub fn add(&mut self, r: &EpochReport, skipped: [u32; 3], seconds: f64) {
        let Pending { now: n, idle } = &mut self.pending;
        if r.learned {
            let means = [&mut n.actor, &mut n.critic, &mut n.dynamics, &mut n.reward];
            let losses = [r.actor_loss, r.critic_loss, r.dynamics_loss, r.reward_loss];
            for (m, x) in means.into_iter().zip(losses).take(if self.modelled { 4 } else { 2 }) {
                m.add(x);
            }
            for (m, x) in n.norms.iter_mut().zip([r.actor_grad_norm, r.critic_grad_norm, r.wm_grad_norm]) {
                m.add(x);
            }
            for (i, (new, old)) in skipped.iter().zip(self.skipped).enumerate() {
                let more = new.wrapping_sub(old);
                n.skipped[i] += more;
                idle[i] = if more >= self.updates[i] { idle[i] + 1 } else { 0 };
            }
            self.skipped = skipped;
        }
        if r.episodes > 0.0 && (r.train_return + r.train_length).is_finite() {
            n.episodes += r.episodes;
            n.returns += r.episodes * r.train_return;
            n.lengths += r.episodes * r.train_length;
        }
        n.blown_up += r.blown_up;
        n.bounded.iter_mut().zip(r.bounded).for_each(|(sum, more)| *sum += more);
        self.blown_up += r.blown_up;
        n.seconds += seconds;
        n.steps += self.steps_per_epoch;
        n.rates = Some(r.rates);
        n.phases.iter_mut().zip(r.seconds).for_each(|(sum, s)| *sum += s);
    }

    /// Seconds of an evaluation and of a checkpoint.
    pub fn add_pause(&mut self, evaluating: f64, saving: f64) {
        self.pending.now.phases[3] += evaluating;
        self.pending.now.phases[4] += saving;
    }

    /// Mean return and length of the episodes that ended since the last row; NaN if there was none.
    pub fn episodes(&self) -> (f64, f64) {
        let n = &self.pending.now;
        (n.returns / n.episodes, n.lengths / n.episodes)
    }

    /// Mean losses since the last row: actor, critic, dynamics plus reward.
    pub fn losses(&self) -> (f64, f64, f64) {
        let n = &self.pending.now;
        (n.actor.get(), n.critic.get(), n.dynamics.get() + n.reward.get())
    }

    /// Updates skipped since the last row, by network.
    pub fn skipped(&self) -> [u32; 3] {
        self.pending.now.skipped
    }

    /// Epochs since the last row in which a loss was not finite: actor, critic, dynamics, reward.
    pub fn lost(&self) -> [u32; 4] {
        let n = &self.pending.now;
        [n.actor.lost, n.critic.lost, n.dynamics.lost, n.reward.lost]
    }

    /// The first network that has made no update for [`PATIENCE`] epochs.
    pub fn dead(&self) -> Option<&'static str> {
        self.pending.idle.iter().position(|&e| e >= PATIENCE).map(|i| NETWORKS[i])
    }

    /// What a checkpoint has to remember.
    pub fn pending(&self) -> &Pending {
        &self.pending
    }

    /// The row is written: the next one begins.
    pub fn written(&mut self) {
        self.pending.now = Interval::default();
    }

    /// The row since the last one. `eval`: mean, deviation, length.
    pub fn row(&self, eval: Option<[f64; 3]>, elapsed: f64, rollbacks: u64) -> [f64; COLUMNS.len()] {
        let n = self.pending.now;
        // NaN is "not measured" in a row; what was measured and is no number is written as an infinity.
        let measured = |x: f64| if x.is_nan() { f64::INFINITY } else { x };
        let [mean, std, length] = eval.map_or([f64::NAN; 3], |e| e.map(measured));
        let rate = |i: usize| n.rates.map_or(f64::NAN, |r| r[i]);
        let lost: u32 = [n.actor, n.critic, n.dynamics, n.reward].iter().map(|m| m.lost).sum();
        [
            mean,
            std,
            length,
            n.returns / n.episodes,
            n.lengths / n.episodes,
            n.episodes,
            n.actor.get(),
            n.critic.get(),
            n.dynamics.get(),
            n.reward.get(),
            n.norms[0].get(),
            n.norms[1].get(),
            n.norms[2].get(),
            rate(0),
            rate(1),
            rate(2),
            elapsed,
            n.steps / n.seconds,
            n.phases[0],
            n.phases[1],
            n.phases[2],
            n.phases[3],
            n.phases[4],
            resident_mib(),
            n.blown_up,
            self.skipped.iter().map(|&s| f64::from(s)).sum(),
            f64::from(lost),
            rollbacks as f64,
            n.bounded[0],
            n.bounded[1],
        ]
    }
}

/// Resident memory of this process in MiB, where the system tells it; NaN elsewhere. Allocates nothing.
pub(super) fn resident_mib() -> f64 {
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

    fn epoch(loss: f64) -> EpochReport {
        EpochReport {
            learned: true,
            actor_loss: loss,
            episodes: 2.0,
            train_return: 10.0 * loss,
            train_length: 5.0,
            ..EpochReport::default()
        }
    }

    fn at(row: &[f64], name: &str) -> f64 {
        row[COLUMNS.iter().position(|c| *c == name).unwrap()]
    }

    #[test]
    fn rows_are_means_and_name_what_was_lost() {
        let mut t = Tracker::new(&Config::default(), [0; 3], Pending::default());
        for (i, loss) in [1.0, 3.0, f64::NAN].into_iter().enumerate() {
            let r = EpochReport { episodes: if i == 2 { 0.0 } else { 2.0 }, ..epoch(loss) };
            t.add(&r, [i as u32, 0, 0], 0.5);
        }
        assert_eq!((t.skipped(), t.lost(), t.episodes().0), ([2, 0, 0], [1, 0, 0, 0], 20.0));
        let row = t.row(None, 7.0, 0);
        assert_eq!((at(&row, "loss/actor"), at(&row, "train/return"), at(&row, "skipped_updates")), (2.0, 20.0, 2.0));
        assert_eq!((at(&row, "nonfinite_losses"), at(&row, "time/steps_per_s")), (1.0, 4096.0));
        t.written();
        assert!(at(&row, EVAL_MEAN).is_nan() && at(&t.row(None, 8.0, 0), "loss/actor").is_nan());
        assert_eq!(at(&t.row(Some([f64::NAN, 0.0, 5.0]), 8.0, 0), EVAL_MEAN), f64::INFINITY, "measured, and no number");
    }

    #[test]
    fn what_a_checkpoint_remembers_makes_the_same_row() {
        let new = |pending| Tracker::new(&Config::default(), [0; 3], pending);
        let (mut whole, mut first) = (new(Pending::default()), new(Pending::default()));
        for (i, loss) in [0.1, f64::NAN, 0.7, 1e-7].into_iter().enumerate() {
            let r = EpochReport { train_return: if i == 2 { f64::INFINITY } else { 1.0 / 3.0 }, ..epoch(loss) };
            whole.add(&r, [i as u32; 3], 0.5);
            first.add(&r, [i as u32; 3], 0.5);
        }
        let text = serde_json::to_string(first.pending()).unwrap();
        assert!(!text.contains("null") && !text.contains("seconds"), "{text}");
        let mut second = Tracker::new(&Config::default(), [3; 3], serde_json::from_str(&text).unwrap());
        whole.add(&epoch(0.3), [4; 3], 0.5);
        second.add(&epoch(0.3), [4; 3], 0.25);
        let (a, b) = (whole.row(None, 7.0, 0), second.row(None, 7.0, 0));
        for (name, (a, b)) in COLUMNS.iter().zip(a.iter().zip(b)).filter(|(n, _)| !n.starts_with("time/") && **n != RSS)
        {
            assert_eq!(a.to_bits(), b.to_bits(), "{name}");
        }
        // The speed is that of the epochs that were timed.
        assert_eq!(at(&b, "time/steps_per_s"), 2.0 * at(&a, "time/steps_per_s"));
        assert_eq!(
            serde_json::from_str::<Pending>("{}").unwrap(),
            Pending::default(),
            "files written before it existed"
        );
    }

    #[test]
    fn a_network_that_never_learns_is_named() {
        let mut t = Tracker::new(&Config::default(), [0; 3], Pending::default());
        let wm = Config::default().wm_iterations as u32;
        for e in 1..=PATIENCE {
            assert_eq!(t.dead(), None);
            // One skipped update of many critic updates does no harm.
            t.add(&epoch(1.0), [0, e, e * wm], 0.1);
        }
        assert_eq!(t.dead(), Some("world model"));
        t.add(&epoch(1.0), [0, PATIENCE, PATIENCE * wm], 0.1);
        assert_eq!(t.dead(), None);
    }
}
