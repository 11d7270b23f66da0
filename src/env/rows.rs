//! Rows of environments: `f32` eight at a time, the other number types one by one. Nothing here allocates.
//!
//! Rows of observations and actions may be wider than the task's: what is beyond its own entries is neither read nor,
//! but for zeros, written. Their width is a slice's length over the number of rows.

use super::dflex::{DflexTask, clip};
use super::mujoco::MujocoReal;
use super::task::{Law, MOST_ENTRIES, Task};
use super::term::{reward, reward_adjoint, squares, squares_adjoint};
use crate::device::cpu::lanes::{Lanes, Lanes8, WIDTH};
use crate::device::cpu::team;
use crate::device::{Dual, Real};
use crate::for_size;
use crate::sim::size::{CLASSES, Size};
use crate::sim::{self, Model, SimScalar, Work, step_adjoint, step_keeping};

#[cfg(target_arch = "x86_64")]
use crate::device::cpu::lanes::{Avx8, avx512vl};

/// A number type environments can be stepped in.
pub trait EnvReal: Real {
    /// Steps `rows` environments: `q` (rows x nq) and `qd` (rows x nqd) advance in place, `next_obs` (rows x its width)
    /// and `reward` (rows) are written. `obs` is the observation before the step, `action` is raw.
    ///
    /// A row's result depends on that row alone, whatever the number of rows and the row's place among them.
    ///
    /// # Panics
    /// If a slice is shorter than `rows` rows.
    #[allow(clippy::too_many_arguments)]
    fn step_rows(
        task: &Task,
        rows: usize,
        q: &mut [Self],
        qd: &mut [Self],
        obs: &[Self],
        action: &[Self],
        next_obs: &mut [Self],
        reward: &mut [Self],
    );

    /// Adjoint of [`EnvReal::step_rows`]: cotangents of what went into a step of `rows` environments, from those of
    /// what came out. `at` holds the operands of the step; `from` is read, `to` is written.
    ///
    /// # Panics
    /// If a slice is shorter than `rows` rows.
    fn adjoint_rows(
        task: &Task,
        rows: usize,
        at: StepOperands<'_, Self>,
        from: OutputCotangents<'_, Self>,
        to: InputCotangents<'_, Self>,
    );
}

/// What goes into a step: `q`, `qd`, raw `action`, and the observation before it, which may be empty for a task whose
/// reward is not [curved](super::dflex::DflexTask::reward_is_curved).
#[derive(Clone, Copy, Debug)]
pub struct StepOperands<'a, R> {
    pub q: &'a [R],
    pub qd: &'a [R],
    pub action: &'a [R],
    pub obs: &'a [R],
}

/// Cotangents of what comes out of a step: of the new `q`, `qd`, observation and `reward` (rows).
#[derive(Clone, Copy, Debug)]
pub struct OutputCotangents<'a, R> {
    pub q: &'a [R],
    pub qd: &'a [R],
    pub obs: &'a [R],
    pub reward: &'a [R],
}

/// Cotangents of what goes into a step; `obs` is the observation before it, which the reward reads.
#[derive(Debug)]
pub struct InputCotangents<'a, R> {
    pub q: &'a mut [R],
    pub qd: &'a mut [R],
    pub obs: &'a mut [R],
    pub action: &'a mut [R],
}

/// One environment step: advances (q, qd), writes the next observation and returns the reward of the one before, whose
/// entries `before` gives.
#[inline(always)]
fn env_step<S: SimScalar, const B: usize, const D: usize>(
    task: &DflexTask,
    model: &Model<S>,
    q: &mut [S],
    qd: &mut [S],
    before: impl Fn(usize) -> S,
    raw: &[S],
    next_obs: &mut [S],
) -> S {
    let (mut action, mut forces) = ([S::zero(); D], [S::zero(); D]);
    let action = &mut action[..raw.len()];
    clip(raw, action);
    task.actuate(action, &mut forces);
    let mut work = Work::<S, B, D>::new(model);
    sim::step(model, &task.timing(), q, qd, &forces, &mut work);
    task.spec.observation.write(q, qd, action, next_obs);
    reward(&task.spec.terms, before, squares(action))
}

/// Adjoint of [`env_step`] at the state (q, qd) *before* the step: (`q_bar`, `qd_bar`) turn from cotangents of the
/// state after it, `obs_bar` from that of its observation into that of the one before, and `action_bar`, which holds
/// zeros, into that of the raw action.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a step's operands and the cotangents of its results")]
fn env_step_adjoint<S: SimScalar, const B: usize, const Q: usize, const D: usize, const KEPT: usize>(
    task: &DflexTask,
    model: &Model<S>,
    q: &[S],
    qd: &[S],
    before: impl Fn(usize) -> S,
    raw: &[S],
    q_bar: &mut [S],
    qd_bar: &mut [S],
    obs_bar: &mut [S],
    reward_bar: S,
    action_bar: &mut [S],
) {
    let (mut action, mut forces, mut forces_bar) = ([S::zero(); D], [S::zero(); D], [S::zero(); D]);
    let action = &mut action[..raw.len()];
    clip(raw, action);
    task.actuate(action, &mut forces);
    let (spec, timing) = (&task.spec, task.timing());
    let mut work = Work::<S, B, D>::new(model);
    let mut kept = [S::zero(); KEPT];
    let (mut next_q, mut next_qd) = ([S::zero(); Q], [S::zero(); D]);
    let (next_q, next_qd) = (&mut next_q[..q.len()], &mut next_qd[..qd.len()]);
    next_q.copy_from_slice(q);
    next_qd.copy_from_slice(qd);
    step_keeping(model, &timing, next_q, next_qd, &forces, &mut work, &mut kept);
    // The reward's share of the action's cotangent comes first, so that sums keep their order.
    let mut entries_bar = [S::zero(); MOST_ENTRIES];
    let entries_bar = &mut entries_bar[..obs_bar.len()];
    let squares_bar = reward_adjoint(&spec.terms, before, reward_bar, task.at_end(), entries_bar);
    squares_adjoint(action, squares_bar, action_bar);
    spec.observation.adjoint(next_q, next_qd, action, obs_bar, q_bar, qd_bar, action_bar);
    obs_bar.copy_from_slice(entries_bar);
    let mut cotangents = sim::Cotangents::<S, B, D>::zero();
    step_adjoint(model, &timing, q, qd, &forces, q_bar, qd_bar, &mut forces_bar, &mut work, &mut cotangents, &kept);
    task.actuate_adjoint(&forces_bar, action_bar);
    task.clip_adjoint(raw, action_bar);
}

/// One call of the adjoint.
struct Back<'a, R> {
    rows: usize,
    at: StepOperands<'a, R>,
    from: OutputCotangents<'a, R>,
    to: InputCotangents<'a, R>,
}

/// Row `i` of rows `width` apart: its first `n` numbers.
#[inline(always)]
pub(super) fn row<R>(rows: &[R], i: usize, width: usize, n: usize) -> &[R] {
    &rows[i * width..][..n]
}

/// The same to be written.
#[inline(always)]
pub(super) fn row_mut<R>(rows: &mut [R], i: usize, width: usize, n: usize) -> &mut [R] {
    &mut rows[i * width..][..n]
}

impl<R: Real + SimScalar> Back<'_, R> {
    #[inline(never)]
    fn one_by_one<const B: usize, const Q: usize, const D: usize, const KEPT: usize>(
        self,
        task: &DflexTask,
        model: &Model<R>,
    ) {
        let Back { rows, at, from, to } = self;
        let s = task.sizes;
        let [seen, entries, actions] = [at.obs, from.obs, at.action].map(|x| x.len() / rows.max(1));
        let mut obs = [R::zero(); MOST_ENTRIES];
        let obs = &mut obs[..s.obs];
        for i in 0..rows {
            let (q_bar, qd_bar) = (row_mut(to.q, i, s.nq, s.nq), row_mut(to.qd, i, s.nqd, s.nqd));
            q_bar.copy_from_slice(row(from.q, i, s.nq, s.nq));
            qd_bar.copy_from_slice(row(from.qd, i, s.nqd, s.nqd));
            obs.copy_from_slice(row(from.obs, i, entries, s.obs));
            let action_bar = row_mut(to.action, i, actions, actions);
            action_bar.fill(R::zero());
            env_step_adjoint::<R, B, Q, D, KEPT>(
                task,
                model,
                row(at.q, i, s.nq, s.nq),
                row(at.qd, i, s.nqd, s.nqd),
                #[inline(always)]
                |k| at.obs[i * seen + k],
                row(at.action, i, actions, s.act),
                q_bar,
                qd_bar,
                obs,
                from.reward[i],
                &mut action_bar[..s.act],
            );
            let to = row_mut(to.obs, i, entries, entries);
            to[..s.obs].copy_from_slice(obs);
            to[s.obs..].fill(R::zero());
        }
    }
}

impl Back<'_, f32> {
    /// Groups of [`WIDTH`] rows, as in [`Rows::step_in_lanes`].
    #[inline(always)]
    fn in_lanes<S: SimScalar + Lanes, const B: usize, const Q: usize, const D: usize, const KEPT: usize>(
        self,
        task: &DflexTask,
        model: &Model<S>,
    ) {
        let Back { rows, at, from, to } = self;
        let s = task.sizes;
        let [seen, entries, actions] = [at.obs.len(), from.obs.len(), at.action.len()].map(
            #[inline(always)]
            |n| n / rows.max(1),
        );
        let (mut q, mut qd) = ([S::zero(); Q], [S::zero(); D]);
        let (mut q_bar, mut qd_bar) = ([S::zero(); Q], [S::zero(); D]);
        let (mut raw, mut obs_bar) = ([S::zero(); D], [S::zero(); MOST_ENTRIES]);
        let mut first = 0;
        while first < rows {
            let count = (rows - first).min(WIDTH);
            let (q, qd, raw) = (&mut q[..s.nq], &mut qd[..s.nqd], &mut raw[..s.act]);
            let (q_bar, qd_bar, obs_bar) = (&mut q_bar[..s.nq], &mut qd_bar[..s.nqd], &mut obs_bar[..s.obs]);
            gather(&at.q[first * s.nq..], s.nq, count, q);
            gather(&at.qd[first * s.nqd..], s.nqd, count, qd);
            gather(&at.action[first * actions..], actions, count, raw);
            gather(&from.q[first * s.nq..], s.nq, count, q_bar);
            gather(&from.qd[first * s.nqd..], s.nqd, count, qd_bar);
            gather(&from.obs[first * entries..], entries, count, obs_bar);
            let mut reward_bar = [S::zero()];
            gather(&from.reward[first..], 1, count, &mut reward_bar);
            let mut action_bar = [S::zero(); D];
            env_step_adjoint::<S, B, Q, D, KEPT>(
                task,
                model,
                q,
                qd,
                #[inline(always)]
                |k| entry(at.obs, first, seen, k, count),
                raw,
                q_bar,
                qd_bar,
                obs_bar,
                reward_bar[0],
                &mut action_bar[..s.act],
            );
            scatter(q_bar, &mut to.q[first * s.nq..], s.nq, count);
            scatter(qd_bar, &mut to.qd[first * s.nqd..], s.nqd, count);
            scatter(&action_bar[..s.act], &mut to.action[first * actions..], actions, count);
            scatter(obs_bar, &mut to.obs[first * entries..], entries, count);
            first += count;
        }
    }

    /// # Safety
    /// The processor must have AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn in_avx2<const B: usize, const Q: usize, const D: usize, const KEPT: usize>(
        self,
        task: &DflexTask,
        model: &Model<Avx8>,
    ) {
        self.in_lanes::<Avx8, B, Q, D, KEPT>(task, model);
    }

    /// # Safety
    /// The processor must have AVX2, FMA and AVX-512 F and VL.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,avx512f,avx512vl")]
    fn in_avx512<const B: usize, const Q: usize, const D: usize, const KEPT: usize>(
        self,
        task: &DflexTask,
        model: &Model<Avx8>,
    ) {
        self.in_lanes::<Avx8, B, Q, D, KEPT>(task, model);
    }

    #[inline(never)]
    fn in_plain_lanes<S: SimScalar + Lanes, const B: usize, const Q: usize, const D: usize, const KEPT: usize>(
        self,
        task: &DflexTask,
        model: &Model<S>,
    ) {
        self.in_lanes::<S, B, Q, D, KEPT>(task, model);
    }
}

/// Slices of one call, cut to its rows.
pub(super) struct Rows<'a, R> {
    pub(super) q: &'a mut [R],
    pub(super) qd: &'a mut [R],
    pub(super) obs: &'a [R],
    pub(super) action: &'a [R],
    pub(super) next_obs: &'a mut [R],
    pub(super) reward: &'a mut [R],
}

impl<R: Real + SimScalar> Rows<'_, R> {
    #[inline(never)]
    fn step_one_by_one<const B: usize, const D: usize>(self, task: &DflexTask, model: &Model<R>) {
        let (s, rows) = (task.sizes, self.reward.len().max(1));
        let [seen, entries, actions] = [self.obs.len(), self.next_obs.len(), self.action.len()].map(|n| n / rows);
        for (i, reward) in self.reward.iter_mut().enumerate() {
            let next = row_mut(self.next_obs, i, entries, entries);
            next[s.obs..].fill(R::zero());
            *reward = env_step::<R, B, D>(
                task,
                model,
                row_mut(self.q, i, s.nq, s.nq),
                row_mut(self.qd, i, s.nqd, s.nqd),
                |k| self.obs[i * seen + k],
                row(self.action, i, actions, s.act),
                &mut next[..s.obs],
            );
        }
    }
}

impl Rows<'_, f32> {
    /// Groups of [`WIDTH`] rows; the last group repeats its first row in the lanes left over.
    #[inline(always)]
    fn step_in_lanes<S: SimScalar + Lanes, const B: usize, const Q: usize, const D: usize>(
        self,
        task: &DflexTask,
        model: &Model<S>,
    ) {
        let (s, rows) = (task.sizes, self.reward.len());
        let [seen, entries, actions] = [self.obs.len(), self.next_obs.len(), self.action.len()].map(
            #[inline(always)]
            |n| n / rows.max(1),
        );
        let (mut q, mut qd, mut raw) = ([S::zero(); Q], [S::zero(); D], [S::zero(); D]);
        let mut next = [S::zero(); MOST_ENTRIES];
        let mut first = 0;
        while first < rows {
            let count = (rows - first).min(WIDTH);
            let (q, qd, raw, next) = (&mut q[..s.nq], &mut qd[..s.nqd], &mut raw[..s.act], &mut next[..s.obs]);
            gather(&self.q[first * s.nq..], s.nq, count, q);
            gather(&self.qd[first * s.nqd..], s.nqd, count, qd);
            gather(&self.action[first * actions..], actions, count, raw);
            let obs = self.obs;
            let reward = env_step::<S, B, D>(
                task,
                model,
                q,
                qd,
                #[inline(always)]
                |k| entry(obs, first, seen, k, count),
                raw,
                next,
            );
            scatter(q, &mut self.q[first * s.nq..], s.nq, count);
            scatter(qd, &mut self.qd[first * s.nqd..], s.nqd, count);
            scatter(next, &mut self.next_obs[first * entries..], entries, count);
            scatter(&[reward], &mut self.reward[first..], 1, count);
            first += count;
        }
    }

    /// # Safety
    /// The processor must have AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn step_in_avx2<const B: usize, const Q: usize, const D: usize>(self, task: &DflexTask, model: &Model<Avx8>) {
        self.step_in_lanes::<Avx8, B, Q, D>(task, model);
    }

    /// The same with twice the registers.
    ///
    /// # Safety
    /// The processor must have AVX2, FMA and AVX-512 F and VL.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,avx512f,avx512vl")]
    fn step_in_avx512<const B: usize, const Q: usize, const D: usize>(self, task: &DflexTask, model: &Model<Avx8>) {
        self.step_in_lanes::<Avx8, B, Q, D>(task, model);
    }

    #[inline(never)]
    fn step_in_plain_lanes<S: SimScalar + Lanes, const B: usize, const Q: usize, const D: usize>(
        self,
        task: &DflexTask,
        model: &Model<S>,
    ) {
        self.step_in_lanes::<S, B, Q, D>(task, model);
    }
}

/// Columns of `count` rows, `stride` apart, into lanes.
#[inline(always)]
pub(super) fn gather<S: Lanes>(rows: &[f32], stride: usize, count: usize, into: &mut [S]) {
    let mut lane = [0.0; WIDTH];
    let mut starts = [0; WIDTH];
    for (k, start) in starts.iter_mut().enumerate() {
        *start = if k < count { k * stride } else { 0 };
    }
    for (i, into) in into.iter_mut().enumerate() {
        for (x, start) in lane.iter_mut().zip(starts) {
            *x = rows[start + i];
        }
        *into = S::from_array(lane);
    }
}

/// Column `k` of the rows from `first` on.
#[inline(always)]
fn entry<S: Lanes>(rows: &[f32], first: usize, stride: usize, k: usize, count: usize) -> S {
    let mut into = [S::zero()];
    gather(&rows[first * stride + k..], stride, count, &mut into);
    into[0]
}

/// The first `count` lanes back into rows, `stride` apart; zeros behind them.
#[inline(always)]
pub(super) fn scatter<S: Lanes>(lanes: &[S], rows: &mut [f32], stride: usize, count: usize) {
    for (i, lane) in lanes.iter().enumerate() {
        let lane = lane.to_array();
        for (k, x) in lane.into_iter().take(count).enumerate() {
            rows[k * stride + i] = x;
        }
    }
    for row in rows.chunks_exact_mut(stride).take(count) {
        row[lanes.len()..].fill(0.0);
    }
}

macro_rules! step_rows {
    ($task:ident, $rows:ident => $body:expr) => {
        fn step_rows(
            task: &Task,
            rows: usize,
            q: &mut [Self],
            qd: &mut [Self],
            obs: &[Self],
            action: &[Self],
            next_obs: &mut [Self],
            reward: &mut [Self],
        ) {
            let rows = Rows {
                q: &mut q[..rows * task.sizes.nq],
                qd: &mut qd[..rows * task.sizes.nqd],
                obs,
                action,
                next_obs,
                reward: &mut reward[..rows],
            };
            match &task.law {
                Law::Dflex(task) => {
                    let ($task, $rows) = (&**task, rows);
                    $body
                }
                Law::Mujoco(task) => <Self as MujocoReal>::step(task, rows),
            }
        }
    };
}

macro_rules! adjoint_rows {
    ($task:ident, $back:ident => $body:expr) => {
        fn adjoint_rows(
            task: &Task,
            rows: usize,
            at: StepOperands<'_, Self>,
            from: OutputCotangents<'_, Self>,
            to: InputCotangents<'_, Self>,
        ) {
            let ($task, $back) = (task.dflex(), Back { rows, at, from, to });
            $body
        }
    };
}

/// As [`for_size`] with the largest class, which has room for every robot: for number types that are not stepped often
/// enough to be compiled for every class. The results are the same bits.
macro_rules! for_largest {
    (<$b:ident, $q:ident, $d:ident, $kept:ident> => $body:expr) => {
        for_size!(2, $b, $q, $d, $kept, $body)
    };
}

macro_rules! one_by_one {
    ($($field:ident: $t:ty),*) => {$(
        impl EnvReal for $t {
            step_rows!(task, rows => {
                for_largest!(<B, _Q, D, _K> => rows.step_one_by_one::<B, D>(task, &task.$field))
            });
            adjoint_rows!(task, back => {
                for_largest!(<B, Q, D, K> => back.one_by_one::<B, Q, D, K>(task, &task.$field))
            });
        }
    )*};
}
one_by_one!(f64: f64, dual: Dual);

impl EnvReal for f32 {
    step_rows!(task, rows => {
        #[cfg(target_arch = "x86_64")]
        if let Some(model) = &task.avx {
            if task.class == 0 && avx512vl() {
                // SAFETY: just asked.
                return for_size!(0, B, Q, D, _K, unsafe { rows.step_in_avx512::<B, Q, D>(task, model) });
            }
            // SAFETY: the model exists only if the processor has the instructions.
            return for_size!(task.class, <B, Q, D, _K> => unsafe { rows.step_in_avx2::<B, Q, D>(task, model) });
        }
        for_largest!(<B, Q, D, _K> => rows.step_in_plain_lanes::<_, B, Q, D>(task, &task.lanes))
    });
    adjoint_rows!(task, back => {
        #[cfg(target_arch = "x86_64")]
        if let Some(model) = &task.avx {
            if task.class == 0 && avx512vl() {
                // SAFETY: just asked.
                return for_size!(0, B, Q, D, K, unsafe { back.in_avx512::<B, Q, D, K>(task, model) });
            }
            // SAFETY: the model exists only if the processor has the instructions.
            return for_size!(task.class, <B, Q, D, K> => unsafe { back.in_avx2::<B, Q, D, K>(task, model) });
        }
        for_largest!(<B, Q, D, K> => back.in_plain_lanes::<_, B, Q, D, K>(task, &task.lanes))
    });
}

/// Bytes of the stack that [`EnvReal::step_rows`] touches for robots of a class: the arrays of this file, of eight
/// lanes. A `Work` is there twice, as it is made and as it is used.
const fn step_stack<const B: usize, const Q: usize, const D: usize>() -> usize {
    2 * size_of::<Work<Lanes8, B, D>>() + (Q + 4 * D + MOST_ENTRIES) * size_of::<Lanes8>()
}

/// The same of [`EnvReal::adjoint_rows`].
const fn adjoint_stack<const B: usize, const Q: usize, const D: usize, const KEPT: usize>() -> usize {
    let twice = size_of::<Work<Lanes8, B, D>>() + size_of::<sim::Cotangents<Lanes8, B, D>>();
    2 * twice + (KEPT + 3 * Q + 8 * D + 2 * MOST_ENTRIES) * size_of::<Lanes8>()
}

// A worker has room for the largest class, and for what else stands on its stack.
const _: () = {
    const MOST: Size = CLASSES[CLASSES.len() - 1];
    let most = adjoint_stack::<{ MOST.bodies }, { MOST.coordinates }, { MOST.velocities }, { MOST.kept() }>();
    assert!(most + (512 << 10) <= team::STACK);
};

impl DflexTask {
    /// The class of sizes in which rows of single precision are computed here.
    fn class_of_lanes(&self) -> usize {
        #[cfg(target_arch = "x86_64")]
        if self.avx.is_some() {
            return self.class;
        }
        CLASSES.len() - 1
    }

    /// Bytes of the stack that a step of rows of single precision touches.
    pub(super) fn step_stack(&self) -> usize {
        for_size!(self.class_of_lanes(), <B, Q, D, _K> => step_stack::<B, Q, D>())
    }

    /// The same of its adjoint.
    pub(super) fn adjoint_stack(&self) -> usize {
        for_size!(self.class_of_lanes(), <B, Q, D, K> => adjoint_stack::<B, Q, D, K>())
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::device::philox::{Philox, Stream};

    const COUNT: usize = 11;

    /// (q, qd) of one step through `entry`.
    fn step(task: &DflexTask, entry: impl Fn(Rows<'_, f32>)) -> Vec<f32> {
        let random = Philox::new(1, Stream::Test);
        let s = task.sizes;
        let (mut q, mut qd) = (vec![0.0; COUNT * s.nq], vec![0.0; COUNT * s.nqd]);
        for e in 0..COUNT {
            let (q, qd) = (&mut q[e * s.nq..], &mut qd[e * s.nqd..]);
            task.reset_row(&random, 0, e as u32, q, qd);
            q[1] -= 0.06 * e as f32;
        }
        let (obs, action) = (vec![0.5; COUNT * s.obs], vec![0.3; COUNT * s.act]);
        let (mut next_obs, mut reward) = (vec![0.0; COUNT * s.obs], vec![0.0; COUNT]);
        entry(Rows {
            q: &mut q,
            qd: &mut qd,
            obs: &obs,
            action: &action,
            next_obs: &mut next_obs,
            reward: &mut reward,
        });
        [q, qd].concat()
    }

    /// Every way into the lanes computes the same: the plain one to round-off, the two AVX ones to the bit.
    #[test]
    fn entries_agree() {
        let task = Task::from_config(&Config::default()).unwrap();
        let task = task.dflex();
        assert_eq!(task.class, 0);
        let plain =
            step(task, |rows| for_largest!(<B, Q, D, _K> => rows.step_in_plain_lanes::<_, B, Q, D>(task, &task.lanes)));
        let Some(model) = &task.avx else { return };
        let avx2 = step(task, |rows| {
            // SAFETY: the model exists only if the processor has the instructions.
            for_size!(0, B, Q, D, _K, unsafe { rows.step_in_avx2::<B, Q, D>(task, model) })
        });
        for (a, b) in plain.iter().zip(&avx2) {
            assert!((a - b).abs() < 2e-4 * (1.0 + a.abs()), "{a} {b}");
        }
        if avx512vl() {
            let avx512 = step(task, |rows| {
                // SAFETY: just asked.
                for_size!(0, B, Q, D, _K, unsafe { rows.step_in_avx512::<B, Q, D>(task, model) })
            });
            assert!(avx2.iter().zip(&avx512).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}
