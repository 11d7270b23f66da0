//! What a world model knows: numbers that a program of probes leaves for the host.

use crate::tape::{DType, Machine, Region, TapeReal, VarId, Vars};

/// Model times at which the velocity field is measured.
pub const TAUS: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

/// What a probe measured; NaN where there is nothing to measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// Correlation of predicted with true rewards; 0 if the predictions are all alike.
    pub reward_correlation: f64,
    /// Standard deviation of predicted rewards and of true ones, in the units of the reward head's target and the
    /// environment.
    pub reward_spread: [f64; 2],
    /// Squared error of the latent after one step from the truth, and after `horizon` steps on its own.
    pub error_one: f64,
    pub error_horizon: f64,
    /// Largest distance from 1 of the sum of a group, after `horizon` steps; of encoded latents only.
    pub group_drift: f64,
    /// Squared error of the velocity at [`TAUS`]; of flow dynamics only.
    pub velocity: [f64; TAUS.len()],
}

impl Probe {
    /// Columns that a probe adds to a row.
    pub const COLUMNS: usize = 11;

    /// A probe that has measured nothing.
    pub const NONE: Self = Self {
        reward_correlation: f64::NAN,
        reward_spread: [f64::NAN; 2],
        error_one: f64::NAN,
        error_horizon: f64::NAN,
        group_drift: f64::NAN,
        velocity: [f64::NAN; TAUS.len()],
    };

    /// Its numbers under their keys in `metrics.jsonl` and tags in TensorBoard.
    pub fn columns(&self) -> [(&'static str, f64); Self::COLUMNS] {
        let ([predicted, true_], [v0, v1, v2, v3, v4]) = (self.reward_spread, self.velocity);
        [
            ("probe/reward_correlation", self.reward_correlation),
            ("probe/reward_spread", predicted),
            ("probe/true_reward_spread", true_),
            ("probe/error_one_step", self.error_one),
            ("probe/error_horizon", self.error_horizon),
            ("probe/group_drift", self.group_drift),
            ("probe/velocity_error_0", v0),
            ("probe/velocity_error_1_4", v1),
            ("probe/velocity_error_1_2", v2),
            ("probe/velocity_error_3_4", v3),
            ("probe/velocity_error_1", v4),
        ]
    }
}

/// Numbers a probe leaves for the host: five of the rewards, errors and changes at one step and at the horizon, drift,
/// velocities.
const SLOTS: usize = 10 + TAUS.len();

/// Variables of the probe.
#[derive(Clone, Copy, Debug)]
pub struct ProbeVars {
    /// Index `[1]`: which windows are drawn; the host writes the epoch here.
    pub draws: VarId,
    /// `[15]`: what the program measures, in the order that `ProbeVars::read` takes it.
    pub slots: VarId,
}

impl ProbeVars {
    pub fn new(vars: &mut Vars) -> Self {
        Self {
            draws: vars.add(Region::RolloutBuffers, "probe.draws", DType::Index, &[1]),
            slots: vars.add(Region::RolloutBuffers, "probe.slots", DType::Real, &[SLOTS]),
        }
    }

    /// Chooses the windows of the next run of the program.
    pub(super) fn choose<F: TapeReal>(&self, m: &mut Machine<F>, epoch: u64) {
        m.index_mut(self.draws)[0] = epoch as u32;
    }

    /// What the last run of the program measured.
    pub(super) fn read<F: TapeReal>(&self, m: &Machine<F>) -> Probe {
        let s: Vec<f64> = m.real(self.slots).iter().map(|x| x.value()).collect();
        let (predicted, true_, covariance) = (s[2], s[3], s[4]);
        let correlation = if predicted > 0.0 && true_ > 0.0 { covariance / (predicted * true_).sqrt() } else { 0.0 };
        Probe {
            reward_correlation: correlation,
            reward_spread: [predicted.sqrt(), true_.sqrt()],
            error_one: s[5] / s[6],
            error_horizon: s[7] / s[8],
            group_drift: s[9],
            velocity: std::array::from_fn(|i| s[10 + i] / s[6]),
        }
    }
}
