//! CUDA launches of squared errors. A launch carries the weights of up to [`Table::LEN`] slices.

use super::{CHUNK, SquaredError, SquaredErrorGrad, slices};
use crate::device::cuda::Launch;
use crate::device::cuda::launch::{In, Out, Table};
use crate::tape::cuda::Operands;

crate::cuda_kernels! {
    "nn/loss.cu";
    fn squared_error_parts[256](pred: In, target: In, parts: Out, w: Table, slice: u32, targets: u32);
    fn squared_error_grad[256](
        c: In, pred: In, target: In, out: Out, w: Table, slice: u32, targets: u32, accumulate: u32,
    );
}

pub(crate) mod basic {
    use crate::device::cuda::launch::{In, Out};
    crate::cuda_kernels! {
        "tape/basic.cu";
        fn total[256](parts: In, out: Out, n: u32);
    }
}

/// First slice and weights of each launch.
pub(in crate::ops) fn segments(weights: &[f64]) -> impl Iterator<Item = (usize, &[f64])> {
    weights.chunks(Table::LEN).enumerate().map(|(i, w)| (i * Table::LEN, w))
}

impl SquaredError {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let (slice, chunks) = slices(x.len(0), &self.weights);
        assert_eq!(CHUNK, 4096, "invariant: the kernel sums chunks of this size");
        // One slice of targets may serve all slices.
        let targets = if x.len(1) == slice { 0 } else { slice };
        let mut list: Vec<_> = segments(&self.weights)
            .map(|(from, w)| {
                let (pred, target) = (x.input(0).at(from * slice), x.input(1).at(from * targets));
                let (parts, table) = (x.scratch().at(from * chunks), Table::new(w.iter().copied()));
                squared_error_parts([chunks, w.len(), 1], [], pred, target, parts, table, slice as u32, targets as u32)
            })
            .collect();
        list.push(basic::total([1, 1, 1], [], x.scratch().into(), x.out(0), (self.weights.len() * chunks) as u32));
        list
    }
}

impl SquaredErrorGrad {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let (slice, _) = slices(x.len(1), &self.weights);
        let targets = if x.len(2) == slice { 0 } else { slice };
        segments(&self.weights)
            .map(|(from, w)| {
                let (pred, target) = (x.input(1).at(from * slice), x.input(2).at(from * targets));
                let (out, table) = (x.out(0).at(from * slice), Table::new(w.iter().copied()));
                let grid = [slice.div_ceil(256), w.len(), 1];
                let (size, step, accumulate) = (slice as u32, targets as u32, self.accumulate.into());
                squared_error_grad(grid, [], x.input(0), pred, target, out, table, size, step, accumulate)
            })
            .collect()
    }
}
