//! Rows of environments under MuJoCo's law: `f32` eight at a time, the other number types one by one. Nothing here
//! allocates.

use super::formula::Nothing;
use super::reading::{MOST_READINGS, Sight, look};
use super::start::Room;
use super::{Compiled, MOST_COORDINATES, MOST_SENSORS, MOST_VELOCITIES, MujocoTask};
use crate::device::cpu::lanes::{Lanes, WIDTH};
use crate::device::cpu::{lanes::Lanes8, team};
use crate::device::{Dual, Real, Scalar};
use crate::env::dflex::clip;
use crate::env::rows::{Rows, gather, row, row_mut, scatter};
use crate::env::task::MOST_ENTRIES;
use crate::for_mujoco_size;
use crate::sim::SimScalar;
use crate::sim::mujoco::size::CLASSES;
use crate::sim::mujoco::{Scratch, step};

#[cfg(target_arch = "x86_64")]
use crate::device::cpu::lanes::Avx8;

/// One environment step: advances (q, qd), writes the observation after it and returns the rewards of its control
/// steps, added.
#[inline(always)]
fn env_step<S: SimScalar, const B: usize, const D: usize, const R: usize>(
    task: &MujocoTask,
    compiled: &Compiled<S>,
    q: &mut [S],
    qd: &mut [S],
    raw: &[S],
    next_obs: &mut [S],
    room: &mut Scratch<S, B, D, R>,
) -> S {
    let (spec, law) = (&task.spec, &compiled.law);
    let mut action = [S::zero(); MOST_VELOCITIES];
    let action = &mut action[..raw.len()];
    clip(raw, action);
    let mut read = [S::zero(); MOST_READINGS];
    let mut total = S::zero();
    for _ in 0..spec.repeat {
        for _ in 0..spec.substeps {
            step(law, &mut q[..law.model.coordinates], qd, action, room);
        }
        let mut touch = [S::zero(); MOST_SENSORS];
        compiled.feel(room, &mut touch);
        look(law, q, qd, &mut room.work);
        Sight { law, q, qd, action, touch: &touch, work: &room.work }.read(&spec.readings, &mut read);
        total += spec.reward.value(&read, &[], &mut Nothing);
    }
    for (into, f) in next_obs.iter_mut().zip(&spec.observation) {
        *into = f.value(&read, &[], &mut Nothing);
    }
    total
}

impl MujocoTask {
    #[inline(never)]
    fn one_by_one<const B: usize, const D: usize, const R: usize>(&self, rows: Rows<'_, f64>) {
        let (s, n) = (self.sizes, rows.reward.len().max(1));
        let [entries, actions] = [rows.next_obs.len(), rows.action.len()].map(|x| x / n);
        let mut room = Scratch::<f64, B, D, R>::new(&self.f64.law);
        for (i, reward) in rows.reward.iter_mut().enumerate() {
            let next = row_mut(rows.next_obs, i, entries, entries);
            next[s.obs..].fill(0.0);
            *reward = env_step(
                self,
                &self.f64,
                row_mut(rows.q, i, s.nq, s.nq),
                row_mut(rows.qd, i, s.nqd, s.nqd),
                row(rows.action, i, actions, s.act),
                &mut next[..s.obs],
                &mut room,
            );
        }
    }

    /// Groups of [`WIDTH`] rows; the last group repeats its first row in the lanes left over.
    #[inline(always)]
    fn in_lanes<S: SimScalar + Lanes, const B: usize, const D: usize, const R: usize>(
        &self,
        compiled: &Compiled<S>,
        rows: Rows<'_, f32>,
    ) {
        let (s, n) = (self.sizes, rows.reward.len());
        let (entries, actions) = (rows.next_obs.len() / n.max(1), rows.action.len() / n.max(1));
        let (mut q, mut qd) = ([S::zero(); MOST_COORDINATES], [S::zero(); D]);
        let (mut raw, mut next) = ([S::zero(); MOST_VELOCITIES], [S::zero(); MOST_ENTRIES]);
        let mut room = Scratch::<S, B, D, R>::new(&compiled.law);
        let mut first = 0;
        while first < n {
            let count = (n - first).min(WIDTH);
            let (q, qd) = (&mut q[..s.nq], &mut qd[..s.nqd]);
            let (raw, next) = (&mut raw[..s.act], &mut next[..s.obs]);
            gather(&rows.q[first * s.nq..], s.nq, count, q);
            gather(&rows.qd[first * s.nqd..], s.nqd, count, qd);
            gather(&rows.action[first * actions..], actions, count, raw);
            let reward = env_step(self, compiled, q, qd, raw, next, &mut room);
            scatter(q, &mut rows.q[first * s.nq..], s.nq, count);
            scatter(qd, &mut rows.qd[first * s.nqd..], s.nqd, count);
            scatter(next, &mut rows.next_obs[first * entries..], entries, count);
            scatter(&[reward], &mut rows.reward[first..], 1, count);
            first += count;
        }
    }

    /// # Safety
    /// The processor must have AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn in_avx2<const B: usize, const D: usize, const R: usize>(&self, compiled: &Compiled<Avx8>, rows: Rows<'_, f32>) {
        self.in_lanes::<Avx8, B, D, R>(compiled, rows);
    }

    #[inline(never)]
    fn in_plain_lanes<const B: usize, const D: usize, const R: usize>(&self, rows: Rows<'_, f32>) {
        self.in_lanes::<Lanes8, B, D, R>(&self.lanes, rows);
    }

    /// The class of sizes in which rows of single precision are computed here: without AVX2 the largest, which has
    /// room for every robot, so that one number type less is compiled for every class.
    fn class_of_lanes(&self) -> usize {
        #[cfg(target_arch = "x86_64")]
        if self.avx.is_some() {
            return self.class;
        }
        CLASSES.len() - 1
    }

    /// Bytes of the stack that a step of rows of single precision touches, or a start.
    pub(in crate::env) fn step_stack(&self) -> usize {
        for_mujoco_size!(self.class_of_lanes(), <B, D, R> => step_stack::<B, D, R>()).max(START_STACK)
    }
}

/// Scratch is there twice, as it is made and as it is used.
const fn step_stack<const B: usize, const D: usize, const R: usize>() -> usize {
    let arrays = MOST_COORDINATES + 4 * MOST_VELOCITIES + MOST_ENTRIES + MOST_READINGS;
    2 * size_of::<Scratch<Lanes8, B, D, R>>() + arrays * size_of::<Lanes8>()
}

/// The same of a start.
pub(in crate::env) const START_STACK: usize =
    2 * size_of::<Room>() + (4 * MOST_COORDINATES + 2 * MOST_READINGS + MOST_ENTRIES) * size_of::<f64>();

// A worker has room for the largest class, and for what else stands on its stack.
const _: () = {
    const MOST: crate::sim::mujoco::size::Size = CLASSES[CLASSES.len() - 1];
    let most = step_stack::<{ MOST.links }, { MOST.velocities }, { MOST.rows }>();
    assert!(most + (512 << 10) <= team::STACK);
};

/// A number type that rows can be stepped in under this law.
pub(in crate::env) trait MujocoReal: Real {
    fn step(task: &MujocoTask, rows: Rows<'_, Self>);
}

/// As [`for_mujoco_size`] with the largest class, for what is not stepped often enough to be compiled for every class.
macro_rules! for_largest {
    (<$b:ident, $d:ident, $r:ident> => $body:expr) => {
        for_mujoco_size!(3, $b, $d, $r, $body)
    };
}

impl MujocoReal for f32 {
    fn step(task: &MujocoTask, rows: Rows<'_, f32>) {
        #[cfg(target_arch = "x86_64")]
        if let Some(compiled) = &task.avx {
            // SAFETY: it exists only if the processor has the instructions.
            return for_mujoco_size!(task.class, <B, D, R> => unsafe { task.in_avx2::<B, D, R>(compiled, rows) });
        }
        for_largest!(<B, D, R> => task.in_plain_lanes::<B, D, R>(rows));
    }
}

impl MujocoReal for f64 {
    fn step(task: &MujocoTask, rows: Rows<'_, f64>) {
        for_largest!(<B, D, R> => task.one_by_one::<B, D, R>(rows));
    }
}

/// Row by row in `f64`: what a step gives has no derivative.
impl MujocoReal for Dual {
    fn step(task: &MujocoTask, rows: Rows<'_, Dual>) {
        let (s, n) = (task.sizes, rows.reward.len().max(1));
        let [entries, actions] = [rows.next_obs.len(), rows.action.len()].map(|x| x / n);
        let (mut q, mut qd) = ([0.0; MOST_COORDINATES], [0.0; MOST_VELOCITIES]);
        let (mut action, mut obs) = ([0.0; MOST_VELOCITIES], [0.0; MOST_ENTRIES]);
        let get = |to: &mut [f64], from: &[Dual]| to.iter_mut().zip(from).for_each(|(to, x)| *to = x.value());
        let put = |to: &mut [Dual], from: &[f64]| to.iter_mut().zip(from).for_each(|(to, &x)| *to = Dual::of(x));
        for (i, total) in rows.reward.iter_mut().enumerate() {
            let (own_q, own_qd) = (row_mut(rows.q, i, s.nq, s.nq), row_mut(rows.qd, i, s.nqd, s.nqd));
            let (q, qd, action) = (&mut q[..s.nq], &mut qd[..s.nqd], &mut action[..s.act]);
            get(q, own_q);
            get(qd, own_qd);
            get(action, row(rows.action, i, actions, s.act));
            let (obs, mut reward) = (&mut obs[..s.obs], [0.0]);
            let one = Rows { q: &mut *q, qd: &mut *qd, obs: &[], action, next_obs: &mut *obs, reward: &mut reward };
            f64::step(task, one);
            put(own_q, q);
            put(own_qd, qd);
            let next = row_mut(rows.next_obs, i, entries, entries);
            put(&mut next[..s.obs], obs);
            next[s.obs..].fill(Dual::zero());
            *total = Dual::of(reward[0]);
        }
    }
}
