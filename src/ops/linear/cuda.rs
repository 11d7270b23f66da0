//! CUDA launches of fully connected layers.

use super::{Epilogue, Linear, LinearGrad, Target, Transpose, first_x};
use crate::device::cuda::Launch;
use crate::device::cuda::launch::{In, Out};
use crate::tape::cuda::Operands;

crate::cuda_kernels! {
    "nn/linear.cu";
    fn linear[256]<N, K0, K1, K2, EPILOGUE, G>(
        wt: In, bias: In, gain: In, shift: In, x0: In, x1: In, x2: In, y: Out, saved: Out, m: u32, shared: u32,
    );
    fn linear_grad_rows[256]<N, EPILOGUE, G>(
        dy: In, h: In, y: In, gain: In, shift: In, dh: Out, sums: Out, m: u32,
    );
    fn linear_grad_input[256]<N, K, OFFSET, WIDTH>(dh: In, w: In, dx: Out, m: u32, members: u32, accumulate: u32);
    fn linear_grad_weight[256]<N, K, OFFSET, WIDTH>(dh: In, x: In, dw: Out, m: u32, shared: u32, accumulate: u32);
    fn column_sums[256](x: In, out: Out, rows: u32, n: u32, stride: u32, accumulate: u32);
    fn transpose[256](w: In, out: Out, n: u32, k: u32);
}

/// Rows of a block.
pub(in crate::ops) const ROWS: usize = 8;
/// Outputs and inputs of a tile of a weight gradient.
pub(in crate::ops) const TILE: (usize, usize) = (32, 64);
/// Input parts that the kernel takes.
const PARTS: usize = 3;

/// Number of the epilogue in the kernels, and its group.
pub(in crate::ops) fn code(e: Epilogue) -> (i64, i64) {
    match e {
        Epilogue::Bias => (0, 1),
        Epilogue::NormMish => (1, 1),
        Epilogue::NormSimplex { group } => (2, group as i64),
        Epilogue::MishNorm => (3, 1),
    }
}

impl Linear {
    pub(super) fn launches(&self, x: &Operands) -> Option<Vec<Launch>> {
        let d = &self.dims;
        if d.parts.len() > PARTS {
            return None;
        }
        let norm = d.epilogue.has_norm();
        let (gain, shift) = if norm { (x.input(3), x.input(4)) } else { Default::default() };
        let first = first_x(d.epilogue);
        let part = |i: usize| d.parts.get(i).map_or((0, In::default()), |&k| (k as i64, x.input(first + i)));
        let [(k0, x0), (k1, x1), (k2, x2)] = [part(0), part(1), part(2)];
        let saved = if norm && x.outputs_len() > 1 { x.out(1) } else { Out::default() };
        let (epilogue, group) = code(d.epilogue);
        let (grid, template) = ([d.m.div_ceil(ROWS), d.ensemble, 1], [d.n as i64, k0, k1, k2, epilogue, group]);
        let (wt, bias, shared) = (x.input(1), x.input(2), d.shared_input.into());
        Some(vec![linear(grid, template, wt, bias, gain, shift, x0, x1, x2, x.out(0), saved, d.m as u32, shared)])
    }
}

impl LinearGrad {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let d = &self.dims;
        let (e, m, n, k) = (d.ensemble, d.m, d.n, d.k());
        let norm = d.epilogue.has_norm();
        let blocks = m.div_ceil(ROWS);
        let (n_, k_, rows) = (n as i64, k as i64, m as u32);
        let mut list = Vec::new();
        let dh: In = if norm {
            let (epilogue, group) = code(d.epilogue);
            let (dy, h, y, gain, shift) = (x.input(0), x.input(1), x.input(2), x.input(4), x.input(5));
            let template = [n_, epilogue, group];
            list.push(linear_grad_rows([blocks, e, 1], template, dy, h, y, gain, shift, x.out(0), x.scratch(), rows));
            x.out(0).into()
        } else {
            x.input(0)
        };
        let first = if norm { 6 } else { 4 };
        let mut offset = 0;
        for (i, &width) in d.parts.iter().enumerate() {
            let template = [n_, k_, offset as i64, width as i64];
            if let Some(Target { output, accumulate }) = self.dx[i] {
                // Members that share an input add up inside one block.
                let (grid, members) = if self.joined() { ([blocks, 1, 1], e) } else { ([blocks, e, 1], 1) };
                let (w, dx) = (x.input(3), x.out(output));
                list.push(linear_grad_input(grid, template, dh, w, dx, rows, members as u32, accumulate.into()));
            }
            if let Some(Target { output, accumulate }) = self.params[0] {
                let grid = [width.div_ceil(TILE.1) * n.div_ceil(TILE.0), e, 1];
                let (x_, dw, shared) = (x.input(first + i), x.out(output), d.shared_input.into());
                list.push(linear_grad_weight(grid, template, dh, x_, dw, rows, shared, accumulate.into()));
            }
            offset += width;
        }
        let columns = [n.div_ceil(32), e, 1];
        if let Some(Target { output, accumulate }) = self.params[1] {
            list.push(column_sums(columns, [], dh, x.out(output), rows, n as u32, n as u32, accumulate.into()));
        }
        for (which, target) in self.params.iter().skip(2).enumerate() {
            if let Some(Target { output, accumulate }) = *target {
                let (sums, stride) = (x.scratch().at(which * n).into(), 2 * n as u32);
                list.push(column_sums(
                    columns,
                    [],
                    sums,
                    x.out(output),
                    blocks as u32,
                    n as u32,
                    stride,
                    accumulate.into(),
                ));
            }
        }
        list
    }

    /// Numbers of scratch memory that the kernels need: gain and shift sums of each block of rows.
    pub(super) fn cuda_workspace(&self) -> usize {
        let d = &self.dims;
        if d.epilogue.has_norm() { d.ensemble * d.m.div_ceil(ROWS) * 2 * d.n } else { 0 }
    }
}

impl Transpose {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let s = x.shape(0);
        let (n, k) = (s[s.len() - 2], s[s.len() - 1]);
        let e = if s.len() == 3 { s[0] } else { 1 };
        vec![transpose([k.div_ceil(32), n.div_ceil(32), e], [], x.input(0), x.out(0), n as u32, k as u32)]
    }
}
