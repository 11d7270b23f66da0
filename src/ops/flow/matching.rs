//! Flow matching of one transition: the velocity field is compared with the straight line from start to target.
//!
//! ```text
//! z_τ = (1 - τ) z_0 + τ z_1,    E = sum_t weight_t sum_i (v_i - (z_1 - z_0)_i)²,   v = v(z_τ, a, τ)
//! ```
//!
//! (Lipman et al., ICLR 2023; Liu et al., ICLR 2023). The start is not cut from the gradient, which reaches it through
//! the point on the line and through the target velocity; the target is constant.

use crate::device::Real;
use crate::device::cpu::vmath::sum_of;
use crate::device::cuda::Launch;
use crate::ops::loss::{CHUNK, count, slices};
use crate::tape::cuda::Operands;
use crate::tape::op::chunk;
use crate::tape::{Adjoint, Op, OpArgs, Program, Val};

/// Rows a task takes.
const ROWS: usize = 64;

/// Appends `z_τ` for rows `z0`, `z1` `[M, D]` and `tau` `[M, 1]`.
pub fn interpolate(p: &mut Program, z0: Val, z1: Val, tau: Val) -> Val {
    let shape = p.shape(z0).to_vec();
    let out = p.real(&shape);
    p.push(Interpolate, &[z0, z1, tau], &[out]);
    out
}

#[derive(Debug)]
pub(super) struct Interpolate;

impl Interpolate {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, task: usize) {
        let (m, d) = (args.out_shape(0)[0], args.out_shape(0)[1]);
        let tau = args.input(2);
        for r in chunk(m, ROWS, task) {
            let (z0, z1) = (&args.input(0)[r * d..][..d], &args.input(1)[r * d..][..d]);
            for ((o, a), b) in args.out(0, r * d..(r + 1) * d).iter_mut().zip(z0).zip(z1) {
                *o = *a + tau[r] * (*b - *a);
            }
        }
    }
}

// SAFETY: each task writes its own chunk of the output and scratch, and only reads inputs.
unsafe impl Op for Interpolate {
    fn name(&self) -> &'static str {
        "interpolate"
    }
    fn phases(&self, _: &[Vec<usize>], o: &[Vec<usize>]) -> Vec<usize> {
        vec![o[0][0].div_ceil(ROWS)]
    }
    fn adjoint(&self, a: &mut Adjoint) {
        let Some(c) = a.cotangent(0) else { return };
        let tau = a.input(2);
        if let Some(s) = a.sink(0) {
            a.push(InterpolateGrad { accumulate: s.accumulate }, &[c, tau], &[s.val]);
        }
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// `dz_0 = (1 - τ) c`.
#[derive(Debug)]
pub(super) struct InterpolateGrad {
    pub(super) accumulate: bool,
}

impl InterpolateGrad {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, task: usize) {
        let (m, d) = (args.shape(0)[0], args.shape(0)[1]);
        for r in chunk(m, ROWS, task) {
            let w = F::one() - args.input(1)[r];
            for (o, c) in args.out(0, r * d..(r + 1) * d).iter_mut().zip(&args.input(0)[r * d..]) {
                *o = if self.accumulate { *o + w * *c } else { w * *c };
            }
        }
    }
}

// SAFETY: each task writes its own chunk of the output and scratch, and only reads inputs.
unsafe impl Op for InterpolateGrad {
    fn name(&self) -> &'static str {
        "interpolate_grad"
    }
    fn phases(&self, i: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![i[0][0].div_ceil(ROWS)]
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// Appends the weighted sum of squared velocity errors `E`, `[1]`: rows are cut into `weights.len()` equal slices.
pub fn velocity_error(p: &mut Program, v: Val, z0: Val, z1: Val, weights: Vec<f64>) -> Val {
    assert_eq!(p.len_of(v) % weights.len(), 0, "invariant: slices are equal");
    let out = p.real(&[1]);
    p.push(VelocityError { weights }, &[v, z0, z1], &[out]);
    out
}

#[derive(Debug)]
pub(super) struct VelocityError {
    pub(super) weights: Vec<f64>,
}

impl VelocityError {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, phase: usize, task: usize) {
        let (slice, chunks) = slices(args.input(0).len(), &self.weights);
        if phase == 0 {
            let (t, r) = (task / chunks, chunk(slice, CHUNK, task % chunks));
            let of = |i: usize| &args.input(i)[t * slice..][r.clone()];
            let (v, z0, z1) = (of(0), of(1), of(2));
            // Independent sums in a fixed order, as in `sum_of`.
            let mut acc = [F::zero(); 16];
            for ((v, z0), z1) in v.chunks(16).zip(z0.chunks(16)).zip(z1.chunks(16)) {
                for (((a, v), z0), z1) in acc.iter_mut().zip(v).zip(z0).zip(z1) {
                    let error = *v - (*z1 - *z0);
                    *a += error * error;
                }
            }
            args.scratch(task..task + 1)[0] = sum_of(&acc, |x| x) * F::of(self.weights[t]);
        } else {
            let n = self.weights.len() * chunks;
            let parts = args.read_scratch(0..n);
            args.out_all(0)[0] = sum_of(parts, |x| x);
        }
    }
}

// SAFETY: tasks write their own partial sums, which the one task of the last phase adds.
unsafe impl Op for VelocityError {
    fn name(&self) -> &'static str {
        "velocity_error"
    }
    fn workspace(&self, i: &[Vec<usize>], _: &[Vec<usize>]) -> usize {
        self.weights.len() * slices(count(&i[0]), &self.weights).1
    }
    fn phases(&self, i: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![self.weights.len() * slices(count(&i[0]), &self.weights).1, 1]
    }
    fn adjoint(&self, a: &mut Adjoint) {
        let Some(c) = a.cotangent(0) else { return };
        let inputs = [c, a.input(0), a.input(1), a.input(2)];
        // With respect to the velocity and, the same number, to the start.
        for i in 0..2 {
            if let Some(s) = a.sink(i) {
                let op = VelocityErrorGrad { weights: self.weights.clone(), accumulate: s.accumulate };
                a.push(op, &inputs, &[s.val]);
            }
        }
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// `dv = dz_0 = 2 weight_t (v - (z_1 - z_0)) c`.
#[derive(Debug)]
pub(super) struct VelocityErrorGrad {
    pub(super) weights: Vec<f64>,
    pub(super) accumulate: bool,
}

impl VelocityErrorGrad {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, task: usize) {
        let (slice, chunks) = slices(args.input(1).len(), &self.weights);
        let (t, r) = (task / chunks, chunk(slice, CHUNK, task % chunks));
        let of = |i: usize| &args.input(i)[t * slice..][r.clone()];
        let (v, z0, z1) = (of(1), of(2), of(3));
        let w = F::of(2.0 * self.weights[t]) * args.input(0)[0];
        let out = args.out(0, t * slice + r.start..t * slice + r.end);
        for i in 0..out.len() {
            let g = w * (v[i] - (z1[i] - z0[i]));
            out[i] = if self.accumulate { out[i] + g } else { g };
        }
    }
}

// SAFETY: each task writes its own chunk of the output and scratch, and only reads inputs.
unsafe impl Op for VelocityErrorGrad {
    fn name(&self) -> &'static str {
        "velocity_error_grad"
    }
    fn phases(&self, i: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![self.weights.len() * slices(count(&i[1]), &self.weights).1]
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}
