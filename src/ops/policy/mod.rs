//! From network outputs to actions and values: squashed Gaussian samples, the ensemble minimum, row selection.

mod cuda;

use crate::device::Real;
use crate::device::cuda::Launch;
use crate::tape::cuda::Operands;
use crate::tape::op::chunk;
use crate::tape::{Adjoint, Op, OpArgs, Program, Val};

/// Rows a task takes.
const ROWS: usize = 32;

/// Appends `a = tanh(mean + exp(logstd) * noise)`: `mean`, `noise`, `a` are `[N, A]`, `logstd` is `[A]`.
/// Without noise `a = tanh(mean)`, the deterministic policy. There is no entropy term and no density correction.
/// The result goes to `out` if given.
pub fn squash(p: &mut Program, mean: Val, logstd: Val, noise: Option<Val>, out: Option<Val>) -> Val {
    let shape = p.shape(mean).to_vec();
    let a = out.unwrap_or_else(|| p.real(&shape));
    let mut inputs = vec![mean, logstd];
    inputs.extend(noise);
    p.push(Squash, &inputs, &[a]);
    a
}

#[derive(Debug)]
struct Squash;

impl Squash {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, task: usize) {
        let w = args.shape(1)[0];
        let r = chunk(args.shape(0)[0], ROWS, task);
        let out = args.out(0, r.start * w..r.end * w);
        let mean = &args.input(0)[r.start * w..r.end * w];
        if args.inputs_len() < 3 {
            for (o, m) in out.iter_mut().zip(mean) {
                *o = m.tanh();
            }
            return;
        }
        let noise = &args.input(2)[r.start * w..r.end * w];
        for ((o, m), e) in out.chunks_exact_mut(w).zip(mean.chunks_exact(w)).zip(noise.chunks_exact(w)) {
            for i in 0..w {
                o[i] = (m[i] + args.input(1)[i].exp() * e[i]).tanh();
            }
        }
    }
}

// SAFETY: each task writes its own chunk of the output and scratch, and only reads inputs.
unsafe impl Op for Squash {
    fn name(&self) -> &'static str {
        "squash"
    }
    fn phases(&self, i: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![i[0][0].div_ceil(ROWS)]
    }
    fn adjoint(&self, a: &mut Adjoint) {
        let Some(c) = a.cotangent(0) else { return };
        let (y, logstd) = (a.output(0), a.input(1));
        let mut inputs = vec![c, y, logstd];
        let noisy = a.inputs_len() > 2;
        if noisy {
            inputs.push(a.input(2));
        }
        if let Some(s) = a.sink(0) {
            a.push(SquashGradMean { accumulate: s.accumulate }, &inputs[..2], &[s.val]);
        }
        if noisy && let Some(s) = a.sink(1) {
            a.push(SquashGradStd { accumulate: s.accumulate }, &inputs, &[s.val]);
        }
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// `dmean = da (1 - a²)`.
#[derive(Debug)]
struct SquashGradMean {
    accumulate: bool,
}

impl SquashGradMean {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, task: usize) {
        let w = args.shape(0)[1];
        let r = chunk(args.shape(0)[0], ROWS, task);
        let r = r.start * w..r.end * w;
        let (c, y) = (&args.input(0)[r.clone()], &args.input(1)[r.clone()]);
        for ((o, c), y) in args.out(0, r).iter_mut().zip(c).zip(y) {
            let g = *c * (F::one() - *y * *y);
            *o = if self.accumulate { *o + g } else { g };
        }
    }
}

// SAFETY: each task writes its own chunk of the output and scratch, and only reads inputs.
unsafe impl Op for SquashGradMean {
    fn name(&self) -> &'static str {
        "squash_grad_mean"
    }
    fn phases(&self, i: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![i[0][0].div_ceil(ROWS)]
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// `dlogstd = sum over rows of da (1 - a²) exp(logstd) noise`, in row order.
#[derive(Debug)]
struct SquashGradStd {
    accumulate: bool,
}

impl SquashGradStd {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        let w = args.shape(2)[0];
        let out = args.out_all(0);
        if !self.accumulate {
            out.fill(F::zero());
        }
        let rows = args.input(0).chunks_exact(w).zip(args.input(1).chunks_exact(w)).zip(args.input(3).chunks_exact(w));
        for ((c, y), e) in rows {
            for i in 0..w {
                out[i] += c[i] * (F::one() - y[i] * y[i]) * args.input(2)[i].exp() * e[i];
            }
        }
    }
}

// SAFETY: a phase has one task.
unsafe impl Op for SquashGradStd {
    fn name(&self) -> &'static str {
        "squash_grad_std"
    }
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![1]
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// Appends `y = exp(logstd) * noise`: `noise` and `y` are `[N, A]`, `logstd` is `[A]`.
pub fn spread(p: &mut Program, logstd: Val, noise: Val) -> Val {
    let shape = p.shape(noise).to_vec();
    let y = p.real(&shape);
    p.push(Spread, &[logstd, noise], &[y]);
    y
}

#[derive(Debug)]
struct Spread;

impl Spread {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, task: usize) {
        let w = args.shape(0)[0];
        let r = chunk(args.shape(1)[0], ROWS, task);
        let noise = &args.input(1)[r.start * w..r.end * w];
        for (y, e) in args.out(0, r.start * w..r.end * w).chunks_exact_mut(w).zip(noise.chunks_exact(w)) {
            for i in 0..w {
                y[i] = args.input(0)[i].exp() * e[i];
            }
        }
    }
}

// SAFETY: each task writes its own chunk of the output and scratch, and only reads inputs.
unsafe impl Op for Spread {
    fn name(&self) -> &'static str {
        "spread"
    }
    fn phases(&self, i: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![i[1][0].div_ceil(ROWS)]
    }
    fn adjoint(&self, a: &mut Adjoint) {
        let Some(c) = a.cotangent(0) else { return };
        let y = a.output(0);
        if let Some(s) = a.sink(0) {
            a.push(SpreadGrad { accumulate: s.accumulate }, &[c, y], &[s.val]);
        }
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// `dlogstd = sum over rows of dy y`, in row order.
#[derive(Debug)]
struct SpreadGrad {
    accumulate: bool,
}

impl SpreadGrad {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        let out = args.out_all(0);
        if !self.accumulate {
            out.fill(F::zero());
        }
        let w = out.len();
        for (c, y) in args.input(0).chunks_exact(w).zip(args.input(1).chunks_exact(w)) {
            for i in 0..w {
                out[i] += c[i] * y[i];
            }
        }
    }
}

// SAFETY: a phase has one task.
unsafe impl Op for SpreadGrad {
    fn name(&self) -> &'static str {
        "spread_grad"
    }
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![1]
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// Appends `scale` times the minimum over the leading axis: `[E, M, 1]` to `[M]`. The first of equal ones receives the
/// cotangent.
pub fn ensemble_min(p: &mut Program, v: Val, scale: f64) -> Val {
    let m = p.shape(v)[1];
    let out = p.real(&[m]);
    p.push(EnsembleMin { scale }, &[v], &[out]);
    out
}

#[derive(Debug)]
struct EnsembleMin {
    scale: f64,
}

#[inline(always)]
fn smallest<F: Real>(v: &[F], members: usize, m: usize, i: usize) -> usize {
    let mut best = 0;
    for e in 1..members {
        if v[e * m + i] < v[best * m + i] {
            best = e;
        }
    }
    best
}

impl EnsembleMin {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        let (e, m) = (args.shape(0)[0], args.shape(0)[1]);
        let v = args.input(0);
        for (i, o) in args.out_all(0).iter_mut().enumerate() {
            *o = v[smallest(v, e, m, i) * m + i] * F::of(self.scale);
        }
    }
}

// SAFETY: a phase has one task.
unsafe impl Op for EnsembleMin {
    fn name(&self) -> &'static str {
        "ensemble_min"
    }
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![1]
    }
    fn adjoint(&self, a: &mut Adjoint) {
        let Some(c) = a.cotangent(0) else { return };
        let v = a.input(0);
        if let Some(s) = a.sink(0) {
            a.push(EnsembleMinGrad { scale: self.scale, accumulate: s.accumulate }, &[c, v], &[s.val]);
        }
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

#[derive(Debug)]
struct EnsembleMinGrad {
    scale: f64,
    accumulate: bool,
}

impl EnsembleMinGrad {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        let (e, m) = (args.shape(1)[0], args.shape(1)[1]);
        let (c, v, out) = (args.input(0), args.input(1), args.out_all(0));
        if !self.accumulate {
            out.fill(F::zero());
        }
        for i in 0..m {
            out[smallest(v, e, m, i) * m + i] += c[i] * F::of(self.scale);
        }
    }
}

// SAFETY: a phase has one task.
unsafe impl Op for EnsembleMinGrad {
    fn name(&self) -> &'static str {
        "ensemble_min_grad"
    }
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![1]
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// Appends rows of `a` where `mask` is not zero, of `b` elsewhere: `[N, D]` by `mask` `[N]`. The cotangent goes to the
/// row that was taken. The result goes to `out` if given.
pub fn select_rows(p: &mut Program, mask: Val, a: Val, b: Val, out: Option<Val>) -> Val {
    let shape = p.shape(b).to_vec();
    let out = out.unwrap_or_else(|| p.real(&shape));
    p.push(SelectRows { anchored: false }, &[mask, a, b], &[out]);
    out
}

/// Appends the rows of `a`, with the cotangent of `b` where `mask` is zero: what was seen stands in for what was
/// predicted, and gradients still flow through the prediction (Heess et al., "Learning continuous control policies by
/// stochastic value gradients", 2015). Where `mask` is set nothing connects the row to the past.
pub fn anchor_rows(p: &mut Program, mask: Val, a: Val, b: Val, out: Option<Val>) -> Val {
    let shape = p.shape(b).to_vec();
    let out = out.unwrap_or_else(|| p.real(&shape));
    p.push(SelectRows { anchored: true }, &[mask, a, b], &[out]);
    out
}

#[derive(Debug)]
struct SelectRows {
    anchored: bool,
}

impl SelectRows {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, task: usize) {
        let w = args.shape(1)[1];
        for r in chunk(args.shape(1)[0], ROWS, task) {
            let from = if self.anchored || args.input(0)[r] != F::zero() { args.input(1) } else { args.input(2) };
            args.out(0, r * w..(r + 1) * w).copy_from_slice(&from[r * w..(r + 1) * w]);
        }
    }
}

// SAFETY: each task writes its own chunk of the output and scratch, and only reads inputs.
unsafe impl Op for SelectRows {
    fn name(&self) -> &'static str {
        "select_rows"
    }
    fn phases(&self, i: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![i[1][0].div_ceil(ROWS)]
    }
    fn adjoint(&self, a: &mut Adjoint) {
        let Some(c) = a.cotangent(0) else { return };
        let mask = a.input(0);
        for (i, keep) in [(1, true), (2, false)] {
            if self.anchored && i == 1 {
                continue;
            }
            if let Some(s) = a.sink(i) {
                a.push(SelectRowsGrad { keep, accumulate: s.accumulate }, &[mask, c], &[s.val]);
            }
        }
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// The cotangent where `mask` is `keep`, zero elsewhere.
#[derive(Debug)]
struct SelectRowsGrad {
    keep: bool,
    accumulate: bool,
}

impl SelectRowsGrad {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, task: usize) {
        let w = args.shape(1)[1];
        for r in chunk(args.shape(1)[0], ROWS, task) {
            let taken = (args.input(0)[r] != F::zero()) == self.keep;
            let c = &args.input(1)[r * w..(r + 1) * w];
            for (o, c) in args.out(0, r * w..(r + 1) * w).iter_mut().zip(c) {
                let g = if taken { *c } else { F::zero() };
                *o = if self.accumulate { *o + g } else { g };
            }
        }
    }
}

// SAFETY: each task writes its own chunk of the output and scratch, and only reads inputs.
unsafe impl Op for SelectRowsGrad {
    fn name(&self) -> &'static str {
        "select_rows_grad"
    }
    fn phases(&self, i: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![i[1][0].div_ceil(ROWS)]
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}
