//! `pwm selftest`: every operation, forward and adjoint, on the user's own device against the CPU in double precision.

use super::gradcheck::states::{State, random_state};
use super::say;
use crate::algo::pwm::Trainer;
use crate::algo::target;
use crate::config::{Device, Integrator, Precision, load};
use crate::device::cpu::team::Team;
use crate::device::philox::{Philox, Stream};
use crate::env::step::{Bound, EnvVars, Mode};
use crate::env::{Ant, AntSettings};
use crate::ops::control::{clamp_below, clip, copy, meter, tick};
use crate::ops::flow::matching::{interpolate, velocity_error};
use crate::ops::flow::simplex::{project, tangent};
use crate::ops::flow::{Field, Part, Steps, integrate};
use crate::ops::linear::{Epilogue, LayerVals, linear, transpose};
use crate::ops::loss::squared_error;
use crate::ops::optim::{AdamSpec, AdamVals, adam};
use crate::ops::policy::{anchor_rows, ensemble_min, gather_rows, select_rows, spread, squash};
use crate::ops::probe::{covariance, group_drift};
use crate::ops::random::{normal, permutation, uniform};
use crate::ops::replay::{ReplaySpec, ReplayVars, Sampling, Transition, replay_begin, replay_record, replay_sample};
use crate::ops::returns::{ActorLossSpec, Bootstrap, actor_loss, td_lambda};
use crate::ops::stats::{normalise, update_stats};
use crate::ops::sum::sum;
use crate::ops::twohot::{Decode, two_hot_decode, two_hot_loss};
use crate::tape::exec::{BindError, Number, RunError, Target};
use crate::tape::{DType, Home, Machine, Program, Region, Val, VarId, Vars, grad};
use std::io::Write;
use std::sync::Arc;

/// A case being written: a program of one operation or a few, its inputs and what is compared.
pub struct Lab {
    pub vars: Vars,
    pub p: Program,
    rng: Philox,
    drawn: u64,
    reals: Vec<(VarId, Vec<f64>)>,
    indices: Vec<(VarId, Vec<u32>)>,
    leaves: Vec<(Val, Val)>,
    roots: Vec<(Val, f64)>,
    /// How often the program runs.
    pub runs: usize,
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
            runs: 1,
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
        let v = self.real(shape);
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
    fn run<F: Number>(&self, target: &Target, program: Program) -> Result<Vec<Vec<f64>>, SelftestError> {
        let mut m = Machine::<F>::on(target, self.vars.clone(), vec![program], Arc::new(Team::new(1)?), &Home::Arena)?;
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

type Build = Box<dyn Fn(&mut Lab)>;

/// A case by name.
pub struct Case {
    pub name: String,
    build: Build,
}

fn case(name: impl Into<String>, build: impl Fn(&mut Lab) + 'static) -> Case {
    Case { name: name.into(), build: Box::new(build) }
}

/// What a case showed: largest difference from double precision, relative to the largest number of each array.
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

/// Relative to the largest number of an array, single precision may be off by this much, or by a few times what the CPU's
/// single precision is off.
const TOLERANCE: f64 = 2e-5;
const TIMES: f64 = 4.0;

/// Where factors are rounded, an array may be off by this many of the largest relative errors of that rounding. A result
/// of many products is off by about one: errors of its terms have both signs. The rest is for the layers in between.
const ROUNDINGS: f64 = 6.0;
/// A case whose single precision is off by more than this on the processor magnifies errors, and those of rounded
/// factors as much.
const MAGNIFIES: f64 = 2e-6;

/// Largest relative error of a factor that is rounded.
fn rounding(p: Precision) -> f64 {
    match p {
        Precision::Fp32 => 0.0,
        Precision::Tf32 => 2f64.powi(-11),
        Precision::Bf16 => 2f64.powi(-8),
    }
}

/// What an array may be off by, whose single precision on the processor is off by `cpu`.
fn allowed(precision: Precision, cpu: f64) -> f64 {
    let u = rounding(precision);
    let magnified = if cpu > MAGNIFIES { TIMES * cpu * u / 2f64.powi(-24) } else { 0.0 };
    TOLERANCE.max(TIMES * cpu).max(ROUNDINGS * u).max(magnified)
}

fn largest(x: &[f64]) -> f64 {
    x.iter().filter(|x| x.is_finite()).fold(0.0, |m, x| m.max(x.abs()))
}

/// Largest difference; infinite if one is a number and the other is not.
fn difference(a: &[f64], b: &[f64]) -> f64 {
    let each = a.iter().zip(b).map(|(a, b)| match (a.is_finite(), b.is_finite()) {
        (true, true) => (a - b).abs(),
        (false, false) if a.is_nan() == b.is_nan() => 0.0,
        _ => f64::INFINITY,
    });
    each.fold(0.0, f64::max)
}

impl Case {
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
        let precision = precision_of(target);
        let mut outcome =
            Outcome { name: self.name.clone(), error: 0.0, cpu_error: 0.0, passed: true, detail: String::new() };
        for (i, (_, info)) in l.vars.iter().enumerate() {
            let scale = largest(&exact[i]).max(1e-30);
            let (error, cpu) = (difference(&device[i], &exact[i]) / scale, difference(&single[i], &exact[i]) / scale);
            outcome.error = outcome.error.max(error);
            outcome.cpu_error = outcome.cpu_error.max(cpu);
            let allowed = if info.dtype == DType::Index { 0.0 } else { allowed(precision, cpu) };
            if error > allowed {
                outcome.passed = false;
                let place =
                    device[i].iter().zip(&exact[i]).position(|(a, b)| difference(&[*a], &[*b]) / scale > allowed);
                let k = place.unwrap_or(0);
                let (a, b) = (device[i][k], exact[i][k]);
                outcome.detail += &format!(" {} {:?} at {k}: {a:e}, wanted {b:e};", info.name, info.shape);
            }
        }
        Ok(outcome)
    }
}

/// What products are rounded to on `target`.
fn precision_of(target: &Target) -> Precision {
    match target {
        Target::Cpu => Precision::Fp32,
        Target::Cuda(_, o) => o.multiply.precision,
    }
}

fn layer(l: &mut Lab, ensemble: usize, n: usize, k: usize, norm: bool) -> LayerVals {
    let shape = |s: &[usize]| if ensemble > 1 { [&[ensemble], s].concat() } else { s.to_vec() };
    let weight = l.leaf(&shape(&[n, k]));
    let bias = l.leaf(&shape(&[n]));
    let norm = norm.then(|| (l.leaf(&shape(&[n])), l.leaf(&shape(&[n]))));
    let transposed = transpose(&mut l.p, weight);
    LayerVals { weight, transposed, bias, norm }
}

fn linear_cases(list: &mut Vec<Case>) {
    let epilogues = [Epilogue::Bias, Epilogue::NormMish, Epilogue::MishNorm, Epilogue::NormSimplex { group: 8 }];
    // Rows, outputs, input parts: around the edges of the tiles.
    let sizes: [(usize, usize, &[usize]); 7] = [
        (1, 8, &[1]),
        (7, 40, &[37]),
        (8, 256, &[24, 8]),
        (9, 264, &[13, 8, 1]),
        (17, 32, &[512]),
        (33, 24, &[513, 7]),
        (24, 520, &[65]),
    ];
    for epilogue in epilogues {
        for (m, n, parts) in sizes {
            list.push(case(format!("linear {epilogue:?} {m}x{n}x{parts:?}"), move |l| {
                let w = layer(l, 1, n, parts.iter().sum(), epilogue.has_norm());
                let xs: Vec<_> = parts.iter().map(|&k| l.leaf(&[m, k])).collect();
                let y = linear(&mut l.p, &xs, &w, epilogue, true, None);
                l.follow(y);
                // The same weights again: gradients add up.
                let more: Vec<_> = parts.iter().map(|&k| l.leaf(&[m, k])).collect();
                let y = linear(&mut l.p, &more, &w, epilogue, true, None);
                l.follow(y);
                let unsaved = linear(&mut l.p, &xs, &w, epilogue, false, None);
                l.keep(unsaved);
            }));
        }
    }
    for epilogue in [Epilogue::NormSimplex { group: 5 }, Epilogue::NormSimplex { group: 4 }] {
        list.push(case(format!("linear {epilogue:?}"), move |l| {
            let w = layer(l, 1, 40, 19, true);
            let x = l.leaf(&[13, 19]);
            let y = linear(&mut l.p, &[x], &w, epilogue, true, None);
            l.follow(y);
        }));
    }
    for (shared, epilogue, (e, m, n, k)) in [
        (true, Epilogue::MishNorm, (3, 17, 40, 21)),
        (false, Epilogue::MishNorm, (2, 9, 33, 40)),
        (true, Epilogue::Bias, (3, 33, 1, 70)),
        (false, Epilogue::Bias, (3, 8, 1, 65)),
        (true, Epilogue::NormMish, (2, 70, 257, 5)),
        (true, Epilogue::MishNorm, (3, 2900, 40, 68)),
        (false, Epilogue::MishNorm, (3, 2817, 36, 72)),
    ] {
        list.push(case(format!("ensemble {epilogue:?} shared {shared} {e}x{m}x{n}x{k}"), move |l| {
            let w = layer(l, e, n, k, epilogue.has_norm());
            let x = l.leaf(&if shared { vec![m, k] } else { vec![e, m, k] });
            let y = linear(&mut l.p, &[x], &w, epilogue, true, None);
            l.follow(y);
        }));
    }
}

/// Layers of random sizes, each a step from the edge of a tile, one or a prime; sizes that fill a GPU with the larger
/// tiles, on all units; sums over so many rows that blocks share them.
fn product_cases(list: &mut Vec<Case>) {
    const EDGES: [usize; 17] = [1, 2, 7, 31, 32, 33, 63, 64, 65, 97, 127, 128, 129, 191, 255, 256, 257];
    let rng = Philox::new(7, Stream::Test);
    let mut drawn = 0;
    let mut pick = || {
        drawn += 1;
        EDGES[(rng.uniform(drawn, 0) * EDGES.len() as f64) as usize]
    };
    let mut sizes: Vec<[usize; 4]> = (0..16).map(|_| [pick(), pick(), pick(), pick()]).collect();
    sizes.extend([[1281, 1153, 66, 36], [640, 772, 65, 3], [1031, 96, 68, 4], [2051, 33, 129, 1]]);
    // For `product_tma`: lines of multiples of 16 bytes, more of them than its ring holds; weights that are kept rounded;
    // tiles of 256 columns.
    sizes.extend([[8201, 40, 260, 36], [2700, 512, 264, 160], [17_001, 300, 60, 8]]);
    for [m, n, k0, k1] in sizes {
        list.push(case(format!("product {m}x{n}x[{k0}, {k1}]"), move |l| {
            let w = layer(l, 1, n, k0 + k1, false);
            let xs = [l.leaf(&[m, k0]), l.leaf(&[m, k1])];
            let y = linear(&mut l.p, &xs, &w, Epilogue::Bias, true, None);
            l.follow(y);
        }));
    }
}

fn elementwise_cases(list: &mut Vec<Case>) {
    for n in [1, 255, 256, 257, 5000] {
        list.push(case(format!("control {n}"), move |l| {
            let x = l.real(&[n]);
            let y = clip(&mut l.p, x, 0.8);
            l.keep(y);
            let z = l.real(&[n]);
            clamp_below(&mut l.p, z, -0.3);
            let bad = l.given(&[3], vec![f64::NAN, f64::INFINITY, -7.0]);
            let bad = clip(&mut l.p, bad, 5.0);
            l.keep(bad);
            let counter = l.index(vec![7]);
            tick(&mut l.p, counter);
            let (a, b, c) = (l.real(&[1]), l.real(&[1]), l.real(&[1]));
            meter(&mut l.p, a, b, false);
            meter(&mut l.p, a, c, true);
            l.runs = 2;
        }));
        list.push(case(format!("sum {n}"), move |l| {
            let (a, b) = (l.leaf(&[n]), l.leaf(&[n]));
            let y = sum(&mut l.p, a, b, None);
            let y = sum(&mut l.p, y, a, None);
            l.follow(y);
        }));
        list.push(case(format!("random {n}"), move |l| {
            let step = l.index(vec![11]);
            let x = normal(&mut l.p, 0x1234_5678_9abc, Stream::Policy, step, &[n]);
            l.keep(x);
            let x = uniform(&mut l.p, 77, Stream::Tau, step, &[n]);
            l.keep(x);
            let order = permutation(&mut l.p, 5, Stream::Critic, step, n);
            let x = l.real(&[n, 3]);
            let y = gather_rows(&mut l.p, x, order);
            l.keep(y);
        }));
    }
    for (rows, d) in [(1, 1), (70, 37), (1000, 3)] {
        list.push(case(format!("statistics {rows}x{d}"), move |l| {
            let x = l.leaf(&[rows, d]);
            let start = (0..d).flat_map(|i| [0.1 * i as f64, 1.0 + i as f64, 20.0]).collect();
            let stats = l.given(&[d, 3], start);
            update_stats(&mut l.p, x, stats, 0.9);
            for center in [true, false] {
                let y = normalise(&mut l.p, x, stats, center);
                l.follow(y);
            }
            l.runs = 2;
        }));
    }
    for n in [1, 40, 777] {
        list.push(case(format!("probes {n}"), move |l| {
            let (x, y) = (l.real(&[n]), l.real(&[n]));
            let c = covariance(&mut l.p, x, y);
            l.keep(c);
            let z = l.real(&[n, 4]);
            let d = group_drift(&mut l.p, z, 4);
            l.keep(d);
        }));
    }
    for n in [1, 300, 16_384, 16_385] {
        list.push(case(format!("adam {n}"), move |l| {
            let spec = AdamSpec { beta1: 0.9, beta2: 0.95, max_norm: 2.0 };
            let v = l.noise(n).into_iter().map(f64::abs).collect();
            let a = AdamVals {
                params: l.real(&[n]),
                grads: l.real(&[n]),
                m: l.real(&[n]),
                v: l.given(&[n], v),
                step: l.index(vec![3]),
                rate: l.given(&[1], vec![1e-3]),
                norm: l.real(&[1]),
                skipped: l.index(vec![0]),
            };
            adam(&mut l.p, spec, &a);
            l.runs = 3;
        }));
    }
    list.push(case("adam of a gradient that is not finite", |l| {
        let spec = AdamSpec { beta1: 0.9, beta2: 0.95, max_norm: 2.0 };
        let mut g = l.noise(40);
        g[17] = f64::INFINITY;
        let a = AdamVals {
            params: l.real(&[40]),
            grads: l.given(&[40], g),
            m: l.real(&[40]),
            v: l.real(&[40]),
            step: l.index(vec![3]),
            rate: l.given(&[1], vec![1e-3]),
            norm: l.real(&[1]),
            skipped: l.index(vec![2]),
        };
        adam(&mut l.p, spec, &a);
    }));
}

fn loss_cases(list: &mut Vec<Case>) {
    for (t, n) in [(1, 5), (3, 4096), (4, 4097), (70, 33)] {
        for shared in [false, true] {
            list.push(case(format!("squared error {t}x{n} shared {shared}"), move |l| {
                let x = l.leaf(&[t, n]);
                let target = l.real(&[if shared { 1 } else { t }, n]);
                let weights = (0..t).map(|i| 0.5 + i as f64).collect();
                let y = squared_error(&mut l.p, x, target, weights);
                l.follow(y);
            }));
        }
    }
    for (h, b, bins) in [(1, 1, 2), (3, 9, 101), (66, 3, 33)] {
        for decode in [Decode::Symexp, Decode::Symlog] {
            list.push(case(format!("two-hot {h}x{b}x{bins} {decode:?}"), move |l| {
                let logits = l.leaf(&[h, b, bins]);
                let y = two_hot_decode(&mut l.p, logits, (-2.0, 2.0), decode);
                l.follow(y);
                let reward = l.noise(h * b).into_iter().map(|x| 5.0 * x).collect();
                let reward = l.given(&[h, b], reward);
                let weights = (0..h).map(|i| 0.1 + i as f64).collect();
                let y = two_hot_loss(&mut l.p, logits, reward, (-2.0, 2.0), weights);
                l.follow(y);
            }));
        }
    }
}

fn flow_cases(list: &mut Vec<Case>) {
    const PARTS: [Part; 3] = [Part::State, Part::Fixed(0), Part::Time];
    use Integrator::{Euler, Heun, Rk4};
    // Rows, state, fixed input, hidden layers: around the edges of the tiles.
    let sizes: [(usize, [usize; 2], &[usize]); 3] =
        [(1, [8, 1], &[24]), (17, [40, 3], &[33, 40]), (9, [264, 8], &[257, 16])];
    for (integrator, substeps, keep) in
        [(Euler, 1, true), (Euler, 3, false), (Heun, 1, true), (Heun, 2, true), (Rk4, 2, false), (Rk4, 3, true)]
    {
        for (rows, [state, fixed], hidden) in sizes {
            for (head, last, group) in [
                ("tangent", Epilogue::Bias, Some(8)),
                ("linear", Epilogue::Bias, None),
                ("simnorm", Epilogue::NormSimplex { group: 8 }, None),
            ] {
                let name = format!("flow {integrator} {substeps} {head} {rows}x{state} kept {keep}");
                list.push(case(name, move |l| {
                    let mut inputs = state + fixed + 1;
                    let mut layers = vec![];
                    for &n in hidden {
                        layers.push((layer(l, 1, n, inputs, true), Epilogue::NormMish));
                        inputs = n;
                    }
                    layers.push((layer(l, 1, state, inputs, last.has_norm()), last));
                    let field = Field { layers: &layers, parts: &PARTS, tangent: group };
                    let steps = Steps { integrator, substeps };
                    let (z, a) = (l.leaf(&[rows, state]), l.leaf(&[rows, fixed]));
                    let y = integrate(&mut l.p, &field, steps, z, &[a], keep, None);
                    // Once more, from there: gradients add up.
                    let y = integrate(&mut l.p, &field, steps, y, &[a], keep, None);
                    l.follow(y);
                }));
            }
        }
    }
    // Rows for `product_tma`; a first layer whose lines are multiples of nothing, and one whose weight is kept rounded.
    for (rows, state, fixed, hidden) in [(8203, 40, 4, 36), (2730, 256, 7, 264)] {
        list.push(case(format!("flow heun 1 tangent {rows}x{state}"), move |l| {
            let layers = [
                (layer(l, 1, hidden, state + fixed + 1, true), Epilogue::NormMish),
                (layer(l, 1, state, hidden, false), Epilogue::Bias),
            ];
            let field = Field { layers: &layers, parts: &PARTS, tangent: Some(8) };
            let steps = Steps { integrator: Heun, substeps: 1 };
            let (z, a) = (l.leaf(&[rows, state]), l.leaf(&[rows, fixed]));
            let y = integrate(&mut l.p, &field, steps, z, &[a], true, None);
            l.follow(y);
        }));
    }
    for (t, rows, d) in [(1, 1, 8), (3, 70, 16), (66, 5, 24)] {
        list.push(case(format!("flow matching {t}x{rows}x{d}"), move |l| {
            let shape = [t * rows, d];
            let (v, z0, z1) = (l.leaf(&shape), l.leaf(&shape), l.real(&shape));
            let tau = l.real(&[t * rows, 1]);
            let between = interpolate(&mut l.p, z0, z1, tau);
            l.follow(between);
            let v = tangent(&mut l.p, v, 8);
            l.follow(v);
            let weights = (0..t).map(|i| 0.5 + i as f64).collect();
            let e = velocity_error(&mut l.p, v, z0, z1, weights);
            l.follow(e);
            let on = project(&mut l.p, z0, 4, None);
            l.follow(on);
        }));
    }
}

fn policy_cases(list: &mut Vec<Case>) {
    for (n, a) in [(1, 1), (33, 8), (300, 3)] {
        list.push(case(format!("squash {n}x{a}"), move |l| {
            let (mean, logstd, noise) = (l.leaf(&[n, a]), l.leaf(&[a]), l.real(&[n, a]));
            let y = squash(&mut l.p, mean, logstd, Some(noise), None);
            l.follow(y);
            let y = squash(&mut l.p, mean, logstd, Some(noise), None);
            l.follow(y);
            let y = squash(&mut l.p, mean, logstd, None, None);
            l.follow(y);
            let y = spread(&mut l.p, logstd, noise);
            l.follow(y);
        }));
        list.push(case(format!("select rows {n}x{a}"), move |l| {
            let mask = l.flags(&[n], 0.0);
            let (x, y) = (l.leaf(&[n, a]), l.leaf(&[n, a]));
            let z = select_rows(&mut l.p, mask, x, y, None);
            l.follow(z);
            let z = anchor_rows(&mut l.p, mask, z, y, None);
            l.follow(z);
        }));
        list.push(case(format!("ensemble minimum {a}x{n}"), move |l| {
            let v = l.leaf(&[a, n, 1]);
            let y = ensemble_min(&mut l.p, v, 3.0);
            l.follow(y);
            let y = ensemble_min(&mut l.p, v, 1.0);
            l.follow(y);
        }));
    }
    for (h, n) in [(1, 3), (5, 64), (16, 130)] {
        for (bootstrap, lambda, normalised) in
            [(Bootstrap::Exact, 1.0, true), (Bootstrap::Exact, 0.9, false), (Bootstrap::Reference, 1.0, true)]
        {
            list.push(case(format!("returns {h}x{n} {bootstrap:?} {lambda}"), move |l| {
                let (reward, value) = (l.leaf(&[h, n]), l.leaf(&[h, n]));
                let done = l.flags(&[h, n], -1.0);
                let term = l.flags(&[h, n], -1.0);
                let stats = l.given(&[3], vec![0.3, 4.0, 50.0]);
                let spec = ActorLossSpec { gamma: 0.97, lambda, bootstrap, normalise: normalised, decay: 0.9 };
                let y = actor_loss(&mut l.p, spec, reward, value, done, term, stats);
                l.follow(y);
                let out = l.given(&[h, n], vec![f64::NAN; h * n]);
                td_lambda(&mut l.p, 0.99, 0.95, 2.0, reward, value, done, term, out);
            }));
        }
    }
}

fn replay_cases(list: &mut Vec<Case>) {
    for (num_envs, capacity, batch) in [(1, 9, 1), (5, 60, 70), (300, 900, 33)] {
        for sampling in [Sampling::Row, Sampling::Episode] {
            for unfinished in [false, true] {
                let name = format!("replay {num_envs} {capacity} {sampling:?} unfinished {unfinished}");
                list.push(case(name, move |l| {
                    let (obs_dim, act_dim) = (5, 2);
                    let spec = ReplaySpec {
                        num_envs,
                        horizon: 3,
                        capacity,
                        staging_rows: 9,
                        obs_dim,
                        act_dim,
                        batch,
                        sampling,
                        unfinished,
                        seed: 3,
                    };
                    let r = ReplayVars::new(&mut l.vars, &spec);
                    let obs = l.real(&[num_envs, obs_dim]);
                    replay_begin(&mut l.p, &l.vars, &r, obs);
                    for _ in 0..25 {
                        let t = Transition {
                            obs: l.real(&[num_envs, obs_dim]),
                            action: l.real(&[num_envs, act_dim]),
                            reward: l.real(&[num_envs]),
                            done: l.flags(&[num_envs], -1.2),
                            next: l.real(&[num_envs, obs_dim]),
                        };
                        replay_record(&mut l.p, &l.vars, &r, &t);
                    }
                    for _ in 0..2 {
                        let (o, a, w) = replay_sample(&mut l.p, &l.vars, &r);
                        l.keep(o);
                        l.keep(a);
                        l.keep(w);
                    }
                    l.runs = 3;
                }));
            }
        }
    }
}

fn env_cases(list: &mut Vec<Case>) {
    use crate::sim::ReferencePoint;
    for (count, mode, reference_point, mm_caching_frequency, steps) in [
        (1, Mode::Train, ReferencePoint::Torso, 16, 1),
        (37, Mode::Train, ReferencePoint::Torso, 16, 1),
        (37, Mode::Evaluate, ReferencePoint::World, 4, 1),
        (130, Mode::Train, ReferencePoint::Torso, 16, 2),
    ] {
        list.push(case(format!("env step {count} {mode:?} {reference_point:?} {steps}"), move |l| {
            let settings =
                AntSettings { reference_point, mm_caching_frequency, episode_length: 2, ..AntSettings::default() };
            let ant = Arc::new(Ant::new(settings));
            let rng = Philox::new(9, Stream::Reset);
            let env = EnvVars::new(&mut l.vars, "env", ant, count, mode, rng);
            env.reset(&mut l.p, &l.vars);
            for _ in 0..steps {
                let action = l.real(&[count, crate::env::ant::ACT]);
                let s = env.step(&mut l.p, &l.vars, action, None);
                for v in [s.obs_before_reset, s.reward, s.done, s.terminated] {
                    l.keep(v);
                }
            }
        }));
    }
}

/// Two steps that a gradient flows through, from states of every kind.
fn env_adjoint_cases(list: &mut Vec<Case>) {
    use crate::sim::{ReferencePoint, Subgradient};
    for (count, reference_point, mm_caching_frequency, norm, subgradient) in [
        (1, ReferencePoint::Torso, 16, 1e6, Subgradient::Reference),
        (19, ReferencePoint::Torso, 16, 1e6, Subgradient::Central),
        (9, ReferencePoint::World, 4, 1e6, Subgradient::Reference),
        (70, ReferencePoint::Torso, 16, 0.5, Subgradient::Reference),
    ] {
        let name = format!("env adjoint {count} {reference_point:?} every {mm_caching_frequency}, bound {norm}");
        list.push(case(name, move |l| {
            let settings = AntSettings {
                reference_point,
                mm_caching_frequency,
                subgradient,
                action_penalty: -0.1,
                ..AntSettings::default()
            };
            let (ant, rng) = (Arc::new(Ant::new(settings)), Philox::new(9, Stream::Reset));
            let env = EnvVars::new(&mut l.vars, "env", ant.clone(), count, Mode::Train, rng);
            // About the world's origin single precision is good only near it.
            let near = if reference_point == ReferencePoint::World { 0.05 } else { 1.0 };
            let states: Vec<_> = (0..count as u32)
                .map(|e| {
                    let mut s = random_state(&ant, &rng, e);
                    (s.q[0], s.q[2]) = (near * s.q[0], near * s.q[2]);
                    s
                })
                .collect();
            let rounded = |x: &[f64]| x.iter().map(|&x| f64::from(x as f32)).collect::<Vec<f64>>();
            let all = |f: fn(&State) -> &[f64]| states.iter().flat_map(|s| rounded(f(s))).collect::<Vec<f64>>();
            l.reals.push((env.q, all(|s| &s.q)));
            l.reals.push((env.qd, all(|s| &s.qd)));
            let counted = l.given(&[2], vec![0.0; 2]);
            let bound = Bound { norm, count: counted };
            let mut state = env.state(&mut l.p, &l.vars);
            for _ in 0..2 {
                let action = l.leaf(&[count, crate::env::ant::ACT]);
                let into =
                    [&[count, crate::env::ant::OBS][..], &[count], &[count], &[count]].map(|shape| l.p.real(shape));
                (_, state) = env.step_through(&mut l.p, &l.vars, &state, action, bound, into);
                l.follow(into[0]);
                l.follow(into[1]);
            }
            l.follow(state.q);
            l.follow(state.qd);
        }));
    }
}

/// Every case.
pub fn cases() -> Vec<Case> {
    let mut list = Vec::new();
    linear_cases(&mut list);
    product_cases(&mut list);
    elementwise_cases(&mut list);
    loss_cases(&mut list);
    flow_cases(&mut list);
    policy_cases(&mut list);
    replay_cases(&mut list);
    env_cases(&mut list);
    env_adjoint_cases(&mut list);
    list
}

/// What `pwm selftest` is asked for.
#[derive(Clone, Debug, clap::Args)]
pub struct SelftestArgs {
    /// What to test: cuda:N, cpu, or auto
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub device: Device,
    /// Only the cases whose name begins with this, and no training
    #[arg(long, value_name = "NAME")]
    pub cases: Option<String>,
    /// What to multiply in; by default all, one after another
    #[arg(long, value_name = "PRECISION")]
    pub precision: Option<Precision>,
}

/// Carries the command out; an error if anything differs.
pub fn run(args: &SelftestArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut passed = true;
    let precisions = [Precision::Fp32, Precision::Tf32, Precision::Bf16];
    for precision in precisions.into_iter().filter(|p| args.precision.is_none_or(|only| only == *p)) {
        let target = target(args.device, precision)?;
        let name = match &target {
            Target::Cpu => "the processor, in single precision".to_owned(),
            Target::Cuda(context, o) => format!("cuda:{} {}, {}", context.info.ordinal, context.info.name, o.multiply),
        };
        say(out, format_args!("tests {name}"));
        passed &= run_cases(&target, args.cases.as_deref().unwrap_or_default(), out)?;
        if args.cases.is_some() {
            continue;
        }
        // As `pwm_small` has it, and as published.
        for more in [&[][..], ENCODED] {
            let training = train_beside_cpu(&target, 20, more)?;
            say(out, format_args!("{training}"));
            passed &= training.passed();
        }
        // The processor knows no other precision.
        if matches!(target, Target::Cpu) {
            break;
        }
    }
    anyhow::ensure!(passed, "the self-test failed: see the lines above");
    Ok(())
}

/// Training on a device beside the same training on the processor.
#[derive(Clone, Debug, Default)]
pub struct Training {
    pub epochs: usize,
    /// Largest relative difference of a loss in the first epoch that learns, and in any epoch.
    pub first: f64,
    pub worst: f64,
    pub finite: bool,
    /// What the device multiplies in.
    pub rounding: f64,
}

/// Allowed differences of [`Training`]: losses of the first epoch are off by a few roundings of the factors.
const FIRST_EPOCH: f64 = 1e-4;
const FIRST_ROUNDINGS: f64 = 4.0;
const ANY_EPOCH: f64 = 0.1;
const ANY_ROUNDINGS: f64 = 40.0;

impl Training {
    pub fn passed(&self) -> bool {
        let first = FIRST_EPOCH.max(FIRST_ROUNDINGS * self.rounding);
        self.finite && self.first <= first && self.worst <= ANY_EPOCH.max(ANY_ROUNDINGS * self.rounding)
    }
}

impl std::fmt::Display for Training {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} epochs beside the processor: losses differ by {:.1e} in the first epoch that learns, {:.1e} at most; {}",
            self.epochs,
            self.first,
            self.worst,
            if self.passed() { "passed" } else { "FAILED" }
        )
    }
}

/// Settings of a run of a second or two.
const SMALL: &[&str] = &[
    "num_envs=16",
    "episode_length=24",
    "horizon=8",
    "latent_dim=32",
    "units=[48]",
    "encoder_units=[40]",
    "actor_units=[32,16]",
    "critic_units=[32]",
    "num_critics=2",
    "wm_batch_size=40",
    "wm_iterations=2",
    "wm_buffer_size=2000",
    "wm_bootstrap_iterations=4",
    "eval_episodes=4",
    "max_minutes=0",
];

/// What makes the small configuration a published one.
pub const ENCODED: &[&str] = &["latent=encoded", "rollout=imagined", "obs_norm=false"];

/// Trains on both until `epochs` epochs have learned.
pub fn train_beside_cpu(target: &Target, epochs: usize, more: &[&str]) -> anyhow::Result<Training> {
    let c = load(&[SMALL, more].concat())?;
    let mut cpu = Trainer::<f32>::new(&c)?;
    let mut device = Trainer::<f32>::on(&c, target)?;
    let mut t = Training { finite: true, rounding: rounding(precision_of(target)), ..Training::default() };
    while t.epochs < epochs {
        let (a, b) = (cpu.run_epoch()?, device.run_epoch()?);
        anyhow::ensure!(a.learned == b.learned, "one side waits for replay, the other does not");
        if !a.learned {
            continue;
        }
        let pairs = [
            (a.actor_loss, b.actor_loss),
            (a.critic_loss, b.critic_loss),
            (a.dynamics_loss, b.dynamics_loss),
            (a.reward_loss, b.reward_loss),
        ];
        for (a, b) in pairs {
            t.finite &= b.is_finite();
            let difference = (a - b).abs() / a.abs().max(1e-6);
            if t.epochs == 0 {
                t.first = t.first.max(difference);
            }
            t.worst = t.worst.max(difference);
        }
        t.epochs += 1;
    }
    Ok(t)
}

/// Runs every case whose name begins with `name` on `target`, one line each; whether all passed.
pub fn run_cases(target: &Target, name: &str, out: &mut dyn Write) -> Result<bool, SelftestError> {
    say(
        out,
        format_args!("{:58} {:>10} {:>10}", "error relative to the largest number of an array", "device", "cpu f32"),
    );
    let (mut failed, mut count) = (0, 0);
    for case in cases().into_iter().filter(|c| c.name.starts_with(name)) {
        let o = case.run(1, target)?;
        let word = if o.passed { "" } else { "  FAILED" };
        say(out, format_args!("{:58} {:10.1e} {:10.1e}{word}{}", o.name, o.error, o.cpu_error, o.detail));
        failed += usize::from(!o.passed);
        count += 1;
    }
    say(out, format_args!("{} of {count} cases passed", count - failed));
    Ok(failed == 0)
}
