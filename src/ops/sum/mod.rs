//! Sum of two arrays of one length: a residual connection.

mod cuda;

use crate::device::Real;
use crate::device::cuda::Launch;
use crate::tape::cuda::Operands;
use crate::tape::op::chunk;
use crate::tape::{Adjoint, Op, OpArgs, Program, Val};

const CHUNK: usize = 8192;

fn chunks(shape: &[usize]) -> Vec<usize> {
    vec![shape.iter().product::<usize>().div_ceil(CHUNK)]
}

/// Appends `a + b`, in the shape of `a`; the result goes to `out` if given.
pub fn sum(p: &mut Program, a: Val, b: Val, out: Option<Val>) -> Val {
    assert_eq!(p.len_of(a), p.len_of(b), "invariant: as many numbers on both sides");
    let shape = p.shape(a).to_vec();
    let out = out.unwrap_or_else(|| p.real(&shape));
    p.push(Sum, &[a, b], &[out]);
    out
}

#[derive(Debug)]
struct Sum;

impl Sum {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, task: usize) {
        let r = chunk(args.out_len(0), CHUNK, task);
        let (a, b) = (&args.input(0)[r.clone()], &args.input(1)[r.clone()]);
        for ((o, a), b) in args.out(0, r).iter_mut().zip(a).zip(b) {
            *o = *a + *b;
        }
    }
}

// SAFETY: each task writes its own chunk of the output and scratch, and only reads inputs.
unsafe impl Op for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }
    fn phases(&self, _: &[Vec<usize>], o: &[Vec<usize>]) -> Vec<usize> {
        chunks(&o[0])
    }
    fn adjoint(&self, a: &mut Adjoint) {
        let Some(c) = a.cotangent(0) else { return };
        for i in 0..2 {
            if let Some(s) = a.sink(i) {
                a.push(SumGrad { accumulate: s.accumulate }, &[c], &[s.val]);
            }
        }
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// The cotangent, unchanged, to either side.
#[derive(Debug)]
struct SumGrad {
    accumulate: bool,
}

impl SumGrad {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, task: usize) {
        let r = chunk(args.out_len(0), CHUNK, task);
        for (o, c) in args.out(0, r.clone()).iter_mut().zip(&args.input(0)[r]) {
            *o = if self.accumulate { *o + *c } else { *c };
        }
    }
}

// SAFETY: each task writes its own chunk of the output and scratch, and only reads inputs.
unsafe impl Op for SumGrad {
    fn name(&self) -> &'static str {
        "sum_grad"
    }
    fn phases(&self, _: &[Vec<usize>], o: &[Vec<usize>]) -> Vec<usize> {
        chunks(&o[0])
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}
