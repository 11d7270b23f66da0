//! The dot-product test: a hand-written adjoint against forward-mode dual numbers, in f64.
//!
//! For `y = f(x)`, random directions `dx` and weights `w`: `<w, J dx>` from one run on dual numbers must equal
//! `<Jᵀ w, dx>` from the reverse pass. The two share the forward kernels and nothing else.

#![allow(dead_code)] // each test binary uses a part

use pwm::device::cpu::team::Team;
use pwm::device::philox::{Philox, Stream};
use pwm::device::{Dual, Real};
use pwm::tape::exec::Number;
use pwm::tape::op::chunk;
use pwm::tape::{Adjoint, Cx, DType, Machine, Op, Program, Region, Val, VarId, Vars, grad};
use std::sync::Arc;

/// `<w, x>` as an operation of the tests' own, so that nothing under test weighs its own result.
#[derive(Debug)]
pub struct Dot;

impl Dot {
    #[inline(always)]
    fn run<F: Real>(&self, cx: &Cx<F>, _: usize, _: usize) {
        let mut s = F::zero();
        for (a, b) in cx.input(0).iter().zip(cx.input(1)) {
            s += *a * *b;
        }
        cx.out_all(0)[0] = s;
    }
}

impl Op for Dot {
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
            a.push(DotGrad { accumulate: s.accumulate }, &[c, w], &[s.val]);
        }
    }
    pwm::kernels!();
}

#[derive(Debug)]
struct DotGrad {
    accumulate: bool,
}

impl DotGrad {
    #[inline(always)]
    fn run<F: Real>(&self, cx: &Cx<F>, _: usize, _: usize) {
        let c = cx.input(0)[0];
        let out = cx.out(0, chunk(cx.out_len(0), cx.out_len(0), 0));
        for (o, w) in out.iter_mut().zip(cx.input(1)) {
            *o = if self.accumulate { *o + c * *w } else { c * *w };
        }
    }
}

impl Op for DotGrad {
    fn name(&self) -> &'static str {
        "test_dot_grad"
    }
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![1]
    }
    pwm::kernels!();
}

/// An input of the function under test.
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

/// Writes the operations to check: inputs to outputs.
type Subject<'a> = &'a dyn Fn(&mut Program, &mut Vars, &[Val]) -> Vec<Val>;
/// Variables of inputs, gradients, weights and sums, and the program.
type Built = (Vars, Program, Vec<VarId>, Vec<Option<VarId>>, Vec<VarId>, VarId);

/// Everything `check` needs besides the function: variables for inputs, gradients and the weighted sum.
fn build(inputs: &[Input], f: Subject, reverse: bool) -> Built {
    let mut vars = Vars::default();
    let mut p = Program::new("check");
    let mut xs = vec![];
    for (i, x) in inputs.iter().enumerate() {
        xs.push(vars.add(Region::Parameters, format!("x{i}"), DType::Real, &x.shape));
    }
    let grads: Vec<Option<VarId>> = (inputs.iter().enumerate())
        .map(|(i, x)| x.wanted.then(|| vars.add(Region::Gradients, format!("g{i}"), DType::Real, &x.shape)))
        .collect();
    let vals: Vec<Val> = xs.iter().map(|&x| p.var(&vars, x)).collect();
    let ys = f(&mut p, &mut vars, &vals);
    let sums = vars.add(Region::Control, "sums", DType::Real, &[ys.len()]);
    let (mut ws, mut roots) = (vec![], vec![]);
    for (i, &y) in ys.iter().enumerate() {
        let shape = p.shape(y).to_vec();
        let w = vars.add(Region::Control, format!("w{i}"), DType::Real, &shape);
        let wv = p.var(&vars, w);
        let root = p.real(&[1]);
        p.push(Dot, &[wv, y], &[root]);
        let out = p.var_at(&vars, sums, i, &[1]);
        // Multiplying by a fixed one copies the scalar out.
        let one = vars.add(Region::Control, format!("one{i}"), DType::Real, &[1]);
        let one = p.var(&vars, one);
        p.push(Dot, &[one, root], &[out]);
        ws.push(w);
        roots.push((root, 1.0));
    }
    if reverse {
        let wrt: Vec<(Val, Val)> =
            grads.iter().enumerate().filter_map(|(i, g)| g.map(|g| (vals[i], p.var(&vars, g)))).collect();
        grad(&mut p, &roots, &wrt);
    }
    (vars, p, xs, grads, ws, sums)
}

fn fill<F: Number>(m: &mut Machine<F>, ws: &[VarId]) {
    let rng = Philox::new(13, Stream::Test);
    for (i, &w) in ws.iter().enumerate() {
        for (j, x) in m.real_mut(w).iter_mut().enumerate() {
            *x = F::of(rng.normal(1000 + i as u64, j as u32));
        }
        let one = m.vars().find(&format!("one{i}")).expect("one");
        m.real_mut(one)[0] = F::one();
    }
}

/// Fails unless the adjoint of `f` passes the dot-product test to `tolerance` in several random directions.
pub fn check(name: &str, inputs: &[Input], tolerance: f64, f: impl Fn(&mut Program, &mut Vars, &[Val]) -> Vec<Val>) {
    let team = Arc::new(Team::new(2).expect("threads"));
    let (vars, p, xs, grads, ws, _) = build(inputs, &f, true);
    let mut m = Machine::<f64>::new(vars, vec![p], team.clone()).expect("memory");
    for (i, &x) in xs.iter().enumerate() {
        m.real_mut(x).copy_from_slice(&values(&inputs[i], i));
    }
    fill(&mut m, &ws);
    let id = m.program(0);
    m.poison();
    m.run(id).expect("run");
    // Twice: cotangents are written, not accumulated from the run before.
    m.run(id).expect("run");

    let (vars, p, dual_xs, _, dual_ws, sums) = build(inputs, &f, false);
    let mut d = Machine::<Dual>::new(vars, vec![p], team).expect("memory");
    fill(&mut d, &dual_ws);
    let id = d.program(0);
    for direction in 0..3u64 {
        let rng = Philox::new(17 + direction, Stream::Test);
        let (mut reverse, mut size) = (0.0, 0.0);
        for (i, &x) in dual_xs.iter().enumerate() {
            let at = values(&inputs[i], i);
            let wanted = inputs[i].wanted;
            for (j, v) in d.real_mut(x).iter_mut().enumerate() {
                let dx = if wanted { rng.normal(i as u64, j as u32) } else { 0.0 };
                *v = Dual::new(at[j], dx);
                if let Some(g) = grads[i] {
                    let term = m.real(g)[j] * dx;
                    reverse += term;
                    size += term.abs();
                }
            }
        }
        d.poison();
        d.run(id).expect("run");
        let forward: f64 = d.real(sums).iter().map(|s| s.d).sum();
        let scale = size.max(1e-30);
        assert!(size > 0.0 && reverse.is_finite(), "{name}: the gradient is zero or not finite");
        assert!(
            ((forward - reverse) / scale).abs() <= tolerance,
            "{name}, direction {direction}: forward {forward:.17e}, reverse {reverse:.17e}, relative {:.2e}",
            ((forward - reverse) / scale).abs()
        );
    }
}
