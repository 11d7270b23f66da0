//! CUDA launches of the sum.

use super::{Sum, SumGrad};
use crate::device::cuda::Launch;
use crate::device::cuda::launch::{In, Out};
use crate::tape::cuda::{Operands, cover};

crate::cuda_kernels! {
    "tape/basic.cu";
    fn sum[256](a: In, b: In, out: Out, n: u32);
    fn sum_grad[256](c: In, out: Out, accumulate: u32, n: u32);
}

impl Sum {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let n = x.out_len(0);
        vec![sum(cover(n, 256), [], x.input(0), x.input(1), x.out(0), n as u32)]
    }
}

impl SumGrad {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let n = x.out_len(0);
        vec![sum_grad(cover(n, 256), [], x.input(0), x.out(0), self.accumulate.into(), n as u32)]
    }
}
