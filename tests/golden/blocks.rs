//! Networks and their layers against the reference, in value and gradient (`pwm/a_blocks`).
//!
//! `critic_elu` of other sets is not part of this product, nor is `log_prob_presquash`: no loss uses a density.

use crate::support::golden::{Array, Golden};
use crate::support::lab::{Lab, Naming, Score, actor_name, critic_name, pack};
use pwm::config::{ActorKind, Config, Integrator};
use pwm::model::mlp::{Mlp, MlpInit, MlpSpec};
use pwm::model::params::{GroupBuilder, Init};
use pwm::model::{Actor, ParamGroup};
use pwm::ops::linear::{Epilogue, LayerVals, linear, transpose};
use pwm::ops::optim::AdamSpec;
use pwm::tape::{TapeReal, Val, Vars};

const SIMNORM: Epilogue = Epilogue::NormSimplex { group: 8 };

/// `net.1.bias` is `1.bias`.
fn stack_name(name: &str) -> String {
    name["net.".len()..].into()
}

/// `net.0.bias` is `bias`.
fn single_name(name: &str) -> String {
    name["net.0.".len()..].into()
}

/// Every stack of layers: name, the reference's names, hidden and last epilogue, and whether the input comes in two
/// parts, latent and action.
const STACKS: &[(&str, Naming, Epilogue, Epilogue, bool)] = &[
    ("linear", single_name, Epilogue::Bias, Epilogue::Bias, false),
    ("normed_mish", single_name, Epilogue::Bias, Epilogue::NormMish, false),
    ("normed_simnorm", single_name, Epilogue::Bias, SIMNORM, false),
    ("encoder", stack_name, Epilogue::NormMish, SIMNORM, false),
    ("dynamics", stack_name, Epilogue::NormMish, SIMNORM, true),
    ("reward1", stack_name, Epilogue::NormMish, Epilogue::Bias, true),
    ("reward101", stack_name, Epilogue::NormMish, Epilogue::Bias, true),
    ("critic", critic_name, Epilogue::MishNorm, Epilogue::Bias, false),
];

/// A stack whose layers have the widths of the reference's biases.
fn stack(
    g: &Golden,
    vars: &mut Vars,
    &(name, naming, hidden, last, _): &(&str, Naming, Epilogue, Epilogue, bool),
) -> (ParamGroup, Mlp) {
    let bias = |i: usize| format!("{name}/p/{}", naming(&format!("net.{i}.bias")));
    let mut widths: Vec<usize> = if naming("net.0.bias") == "bias" {
        g.array(&bias(0)).shape
    } else {
        (0..).map(bias).take_while(|n| g.has(n)).map(|n| g.array(&n).shape[0]).collect()
    };
    let outputs = widths.pop().expect("a layer");
    let spec = MlpSpec {
        name: "net",
        ensemble: 1,
        inputs: g.array(&format!("{name}/x")).shape[1],
        hidden: &widths,
        outputs,
        hidden_epilogue: hidden,
        last_epilogue: last,
    };
    let zero = |_, _| Init::Constant(0.0);
    let mut builder = GroupBuilder::default();
    let mlp = Mlp::new(&mut builder, &spec, MlpInit { weight: zero, bias: zero, gain: 1.0 });
    (builder.finish(vars, "net", AdamSpec { beta1: 0.9, beta2: 0.999, max_norm: 1.0 }), mlp)
}

/// Every parameter of a group, by its name.
fn parameters(lab: &mut Lab, group: &ParamGroup) -> Vec<(String, Val)> {
    let each = group.entries.iter();
    each.map(|e| (e.name.clone(), lab.p.var_at(&lab.vars, group.params, e.offset, &e.shape))).collect()
}

/// Columns `from..to` of a matrix.
fn columns(a: &Array, from: usize, to: usize) -> Array {
    let (rows, width) = (a.shape[0], a.shape[1]);
    let values = a.values.chunks_exact(width).flat_map(|r| r[from..to].to_vec()).collect();
    Array { name: format!("{}[{from}..{to}]", a.name), shape: vec![rows, to - from], values }
}

fn stacks<F: TapeReal>() {
    let g = Golden::open("pwm/a_blocks");
    let mut score = Score::new::<F>(&g);
    for block in STACKS {
        let &(name, naming, _, _, parts) = block;
        let mut lab = Lab::new();
        let (group, mlp) = stack(&g, &mut lab.vars, block);
        lab.fill(group.params, pack(&g, &format!("{name}/p/"), &group, naming));
        let (x, gy) = (g.array(&format!("{name}/x")), g.array(&format!("{name}/gy")));
        let (width, cut) = (x.shape[1], g.number("latent") as usize);
        let cuts = if parts { vec![(0, cut), (cut, width)] } else { vec![(0, width)] };
        let xs: Vec<Val> = cuts.iter().map(|&(from, to)| lab.array(&columns(&x, from, to))).collect();
        let bound = mlp.bind(&mut lab.p, &lab.vars, &group);
        let y = bound.apply(&mut lab.p, &xs, true, None);
        // Without what the reverse pass needs, the kernel takes another path.
        let lean = bound.apply(&mut lab.p, &xs, false, None);
        lab.keep("y", y);
        lab.keep("lean", lean);
        let root = lab.weighed(&gy, y);
        let mut of = parameters(&mut lab, &group);
        of.extend(xs.iter().enumerate().map(|(i, &x)| (format!("dx{i}"), x)));
        lab.gradients(root, &of);
        let run = lab.run::<F>();
        score.check(&format!("{name}/y"), &run.get("y"));
        score.check(&format!("{name}/y"), &run.get("lean"));
        let mut dx = vec![0.0; x.values.len()];
        for (i, &(from, to)) in cuts.iter().enumerate() {
            let part = run.get(&format!("dx{i}"));
            for (row, part) in dx.chunks_exact_mut(width).zip(part.chunks_exact(to - from)) {
                row[from..to].copy_from_slice(part);
            }
        }
        score.check(&format!("{name}/dx"), &dx);
        for e in &group.entries {
            score.check(&format!("{name}/g/{}", naming(&e.name)), &run.get(&e.name));
        }
    }
    score.finish("stacks");
}

#[test]
fn golden_stacks() {
    stacks::<f64>();
}

#[test]
fn golden_stacks_f32() {
    stacks::<f32>();
}

/// A layer whose product leaves its input alone: what follows the product is seen by itself. `norm` is gain and shift.
fn bare(lab: &mut Lab, x: Val, n: usize, bias: f64, norm: (Val, Val), epilogue: Epilogue) -> Val {
    let unit = (0..n * n).map(|i| f64::from(u8::from(i % (n + 1) == 0))).collect();
    let (weight, bias) = (lab.input("unit", &[n, n], unit), lab.input("bias", &[n], vec![bias; n]));
    let transposed = transpose(&mut lab.p, weight);
    let layer = LayerVals { weight, transposed, bias, norm: Some(norm) };
    linear(&mut lab.p, &[x], &layer, epilogue, true, None)
}

/// LayerNorm does not see a constant added to a row, and Mish of a large number is the number itself.
fn layernorm<F: TapeReal>() {
    let g = Golden::open("pwm/a_blocks");
    let [x, gy, gain, shift] = ["x", "gy", "p/weight", "p/bias"].map(|n| g.array(&format!("layernorm/{n}")));
    let mut lab = Lab::new();
    let (xv, gain, shift) = (lab.array(&x), lab.array(&gain), lab.array(&shift));
    let y = bare(&mut lab, xv, x.shape[1], 40.0, (gain, shift), Epilogue::MishNorm);
    lab.keep("y", y);
    let root = lab.weighed(&gy, y);
    lab.gradients(root, &[("dx".into(), xv), ("g/weight".into(), gain), ("g/bias".into(), shift)]);
    let run = lab.run::<F>();
    let mut score = Score::new::<F>(&g);
    for name in ["y", "dx", "g/weight", "g/bias"] {
        score.check(&format!("layernorm/{name}"), &run.get(name));
    }
    score.finish("layernorm");
}

#[test]
fn golden_layernorm() {
    layernorm::<f64>();
}

#[test]
fn golden_layernorm_f32() {
    layernorm::<f32>();
}

/// With gain 0 a LayerNorm's result is its shift: the function after it, of any number, row by row.
fn after_norm<F: TapeReal>() {
    let g = Golden::open("pwm/a_blocks");
    let mut score = Score::new::<F>(&g);
    for (name, epilogue) in [("simnorm", SIMNORM), ("simnorm_big", SIMNORM), ("mish", Epilogue::NormMish)] {
        let (x, gy) = (g.array(&format!("{name}/x")), g.array(&format!("{name}/gy")));
        let n = *x.shape.last().expect("a width");
        for row in 0..x.values.len() / n {
            let part = |a: &Array| a.values[row * n..][..n].to_vec();
            let mut lab = Lab::new();
            let (shift, gain) = (lab.input("shift", &[n], part(&x)), lab.input("gain", &[n], vec![0.0; n]));
            let any = lab.input("any", &[1, n], (0..n).map(|i| i as f64).collect());
            let y = bare(&mut lab, any, n, 0.0, (gain, shift), epilogue);
            lab.keep("y", y);
            let root = lab.weighed(&Array { name: "gy".into(), shape: vec![1, n], values: part(&gy) }, y);
            lab.gradients(root, &[("dx".into(), shift)]);
            let run = lab.run::<F>();
            for what in ["y", "dx"] {
                score.check_part(&format!("{name}/{what}"), row * n, &run.get(what));
            }
        }
    }
    score.finish("simnorm and mish");
}

#[test]
fn golden_simnorm_and_mish() {
    after_norm::<f64>();
}

#[test]
fn golden_simnorm_and_mish_f32() {
    after_norm::<f32>();
}

fn actor<F: TapeReal>() {
    let g = Golden::open("pwm/a_blocks");
    let width = |i: usize| format!("actor/p/mu_net.{}.bias", 3 * i);
    let mut units: Vec<usize> = (0..).map(width).take_while(|n| g.has(n)).map(|n| g.array(&n).shape[0]).collect();
    let act = units.pop().expect("a layer");
    let x = g.array("actor/x");
    let c = Config { latent_dim: x.shape[1], actor_units: units, ..Config::default() };
    let mut lab = Lab::new();
    let actor = Actor::new(&mut lab.vars, &c, x.shape[1], act);
    lab.fill(actor.group.params, pack(&g, "actor/p/", &actor.group, actor_name));
    let (x, noise) = (lab.array(&x), lab.array(&g.array("actor/eps")));
    let bound = actor.bind(&mut lab.p, &lab.vars);
    let mean = bound.unsquashed(&mut lab.p, &[x], None, true);
    let action = bound.act(&mut lab.p, &[x], Some(noise), true, None);
    let best = bound.act(&mut lab.p, &[x], None, true, None);
    for (name, v) in [("mean", mean), ("tanh_sample", action), ("best", best), ("logstd_clamped", bound.logstd())] {
        lab.keep(name, v);
    }
    let root = lab.weighed(&g.array("actor/gy"), action);
    let mut of = parameters(&mut lab, &actor.group);
    of.push(("dx".into(), x));
    lab.gradients(root, &of);
    let run = lab.run::<F>();
    let mut score = Score::new::<F>(&g);
    for name in ["mean", "tanh_sample", "logstd_clamped", "dx"] {
        score.check(&format!("actor/{name}"), &run.get(name));
    }
    let (mean, logstd) = (run.get("mean"), run.get("logstd_clamped"));
    let eps = g.get("actor/eps");
    let sample: Vec<f64> = (0..mean.len()).map(|i| mean[i] + logstd[i % act].exp() * eps[i]).collect();
    score.check("actor/sample", &sample);
    let tanh: Vec<f64> = g.want("actor/mean").values.iter().map(|m| m.tanh()).collect();
    score.compare("tanh(actor/mean)", &run.get("best"), &tanh, if size_of::<F>() == 8 { 1e-7 } else { 2e-5 });
    for e in &actor.group.entries {
        score.check(&format!("actor/g/{}", actor_name(&e.name)), &run.get(&e.name));
    }
    score.finish("actor");
}

/// `velocity.1.ln.bias` is `velocity_net.5.bias`, `logstd` is `init_logstd`.
fn flow_actor_name(name: &str) -> String {
    if name == "logstd" { "init_logstd".into() } else { actor_name(name).replace("mu_net", "velocity_net") }
}

fn flow_actor<F: TapeReal>() {
    let g = Golden::open("pwm/a_blocks");
    let width = |i: usize| format!("flow_actor/p/velocity_net.{}.bias", 3 * i);
    let mut units: Vec<usize> = (0..).map(width).take_while(|n| g.has(n)).map(|n| g.array(&n).shape[0]).collect();
    let act = units.pop().expect("a layer");
    let latent = g.array("actor/x").shape[1];
    let mut score = Score::new::<F>(&g);
    let mut compared = 0;
    for (method, actor_flow_integrator) in [("euler", Integrator::Euler), ("heun", Integrator::Heun)] {
        for actor_flow_substeps in 1..=8 {
            let name = format!("flow_actor/{method}{actor_flow_substeps}");
            if !g.has(&format!("{name}/det")) {
                continue;
            }
            compared += 1;
            let c = Config {
                actor: ActorKind::Flow,
                actor_flow_integrator,
                actor_flow_substeps,
                actor_units: units.clone(),
                ..Config::default()
            };
            let mut lab = Lab::new();
            let actor = Actor::new(&mut lab.vars, &c, latent, act);
            lab.fill(actor.group.params, pack(&g, "flow_actor/p/", &actor.group, flow_actor_name));
            let (x, noise) = (lab.array(&g.array("actor/x")), lab.array(&g.array("actor/eps")));
            let bound = actor.bind(&mut lab.p, &lab.vars);
            let det = bound.unsquashed(&mut lab.p, &[x], None, false);
            let sample = bound.unsquashed(&mut lab.p, &[x], Some(noise), false);
            let action = bound.act(&mut lab.p, &[x], Some(noise), true, None);
            lab.keep("det", det);
            lab.keep("sample", sample);
            let root = lab.weighed(&g.array("actor/gy"), action);
            let mut of = parameters(&mut lab, &actor.group);
            of.push(("dx".into(), x));
            lab.gradients(root, &of);
            let run = lab.run::<F>();
            for what in ["det", "sample", "dx"] {
                score.check(&format!("{name}/{what}"), &run.get(what));
            }
            for e in &actor.group.entries {
                score.check(&format!("{name}/g/{}", flow_actor_name(&e.name)), &run.get(&e.name));
            }
        }
    }
    assert!(compared >= 2, "{compared} methods were compared");
    score.finish("flow policy");
}

#[test]
fn golden_flow_actor() {
    flow_actor::<f64>();
}

#[test]
fn golden_flow_actor_f32() {
    flow_actor::<f32>();
}

#[test]
fn golden_actor() {
    actor::<f64>();
}

#[test]
fn golden_actor_f32() {
    actor::<f32>();
}
