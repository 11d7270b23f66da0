//! Rows of metrics as tests compare them.

use std::collections::BTreeMap;
use std::path::Path;

use pwm::io::metrics::read_metrics;

/// Step, epoch and columns of every row, numbers as bits; without the columns that tell of this machine and sitting.
pub fn rows(run: &Path) -> Vec<(u64, u64, BTreeMap<String, u64>)> {
    let of_the_run = |k: &String| !k.starts_with("time/") && !k.starts_with("memory/");
    let values = |v: BTreeMap<String, f64>| v.into_iter().filter(|(k, _)| of_the_run(k)).map(|(k, v)| (k, v.to_bits()));
    let rows = read_metrics(&run.join("metrics.jsonl")).unwrap().into_iter();
    rows.map(|r| (r.step, r.epoch, values(r.values).collect())).collect()
}
