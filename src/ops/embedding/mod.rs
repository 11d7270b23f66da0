//! Rows by number: what belongs to a task, brought to each row of a batch that is of this task.
//!
//! | builder | effect |
//! |---|---|
//! | [`task_ids`] | the tasks of rows that lie task by task |
//! | [`repeat_ids`] | the same for rows that lie several times behind each other |
//! | [`gather_rows`] | a row of a table for each number |
//! | [`cap_rows`] | rows of a table made no longer than a norm, in place |
//! | [`mask`] | entries that a task does not have become zero |

mod cuda;

use crate::device::Real;
use crate::device::cuda::Launch;
use crate::tape::cuda::Operands;
use crate::tape::op::chunk;
use crate::tape::{Adjoint, Op, OpArgs, Program, Val};

/// Rows a task of an operation takes.
const ROWS: usize = 32;

/// Appends the tasks of `rows` rows, an index value `[rows]`: `tasks` of them from `first` on, with equally many rows
/// each.
pub fn task_ids(p: &mut Program, rows: usize, first: usize, tasks: usize) -> Val {
    assert!(tasks > 0 && rows.is_multiple_of(tasks), "invariant: every task has as many rows");
    let ids = p.index(&[rows]);
    p.push(TaskIds { first: first as u32, each: (rows / tasks) as u32 }, &[], &[ids]);
    ids
}

#[derive(Debug)]
struct TaskIds {
    first: u32,
    /// Rows of a task.
    each: u32,
}

impl TaskIds {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        for (row, id) in (0..).zip(args.out_index(0, 0..args.out_len(0))) {
            *id = self.first + row / self.each;
        }
    }
}

// SAFETY: a phase has one task.
unsafe impl Op for TaskIds {
    fn name(&self) -> &'static str {
        "task_ids"
    }
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![1]
    }
    fn differentiable(&self) -> bool {
        false
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// Appends the tasks `ids` `[M]`, an index value, `times` times behind each other: `[times M]`.
pub fn repeat_ids(p: &mut Program, ids: Val, times: usize) -> Val {
    let out = p.index(&[times * p.len_of(ids)]);
    p.push(RepeatIds, &[ids], &[out]);
    out
}

#[derive(Debug)]
struct RepeatIds;

impl RepeatIds {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        let ids = args.index(0);
        for part in args.out_index(0, 0..args.out_len(0)).chunks_exact_mut(ids.len()) {
            part.copy_from_slice(ids);
        }
    }
}

// SAFETY: a phase has one task.
unsafe impl Op for RepeatIds {
    fn name(&self) -> &'static str {
        "repeat_ids"
    }
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![1]
    }
    fn differentiable(&self) -> bool {
        false
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// Appends rows of `x` `[N, D]` in the order of the indices `[M]`, which are below N: `[M, D]`. Rows may be wanted more
/// than once; the cotangents of all of them add up in the order of the indices.
pub fn gather_rows(p: &mut Program, x: Val, index: Val) -> Val {
    let (m, d) = (p.len_of(index), p.shape(x)[p.shape(x).len() - 1]);
    let out = p.real(&[m, d]);
    p.push(GatherRows, &[x, index], &[out]);
    out
}

#[derive(Debug)]
struct GatherRows;

impl GatherRows {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, task: usize) {
        let w = args.out_shape(0)[1];
        for r in chunk(args.out_shape(0)[0], ROWS, task) {
            let from = args.index(1)[r] as usize * w;
            args.out(0, r * w..(r + 1) * w).copy_from_slice(&args.input(0)[from..from + w]);
        }
    }
}

// SAFETY: each task writes its own chunk of the output and scratch, and only reads inputs.
unsafe impl Op for GatherRows {
    fn name(&self) -> &'static str {
        "gather_rows"
    }
    fn phases(&self, _: &[Vec<usize>], o: &[Vec<usize>]) -> Vec<usize> {
        vec![o[0][0].div_ceil(ROWS)]
    }
    fn adjoint(&self, a: &mut Adjoint) {
        let Some(c) = a.cotangent(0) else { return };
        let index = a.input(1);
        if let Some(s) = a.sink(0) {
            a.push(GatherRowsGrad { accumulate: s.accumulate }, &[c, index], &[s.val]);
        }
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// `dx[n] = sum of dy[m] over the m whose index is n`, in the order of m. A task sums up a row of x.
#[derive(Debug)]
struct GatherRowsGrad {
    accumulate: bool,
}

impl GatherRowsGrad {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, task: usize) {
        let w = *args.out_shape(0).last().expect("invariant: a table has columns");
        let out = args.out(0, task * w..(task + 1) * w);
        if !self.accumulate {
            out.fill(F::zero());
        }
        for (c, &index) in args.input(0).chunks_exact(w).zip(args.index(1)) {
            if index as usize == task {
                for (o, c) in out.iter_mut().zip(c) {
                    *o += *c;
                }
            }
        }
    }
}

// SAFETY: each task writes its own row of the output.
unsafe impl Op for GatherRowsGrad {
    fn name(&self) -> &'static str {
        "gather_rows_grad"
    }
    fn phases(&self, _: &[Vec<usize>], o: &[Vec<usize>]) -> Vec<usize> {
        vec![o[0][..o[0].len() - 1].iter().product()]
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// Appends: rows of the table `[N, D]` whose Euclidean norm is above `norm` are scaled down to it, in place and outside
/// the gradient, as `torch.nn.Embedding(max_norm=...)` does when it looks a row up.
pub fn cap_rows(p: &mut Program, table: Val, norm: f64) {
    p.push(CapRows { norm }, &[], &[table]);
}

/// How much longer than the norm a row may be: what rounding makes of one that was scaled down to it.
pub(super) const CAPPED: f64 = 1.0 + 1e-6;

#[derive(Debug)]
struct CapRows {
    norm: f64,
}

impl CapRows {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        let (w, cap) = (args.out_shape(0)[1], F::of(self.norm));
        for row in args.out_all(0).chunks_exact_mut(w) {
            let norm = row.iter().fold(F::zero(), |s, x| s + *x * *x).sqrt();
            // A row that was scaled before stays as it is, whatever its norm was rounded to.
            if norm > cap * F::of(CAPPED) {
                // The small number is torch's.
                let scale = cap / (norm + F::of(1e-7));
                row.iter_mut().for_each(|x| *x *= scale);
            }
        }
    }
}

// SAFETY: a phase has one task.
unsafe impl Op for CapRows {
    fn name(&self) -> &'static str {
        "cap_rows"
    }
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![1]
    }
    fn differentiable(&self) -> bool {
        false
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// Appends `x` `[M, D]` with zeros where `keep` `[M, D]` is 0; elsewhere `keep` is 1. The result goes to `out` if given.
/// What is not kept may be anything, a NaN too.
pub fn mask(p: &mut Program, x: Val, keep: Val, out: Option<Val>) -> Val {
    assert_eq!(p.len_of(x), p.len_of(keep), "invariant: a mask has an entry for each number");
    let shape = p.shape(x).to_vec();
    let out = out.unwrap_or_else(|| p.real(&shape));
    p.push(Mask, &[x, keep], &[out]);
    out
}

#[derive(Debug)]
struct Mask;

/// What is kept of `x`.
#[inline(always)]
fn kept<F: Real>(x: F, keep: F) -> F {
    if keep.value() == 0.0 { F::zero() } else { x }
}

impl Mask {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, task: usize) {
        let w = args.shape(0)[args.shape(0).len() - 1];
        let r = chunk(args.out_len(0) / w, ROWS, task);
        let r = r.start * w..r.end * w;
        let (x, keep) = (&args.input(0)[r.clone()], &args.input(1)[r.clone()]);
        for ((o, x), keep) in args.out(0, r).iter_mut().zip(x).zip(keep) {
            *o = kept(*x, *keep);
        }
    }
}

// SAFETY: each task writes its own chunk of the output and scratch, and only reads inputs.
unsafe impl Op for Mask {
    fn name(&self) -> &'static str {
        "mask"
    }
    fn phases(&self, i: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![i[0][..i[0].len() - 1].iter().product::<usize>().div_ceil(ROWS)]
    }
    fn adjoint(&self, a: &mut Adjoint) {
        let Some(c) = a.cotangent(0) else { return };
        let keep = a.input(1);
        if let Some(s) = a.sink(0) {
            a.push(MaskGrad { accumulate: s.accumulate }, &[c, keep], &[s.val]);
        }
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// The cotangent where something was kept.
#[derive(Debug)]
struct MaskGrad {
    accumulate: bool,
}

impl MaskGrad {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, task: usize) {
        let w = args.shape(0)[args.shape(0).len() - 1];
        let r = chunk(args.out_len(0) / w, ROWS, task);
        let r = r.start * w..r.end * w;
        let (c, keep) = (&args.input(0)[r.clone()], &args.input(1)[r.clone()]);
        for ((o, c), keep) in args.out(0, r).iter_mut().zip(c).zip(keep) {
            let g = kept(*c, *keep);
            *o = if self.accumulate { *o + g } else { g };
        }
    }
}

// SAFETY: each task writes its own chunk of the output and scratch, and only reads inputs.
unsafe impl Op for MaskGrad {
    fn name(&self) -> &'static str {
        "mask_grad"
    }
    fn phases(&self, i: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![i[0][..i[0].len() - 1].iter().product::<usize>().div_ceil(ROWS)]
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}
