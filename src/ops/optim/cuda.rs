//! CUDA launches of the optimiser: squares of the gradient, their root and the factors, the update.

use super::{Adam, CHUNK};
use crate::device::cuda::Launch;
use crate::device::cuda::launch::{In, IndexOut, Out};
use crate::tape::cuda::{Operands, cover};

crate::cuda_kernels! {
    "nn/optim.cu";
    fn adam_squares[256](g: In, parts: Out, n: u32);
    fn adam_factors[256](
        parts: In, rate: In, norm: Out, step: IndexOut, skipped: IndexOut, factors: Out,
        chunks: u32, beta1: f64, beta2: f64, max_norm: f32,
    );
    fn adam_apply[256](g: In, factors: In, p: Out, m: Out, v: Out, b1: f32, b2: f32, c1: f32, c2: f32, n: u32);
}

impl Adam {
    pub(super) fn launches(&self, x: &Operands) -> Vec<Launch> {
        let (n, s) = (x.len(0), &self.spec);
        let chunks = n.div_ceil(CHUNK);
        let (g, parts, factors) = (x.input(0), x.scratch(), x.scratch().at(chunks));
        let (step, norm, skipped) = (x.out_index(3), x.out(4), x.out_index(5));
        let betas = [s.beta1, s.beta2, 1.0 - s.beta1, 1.0 - s.beta2].map(|b| b as f32);
        let [b1, b2, c1, c2] = betas;
        let (count, max_norm) = (chunks as u32, s.max_norm as f32);
        vec![
            adam_squares([chunks, 1, 1], [], g, parts, n as u32),
            adam_factors(
                [1, 1, 1],
                [],
                parts.into(),
                x.input(1),
                norm,
                step,
                skipped,
                factors,
                count,
                s.beta1,
                s.beta2,
                max_norm,
            ),
            adam_apply(cover(n, 256), [], g, factors.into(), x.out(0), x.out(1), x.out(2), b1, b2, c1, c2, n as u32),
        ]
    }
}
