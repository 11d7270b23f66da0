//! Noise from the counter-based generator.

use crate::device::Real;
use crate::device::philox::{Philox, Stream};
use crate::tape::op::chunk;
use crate::tape::{Cx, Op, Program, Val};

const CHUNK: usize = 1024;

/// Appends standard normal numbers, a function of seed, stream, the index value `step` `[1]` and position alone.
pub fn normal(p: &mut Program, seed: u64, stream: Stream, step: Val, shape: &[usize]) -> Val {
    let out = p.real(shape);
    p.push(Normal { rng: Philox::new(seed, stream) }, &[step], &[out]);
    out
}

#[derive(Debug)]
struct Normal {
    rng: Philox,
}

impl Normal {
    #[inline(always)]
    fn run<F: Real>(&self, cx: &Cx<F>, _: usize, task: usize) {
        let step = u64::from(cx.index(0)[0]);
        let r = chunk(cx.out_len(0), CHUNK, task);
        for (o, i) in cx.out(0, r.clone()).iter_mut().zip(r) {
            *o = F::of(self.rng.normal(step, i as u32));
        }
    }
}

impl Op for Normal {
    fn name(&self) -> &'static str {
        "normal"
    }
    fn phases(&self, _: &[Vec<usize>], o: &[Vec<usize>]) -> Vec<usize> {
        vec![o[0].iter().product::<usize>().div_ceil(CHUNK)]
    }
    fn differentiable(&self) -> bool {
        false
    }
    crate::kernels!();
}
