//! A case of the self-test: a program of an operation or a few, run on a device and in double precision.

use crate::backend::Target;
use crate::backend::cuda::describe_launches;
use crate::config::Precision;
use crate::device::cpu::team::Team;
use crate::device::cuda::CudaError;
use crate::device::cuda::Launch;
use crate::device::cuda::matmul::Matmul;
use crate::device::philox::{Philox, Stream};
use crate::ops::control::copy;
use crate::ops::loss::squared_error;
use crate::tape::plan::packing;
use crate::tape::{BindError, DType, Machine, Placement, Program, Region, RunError, TapeReal, Val, VarId, Vars, grad};
use std::sync::Arc;

/// A case being written: a program of one operation or a few, its inputs and what is compared.
pub struct Lab {
    pub vars: Vars,
    pub p: Program,
    rng: Philox,
    drawn: u64,
    pub(super) reals: Vec<(VarId, Vec<f64>)>,
    indices: Vec<(VarId, Vec<u32>)>,
    leaves: Vec<(Val, Val)>,
    roots: Vec<(Val, f64)>,
    /// Variables that must be what the processor's single precision gives, but for so many units in the last place.
    drawn_alike: Vec<(VarId, u32)>,
    /// How often the program runs.
    pub runs: usize,
    /// Each row of a matrix is judged by its own largest number: rows have nothing to do with each other, and one with
    /// large numbers, or that single precision cannot compute, must not hide what is wrong with the others.
    pub by_rows: bool,
}

impl Lab {
    fn new(seed: u64) -> Self {
        Self {
            vars: Vars::default(),
            p: Program::new("selftest"),
            rng: Philox::new(seed, Stream::Test),
            drawn: 0,
            reals: vec![],
            indices: vec![],
            leaves: vec![],
            roots: vec![],
            drawn_alike: vec![],
            runs: 1,
            by_rows: false,
        }
    }

    fn var(&mut self, kind: &str, dtype: DType, shape: &[usize]) -> VarId {
        let name = format!("{kind}.{}", self.vars.iter().count());
        self.vars.add(Region::Control, name, dtype, shape)
    }

    /// Standard normal numbers, rounded to single precision so that both machines begin with the same.
    pub fn noise(&mut self, n: usize) -> Vec<f64> {
        self.drawn += 1;
        (0..n).map(|i| f64::from(self.rng.normal(self.drawn, i as u32) as f32)).collect()
    }

    /// A whole number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.drawn += 1;
        (self.rng.uniform(self.drawn, 0) * n as f64) as usize
    }

    /// A variable with given numbers.
    pub fn given(&mut self, shape: &[usize], values: Vec<f64>) -> Val {
        let var = self.var("given", DType::Real, shape);
        self.reals.push((var, values));
        self.p.var(&self.vars, var)
    }

    /// A variable of noise.
    pub fn real(&mut self, shape: &[usize]) -> Val {
        let values = self.noise(shape.iter().product());
        self.given(shape, values)
    }

    /// Zeros and ones.
    pub fn flags(&mut self, shape: &[usize], share: f64) -> Val {
        let values = self.noise(shape.iter().product());
        self.given(shape, values.into_iter().map(|x| if x < share { 1.0 } else { 0.0 }).collect())
    }

    pub fn index(&mut self, values: Vec<u32>) -> Val {
        let var = self.var("index", DType::Index, &[values.len()]);
        self.indices.push((var, values));
        self.p.var(&self.vars, var)
    }

    /// Noise whose gradient is compared.
    pub fn leaf(&mut self, shape: &[usize]) -> Val {
        self.leaf_at(0, shape)
    }

    /// The same `offset` numbers behind the beginning of a variable, as a network's parameters lie.
    pub fn leaf_at(&mut self, offset: usize, shape: &[usize]) -> Val {
        let n = offset + shape.iter().product::<usize>();
        let var = self.var("given", DType::Real, &if offset == 0 { shape.to_vec() } else { vec![n] });
        let values = self.noise(n);
        self.reals.push((var, values));
        let v = self.p.var_at(&self.vars, var, offset, shape);
        // Poison: a gradient that is not written is seen.
        let g = self.given(shape, vec![f64::NAN; shape.iter().product()]);
        self.leaves.push((v, g));
        v
    }

    /// Compares `v`.
    pub fn keep(&mut self, v: Val) {
        let shape = self.p.shape(v).to_vec();
        let out = self.given(&shape, vec![f64::NAN; self.p.len_of(v)]);
        copy(&mut self.p, v, out);
    }

    /// Compares `v`, a random number, with the processor's in single precision too: to `ulps` units in the last place.
    pub fn keep_drawn(&mut self, v: Val, ulps: u32) {
        self.keep(v);
        self.drawn_alike.extend(self.reals.last().map(|(var, _)| (*var, ulps)));
    }

    /// Compares `v` and follows it backwards to the leaves.
    pub fn follow(&mut self, v: Val) {
        self.keep(v);
        let shape = self.p.shape(v).to_vec();
        let target = self.real(&shape);
        let root = squared_error(&mut self.p, v, target, vec![0.7]);
        self.roots.push((root, 1.3));
    }

    fn finish(&mut self) {
        if !self.leaves.is_empty() {
            grad(&mut self.p, &self.roots, &self.leaves);
        }
    }

    /// Runs the case on `target`; all variables then.
    fn run<F: TapeReal>(&self, target: &Target, program: Program) -> Result<Vec<Vec<f64>>, SelftestError> {
        let mut m =
            Machine::<F>::on(target, self.vars.clone(), vec![program], Arc::new(Team::new(1)?), &Placement::Arena)?;
        for (var, values) in &self.reals {
            m.real_mut(*var).iter_mut().zip(values).for_each(|(x, &v)| *x = F::of(v));
        }
        for (var, values) in &self.indices {
            m.index_mut(*var).copy_from_slice(values);
        }
        for _ in 0..self.runs {
            m.poison();
            m.run(m.program(0))?;
        }
        let vars = self.vars.iter();
        Ok(vars
            .map(|(id, info)| match info.dtype {
                DType::Real => m.real(id).iter().map(|x| x.value()).collect(),
                DType::Index => m.index(id).iter().map(|&i| f64::from(i)).collect(),
            })
            .collect())
    }
}

/// Why a self-test could not be made, as opposed to one that fails.
#[derive(Debug, thiserror::Error)]
pub enum SelftestError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("cannot start worker threads: {0}")]
    Threads(#[from] std::io::Error),
}

pub(super) type Build = Box<dyn Fn(&mut Lab)>;

/// A case by name.
pub struct Case {
    pub name: String,
    build: Build,
}

/// A case called `name`, written by `build`.
pub fn case(name: impl Into<String>, build: impl Fn(&mut Lab) + 'static) -> Case {
    Case { name: name.into(), build: Box::new(build) }
}

/// What a case showed: largest difference from double precision, relative to the largest number of each array, or row.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub name: String,
    /// Of the device, and of the CPU in single precision.
    pub error: f64,
    pub cpu_error: f64,
    pub passed: bool,
    /// What differs, if it failed.
    pub detail: String,
}

/// Relative to the largest number of an array, single precision may be off by this much, or by a few times what the
/// CPU's single precision is off.
pub(super) const TOLERANCE: f64 = 2e-5;
pub(super) const TIMES: f64 = 4.0;

/// Where factors are rounded, an array may be off by this many of the largest relative errors of that rounding. A
/// result of many products is off by about one: errors of its terms have both signs. The rest is for the layers in
/// between; the longest cases go through twelve, there and back.
pub(super) const ROUNDINGS: f64 = 8.0;
/// A case whose single precision is off by more than this on the processor magnifies errors, and those of rounded
/// factors as much.
pub(super) const MAGNIFIES: f64 = 2e-6;

/// Largest relative error of a factor that is rounded.
pub(super) fn rounding(p: Precision) -> f64 {
    match p {
        Precision::Fp32 => 0.0,
        Precision::Tf32 => 2f64.powi(-11),
        Precision::Bf16 => 2f64.powi(-8),
    }
}

/// What an array may be off by, whose single precision on the processor is off by `cpu`.
pub(super) fn allowed(precision: Precision, cpu: f64) -> f64 {
    let u = rounding(precision);
    let magnified = if cpu > MAGNIFIES { TIMES * cpu * u / 2f64.powi(-24) } else { 0.0 };
    TOLERANCE.max(TIMES * cpu).max(ROUNDINGS * u).max(magnified)
}

pub(super) fn largest(x: &[f64]) -> f64 {
    x.iter().filter(|x| x.is_finite()).fold(0.0, |m, x| m.max(x.abs()))
}

/// Largest difference; infinite if one is a number and the other is not.
pub(super) fn difference(a: &[f64], b: &[f64]) -> f64 {
    let each = a.iter().zip(b).map(|(a, b)| match (a.is_finite(), b.is_finite()) {
        (true, true) => (a - b).abs(),
        (false, false) if a.is_nan() == b.is_nan() => 0.0,
        _ => f64::INFINITY,
    });
    each.fold(0.0, f64::max)
}

impl Case {
    /// What a GPU launches for the case that multiplies like this, without one.
    pub fn launches(&self, matmul: &Matmul) -> Result<Vec<Launch>, CudaError> {
        let mut lab = Lab::new(1);
        (self.build)(&mut lab);
        lab.finish();
        Ok(describe_launches(&lab.vars, &[lab.p], matmul)?.concat().concat())
    }

    /// Runs the case on `target` and in double precision on the CPU.
    pub fn run(&self, seed: u64, target: &Target) -> Result<Outcome, SelftestError> {
        let lab = || {
            let mut lab = Lab::new(seed);
            (self.build)(&mut lab);
            lab.finish();
            let p = std::mem::take(&mut lab.p);
            (lab, p)
        };
        let (l, p) = lab();
        let exact = l.run::<f64>(&Target::Cpu, p)?;
        let single = l.run::<f32>(&Target::Cpu, lab().1)?;
        let device = l.run::<f32>(target, lab().1)?;
        // Only where there are products is anything rounded; the processor packs operands for them.
        let multiplies = packing([&lab().1], size_of::<f32>()) > 0;
        let precision = if multiplies { precision_of(target) } else { Precision::Fp32 };
        let mut outcome =
            Outcome { name: self.name.clone(), error: 0.0, cpu_error: 0.0, passed: true, detail: String::new() };
        for (i, (_, info)) in l.vars.iter().enumerate() {
            let whole = exact[i].len();
            let width = if l.by_rows && info.shape.len() == 2 { info.shape[1] } else { whole };
            for from in (0..whole).step_by(width.max(1)) {
                let part = from..from + width;
                let [device, single, exact] = [&device[i], &single[i], &exact[i]].map(|x| &x[part.clone()]);
                let scale = largest(exact).max(1e-30);
                let (error, cpu) = (difference(device, exact) / scale, difference(single, exact) / scale);
                outcome.error = outcome.error.max(error);
                outcome.cpu_error = outcome.cpu_error.max(cpu);
                let allowed = if info.dtype == DType::Index { 0.0 } else { allowed(precision, cpu) };
                if error > allowed {
                    outcome.passed = false;
                    let place = device.iter().zip(exact).position(|(a, b)| difference(&[*a], &[*b]) / scale > allowed);
                    let k = place.unwrap_or(0);
                    let (a, b, at) = (device[k], exact[k], from + k);
                    outcome.detail += &format!(" {} {:?} at {at}: {a:e}, wanted {b:e};", info.name, info.shape);
                }
            }
        }
        for &(var, ulps) in &l.drawn_alike {
            let i = var.0 as usize;
            let apart = device[i].iter().zip(&single[i]).map(|(a, b)| ulps_between(*a as f32, *b as f32)).max();
            if apart.is_some_and(|apart| apart > ulps) {
                outcome.passed = false;
                outcome.detail += &format!(" {apart:?} units in the last place, {ulps} allowed;");
            }
        }
        Ok(outcome)
    }
}

/// Numbers of single precision from one to the other.
fn ulps_between(a: f32, b: f32) -> u32 {
    let order = |x: f32| {
        let bits = x.to_bits() as i32;
        if bits < 0 { i32::MIN.wrapping_sub(bits) } else { bits }
    };
    order(a).abs_diff(order(b))
}

/// What products are rounded to on `target`.
pub(super) fn precision_of(target: &Target) -> Precision {
    match target {
        Target::Cpu => Precision::Fp32,
        Target::Cuda(_, o) => o.matmul.precision,
    }
}
