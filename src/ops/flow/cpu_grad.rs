//! Reverse CPU kernel of the integration.
//!
//! For each substep, the last first, a phase of row tasks computes its stages again and sends the cotangent `g` of the
//! end point back to its start:
//!
//! ```text
//! dv_i = h b_i g + h a_(i+1) du_(i+1),   du_i = (dv/du)ᵀ dv_i,   g <- g + sum_i du_i
//! ```
//!
//! and leaves, for all stages, each layer's input and the cotangent of its product; a phase of column tasks sums their
//! products into the weights' gradients.

use super::cpu::{add_scaled, advance, finish, fixed_part, product, remove_means, substep};
use super::{FlowDims, FlowGrad, GradOutput, InputPart};
use crate::device::Real;
use crate::ops::linear::row_grad;
use crate::tape::OpArgs;
use crate::tape::op::chunk;
use std::ops::Range;

/// Where things lie in scratch memory. All but norms and temporaries are arrays of rows of the whole batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct GradScratch {
    /// What fixed inputs add to the first layer, `[M, n_0]`; sum of its cotangents over all evaluations, `[M, n_0]`.
    fixed: usize,
    dfixed: usize,
    /// Cotangent of the latent: before and after a substep; of a stage's state. `[M, D]` each.
    g: usize,
    next_g: usize,
    du: usize,
    /// Cotangent of a layer's result, `[M, widest]`.
    dy: usize,
    /// Latents between substeps if they were not kept, `[K - 1, M, D]`, and what integrating them takes.
    between: usize,
    integrate: usize,
    /// States of the stages, `[S, M, D]`.
    u: usize,
    /// For each layer: product, then its cotangent, and result, `[S, M, n]` each.
    layers: usize,
    /// Cotangents of gain and shift: for each tile and layer two rows.
    norms: usize,
    /// Three rows of the widest layer for each tile.
    temps: usize,
    pub total: usize,
}

impl GradScratch {
    pub fn new(d: &FlowDims, kept: bool) -> Self {
        let mut end = 0;
        let mut take = |n: usize| {
            end += n;
            end - n
        };
        let (m, s) = (d.rows, d.stages().len());
        let all: usize = d.widths.iter().sum();
        let again = !kept && d.steps.substeps > 1;
        Self {
            fixed: take(m * d.widths[0]),
            dfixed: take(m * d.widths[0]),
            g: take(m * d.state),
            next_g: take(m * d.state),
            du: take(m * d.state),
            dy: take(m * d.widest()),
            between: take(if again { (d.steps.substeps - 1) * m * d.state } else { 0 }),
            integrate: take(if again { m * 2 * (d.state + d.widest()) } else { 0 }),
            u: take(s * m * d.state),
            layers: take(2 * s * m * all),
            norms: take(d.tiles() * 2 * all),
            temps: take(d.tiles() * 3 * d.widest()),
            total: end,
        }
    }

    /// `rows` of the stage `s` array of layer `l`: its product, or with `result` its result.
    fn layer(&self, d: &FlowDims, l: usize, result: bool, s: usize, rows: Range<usize>) -> Range<usize> {
        let (m, stages) = (d.rows, d.stages().len());
        let before: usize = d.widths[..l].iter().sum();
        let at = self.layers + m * stages * (2 * before + if result { d.widths[l] } else { 0 });
        at + (s * m + rows.start) * d.widths[l]..at + (s * m + rows.end) * d.widths[l]
    }

    /// Gain cotangents of layer `l` in a tile, then its shift cotangents.
    fn norm(&self, d: &FlowDims, tile: usize, l: usize) -> Range<usize> {
        let (before, all): (usize, usize) = (d.widths[..l].iter().sum(), d.widths.iter().sum());
        let at = self.norms + 2 * (tile * all + before);
        at..at + 2 * d.widths[l]
    }
}

/// Outputs a column task takes.
pub(super) fn out_tile(n: usize) -> usize {
    if n <= 256 { 32 } else { 64 }
}

pub(super) fn column_tasks(d: &FlowDims) -> usize {
    d.widths.iter().map(|&n| n.div_ceil(out_tile(n))).sum()
}

impl FlowGrad {
    #[inline(always)]
    pub(super) fn run<F: Real>(&self, args: &OpArgs<F>, phase: usize, task: usize) {
        let k = self.dims.steps.substeps;
        if !self.wants_params() {
            for k in (0..k).rev() {
                self.rows(args, k, task);
            }
        } else if phase.is_multiple_of(2) {
            self.rows(args, k - 1 - phase / 2, task);
        } else {
            self.columns(args, k - 1 - phase / 2, task);
        }
    }

    /// Substep `k`, for the rows of one tile.
    #[inline(always)]
    fn rows<F: Real>(&self, args: &OpArgs<F>, k: usize, tile: usize) {
        let d = &self.dims;
        let at = GradScratch::new(d, self.kept);
        let rows = chunk(d.rows, d.tile(), tile);
        let (n, w) = (rows.len(), d.state);
        let block = |start: usize, w: usize| args.scratch(start + rows.start * w..start + rows.end * w);
        let (fixed, dfixed) = (block(at.fixed, d.widths[0]), block(at.dfixed, d.widths[0]));
        let (g, next_g, du) = (block(at.g, w), block(at.next_g, w), block(at.du, w));
        if k + 1 == d.steps.substeps {
            g.copy_from_slice(&args.input(self.operands)[rows.start * w..rows.end * w]);
            fixed_part(d, args, rows.start, n, fixed);
            dfixed.fill(F::zero());
            for l in 0..d.layers() {
                args.scratch(at.norm(d, tile, l)).fill(F::zero());
            }
            if !self.kept {
                self.integrate_again(args, &at, rows.clone(), fixed, next_g);
            }
        }
        let x: &[F] = if k == 0 {
            &args.input(0)[rows.start * w..rows.end * w]
        } else if self.kept {
            &args.input(self.operands + 1)[((k - 1) * d.rows + rows.start) * w..][..n * w]
        } else {
            let start = at.between + (k - 1) * d.rows * w;
            args.read_scratch(start + rows.start * w..start + rows.end * w)
        };
        for s in 0..d.stages().len() {
            self.evaluate(args, &at, k, s, rows.clone(), fixed, x);
        }
        next_g.copy_from_slice(g);
        let dy = args.scratch(at.dy + rows.start * d.widest()..at.dy + rows.end * d.widest());
        for (s, stage) in d.stages().iter().enumerate().rev() {
            let dv = &mut dy[..n * w];
            let weight = F::of(d.h() * stage.b);
            for (dv, g) in dv.iter_mut().zip(g.iter()) {
                *dv = weight * *g;
            }
            if let Some(after) = d.stages().get(s + 1) {
                add_scaled(dv, F::of(d.h() * after.a), du);
            }
            self.evaluate_reverse(args, &at, s, tile, rows.clone(), dy, du);
            add_scaled(dfixed, F::one(), args.read_scratch(at.layer(d, 0, false, s, rows.clone())));
            add_scaled(next_g, F::one(), du);
        }
        g.copy_from_slice(next_g);
        if k == 0 {
            self.finish_rows(args, rows, g, dfixed);
        }
    }

    /// Latents between substeps, which were not kept. `x` is free to use.
    #[inline(always)]
    fn integrate_again<F: Real>(
        &self,
        args: &OpArgs<F>,
        at: &GradScratch,
        rows: Range<usize>,
        fixed: &[F],
        x: &mut [F],
    ) {
        let (d, w) = (&self.dims, self.dims.state);
        if d.steps.substeps == 1 {
            return;
        }
        let each = 2 * (w + d.widest());
        let work = args.scratch(at.integrate + rows.start * each..at.integrate + rows.end * each);
        x.copy_from_slice(&args.input(0)[rows.start * w..rows.end * w]);
        for k in 0..d.steps.substeps - 1 {
            substep(d, args, k, rows.len(), fixed, x, work);
            let to = at.between + k * d.rows * w;
            args.scratch(to + rows.start * w..to + rows.end * w).copy_from_slice(x);
        }
    }

    /// Stage `s` of substep `k` from the latent `x`, with every layer's product and result left in scratch memory.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "where the stage is, and where its operands are")]
    fn evaluate<F: Real>(
        &self,
        args: &OpArgs<F>,
        at: &GradScratch,
        k: usize,
        s: usize,
        rows: Range<usize>,
        fixed: &[F],
        x: &[F],
    ) {
        let (d, w) = (&self.dims, self.dims.state);
        let n = rows.len();
        let u = args.scratch(at.u + (s * d.rows + rows.start) * w..at.u + (s * d.rows + rows.end) * w);
        if s == 0 {
            u.copy_from_slice(x);
        } else {
            let v = args.read_scratch(at.layer(d, d.layers() - 1, true, s - 1, rows.clone()));
            advance(u, x, F::of(d.h() * d.stages()[s].a), v);
        }
        let mut input: &[F] = u;
        for l in 0..d.layers() {
            let h = args.scratch(at.layer(d, l, false, s, rows.clone()));
            let y = args.scratch(at.layer(d, l, true, s, rows.clone()));
            product(d, args, l, n, F::of(d.tau(k, s)), fixed, input, h);
            y.copy_from_slice(h);
            finish(d, args, l, y);
            input = y;
        }
    }

    /// The stage's cotangents: of its velocity in `dy`, of its state to `du`. Products become their cotangents.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "where the stage is, and where its operands are")]
    fn evaluate_reverse<F: Real>(
        &self,
        args: &OpArgs<F>,
        at: &GradScratch,
        s: usize,
        tile: usize,
        rows: Range<usize>,
        dy: &mut [F],
        du: &mut [F],
    ) {
        let d = &self.dims;
        let n = rows.len();
        if let Some(group) = d.tangent {
            remove_means(&mut dy[..n * d.state], group);
        }
        let temps = args.scratch(at.temps + tile * 3 * d.widest()..at.temps + (tile + 1) * 3 * d.widest());
        for l in (0..d.layers()).rev() {
            let (operand, width) = (d.operand(l), d.widths[l]);
            let h = args.scratch(at.layer(d, l, false, s, rows.clone()));
            if d.epilogues[l].has_norm() {
                let y = args.read_scratch(at.layer(d, l, true, s, rows.clone()));
                let sums = args.scratch(at.norm(d, tile, l));
                let (copy, temp) = temps.split_at_mut(width);
                let (gain, shift) = (args.input(operand + 3), args.input(operand + 4));
                for r in 0..n {
                    let o = r * width..(r + 1) * width;
                    copy.copy_from_slice(&h[o.clone()]);
                    let (dy, y, dh) = (&dy[o.clone()], &y[o.clone()], &mut h[o]);
                    row_grad(d.epilogues[l], dy, copy, y, gain, shift, &mut temp[..2 * width], sums, dh);
                }
            } else {
                h.copy_from_slice(&dy[..n * width]);
            }
            let weight = args.input(operand);
            if l == 0 {
                back(h, width, &weight[d.column(InputPart::State)..], d.inputs(), du, d.state, false);
            } else {
                back(h, width, weight, d.fan_in(l), &mut dy[..n * d.fan_in(l)], d.fan_in(l), false);
            }
        }
    }

    /// Cotangents of the start and of the fixed inputs.
    #[inline(always)]
    fn finish_rows<F: Real>(&self, args: &OpArgs<F>, rows: Range<usize>, g: &[F], dfixed: &[F]) {
        let (d, w) = (&self.dims, self.dims.state);
        if let Some(GradOutput { output, accumulate }) = self.dstate {
            let out = args.out(output, rows.start * w..rows.end * w);
            if accumulate {
                add_scaled(out, F::one(), g);
            } else {
                out.copy_from_slice(g);
            }
        }
        let weight = args.input(d.operand(0));
        for (i, target) in self.dfixed.iter().enumerate() {
            if let Some(GradOutput { output, accumulate }) = *target {
                let k = d.fixed[i];
                let out = args.out(output, rows.start * k..rows.end * k);
                let column = d.column(InputPart::Fixed(i));
                back(dfixed, d.widths[0], &weight[column..], d.inputs(), out, k, accumulate);
            }
        }
    }

    /// Gradients of the parameters that belong to one tile of a layer's outputs, from substep `k`.
    #[inline(always)]
    fn columns<F: Real>(&self, args: &OpArgs<F>, k: usize, mut task: usize) {
        let d = &self.dims;
        let at = GradScratch::new(d, self.kept);
        let mut l = 0;
        while task >= d.widths[l].div_ceil(out_tile(d.widths[l])) {
            task -= d.widths[l].div_ceil(out_tile(d.widths[l]));
            l += 1;
        }
        let (m, width, stages) = (d.rows, d.widths[l], d.stages().len());
        let outs = chunk(width, out_tile(width), task);
        let more = k + 1 < d.steps.substeps;
        // All stages in one: they lie one behind the other.
        let dh = args.read_scratch(at.layer(d, l, false, 0, 0..stages * m));
        let [weight, bias, gain, shift] = self.dlayers[l];
        if let Some(GradOutput { output, accumulate }) = weight {
            let fan_in = d.fan_in(l);
            let dw = args.out(output, outs.start * fan_in..outs.end * fan_in);
            let add = accumulate || more;
            if l > 0 {
                let x = args.read_scratch(at.layer(d, l - 1, true, 0, 0..stages * m));
                outer(&dh[outs.start..], width, x, fan_in, stages * m, dw, fan_in, outs.len(), add);
            } else {
                let x = args.read_scratch(at.u..at.u + stages * m * d.state);
                let to = &mut dw[d.column(InputPart::State)..];
                outer(&dh[outs.start..], width, x, d.state, stages * m, to, fan_in, outs.len(), add);
                let column = d.column(InputPart::Time);
                for (i, row) in dw.chunks_exact_mut(fan_in).enumerate() {
                    let mut sum = if add { row[column] } else { F::zero() };
                    for (s, dh) in dh.chunks_exact(m * width).enumerate() {
                        let tau = F::of(d.tau(k, s));
                        for dh in dh.chunks_exact(width) {
                            sum += tau * dh[outs.start + i];
                        }
                    }
                    row[column] = sum;
                }
                for (i, &w) in d.fixed.iter().enumerate().filter(|_| k == 0) {
                    let dfixed = args.read_scratch(at.dfixed..at.dfixed + m * width);
                    let x = args.input(1 + i);
                    let to = &mut dw[d.column(InputPart::Fixed(i))..];
                    outer(&dfixed[outs.start..], width, x, w, m, to, fan_in, outs.len(), accumulate);
                }
            }
        }
        if let Some(GradOutput { output, accumulate }) = bias {
            let db = args.out(output, outs.clone());
            if !accumulate && !more {
                db.fill(F::zero());
            }
            for row in dh.chunks_exact(width) {
                add_scaled(db, F::one(), &row[outs.clone()]);
            }
        }
        for (which, target) in [gain, shift].into_iter().enumerate() {
            if let (0, Some(GradOutput { output, accumulate })) = (k, target) {
                let out = args.out(output, outs.clone());
                if !accumulate {
                    out.fill(F::zero());
                }
                for tile in 0..d.tiles() {
                    let sums = args.read_scratch(at.norm(d, tile, l));
                    add_scaled(out, F::one(), &sums[which * width..][outs.clone()]);
                }
            }
        }
    }
}

/// `dx = dh W` (or added to it): rows `dh` of width `n`, `k` columns of `W` with rows `stride` apart.
#[inline(always)]
fn back<F: Real>(dh: &[F], n: usize, weight: &[F], stride: usize, dx: &mut [F], k: usize, add: bool) {
    let rows = dx.len() / k;
    // SAFETY: dh is rows x n, the columns of W n x k with row stride `stride`, dx rows x k and borrowed for writing.
    unsafe {
        F::gemm(
            (rows, n, k),
            (dh[..rows * n].as_ptr(), n, 1),
            (weight[..(n - 1) * stride + k].as_ptr(), stride, 1),
            add,
            (dx.as_mut_ptr(), k, 1),
        );
    }
}

/// `dW = dhᵀ x` (or added to it) over `rows` rows: `outs` columns of `dh`, whose rows are `width` apart, and rows `x`
/// of width `k`; rows of `dw` are `stride` apart.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "three matrices with their strides")]
fn outer<F: Real>(
    dh: &[F],
    width: usize,
    x: &[F],
    k: usize,
    rows: usize,
    dw: &mut [F],
    stride: usize,
    outs: usize,
    add: bool,
) {
    // SAFETY: dhᵀ is outs x rows, x rows x k, the columns of dW outs x k with row stride `stride`, borrowed for
    // writing.
    unsafe {
        F::gemm(
            (outs, rows, k),
            (dh[..(rows - 1) * width + outs].as_ptr(), 1, width),
            (x[..rows * k].as_ptr(), k, 1),
            add,
            (dw[..(outs - 1) * stride + k].as_mut_ptr(), stride, 1),
        );
    }
}
