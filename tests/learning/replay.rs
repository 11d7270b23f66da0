//! The replay operations against a model made of lists, on random streams of episodes.

use crate::support::replay::{Driver, Model};
use pwm::device::philox::{Philox, Stream};
use pwm::ops::replay::{Counter, ReplaySpec, Sampling};
use pwm::tape::TapeReal;

fn spec(sampling: Sampling, unfinished: bool) -> ReplaySpec {
    ReplaySpec {
        num_envs: 11,
        tasks: 1,
        horizon: 3,
        capacity: 64,
        staging_rows: 20,
        obs_dim: 3,
        act_dim: 2,
        batch: 37,
        sampling,
        unfinished,
        seed: 21,
    }
}

/// Equal, NaN equal to NaN.
fn same(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x == y || (x.is_nan() && y.is_nan()))
}

/// A stream of transitions: every number of it differs from every other and is exact in f32.
struct Steps {
    rng: Philox,
    step: u64,
    /// Odds of an end, one in.
    mean: u32,
    n: usize,
    o: usize,
    a: usize,
}

impl Steps {
    fn new(spec: &ReplaySpec, seed: u64, mean: u32) -> Self {
        let rng = Philox::new(seed, Stream::Test);
        Self { rng, step: 0, mean, n: spec.num_envs, o: spec.obs_dim, a: spec.act_dim }
    }

    fn next(&mut self) -> [Vec<f64>; 5] {
        let mut id = (self.step * 1000) as f64;
        let mut list = |n: usize| {
            (0..n)
                .map(|_| {
                    id += 1.0;
                    id
                })
                .collect::<Vec<f64>>()
        };
        let (obs, act, rew, mut next) = (list(self.n * self.o), list(self.n * self.a), list(self.n), vec![]);
        let done: Vec<f64> = (0..self.n)
            .map(|i| f64::from(u8::from(self.rng.bits(self.step, i as u32)[0].is_multiple_of(self.mean))))
            .collect();
        for i in 0..self.n {
            let sign = if done[i] == 1.0 { -1.0 } else { 1.0 };
            next.extend(obs[i * self.o..][..self.o].iter().map(|x| sign * x));
        }
        self.step += 1;
        [obs, act, rew, done, next]
    }
}

/// Drives operations and model with the same stream and compares everything after every step.
fn compare<F: TapeReal>(spec: &ReplaySpec, seed: u64, mean: u32, threads: usize) -> (usize, usize) {
    let (mut d, mut m) = (Driver::<F>::new(spec, threads), Model::new(spec));
    let mut steps = Steps::new(spec, seed, mean);
    let (mut zeros, mut drawn) = (0, 0);
    let start: Vec<f64> = (0..spec.num_envs * spec.obs_dim).map(|i| -0.5 - i as f64).collect();
    d.begin(&start);
    m.begin(&start);
    for step in 0..250 {
        if step == 120 {
            d.begin(&start);
            m.begin(&start);
        } else {
            let s = steps.next();
            let s: [&[f64]; 5] = std::array::from_fn(|i| &s[i][..]);
            d.record(s);
            m.record(s);
        }
        assert_eq!(d.counter(Counter::Rows), m.rows.len(), "rows at {step}");
        assert_eq!(d.counter(Counter::Episodes), m.episodes.len());
        assert_eq!(d.episodes(), m.eligible(), "directory at {step}");
        assert_eq!(d.ready(), m.ready(), "ready at {step}");
        let w = spec.width();
        let real = |x: &[F]| x.iter().map(|x| x.value()).collect::<Vec<f64>>();
        let ring = real(d.machine.real(d.vars.ring));
        for (i, row) in m.rows.iter().enumerate().skip(m.rows.len().saturating_sub(spec.capacity)) {
            assert!(same(&ring[i % spec.capacity * w..][..w], row), "row {i} at {step}");
        }
        let staging = real(d.machine.real(d.vars.staging));
        for (n, rows) in m.staging.iter().enumerate() {
            assert_eq!(d.machine.index(d.vars.lengths)[n] as usize, rows.len());
            assert!(same(&staging[n * spec.staging_rows * w..][..rows.len() * w], &rows.concat()));
        }
        let (got, want) = (d.draw(), m.draw());
        for i in 0..3 {
            assert!(same(&got[i], &want[i]), "sample {i} at {step}");
        }
        if m.ready() == 0 {
            zeros += 1;
            assert!(got.iter().flatten().all(|&x| x == 0.0));
        } else {
            drawn += 1;
            assert!(got.iter().flatten().all(|x| x.is_finite()), "no window holds the missing action of a reset");
        }
    }
    (zeros, drawn)
}

#[test]
fn both_samplings_follow_the_model() {
    for sampling in [Sampling::Row, Sampling::Episode] {
        for unfinished in [false, true] {
            // Ends one step in 4, 9 and 40: too short, mixed, and cut by the full staging area.
            for (seed, mean) in [(1, 4), (2, 9), (3, 40)] {
                let (zeros, drawn) = compare::<f64>(&spec(sampling, unfinished), seed, mean, 2);
                assert!(zeros > 0 && drawn > 100, "both cases occur: {zeros}, {drawn}");
            }
        }
    }
}

#[test]
fn a_full_staging_area_ends_an_episode() {
    let mut s = spec(Sampling::Row, false);
    s.num_envs = 2;
    s.capacity = 1000;
    let mut d = Driver::<f64>::new(&s, 1);
    let mut steps = Steps::new(&s, 4, u32::MAX);
    d.begin(&[0.0; 6]);
    for i in 1..=40 {
        let x = steps.next();
        d.record(std::array::from_fn(|k| &x[k][..]));
        // 19 steps fill 20 rows.
        assert_eq!(d.counter(Counter::Episodes), i / 19 * 2);
    }
    assert_eq!(d.episodes(), [(0, 20), (20, 20), (40, 20), (60, 20)]);
}

#[test]
fn rings_of_every_size_wrap() {
    // Smaller than one episode, than what one step can add, and not a multiple of anything.
    for capacity in [4, 5, 17, 63, 101, 997] {
        for sampling in [Sampling::Row, Sampling::Episode] {
            compare::<f64>(&ReplaySpec { capacity, ..spec(sampling, false) }, 6, 8, 2);
        }
    }
}

#[test]
fn samples_do_not_depend_on_threads_or_precision() {
    for threads in [1, 2, 3] {
        compare::<f32>(&spec(Sampling::Row, true), 7, 9, threads);
        compare::<f32>(&spec(Sampling::Episode, true), 7, 9, threads);
    }
}

#[test]
fn rows_are_drawn_alike() {
    // Two episodes of 8 and 13 rows: 5 + 10 window starts; by row each has probability 1 / 15.
    let mut s = spec(Sampling::Row, false);
    (s.num_envs, s.batch) = (1, 1000);
    let mut d = Driver::<f64>::new(&s, 2);
    d.begin(&[0.0; 3]);
    for i in 1..=19 {
        let x = f64::from(i);
        let done = f64::from(u8::from(i == 7 || i == 19));
        d.record([&[x, x, x], &[0.0; 2], &[0.0], &[done], &[x + 0.5; 3]]);
    }
    assert_eq!(d.ready(), 15);
    let mut count = std::collections::BTreeMap::new();
    for _ in 0..30 {
        for b in d.draw()[0][..3000].chunks(3) {
            *count.entry((b[0] * 2.0) as u32).or_insert(0) += 1;
        }
    }
    assert_eq!(count.len(), 15);
    let (n, p) = (30_000.0f64, 1.0f64 / 15.0);
    for (start, c) in count {
        let sigma = (n * p * (1.0 - p)).sqrt();
        assert!((f64::from(c) - n * p).abs() < 4.0 * sigma, "start {start}: {c}");
    }
}
