//! Weighted sums of squared errors: the world model's consistency and reward terms, the critics' regression.

pub(super) mod cuda;

use crate::device::Real;
use crate::device::cpu::vmath::{sum_of, sum_of_pairs};
use crate::device::cuda::Launch;
use crate::tape::cuda::Operands;
use crate::tape::op::chunk;
use crate::tape::{Adjoint, Op, OpArgs, Program, Val};

/// Elements a task sums.
pub(super) const CHUNK: usize = 4096;

/// Appends `sum_t weights[t] * sum_i (pred[t, i] - target[t, i])²`, a scalar `[1]`.
///
/// `pred` is cut into `weights.len()` equal leading slices. `target` has the length of `pred`, or of one slice, which
/// is then compared with every slice (an ensemble regressed to one target). No cotangent flows to the target.
pub fn squared_error(p: &mut Program, pred: Val, target: Val, weights: Vec<f64>) -> Val {
    let (n, t) = (p.len_of(pred), p.len_of(target));
    assert_eq!(n % weights.len(), 0, "invariant: slices are equal");
    assert!(t == n || t == n / weights.len(), "invariant: a target for every prediction");
    let out = p.real(&[1]);
    p.push(SquaredError { weights }, &[pred, target], &[out]);
    out
}

#[derive(Debug)]
struct SquaredError {
    weights: Vec<f64>,
}

/// Length of one slice and the chunks it is cut into.
pub(super) fn slices(len: usize, weights: &[f64]) -> (usize, usize) {
    let slice = len / weights.len();
    (slice, slice.div_ceil(CHUNK))
}

pub(super) fn count(shape: &[usize]) -> usize {
    shape.iter().product()
}

impl SquaredError {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, phase: usize, task: usize) {
        let (pred, target) = (args.input(0), args.input(1));
        let (slice, chunks) = slices(pred.len(), &self.weights);
        if phase == 0 {
            let (t, r) = (task / chunks, chunk(slice, CHUNK, task % chunks));
            let p = &pred[t * slice..][r.clone()];
            let q = &target[if target.len() == slice { 0 } else { t * slice }..][r];
            let s = sum_of_pairs(p, q, |p, q| (p - q) * (p - q));
            args.scratch(task..task + 1)[0] = s * F::of(self.weights[t]);
        } else {
            let n = self.weights.len() * chunks;
            let parts = args.read_scratch(0..n);
            args.out_all(0)[0] = sum_of(parts, |x| x);
        }
    }
}

// SAFETY: tasks write their own partial sums, which the one task of the last phase adds.
unsafe impl Op for SquaredError {
    fn name(&self) -> &'static str {
        "squared_error"
    }
    fn workspace(&self, i: &[Vec<usize>], _: &[Vec<usize>]) -> usize {
        self.weights.len() * slices(count(&i[0]), &self.weights).1
    }
    fn phases(&self, i: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![self.weights.len() * slices(count(&i[0]), &self.weights).1, 1]
    }
    fn adjoint(&self, a: &mut Adjoint) {
        let Some(c) = a.cotangent(0) else { return };
        let (pred, target) = (a.input(0), a.input(1));
        if let Some(s) = a.sink(0) {
            let op = SquaredErrorGrad { weights: self.weights.clone(), accumulate: s.accumulate };
            a.push(op, &[c, pred, target], &[s.val]);
        }
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// `dpred = 2 weight_t (pred - target) c`.
#[derive(Debug)]
struct SquaredErrorGrad {
    weights: Vec<f64>,
    accumulate: bool,
}

impl SquaredErrorGrad {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, task: usize) {
        let (c, pred, target) = (args.input(0)[0], args.input(1), args.input(2));
        let (slice, chunks) = slices(pred.len(), &self.weights);
        let (t, r) = (task / chunks, chunk(slice, CHUNK, task % chunks));
        let p = &pred[t * slice..][r.clone()];
        let q = &target[if target.len() == slice { 0 } else { t * slice }..][r.clone()];
        let w = F::of(2.0 * self.weights[t]) * c;
        let out = args.out(0, t * slice + r.start..t * slice + r.end);
        for ((o, p), q) in out.iter_mut().zip(p).zip(q) {
            let g = w * (*p - *q);
            *o = if self.accumulate { *o + g } else { g };
        }
    }
}

// SAFETY: each task writes its own chunk of the output and scratch, and only reads inputs.
unsafe impl Op for SquaredErrorGrad {
    fn name(&self) -> &'static str {
        "squared_error_grad"
    }
    fn phases(&self, i: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![self.weights.len() * slices(count(&i[1]), &self.weights).1]
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}
