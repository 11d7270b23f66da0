//! CUDA launches of copies, counters, clamps and accumulators.

use super::{Accumulate, ClampBelow, Clip, Copy, Increment};
use crate::device::cuda::Launch;
use crate::device::cuda::launch::{In, IndexOut, Out};
use crate::tape::cuda::{Operands, cover};

crate::cuda_kernels! {
    "tape/basic.cu";
    fn copy[256](from: In, to: Out, n: u32);
    fn increment[32](counter: IndexOut);
    fn clamp_below[256](x: Out, low: f32, n: u32);
    fn clip[256](x: In, y: Out, limit: f32, n: u32);
    fn accumulate[32](x: In, slot: Out, replace: u32);
}

const ONE: [usize; 3] = [1, 1, 1];

impl Copy {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let n = x.out_len(0);
        vec![copy(cover(n, 256), [], x.input(0), x.out(0), n as u32)]
    }
}

impl Increment {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        vec![increment(ONE, [], x.out_index(0))]
    }
}

impl ClampBelow {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let n = x.out_len(0);
        vec![clamp_below(cover(n, 256), [], x.out(0), self.low as f32, n as u32)]
    }
}

impl Clip {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let n = x.out_len(0);
        vec![clip(cover(n, 256), [], x.input(0), x.out(0), self.limit as f32, n as u32)]
    }
}

impl Accumulate {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        vec![accumulate(ONE, [], x.input(0), x.out(0), self.replace.into())]
    }
}
