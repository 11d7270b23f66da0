//! CUDA launches of rows by number.

use super::{CAPPED, CapRows, GatherRows, GatherRowsGrad, Mask, MaskGrad, RepeatIds, TaskIds};
use crate::device::cuda::Launch;
use crate::device::cuda::launch::{In, IndexIn, IndexOut, Out};
use crate::tape::cuda::{Operands, cover};

crate::cuda_kernels! {
    "nn/embedding.cu";
    fn task_ids[256](out: IndexOut, first: u32, each: u32, n: u32);
    fn repeat_ids[256](ids: IndexIn, out: IndexOut, m: u32, n: u32);
    fn gather_rows[256](x: In, index: IndexIn, out: Out, w: u32, n: u32);
    fn gather_rows_grad[128](c: In, index: IndexIn, out: Out, w: u32, m: u32, accumulate: u32);
    fn cap_rows[128](table: Out, norm: f32, most: f32, w: u32);
    fn mask[256](x: In, keep: In, out: Out, n: u32);
    fn mask_grad[256](c: In, keep: In, out: Out, accumulate: u32, n: u32);
}

impl TaskIds {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let n = x.out_len(0);
        vec![task_ids(cover(n, 256), [], x.out_index(0), self.first, self.each, n as u32)]
    }
}

impl RepeatIds {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let n = x.out_len(0);
        vec![repeat_ids(cover(n, 256), [], x.index(0), x.out_index(0), x.len(0) as u32, n as u32)]
    }
}

impl GatherRows {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let (n, w) = (x.out_len(0), x.out_shape(0)[1]);
        vec![gather_rows(cover(n, 256), [], x.input(0), x.index(1), x.out(0), w as u32, n as u32)]
    }
}

impl GatherRowsGrad {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let w = x.shape(0)[1];
        let (rows, m) = (x.out_len(0) / w, x.len(1) as u32);
        let accumulate = self.accumulate.into();
        vec![gather_rows_grad([rows, 1, 1], [], x.input(0), x.index(1), x.out(0), w as u32, m, accumulate)]
    }
}

impl CapRows {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let [rows, w] = [0, 1].map(|i| x.out_shape(0)[i]);
        vec![cap_rows([rows, 1, 1], [], x.out(0), self.norm as f32, (self.norm * CAPPED) as f32, w as u32)]
    }
}

impl Mask {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let n = x.out_len(0);
        vec![mask(cover(n, 256), [], x.input(0), x.input(1), x.out(0), n as u32)]
    }
}

impl MaskGrad {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let n = x.out_len(0);
        vec![mask_grad(cover(n, 256), [], x.input(0), x.input(1), x.out(0), self.accumulate.into(), n as u32)]
    }
}
