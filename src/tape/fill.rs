//! `Fill`: the one operation the tape itself needs, to seed and to clear cotangents.

use super::op::{Cx, Op, chunk};
use crate::device::Real;

/// Writes `value` to every element of its output.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    pub value: f64,
}

const CHUNK: usize = 16_384;

impl Fill {
    #[inline(always)]
    fn run<F: Real>(&self, cx: &Cx<F>, _phase: usize, task: usize) {
        cx.out(0, chunk(cx.out_len(0), CHUNK, task)).fill(F::of(self.value));
    }
}

impl Op for Fill {
    fn name(&self) -> &'static str {
        "fill"
    }
    fn phases(&self, _: &[Vec<usize>], outputs: &[Vec<usize>]) -> Vec<usize> {
        vec![outputs[0].iter().product::<usize>().div_ceil(CHUNK)]
    }
    crate::kernels!();
}
