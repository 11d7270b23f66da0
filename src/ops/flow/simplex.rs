//! The product of simplices that SimNorm latents lie on: projections onto it and onto its tangent space.

use super::cpu::remove_means;
use crate::device::Real;
use crate::device::cuda::Launch;
use crate::tape::cuda::Operands;
use crate::tape::op::chunk;
use crate::tape::{Adjoint, Op, OpArgs, Program, Val};

/// Groups a task takes.
const GROUPS: usize = 512;

fn tasks(shape: &[usize], group: usize) -> Vec<usize> {
    vec![(shape.iter().product::<usize>() / group).div_ceil(GROUPS)]
}

/// Appends `v` with the mean of every `group` consecutive numbers subtracted.
pub fn tangent(p: &mut Program, v: Val, group: usize) -> Val {
    let shape = p.shape(v).to_vec();
    let out = p.real(&shape);
    p.push(Tangent { group, accumulate: false }, &[v], &[out]);
    out
}

/// A symmetric linear map: its own adjoint.
#[derive(Debug)]
pub(super) struct Tangent {
    pub(super) group: usize,
    pub(super) accumulate: bool,
}

impl Tangent {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, task: usize) {
        let size = self.group * GROUPS;
        let r = chunk(args.out_len(0), size, task);
        let (x, y) = (&args.input(0)[r.clone()], args.out(0, r));
        if !self.accumulate {
            y.copy_from_slice(x);
            remove_means(y, self.group);
            return;
        }
        let share = F::one() / F::of(self.group as f64);
        for (y, x) in y.chunks_exact_mut(self.group).zip(x.chunks_exact(self.group)) {
            let mut sum = F::zero();
            for x in x {
                sum += *x;
            }
            for (y, x) in y.iter_mut().zip(x) {
                *y += *x - sum * share;
            }
        }
    }
}

// SAFETY: each task writes its own chunk of the output and scratch, and only reads inputs.
unsafe impl Op for Tangent {
    fn name(&self) -> &'static str {
        "tangent"
    }
    fn phases(&self, _: &[Vec<usize>], o: &[Vec<usize>]) -> Vec<usize> {
        tasks(&o[0], self.group)
    }
    fn adjoint(&self, a: &mut Adjoint) {
        let Some(c) = a.cotangent(0) else { return };
        if let Some(s) = a.sink(0) {
            a.push(Tangent { group: self.group, accumulate: s.accumulate }, &[c], &[s.val]);
        }
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// Appends the Euclidean projection of every `group` consecutive numbers onto the probability simplex
/// `{y >= 0, sum y = 1}` (Duchi et al., ICML 2008): `y = max(x - θ, 0)`, where θ makes the sum 1. The result goes to
/// `out` if given.
pub fn project(p: &mut Program, x: Val, group: usize, out: Option<Val>) -> Val {
    let shape = p.shape(x).to_vec();
    let out = out.unwrap_or_else(|| p.real(&shape));
    p.push(Project { group }, &[x], &[out]);
    out
}

#[derive(Debug)]
pub(super) struct Project {
    pub(super) group: usize,
}

impl Project {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, task: usize) {
        let r = chunk(args.out_len(0), self.group * GROUPS, task);
        let x = &args.input(0)[r.clone()];
        for (y, x) in args.out(0, r).chunks_exact_mut(self.group).zip(x.chunks_exact(self.group)) {
            let theta = threshold(x);
            for (y, x) in y.iter_mut().zip(x) {
                *y = (*x - theta).max(F::zero());
            }
        }
    }
}

/// θ by Michelot's iteration: the mean excess of those above the last θ, until none falls below. It needs no sorting.
/// Each round but the last drops at least one number: where rounding lets one that fell below rise again, θ is as good
/// as it gets, and the iteration ends.
#[inline(always)]
fn threshold<F: Real>(x: &[F]) -> F {
    let mut theta = F::of(f64::NEG_INFINITY);
    let mut above = usize::MAX;
    loop {
        let (mut sum, mut count) = (F::zero(), 0usize);
        for &x in x {
            if x > theta {
                sum += x;
                count += 1;
            }
        }
        // Also for numbers that are not finite, of which none is above.
        if count >= above || count == 0 {
            return theta;
        }
        above = count;
        theta = (sum - F::one()) / F::of(count as f64);
    }
}

// SAFETY: each task writes its own chunk of the output and scratch, and only reads inputs.
unsafe impl Op for Project {
    fn name(&self) -> &'static str {
        "simplex"
    }
    fn phases(&self, _: &[Vec<usize>], o: &[Vec<usize>]) -> Vec<usize> {
        tasks(&o[0], self.group)
    }
    fn adjoint(&self, a: &mut Adjoint) {
        let Some(c) = a.cotangent(0) else { return };
        let y = a.output(0);
        if let Some(s) = a.sink(0) {
            a.push(ProjectGrad { group: self.group, accumulate: s.accumulate }, &[c, y], &[s.val]);
        }
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// On the face that the point lies on, its tangent space: `dx = dy - mean dy` over the positive ones, else 0.
#[derive(Debug)]
pub(super) struct ProjectGrad {
    pub(super) group: usize,
    pub(super) accumulate: bool,
}

impl ProjectGrad {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, task: usize) {
        let r = chunk(args.out_len(0), self.group * GROUPS, task);
        let (dy, y) = (&args.input(0)[r.clone()], &args.input(1)[r.clone()]);
        let rows = dy.chunks_exact(self.group).zip(y.chunks_exact(self.group));
        for (dx, (dy, y)) in args.out(0, r).chunks_exact_mut(self.group).zip(rows) {
            let (mut sum, mut count) = (F::zero(), 0usize);
            for (dy, y) in dy.iter().zip(y) {
                if *y > F::zero() {
                    sum += *dy;
                    count += 1;
                }
            }
            let mean = sum / F::of(count.max(1) as f64);
            for i in 0..self.group {
                let g = if y[i] > F::zero() { dy[i] - mean } else { F::zero() };
                dx[i] = if self.accumulate { dx[i] + g } else { g };
            }
        }
    }
}

// SAFETY: each task writes its own chunk of the output and scratch, and only reads inputs.
unsafe impl Op for ProjectGrad {
    fn name(&self) -> &'static str {
        "simplex_grad"
    }
    fn phases(&self, _: &[Vec<usize>], o: &[Vec<usize>]) -> Vec<usize> {
        tasks(&o[0], self.group)
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}
