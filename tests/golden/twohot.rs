//! The distributional reward head against the reference: codes, losses, decoded rewards and their gradients.

use crate::support::golden::{Golden, assert_close};
use crate::support::ops::Dot;
use pwm::device::cpu::team::Team;
use pwm::ops::control::copy;
use pwm::ops::twohot::{Bins, Decode, symexp, symlog, two_hot_decode, two_hot_loss};
use pwm::tape::{DType, Machine, Program, Region, TapeReal, Val, VarId, Vars, grad};
use std::sync::Arc;

const TOLERANCE: f64 = 1e-7;

fn add(vars: &mut Vars, name: &str, shape: &[usize]) -> VarId {
    vars.add(Region::RolloutBuffers, name, DType::Real, shape)
}

fn bins(g: &Golden) -> Bins {
    Bins { vmin: g.number("vmin"), vmax: g.number("vmax"), count: g.number("num_bins") as usize }
}

fn put<F: TapeReal>(m: &mut Machine<F>, var: VarId, values: &[f64]) {
    for (to, &x) in m.real_mut(var).iter_mut().zip(values) {
        *to = F::of(x);
    }
}

fn numbers<F: TapeReal>(m: &Machine<F>, var: VarId) -> Vec<f64> {
    m.real(var).iter().map(|x| x.value()).collect()
}

/// Runs a program on the file's logits times `scale`, x and gy; returns value and gradient of the logits.
/// `f` gets logits, x and gy and returns the value to read and the scalar to differentiate.
fn run<F: TapeReal>(
    g: &Golden,
    scale: f64,
    f: impl Fn(&mut Program, Val, Val, Val) -> (Val, Val),
) -> (Vec<f64>, Vec<f64>) {
    let (n, b) = (g.get("x").len(), bins(g).count);
    let mut vars = Vars::default();
    let [logits, x, gy] = [("logits", n * b), ("x", n), ("gy", n)].map(|(name, len)| add(&mut vars, name, &[len]));
    let dlogits = add(&mut vars, "dlogits", &[n * b]);
    let mut p = Program::new("golden");
    let l = p.var_at(&vars, logits, 0, &[n, 1, b]);
    let (xv, gv, dv) = (p.var(&vars, x), p.var(&vars, gy), p.var(&vars, dlogits));
    let (value, root) = f(&mut p, l, xv, gv);
    let shape = p.shape(value).to_vec();
    let out = add(&mut vars, "out", &shape);
    let out_value = p.var(&vars, out);
    copy(&mut p, value, out_value);
    grad(&mut p, &[(root, 1.0)], &[(l, dv)]);
    let mut m = Machine::<F>::new(vars, vec![p], Arc::new(Team::new(2).expect("threads"))).expect("memory");
    // The reference scales in f32 before it goes on in f64.
    let scaled: Vec<f64> = g.get("logits").iter().map(|&x| f64::from(x as f32 * scale as f32)).collect();
    put(&mut m, logits, &scaled);
    put(&mut m, x, &g.get("x"));
    put(&mut m, gy, &g.get("gy"));
    m.poison();
    m.run(m.program(0)).expect("run");
    (numbers(&m, out), numbers(&m, dlogits))
}

#[test]
fn golden_symlog_symexp_and_codes() {
    let g = Golden::open("pwm/f_twohot");
    let (x, bins) = (g.get("x"), bins(&g));
    let map = |f: fn(f64) -> f64| x.iter().map(|&x| f(x)).collect::<Vec<_>>();
    assert_close(&map(symlog), &g.want("symlog"), TOLERANCE);
    assert_close(&map(|x| symexp(x.clamp(-12.0, 12.0))), &g.want("symexp"), TOLERANCE);
    // On an edge either of two codes is right: compare what the codes stand for, and entries away from edges.
    let want = g.want("two_hot");
    for (i, &x) in x.iter().enumerate() {
        let row = &want.values[i * bins.count..][..bins.count];
        let (k, f) = bins.encode(symlog(x));
        let stands: f64 = row.iter().enumerate().map(|(j, w)| w * bins.value::<f64>(j)).sum();
        let got = (1.0 - f) * bins.value::<f64>(k) + f * bins.value::<f64>(k + 1);
        assert!((stands - got).abs() <= TOLERANCE * bins.vmax, "x = {x}: {got}, want {stands}");
        if f > 1e-6 && f < 1.0 - 1e-6 {
            assert!((row[k] - (1.0 - f)).abs() <= TOLERANCE && (row[k + 1] - f).abs() <= TOLERANCE, "x = {x}");
        }
    }
}

fn decoded<F: TapeReal>(tolerance: f64) {
    let g = Golden::open("pwm/f_twohot");
    let b = bins(&g);
    for (name, decode, scale) in [
        ("two_hot_inv", Decode::Symexp, 1.0),
        ("almost_two_hot_inv", Decode::Symlog, 1.0),
        ("two_hot_inv_x30", Decode::Symexp, 30.0),
    ] {
        let (value, dlogits) = run::<F>(&g, scale, |p, logits, _, gy| {
            let y = two_hot_decode(p, logits, (b.vmin, b.vmax), decode);
            let root = p.real(&[1]);
            p.push(Dot, &[gy, y], &[root]);
            (y, root)
        });
        assert_close(&value, &g.want(name), tolerance);
        assert_close(&dlogits, &g.want(&format!("{name}_dlogits")), tolerance);
    }
}

#[test]
fn golden_decode() {
    decoded::<f64>(TOLERANCE);
}

#[test]
fn golden_decode_f32() {
    decoded::<f32>(2e-5);
}

fn cross_entropy<F: TapeReal>(tolerance: f64) {
    let g = Golden::open("pwm/f_twohot");
    let b = bins(&g);
    // One step a row, weighted by gy, is the reference's scalar; one loss a row is its vector.
    let weights = g.get("gy");
    let n = weights.len();
    let (value, dlogits) = run::<F>(&g, 1.0, |p, logits, x, _| {
        let all = p.real(&[n]);
        for i in 0..n {
            let (l, x) = (p.at(logits, i), p.view(x, i, &[1]));
            let loss = two_hot_loss(p, l, x, (b.vmin, b.vmax), vec![1.0]);
            let one = p.view(all, i, &[1]);
            copy(p, loss, one);
        }
        (all, two_hot_loss(p, logits, x, (b.vmin, b.vmax), weights.clone()))
    });
    assert_close(&value, &g.want("soft_ce"), tolerance);
    assert_close(&dlogits, &g.want("soft_ce_dlogits"), tolerance);
}

#[test]
fn golden_cross_entropy() {
    cross_entropy::<f64>(TOLERANCE);
}

#[test]
fn golden_cross_entropy_f32() {
    cross_entropy::<f32>(2e-5);
}

#[test]
fn golden_roundtrip() {
    let g = Golden::open("pwm/f_twohot");
    let bins = bins(&g);
    // Logits that are the logarithm of the code decode to the reward it came from, up to the end of the bins.
    let mut logits = Vec::new();
    for x in g.get("x") {
        let (k, f) = bins.encode(symlog(x));
        let code = |i| {
            if i == k {
                1.0 - f
            } else if i == k + 1 {
                f
            } else {
                0.0
            }
        };
        logits.extend((0..bins.count).map(|i| f64::ln(f64::max(code(i), 1e-300))));
    }
    let n = logits.len() / bins.count;
    let mut vars = Vars::default();
    let (from, to) = (add(&mut vars, "logits", &[n, bins.count]), add(&mut vars, "out", &[n]));
    let mut p = Program::new("roundtrip");
    let l = p.var(&vars, from);
    let y = two_hot_decode(&mut p, l, (bins.vmin, bins.vmax), Decode::Symexp);
    let out = p.var(&vars, to);
    copy(&mut p, y, out);
    let mut m = Machine::<f64>::new(vars, vec![p], Arc::new(Team::new(1).expect("threads"))).expect("memory");
    put(&mut m, from, &logits);
    m.run(m.program(0)).expect("run");
    let got = numbers(&m, to);
    assert_close(&got, &g.want("roundtrip"), TOLERANCE);
    for (x, y) in g.get("x").iter().zip(got) {
        let x = x.clamp(symexp(bins.vmin), symexp(bins.vmax));
        assert!((x - y).abs() <= 1e-12 * (1.0 + x.abs()), "{x} came back as {y}");
    }
}
