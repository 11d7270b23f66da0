//! Running mean and variance, and normalisation by them.
//!
//! The parallel-variance update of Chan et al.: with batch mean m, population variance v and size k,
//! `d = m - mean; tot = n + k; mean += d k / tot; var = (var n + v k + d² n k / tot) / tot; n = tot`.
//! Statistics start at mean 0, variance 1, count 1e-4. Before an update the count is multiplied by `decay`: 1 never
//! forgets, 0.99 remembers about a hundred batches.

mod cuda;

use crate::device::Real;
use crate::device::cuda::Launch;
use crate::device::numerics::{NORMALISED_BOUND, STATS_EPSILON};
use crate::tape::cuda::Operands;
use crate::tape::{Adjoint, Op, OpArgs, Program, Val};

/// Count before any data.
pub const START_COUNT: f64 = 1e-4;

/// Mean, variance and count of one quantity, as three numbers of a variable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunningScale<F> {
    mean: F,
    var: F,
    count: F,
}

impl<F: Real> RunningScale<F> {
    #[inline(always)]
    pub fn read(s: &[F]) -> Self {
        Self { mean: s[0], var: s[1], count: s[2] }
    }

    #[inline(always)]
    pub fn write(&self, s: &mut [F]) {
        s.copy_from_slice(&[self.mean, self.var, self.count]);
    }

    #[inline(always)]
    pub fn update(&mut self, x: &[F], decay: f64) {
        self.update_strided(x, 0, 1, decay);
    }

    /// Updates by `x[from], x[from + step], ...`.
    #[inline(always)]
    pub fn update_strided(&mut self, x: &[F], from: usize, step: usize, decay: f64) {
        let each = || x.iter().skip(from).step_by(step);
        let k = F::of(each().count() as f64);
        let mut sum = F::zero();
        each().for_each(|&x| sum += x);
        let m = sum / k;
        let mut sum = F::zero();
        each().for_each(|&x| sum += (x - m) * (x - m));
        let v = sum / k;
        let n = self.count * F::of(decay);
        let (d, tot) = (m - self.mean, n + k);
        self.mean += d * k / tot;
        self.var = (self.var * n + v * k + d * d * n * k / tot) / tot;
        self.count = tot;
    }

    #[inline(always)]
    pub fn deviation(&self) -> F {
        (self.var + F::of(STATS_EPSILON)).sqrt()
    }
}

/// Appends an update of `stats` `[D, 3]` (mean, variance, count of each column) by `x` `[.., D]`.
pub fn update_stats(p: &mut Program, x: Val, stats: Val, decay: f64) {
    p.push(UpdateStats { decay }, &[x], &[stats]);
}

#[derive(Debug)]
struct UpdateStats {
    decay: f64,
}

impl UpdateStats {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, column: usize) {
        let out = args.out(0, 3 * column..3 * column + 3);
        let mut s = RunningScale::read(out);
        s.update_strided(args.input(0), column, args.out_len(0) / 3, self.decay);
        s.write(out);
    }
}

// SAFETY: each task writes its own column's statistics.
unsafe impl Op for UpdateStats {
    fn name(&self) -> &'static str {
        "update_stats"
    }
    fn phases(&self, _: &[Vec<usize>], o: &[Vec<usize>]) -> Vec<usize> {
        vec![o[0].iter().product::<usize>() / 3]
    }
    fn differentiable(&self) -> bool {
        false
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// Appends `clamp((x - mean) / sqrt(var + 1e-5), -5, 5)` by the columns of `stats` `[D, 3]`; without `center` the mean
/// is not subtracted, so that zero stays zero. To the reverse pass the statistics are constants, and a clamped number
/// has no derivative.
pub fn normalise(p: &mut Program, x: Val, stats: Val, center: bool) -> Val {
    normalise_into(p, x, stats, center, None)
}

/// [`normalise`] with the result in `out`, if given.
pub fn normalise_into(p: &mut Program, x: Val, stats: Val, center: bool, out: Option<Val>) -> Val {
    let shape = p.shape(x).to_vec();
    let y = out.unwrap_or_else(|| p.real(&shape));
    p.push(Normalise { center }, &[x, stats], &[y]);
    y
}

#[derive(Debug)]
struct Normalise {
    center: bool,
}

impl Normalise {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        let (x, stats) = (args.input(0), args.input(1));
        let d = stats.len() / 3;
        for column in 0..d {
            let s = RunningScale::read(&stats[3 * column..3 * column + 3]);
            let (mean, dev) = (if self.center { s.mean } else { F::zero() }, s.deviation());
            let out = args.out_all(0).iter_mut().skip(column).step_by(d);
            for (o, x) in out.zip(x.iter().skip(column).step_by(d)) {
                *o = ((*x - mean) / dev).max(F::of(-NORMALISED_BOUND)).min(F::of(NORMALISED_BOUND));
            }
        }
    }
}

// SAFETY: a phase has one task.
unsafe impl Op for Normalise {
    fn name(&self) -> &'static str {
        "normalise"
    }
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![1]
    }
    fn adjoint(&self, a: &mut Adjoint) {
        let (Some(c), Some(s)) = (a.cotangent(0), a.sink(0)) else { return };
        let inputs = [c, a.input(1), a.output(0)];
        a.push(NormaliseGrad { accumulate: s.accumulate }, &inputs, &[s.val]);
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

#[derive(Debug)]
struct NormaliseGrad {
    accumulate: bool,
}

impl NormaliseGrad {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        let (c, stats, y) = (args.input(0), args.input(1), args.input(2));
        let d = stats.len() / 3;
        let limit = F::of(NORMALISED_BOUND);
        for column in 0..d {
            let dev = RunningScale::read(&stats[3 * column..3 * column + 3]).deviation();
            let out = args.out_all(0).iter_mut().skip(column).step_by(d);
            let given = c.iter().zip(y).skip(column).step_by(d);
            for (o, (c, y)) in out.zip(given) {
                let g = if y.abs() < limit { *c / dev } else { F::zero() };
                *o = if self.accumulate { *o + g } else { g };
            }
        }
    }
}

// SAFETY: a phase has one task.
unsafe impl Op for NormaliseGrad {
    fn name(&self) -> &'static str {
        "normalise_grad"
    }
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![1]
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}
