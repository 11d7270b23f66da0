//! Tasks on robots of every kind, and batches of several, through the CUDA kernels on the stand-in.

use super::cases::check;
use crate::support::specs::{FIXED, FREE, task};
use pwm::app::selftest::{Case, case, start_anywhere};
use pwm::config::{Config, Precision, Subgradient, load};
use pwm::device::philox::{Philox, Stream};
use pwm::env::{EnvBatch, GradientBound, Mode, Task};
use std::sync::Arc;

fn settings() -> Config {
    Config { action_penalty: -0.05, episode_length: 2, mm_caching_frequency: 4, ..Config::default() }
}

fn walker(c: &Config) -> Arc<Task> {
    Arc::new(Task::from_config(c).unwrap())
}

/// Groups of a batch: each a task and its environments.
type Groups = Vec<(Arc<Task>, usize)>;

/// Batches by name. Every task and every width of its rows is compiled anew: no more than are needed.
fn batches() -> Vec<(&'static str, Groups)> {
    let c = settings();
    let central = Config { subgradient: Subgradient::Central, ..settings() };
    // A leg on a rail, a tree without a ground, many bodies, and rigidly connected ones.
    let shipped = |env: &str| {
        let c = load(&[format!("env={env}")]).unwrap();
        walker(&Config { episode_length: 2, subgradient: Subgradient::Central, ..c })
    };
    let robots = ["hopper", "cartpole", "dflex-humanoid-walk", "dflex-anymal-velocity"].map(shipped);
    vec![
        ("free", vec![(task(FREE, &central), 5)]),
        ("walker and tree", vec![(walker(&c), 11), (task(FIXED, &c), 3)]),
        ("robots", robots.into_iter().map(|t| (t, 2)).collect()),
    ]
}

fn cases() -> Vec<Case> {
    let rng = Philox::new(9, Stream::Reset);
    let mut list = vec![];
    for (name, groups) in batches() {
        for mode in [Mode::Train, Mode::Evaluate] {
            let groups = groups.clone();
            list.push(case(format!("steps of {name}, {mode:?}"), move |l| {
                let env = EnvBatch::new(&mut l.vars, "env", &groups, mode, rng);
                env.reset(&mut l.p, &l.vars);
                for _ in 0..3 {
                    let action = l.real(&[env.count, env.act_dim]);
                    let s = env.step(&mut l.p, &l.vars, action, None);
                    for v in [s.obs_before_reset, s.reward, s.done, s.terminated] {
                        l.keep(v);
                    }
                }
            }));
        }
        // From starts; and from states of every kind, where some gradients are scaled down.
        for (anywhere, norm) in [(false, 1e6), (true, 0.5)] {
            let groups = groups.clone();
            list.push(case(format!("gradient of {name}, bound {norm}"), move |l| {
                let env = EnvBatch::new(&mut l.vars, "env", &groups, Mode::Train, rng);
                if anywhere {
                    env.groups.iter().for_each(|g| start_anywhere(l, g, &rng, 1.0));
                } else {
                    env.reset(&mut l.p, &l.vars);
                }
                let counted = l.given(&[2], vec![0.0; 2]);
                let bound = GradientBound { norm, count: counted };
                let mut state = env.state(&mut l.p, &l.vars);
                for _ in 0..2 {
                    let action = l.leaf(&[env.count, env.act_dim]);
                    let into = [&[env.count, env.obs_dim][..], &[env.count], &[env.count], &[env.count]];
                    let into = into.map(|shape| l.p.real(shape));
                    (_, state) = env.step_through(&mut l.p, &l.vars, &state, action, bound, into);
                    l.follow(into[0]);
                    l.follow(into[1]);
                }
                state.groups.iter().flatten().for_each(|&v| l.follow(v));
            }));
        }
    }
    list
}

#[test]
fn tasks_on_any_robot_match_double_precision() {
    check(&cases(), Precision::Fp32);
}
