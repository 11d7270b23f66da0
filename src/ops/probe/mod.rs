//! Measures of a model that nothing is trained by. Constants to the reverse pass; one task each, in a fixed order.

mod cuda;

use crate::device::Real;
use crate::device::cuda::Launch;
use crate::tape::cuda::Operands;
use crate::tape::{Op, OpArgs, Program, Val};

/// Appends `[5]`: means of `x` and `y`, variances of both, their covariance, for arrays of one length.
pub fn covariance(p: &mut Program, x: Val, y: Val) -> Val {
    assert_eq!(p.len_of(x), p.len_of(y), "invariant: pairs");
    let out = p.real(&[5]);
    p.push(Covariance, &[x, y], &[out]);
    out
}

#[derive(Debug)]
struct Covariance;

impl Covariance {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        let (x, y) = (args.input(0), args.input(1));
        let share = F::one() / F::of(x.len() as f64);
        let (mut mx, mut my) = (F::zero(), F::zero());
        for (x, y) in x.iter().zip(y) {
            mx += *x;
            my += *y;
        }
        (mx, my) = (mx * share, my * share);
        let (mut vx, mut vy, mut c) = (F::zero(), F::zero(), F::zero());
        for (x, y) in x.iter().zip(y) {
            let (dx, dy) = (*x - mx, *y - my);
            vx += dx * dx;
            vy += dy * dy;
            c += dx * dy;
        }
        args.out_all(0).copy_from_slice(&[mx, my, vx * share, vy * share, c * share]);
    }
}

/// Appends `[1]`: the largest distance from 1 of the sum of any `group` consecutive numbers.
pub fn group_drift(p: &mut Program, z: Val, group: usize) -> Val {
    let out = p.real(&[1]);
    p.push(GroupDrift { group }, &[z], &[out]);
    out
}

#[derive(Debug)]
struct GroupDrift {
    group: usize,
}

impl GroupDrift {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        let mut worst = F::zero();
        for g in args.input(0).chunks_exact(self.group) {
            let mut sum = F::zero();
            for x in g {
                sum += *x;
            }
            worst = worst.max((sum - F::one()).abs());
        }
        args.out_all(0)[0] = worst;
    }
}

macro_rules! probe_op {
    ($t:ty, $name:literal) => {
        // SAFETY: a phase has one task, or each writes its own chunk of the output.
        unsafe impl Op for $t {
            fn name(&self) -> &'static str {
                $name
            }
            fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
                vec![1]
            }
            fn differentiable(&self) -> bool {
                false
            }
            fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
                Some(self.launches(x))
            }
            crate::kernels!();
        }
    };
}
probe_op!(Covariance, "covariance");
probe_op!(GroupDrift, "group_drift");
