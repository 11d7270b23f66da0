//! The world model's loss and its gradient against the reference (`pwm/b_world_model`).
//!
//! `bins101_mse` is the reference's mismatched pair of a distributional head and a squared error, which this product
//! does not have; its forward part is compared all the same.

use crate::support::golden::Golden;
use crate::support::lab::{Lab, Run, Score, config, fill_nets, world_name};
use pwm::algo::pwm::PwmNets;
use pwm::algo::pwm::rollout::decode;
use pwm::algo::pwm::world::{Batch, world_loss};
use pwm::config::Config;
use pwm::tape::TapeReal;

/// The loss on the file's batch with the weights under `weights`, and the gradient of `dynamics` and `reward` times
/// its two parts.
fn loss<F: TapeReal>(g: &Golden, weights: &str, (dynamics, reward): (f64, f64)) -> (Run<F>, PwmNets) {
    let world = format!("{weights}/p/");
    let c = Config { reward_coef: 1.0, gamma: g.number("gamma"), ..config(g, &world, "-", "-") };
    let [obs, act, rew] = ["obs", "act", "rew"].map(|n| g.array(n));
    let mut lab = Lab::new();
    let nets = PwmNets::new(&mut lab.vars, &c, obs.shape[2], act.shape[2]);
    fill_nets(&mut lab, g, &nets, &world, "-", "-");
    let (obs, act, rew) = (lab.array(&obs), lab.array(&act), lab.array(&rew));
    let loss = world_loss(&mut lab.p, &lab.vars, &c, &nets, Batch { obs, act, rew, tasks: None, tau: None });
    let decoded = decode(&mut lab.p, &c, loss.head);
    for (name, v) in [
        ("dyn", loss.dynamics),
        ("rew", loss.reward),
        ("zs", loss.latents),
        ("z_targets", loss.targets),
        ("reward_out", loss.head),
        ("almost_two_hot_inv", decoded),
    ] {
        lab.keep(name, v);
    }
    nets.world.group.update(&mut lab.p, &lab.vars, &[(loss.dynamics, dynamics), (loss.reward, reward)]);
    (lab.run(), nets)
}

fn scalar<F: TapeReal>() {
    let g = Golden::open("pwm/b_world_model");
    let (run, nets) = loss::<F>(&g, "scalar", (1.0, 1.0));
    let mut score = Score::new::<F>(&g);
    for name in ["dyn", "rew", "zs", "z_targets", "reward_out"] {
        score.check(&format!("scalar/{name}"), &run.get(name));
    }
    score.check("scalar/total", &[run.get("dyn")[0] + run.get("rew")[0]]);
    score.check_group("scalar/g/", &nets.world.group, world_name, &run.var(nets.world.group.grads));
    score.check("scalar/grad_norm", &run.var(nets.world.group.norm));
    score.finish("scalar head");
}

#[test]
fn golden_scalar_head() {
    scalar::<f64>();
}

#[test]
fn golden_scalar_head_f32() {
    scalar::<f32>();
}

fn two_hot<F: TapeReal>() {
    let g = Golden::open("pwm/b_world_model");
    let mut score = Score::new::<F>(&g);
    for (name, part, seeds) in [("twohot_dyn", "dyn", (1.0, 0.0)), ("twohot_ce", "rew", (0.0, 1.0))] {
        let (run, nets) = loss::<F>(&g, "bins101_mse", seeds);
        score.check(&format!("{name}/loss"), &run.get(part));
        let (group, grads) = (&nets.world.group, run.var(nets.world.group.grads));
        for e in &group.entries {
            let (array, got) = (format!("{name}/g/{}", world_name(&e.name)), &grads[e.offset..e.offset + e.len()]);
            if g.has(&array) {
                score.check(&array, got);
            } else {
                // The file leaves out what a part of the loss does not depend on.
                assert!(got.iter().all(|&x| x == 0.0), "{array} is not zero");
            }
        }
        for name in ["dyn", "zs", "z_targets", "reward_out", "almost_two_hot_inv"] {
            score.check(&format!("bins101_mse/{name}"), &run.get(name));
        }
    }
    score.finish("two-hot head");
}

#[test]
fn golden_two_hot_head() {
    two_hot::<f64>();
}

#[test]
fn golden_two_hot_head_f32() {
    two_hot::<f32>();
}
