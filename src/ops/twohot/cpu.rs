//! CPU kernels of the distributional reward head.

use super::{Bins, Decode, ROWS, TwoHotDecode, TwoHotDecodeGrad, TwoHotLoss, TwoHotLossGrad, symexp, symlog};
use crate::device::Real;
use crate::device::cpu::vmath::sum_of;
use crate::tape::OpArgs;
use crate::tape::op::chunk;

/// Probabilities of one row of logits into `p`; returns log sum exp.
#[inline(always)]
fn softmax<F: Real>(logits: &[F], p: &mut [F]) -> F {
    let mut top = logits[0];
    for &x in logits {
        top = if x > top { x } else { top };
    }
    for (p, &x) in p.iter_mut().zip(logits) {
        *p = (x - top).exp();
    }
    let sum = sum_of(p, |x| x);
    let inv = F::one() / sum;
    for p in p.iter_mut() {
        *p *= inv;
    }
    top + sum.ln()
}

/// Expectation of the bins.
#[inline(always)]
fn expectation<F: Real>(bins: &Bins, p: &[F]) -> F {
    let mut sum = F::zero();
    for (i, p) in p.iter().enumerate() {
        sum += *p * bins.value::<F>(i);
    }
    sum
}

/// Writes or adds `f(i)` to every element.
#[inline(always)]
fn put<F: Real>(to: &mut [F], accumulate: bool, f: impl Fn(usize) -> F) {
    for (i, to) in to.iter_mut().enumerate() {
        *to = if accumulate { *to + f(i) } else { f(i) };
    }
}

impl TwoHotDecode {
    #[inline(always)]
    pub(super) fn run<F: Real>(&self, args: &OpArgs<F>, _phase: usize, task: usize) {
        let n = self.bins.count;
        let p = args.scratch(task * n..(task + 1) * n);
        let rows = chunk(args.out_len(0), ROWS, task);
        let y = args.out(0, rows.clone());
        for (y, r) in y.iter_mut().zip(rows) {
            softmax(&args.input(0)[r * n..][..n], p);
            let e = expectation(&self.bins, p);
            *y = match self.decode {
                Decode::Symexp => symexp(e),
                Decode::Symlog => e,
            };
        }
    }
}

impl TwoHotDecodeGrad {
    #[inline(always)]
    pub(super) fn run<F: Real>(&self, args: &OpArgs<F>, _phase: usize, task: usize) {
        let n = self.bins.count;
        let p = args.scratch(task * n..(task + 1) * n);
        for r in chunk(args.input(0).len(), ROWS, task) {
            softmax(&args.input(1)[r * n..][..n], p);
            let e = expectation(&self.bins, p);
            let slope = match self.decode {
                Decode::Symexp => e.abs().exp(),
                Decode::Symlog => F::one(),
            };
            let d = args.input(0)[r] * slope;
            put(args.out(0, r * n..(r + 1) * n), self.accumulate, |i| d * p[i] * (self.bins.value::<F>(i) - e));
        }
    }
}

impl TwoHotLoss {
    #[inline(always)]
    pub(super) fn run<F: Real>(&self, args: &OpArgs<F>, phase: usize, task: usize) {
        let n = self.bins.count;
        let total = args.input(1).len();
        let rows_at = total.div_ceil(ROWS) * n;
        if phase == 0 {
            let p = args.scratch(task * n..(task + 1) * n);
            let rows = chunk(total, ROWS, task);
            let ce = args.scratch(rows_at + rows.start..rows_at + rows.end);
            for (ce, r) in ce.iter_mut().zip(rows) {
                let logits = &args.input(0)[r * n..][..n];
                let (k, f) = self.bins.encode(symlog(args.input(1)[r]));
                // The weights of the target sum to one.
                *ce = softmax(logits, p) - ((F::one() - f) * logits[k] + f * logits[k + 1]);
            }
        } else {
            let ce = args.read_scratch(rows_at..rows_at + total);
            let batch = total / self.weights.len();
            let mut loss = F::zero();
            for (&w, ce) in self.weights.iter().zip(ce.chunks_exact(batch)) {
                loss += F::of(w) * sum_of(&ce[..batch], |x| x);
            }
            args.out_all(0)[0] = loss;
        }
    }
}

impl TwoHotLossGrad {
    #[inline(always)]
    pub(super) fn run<F: Real>(&self, args: &OpArgs<F>, _phase: usize, task: usize) {
        let n = self.bins.count;
        let total = args.input(2).len();
        let batch = total / self.weights.len();
        let p = args.scratch(task * n..(task + 1) * n);
        for r in chunk(total, ROWS, task) {
            softmax(&args.input(1)[r * n..][..n], p);
            let (k, f) = self.bins.encode(symlog(args.input(2)[r]));
            p[k] -= F::one() - f;
            p[k + 1] -= f;
            let d = args.input(0)[0] * F::of(self.weights[r / batch]);
            put(args.out(0, r * n..(r + 1) * n), self.accumulate, |i| d * p[i]);
        }
    }
}
