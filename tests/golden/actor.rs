//! The actor's rollout and loss and the critics' targets and regression against the reference
//! (`pwm/d_actor_mlp`, `pwm/d_actor_bins101`, `pwm/d_actor_flow`), with a scripted environment in place of the Ant.

use crate::support::golden::{Array, Golden};
use crate::support::lab::{Lab, Run, Score, Script, actor_name, config, critics_name, fill_nets};
use pwm::algo::pwm::critic::{minibatch_loss, targets};
use pwm::algo::pwm::rollout::rollout;
use pwm::algo::pwm::{PwmNets, RolloutBuffers};
use pwm::config::Config;
use pwm::ops::control::copy;
use pwm::ops::policy::ensemble_min;
use pwm::tape::TapeReal;

const FILES: [&str; 3] = ["pwm/d_actor_mlp", "pwm/d_actor_bins101", "pwm/d_actor_flow"];
const PREFIXES: [&str; 3] = ["p/wm/", "p/actor/", "p/critic/"];

fn settings(g: &Golden) -> Config {
    let [world, actor, critics] = PREFIXES;
    let noise = g.array("noise").shape;
    Config {
        horizon: noise[0],
        num_envs: noise[1],
        gamma: g.number("gamma"),
        lam: g.number("lam"),
        ..config(g, world, actor, critics)
    }
}

/// Variables of the networks, which hold the file's parameters.
fn nets(lab: &mut Lab, g: &Golden, c: &Config) -> PwmNets {
    let (obs, act) = (g.array("env/obs0").shape[1], g.array("noise").shape[2]);
    let nets = PwmNets::new(&mut lab.vars, c, obs, act);
    let [world, actor, critics] = PREFIXES;
    fill_nets(lab, g, &nets, world, actor, critics);
    nets
}

/// Mean, variance and count in the metadata, which reads `mean=0.3,var=4.0,count=50.0001`.
fn initial_statistics(g: &Golden) -> Vec<f64> {
    let number = |part: &str| part.split('=').nth(1).and_then(|x| x.parse().ok()).expect("name=number");
    g.meta("ret_rms_init").split(',').map(number).collect()
}

/// A rollout with the actor's gradient, then the critics' targets.
fn act<F: TapeReal>(g: &Golden, c: &Config) -> (Run<F>, PwmNets, RolloutBuffers) {
    let mut lab = Lab::new();
    let nets = nets(&mut lab, g, c);
    lab.fill(nets.ret_stats, initial_statistics(g));
    let buffers = RolloutBuffers::new(&mut lab.vars, c, nets.world.width);
    let [obs, noise] = ["env/obs0", "noise"].map(|n| g.array(n));
    let (obs, eps) = (lab.array(&obs), lab.array(&noise));
    let [done, terminated, after] = ["env/done", "env/term", "env/obs_after"].map(|n| lab.array(&g.array(n)));
    let script = Script { done, terminated, obs: after };
    let actions = lab.input("actions", &noise.shape, vec![0.0; noise.values.len()]);
    let loss = rollout(&mut lab.p, &lab.vars, c, &nets, &buffers, obs, eps, true, &mut |p, i, action, flags| {
        let row = p.at(actions, i);
        copy(p, action, row);
        script.step(p, i, flags)
    });
    nets.actor.group.update(&mut lab.p, &lab.vars, &[(loss, 1.0)]);
    targets(&mut lab.p, &lab.vars, c, &buffers);
    lab.keep("loss", loss);
    lab.keep("actions", actions);
    (lab.run(), nets, buffers)
}

fn actor<F: TapeReal>(file: &str) {
    let g = Golden::open(file);
    let mut score = Score::new::<F>(&g);
    for (name, detach, ret_norm) in
        [("detach1", true, true), ("detach0", false, true), ("detach1_noretrms", true, false)]
    {
        if !g.has(&format!("{name}/loss")) {
            continue;
        }
        let c = Config { detach, ret_norm, ..settings(&g) };
        let (run, nets, x) = act::<F>(&g, &c);
        let group = &nets.actor.group;
        score.check(&format!("{name}/loss"), &run.get("loss"));
        score.check(&format!("{name}/grad_norm"), &run.var(group.norm));
        score.check_group(&format!("{name}/g/"), group, actor_name, &run.var(group.grads));
        if ret_norm {
            let stats = run.var(nets.ret_stats);
            for (what, x) in ["mean", "var", "count"].into_iter().zip(stats) {
                score.check(&format!("{name}/ret_rms_{what}"), &[x]);
            }
        }
        score.check("actions", &run.get("actions"));
        for latents in ["z_before_step", "obs_buf"] {
            score.check(latents, &run.var(x.latents));
        }
        score.check("rew_buf", &run.var(x.rewards));
        // The product keeps values and flags apart; the reference has put the flags into both.
        let terminated = run.var(x.terminated);
        let values = run.var(x.values).iter().zip(&terminated).map(|(v, t)| v * (1.0 - t)).collect::<Vec<_>>();
        score.check("next_values", &values);
        let mut done = run.var(x.done);
        let last = (c.horizon - 1) * c.num_envs;
        done[last..].fill(1.0);
        score.check("done_mask", &done);
        score.check("target_values", &run.var(x.targets));
        // One step is the limit of lambda 0.
        let (run, _, x) = act::<F>(&g, &Config { lam: 0.0, ..c });
        score.check("target_values_onestep", &run.var(x.targets));
    }
    score.finish(file);
}

#[test]
fn golden_actor() {
    FILES.into_iter().for_each(actor::<f64>);
}

#[test]
fn golden_actor_f32() {
    FILES.into_iter().for_each(actor::<f32>);
}

/// Entry `i` along the first axis of what the reference computed.
fn row(g: &Golden, name: &str, i: usize) -> Array {
    let a = g.want(name);
    let size = a.values.len() / a.shape[0];
    Array { name: a.name, shape: a.shape[1..].to_vec(), values: a.values[i * size..][..size].to_vec() }
}

fn critics<F: TapeReal>(file: &str) {
    let g = Golden::open(file);
    let c = settings(&g);
    let mut score = Score::new::<F>(&g);

    let mut lab = Lab::new();
    let critics = nets(&mut lab, &g, &c).critics;
    let z = lab.array(&row(&g, "obs_buf", 1));
    let bound = critics.bind(&mut lab.p, &lab.vars);
    let values = bound.all(&mut lab.p, &[z], true);
    let min = ensemble_min(&mut lab.p, values, 1.0);
    lab.keep("values", values);
    lab.keep("min", min);
    let ones = Array { name: "ones".into(), shape: vec![c.num_envs], values: vec![1.0; c.num_envs] };
    let root = lab.weighed(&ones, min);
    lab.gradients(root, &[("dmin_dz".into(), z)]);
    let run = lab.run::<F>();
    for name in ["values", "min", "dmin_dz"] {
        score.check(&format!("critic/{name}"), &run.get(name));
    }

    let size = c.critic_batch_size();
    for j in [0, c.critic_batches - 1] {
        let mut lab = Lab::new();
        let critics = nets(&mut lab, &g, &c).critics;
        let cut = |name: &str, width: usize| Array {
            name: name.into(),
            shape: vec![size, width],
            values: g.want(name).values[j * size * width..][..size * width].to_vec(),
        };
        let (z, target) = (lab.array(&cut("obs_buf", c.latent_dim)), lab.array(&cut("target_values", 1)));
        let bound = critics.bind(&mut lab.p, &lab.vars);
        let values = bound.all(&mut lab.p, &[z], true);
        let loss = minibatch_loss(&mut lab.p, c.num_critics, values, target);
        critics.group.gradient(&mut lab.p, &lab.vars, &[(loss, 1.0)]);
        lab.keep("loss", loss);
        let run = lab.run::<F>();
        score.check(&format!("critic/mb{j}/loss"), &run.get("loss"));
        score.check_group(&format!("critic/mb{j}/g/"), &critics.group, critics_name, &run.var(critics.group.grads));
    }
    score.finish(file);
}

#[test]
fn golden_critics() {
    FILES.into_iter().for_each(critics::<f64>);
}

#[test]
fn golden_critics_f32() {
    FILES.into_iter().for_each(critics::<f32>);
}
