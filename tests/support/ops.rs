//! Operations of the tests' own, so that nothing under test weighs or routes its own results.

use pwm::device::Real;
use pwm::tape::{Adjoint, Op, OpArgs};

/// `<w, x>`, a scalar; a cotangent flows to `x` alone.
#[derive(Debug)]
pub struct Dot;

impl Dot {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        let mut s = F::zero();
        for (a, b) in args.input(0).iter().zip(args.input(1)) {
            s += *a * *b;
        }
        args.out_all(0)[0] = s;
    }
}

// SAFETY: a phase has one task.
unsafe impl Op for Dot {
    fn name(&self) -> &'static str {
        "test_dot"
    }
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![1]
    }
    fn adjoint(&self, a: &mut Adjoint) {
        let Some(c) = a.cotangent(0) else { return };
        let w = a.input(0);
        if let Some(s) = a.sink(1) {
            a.push(Scaled { accumulate: s.accumulate }, &[c, w], &[s.val]);
        }
    }
    pwm::kernels!();
}

/// `c x` for a scalar `c`.
#[derive(Debug)]
struct Scaled {
    accumulate: bool,
}

impl Scaled {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        let c = args.input(0)[0];
        for (o, x) in args.out_all(0).iter_mut().zip(args.input(1)) {
            *o = if self.accumulate { *o + c * *x } else { c * *x };
        }
    }
}

// SAFETY: a phase has one task.
unsafe impl Op for Scaled {
    fn name(&self) -> &'static str {
        "test_scaled"
    }
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![1]
    }
    pwm::kernels!();
}

/// A copy that a cotangent flows through, unlike that of `ops::control`.
#[derive(Debug)]
pub struct Pass {
    /// For the reverse pass, which is the same operation.
    pub accumulate: bool,
}

impl Pass {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        for (o, x) in args.out_all(0).iter_mut().zip(args.input(0)) {
            *o = if self.accumulate { *o + *x } else { *x };
        }
    }
}

// SAFETY: a phase has one task.
unsafe impl Op for Pass {
    fn name(&self) -> &'static str {
        "test_pass"
    }
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![1]
    }
    fn adjoint(&self, a: &mut Adjoint) {
        let Some(c) = a.cotangent(0) else { return };
        if let Some(s) = a.sink(0) {
            a.push(Pass { accumulate: s.accumulate }, &[c], &[s.val]);
        }
    }
    pwm::kernels!();
}
