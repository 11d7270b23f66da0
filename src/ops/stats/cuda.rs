//! CUDA launches of running statistics.

use super::{Normalise, NormaliseGrad, UpdateStats};
use crate::device::cuda::Launch;
use crate::device::cuda::launch::{In, Out};
use crate::tape::cuda::{Operands, cover};

crate::cuda_kernels! {
    "tape/stats.cu";
    fn update_stats[256](x: In, stats: Out, decay: f32, rows: u32);
    fn normalise[256](x: In, stats: In, y: Out, center: u32, d: u32, n: u32);
    fn normalise_grad[256](c: In, stats: In, y: In, x_bar: Out, accumulate: u32, d: u32, n: u32);
}

impl UpdateStats {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let columns = x.out_len(0) / 3;
        let rows = x.len(0) / columns;
        vec![update_stats([columns, 1, 1], [], x.input(0), x.out(0), self.decay as f32, rows as u32)]
    }
}

impl Normalise {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let (n, d) = (x.len(0), x.len(1) / 3);
        let center = self.center.into();
        vec![normalise(cover(n, 256), [], x.input(0), x.input(1), x.out(0), center, d as u32, n as u32)]
    }
}

impl NormaliseGrad {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let (n, d) = (x.len(0), x.len(1) / 3);
        let (c, stats, y) = (x.input(0), x.input(1), x.input(2));
        vec![normalise_grad(cover(n, 256), [], c, stats, y, x.out(0), self.accumulate.into(), d as u32, n as u32)]
    }
}
