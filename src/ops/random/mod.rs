//! Noise from the counter-based generator.

mod cuda;

use crate::device::Real;
use crate::device::cuda::Launch;
use crate::device::philox::{Philox, Stream};
use crate::tape::cuda::Operands;
use crate::tape::op::chunk;
use crate::tape::{Op, OpArgs, Program, Val};

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
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, task: usize) {
        let step = u64::from(args.index(0)[0]);
        let r = chunk(args.out_len(0), CHUNK, task);
        for (o, i) in args.out(0, r.clone()).iter_mut().zip(r) {
            *o = F::of(self.rng.normal(step, i as u32));
        }
    }
}

// SAFETY: each task writes its own chunk of the output and scratch, and only reads inputs.
unsafe impl Op for Normal {
    fn name(&self) -> &'static str {
        "normal"
    }
    fn phases(&self, _: &[Vec<usize>], o: &[Vec<usize>]) -> Vec<usize> {
        vec![o[0].iter().product::<usize>().div_ceil(CHUNK)]
    }
    fn differentiable(&self) -> bool {
        false
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// Appends numbers uniform in [0, 1), as [`normal`].
pub fn uniform(p: &mut Program, seed: u64, stream: Stream, step: Val, shape: &[usize]) -> Val {
    let out = p.real(shape);
    p.push(Uniform { rng: Philox::new(seed, stream) }, &[step], &[out]);
    out
}

#[derive(Debug)]
struct Uniform {
    rng: Philox,
}

impl Uniform {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, task: usize) {
        let step = u64::from(args.index(0)[0]);
        let r = chunk(args.out_len(0), CHUNK, task);
        for (o, i) in args.out(0, r.clone()).iter_mut().zip(r) {
            *o = F::of(self.rng.uniform(step, i as u32));
        }
    }
}

// SAFETY: each task writes its own chunk of the output and scratch, and only reads inputs.
unsafe impl Op for Uniform {
    fn name(&self) -> &'static str {
        "uniform"
    }
    fn phases(&self, _: &[Vec<usize>], o: &[Vec<usize>]) -> Vec<usize> {
        vec![o[0].iter().product::<usize>().div_ceil(CHUNK)]
    }
    fn differentiable(&self) -> bool {
        false
    }
    fn cuda(&self, x: &Operands) -> Option<Vec<Launch>> {
        Some(self.launches(x))
    }
    crate::kernels!();
}

/// Appends a random order of `0..n`, index `[n]`: a function of seed, stream and `step` alone (Fisher-Yates).
pub fn permutation(p: &mut Program, seed: u64, stream: Stream, step: Val, n: usize) -> Val {
    let out = p.index(&[n]);
    p.push(Permutation { rng: Philox::new(seed, stream) }, &[step], &[out]);
    out
}

#[derive(Debug)]
struct Permutation {
    rng: Philox,
}

impl Permutation {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        let step = u64::from(args.index(0)[0]);
        let n = args.out_len(0);
        let order = args.out_index(0, 0..n);
        for (i, o) in order.iter_mut().enumerate() {
            *o = i as u32;
        }
        let mut block = [0; 4];
        for i in (1..n).rev() {
            if i % 4 == 3 || i + 1 == n {
                block = self.rng.bits(step, (i / 4) as u32);
            }
            // Matmul-shift maps 32 random bits to 0..=i.
            let j = (u64::from(block[i % 4]) * (i as u64 + 1)) >> 32;
            order.swap(i, j as usize);
        }
    }
}

// SAFETY: a phase has one task.
unsafe impl Op for Permutation {
    fn name(&self) -> &'static str {
        "permutation"
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
