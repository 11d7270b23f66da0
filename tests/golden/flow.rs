//! Flow dynamics against the reference: integrators with every head and the Euclidean projection, flow matching of one
//! transition, the whole loss (`pwm/c_flow_tangent`, `pwm/c_flow_linear`, `pwm/c_flow_simnorm`).
//!
//! Which methods, numbers of substeps and gradients a file has is read from it. The files' other projection, SimNorm
//! applied once more, is left out: it is not offered, since it shrinks a latent towards the centre at every step.

use crate::support::golden::Golden;
use crate::support::lab::{Lab, Score, config, fill_nets, world_name};
use pwm::algo::pwm::PwmNets;
use pwm::algo::pwm::world::{Batch, world_loss};
use pwm::config::{Config, FlowHead, FlowProjection, Integrator};
use pwm::ops::flow::matching::{interpolate, velocity_error};
use pwm::tape::TapeReal;

const FILES: [(&str, FlowHead); 3] = [
    ("pwm/c_flow_tangent", FlowHead::Tangent),
    ("pwm/c_flow_linear", FlowHead::Linear),
    ("pwm/c_flow_simnorm", FlowHead::Simnorm),
];
const METHODS: [(&str, Integrator); 3] =
    [("euler", Integrator::Euler), ("heun", Integrator::Heun), ("rk4", Integrator::Rk4)];

/// Every method, number of substeps and projection, with the name that files give the three together.
fn variants(c: &Config) -> Vec<(String, Config)> {
    let mut all = vec![];
    for (method, flow_integrator) in METHODS {
        for flow_substeps in 1..=16 {
            for (suffix, flow_projection) in [("", FlowProjection::None), ("_euclid", FlowProjection::Simplex)] {
                // Both ways of reversing are compared with the same numbers.
                let flow_keep_substeps = flow_substeps % 4 != 0;
                let name = format!("{method}{flow_substeps}{suffix}");
                all.push((
                    name,
                    Config { flow_integrator, flow_substeps, flow_projection, flow_keep_substeps, ..c.clone() },
                ));
            }
        }
    }
    all
}

fn settings(g: &Golden, head: FlowHead) -> Config {
    Config { flow_head: head, gamma: g.number("gamma"), ..config(g, "p/", "-", "-") }
}

/// Networks that hold the file's parameters.
fn nets(lab: &mut Lab, g: &Golden, c: &Config) -> PwmNets {
    let nets = PwmNets::new(&mut lab.vars, c, g.array("obs").shape[2], g.array("a").shape[1]);
    fill_nets(lab, g, &nets, "p/", "-", "-");
    nets
}

/// Compares the gradients of the velocity's parameters with `prefix` + name, which lacks the network's.
fn check_velocity(score: &mut Score, g: &Golden, prefix: &str, nets: &PwmNets, got: &[f64]) -> usize {
    let mut count = 0;
    for e in &nets.world.group.entries {
        let Some(short) = e.name.strip_prefix("velocity.") else { continue };
        if g.has(&format!("{prefix}{short}.f64")) {
            score.check(&format!("{prefix}{short}"), &got[e.offset..e.offset + e.len()]);
            count += 1;
        }
    }
    count
}

fn integrators<F: TapeReal>((file, head): (&str, FlowHead)) {
    let g = Golden::open(file);
    let mut score = Score::new::<F>(&g);
    let (mut ends, mut gradients) = (0, 0);
    for (name, c) in variants(&settings(&g, head)) {
        if !g.has(&format!("{name}/out.f64")) {
            continue;
        }
        let mut lab = Lab::new();
        let nets = nets(&mut lab, &g, &c);
        let (z, a) = (lab.array(&g.array("z")), lab.array(&g.array("a")));
        let world = nets.world.bind(&mut lab.p, &lab.vars);
        let out = world.next(&mut lab.p, z, a, None, true, None);
        lab.keep("out", out);
        let root = lab.weighed(&g.array("gy"), out);
        let group = &nets.world.group;
        let mut of = vec![("dz".to_string(), z), ("da".to_string(), a)];
        for e in &group.entries {
            of.push((e.name.clone(), lab.p.var_at(&lab.vars, group.params, e.offset, &e.shape)));
        }
        lab.gradients(root, &of);
        let run = lab.run::<F>();
        for what in ["out", "dz", "da"] {
            score.check(&format!("{name}/{what}"), &run.get(what));
        }
        let all: Vec<f64> = group.entries.iter().flat_map(|e| run.get(&e.name)).collect();
        ends += 1;
        gradients += check_velocity(&mut score, &g, &format!("{name}/g/"), &nets, &all);
    }
    assert!(ends >= 12 && gradients > 0, "{file}: {ends} end points and {gradients} gradients were compared");
    score.finish(&format!("{file}: integrators"));
}

fn matching<F: TapeReal>((file, head): (&str, FlowHead)) {
    let g = Golden::open(file);
    let c = settings(&g, head);
    let mut score = Score::new::<F>(&g);
    for name in ["velocity", "fm_uniform", "fm_midpoint"] {
        let mut lab = Lab::new();
        let nets = nets(&mut lab, &g, &c);
        let [start, a, target] = ["z", "a", "z_target"].map(|n| lab.array(&g.array(n)));
        let mut times = g.array("tau");
        if name == "fm_midpoint" {
            times.values.fill(0.5);
        }
        let tau = lab.array(&times);
        let world = nets.world.bind(&mut lab.p, &lab.vars);
        let flow = world.flow().expect("flow dynamics");
        let (root, of) = if name == "velocity" {
            let v = flow.velocity(&mut lab.p, start, a, tau, None, true);
            lab.keep("velocity/out", v);
            (lab.weighed(&g.array("gy"), v), vec![("velocity/dz".to_string(), start), ("velocity/da".to_string(), a)])
        } else {
            let between = interpolate(&mut lab.p, start, target, tau);
            let v = flow.velocity(&mut lab.p, between, a, tau, None, true);
            let n = lab.p.len_of(v) as f64;
            // The transition is the third of its window.
            let loss = velocity_error(&mut lab.p, v, start, target, vec![c.gamma.powi(2) / n]);
            lab.keep(&format!("{name}/loss"), loss);
            (loss, vec![(format!("{name}/dz_start"), start)])
        };
        let group = &nets.world.group;
        let kept: Vec<String> = of.iter().map(|(n, _)| n.clone()).collect();
        let params =
            group.entries.iter().map(|e| (e.name.clone(), lab.p.var_at(&lab.vars, group.params, e.offset, &e.shape)));
        let of: Vec<_> = of.into_iter().chain(params.collect::<Vec<_>>()).collect();
        lab.gradients(root, &of);
        let run = lab.run::<F>();
        for what in &kept {
            score.check(what, &run.get(what));
        }
        let what = if name == "velocity" { "velocity/out".to_string() } else { format!("{name}/loss") };
        score.check(&what, &run.get(&what));
        let all: Vec<f64> = group.entries.iter().flat_map(|e| run.get(&e.name)).collect();
        check_velocity(&mut score, &g, &format!("{name}/g/"), &nets, &all);
    }
    score.finish(&format!("{file}: matching"));
}

fn losses<F: TapeReal>((file, head): (&str, FlowHead)) {
    let g = Golden::open(file);
    let mut score = Score::new::<F>(&g);
    for (name, c) in variants(&settings(&g, head)) {
        let name = format!("wm_{name}");
        if !g.has(&format!("{name}/total.f64")) {
            continue;
        }
        let mut lab = Lab::new();
        let nets = nets(&mut lab, &g, &c);
        let [obs, act, rew, taus] = ["obs", "act", "rew", "taus"].map(|n| lab.array(&g.array(n)));
        let loss = world_loss(&mut lab.p, &lab.vars, &c, &nets, Batch { obs, act, rew, tasks: None, tau: Some(taus) });
        for (name, v) in [("dyn", loss.dynamics), ("rew", loss.reward), ("zs", loss.latents)] {
            lab.keep(name, v);
        }
        nets.world.group.gradient(&mut lab.p, &lab.vars, &loss.roots());
        let run = lab.run::<F>();
        for what in ["dyn", "rew", "zs"] {
            score.check(&format!("{name}/{what}"), &run.get(what));
        }
        score.check(&format!("{name}/total"), &[run.get("dyn")[0] + run.get("rew")[0]]);
        let sums: Vec<f64> = run.get("zs").chunks(c.simnorm_dim).map(|z| z.iter().sum()).collect();
        score.check(&format!("{name}/group_sums"), &sums);
        score.check_group(&format!("{name}/g/"), &nets.world.group, world_name, &run.var(nets.world.group.grads));
    }
    score.finish(&format!("{file}: losses"));
}

#[test]
fn golden_integrators() {
    FILES.into_iter().for_each(integrators::<f64>);
}

#[test]
fn golden_integrators_f32() {
    FILES.into_iter().for_each(integrators::<f32>);
}

#[test]
fn golden_matching() {
    FILES.into_iter().for_each(matching::<f64>);
}

#[test]
fn golden_matching_f32() {
    FILES.into_iter().for_each(matching::<f32>);
}

#[test]
fn golden_losses() {
    FILES.into_iter().for_each(losses::<f64>);
}

#[test]
fn golden_losses_f32() {
    FILES.into_iter().for_each(losses::<f32>);
}
