//! A row of metrics and a progress line do not touch the heap.

use std::sync::atomic::Ordering;

use crate::ALLOCATIONS;
use pwm::algo::metrics::MetricKind;
use pwm::io::metrics::{Metrics, Start};
use pwm::run::progress::{Status, format_status};
use pwm::run::tracker::Shown;

pub fn rows_and_progress_lines_do_not_allocate() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..40).map(|i| format!("group/column_{i}")).collect();
    let columns: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut metrics = Metrics::open(dir.path(), &columns, Start::Fresh).unwrap();
    let mut values = [0.0f64; 40];
    let mut line = String::with_capacity(512);
    let mut status = Status {
        epochs: 500,
        best_return: 1e9,
        metrics: vec![Shown { kind: MetricKind::Loss, label: "actor", value: -1e-300 }],
        ..Status::default()
    };
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for i in 0..500u64 {
        for (k, v) in values.iter_mut().enumerate() {
            // Every length a number can have, absent columns and infinities among them.
            *v = match (i + k as u64) % 6 {
                0 => f64::NAN,
                1 => -f64::MAX,
                2 => -f64::MIN_POSITIVE * 1.2345678901234567,
                3 => f64::INFINITY,
                4 => -123456.78901234567,
                _ => -1.2345678901234567e-5,
            };
        }
        metrics.row(u64::MAX - 500 + i, u64::MAX, &values).unwrap();
        line.clear();
        (status.epoch, status.episode_return) = (i, values[5]);
        format_status(&mut line, &status, 79);
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
}
