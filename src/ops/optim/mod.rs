//! The optimiser: global-norm clipping and Adam over one flat group of parameters.

mod cuda;

use crate::device::Real;
use crate::device::cpu::vmath::sum_of;
use crate::device::cuda::Launch;
use crate::device::numerics::{ADAM_EPSILON, CLIP_EPSILON};
use crate::tape::cuda::Operands;
use crate::tape::op::chunk;
use crate::tape::{Op, OpArgs, Program, Val};

/// Elements a task takes.
const CHUNK: usize = 16_384;

/// Constants of one optimiser.
#[derive(Clone, Copy, Debug)]
pub struct AdamSpec {
    pub beta1: f64,
    pub beta2: f64,
    /// Largest global L2 norm of the gradient.
    pub max_norm: f64,
}

/// State of one optimiser, as values of a program.
#[derive(Clone, Copy, Debug)]
pub struct AdamVals {
    /// `[n]` each.
    pub params: Val,
    pub grads: Val,
    pub m: Val,
    pub v: Val,
    /// `[1]`, index: updates made.
    pub step: Val,
    /// `[1]`: learning rate.
    pub rate: Val,
    /// `[1]`: norm of the gradient before clipping.
    pub norm: Val,
    /// `[1]`, index: updates skipped because the gradient was not finite.
    pub skipped: Val,
}

/// Appends: clip the gradient to `max_norm`, then one step of Adam (Kingma and Ba 2015):
/// `p -= rate / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + 1e-8)`.
/// A gradient that is not finite changes nothing and is counted.
pub fn adam(p: &mut Program, spec: AdamSpec, a: &AdamVals) {
    p.push(Adam { spec }, &[a.grads, a.rate], &[a.params, a.m, a.v, a.step, a.norm, a.skipped]);
}

#[derive(Debug)]
struct Adam {
    spec: AdamSpec,
}

impl Adam {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, phase: usize, task: usize) {
        let g = args.input(0);
        let chunks = g.len().div_ceil(CHUNK);
        match phase {
            0 => {
                let g = &g[chunk(g.len(), CHUNK, task)];
                args.scratch(task..task + 1)[0] = sum_of(g, |g| g * g);
            }
            1 => {
                let parts = args.read_scratch(0..chunks);
                let norm = sum_of(parts, |x| x).sqrt();
                args.out_all(4)[0] = norm;
                let step = args.out_index(3, 0..1);
                let factors = args.scratch(chunks..chunks + 3);
                if !norm.is_finite() {
                    args.out_index(5, 0..1)[0] += 1;
                    factors[0] = F::of(-1.0);
                    return;
                }
                step[0] += 1;
                let t = step[0] as i32;
                let clip = F::of(self.spec.max_norm) / (norm + F::of(CLIP_EPSILON));
                factors[0] = clip.min(F::one());
                factors[1] = args.input(1)[0] * F::of(1.0 / (1.0 - self.spec.beta1.powi(t)));
                factors[2] = F::of(1.0 / (1.0 - self.spec.beta2.powi(t)).sqrt());
            }
            _ => {
                let f = args.read_scratch(chunks..chunks + 3);
                let (clip, rate, root) = (f[0], f[1], f[2]);
                if clip < F::zero() {
                    return;
                }
                let (b1, b2) = (F::of(self.spec.beta1), F::of(self.spec.beta2));
                let (c1, c2) = (F::of(1.0 - self.spec.beta1), F::of(1.0 - self.spec.beta2));
                let r = chunk(g.len(), CHUNK, task);
                let g = &g[r.clone()];
                let (p, m, v) = (args.out(0, r.clone()), args.out(1, r.clone()), args.out(2, r));
                let eps = F::of(ADAM_EPSILON);
                for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(g) {
                    let g = *g * clip;
                    *m = b1 * *m + c1 * g;
                    *v = b2 * *v + c2 * g * g;
                    *p -= rate * *m / (v.sqrt() * root + eps);
                }
            }
        }
    }
}

// SAFETY: tasks write their own chunks and partial sums; what all of them read in the last phase, they read shared.
unsafe impl Op for Adam {
    fn name(&self) -> &'static str {
        "adam"
    }
    fn workspace(&self, i: &[Vec<usize>], _: &[Vec<usize>]) -> usize {
        i[0].iter().product::<usize>().div_ceil(CHUNK) + 3
    }
    fn phases(&self, i: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        let chunks = i[0].iter().product::<usize>().div_ceil(CHUNK);
        vec![chunks, 1, chunks]
    }
    fn differentiable(&self) -> bool {
        false
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}
