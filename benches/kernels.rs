//! Every operation of an epoch by itself, forward and reverse, at the shapes of a configuration: the subjects of
//! `pwm bench kernels`.
//!
//! `cargo bench --bench kernels -- pwm_small/wm_update`; on one thread.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use pwm::app::bench::kernels::visit;
use std::time::Duration;

fn kernels(c: &mut Criterion) {
    for name in ["pwm_small", "shac_small"] {
        let config = pwm::config::load(&[format!("alg={name}")]).expect("shipped settings are valid");
        let mut group = c.benchmark_group(name);
        group.sample_size(10).warm_up_time(Duration::from_millis(50)).measurement_time(Duration::from_millis(200));
        let mut time = |program: &str, kind: &pwm::tape::profile::OpKind, run: &mut dyn FnMut()| {
            let id = BenchmarkId::new(format!("{program}/{}", kind.op), format!("{} {}B", kind.shapes, kind.bytes));
            group.bench_function(id, |b| b.iter(&mut *run));
        };
        visit(&config, &mut time).expect("an epoch fits into memory");
        group.finish();
    }
}

criterion_group!(benches, kernels);
criterion_main!(benches);
