//! Bookkeeping: copies, counters, clamps, running sums of metrics. Constants to the reverse pass.

mod cuda;

use crate::device::Real;
use crate::device::cuda::Launch;
use crate::tape::cuda::Operands;
use crate::tape::op::chunk;
use crate::tape::{Op, OpArgs, Program, Val};

const CHUNK: usize = 16_384;

fn chunks(shape: &[usize]) -> Vec<usize> {
    vec![shape.iter().product::<usize>().div_ceil(CHUNK)]
}

macro_rules! control_op {
    ($t:ty, $name:literal, $phases:expr) => {
        // SAFETY: a phase has one task, or each writes its own chunk of the output.
        unsafe impl Op for $t {
            fn name(&self) -> &'static str {
                $name
            }
            fn phases(&self, _: &[Vec<usize>], outputs: &[Vec<usize>]) -> Vec<usize> {
                let phases: fn(&[usize]) -> Vec<usize> = $phases;
                phases(&outputs[0])
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

/// Appends a copy of `from` into `to`, which has the same length.
pub fn copy(p: &mut Program, from: Val, to: Val) {
    p.push(Copy, &[from], &[to]);
}

#[derive(Debug)]
struct Copy;

impl Copy {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, task: usize) {
        let r = chunk(args.out_len(0), CHUNK, task);
        args.out(0, r.clone()).copy_from_slice(&args.input(0)[r]);
    }
}
control_op!(Copy, "copy", chunks);

/// Appends `counter += 1` for an index value `[1]`.
pub fn increment(p: &mut Program, counter: Val) {
    p.push(Increment, &[], &[counter]);
}

#[derive(Debug)]
struct Increment;

impl Increment {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        let c = args.out_index(0, 0..1);
        c[0] = c[0].wrapping_add(1);
    }
}
control_op!(Increment, "increment", |_| vec![1]);

/// Appends `x = max(x, low)` in place.
pub fn clamp_below(p: &mut Program, x: Val, low: f64) {
    p.push(ClampBelow { low }, &[], &[x]);
}

#[derive(Debug)]
struct ClampBelow {
    low: f64,
}

impl ClampBelow {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        let low = F::of(self.low);
        for x in args.out_all(0) {
            if *x < low {
                *x = low;
            }
        }
    }
}
control_op!(ClampBelow, "clamp_below", |_| vec![1]);

/// Appends `y = clamp(x, -limit, limit)`; values that are not finite become 0.
pub fn clip(p: &mut Program, x: Val, limit: f64) -> Val {
    let shape = p.shape(x).to_vec();
    let y = p.real(&shape);
    p.push(Clip { limit }, &[x], &[y]);
    y
}

#[derive(Debug)]
struct Clip {
    limit: f64,
}

impl Clip {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, task: usize) {
        let r = chunk(args.out_len(0), CHUNK, task);
        for (y, x) in args.out(0, r.clone()).iter_mut().zip(&args.input(0)[r]) {
            let x = if x.is_finite() { *x } else { F::zero() };
            *y = x.max(F::of(-self.limit)).min(F::of(self.limit));
        }
    }
}
control_op!(Clip, "clip", chunks);

/// Appends `slot += x` for scalars `[1]`, or `slot = x` with `replace`.
pub fn accumulate(p: &mut Program, x: Val, slot: Val, replace: bool) {
    p.push(Accumulate { replace }, &[x], &[slot]);
}

#[derive(Debug)]
struct Accumulate {
    replace: bool,
}

impl Accumulate {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        let slot = &mut args.out_all(0)[0];
        let x = args.input(0)[0];
        *slot = if self.replace { x } else { *slot + x };
    }
}
control_op!(Accumulate, "accumulate", |_| vec![1]);
