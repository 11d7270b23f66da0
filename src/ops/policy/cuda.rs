//! CUDA launches from network outputs to actions and values.

use super::{
    EnsembleMin, EnsembleMinGrad, SelectRows, SelectRowsGrad, Spread, SpreadGrad, Squash, SquashGradMean, SquashGradStd,
};
use crate::device::cuda::Launch;
use crate::device::cuda::launch::{In, Out};
use crate::tape::cuda::{Operands, cover};

crate::cuda_kernels! {
    "rl/policy.cu";
    fn squash[256](mean: In, logstd: In, noise: In, out: Out, w: u32, n: u32);
    fn squash_grad_mean[256](c: In, y: In, out: Out, accumulate: u32, n: u32);
    fn squash_grad_std[256](c: In, y: In, logstd: In, noise: In, out: Out, accumulate: u32, rows: u32);
    fn spread[256](logstd: In, noise: In, out: Out, w: u32, n: u32);
    fn spread_grad[256](c: In, y: In, out: Out, accumulate: u32, rows: u32);
    fn ensemble_min[128](v: In, out: Out, scale: f32, e: u32, m: u32);
    fn ensemble_min_grad[128](c: In, v: In, out: Out, scale: f32, e: u32, m: u32, accumulate: u32);
    fn select_rows[256](mask: In, a: In, b: In, out: Out, anchored: u32, w: u32, n: u32);
    fn select_rows_grad[256](mask: In, c: In, out: Out, keep: u32, accumulate: u32, w: u32, n: u32);
}

impl Squash {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let (n, w) = (x.out_len(0), x.shape(1)[0]);
        let noise = if x.inputs_len() > 2 { x.input(2) } else { In::default() };
        vec![squash(cover(n, 256), [], x.input(0), x.input(1), noise, x.out(0), w as u32, n as u32)]
    }
}

impl SquashGradMean {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let n = x.out_len(0);
        vec![squash_grad_mean(cover(n, 256), [], x.input(0), x.input(1), x.out(0), self.accumulate.into(), n as u32)]
    }
}

impl SquashGradStd {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let w = x.shape(2)[0];
        let (c, y, logstd, noise) = (x.input(0), x.input(1), x.input(2), x.input(3));
        let rows = (x.len(0) / w) as u32;
        vec![squash_grad_std([w, 1, 1], [], c, y, logstd, noise, x.out(0), self.accumulate.into(), rows)]
    }
}

impl Spread {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let (n, w) = (x.out_len(0), x.shape(0)[0]);
        vec![spread(cover(n, 256), [], x.input(0), x.input(1), x.out(0), w as u32, n as u32)]
    }
}

impl SpreadGrad {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let w = x.out_len(0);
        let rows = (x.len(0) / w) as u32;
        vec![spread_grad([w, 1, 1], [], x.input(0), x.input(1), x.out(0), self.accumulate.into(), rows)]
    }
}

impl EnsembleMin {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let (e, m) = (x.shape(0)[0], x.shape(0)[1]);
        vec![ensemble_min(cover(m, 128), [], x.input(0), x.out(0), self.scale as f32, e as u32, m as u32)]
    }
}

impl EnsembleMinGrad {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let (e, m) = (x.shape(1)[0], x.shape(1)[1]);
        let (c, v, accumulate) = (x.input(0), x.input(1), self.accumulate.into());
        vec![ensemble_min_grad(cover(m, 128), [], c, v, x.out(0), self.scale as f32, e as u32, m as u32, accumulate)]
    }
}

impl SelectRows {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let (n, w) = (x.out_len(0), x.shape(1)[1]);
        let (mask, a, b) = (x.input(0), x.input(1), x.input(2));
        vec![select_rows(cover(n, 256), [], mask, a, b, x.out(0), self.anchored.into(), w as u32, n as u32)]
    }
}

impl SelectRowsGrad {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let (n, w) = (x.out_len(0), x.shape(1)[1]);
        let (keep, accumulate) = (self.keep.into(), self.accumulate.into());
        vec![select_rows_grad(
            cover(n, 256),
            [],
            x.input(0),
            x.input(1),
            x.out(0),
            keep,
            accumulate,
            w as u32,
            n as u32,
        )]
    }
}
