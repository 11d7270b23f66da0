//! Whole epochs of a run, simulator and replay included, as `pwm bench epoch` times them.
//!
//! `cargo bench --bench epoch`; threads: one for each core.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use pwm::app::bench::epoch::learning;
use std::time::Duration;

fn epochs(c: &mut Criterion) {
    let mut group = c.benchmark_group("epoch");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    for name in ["pwm_small", "pwm_5M"] {
        let config =
            pwm::config::load(&[format!("alg={name}"), "device=cpu".into()]).expect("shipped settings are valid");
        // Inside the closure: what the filter leaves out is not built.
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            let mut runner = learning(&config).expect("a run that learns");
            b.iter(|| runner.run_epoch().expect("kernels do not panic"));
        });
    }
    group.finish();
}

criterion_group!(benches, epochs);
criterion_main!(benches);
