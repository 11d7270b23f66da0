//! CUDA launches of the distributional reward head: a warp for each row of logits.

use super::{Decode, TwoHotDecode, TwoHotDecodeGrad, TwoHotLoss, TwoHotLossGrad, tasks};
use crate::device::cuda::Launch;
use crate::device::cuda::launch::{In, Out, Table};
use crate::ops::loss::cuda::basic;
use crate::tape::cuda::Operands;

crate::cuda_kernels! {
    "nn/twohot.cu";
    fn two_hot_decode[256](logits: In, y: Out, vmin: f64, vmax: f64, bins: u32, exponential: u32, rows: u32);
    fn two_hot_decode_grad[256](
        dy: In, logits: In, out: Out, vmin: f64, vmax: f64, bins: u32, exponential: u32, accumulate: u32, rows: u32,
    );
    fn two_hot_loss_rows[256](
        logits: In, reward: In, ce: Out, w: Table, vmin: f64, vmax: f64, bins: u32, batch: u32, rows: u32,
    );
    fn two_hot_loss_grad[256](
        c: In, logits: In, reward: In, out: Out, w: Table, vmin: f64, vmax: f64, bins: u32, batch: u32,
        accumulate: u32, rows: u32,
    );
}

fn warps(rows: usize) -> [usize; 3] {
    [rows.div_ceil(8), 1, 1]
}

/// Weights of up to [`Table::LEN`] steps, with the first row of those steps and their rows.
fn segments(weights: &[f64], batch: usize) -> impl Iterator<Item = (Table, usize, usize)> {
    let chunks = weights.chunks(Table::LEN).enumerate();
    chunks.map(move |(i, w)| (Table::new(w.iter().copied()), i * Table::LEN * batch, w.len() * batch))
}

impl TwoHotDecode {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let (b, rows) = (self.bins, x.out_len(0));
        let exponential = (self.decode == Decode::Symexp).into();
        vec![two_hot_decode(
            warps(rows),
            [],
            x.input(0),
            x.out(0),
            b.vmin,
            b.vmax,
            b.count as u32,
            exponential,
            rows as u32,
        )]
    }
}

impl TwoHotDecodeGrad {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let (b, rows, accumulate) = (self.bins, x.len(0), self.accumulate.into());
        let exponential = (self.decode == Decode::Symexp).into();
        let (dy, logits, out, count) = (x.input(0), x.input(1), x.out(0), b.count as u32);
        vec![two_hot_decode_grad(
            warps(rows),
            [],
            dy,
            logits,
            out,
            b.vmin,
            b.vmax,
            count,
            exponential,
            accumulate,
            rows as u32,
        )]
    }
}

impl TwoHotLoss {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let (b, total) = (self.bins, x.len(1));
        let batch = total / self.weights.len();
        let ce = x.scratch().at(tasks(&b, x.shape(0)) * b.count);
        let mut list: Vec<_> = segments(&self.weights, batch)
            .map(|(table, from, rows)| {
                let (logits, reward) = (x.input(0).at(from * b.count), x.input(1).at(from));
                let (count, batch, grid) = (b.count as u32, batch as u32, warps(rows));
                two_hot_loss_rows(
                    grid,
                    [],
                    logits,
                    reward,
                    ce.at(from),
                    table,
                    b.vmin,
                    b.vmax,
                    count,
                    batch,
                    rows as u32,
                )
            })
            .collect();
        list.push(basic::total([1, 1, 1], [], ce.into(), x.out(0), total as u32));
        list
    }
}

impl TwoHotLossGrad {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let (b, accumulate) = (self.bins, self.accumulate.into());
        let batch = x.len(2) / self.weights.len();
        segments(&self.weights, batch)
            .map(|(table, from, rows)| {
                let (logits, reward, out) =
                    (x.input(1).at(from * b.count), x.input(2).at(from), x.out(0).at(from * b.count));
                let (count, batch, grid) = (b.count as u32, batch as u32, warps(rows));
                two_hot_loss_grad(
                    grid,
                    [],
                    x.input(0),
                    logits,
                    reward,
                    out,
                    table,
                    b.vmin,
                    b.vmax,
                    count,
                    batch,
                    accumulate,
                    rows as u32,
                )
            })
            .collect()
    }
}
