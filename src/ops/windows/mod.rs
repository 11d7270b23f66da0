//! Windows of recorded episodes, read where they lie.
//!
//! On a device that cannot read the files, and wherever a run may be on one, the host draws the windows of an epoch before
//! it begins and writes them to a variable of samples, from which the programs take them one after another.
//!
//! Draw `b` of sample `u` is a pure function of the store and of two blocks of `Philox(seed, Replay)`: a task, one of
//! its episodes, the first row. Row 0 of an episode has no action that led to it, so a window's actions and rewards are
//! those of the rows behind its first. Nothing here is differentiable: windows are data.

mod cuda;

use crate::config::TaskSampling;
use crate::device::Real;
use crate::device::cuda::Launch;
use crate::device::philox::{Philox, Stream};
use crate::io::episodes::Store;
use crate::io::episodes::store::Episode;
use crate::ops::replay::{Windows, below};
use crate::tape::cuda::Operands;
use crate::tape::op::chunk;
use crate::tape::{DType, Op, OpArgs, Program, Region, Val, VarId, Vars};
use std::fmt;
use std::sync::Arc;

/// Windows of a task of the operation.
const DRAWS: usize = 16;

/// Which episodes of a task are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All but those that are held out.
    Learned,
    /// One here and there.
    HeldOut,
}

/// What is drawn.
#[derive(Clone)]
pub struct WindowSpec {
    pub store: Arc<Store>,
    /// What each task of the store is called in the batch.
    pub numbers: Vec<u32>,
    /// Steps of a window; it has one row more.
    pub horizon: usize,
    /// Windows of a sample.
    pub batch: usize,
    pub obs_dim: usize,
    pub act_dim: usize,
    pub sampling: TaskSampling,
    /// Share of each task's episodes that are held out.
    pub held_out: f64,
    pub part: Part,
    pub seed: u64,
}

/// All that tells one from another; the store is known by its tasks.
impl fmt::Debug for WindowSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tasks: Vec<_> = self.store.tasks().iter().map(|t| (&t.name, t.episodes)).collect();
        let Self { numbers, horizon, batch, obs_dim, act_dim, sampling, held_out, part, seed, .. } = self;
        write!(
            f,
            "windows {tasks:?} {numbers:?} {:?}",
            (horizon, batch, obs_dim, act_dim, sampling, held_out, part, seed)
        )
    }
}

impl WindowSpec {
    /// Every so many episodes one is held out; 0 means none.
    fn period(&self) -> u64 {
        if self.held_out > 0.0 { (1.0 / self.held_out).round() as u64 } else { 0 }
    }

    /// Episodes of a task that are drawn from.
    fn count(&self, task: usize) -> u64 {
        let all = self.store.tasks()[task].episodes;
        let held = all.checked_div(self.period()).unwrap_or(0);
        match self.part {
            Part::Learned => all - held,
            // A model of few episodes is judged by what it learned.
            Part::HeldOut if held == 0 => all,
            Part::HeldOut => held,
        }
    }

    /// The number of episode `i` of those that are drawn from.
    fn number(&self, task: usize, i: u64) -> u64 {
        let (all, period) = (self.store.tasks()[task].episodes, self.period());
        match self.part {
            _ if all.checked_div(period).unwrap_or(0) == 0 => i,
            Part::Learned => i + i / (period - 1),
            Part::HeldOut => i * period + period - 1,
        }
    }

    /// The window that draw `b` of sample `step` is: task, episode, first row.
    fn draw(&self, rng: &Philox, step: u32, b: usize) -> (usize, Episode, usize) {
        let step = u64::from(step);
        let [first, second] = [0, 1].map(|i| rng.bits(step, (2 * b + i) as u32));
        let tasks = self.store.tasks().len();
        let (task, episode) = match self.sampling {
            TaskSampling::Tasks => {
                let task = below(tasks as u32, first[0], first[1]) as usize;
                let i = below(self.count(task) as u32, first[2], first[3]);
                (task, self.number(task, u64::from(i)))
            }
            TaskSampling::Episodes => {
                let all: u64 = (0..tasks).map(|t| self.count(t)).sum();
                let mut i = u64::from(below(all as u32, first[0], first[1]));
                let mut task = 0;
                for t in 0..tasks {
                    let count = self.count(t);
                    task = t;
                    if i < count {
                        break;
                    }
                    i -= count;
                }
                (task, self.number(task, i))
            }
        };
        let episode = self.store.episode(task, episode);
        let starts = self.store.rows(episode) - self.horizon;
        (task, episode, below(starts as u32, second[0], second[1]) as usize)
    }
}

/// Samples that the host draws before they are taken.
#[derive(Clone, Debug)]
pub struct Feed {
    pub spec: WindowSpec,
    /// `[samples, numbers]`: see [`WindowSpec::numbers_of_sample`].
    pub var: VarId,
    /// Sample u of the stream lies in row u modulo this.
    pub samples: usize,
}

impl Feed {
    /// Room for `samples` samples of `spec`, called `name`.
    pub fn new(vars: &mut Vars, name: &str, spec: &WindowSpec, samples: usize) -> Self {
        let shape = [samples, spec.numbers_of_sample()];
        let var = vars.add(Region::RolloutBuffers, name, DType::Real, &shape);
        Self { spec: spec.clone(), var, samples }
    }

    /// Draws the samples from number `first` on, as many as there is room for: on the thread that calls, since a run has
    /// no others than `threads` says.
    pub fn write<F: Real>(&self, first: u64, into: &mut [F]) {
        let each = self.spec.numbers_of_sample();
        for (u, sample) in into.chunks_exact_mut(each).enumerate() {
            // The number of a sample wraps around, as the counter on the device does.
            self.spec.write((first + u as u64) as u32, sample);
        }
    }
}

impl WindowSpec {
    /// Numbers of observations, actions, rewards and tasks of a sample.
    fn sizes(&self) -> [usize; 4] {
        let (h, b) = (self.horizon, self.batch);
        [(h + 1) * b * self.obs_dim, h * b * self.act_dim, h * b, b]
    }

    /// Numbers of a sample: observations `[H+1, B, O]`, actions `[H, B, A]`, rewards `[H, B]`, tasks `[B]`.
    pub fn numbers_of_sample(&self) -> usize {
        self.sizes().iter().sum()
    }

    /// Draws sample `step` and writes it.
    fn write<F: Real>(&self, step: u32, out: &mut [F]) {
        let rng = Philox::new(self.seed, Stream::Replay);
        let [obs, act, rew, _] = self.sizes();
        let (obs, rest) = out.split_at_mut(obs);
        let (act, rest) = rest.split_at_mut(act);
        let (rew, tasks) = rest.split_at_mut(rew);
        let (o, a) = (self.obs_dim, self.act_dim);
        for (b, task) in tasks.iter_mut().enumerate() {
            let (id, episode, first) = self.draw(&rng, step, b);
            *task = F::of(f64::from(self.numbers[id]));
            for t in 0..=self.horizon {
                let (seen, action) = self.store.bytes(episode, first + t);
                let at = t * self.batch + b;
                fill(&mut obs[at * o..(at + 1) * o], seen);
                if t > 0 {
                    let at = at - self.batch;
                    fill(&mut act[at * a..(at + 1) * a], action);
                    rew[at] = F::of(f64::from(self.store.reward(episode, first + t)));
                }
            }
        }
    }
}

/// Appends a batch of windows; `draws`, an index value `[1]`, is the number of the sample and is counted up. The task of
/// a window is told by its number.
///
/// # Panics
/// If an episode is shorter than a window.
pub fn windows(p: &mut Program, spec: &WindowSpec, draws: Val, samples: Option<Val>) -> Windows {
    assert!(spec.horizon > 0 && spec.horizon < spec.store.shortest(), "invariant: a window fits into every episode");
    let (h, b) = (spec.horizon, spec.batch);
    let (obs, act, rew) = (p.real(&[h + 1, b, spec.obs_dim]), p.real(&[h, b, spec.act_dim]), p.real(&[h, b]));
    let tasks = p.index(&[b]);
    push(p, spec, samples, &[obs, tasks, draws, act, rew]);
    Windows { obs, act, rew, tasks: Some(tasks) }
}

/// Appends single rows in the same way: observations `[B, O]`.
pub fn starts(p: &mut Program, spec: &WindowSpec, draws: Val, samples: Option<Val>) -> Val {
    assert_eq!(spec.horizon, 0, "invariant: a start is a row");
    let obs = p.real(&[spec.batch, spec.obs_dim]);
    let tasks = p.index(&[spec.batch]);
    push(p, spec, samples, &[obs, tasks, draws]);
    obs
}

/// Takes a sample that the host drew, or draws one.
fn push(p: &mut Program, spec: &WindowSpec, samples: Option<Val>, outputs: &[Val]) {
    match samples {
        Some(samples) => p.push(Take { sizes: spec.sizes() }, &[samples], outputs),
        None => p.push(Draw { spec: spec.clone() }, &[], outputs),
    }
}

/// The next of the samples that the host drew. Outputs as those of [`Draw`].
#[derive(Debug)]
struct Take {
    /// See [`WindowSpec::sizes`].
    sizes: [usize; 4],
}

impl Take {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        let draws = &mut args.out_index(2, 0..1)[0];
        let [obs, act, rew, tasks] = self.sizes;
        let each = obs + act + rew + tasks;
        let row = *draws as usize % (args.input(0).len() / each);
        let (seen, rest) = args.input(0)[row * each..(row + 1) * each].split_at(obs);
        let (actions, rest) = rest.split_at(act);
        let (rewards, numbers) = rest.split_at(rew);
        args.out_all(0).copy_from_slice(seen);
        for (to, number) in args.out_index(1, 0..tasks).iter_mut().zip(numbers) {
            *to = number.value() as u32;
        }
        if rew > 0 {
            args.out_all(3).copy_from_slice(actions);
            args.out_all(4).copy_from_slice(rewards);
        }
        *draws = draws.wrapping_add(1);
    }
}

// SAFETY: a phase has one task.
unsafe impl Op for Take {
    fn name(&self) -> &'static str {
        "windows_take"
    }
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![1]
    }
    fn differentiable(&self) -> bool {
        false
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// Draws a sample where the files can be read. Outputs: observations, tasks, the number of the sample and, for windows,
/// actions and rewards.
///
/// Phases: the windows; then the number is counted up.
#[derive(Debug)]
struct Draw {
    spec: WindowSpec,
}

fn number<F: Real>(bytes: &[u8; 4]) -> F {
    F::of(f64::from(f32::from_le_bytes(*bytes)))
}

/// The first numbers of a row, zeros behind the last that is stored.
fn fill<F: Real>(to: &mut [F], bytes: &[u8]) {
    let from = bytes.as_chunks::<4>().0;
    let stored = from.len().min(to.len());
    to.iter_mut().zip(from).for_each(|(to, b)| *to = number(b));
    to[stored..].fill(F::zero());
}

impl Draw {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, phase: usize, task: usize) {
        let s = &self.spec;
        if phase == 1 {
            let draws = &mut args.out_index(2, 0..1)[0];
            *draws = draws.wrapping_add(1);
            return;
        }
        let rng = Philox::new(s.seed, Stream::Replay);
        let step = args.read_output_index(2, 0..1)[0];
        let (o, a) = (s.obs_dim, s.act_dim);
        for b in chunk(s.batch, DRAWS, task) {
            let (id, episode, first) = s.draw(&rng, step, b);
            args.out_index(1, b..b + 1)[0] = s.numbers[id];
            for t in 0..=s.horizon {
                let (obs, action) = s.store.bytes(episode, first + t);
                let at = t * s.batch + b;
                fill(args.out(0, at * o..(at + 1) * o), obs);
                if t > 0 {
                    let at = at - s.batch;
                    fill(args.out(3, at * a..(at + 1) * a), action);
                    args.out(4, at..at + 1)[0] = F::of(f64::from(s.store.reward(episode, first + t)));
                }
            }
        }
    }
}

// SAFETY: tasks of the first phase write their own windows and only read the number; the second has one task.
unsafe impl Op for Draw {
    fn name(&self) -> &'static str {
        "windows"
    }
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![self.spec.batch.div_ceil(DRAWS), 1]
    }
    fn differentiable(&self) -> bool {
        false
    }
    crate::kernels!();
}
