//! The number types that machines are made for.

use super::op::{Op, OpArgs};
use crate::device::{Dual, Real};
use bytemuck::Pod;

/// A number type that machines are made for: picks the kernel of an operation.
pub trait TapeReal: Real + Pod {
    /// What fresh memory holds, so that a read before a write is seen in the results.
    const POISON: Self;
    fn run(op: &dyn Op, args: &OpArgs<Self>, phase: usize, task: usize);
}

impl TapeReal for f32 {
    const POISON: Self = f32::NAN;
    #[inline]
    fn run(op: &dyn Op, args: &OpArgs<Self>, phase: usize, task: usize) {
        op.run_f32(args, phase, task);
    }
}
impl TapeReal for f64 {
    const POISON: Self = f64::NAN;
    #[inline]
    fn run(op: &dyn Op, args: &OpArgs<Self>, phase: usize, task: usize) {
        op.run_f64(args, phase, task);
    }
}
impl TapeReal for Dual {
    const POISON: Self = Dual { v: f64::NAN, d: f64::NAN };
    #[inline]
    fn run(op: &dyn Op, args: &OpArgs<Self>, phase: usize, task: usize) {
        op.run_dual(args, phase, task);
    }
}
