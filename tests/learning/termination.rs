//! Loops whose length depends on data: they end, for numbers near every edge, on the processor and as kernels.
//!
//! Each property sees `PWM_TERMINATION_INPUTS` random inputs, a million by default. One that does not end fails after a
//! while instead of holding up the others.

use crate::support::replay::Driver;
#[cfg(feature = "kernel-tests")]
use crate::support::standin;
use pwm::backend::Target;
use pwm::device::cpu::team::Team;
use pwm::device::philox::{Philox, Stream};
use pwm::ops::flow::simplex::project;
use pwm::ops::replay::{Counter, ENTRY, ReplaySpec, Sampling};
use pwm::tape::TapeReal;
use pwm::tape::{DType, Machine, Placement, Program, Region, VarId, Vars};

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Random inputs of a property.
fn inputs() -> usize {
    std::env::var("PWM_TERMINATION_INPUTS").map_or(1_000_000, |n| n.parse().expect("a number"))
}

/// Does `work`, or fails when it takes hundreds of times as long as it should.
fn within_reason(work: impl FnOnce() + Send + 'static) {
    let (ended, wait) = channel();
    let worker = std::thread::spawn(move || {
        work();
        let _ = ended.send(());
    });
    match wait.recv_timeout(Duration::from_secs(60) + Duration::from_micros(200) * inputs() as u32) {
        Ok(()) => {}
        Err(RecvTimeoutError::Disconnected) => std::panic::resume_unwind(worker.join().unwrap_err()),
        Err(RecvTimeoutError::Timeout) => panic!("a loop does not end"),
    }
}

#[cfg(feature = "kernel-tests")]
fn gpu() -> Target {
    standin::load();
    Target::Cuda(pwm::device::cuda::driver::Context::open(0).unwrap(), pwm::backend::cuda::Options::default())
}

// ---- projection onto simplices

/// A program that projects `groups` groups of `size` numbers.
struct Projection<F: TapeReal> {
    machine: Machine<F>,
    x: VarId,
    y: VarId,
}

impl<F: TapeReal> Projection<F> {
    fn new(target: &Target, size: usize, groups: usize) -> Self {
        let mut vars = Vars::default();
        let [x, y] = ["x", "y"].map(|name| vars.add(Region::RolloutBuffers, name, DType::Real, &[groups, size]));
        let mut p = Program::new("project");
        let (from, to) = (p.var(&vars, x), p.var(&vars, y));
        project(&mut p, from, size, Some(to));
        let team = Arc::new(Team::new(1).expect("threads"));
        Self { machine: Machine::on(target, vars, vec![p], team, &Placement::Arena).expect("memory"), x, y }
    }

    fn run(&mut self, x: &[f64]) -> Vec<f64> {
        self.machine.real_mut(self.x).iter_mut().zip(x).for_each(|(to, &x)| *to = F::of(x));
        self.machine.run(self.machine.program(0)).expect("run");
        self.machine.real(self.y).iter().map(|y| y.value()).collect()
    }
}

/// The projection by its definition, from the sorted numbers.
fn projected(x: &[f64]) -> Vec<f64> {
    let mut sorted = x.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let mut sum = 0.0;
    let mut theta = 0.0;
    for (i, x) in sorted.iter().enumerate() {
        sum += x;
        let excess = (sum - 1.0) / (i + 1) as f64;
        if *x > excess {
            theta = excess;
        }
    }
    x.iter().map(|x| (x - theta).max(0.0)).collect()
}

/// Groups on and near a simplex, by little and by much, and such that a number lies within a few units in the last
/// place of the threshold.
fn groups(rng: &Philox, step: u64, size: usize, count: usize) -> Vec<f64> {
    let mut all = Vec::with_capacity(size * count);
    let mut at = 0;
    let mut uniform = || {
        at += 1;
        rng.uniform4(step, at)
    };
    for i in 0..count {
        let mut x: Vec<f64> = (0..size).map(|_| -uniform()[0].ln()).collect();
        let sum: f64 = x.iter().sum();
        let spread = [0.0, 1e-6, 0.02, 0.2, 3.0][i % 5];
        x.iter_mut().for_each(|x| *x = f64::from((*x / sum + spread * (uniform()[0] - 0.5)) as f32));
        if i % 3 == 0 {
            // Of all but one number.
            let [which, apart, ..] = uniform();
            let which = (which * size as f64) as usize % size;
            let theta = (x.iter().sum::<f64>() - x[which] - 1.0) / (size - 1) as f64;
            let bits = (theta as f32).to_bits().wrapping_add((apart * 9.0) as u32).wrapping_sub(4);
            x[which] = f64::from(f32::from_bits(bits));
        }
        all.extend(x);
    }
    all
}

/// The threshold of these numbers in single precision puts one of them now above, now below itself.
const RESTLESS: [f64; 8] =
    [-0.007_875_593, 0.126_589_85, 0.179_305_34, 0.305_006, 0.013_396_227, 0.146_990_14, 0.111_683_704, 0.210_802_26];

fn projections_end<F: TapeReal>(target: &Target) {
    const GROUPS: usize = 1 << 14;
    let mut rng_step = 0;
    for size in [8, 2, 5, 16] {
        let mut p = Projection::<F>::new(target, size, GROUPS);
        let rng = Philox::new(5, Stream::Test);
        for _ in 0..(inputs() / 4).div_ceil(GROUPS) {
            rng_step += 1;
            let mut x = groups(&rng, rng_step, size, GROUPS);
            if size == RESTLESS.len() {
                x[..size].copy_from_slice(&RESTLESS);
            }
            // What is no number ends it as well; nothing is expected of the result.
            x[size] = f64::NAN;
            x[2 * size..3 * size].fill(f64::NEG_INFINITY);
            x[3 * size] = f64::INFINITY;
            let y = p.run(&x);
            for (i, (x, y)) in x.chunks_exact(size).zip(y.chunks_exact(size)).enumerate() {
                let far = projected(x).iter().zip(y).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
                assert!((1..4).contains(&i) || far < 2e-6, "{x:?} gave {y:?}");
            }
        }
    }
}

#[test]
fn projections_end_on_the_processor() {
    within_reason(|| {
        projections_end::<f32>(&Target::Cpu);
        projections_end::<f64>(&Target::Cpu);
    });
}

#[cfg(feature = "kernel-tests")]
#[test]
fn projections_end_as_a_kernel() {
    within_reason(|| projections_end::<f32>(&gpu()));
}

// ---- the directory of the replay

/// Rings around every edge: one window, episodes longer than the ring, many short ones.
const RINGS: [(usize, usize, usize); 4] = [(2, 1, 9), (7, 3, 40), (64, 5, 20), (997, 2, 30)];
/// Below this the row counter stays: it falls back by whole turns of the ring when it gets there.
const REBASE: u32 = 1 << 31;

/// Moves the counters of a directory to where they are about to fall back and to wrap; no slot changes.
fn age<F: TapeReal>(d: &mut Driver<F>, starts: u32) {
    let (count, capacity, len) = (d.counter(Counter::Count), d.vars.spec.capacity as u32, d.vars.spec.directory_len());
    let rows = d.counter(Counter::Rows) as u32;
    let turns = (REBASE - 3).saturating_sub(rows) / capacity * capacity;
    let head = d.counter(Counter::Head);
    let counters = d.machine.index_mut(d.vars.counters);
    counters[Counter::Rows as usize] = rows + turns;
    let moved = &mut counters[Counter::Starts as usize];
    *moved = moved.wrapping_add(starts);
    let entries = d.machine.index_mut(d.vars.directory);
    for i in 0..count {
        let e = &mut entries[(head + i) % len * ENTRY..][..ENTRY];
        e[0] += turns;
        e[2] = e[2].wrapping_add(starts);
    }
}

/// Observations count the steps of an environment, so that a window that is one is seen. Every append, cut, fall back
/// and draw counts as an input.
fn the_directory_ends<F: TapeReal>(target: &Target, inputs: usize) {
    let mut fell = 0;
    for (which, (capacity, horizon, staging_rows)) in RINGS.into_iter().enumerate() {
        for sampling in [Sampling::Row, Sampling::Episode] {
            let (num_envs, batch) = (24, 64);
            let spec = ReplaySpec {
                num_envs,
                tasks: 1,
                horizon,
                capacity,
                staging_rows,
                obs_dim: 1,
                act_dim: 1,
                batch,
                sampling,
                unfinished: which % 2 == 0,
                seed: 3,
            };
            let mut d = Driver::<F>::on(target, &spec, 1);
            let rng = Philox::new(which as u64, Stream::Test);
            d.begin(&vec![0.0; num_envs]);
            let mut seen = 0;
            for step in 1u32.. {
                let now = vec![f64::from(step); num_envs];
                // Now none ends, now all.
                let odds = rng.uniform(u64::from(step), u32::MAX);
                let ends = |n: usize| f64::from(u8::from(rng.uniform(u64::from(step), n as u32) < odds * odds));
                let done: Vec<f64> = (0..num_envs).map(ends).collect();
                if step % 16 == 0 {
                    age(&mut d, rng.bits(u64::from(step), u32::MAX - 1)[0]);
                }
                let before = d.counter(Counter::Rows);
                let episodes = d.counter(Counter::Episodes);
                d.record([&now, &vec![0.0; num_envs], &vec![0.0; num_envs], &done, &now]);
                fell += usize::from(d.counter(Counter::Rows) < before);
                seen += d.counter(Counter::Episodes) - episodes;
                assert!(d.counter(Counter::Count) <= spec.directory_len());
                if d.ready() > 0 {
                    let [obs, ..] = d.draw();
                    for (now, next) in obs.iter().zip(&obs[batch..]) {
                        assert_eq!(now + 1.0, *next, "{spec:?}: a window of step {step} has a gap");
                    }
                    seen += batch;
                }
                // Long enough to see the counter fall back, however few inputs are asked for.
                if step >= 64 && seen >= inputs / (2 * RINGS.len()) {
                    break;
                }
            }
        }
    }
    assert!(fell > RINGS.len(), "the counter fell back");
}

#[test]
fn the_directory_ends_on_the_processor() {
    within_reason(|| the_directory_ends::<f32>(&Target::Cpu, inputs()));
}

/// A stand-in runs hundreds of threads for each row: a tenth of the inputs.
#[cfg(feature = "kernel-tests")]
#[test]
fn the_directory_ends_as_kernels() {
    within_reason(|| the_directory_ends::<f32>(&gpu(), inputs() / 10));
}

// ---- no loop is missing

/// Files of kernels, numbers, programs and back ends with loops that no count bounds, how many, and why they end: a
/// property above, or what is said here.
const LOOPS: [(&str, usize, &str); 19] = [
    ("kernels/common/hopper.cuh", 1, "waits for the copy into shared memory that the block began"),
    ("kernels/nn/flow.cu", 1, "projections_end"),
    ("kernels/rl/replay.cu", 3, "the_directory_ends"),
    ("src/backend/cpu/profile.rs", 1, "`pwm bench ops`: by samples"),
    ("src/backend/cuda/epoch_graph.rs", 1, "adds an event a step"),
    ("src/backend/cuda/programs.rs", 1, "`pwm bench kernels`: by samples"),
    ("src/device/cpu/team.rs", 6, "waits for threads of the same job; its own tests count jobs that end or panic"),
    ("src/device/cpu/vmath.rs", 1, "halves a width"),
    ("src/env/mujoco/formula.rs", 5, "goes on by the text"),
    ("src/env/mujoco/rows.rs", 1, "goes on by the lanes of a row"),
    ("src/env/rows.rs", 2, "goes on by the lanes of a row"),
    ("src/mem/mapped.rs", 2, "a call that a signal interrupts; a file piece by piece"),
    ("src/ops/flow/cpu_grad.rs", 1, "goes on by layers"),
    ("src/ops/flow/simplex.rs", 1, "projections_end"),
    ("src/ops/replay/cpu.rs", 1, "goes on by the parts of an episode"),
    ("src/ops/replay/directory.rs", 2, "the_directory_ends"),
    ("src/sim/cuda.rs", 1, "of a constant: doubles"),
    ("src/tape/place.rs", 4, "halves or goes on by spans; placements are compared with those of a list"),
    ("src/tape/recompute.rs", 1, "halves a range"),
];

/// Whether a line of code, without its comment, begins a loop that no count bounds.
fn is_unbounded(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let begins = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let is = |what: &str| code.match_indices(what).any(|(at, _)| begins(at));
    ["while ", "while(", "loop {", "for (;;", "do {"].into_iter().any(is) || code.contains("true;;")
}

fn walk(dir: &Path, found: &mut Vec<(String, usize)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        // Tests stand at the end of a file.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let count = code.lines().filter(|line| is_unbounded(line)).count();
        if count > 0 {
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            found.push((path.strip_prefix(root).unwrap().display().to_string(), count));
        }
    }
}

#[test]
fn no_loop_is_missing() {
    let mut found = vec![];
    let library = ["algo", "backend", "device", "env", "mem", "model", "ops", "sim", "tape"];
    for dir in library.map(|d| format!("src/{d}")).into_iter().chain(["kernels".into()]) {
        walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(dir), &mut found);
    }
    found.sort();
    let known = LOOPS.map(|(file, n, _)| (file.to_owned(), n));
    assert_eq!(found, known, "a new loop needs a property that it ends, or a reason");
    assert!(["while let", "    loop {", "} do {", "x = 1; while (y)"].into_iter().all(is_unbounded));
    assert!(!["// while", "meanwhile ", "a_loop {", "for x in y {"].into_iter().any(is_unbounded));
}
