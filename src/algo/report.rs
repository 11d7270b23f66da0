//! What an epoch did, as numbers under the names of its metrics.

use super::metrics::Metric;
use std::sync::Arc;

/// What an epoch did.
#[derive(Clone, Debug)]
pub struct EpochReport {
    /// True if the networks learned; false while the replay holds no window.
    pub learned: bool,
    /// What was measured, in the order of `values`.
    pub metrics: Arc<[Metric]>,
    /// One number for each metric; NaN for what was not measured.
    pub values: Vec<f64>,
    /// Updates of each network skipped since the start because a gradient was not finite.
    pub skipped: Vec<u32>,
}

impl EpochReport {
    /// A report without numbers.
    pub fn new(metrics: Arc<[Metric]>, networks: usize) -> Self {
        Self { learned: false, values: vec![f64::NAN; metrics.len()], metrics, skipped: vec![0; networks] }
    }

    /// The number of a metric; NaN if it was not measured.
    pub fn get(&self, metric: Metric) -> f64 {
        self.metrics.iter().position(|m| m.name == metric.name).map_or(f64::NAN, |i| self.values[i])
    }
}
