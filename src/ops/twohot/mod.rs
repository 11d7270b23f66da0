//! Distributional reward head: logits over bins that stand for symlog rewards.
//!
//! Bin i of n stands for `v_i = vmin + (vmax - vmin) i / (n - 1)`; `symlog(x) = sign(x) ln(1 + |x|)` and `symexp` is
//! its inverse.
//!
//! | builder | computes | adjoint |
//! |---|---|---|
//! | [`two_hot_decode`] | `e = sum_i softmax(l)_i v_i`, then `e` or `symexp(e)` | `dl_i = dy y'(e) softmax(l)_i (v_i - e)` |
//! | [`two_hot_loss`] | `sum_t w_t sum_b -sum_i target_i log softmax(l)_i` | `dl_i = dL w_t (softmax(l)_i - target_i)` |
//!
//! The target spreads `clamp(symlog(r), vmin, vmax)` over the two bins around it, so that its expectation is that
//! number. Softmax is computed again in the reverse pass; nothing is kept.

mod cpu;
mod cuda;

pub use crate::config::Decode;

use crate::device::Real;
use crate::device::cuda::Launch;
use crate::tape::cuda::Operands;
use crate::tape::grad::Sink;
use crate::tape::{Adjoint, Op, Program, Val};

/// Bins at equal distances, the first at `vmin` and the last at `vmax`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bins {
    pub vmin: f64,
    pub vmax: f64,
    pub count: usize,
}

impl Bins {
    /// What bin `i` stands for.
    #[inline(always)]
    pub fn value<F: Real>(&self, i: usize) -> F {
        F::of(self.vmin + (self.vmax - self.vmin) * (i as f64 / (self.count - 1) as f64))
    }

    /// The two-hot code of `x`, which is symlog already: weight `1 - f` on bin `k`, `f` on bin `k + 1`. Outside the
    /// bins the nearest one gets all weight; NaN stays NaN.
    #[inline(always)]
    pub fn encode<F: Real>(&self, x: F) -> (usize, F) {
        let (low, high) = (F::of(self.vmin), F::of(self.vmax));
        // Comparisons are false for NaN, which so passes through.
        let x = F::select(x.lt(low), low, x);
        let x = F::select(high.lt(x), high, x);
        let at = (x - low) / F::of((self.vmax - self.vmin) / (self.count - 1) as f64);
        // The last bin is the upper one of the last pair.
        let k = (at.value() as usize).min(self.count - 2);
        (k, at - F::of(k as f64))
    }
}

#[inline(always)]
pub fn symlog<F: Real>(x: F) -> F {
    if x < F::zero() { -(-x).ln_1p() } else { x.ln_1p() }
}

#[inline(always)]
pub fn symexp<F: Real>(x: F) -> F {
    if x < F::zero() { -(-x).exp_m1() } else { x.exp_m1() }
}

fn bins(p: &Program, logits: Val, bounds: (f64, f64)) -> Bins {
    let count = *p.shape(logits).last().expect("invariant: logits have an axis of bins");
    assert!(count >= 2 && bounds.0 < bounds.1, "invariant: two bins or more, at rising numbers");
    Bins { vmin: bounds.0, vmax: bounds.1, count }
}

/// Appends the number that `logits` `[.., bins]` mean; returns it: `[..]`, or `[1]` for a single one.
pub fn two_hot_decode(p: &mut Program, logits: Val, bounds: (f64, f64), decode: Decode) -> Val {
    let bins = bins(p, logits, bounds);
    let mut shape = p.shape(logits).to_vec();
    shape.pop();
    if shape.is_empty() {
        shape.push(1);
    }
    let y = p.real(&shape);
    p.push(TwoHotDecode { bins, decode }, &[logits], &[y]);
    y
}

/// Appends `sum_t weights[t] sum_b ce(t, b)` of `logits` `[H, B, bins]` for raw rewards `reward` `[H, B]`; returns the
/// scalar `[1]`. A mean is the caller's: `weights` holds the division. No cotangent flows to the reward.
pub fn two_hot_loss(p: &mut Program, logits: Val, reward: Val, bounds: (f64, f64), weights: Vec<f64>) -> Val {
    let bins = bins(p, logits, bounds);
    let rows = p.len_of(logits) / bins.count;
    assert_eq!(p.len_of(reward), rows, "invariant: one reward for each row of logits");
    assert!(!weights.is_empty() && rows.is_multiple_of(weights.len()), "invariant: one weight for each step");
    let y = p.real(&[1]);
    p.push(TwoHotLoss { bins, weights }, &[logits, reward], &[y]);
    y
}

/// Rows of a task.
const ROWS: usize = 64;

fn tasks(bins: &Bins, logits: &[usize]) -> usize {
    (logits.iter().product::<usize>() / bins.count).div_ceil(ROWS)
}

/// Inputs: logits. Outputs: the number.
#[derive(Debug)]
struct TwoHotDecode {
    bins: Bins,
    decode: Decode,
}

// SAFETY: each task writes its own chunk of the output and scratch, and only reads inputs.
unsafe impl Op for TwoHotDecode {
    fn name(&self) -> &'static str {
        "two_hot_decode"
    }
    fn phases(&self, inputs: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![tasks(&self.bins, &inputs[0])]
    }
    fn workspace(&self, inputs: &[Vec<usize>], _: &[Vec<usize>]) -> usize {
        tasks(&self.bins, &inputs[0]) * self.bins.count
    }
    fn adjoint(&self, a: &mut Adjoint) {
        let Some(dy) = a.cotangent(0) else { return };
        let logits = a.input(0);
        let Some(Sink { val, accumulate }) = a.sink(0) else { return };
        a.push(TwoHotDecodeGrad { bins: self.bins, decode: self.decode, accumulate }, &[dy, logits], &[val]);
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// Reverse of [`TwoHotDecode`]. Inputs: dy, logits. Outputs: cotangent of the logits.
#[derive(Debug)]
struct TwoHotDecodeGrad {
    bins: Bins,
    decode: Decode,
    accumulate: bool,
}

// SAFETY: each task writes its own chunk of the output and scratch, and only reads inputs.
unsafe impl Op for TwoHotDecodeGrad {
    fn name(&self) -> &'static str {
        "two_hot_decode_grad"
    }
    fn phases(&self, inputs: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![tasks(&self.bins, &inputs[1])]
    }
    fn workspace(&self, inputs: &[Vec<usize>], _: &[Vec<usize>]) -> usize {
        tasks(&self.bins, &inputs[1]) * self.bins.count
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// Inputs: logits, reward. Outputs: the loss. Phases: rows, then their weighted sum in one task.
#[derive(Debug)]
struct TwoHotLoss {
    bins: Bins,
    /// One for each step.
    weights: Vec<f64>,
}

// SAFETY: tasks write their own rows of scratch, which the one task of the last phase adds.
unsafe impl Op for TwoHotLoss {
    fn name(&self) -> &'static str {
        "two_hot_loss"
    }
    fn phases(&self, inputs: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![tasks(&self.bins, &inputs[0]), 1]
    }
    fn workspace(&self, inputs: &[Vec<usize>], _: &[Vec<usize>]) -> usize {
        // A row of probabilities for each task, then the cross-entropy of every row.
        let rows = inputs[0].iter().product::<usize>() / self.bins.count;
        tasks(&self.bins, &inputs[0]) * self.bins.count + rows
    }
    fn adjoint(&self, a: &mut Adjoint) {
        let Some(dy) = a.cotangent(0) else { return };
        let (logits, reward) = (a.input(0), a.input(1));
        let Some(Sink { val, accumulate }) = a.sink(0) else { return };
        let op = TwoHotLossGrad { bins: self.bins, weights: self.weights.clone(), accumulate };
        a.push(op, &[dy, logits, reward], &[val]);
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// Reverse of [`TwoHotLoss`]. Inputs: dL, logits, reward. Outputs: cotangent of the logits.
#[derive(Debug)]
struct TwoHotLossGrad {
    bins: Bins,
    weights: Vec<f64>,
    accumulate: bool,
}

// SAFETY: each task writes its own chunk of the output and scratch, and only reads inputs.
unsafe impl Op for TwoHotLossGrad {
    fn name(&self) -> &'static str {
        "two_hot_loss_grad"
    }
    fn phases(&self, inputs: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![tasks(&self.bins, &inputs[1])]
    }
    fn workspace(&self, inputs: &[Vec<usize>], _: &[Vec<usize>]) -> usize {
        tasks(&self.bins, &inputs[1]) * self.bins.count
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}
