//! Rows of environments: `f32` eight at a time, the other number types one by one. Nothing here allocates.

use super::task::{REWARD_ENTRIES, StepCotangents, env_step, env_step_adjoint, row};
use super::{ACT, Ant, NQ, NQD, OBS};
use crate::device::cpu::lanes::{Lanes, WIDTH};
use crate::device::{Dual, Real};
use crate::sim::{Model, Number};

#[cfg(target_arch = "x86_64")]
use crate::device::cpu::lanes::{Avx8, avx512vl};

/// A number type environments can be stepped in.
pub trait EnvReal: Real {
    /// Steps `rows` environments: `q` (rows x 15) and `qd` (rows x 14) advance in place, `next_obs` (rows x 37) and
    /// `reward` (rows) are written. `obs` (rows x 37) is the observation before the step, `action` (rows x 8) is raw.
    ///
    /// A row's result depends on that row alone, whatever the number of rows and the row's place among them.
    ///
    /// # Panics
    /// If a slice is shorter than `rows` rows.
    #[allow(clippy::too_many_arguments)]
    fn step_rows(
        ant: &Ant,
        rows: usize,
        q: &mut [Self],
        qd: &mut [Self],
        obs: &[Self],
        action: &[Self],
        next_obs: &mut [Self],
        reward: &mut [Self],
    );

    /// Adjoint of [`EnvReal::step_rows`]: cotangents of what went into a step of `rows` environments, from those of what
    /// came out. `at` holds the operands of the step; `from` is read, `to` is written.
    ///
    /// # Panics
    /// If a slice is shorter than `rows` rows.
    fn adjoint_rows(ant: &Ant, rows: usize, at: Operands<'_, Self>, from: Results<'_, Self>, to: Cotangents<'_, Self>);
}

/// What goes into a step: `q` (rows x 15), `qd` (rows x 14), raw `action` (rows x 8).
#[derive(Clone, Copy, Debug)]
pub struct Operands<'a, R> {
    pub q: &'a [R],
    pub qd: &'a [R],
    pub action: &'a [R],
}

/// Cotangents of what comes out of a step: of the new `q`, `qd`, observation (rows x 37) and `reward` (rows).
#[derive(Clone, Copy, Debug)]
pub struct Results<'a, R> {
    pub q: &'a [R],
    pub qd: &'a [R],
    pub obs: &'a [R],
    pub reward: &'a [R],
}

/// Cotangents of what goes into a step; `obs` (rows x 37) is the observation before it, which the reward reads.
#[derive(Debug)]
pub struct Cotangents<'a, R> {
    pub q: &'a mut [R],
    pub qd: &'a mut [R],
    pub obs: &'a mut [R],
    pub action: &'a mut [R],
}

/// One call of the adjoint.
struct Back<'a, R> {
    rows: usize,
    at: Operands<'a, R>,
    from: Results<'a, R>,
    to: Cotangents<'a, R>,
}

impl<R: Real + Number> Back<'_, R> {
    fn one_by_one(self, ant: &Ant, model: &Model<R>) {
        let Back { rows, at, from, to } = self;
        to.obs[..rows * OBS].fill(R::zero());
        for i in 0..rows {
            let (q, qd) = (row::<R, NQ>(&at.q[i * NQ..]), row::<R, NQD>(&at.qd[i * NQD..]));
            let state = (row(&from.q[i * NQ..]), row(&from.qd[i * NQD..]));
            let (action, obs) = (row(&at.action[i * ACT..]), row(&from.obs[i * OBS..]));
            let c = env_step_adjoint(ant, model, &q, &qd, &action, state, &obs, from.reward[i]);
            to.q[i * NQ..][..NQ].copy_from_slice(&c.q);
            to.qd[i * NQD..][..NQD].copy_from_slice(&c.qd);
            to.action[i * ACT..][..ACT].copy_from_slice(&c.action);
            for (k, x) in REWARD_ENTRIES.into_iter().zip(c.entries) {
                to.obs[i * OBS + k] = x;
            }
        }
    }
}

impl Back<'_, f32> {
    /// Groups of [`WIDTH`] rows, as in [`Rows::step_in_lanes`].
    #[inline(always)]
    fn in_lanes<S: Number + Lanes>(self, ant: &Ant, model: &Model<S>) {
        let Back { rows, at, from, to } = self;
        to.obs[..rows * OBS].fill(0.0);
        let mut first = 0;
        while first < rows {
            let count = (rows - first).min(WIDTH);
            let q = gather::<S, NQ>(&at.q[first * NQ..], NQ, count);
            let qd = gather::<S, NQD>(&at.qd[first * NQD..], NQD, count);
            let action = gather::<S, ACT>(&at.action[first * ACT..], ACT, count);
            let q_bar = gather::<S, NQ>(&from.q[first * NQ..], NQ, count);
            let qd_bar = gather::<S, NQD>(&from.qd[first * NQD..], NQD, count);
            let obs_bar = gather::<S, OBS>(&from.obs[first * OBS..], OBS, count);
            let [reward_bar] = gather::<S, 1>(&from.reward[first..], 1, count);
            let StepCotangents { q, qd, entries, action } =
                env_step_adjoint(ant, model, &q, &qd, &action, (q_bar, qd_bar), &obs_bar, reward_bar);
            scatter(&q, &mut to.q[first * NQ..], count);
            scatter(&qd, &mut to.qd[first * NQD..], count);
            scatter(&action, &mut to.action[first * ACT..], count);
            let entries = entries.map(S::to_array);
            for lane in 0..count {
                for (k, x) in REWARD_ENTRIES.into_iter().zip(&entries) {
                    to.obs[(first + lane) * OBS + k] = x[lane];
                }
            }
            first += count;
        }
    }

    /// # Safety
    /// The processor must have AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn in_avx2(self, ant: &Ant, model: &Model<Avx8>) {
        self.in_lanes(ant, model);
    }

    /// # Safety
    /// The processor must have AVX2, FMA and AVX-512 F and VL.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,avx512f,avx512vl")]
    fn in_avx512(self, ant: &Ant, model: &Model<Avx8>) {
        self.in_lanes(ant, model);
    }
}

/// Slices of one call, cut to its rows.
struct Rows<'a, R> {
    q: &'a mut [R],
    qd: &'a mut [R],
    obs: &'a [R],
    action: &'a [R],
    next_obs: &'a mut [R],
    reward: &'a mut [R],
}

impl<R: Real + Number> Rows<'_, R> {
    fn step_one_by_one(self, ant: &Ant, model: &Model<R>) {
        for (i, reward) in self.reward.iter_mut().enumerate() {
            let (q, qd) = (&mut self.q[i * NQ..][..NQ], &mut self.qd[i * NQD..][..NQD]);
            let (mut x, mut xd) = (row::<R, NQ>(q), row::<R, NQD>(qd));
            let action = row::<R, ACT>(&self.action[i * ACT..]);
            let entries = REWARD_ENTRIES.map(|k| self.obs[i * OBS + k]);
            let (next, r) = env_step(ant, model, &mut x, &mut xd, entries, &action);
            q.copy_from_slice(&x);
            qd.copy_from_slice(&xd);
            self.next_obs[i * OBS..][..OBS].copy_from_slice(&next);
            *reward = r;
        }
    }
}

impl Rows<'_, f32> {
    /// Groups of [`WIDTH`] rows; the last group repeats its first row in the lanes left over.
    #[inline(always)]
    fn step_in_lanes<S: Number + Lanes>(self, ant: &Ant, model: &Model<S>) {
        let rows = self.reward.len();
        let mut first = 0;
        while first < rows {
            let count = (rows - first).min(WIDTH);
            let mut q = gather::<S, NQ>(&self.q[first * NQ..], NQ, count);
            let mut qd = gather::<S, NQD>(&self.qd[first * NQD..], NQD, count);
            let action = gather::<S, ACT>(&self.action[first * ACT..], ACT, count);
            let entry = |k: usize| gather::<S, 1>(&self.obs[first * OBS + k..], OBS, count)[0];
            let [a, b, c, d] = REWARD_ENTRIES;
            let entries = [entry(a), entry(b), entry(c), entry(d)];
            let (next, reward) = env_step(ant, model, &mut q, &mut qd, entries, &action);
            scatter(&q, &mut self.q[first * NQ..], count);
            scatter(&qd, &mut self.qd[first * NQD..], count);
            scatter(&next, &mut self.next_obs[first * OBS..], count);
            scatter(&[reward], &mut self.reward[first..], count);
            first += count;
        }
    }

    /// # Safety
    /// The processor must have AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn step_in_avx2(self, ant: &Ant, model: &Model<Avx8>) {
        self.step_in_lanes(ant, model);
    }

    /// The same with twice the registers.
    ///
    /// # Safety
    /// The processor must have AVX2, FMA and AVX-512 F and VL.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,avx512f,avx512vl")]
    fn step_in_avx512(self, ant: &Ant, model: &Model<Avx8>) {
        self.step_in_lanes(ant, model);
    }
}

/// Columns of `count` rows into lanes.
#[inline(always)]
fn gather<S: Lanes, const N: usize>(rows: &[f32], stride: usize, count: usize) -> [S; N] {
    let mut lanes = [[0.0; WIDTH]; N];
    for k in 0..WIDTH {
        let start = if k < count { k * stride } else { 0 };
        for (lane, &x) in lanes.iter_mut().zip(&rows[start..][..N]) {
            lane[k] = x;
        }
    }
    lanes.map(S::from_array)
}

/// The first `count` lanes back into rows.
#[inline(always)]
fn scatter<S: Lanes, const N: usize>(lanes: &[S; N], rows: &mut [f32], count: usize) {
    let lanes = lanes.map(S::to_array);
    for (k, row) in rows.chunks_exact_mut(N).take(count).enumerate() {
        for (x, lane) in row.iter_mut().zip(&lanes) {
            *x = lane[k];
        }
    }
}

macro_rules! step_rows {
    ($ant:ident, $rows:ident => $body:expr) => {
        fn step_rows(
            $ant: &Ant,
            rows: usize,
            q: &mut [Self],
            qd: &mut [Self],
            obs: &[Self],
            action: &[Self],
            next_obs: &mut [Self],
            reward: &mut [Self],
        ) {
            let $rows = Rows {
                q: &mut q[..rows * NQ],
                qd: &mut qd[..rows * NQD],
                obs: &obs[..rows * OBS],
                action: &action[..rows * ACT],
                next_obs: &mut next_obs[..rows * OBS],
                reward: &mut reward[..rows],
            };
            $body
        }
    };
}

macro_rules! adjoint_rows {
    ($ant:ident, $back:ident => $body:expr) => {
        fn adjoint_rows(
            $ant: &Ant,
            rows: usize,
            at: Operands<'_, Self>,
            from: Results<'_, Self>,
            to: Cotangents<'_, Self>,
        ) {
            let $back = Back { rows, at, from, to };
            $body
        }
    };
}

impl EnvReal for f64 {
    step_rows!(ant, rows => rows.step_one_by_one(ant, &ant.f64));
    adjoint_rows!(ant, back => back.one_by_one(ant, &ant.f64));
}

impl EnvReal for Dual {
    step_rows!(ant, rows => rows.step_one_by_one(ant, &ant.dual));
    adjoint_rows!(ant, back => back.one_by_one(ant, &ant.dual));
}

impl EnvReal for f32 {
    step_rows!(ant, rows => {
        #[cfg(target_arch = "x86_64")]
        if let Some(model) = &ant.avx {
            if avx512vl() {
                // SAFETY: just asked.
                return unsafe { rows.step_in_avx512(ant, model) };
            }
            // SAFETY: the model exists only if the processor has the instructions.
            return unsafe { rows.step_in_avx2(ant, model) };
        }
        rows.step_in_lanes(ant, &ant.lanes);
    });
    adjoint_rows!(ant, back => {
        #[cfg(target_arch = "x86_64")]
        if let Some(model) = &ant.avx {
            if avx512vl() {
                // SAFETY: just asked.
                return unsafe { back.in_avx512(ant, model) };
            }
            // SAFETY: the model exists only if the processor has the instructions.
            return unsafe { back.in_avx2(ant, model) };
        }
        back.in_lanes(ant, &ant.lanes);
    });
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::device::philox::{Philox, Stream};
    use crate::env::ant::{AntSettings, reset_row};

    const COUNT: usize = 11;

    /// (q, qd) of one step through `entry`.
    fn step(ant: &Ant, entry: impl Fn(Rows<'_, f32>)) -> Vec<f32> {
        let random = Philox::new(1, Stream::Test);
        let (mut q, mut qd) = (vec![0.0; COUNT * NQ], vec![0.0; COUNT * NQD]);
        for e in 0..COUNT {
            reset_row(ant, &random, 0, e as u32, &mut q[e * NQ..], &mut qd[e * NQD..]);
            q[e * NQ + 1] -= 0.06 * e as f32;
        }
        let (obs, action) = (vec![0.5; COUNT * OBS], vec![0.3; COUNT * ACT]);
        let (mut next_obs, mut reward) = (vec![0.0; COUNT * OBS], vec![0.0; COUNT]);
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
        let ant = Ant::new(AntSettings::default());
        let plain = step(&ant, |rows| rows.step_in_lanes(&ant, &ant.lanes));
        let Some(model) = &ant.avx else { return };
        // SAFETY: the model exists only if the processor has the instructions.
        let avx2 = step(&ant, |rows| unsafe { rows.step_in_avx2(&ant, model) });
        for (a, b) in plain.iter().zip(&avx2) {
            assert!((a - b).abs() < 2e-4 * (1.0 + a.abs()), "{a} {b}");
        }
        if avx512vl() {
            // SAFETY: just asked.
            let avx512 = step(&ant, |rows| unsafe { rows.step_in_avx512(&ant, model) });
            assert!(avx2.iter().zip(&avx512).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}
