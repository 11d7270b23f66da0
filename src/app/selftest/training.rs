//! Training on a device beside the processor.

use super::lab::{precision_of, rounding};
use crate::algo::Runner;
use crate::algo::metrics::MetricKind;
use crate::backend::Target;
use crate::backend::cuda::Options;
use crate::config::load;
use crate::run::state::fingerprint;

/// Training on a device beside the same training on the processor.
#[derive(Clone, Debug, Default)]
pub struct Training {
    pub epochs: usize,
    /// Largest relative difference of a loss in the first epoch that learns, and in any epoch.
    pub first: f64,
    pub worst: f64,
    pub finite: bool,
    /// What the device multiplies in.
    pub rounding: f64,
}

/// Allowed differences of [`Training`]: losses of the first epoch are off by a few roundings of the factors.
pub(super) const FIRST_EPOCH: f64 = 1e-4;
pub(super) const FIRST_ROUNDINGS: f64 = 4.0;
pub(super) const ANY_EPOCH: f64 = 0.1;

impl Training {
    pub fn passed(&self) -> bool {
        let first = FIRST_EPOCH.max(FIRST_ROUNDINGS * self.rounding);
        self.finite && self.first <= first && self.worst <= ANY_EPOCH
    }
}

impl std::fmt::Display for Training {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} epochs beside the processor: losses differ by {:.1e} in the first epoch that learns, {:.1e} at most; {}",
            self.epochs,
            self.first,
            self.worst,
            if self.passed() { "passed" } else { "FAILED" }
        )
    }
}

/// Settings of a run of a second or two.
pub(super) const SMALL: &[&str] = &[
    "num_envs=16",
    "episode_length=24",
    "horizon=8",
    "latent_dim=32",
    "units=[48]",
    "encoder_units=[40]",
    "actor_units=[32,16]",
    "critic_units=[32]",
    "num_critics=2",
    "wm_batch_size=40",
    "wm_iterations=2",
    "wm_buffer_size=2000",
    "wm_bootstrap_iterations=4",
    "eval_episodes=4",
    "max_minutes=0",
];

/// What makes the small configuration a published one.
pub const ENCODED: &[&str] = &["latent=encoded", "rollout=imagined", "obs_norm=false"];

/// Whether a short training on a GPU gives the same bits twice, and with every kernel launched by itself instead of
/// replayed from graphs: in words, and as an answer.
pub fn same_bits(target: &Target, more: &[&str]) -> anyhow::Result<(String, bool)> {
    let Target::Cuda(context, options) = target else { anyhow::bail!("graphs are replayed on a GPU only") };
    let c = load(&[SMALL, more].concat())?;
    let train = |eager: bool| {
        let mut t = Runner::<f32>::on(&c, &Target::Cuda(context.clone(), Options { eager, ..*options }))?;
        let mut learned = 0;
        while learned < BITS_EPOCHS {
            learned += usize::from(t.run_epoch()?.learned);
        }
        anyhow::Ok(fingerprint(&t))
    };
    let (once, again, single) = (train(false)?, train(false)?, train(true)?);
    let alike = |same: bool| if same { "the same bits" } else { "OTHER BITS" };
    let (twice, eager) = (once == again, once == single);
    let words = format!("{BITS_EPOCHS} epochs again: {}; without graphs: {}", alike(twice), alike(eager));
    Ok((words, twice && eager))
}

/// Epochs that learn of [`same_bits`].
const BITS_EPOCHS: usize = 5;

/// Trains on both until `epochs` epochs have learned.
pub fn train_beside_cpu(target: &Target, epochs: usize, more: &[&str]) -> anyhow::Result<Training> {
    let c = load(&[SMALL, more].concat())?;
    let mut cpu = Runner::<f32>::new(&c)?;
    let mut device = Runner::<f32>::on(&c, target)?;
    let mut t = Training { finite: true, rounding: rounding(precision_of(target)), ..Training::default() };
    while t.epochs < epochs {
        let (a, b) = (cpu.run_epoch()?, device.run_epoch()?);
        anyhow::ensure!(a.learned == b.learned, "one side waits for replay, the other does not");
        if !a.learned {
            continue;
        }
        let losses = a.metrics.iter().enumerate().filter(|(_, m)| m.kind == MetricKind::Loss);
        for (a, b) in losses.map(|(i, _)| (a.values[i], b.values[i])) {
            t.finite &= b.is_finite();
            let difference = (a - b).abs() / a.abs().max(1e-6);
            if t.epochs == 0 {
                t.first = t.first.max(difference);
            }
            t.worst = t.worst.max(difference);
        }
        t.epochs += 1;
    }
    Ok(t)
}
