//! The phases of an epoch, as `pwm bench phases` builds them.
//!
//! `cargo bench --bench phases -- wm_update`; threads: one for each core.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use pwm::app::bench::phases::{Phase, Subject};
use std::time::Duration;

fn phases(c: &mut Criterion) {
    for name in ["pwm_small", "pwm_5M"] {
        let config = pwm::config::load(&[format!("alg={name}")]).expect("shipped configurations are valid");
        for phase in Phase::ALL {
            let mut group = c.benchmark_group(phase.name());
            group.sample_size(10).measurement_time(Duration::from_secs(3));
            // Inside the closure: what the filter leaves out is not built.
            group.bench_function(BenchmarkId::from_parameter(name), |b| {
                let mut subject = Subject::new(phase, &config).expect("the phase fits into memory");
                b.iter(|| subject.run().expect("kernels do not panic"));
                assert!(subject.is_sound(), "a gradient was not finite");
            });
            group.finish();
        }
    }
}

criterion_group!(benches, phases);
criterion_main!(benches);
