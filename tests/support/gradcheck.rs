//! The dot-product test: a hand-written adjoint against forward-mode dual numbers, in f64.
//!
//! For `y = f(x)`, random directions `dx` and weights `w`: `<w, J dx>` from one run on dual numbers must equal
//! `<Jᵀ w, dx>` from the reverse pass. The two share the forward kernels and nothing else.

use super::ops::Dot;
use pwm::device::Dual;
use pwm::device::cpu::team::Team;
use pwm::device::philox::{Philox, Stream};
use pwm::model::ParamGroup;
use pwm::tape::{DType, Machine, Program, Region, TapeReal, Val, VarId, Vars, grad};
use std::sync::Arc;

/// An input of the function under test.
#[derive(Clone)]
pub struct Input {
    pub shape: Vec<usize>,
    /// Values are drawn from `centre + spread * normal`.
    pub centre: f64,
    pub spread: f64,
    /// Fixed values instead of random ones.
    pub fixed: Option<Vec<f64>>,
    /// Whether a gradient is asked for.
    pub wanted: bool,
}

pub fn input(shape: &[usize]) -> Input {
    Input { shape: shape.to_vec(), centre: 0.0, spread: 1.0, fixed: None, wanted: true }
}

pub fn fixed(shape: &[usize], values: Vec<f64>) -> Input {
    Input { shape: shape.to_vec(), centre: 0.0, spread: 0.0, fixed: Some(values), wanted: false }
}

fn values(i: &Input, at: usize) -> Vec<f64> {
    let n: usize = i.shape.iter().product();
    let rng = Philox::new(11, Stream::Test);
    i.fixed.clone().unwrap_or_else(|| (0..n).map(|j| i.centre + i.spread * rng.normal(at as u64, j as u32)).collect())
}

/// A value that the function depends on: part of a variable, filled anew before every run.
pub struct Leaf {
    val: Val,
    var: VarId,
    offset: usize,
    input: Input,
}

/// A function as a program: what it computes, and what it depends on.
pub struct Traced {
    pub outputs: Vec<Val>,
    pub leaves: Vec<Leaf>,
}

/// A variable of its own as a leaf.
pub fn leaf(p: &mut Program, vars: &mut Vars, name: &str, input: Input) -> Leaf {
    let var = vars.add(Region::Parameters, name, DType::Real, &input.shape);
    Leaf { val: p.var(vars, var), var, offset: 0, input }
}

impl Leaf {
    pub fn val(&self) -> Val {
        self.val
    }
}

/// A whole variable that exists already, with fixed numbers: statistics that a program updates.
pub fn fixed_var(p: &mut Program, vars: &Vars, var: VarId, values: Vec<f64>) -> Leaf {
    let shape = vars.info(var).shape.clone();
    Leaf { val: p.var(vars, var), var, offset: 0, input: fixed(&shape, values) }
}

/// Every parameter of a group as a leaf; gradients are asked for those that `wanted` names.
pub fn parameters(p: &mut Program, vars: &Vars, group: &ParamGroup, wanted: impl Fn(&str) -> bool) -> Vec<Leaf> {
    let one = |p: &mut Program, e: &pwm::model::params::ParamEntry| {
        let gain = e.name.ends_with("ln.weight");
        let input = Input {
            shape: e.shape.clone(),
            centre: if gain { 1.0 } else { 0.0 },
            spread: 0.3,
            fixed: None,
            wanted: wanted(&e.name),
        };
        Leaf { val: p.var_at(vars, group.params, e.offset, &e.shape), var: group.params, offset: e.offset, input }
    };
    group.entries.iter().map(|e| one(p, e)).collect()
}

/// A traced function with its weighted sum and, if asked for, its reverse pass.
struct Built {
    vars: Vars,
    program: Program,
    leaves: Vec<Leaf>,
    grads: Vec<Option<VarId>>,
    /// Weights of the outputs.
    weights: Vec<VarId>,
    one: VarId,
    /// The weighted sum of each output.
    sums: VarId,
}

fn build(f: &dyn Fn(&mut Program, &mut Vars) -> Traced, reverse: bool) -> Built {
    let (mut vars, mut p) = (Vars::default(), Program::new("check"));
    let Traced { outputs, leaves } = f(&mut p, &mut vars);
    let mut real = |name: String, shape: &[usize]| vars.add(Region::Control, name, DType::Real, shape);
    let (one, sums) = (real("one".into(), &[1]), real("sums".into(), &[outputs.len()]));
    let grads: Vec<Option<VarId>> = (leaves.iter().enumerate())
        .map(|(i, l)| l.input.wanted.then(|| real(format!("gradient{i}"), &l.input.shape)))
        .collect();
    let weights: Vec<VarId> =
        outputs.iter().enumerate().map(|(i, &y)| real(format!("weight{i}"), p.shape(y))).collect();
    let mut roots = vec![];
    for (i, (&y, &w)) in outputs.iter().zip(&weights).enumerate() {
        let (w, one, out) = (p.var(&vars, w), p.var(&vars, one), p.var_at(&vars, sums, i, &[1]));
        let root = p.real(&[1]);
        p.push(Dot, &[w, y], &[root]);
        p.push(Dot, &[one, root], &[out]);
        roots.push((root, 1.0));
    }
    if reverse {
        let wrt: Vec<(Val, Val)> =
            leaves.iter().zip(&grads).filter_map(|(l, g)| g.map(|g| (l.val, p.var(&vars, g)))).collect();
        grad(&mut p, &roots, &wrt);
    }
    Built { vars, program: p, leaves, grads, weights, one, sums }
}

impl Built {
    /// Fills leaves, with a derivative along a direction if the numbers have one, and weights.
    fn fill<F: TapeReal>(&self, m: &mut Machine<F>, number: impl Fn(f64, usize, usize) -> F) {
        for (i, l) in self.leaves.iter().enumerate() {
            let values = values(&l.input, i);
            let to = &mut m.real_mut(l.var)[l.offset..l.offset + values.len()];
            for (j, (to, x)) in to.iter_mut().zip(values).enumerate() {
                *to = number(x, i, j);
            }
        }
        let rng = Philox::new(13, Stream::Test);
        for (i, &w) in self.weights.iter().enumerate() {
            for (j, x) in m.real_mut(w).iter_mut().enumerate() {
                *x = F::of(rng.normal(1000 + i as u64, j as u32));
            }
        }
        m.real_mut(self.one)[0] = F::one();
        // Counters choose random numbers: each run begins with the same.
        let counters: Vec<VarId> = m.vars().iter().filter(|(_, v)| v.dtype == DType::Index).map(|(id, _)| id).collect();
        counters.into_iter().for_each(|id| m.index_mut(id).fill(0));
    }

    fn machine<F: TapeReal>(&mut self, team: &Arc<Team>) -> Machine<F> {
        let program = std::mem::take(&mut self.program);
        Machine::new(self.vars.clone(), vec![program], team.clone()).expect("memory")
    }
}

/// Fails unless the adjoint of `f` passes the dot-product test to `tolerance` in several random directions. `f` gets
/// the inputs as values and returns its outputs.
pub fn check(name: &str, inputs: &[Input], tolerance: f64, f: impl Fn(&mut Program, &mut Vars, &[Val]) -> Vec<Val>) {
    check_traced(name, tolerance, |p, vars| {
        let leaves: Vec<Leaf> =
            inputs.iter().enumerate().map(|(i, x)| leaf(p, vars, &format!("x{i}"), x.clone())).collect();
        let vals: Vec<Val> = leaves.iter().map(Leaf::val).collect();
        Traced { outputs: f(p, vars, &vals), leaves }
    });
}

/// As [`check`], of a function that names what it depends on. Prints the worst relative difference.
pub fn check_traced(name: &str, tolerance: f64, f: impl Fn(&mut Program, &mut Vars) -> Traced) {
    let team = Arc::new(Team::new(2).expect("threads"));
    let mut reverse = build(&f, true);
    let mut m: Machine<f64> = reverse.machine(&team);
    let id = m.program(0);
    // Twice: cotangents are written, not accumulated from the run before.
    for _ in 0..2 {
        reverse.fill(&mut m, |x, _, _| x);
        m.poison();
        m.run(id).expect("run");
    }

    let mut forward = build(&f, false);
    let mut d: Machine<Dual> = forward.machine(&team);
    let id = d.program(0);
    let mut worst = 0.0f64;
    for direction in 0..3u64 {
        let rng = Philox::new(17 + direction, Stream::Test);
        let along = |i: usize, j: usize| {
            if forward.leaves[i].input.wanted { rng.normal(i as u64, j as u32) } else { 0.0 }
        };
        forward.fill(&mut d, |x, i, j| Dual::new(x, along(i, j)));
        d.poison();
        d.run(id).expect("run");
        let there: f64 = d.real(forward.sums).iter().map(|s| s.d).sum();
        let (mut back, mut size) = (0.0, 0.0);
        for (i, g) in reverse.grads.iter().enumerate() {
            for (j, g) in g.map_or(&[][..], |g| m.real(g)).iter().enumerate() {
                back += g * along(i, j);
                size += (g * along(i, j)).abs();
            }
        }
        assert!(size > 0.0 && back.is_finite(), "{name}: the gradient is zero or not finite");
        let error = ((there - back) / size).abs();
        assert!(
            error <= tolerance,
            "{name}, direction {direction}: forward {there:.17e}, reverse {back:.17e}, relative {error:.2e}"
        );
        worst = worst.max(error);
    }
    println!("{name}: {worst:.1e}");
}
