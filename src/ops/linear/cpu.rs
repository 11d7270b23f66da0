//! CPU kernels of fully connected layers.

use super::{Epilogue, GradOutput, Linear, LinearGrad, Transpose, first_x};
use crate::device::Real;
use crate::device::cpu::vmath::{mish, mish_grad, sum_of, sum_of_pairs};
use crate::device::numerics::NORM_EPSILON;
use crate::tape::OpArgs;
use crate::tape::op::chunk;

pub(super) const TRANSPOSE_ROWS: usize = 32;

impl Linear {
    #[inline(always)]
    pub(super) fn run<F: Real>(&self, args: &OpArgs<F>, _phase: usize, task: usize) {
        let d = &self.dims;
        let (e, rows) = (task / d.tiles(), chunk(d.m, d.tile(), task % d.tiles()));
        let (n, count) = (d.n, rows.len());
        let x0 = first_x(d.epilogue);
        // The product goes to h if it is kept, else to y, where the epilogue works in place.
        let saved = d.epilogue.has_norm() && args.outputs_len() > 1;
        let at = (e * d.m + rows.start) * n;
        let h = args.out(usize::from(saved), at..at + count * n);
        let wt = &args.input(1)[e * d.k() * n..];
        let mut offset = 0;
        for (i, &k) in d.parts.iter().enumerate() {
            let batch = if d.shared_input { 0 } else { e };
            let x = &args.input(x0 + i)[(batch * d.m + rows.start) * k..][..count * k];
            // SAFETY: x, the k rows of Wᵀ and h hold count x k, k x n and count x n numbers; h is this task's alone.
            unsafe {
                F::gemm(
                    (count, k, n),
                    (x.as_ptr(), k, 1),
                    (wt[offset * n..][..k * n].as_ptr(), n, 1),
                    i > 0,
                    (h.as_mut_ptr(), n, 1),
                );
            }
            offset += k;
        }
        let bias = &args.input(2)[e * n..][..n];
        for row in h.chunks_exact_mut(n) {
            for (h, b) in row.iter_mut().zip(bias) {
                *h += *b;
            }
        }
        if !d.epilogue.has_norm() {
            return;
        }
        let (gain, shift) = (&args.input(3)[e * n..][..n], &args.input(4)[e * n..][..n]);
        for r in 0..count {
            if saved {
                let y = args.out(0, at + r * n..at + (r + 1) * n);
                y.copy_from_slice(&h[r * n..][..n]);
                epilogue(d.epilogue, y, gain, shift);
            } else {
                epilogue(d.epilogue, &mut h[r * n..][..n], gain, shift);
            }
        }
    }
}

/// Mean of a row and 1 / sqrt(variance + eps).
#[inline(always)]
fn moments<F: Real>(u: &[F]) -> (F, F) {
    let n = F::of(u.len() as f64);
    let mean = sum_of(u, |x| x) / n;
    let var = sum_of(u, |x| (x - mean) * (x - mean)) / n;
    (mean, F::one() / (var + F::of(NORM_EPSILON)).sqrt())
}

/// The epilogue of one row, in place.
#[inline(always)]
pub(crate) fn epilogue<F: Real>(kind: Epilogue, u: &mut [F], gain: &[F], shift: &[F]) {
    if kind == Epilogue::MishNorm {
        for x in u.iter_mut() {
            *x = mish(*x);
        }
    }
    let (mean, rstd) = moments(u);
    for ((x, g), s) in u.iter_mut().zip(gain).zip(shift) {
        *x = (*x - mean) * rstd * *g + *s;
    }
    match kind {
        Epilogue::NormMish => {
            for x in u.iter_mut() {
                *x = mish(*x);
            }
        }
        Epilogue::NormSimplex { group: 8 } => u.chunks_exact_mut(8).for_each(softmax),
        Epilogue::NormSimplex { group } => u.chunks_exact_mut(group).for_each(softmax),
        Epilogue::MishNorm | Epilogue::Bias => {}
    }
}

#[inline(always)]
fn softmax<F: Real>(g: &mut [F]) {
    let mut top = g[0];
    for &x in g.iter() {
        top = if x > top { x } else { top };
    }
    let mut sum = F::zero();
    for x in g.iter_mut() {
        *x = (*x - top).exp();
    }
    for &x in g.iter() {
        sum += x;
    }
    let inv = F::one() / sum;
    for x in g.iter_mut() {
        *x *= inv;
    }
}

impl LinearGrad {
    #[inline(always)]
    pub(super) fn run<F: Real>(&self, args: &OpArgs<F>, phase: usize, task: usize) {
        let d = &self.dims;
        if phase == 0 {
            let (batch, tile) = if self.joined() { (None, task) } else { (Some(task / d.tiles()), task % d.tiles()) };
            for e in batch.map_or(0..d.ensemble, |e| e..e + 1) {
                self.rows(args, e, tile, task);
            }
        } else {
            self.columns(args, task / d.out_tiles(), task % d.out_tiles());
        }
    }

    /// Cotangents of h and of the inputs, for the rows of one tile.
    #[inline(always)]
    fn rows<F: Real>(&self, args: &OpArgs<F>, e: usize, tile: usize, task: usize) {
        let d = &self.dims;
        let n = d.n;
        let rows = chunk(d.m, d.tile(), tile);
        let at = (e * d.m + rows.start) * n;
        let span = at..at + rows.len() * n;
        let dy = &args.input(0)[span.clone()];
        // A loss that reads one step of a rollout leaves the rows of all others without a cotangent.
        let idle = dy.iter().all(|&g| g == F::zero());
        let dh: &[F] = if d.epilogue.has_norm() {
            let dh = args.out(0, span.clone());
            let sums_at = self.row_tasks() * 2 * n + (e * d.tiles() + tile) * 2 * n;
            let sums = args.scratch(sums_at..sums_at + 2 * n);
            sums.fill(F::zero());
            if idle {
                dh.fill(F::zero());
            }
            let temp = args.scratch(task * 2 * n..(task + 1) * 2 * n);
            let (h, y) = (&args.input(1)[span.clone()], &args.input(2)[span]);
            let (gain, shift) = (&args.input(4)[e * n..][..n], &args.input(5)[e * n..][..n]);
            let busy = if idle { 0 } else { rows.len() };
            for r in 0..busy {
                let o = r * n..(r + 1) * n;
                row_grad(d.epilogue, &dy[o.clone()], &h[o.clone()], &y[o.clone()], gain, shift, temp, sums, &mut dh[o]);
            }
            dh
        } else {
            dy
        };
        let (w, k) = (&args.input(3)[e * n * d.k()..], d.k());
        let mut offset = 0;
        for (i, &width) in d.parts.iter().enumerate() {
            if let Some(GradOutput { output, accumulate }) = self.dx[i] {
                let batch = if d.shared_input { 0 } else { e };
                let at = (batch * d.m + rows.start) * width;
                let dx = args.out(output, at..at + rows.len() * width);
                let accumulate = accumulate || (d.shared_input && e > 0);
                if !idle {
                    // SAFETY: dh is count x n, the columns of W n x width with row stride k, dx count x width, this
                    // task's alone.
                    unsafe {
                        F::gemm(
                            (rows.len(), n, width),
                            (dh.as_ptr(), n, 1),
                            (w[offset..][..(n - 1) * k + width].as_ptr(), k, 1),
                            accumulate,
                            (dx.as_mut_ptr(), width, 1),
                        );
                    }
                } else if !accumulate {
                    dx.fill(F::zero());
                }
            }
            offset += width;
        }
    }

    /// Gradients of the parameters that belong to one tile of outputs.
    #[inline(always)]
    fn columns<F: Real>(&self, args: &OpArgs<F>, e: usize, tile: usize) {
        let d = &self.dims;
        let (n, m, k) = (d.n, d.m, d.k());
        let outs = chunk(n, d.out_tile(), tile);
        let norm = d.epilogue.has_norm();
        let span = e * m * n..(e + 1) * m * n;
        let dh = if norm { args.read_output(0, span) } else { &args.input(0)[span] };
        let x0 = if norm { 6 } else { 4 };
        if let Some(GradOutput { output, accumulate }) = self.params[0] {
            let dw = args.out(output, (e * n + outs.start) * k..(e * n + outs.end) * k);
            let mut offset = 0;
            for (i, &width) in d.parts.iter().enumerate() {
                let batch = if d.shared_input { 0 } else { e };
                let x = &args.input(x0 + i)[batch * m * width..][..m * width];
                // SAFETY: dhᵀ is outs x m, x m x width, the columns of dW outs x width with row stride k.
                unsafe {
                    F::gemm(
                        (outs.len(), m, width),
                        (dh[outs.start..].as_ptr(), 1, n),
                        (x.as_ptr(), width, 1),
                        accumulate,
                        (dw[offset..].as_mut_ptr(), k, 1),
                    );
                }
                offset += width;
            }
        }
        if let Some(GradOutput { output, accumulate }) = self.params[1] {
            let db = args.out(output, e * n + outs.start..e * n + outs.end);
            if !accumulate {
                db.fill(F::zero());
            }
            for row in dh.chunks_exact(n) {
                for (b, g) in db.iter_mut().zip(&row[outs.clone()]) {
                    *b += *g;
                }
            }
        }
        for (which, target) in self.params.iter().skip(2).enumerate() {
            if let Some(GradOutput { output, accumulate }) = *target {
                let out = args.out(output, e * n + outs.start..e * n + outs.end);
                if !accumulate {
                    out.fill(F::zero());
                }
                for t in 0..d.tiles() {
                    let at = self.row_tasks() * 2 * n + ((e * d.tiles() + t) * 2 + which) * n;
                    let sums = args.read_scratch(at + outs.start..at + outs.end);
                    for (o, s) in out.iter_mut().zip(sums) {
                        *o += *s;
                    }
                }
            }
        }
    }
}

/// Reverse of bias-free epilogues for one row: cotangent of h, and this row's share of the gain and shift gradients.
/// `temp` holds two rows.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) fn row_grad<F: Real>(
    kind: Epilogue,
    dy: &[F],
    h: &[F],
    y: &[F],
    gain: &[F],
    shift: &[F],
    temp: &mut [F],
    sums: &mut [F],
    dh: &mut [F],
) {
    let n = h.len();
    let (hat, slope) = temp.split_at_mut(n);
    let (dgain, dshift) = sums.split_at_mut(n);
    let (dy, y, gain, shift, dh) = (&dy[..n], &y[..n], &gain[..n], &shift[..n], &mut dh[..n]);
    let (slope, dgain, dshift) = (&mut slope[..n], &mut dgain[..n], &mut dshift[..n]);
    // What LayerNorm saw, normalised.
    if kind == Epilogue::MishNorm {
        for i in 0..n {
            let (v, s) = mish_grad(h[i]);
            hat[i] = v;
            slope[i] = s;
        }
    } else {
        hat.copy_from_slice(h);
    }
    let (mean, rstd) = moments(hat);
    for x in hat.iter_mut() {
        *x = (*x - mean) * rstd;
    }
    // Cotangent of LayerNorm's result, into dh.
    match kind {
        Epilogue::NormMish => {
            for i in 0..n {
                let (_, s) = mish_grad(hat[i] * gain[i] + shift[i]);
                dh[i] = dy[i] * s;
            }
        }
        Epilogue::NormSimplex { group } => {
            for ((dh, dy), y) in dh.chunks_exact_mut(group).zip(dy.chunks_exact(group)).zip(y.chunks_exact(group)) {
                let mut dot = F::zero();
                for (a, b) in dy.iter().zip(y) {
                    dot += *a * *b;
                }
                for i in 0..group {
                    dh[i] = y[i] * (dy[i] - dot);
                }
            }
        }
        Epilogue::MishNorm | Epilogue::Bias => dh.copy_from_slice(dy),
    }
    for i in 0..n {
        dgain[i] += dh[i] * hat[i];
        dshift[i] += dh[i];
        dh[i] *= gain[i];
    }
    // d LN: rstd (g - mean g - hat mean(g hat)).
    let inv = F::one() / F::of(n as f64);
    let a = sum_of(dh, |x| x) * inv;
    let b = sum_of_pairs(dh, hat, |d, x| d * x) * inv;
    for i in 0..n {
        dh[i] = rstd * (dh[i] - a - hat[i] * b);
    }
    if kind == Epilogue::MishNorm {
        for i in 0..n {
            dh[i] *= slope[i];
        }
    }
}

impl Transpose {
    #[inline(always)]
    pub(super) fn run<F: Real>(&self, args: &OpArgs<F>, _phase: usize, task: usize) {
        let s = args.shape(0);
        let (n, k) = (s[s.len() - 2], s[s.len() - 1]);
        let blocks = n.div_ceil(TRANSPOSE_ROWS);
        let (e, rows) = (task / blocks, chunk(n, TRANSPOSE_ROWS, task % blocks));
        let w = &args.input(0)[e * n * k..][..n * k];
        let out = args.output(0);
        // Columns in blocks, so that both sides stay in cache.
        for c0 in (0..k).step_by(16) {
            for c in c0..(c0 + 16).min(k) {
                for r in rows.clone() {
                    out.set(e * n * k + c * n + r, w[r * k + c]);
                }
            }
        }
    }
}
