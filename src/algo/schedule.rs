//! Learning-rate schedules: functions of the epoch alone, so that a resumed run continues them.

use crate::config::{Config, LrSchedule};

/// Rate at epoch `e` (from 0) of a rate that starts at `start`.
///
/// `linear`: `start + (end - start) e / max_epochs`; `cosine`: half a cosine between the same two; both are constant at
/// `end` afterwards. Over the first `warmup_epochs` the rate rises linearly from `start / warmup_epochs`.
pub fn rate(c: &Config, start: f64, e: u64) -> f64 {
    let x = (e as f64 / c.max_epochs as f64).min(1.0);
    let base = match c.lr_schedule {
        LrSchedule::Constant => start,
        LrSchedule::Linear => start + (c.lr_end - start) * x,
        LrSchedule::Cosine => c.lr_end + (start - c.lr_end) * 0.5 * (1.0 + (std::f64::consts::PI * x).cos()),
    };
    if e < c.warmup_epochs { base * (e + 1) as f64 / c.warmup_epochs as f64 } else { base }
}
