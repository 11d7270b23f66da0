//! Watches the evaluations of a run: when to stop early, what is a collapse, how often a run may be rolled back.
//!
//! Pure bookkeeping over the scheduled evaluations, so that it goes into the checkpoint and a resumed run decides as
//! the uninterrupted one would have. An evaluation is *better* if it is more than `early_stop_min_gain` above the last
//! better one, and *low* if it is below `collapse_fraction` of the best (where that is positive) or not finite.

use serde::{Deserialize, Serialize};

use crate::config::Config;

/// What an evaluation says about the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Go on.
    Fine,
    /// `collapse_evals` low evaluations in a row. Said once, until an evaluation is not low or the run is rolled back.
    Collapsed {
        /// The best evaluation.
        best: f64,
        /// Its epoch.
        epoch: u64,
    },
    /// No better evaluation for `early_stop_patience` of them.
    Stalled {
        /// Evaluations since the last better one.
        evaluations: u64,
    },
}

/// What is remembered from one evaluation to the next, and across rollbacks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EarlyStop {
    /// The highest evaluation and its epoch.
    pub best: Option<(f64, u64)>,
    /// The last evaluation that counted as better.
    mark: Option<f64>,
    /// Evaluations since then.
    stale: u64,
    /// Low evaluations in a row.
    low: u64,
    /// Whether this collapse has been reported.
    reported: bool,
    /// Rollbacks so far.
    pub rollbacks: u64,
    /// Lines of `incidents.jsonl` that belong to this history.
    pub incidents: u64,
}

impl EarlyStop {
    /// Judges the evaluation `mean` made after `epoch` epochs.
    pub fn judge(&mut self, c: &Config, epoch: u64, mean: f64) -> Verdict {
        let low = !mean.is_finite() || self.best.is_some_and(|(b, _)| b > 0.0 && mean < c.collapse_fraction * b);
        if mean.is_finite() && self.best.is_none_or(|(b, _)| mean > b) {
            self.best = Some((mean, epoch));
        }
        let better = mean.is_finite() && self.mark.is_none_or(|m| mean > m + c.early_stop_min_gain);
        if better {
            (self.mark, self.stale) = (Some(mean), 0);
        }
        if !low {
            (self.low, self.reported) = (0, false);
        }
        if epoch < c.guard_warmup {
            return Verdict::Fine;
        }
        self.stale += u64::from(!better);
        self.low += u64::from(low);
        if let (true, false, Some((best, epoch))) = (self.low >= c.collapse_evals, self.reported, self.best) {
            self.reported = true;
            return Verdict::Collapsed { best, epoch };
        }
        if c.early_stop_patience > 0 && self.stale >= c.early_stop_patience {
            return Verdict::Stalled { evaluations: self.stale };
        }
        Verdict::Fine
    }

    /// Counts a rollback and gives the run time to recover; false if there have been too many.
    pub fn roll_back(&mut self, c: &Config) -> bool {
        if self.rollbacks >= c.max_rollbacks {
            return false;
        }
        self.rollbacks += 1;
        (self.low, self.stale, self.reported) = (0, 0, false);
        true
    }

    /// The run ends because of a collapse. If somebody lets it go on, it is judged anew: what is still low after as
    /// many evaluations as before is a collapse again.
    pub fn stop(&mut self) {
        (self.low, self.reported) = (0, false);
    }

    /// The run has gone back to where `earlier` was stored: evaluations since then are forgotten, rollbacks are not.
    pub fn back_to(self, earlier: EarlyStop) -> EarlyStop {
        EarlyStop { rollbacks: self.rollbacks, incidents: self.incidents, ..earlier }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(c: &Config, means: &[f64]) -> Vec<Verdict> {
        let mut g = EarlyStop::default();
        means.iter().zip(1..).map(|(&m, e)| g.judge(c, e * 10, m)).collect()
    }

    #[test]
    fn a_collapse_is_said_once_and_again_after_a_recovery() {
        let c = Config::default();
        let v = verdicts(&c, &[100.0, 1000.0, 499.0, 700.0, 400.0, f64::NAN, 3.0, 600.0, 1.0, 1.0]);
        let collapsed = Verdict::Collapsed { best: 1000.0, epoch: 20 };
        let at: Vec<usize> = (0..v.len()).filter(|&i| v[i] == collapsed).collect();
        assert_eq!(at, [5, 9]);
        assert_eq!(v.iter().filter(|v| **v == Verdict::Fine).count(), 8);
        // Below zero there is no fraction to fall under.
        assert!(verdicts(&c, &[-5.0, -100.0, -100.0, -100.0]).iter().all(|v| *v == Verdict::Fine));
    }

    #[test]
    fn patience_counts_from_the_last_gain_and_after_the_warm_up() {
        let c = Config { early_stop_patience: 3, early_stop_min_gain: 10.0, ..Config::default() };
        // 105 and 109 are above the mark of 100, and no gain; 111 is one.
        let v = verdicts(&c, &[100.0, 105.0, 109.0, 111.0, 90.0, 90.0, 90.0]);
        assert_eq!(v.iter().position(|v| *v != Verdict::Fine), Some(6));
        assert_eq!(v[6], Verdict::Stalled { evaluations: 3 });
        let c = Config { guard_warmup: 50, ..c };
        let v = verdicts(&c, &[100.0; 8]);
        assert_eq!(v.iter().position(|v| *v != Verdict::Fine), Some(6), "counted from the fifth, at epoch 50");
        assert!(verdicts(&Config::default(), &[1.0; 100]).iter().all(|v| *v == Verdict::Fine), "off by default");
    }

    #[test]
    fn rollbacks_are_bounded_and_the_state_survives_a_file() {
        let c = Config { max_rollbacks: 2, ..Config::default() };
        let mut g = EarlyStop::default();
        g.judge(&c, 7, 0.1 + 0.2);
        assert!(g.roll_back(&c) && g.roll_back(&c) && !g.roll_back(&c));
        let text = serde_json::to_string(&g).unwrap();
        assert_eq!(serde_json::from_str::<EarlyStop>(&text).unwrap(), g);
        assert_eq!(
            serde_json::from_str::<EarlyStop>("{}").unwrap(),
            EarlyStop::default(),
            "files written before it existed"
        );
    }
}
