//! `Fill`: the one operation the tape itself needs, to seed and to clear cotangents.

use super::cuda::{Operands, cover};
use super::op::{Op, OpArgs, chunk};
use crate::device::Real;
use crate::device::cuda::Launch;

/// Writes `value` to every element of its output.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    pub value: f64,
}

const CHUNK: usize = 16_384;

impl Fill {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _phase: usize, task: usize) {
        args.out(0, chunk(args.out_len(0), CHUNK, task)).fill(F::of(self.value));
    }
}

// SAFETY: each task writes its own chunk of the output and scratch, and only reads inputs.
unsafe impl Op for Fill {
    fn name(&self) -> &'static str {
        "fill"
    }
    fn phases(&self, _: &[Vec<usize>], outputs: &[Vec<usize>]) -> Vec<usize> {
        vec![outputs[0].iter().product::<usize>().div_ceil(CHUNK)]
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        let n = x.out_len(0);
        Some(vec![kernels::fill(cover(n, 256), [], x.out(0), self.value as f32, n as u32)])
    }
    crate::kernels!();
}

mod kernels {
    use crate::device::cuda::launch::Out;
    crate::cuda_kernels! {
        "tape/basic.cu";
        fn fill[256](out: Out, value: f32, n: u32);
    }
}
