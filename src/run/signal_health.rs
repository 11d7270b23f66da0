//! Watches what the world model knows: a run whose reward signal is dead must not use its days up.
//!
//! The policy climbs predicted rewards. If these do not depend on state and action, or have nothing to do with the true
//! ones, everything else may look well: losses fall, checkpoints are written, and the policy drifts. Two signs:
//!
//! | sign | at |
//! |---|---|
//! | predictions are all alike: their deviation is below [`FLAT`] of the true rewards' | 2 evaluations in a row |
//! | predictions have nothing to do with the truth: correlation below [`UNRELATED`] | [`PATIENCE`] in a row |
//!
//! Both count only evaluations between which the model was trained, and windows whose true rewards differ.

use serde::{Deserialize, Serialize};

use crate::algo::Probe;

/// Deviation of predictions, as a share of the true rewards', that counts as none.
pub const FLAT: f64 = 1e-4;
/// Correlation that counts as none.
pub const UNRELATED: f64 = 0.05;
/// Evaluations in a row with unrelated predictions before the run is stopped.
pub const PATIENCE: u32 = 10;

/// What is remembered from one evaluation to the next; part of a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SignalHealth {
    epoch: u64,
    flat: u32,
    unrelated: u32,
}

/// Why the reward signal is called dead.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Dead {
    Flat { predicted: f64, true_: f64 },
    Unrelated { correlation: f64 },
}

impl std::fmt::Display for Dead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Dead::Flat { predicted, true_ } => write!(
                f,
                "the reward head gives the same for every state and action (deviation {predicted:.1e}, of true rewards \
                 {true_:.2}), so the policy has no gradient to follow: the head's loss does not fit its output, as when \
                 bins are trained by a squared error, or model_lr is too small"
            ),
            Dead::Unrelated { correlation } => write!(
                f,
                "predicted rewards have nothing to do with true ones (correlation {correlation:.3}), so the policy climbs \
                 noise: the latents do not tell rewards apart, or the model does not learn (look at loss/reward, \
                 probe/error_one_step and model_lr)"
            ),
        }
    }
}

impl SignalHealth {
    /// Judges a probe made after `epoch` epochs; `learned` tells whether the model has been trained.
    pub fn judge(&mut self, epoch: u64, learned: bool, p: &Probe) -> Option<Dead> {
        let [predicted, true_] = p.reward_spread;
        let measurable = true_.is_finite() && true_ > 1e-6;
        if !learned || !measurable || epoch <= self.epoch {
            return None;
        }
        self.epoch = epoch;
        // Also for numbers that are not finite.
        let alive = |x: f64, least: f64| x >= least;
        self.flat = if alive(predicted, FLAT * true_) { 0 } else { self.flat + 1 };
        self.unrelated = if alive(p.reward_correlation, UNRELATED) { 0 } else { self.unrelated + 1 };
        if self.flat >= 2 {
            return Some(Dead::Flat { predicted, true_ });
        }
        (self.unrelated >= PATIENCE).then_some(Dead::Unrelated { correlation: p.reward_correlation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(correlation: f64, predicted: f64) -> Probe {
        Probe {
            reward_correlation: correlation,
            reward_spread: [predicted, 2.0],
            error_one: 0.1,
            error_horizon: 0.3,
            group_drift: 0.0,
            velocity: [f64::NAN; 5],
        }
    }

    #[test]
    fn a_flat_head_is_called_dead_at_the_second_sight() {
        let mut v = SignalHealth::default();
        assert_eq!(v.judge(0, false, &probe(0.0, 0.0)), None, "nothing has been learned");
        assert_eq!(v.judge(5, true, &probe(0.01, 6e-8)), None);
        assert_eq!(v.judge(5, true, &probe(0.01, 6e-8)), None, "the same epoch again");
        assert_eq!(v.judge(10, true, &probe(0.01, 6e-8)), Some(Dead::Flat { predicted: 6e-8, true_: 2.0 }));
        assert_eq!(v.judge(15, true, &probe(0.9, 1.0)), None, "alive again");
        assert_eq!(v.judge(20, true, &probe(0.9, f64::NAN)), None);
        assert!(v.judge(25, true, &probe(0.9, f64::NAN)).is_some(), "not finite is dead too");
    }

    #[test]
    fn unrelated_predictions_need_patience() {
        let mut v = SignalHealth::default();
        for e in 1..u64::from(PATIENCE) {
            assert_eq!(v.judge(e, true, &probe(-0.4, 1.0)), None);
        }
        assert_eq!(v.judge(50, true, &probe(0.04, 1.0)), Some(Dead::Unrelated { correlation: 0.04 }));
        assert_eq!(v.judge(51, true, &probe(0.06, 1.0)), None);
        let still = Probe { reward_spread: [0.0, 0.0], ..probe(0.0, 0.0) };
        for e in 60..80 {
            assert_eq!(v.judge(e, true, &still), None, "true rewards that do not differ say nothing");
        }
    }
}
