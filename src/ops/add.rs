//! Sum of two arrays of the same length.
use crate::device::Real;
use crate::tape::op::chunk;
use crate::tape::{Adjoint, Cx, Op, Program, Val};
const CHUNK: usize = 8192;
pub fn add(p: &mut Program, a: Val, b: Val, out: Option<Val>) -> Val {
    let shape = p.shape(a).to_vec();
    let out = out.unwrap_or_else(|| p.real(&shape));
    p.push(Add, &[a, b], &[out]);
    out
}
#[derive(Debug)]
struct Add;
impl Add {
    #[inline(always)]
    fn run<F: Real>(&self, cx: &Cx<F>, _: usize, task: usize) {
        let r = chunk(cx.out_len(0), CHUNK, task);
        let (a, b) = (&cx.input(0)[r.clone()], &cx.input(1)[r.clone()]);
        for ((o, a), b) in cx.out(0, r).iter_mut().zip(a).zip(b) {
            *o = *a + *b;
        }
    }
}
impl Op for Add {
    fn name(&self) -> &'static str {
        "add"
    }
    fn phases(&self, i: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![i[0].iter().product::<usize>().div_ceil(CHUNK)]
    }
    fn adjoint(&self, a: &mut Adjoint) {
        let Some(c) = a.cotangent(0) else { return };
        for i in 0..2 {
            if let Some(s) = a.sink(i) {
                a.push(AddGrad { accumulate: s.accumulate }, &[c], &[s.val]);
            }
        }
    }
    crate::kernels!();
}
#[derive(Debug)]
struct AddGrad {
    accumulate: bool,
}
impl AddGrad {
    #[inline(always)]
    fn run<F: Real>(&self, cx: &Cx<F>, _: usize, task: usize) {
        let r = chunk(cx.out_len(0), CHUNK, task);
        let c = &cx.input(0)[r.clone()];
        for (o, c) in cx.out(0, r).iter_mut().zip(c) {
            *o = if self.accumulate { *o + *c } else { *c };
        }
    }
}
impl Op for AddGrad {
    fn name(&self) -> &'static str {
        "add_grad"
    }
    fn phases(&self, i: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![i[0].iter().product::<usize>().div_ceil(CHUNK)]
    }
    crate::kernels!();
}
