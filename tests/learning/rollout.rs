//! The two kinds of rollout: where the environment shows exactly what the model imagined, they are the same
//! computation.

use pwm::algo::pwm::rollout::{EnvStepVals, rollout};
use pwm::algo::pwm::{PwmNets, RolloutBuffers};
use pwm::config::{Config, Latent, Rollout};
use pwm::device::cpu::team::Team;
use pwm::device::philox::{Philox, Stream};
use pwm::ops::control::copy;
use pwm::tape::{DType, Machine, Program, Region, Val, VarId, Vars};
use std::sync::Arc;

const OBS: usize = 6;
const ACT: usize = 3;

/// What both programs read.
struct Given {
    obs: VarId,
    noise: VarId,
    /// `[H, N]`: ends of episodes.
    ends: VarId,
    /// `[H, N, OBS]`: what the environment shows after each step.
    after: VarId,
}

fn program(vars: &Vars, c: &Config, nets: &PwmNets, buffers: &RolloutBuffers, given: &Given) -> Program {
    let mut p = Program::new(c.rollout.word());
    let [obs, noise, ends, after] = [given.obs, given.noise, given.ends, given.after].map(|v| p.var(vars, v));
    let mut step = |p: &mut Program, t: usize, _: Val, (done, terminated): (Val, Val)| {
        let end = p.at(ends, t);
        copy(p, end, done);
        copy(p, end, terminated);
        EnvStepVals { done, next_obs: Some(p.at(after, t)) }
    };
    let loss = rollout(&mut p, vars, c, nets, buffers, obs, noise, true, &mut step);
    nets.actor.group.gradient(&mut p, vars, &[(loss, 1.0)]);
    p
}

#[test]
fn anchored_to_what_was_imagined_is_imagined() {
    for detach in [true, false] {
        let imagined = Config {
            latent: Latent::Observed,
            rollout: Rollout::Imagined,
            horizon: 5,
            num_envs: 7,
            units: vec![9],
            actor_units: vec![8],
            critic_units: vec![7],
            ret_norm: false,
            detach,
            ..Config::default()
        };
        let anchored = Config { rollout: Rollout::Anchored, ..imagined.clone() };
        let (h, n) = (imagined.horizon, imagined.num_envs);

        let mut vars = Vars::default();
        let nets = PwmNets::new(&mut vars, &imagined, OBS, ACT);
        let buffers = RolloutBuffers::new(&mut vars, &imagined, nets.world.width);
        let mut add = |name: &str, shape: &[usize]| vars.add(Region::RolloutBuffers, name, DType::Real, shape);
        let given = Given {
            obs: add("obs", &[n, OBS]),
            noise: add("noise", &[h, n, ACT]),
            ends: add("ends", &[h, n]),
            after: add("after", &[h, n, OBS]),
        };
        let programs = [&imagined, &anchored].map(|c| program(&vars, c, &nets, &buffers, &given));
        let team = Arc::new(Team::new(1).unwrap());
        let mut machine = Machine::<f64>::new(vars, programs.into(), team).unwrap();
        nets.init(&mut machine, 3);
        let rng = Philox::new(5, Stream::Test);
        // No layer may start at zero: the gradient must have something to flow through.
        for (var, size) in [(given.obs, 1.0), (given.noise, 1.0), (given.after, 1.0), (nets.world.group.params, 0.3)] {
            let normal = |i| size * rng.normal(var_number(var), i as u32);
            machine.real_mut(var).iter_mut().enumerate().for_each(|(i, x)| *x = normal(i));
        }
        for (t, e) in [(1, 2), (3, 5), (4, 0)] {
            machine.real_mut(given.ends)[t * n + e] = 1.0;
        }

        machine.run(machine.program(0)).unwrap();
        let seen = |m: &Machine<f64>| {
            [buffers.latents, buffers.rewards, buffers.values, nets.actor.group.grads].map(|v| m.real(v).to_vec())
        };
        let wanted = seen(&machine);
        assert!(wanted[3].iter().any(|g| g.abs() > 1e-6), "there is a gradient");

        // Now the environment shows what was imagined; after the last step nothing is looked at.
        machine.real_mut(given.after)[..(h - 1) * n * OBS].copy_from_slice(&wanted[0][n * OBS..]);
        machine.run(machine.program(1)).unwrap();
        assert_eq!(seen(&machine), wanted, "detach={detach}");

        // What it shows is what counts.
        machine.real_mut(given.after).iter_mut().for_each(|x| *x += 0.5);
        machine.run(machine.program(1)).unwrap();
        assert_ne!(seen(&machine)[0], wanted[0]);
    }
}

/// A number of its own for each variable's random numbers.
fn var_number(var: VarId) -> u64 {
    format!("{var:?}").bytes().fold(7, |h, b| h * 31 + u64::from(b))
}
