//! Steps of the default environment, and the gradient through them.

use super::super::gradcheck::states::{StateAction, random_state};
use super::lab::{Case, case};
use crate::config::{Config, ReferencePoint, Subgradient};
use crate::device::philox::{Philox, Stream};
use crate::env::{EnvBatch, GradientBound, Mode, Task};
use std::sync::Arc;

pub(super) fn env_cases(list: &mut Vec<Case>) {
    for (count, mode, reference_point, mm_caching_frequency, steps) in [
        (1, Mode::Train, ReferencePoint::Torso, 16, 1),
        (37, Mode::Train, ReferencePoint::Torso, 16, 1),
        (37, Mode::Evaluate, ReferencePoint::World, 4, 1),
        (130, Mode::Train, ReferencePoint::Torso, 16, 2),
    ] {
        list.push(case(format!("env step {count} {mode:?} {reference_point:?} {steps}"), move |l| {
            let task = task(Config { reference_point, mm_caching_frequency, episode_length: 2, ..Config::default() });
            let rng = Philox::new(9, Stream::Reset);
            let env = EnvBatch::new(&mut l.vars, "env", &[(task, count)], mode, rng);
            env.reset(&mut l.p, &l.vars);
            for _ in 0..steps {
                let action = l.real(&[count, env.act_dim]);
                let s = env.step(&mut l.p, &l.vars, action, None);
                for v in [s.obs_before_reset, s.reward, s.done, s.terminated] {
                    l.keep(v);
                }
            }
        }));
    }
}

/// The default environment's task with these settings.
fn task(c: Config) -> Arc<Task> {
    Arc::new(Task::from_config(&c).expect("invariant: the default environment is right"))
}

/// Two steps that a gradient flows through, from states of every kind.
pub(super) fn env_adjoint_cases(list: &mut Vec<Case>) {
    for (count, reference_point, mm_caching_frequency, norm, subgradient) in [
        (1, ReferencePoint::Torso, 16, 1e6, Subgradient::Reference),
        (19, ReferencePoint::Torso, 16, 1e6, Subgradient::Central),
        (9, ReferencePoint::World, 4, 1e6, Subgradient::Reference),
        (70, ReferencePoint::Torso, 16, 0.5, Subgradient::Reference),
    ] {
        let name = format!("env adjoint {count} {reference_point:?} every {mm_caching_frequency}, bound {norm}");
        list.push(case(name, move |l| {
            let c = Config {
                reference_point,
                mm_caching_frequency,
                subgradient,
                action_penalty: -0.1,
                ..Config::default()
            };
            let (task, rng) = (task(c), Philox::new(9, Stream::Reset));
            let env = EnvBatch::new(&mut l.vars, "env", &[(task.clone(), count)], Mode::Train, rng);
            // About the world's origin single precision is good only near it.
            let near = if reference_point == ReferencePoint::World { 0.05 } else { 1.0 };
            let states: Vec<_> = (0..count as u32)
                .map(|e| {
                    let mut s = random_state(&task, &rng, e);
                    (s.q[0], s.q[2]) = (near * s.q[0], near * s.q[2]);
                    s
                })
                .collect();
            let rounded = |x: &[f64]| x.iter().map(|&x| f64::from(x as f32)).collect::<Vec<f64>>();
            let all = |f: fn(&StateAction) -> &[f64]| states.iter().flat_map(|s| rounded(f(s))).collect::<Vec<f64>>();
            l.reals.push((env.groups[0].q, all(|s| &s.q)));
            l.reals.push((env.groups[0].qd, all(|s| &s.qd)));
            let counted = l.given(&[2], vec![0.0; 2]);
            let bound = GradientBound { norm, count: counted };
            let mut state = env.state(&mut l.p, &l.vars);
            for _ in 0..2 {
                let action = l.leaf(&[count, env.act_dim]);
                let into = [&[count, env.obs_dim][..], &[count], &[count], &[count]].map(|shape| l.p.real(shape));
                (_, state) = env.step_through(&mut l.p, &l.vars, &state, action, bound, into);
                l.follow(into[0]);
                l.follow(into[1]);
            }
            state.groups[0].iter().for_each(|&v| l.follow(v));
        }));
    }
}
