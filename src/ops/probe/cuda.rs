//! CUDA launches of the probes: one block each.

use super::{Covariance, GroupDrift};
use crate::device::cuda::Launch;
use crate::device::cuda::launch::{In, Out};
use crate::tape::cuda::Operands;

crate::cuda_kernels! {
    "tape/probe.cu";
    fn covariance[256](x: In, y: In, out: Out, n: u32);
    fn group_drift[256](z: In, out: Out, group: u32, groups: u32);
}

impl Covariance {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        vec![covariance([1, 1, 1], [], x.input(0), x.input(1), x.out(0), x.len(0) as u32)]
    }
}

impl GroupDrift {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let groups = (x.len(0) / self.group) as u32;
        vec![group_drift([1, 1, 1], [], x.input(0), x.out(0), self.group as u32, groups)]
    }
}
