//! Two epochs of training against the reference's (`pwm/g_epoch_mlp`, `pwm/g_epoch_flow`): actor, critics, world model,
//! with the file's noise, scripted environment and world-model batches.
//!
//! `policy_loss` of the file is a mean over episodes that ended, which this product reports in another way.

use crate::support::golden::{Array, Golden};
use crate::support::lab;
use crate::support::lab::{Score, Script, actor_name, config, critics_name, numbers, pack, put, team, world_name};
use pwm::algo::pwm::critic::{pass, targets};
use pwm::algo::pwm::rollout::rollout;
use pwm::algo::pwm::world::{Batch, update};
use pwm::algo::pwm::{PwmNets, RolloutBuffers};
use pwm::algo::schedule::{Network, Schedule};
use pwm::config::{Config, Dynamics, LrSchedule};
use pwm::ops::control::accumulate;
use pwm::ops::stats::START_COUNT;
use pwm::tape::{DType, Machine, Program, Region, TapeReal, VarId, Vars};

const FILES: [&str; 2] = ["pwm/g_epoch_mlp", "pwm/g_epoch_flow"];

fn settings(g: &Golden) -> Config {
    let noise = g.array("noise").shape;
    let count = |key: &str| g.number(key) as usize;
    Config {
        horizon: noise[1],
        num_envs: noise[2],
        max_epochs: g.number("epochs") as u64,
        lr_schedule: LrSchedule::Linear,
        actor_lr: g.number("actor_lr"),
        critic_lr: g.number("critic_lr"),
        model_lr: g.number("model_lr"),
        critic_iterations: count("critic_iterations"),
        critic_batches: count("critic_batches"),
        wm_iterations: count("wm_iterations"),
        wm_batch_size: count("wm_batch"),
        ..config(g, "p0/wm/", "p0/actor/", "p0/critic/")
    }
}

/// Inputs that the host writes before each program, and what it reads after.
struct Inputs {
    obs: VarId,
    noise: VarId,
    done: VarId,
    terminated: VarId,
    after: VarId,
    wm: [VarId; 3],
    tau: Option<VarId>,
    passes: VarId,
    losses: VarId,
}

/// Rows `from..to` of the leading axis.
fn rows(a: &Array, from: usize, to: usize) -> &[f64] {
    let size = a.values.len() / a.shape[0];
    &a.values[from * size..to * size]
}

fn epochs<F: TapeReal>(file: &str) {
    let g = Golden::open(file);
    let c = settings(&g);
    let [obs0, noise, done, term, after] =
        ["env/obs0", "noise", "env/done", "env/term", "env/obs_after"].map(|n| g.array(n));
    let batches = ["wm/obs", "wm/act", "wm/rew"].map(|n| g.array(n));
    // One set an update: epochs, iterations, then as in a batch.
    let taus = (c.dynamics == Dynamics::Flow).then(|| g.array("taus"));
    let (h, n, o, a) = (c.horizon, c.num_envs, obs0.shape[1], noise.shape[3]);

    let mut vars = Vars::default();
    let nets = PwmNets::new(&mut vars, &c, o, a);
    let buffers = RolloutBuffers::new(&mut vars, &c, nets.world.width);
    let mut real = |name: &str, shape: &[usize]| vars.add(Region::RolloutBuffers, name, DType::Real, shape);
    let x = Inputs {
        obs: real("obs", &[n, o]),
        noise: real("noise", &[h, n, a]),
        done: real("done", &[h, n]),
        terminated: real("terminated", &[h, n]),
        after: real("after", &[h, n, o]),
        wm: [0, 1, 2].map(|i| real(&batches[i].name, &batches[i].shape[1..])),
        tau: taus.as_ref().map(|t| real("tau", &t.shape[2..])),
        losses: real("losses", &[4]),
        passes: vars.add(Region::Control, "passes", DType::Index, &[1]),
    };
    let mut m = Machine::<F>::new(vars.clone(), programs(&vars, &c, &nets, &buffers, &x), team()).expect("memory");
    let [actor, goals, critic, world] = [0, 1, 2, 3].map(|i| m.program(i));
    let groups = [&nets.actor.group, &nets.critics.group, &nets.world.group];
    for (group, prefix, name) in [
        (groups[0], "p0/actor/", actor_name as lab::Naming),
        (groups[1], "p0/critic/", critics_name),
        (groups[2], "p0/wm/", world_name),
    ] {
        put(&mut m, group.params, &pack(&g, prefix, group, name));
    }
    for stats in [nets.ret_stats, nets.rew_stats] {
        put(&mut m, stats, &[0.0, 1.0, START_COUNT]);
    }

    let mut score = Score::new::<F>(&g);
    for e in 0..c.max_epochs as usize {
        for (group, network) in groups.iter().zip([Network::Actor, Network::Critic, Network::Model]) {
            put(&mut m, group.rate, &[Schedule::of(&c, network).rate(e as u64)]);
        }
        // Each epoch goes on from the observation that the one before ended with.
        let start = if e == 0 { &obs0.values[..] } else { rows(&after, e * h - 1, e * h) };
        put(&mut m, x.obs, start);
        put(&mut m, x.noise, rows(&noise, e, e + 1));
        for (var, array) in [(x.done, &done), (x.terminated, &term), (x.after, &after)] {
            put(&mut m, var, rows(array, e * h, (e + 1) * h));
        }
        m.poison();
        let go = |m: &mut Machine<F>, id| m.run(id).expect("run");
        put(&mut m, x.losses, &[0.0; 4]);
        go(&mut m, actor);
        go(&mut m, goals);
        for _ in 0..c.critic_iterations {
            // The reference reports the last pass.
            m.real_mut(x.losses)[1] = F::zero();
            go(&mut m, critic);
        }
        for i in 0..c.wm_iterations {
            let j = e * c.wm_iterations + i;
            for (var, array) in x.wm.iter().zip(&batches) {
                put(&mut m, *var, rows(array, j, j + 1));
            }
            if let (Some(var), Some(t)) = (x.tau, &taus) {
                let size: usize = t.shape[2..].iter().product();
                put(&mut m, var, &t.values[j * size..(j + 1) * size]);
            }
            go(&mut m, world);
        }
        let at = |what: &str| format!("e{e}/{what}");
        let losses = numbers(&m, x.losses);
        let (critic, dynamics, reward) = (
            losses[1] / c.critic_batches as f64,
            losses[2] / c.wm_iterations as f64,
            losses[3] / c.wm_iterations as f64,
        );
        for (name, got) in [
            ("actor_loss", losses[0]),
            ("value_loss", critic),
            ("dynamics_loss", dynamics),
            ("reward_loss", reward),
            ("wm_loss", dynamics + reward),
            ("actor_grad_norm", numbers(&m, groups[0].norm)[0]),
            ("critic_grad_norm", numbers(&m, groups[1].norm)[0]),
            ("wm_grad_norm", numbers(&m, groups[2].norm)[0]),
            ("ret_rms_mean", numbers(&m, nets.ret_stats)[0]),
            ("ret_rms_var", numbers(&m, nets.ret_stats)[1]),
            ("rew_rms_mean", numbers(&m, nets.rew_stats)[0]),
            ("rew_rms_var", numbers(&m, nets.rew_stats)[1]),
        ] {
            score.check(&at(name), &[got]);
        }
        score.check_group(&at("p/actor/"), groups[0], actor_name, &numbers(&m, groups[0].params));
        score.check_group(&at("p/critic/"), groups[1], critics_name, &numbers(&m, groups[1].params));
        score.check_group(&at("p/wm/"), groups[2], world_name, &numbers(&m, groups[2].params));
    }
    score.finish(file);
}

/// The programs of an epoch: actor, targets, a critic pass, a world-model update.
fn programs(vars: &Vars, c: &Config, nets: &PwmNets, buffers: &RolloutBuffers, x: &Inputs) -> Vec<Program> {
    let program = |f: &dyn Fn(&mut Program)| {
        let mut p = Program::new("golden");
        f(&mut p);
        p
    };
    vec![
        program(&|p| {
            let [obs, noise, done, terminated, after] =
                [x.obs, x.noise, x.done, x.terminated, x.after].map(|v| p.var(vars, v));
            let script = Script { done, terminated, obs: after };
            let mut step = |p: &mut Program, i, _, flags| script.step(p, i, flags);
            let loss = rollout(p, vars, c, nets, buffers, obs, noise, true, &mut step);
            nets.actor.group.update(p, vars, &[(loss, 1.0)]);
            let slot = p.var_at(vars, x.losses, 0, &[1]);
            accumulate(p, loss, slot, true);
        }),
        program(&|p| targets(p, vars, c, buffers)),
        program(&|p| {
            let (passes, slot) = (p.var(vars, x.passes), p.var_at(vars, x.losses, 1, &[1]));
            pass(p, vars, c, &nets.critics, buffers, None, (passes, slot));
        }),
        program(&|p| {
            let [obs, act, rew] = x.wm.map(|v| p.var(vars, v));
            let tau = x.tau.map(|v| p.var(vars, v));
            let loss = update(p, vars, c, nets, Batch { obs, act, rew, tasks: None, tau });
            for (x, slot) in
                [(loss.dynamics, p.var_at(vars, x.losses, 2, &[1])), (loss.reward, p.var_at(vars, x.losses, 3, &[1]))]
            {
                accumulate(p, x, slot, false);
            }
        }),
    ]
}

#[test]
fn golden_epochs() {
    FILES.into_iter().for_each(epochs::<f64>);
}

#[test]
fn golden_epochs_f32() {
    FILES.into_iter().for_each(epochs::<f32>);
}
