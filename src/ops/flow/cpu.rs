//! CPU kernel of the integration; its field is shared with the reverse pass.

use super::{Flow, FlowDims, InputPart};
use crate::device::Real;
use crate::ops::linear::epilogue;
use crate::tape::OpArgs;
use crate::tape::op::chunk;

/// Scratch numbers of a row: what fixed inputs add, the substep's start, a stage's state, activations of two layers.
pub(super) fn scratch_row(d: &FlowDims) -> usize {
    d.widths[0] + 2 * d.state + 2 * d.widest()
}

impl Flow {
    #[inline(always)]
    pub(super) fn run<F: Real>(&self, args: &OpArgs<F>, _phase: usize, task: usize) {
        let d = &self.dims;
        let rows = chunk(d.rows, d.tile(), task);
        let (n, w) = (rows.len(), d.state);
        let work = args.scratch(rows.start * scratch_row(d)..rows.end * scratch_row(d));
        let (fixed, work) = work.split_at_mut(n * d.widths[0]);
        fixed_part(d, args, rows.start, n, fixed);
        let x = args.out(0, rows.start * w..rows.end * w);
        x.copy_from_slice(&args.input(0)[rows.start * w..rows.end * w]);
        for k in 0..d.steps.substeps {
            if k > 0 && args.outputs_len() > 1 {
                let at = ((k - 1) * d.rows + rows.start) * w;
                args.out(1, at..at + n * w).copy_from_slice(x);
            }
            substep(d, args, k, n, fixed, x, work);
        }
    }
}

/// One substep of `n` rows, in place. `work`: a row each of start and stage, two of the widest layer.
#[inline(always)]
pub(super) fn substep<F: Real>(
    d: &FlowDims,
    args: &OpArgs<F>,
    k: usize,
    n: usize,
    fixed: &[F],
    x: &mut [F],
    work: &mut [F],
) {
    let (start, work) = work.split_at_mut(n * d.state);
    let (u, work) = work.split_at_mut(n * d.state);
    let (even, odd) = work[..2 * n * d.widest()].split_at_mut(n * d.widest());
    start.copy_from_slice(x);
    for (s, stage) in d.stages().iter().enumerate() {
        if s == 0 {
            u.copy_from_slice(start);
        } else {
            let v = if d.layers() % 2 == 1 { &*even } else { &*odd };
            advance(u, start, F::of(d.h() * stage.a), v);
        }
        let tau = F::of(d.tau(k, s));
        for l in 0..d.layers() {
            let (y, before) = if l % 2 == 0 { (&mut *even, &*odd) } else { (&mut *odd, &*even) };
            let y = &mut y[..n * d.widths[l]];
            product(d, args, l, n, tau, fixed, if l == 0 { u } else { before }, y);
            finish(d, args, l, y);
        }
        let v = if d.layers() % 2 == 1 { &*even } else { &*odd };
        add_scaled(x, F::of(d.h() * stage.b), v);
    }
}

/// `u = x + c v`.
#[inline(always)]
pub(super) fn advance<F: Real>(u: &mut [F], x: &[F], c: F, v: &[F]) {
    for ((u, x), v) in u.iter_mut().zip(x).zip(v) {
        *u = *x + c * *v;
    }
}

/// `x += c v`.
#[inline(always)]
pub(super) fn add_scaled<F: Real>(x: &mut [F], c: F, v: &[F]) {
    for (x, v) in x.iter_mut().zip(v) {
        *x += c * *v;
    }
}

/// What bias and fixed inputs give the first layer, for `n` rows from `first` on.
#[inline(always)]
pub(super) fn fixed_part<F: Real>(d: &FlowDims, args: &OpArgs<F>, first: usize, n: usize, out: &mut [F]) {
    let (at, w) = (d.operand(0), d.widths[0]);
    for row in out.chunks_exact_mut(w) {
        row.copy_from_slice(args.input(at + 2));
    }
    for (i, &k) in d.fixed.iter().enumerate() {
        let x = &args.input(1 + i)[first * k..][..n * k];
        add_product(x, k, &args.input(at + 1)[d.column(InputPart::Fixed(i)) * w..], out, w);
    }
}

/// `out += x Wᵀ` for rows `x` of width `k`; `wt` begins with the `k` rows of `Wᵀ`.
#[inline(always)]
fn add_product<F: Real>(x: &[F], k: usize, wt: &[F], out: &mut [F], w: usize) {
    let n = out.len() / w;
    // SAFETY: x, the k rows of Wᵀ and out hold n x k, k x w and n x w numbers; out is borrowed for writing.
    unsafe {
        F::gemm((n, k, w), (x[..n * k].as_ptr(), k, 1), (wt[..k * w].as_ptr(), w, 1), true, (out.as_mut_ptr(), w, 1));
    }
}

/// Layer `l` before its epilogue, on `n` rows `x`.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a layer's operands")]
pub(super) fn product<F: Real>(
    d: &FlowDims,
    args: &OpArgs<F>,
    l: usize,
    n: usize,
    tau: F,
    fixed: &[F],
    x: &[F],
    out: &mut [F],
) {
    let (at, w) = (d.operand(l), d.widths[l]);
    let wt = args.input(at + 1);
    if l == 0 {
        let time = &wt[d.column(InputPart::Time) * w..][..w];
        for (row, fixed) in out[..n * w].chunks_exact_mut(w).zip(fixed.chunks_exact(w)) {
            for ((o, f), t) in row.iter_mut().zip(fixed).zip(time) {
                *o = *f + tau * *t;
            }
        }
        add_product(x, d.state, &wt[d.column(InputPart::State) * w..], out, w);
    } else {
        for row in out[..n * w].chunks_exact_mut(w) {
            row.copy_from_slice(args.input(at + 2));
        }
        add_product(x, d.fan_in(l), wt, out, w);
    }
}

/// The epilogue of layer `l`, in place; of the last layer also the removal of group means.
#[inline(always)]
pub(super) fn finish<F: Real>(d: &FlowDims, args: &OpArgs<F>, l: usize, y: &mut [F]) {
    let at = d.operand(l);
    if d.epilogues[l].has_norm() {
        for row in y.chunks_exact_mut(d.widths[l]) {
            epilogue(d.epilogues[l], row, args.input(at + 3), args.input(at + 4));
        }
    }
    if let (true, Some(group)) = (l + 1 == d.layers(), d.tangent) {
        remove_means(y, group);
    }
}

/// Subtracts the mean of each group: the projection onto the tangent space of a product of simplices, its own adjoint.
#[inline(always)]
pub(super) fn remove_means<F: Real>(v: &mut [F], group: usize) {
    let share = F::one() / F::of(group as f64);
    for g in v.chunks_exact_mut(group) {
        let mut sum = F::zero();
        for x in g.iter() {
            sum += *x;
        }
        for x in g.iter_mut() {
            *x -= sum * share;
        }
    }
}
