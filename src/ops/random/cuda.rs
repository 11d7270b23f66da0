//! CUDA launches of noise and random orders.

use super::{Normal, Permutation, Uniform};
use crate::device::cuda::Launch;
use crate::device::cuda::launch::{IndexIn, IndexOut, Out};
use crate::tape::cuda::{Operands, cover};

crate::cuda_kernels! {
    "tape/random.cu";
    fn normal[128](step: IndexIn, out: Out, seed: u64, stream: u32, n: u32);
    fn uniform[128](step: IndexIn, out: Out, seed: u64, stream: u32, n: u32);
    fn permutation[256]<N>(step: IndexIn, out: IndexOut, seed: u64, stream: u32);
}

impl Normal {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let n = x.out_len(0);
        let grid = cover(n.div_ceil(2), 128);
        vec![normal(grid, [], x.index(0), x.out(0), self.rng.seed(), self.rng.stream(), n as u32)]
    }
}

impl Uniform {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let n = x.out_len(0);
        let grid = cover(n.div_ceil(4), 128);
        vec![uniform(grid, [], x.index(0), x.out(0), self.rng.seed(), self.rng.stream(), n as u32)]
    }
}

impl Permutation {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let n = x.out_len(0) as i64;
        vec![permutation([1, 1, 1], [n], x.index(0), x.out_index(0), self.rng.seed(), self.rng.stream())]
    }
}
