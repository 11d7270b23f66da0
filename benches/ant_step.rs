//! Env steps a second of the Ant on one thread, mass matrix once a step: forward, and forward with the adjoint after
//! it.
//!
//! `cargo bench --bench ant_step`; the throughput column ("elem/s") counts environment steps.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pwm::config::Config;
use pwm::device::philox::{Philox, Stream};
use pwm::env::{EnvReal, InputCotangents, OutputCotangents, StepOperands, Task};

/// Environments under way, with fresh random actions each step and resets of the fallen.
struct Fleet<R> {
    ant: Task,
    random: Philox,
    t: u64,
    progress: Vec<usize>,
    q: Vec<R>,
    qd: Vec<R>,
    obs: Vec<R>,
    action: Vec<R>,
    next: Vec<R>,
    reward: Vec<R>,
}

impl<R: EnvReal> Fleet<R> {
    fn new(envs: usize) -> Self {
        let zeros = |n: usize| vec![R::zero(); envs * n];
        let ant = Task::from_config(&Config { env: "ant".into(), ..Config::default() }).expect("a shipped environment");
        let s = ant.sizes;
        let mut fleet = Self {
            ant,
            random: Philox::new(1, Stream::Test),
            t: 0,
            progress: vec![0; envs],
            q: zeros(s.nq),
            qd: zeros(s.nqd),
            obs: zeros(s.obs),
            action: zeros(s.act),
            next: zeros(s.obs),
            reward: zeros(1),
        };
        (0..envs).for_each(|e| fleet.reset(e));
        fleet
    }

    fn reset(&mut self, e: usize) {
        let s = self.ant.sizes;
        let (q, qd) = (&mut self.q[e * s.nq..][..s.nq], &mut self.qd[e * s.nqd..][..s.nqd]);
        self.ant.dflex().reset_row(&self.random, self.t, e as u32, q, qd);
        self.ant.dflex().observe_row(q, qd, None, &mut self.obs[e * s.obs..][..s.obs]);
        self.progress[e] = 0;
    }

    fn step(&mut self) {
        self.t += 1;
        for (k, block) in self.action.chunks_mut(4).enumerate() {
            for (a, u) in block.iter_mut().zip(self.random.uniform4(self.t, (1 << 24) + k as u32)) {
                *a = R::of(2.0 * u - 1.0);
            }
        }
        let envs = self.progress.len();
        let (q, qd) = (&mut self.q, &mut self.qd);
        R::step_rows(&self.ant, envs, q, qd, &self.obs, &self.action, &mut self.next, &mut self.reward);
        std::mem::swap(&mut self.obs, &mut self.next);
        for e in 0..envs {
            self.progress[e] += 1;
            if self.ant.is_terminal(&self.obs[e * self.ant.sizes.obs..]) || self.ant.is_truncated(self.progress[e]) {
                self.reset(e);
            }
        }
    }
}

impl<R: EnvReal> Fleet<R> {
    /// A step, and the gradient of all that came of it with respect to all that went in.
    fn step_and_back(&mut self, back: &mut [Vec<R>; 6]) {
        let [q, qd, to_q, to_qd, to_obs, to_action] = back;
        q.copy_from_slice(&self.q);
        qd.copy_from_slice(&self.qd);
        self.step();
        // Any cotangents will do: those of the state, observation and reward at hand.
        R::adjoint_rows(
            &self.ant,
            self.progress.len(),
            StepOperands { q, qd, action: &self.action, obs: &[] },
            OutputCotangents { q: &self.q, qd: &self.qd, obs: &self.obs, reward: &self.reward },
            InputCotangents { q: to_q, qd: to_qd, obs: to_obs, action: to_action },
        );
    }
}

fn measure_adjoint<R: EnvReal>(c: &mut Criterion, name: &str, sizes: &[usize]) {
    let mut group = c.benchmark_group(format!("ant_step/{name}_forward_adjoint"));
    for &envs in sizes {
        let mut fleet = Fleet::<R>::new(envs);
        (0..60).for_each(|_| fleet.step());
        let s = fleet.ant.sizes;
        let mut back = [s.nq, s.nqd, s.nq, s.nqd, s.obs, s.act].map(|n| vec![R::zero(); envs * n]);
        group.throughput(Throughput::Elements(envs as u64));
        group.bench_function(BenchmarkId::from_parameter(envs), |b| b.iter(|| fleet.step_and_back(&mut back)));
    }
    group.finish();
}

fn measure<R: EnvReal>(c: &mut Criterion, name: &str, sizes: &[usize]) {
    let mut group = c.benchmark_group(format!("ant_step/{name}"));
    for &envs in sizes {
        let mut fleet = Fleet::<R>::new(envs);
        // Past the fall from the start height, so that feet are on the ground.
        (0..60).for_each(|_| fleet.step());
        group.throughput(Throughput::Elements(envs as u64));
        group.bench_function(BenchmarkId::from_parameter(envs), |b| b.iter(|| fleet.step()));
    }
    group.finish();
}

fn ant_step(c: &mut Criterion) {
    measure::<f32>(c, "f32", &[1, 64, 128, 1024]);
    measure_adjoint::<f32>(c, "f32", &[128]);
    measure::<f64>(c, "f64", &[1, 128]);
}

criterion_group!(benches, ant_step);
criterion_main!(benches);
