//! Steps of the default environment and of one whose robot lies over the threads as a tree, and the gradient through
//! them.

use super::super::gradcheck::states::{StateAction, random_state};
use super::lab::{Case, Lab, case};
use crate::config::{Config, ReferencePoint, Shipped, ShippedKind, Subgradient, load};
use crate::device::philox::{Philox, Stream};
use crate::env::{EnvBatch, EnvGroup, GradientBound, Mode, Task};
use crate::sim::cuda::ThreadLayout;
use std::sync::{Arc, LazyLock};

/// Settings of the first shipped task whose robot lies over the threads as a tree, and touches a ground.
static TREE: LazyLock<Config> = LazyLock::new(|| {
    let shipped = |name: &str| load(&[format!("env={name}")]).expect("invariant: shipped environments are right");
    let is_tree = |c: &Config| {
        let task = task(c.clone());
        task.is_differentiable()
            && matches!(task.dflex().layout, ThreadLayout::Tree { .. })
            && !task.spec.robot.contact_points().is_empty()
    };
    let found = Shipped::names(ShippedKind::Env).into_iter().map(shipped).find(is_tree);
    found.expect("invariant: one of the shipped robots is no set of equal chains")
});

pub(super) fn env_cases(list: &mut Vec<Case>) {
    for (base, count, mode, reference_point, mm_caching_frequency, steps) in [
        (None, 1, Mode::Train, ReferencePoint::Torso, 16, 1),
        (None, 37, Mode::Train, ReferencePoint::Torso, 16, 1),
        (None, 37, Mode::Evaluate, ReferencePoint::World, 4, 1),
        (None, 130, Mode::Train, ReferencePoint::Torso, 16, 2),
        (Some(&TREE), 19, Mode::Train, ReferencePoint::Torso, 16, 2),
    ] {
        let name = base.map_or("env", |_| "env of a tree");
        list.push(case(format!("{name} step {count} {mode:?} {reference_point:?} {steps}"), move |l| {
            let base = base.map_or_else(Config::default, |c| (**c).clone());
            let task = task(Config { reference_point, mm_caching_frequency, episode_length: 2, ..base });
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

/// The task of these settings.
fn task(c: Config) -> Arc<Task> {
    Arc::new(Task::from_config(&c).expect("invariant: a shipped environment is right"))
}

/// Starts the environments of a group in random states of every kind, moved by `near` towards the world's origin.
pub fn start_anywhere(l: &mut Lab, group: &EnvGroup, rng: &Philox, near: f64) {
    let state = |e: usize| {
        let mut s = random_state(&group.task, rng, e as u32);
        [0, 2].iter().for_each(|&k| s.q.get_mut(k).into_iter().for_each(|x| *x *= near));
        s
    };
    let states: Vec<_> = (0..group.count).map(state).collect();
    let rounded = |x: &[f64]| x.iter().map(|&x| f64::from(x as f32)).collect::<Vec<f64>>();
    let all = |f: fn(&StateAction) -> &[f64]| states.iter().flat_map(|s| rounded(f(s))).collect::<Vec<f64>>();
    l.reals.push((group.q, all(|s| &s.q)));
    l.reals.push((group.qd, all(|s| &s.qd)));
}

/// Two steps that a gradient flows through, from states of every kind.
pub(super) fn env_adjoint_cases(list: &mut Vec<Case>) {
    for (base, count, reference_point, mm_caching_frequency, norm, subgradient) in [
        (None, 1, ReferencePoint::Torso, 16, 1e6, Subgradient::Reference),
        (None, 19, ReferencePoint::Torso, 16, 1e6, Subgradient::Central),
        (None, 9, ReferencePoint::World, 4, 1e6, Subgradient::Reference),
        (None, 70, ReferencePoint::Torso, 16, 0.5, Subgradient::Reference),
        (Some(&TREE), 19, ReferencePoint::Torso, 16, 1e6, Subgradient::Reference),
        (Some(&TREE), 37, ReferencePoint::Torso, 16, 0.5, Subgradient::Reference),
    ] {
        let name = base.map_or("env", |_| "env of a tree");
        let name = format!("{name} adjoint {count} {reference_point:?} every {mm_caching_frequency}, bound {norm}");
        list.push(case(name, move |l| {
            let c = Config {
                reference_point,
                mm_caching_frequency,
                subgradient,
                action_penalty: -0.1,
                ..base.map_or_else(Config::default, |c| (**c).clone())
            };
            let (task, rng) = (task(c), Philox::new(9, Stream::Reset));
            let env = EnvBatch::new(&mut l.vars, "env", &[(task.clone(), count)], Mode::Train, rng);
            // About the world's origin single precision is good only near it.
            let near = if reference_point == ReferencePoint::World { 0.05 } else { 1.0 };
            start_anywhere(l, &env.groups[0], &rng, near);
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
