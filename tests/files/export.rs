//! Exported weights are enough: a reader of its own, with the recipes in the file, computes what the networks compute.

use crate::support::recipe;
use crate::support::tiny;
use approx::relative_eq;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::support::ant::{ACT, OBS};
use crate::support::recipe::{Exported, Inputs};
use pwm::algo::{Networks, pwm as pwm_algo, shac};
use pwm::config::Config;
use pwm::device::cpu::team::Team;
use pwm::io::checkpoint::{self, Checkpoint, Tensor};
use pwm::run::export::{ExportPart, export};
use pwm::tape::{DType, Machine, Program, Region, VarId, Vars};

const ROWS: usize = 6;

/// Networks with random weights and statistics, and what they compute on random rows.
struct Truth {
    machine: Machine<f32>,
    vars: Vec<(String, VarId)>,
    results: Vec<(&'static str, VarId)>,
}

fn wave(i: usize, step: f32) -> f32 {
    (i as f32 * step).sin()
}

/// What draws the weights.
type Start = Box<dyn Fn(&mut Machine<f32>)>;

fn truth(c: &Config) -> Truth {
    let mut vars = Vars::default();
    let mut var = |name: &str, n: usize| vars.add(Region::RolloutBuffers, name, DType::Real, &[ROWS, n]);
    let (obs, act, action, value) = (var("obs", OBS), var("act", ACT), var("action", ACT), var("value", 1));
    let mut results = vec![("action", action), ("value", value)];
    let mut p = Program::new("all");
    let init: Start = if c.has_world_model() {
        let nets = pwm_algo::PwmNets::new(&mut vars, c, OBS, ACT);
        let width = nets.world.width;
        let mut var = |name: &str, n: usize| vars.add(Region::RolloutBuffers, name, DType::Real, &[ROWS, n]);
        let [latent, next, reward] = [("latent", width), ("next_latent", width), ("reward", 1)].map(|(n, w)| var(n, w));
        results.extend([("latent", latent), ("next_latent", next), ("reward", reward)]);
        let p = &mut p;
        let x = p.var(&vars, obs);
        let x = nets.prepare(p, &vars, x);
        let world = nets.world.bind(p, &vars);
        let encoder = nets.world.bind_encoder(p, &vars);
        let (actor, critics) = (nets.actor.bind(p, &vars), nets.critics.bind(p, &vars));
        let [z, to, a, out] = [latent, next, act, action].map(|v| p.var(&vars, v));
        encoder.apply(p, x, None, false, Some(z));
        actor.act(p, &[z], None, false, Some(out));
        world.next(p, z, a, None, false, Some(to));
        let head = world.reward(p, z, a, None, false);
        let r = pwm_algo::rollout::decode(p, c, head);
        copy(p, &vars, r, reward);
        let v = critics.min(p, &[z], false);
        copy(p, &vars, v, value);
        let seed = c.seed;
        Box::new(move |m| nets.init(m, seed))
    } else {
        let nets = shac::ShacNets::new(&mut vars, c, OBS, ACT);
        let p = &mut p;
        let x = p.var(&vars, obs);
        let mean = Networks::from(nets.clone()).policy(p, &vars, x, 0..1);
        copy(p, &vars, mean, action);
        results.retain(|(name, _)| *name == "action");
        let seed = c.seed;
        Box::new(move |m| nets.init(m, seed))
    };
    let stored: Vec<(String, VarId)> = (vars.iter())
        .filter(|(_, i)| matches!(i.region, Region::Parameters | Region::Statistics))
        .map(|(id, i)| (i.name.clone(), id))
        .collect();
    let mut machine = Machine::<f32>::new(vars, vec![p], Arc::new(Team::new(1).unwrap())).unwrap();
    init(&mut machine);
    for (k, (name, id)) in stored.iter().enumerate() {
        // No weight, norm or bias stays where it starts; variances stay positive.
        for (i, x) in machine.real_mut(*id).iter_mut().enumerate() {
            let w = wave(i + 7 * k, 0.37);
            *x = if name.ends_with("params") { *x + 0.2 * w } else { 1.5 + w };
        }
    }
    for (v, step) in [(obs, 0.61), (act, 0.43)] {
        machine.real_mut(v).iter_mut().enumerate().for_each(|(i, x)| *x = wave(i, step));
    }
    let program = machine.program(0);
    machine.run(program).unwrap();
    results.extend([("observation", obs), ("act", act)]);
    Truth { machine, vars: stored, results }
}

fn copy(p: &mut Program, vars: &Vars, from: pwm::tape::Val, to: VarId) {
    let to = p.var(vars, to);
    let shape = p.shape(to).to_vec();
    let from = p.reshape(from, &shape);
    pwm::ops::control::copy(p, from, to);
}

fn save(t: &Truth, c: &Config, path: &Path) {
    let tensors = t.vars.iter().map(|(name, id)| {
        let info = t.machine.vars().info(*id);
        Tensor::of(name, &info.shape, t.machine.real(*id))
    });
    let meta = BTreeMap::from([("config".to_string(), c.to_yaml()), ("epoch".to_string(), "3".to_string())]);
    checkpoint::save(path, tensors, &meta).unwrap();
}

fn exported(c: &Config, parts: &[ExportPart]) -> (Truth, Exported) {
    let dir = tempfile::tempdir().unwrap();
    let (stored, out) = (dir.path().join("best.safetensors"), dir.path().join("out.safetensors"));
    let truth = truth(c);
    save(&truth, c, &stored);
    export(&Checkpoint::load(&stored).unwrap(), c, parts, &out).unwrap();
    (truth, recipe::read(&std::fs::read(out).unwrap()))
}

/// Runs every recipe in the file on every row, and compares.
fn agree(c: &Config, parts: &[ExportPart], expected: &[&str]) {
    let (truth, file) = exported(c, parts);
    let row = |name: &str, i: usize| -> Vec<f64> {
        let id = truth.results.iter().find(|(n, _)| *n == name).unwrap().1;
        let all = truth.machine.real(id);
        let n = all.len() / ROWS;
        all[i * n..(i + 1) * n].iter().map(|&x| x.into()).collect()
    };
    let mut recipes: Vec<&str> = file.meta.keys().filter_map(|k| k.strip_prefix("recipe.")).collect();
    recipes.sort_unstable();
    assert_eq!(recipes, expected);
    for of in recipes {
        let mut spread = 0.0f64;
        for i in 0..ROWS {
            let mut inputs = Inputs::from([("observation", row("observation", i)), ("act", row("act", i))]);
            if of != "action" && of != "latent" {
                inputs.insert("latent", row("latent", i));
                inputs.insert("action", row("act", i));
            }
            let (got, want) = (file.run(of, &inputs), row(of, i));
            let near = relative_eq!(got[..], want[..], epsilon = 2e-5, max_relative = 2e-5);
            assert!(near, "{of}: {got:?} for {want:?} with {}", c.alg);
            spread = want.iter().zip(row(of, 0)).fold(spread, |s, (w, first)| s.max((w - first).abs()));
        }
        assert!(spread > 1e-4, "{of} does not depend on its inputs");
    }
}

const ALL: [ExportPart; 3] = [ExportPart::Actor, ExportPart::Critic, ExportPart::World];
const EACH: [&str; 5] = ["action", "latent", "next_latent", "reward", "value"];

#[test]
fn exported_weights_compute_what_the_networks_compute() {
    agree(&tiny::config(&[]), &ALL, &EACH);
    agree(&tiny::config(&["latent=observed", "obs_norm=true", "num_critics=1", "value_scale=3"]), &ALL, &EACH);
    agree(&tiny::config(&["reward_head=two_hot", "obs_norm=true"]), &ALL, &EACH);
}

#[test]
fn exported_flows_compute_what_the_networks_compute() {
    let flow = ["dynamics=flow", "flow_integrator=heun", "flow_substeps=2", "flow_head=tangent"];
    agree(&tiny::config(&[&flow[..], &["actor=flow", "flow_projection=simplex"]].concat()), &ALL, &EACH);
    agree(&tiny::config(&["dynamics=flow", "flow_integrator=rk4", "flow_substeps=1"]), &ALL, &EACH);
    agree(&tiny::config(&["dynamics=flow", "flow_integrator=euler", "flow_head=linear"]), &ALL, &EACH);
}

#[test]
fn a_policy_alone_holds_what_acting_takes_and_no_more() {
    let c = tiny::config(&["obs_norm=true"]);
    agree(&c, &[ExportPart::Actor], &["action"]);
    let (_, file) = exported(&c, &[ExportPart::Actor]);
    let heads: std::collections::BTreeSet<_> = file.tensors.keys().map(|n| n.split('.').next().unwrap()).collect();
    assert_eq!(heads.into_iter().collect::<Vec<_>>(), ["actor", "encoder", "obs"]);
    assert_eq!(file.tensors["actor.mu.0.weight"].0, [32, 32], "[out, in]");
    assert_eq!(file.tensors["encoder.0.weight"].0, [40, OBS]);
    assert_eq!(file.meta["epoch"], "3");
    agree(&pwm::config::load(&["alg=shac_small"]).unwrap(), &[ExportPart::Actor], &["action"]);
}
