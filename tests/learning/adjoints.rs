//! Every hand-written adjoint against dual numbers: one table, one line an operation and shape.

use crate::support::gradcheck::{Input, Leaf, Traced, check, check_traced, fixed, fixed_var, input, leaf, parameters};
use crate::support::ops::{Dot, Pass};
use pwm::algo::pwm::rollout::{EnvStepVals, rollout};
use pwm::algo::pwm::world::{Batch, world_loss};
use pwm::algo::pwm::{PwmNets, RolloutBuffers};
use pwm::config::{self, Config, Dynamics, Latent, RewNorm, RewardHead};
use pwm::device::cpu::team::Team;
use pwm::device::philox::{Philox, Stream};
use pwm::ops::control::copy;
use pwm::ops::embedding::{self, gather_rows, repeat_ids, task_ids};
use pwm::ops::linear::{Epilogue, LayerVals, linear, transpose};
use pwm::ops::loss::squared_error;
use pwm::ops::policy::{anchor_rows, ensemble_min, select_rows, squash};
use pwm::ops::returns::{ActorLossSpec, Bootstrap, actor_loss};
use pwm::ops::sum::sum;
use pwm::tape::{DType, Machine, Program, Region, Val, Vars, grad};
use std::sync::Arc;

const TOLERANCE: f64 = 1e-12;

#[test]
fn linear_layers() {
    let epilogues = [Epilogue::Bias, Epilogue::NormMish, Epilogue::NormSimplex { group: 8 }, Epilogue::MishNorm];
    for epilogue in epilogues {
        for (e, m, n, parts, shared) in [
            (1, 1, 8, vec![3], true),
            (1, 33, 40, vec![5, 2], true),
            (1, 64, 16, vec![17], true),
            (3, 33, 24, vec![7], true),
            (3, 65, 8, vec![9], false),
        ] {
            let k: usize = parts.iter().sum();
            let lead = |s: &[usize]| if e > 1 { [&[e], s].concat() } else { s.to_vec() };
            let x = |w: usize| if shared { vec![m, w] } else { vec![e, m, w] };
            let mut inputs = vec![input(&lead(&[n, k])), input(&lead(&[n])), input(&lead(&[n])), input(&lead(&[n]))];
            inputs.extend(parts.iter().map(|&w| input(&x(w))));
            if epilogue == Epilogue::Bias {
                inputs[2].wanted = false;
                inputs[3].wanted = false;
            }
            check(&format!("{epilogue:?} {e}x{m}x{n} {parts:?}"), &inputs, TOLERANCE, |p, _, v| {
                let transposed = transpose(p, v[0]);
                let norm = epilogue.has_norm().then_some((v[2], v[3]));
                let layer = LayerVals { weight: v[0], transposed, bias: v[1], norm };
                vec![linear(p, &v[4..], &layer, epilogue, true, None)]
            });
        }
    }
}

#[test]
fn shared_weights_accumulate() {
    // The same layer twice: its gradient is the sum over both uses.
    check("twice", &[input(&[8, 8]), input(&[8]), input(&[5, 8])], TOLERANCE, |p, _, v| {
        let transposed = transpose(p, v[0]);
        let layer = LayerVals { weight: v[0], transposed, bias: v[1], norm: None };
        let y = linear(p, &[v[2]], &layer, Epilogue::Bias, true, None);
        vec![linear(p, &[y], &layer, Epilogue::Bias, true, None), y]
    });
}

#[test]
fn stacked_views_join() {
    // Rows of one buffer, written one by one, read as a whole.
    check("stack", &[input(&[8, 8]), input(&[8]), input(&[4, 8])], TOLERANCE, |p, _, v| {
        let transposed = transpose(p, v[0]);
        let layer = LayerVals { weight: v[0], transposed, bias: v[1], norm: None };
        let stack = p.real(&[3, 4, 8]);
        let mut x = v[2];
        for t in 0..3 {
            let out = p.at(stack, t);
            x = linear(p, &[x], &layer, Epilogue::Bias, true, Some(out));
        }
        let flat = p.reshape(stack, &[12, 8]);
        vec![linear(p, &[flat], &layer, Epilogue::Bias, true, None)]
    });
}

/// Zeros and ones, the latter with probability `share`.
fn mask(stream: u64, n: usize, share: f64) -> Vec<f64> {
    let rng = Philox::new(23, Stream::Test);
    (0..n).map(|i| f64::from(u8::from(rng.uniform(stream, i as u32) < share))).collect()
}

/// Flags of an environment: some episodes end, of which some by a fall.
fn flags(n: usize) -> (Vec<f64>, Vec<f64>) {
    let (done, fall) = (mask(1, n, 0.3), mask(2, n, 0.5));
    let terminated = done.iter().zip(fall).map(|(d, f)| d * f).collect();
    (done, terminated)
}

#[test]
fn squared_errors() {
    for (slices, len) in [(1, 1), (3, 70), (4, 33), (2, 5000)] {
        let weights: Vec<f64> = (0..slices).map(|t| 0.9f64.powi(t as i32) / len as f64).collect();
        for shared in [false, true] {
            let target = if shared { vec![len] } else { vec![slices, len] };
            let target = Input { wanted: false, ..input(&target) };
            check(&format!("{slices}x{len} {shared}"), &[input(&[slices, len]), target], TOLERANCE, |p, _, v| {
                vec![squared_error(p, v[0], v[1], weights.clone())]
            });
        }
    }
}

#[test]
fn rows_of_tasks() {
    for (tasks, each, w, times) in [(1, 1, 1, 1), (3, 5, 7, 4), (2, 70, 33, 2)] {
        let keep = fixed(&[tasks, w], mask(3, tasks * w, 0.6));
        let inputs = [input(&[tasks, w]), keep, input(&[tasks * each, w])];
        check(&format!("{tasks}x{w}, {each} rows, {times} times"), &inputs, TOLERANCE, |p, _, v| {
            let ids = task_ids(p, tasks * each, 0, tasks);
            let all = repeat_ids(p, ids, times);
            let keep = gather_rows(p, v[1], ids);
            let once = embedding::mask(p, v[2], keep, None);
            // A second use of each, whose cotangent adds to the first one's.
            let twice = embedding::mask(p, v[2], keep, None);
            vec![gather_rows(p, v[0], ids), gather_rows(p, v[0], all), once, twice]
        });
    }
}

#[test]
fn sums() {
    let inputs = [input(&[7, 3]), input(&[7, 3])];
    check("a + b", &inputs, TOLERANCE, |p, _, v| vec![sum(p, v[0], v[1], None)]);
    check("a + a", &inputs[..1], TOLERANCE, |p, _, v| vec![sum(p, v[0], v[0], None)]);
}

#[test]
fn squared_errors_of_one_prediction_add_up() {
    let target = || Input { wanted: false, ..input(&[2, 9]) };
    check("twice", &[input(&[2, 9]), target(), target()], TOLERANCE, |p, _, v| {
        vec![squared_error(p, v[0], v[1], vec![0.3, 0.7]), squared_error(p, v[0], v[2], vec![1.0])]
    });
}

#[test]
fn squashed_actions() {
    for (n, a) in [(1, 1), (33, 8), (70, 3)] {
        let noise = || Input { wanted: false, ..input(&[n, a]) };
        check(&format!("noise {n}x{a}"), &[input(&[n, a]), input(&[a]), noise()], TOLERANCE, |p, _, v| {
            vec![squash(p, v[0], v[1], Some(v[2]), None)]
        });
        let logstd = Input { wanted: false, ..input(&[a]) };
        check(&format!("deterministic {n}x{a}"), &[input(&[n, a]), logstd], TOLERANCE, |p, _, v| {
            vec![squash(p, v[0], v[1], None, None)]
        });
        // The deviation serves every step of a rollout.
        check(&format!("twice {n}x{a}"), &[input(&[n, a]), input(&[a]), noise()], TOLERANCE, |p, _, v| {
            let first = squash(p, v[0], v[1], Some(v[2]), None);
            vec![squash(p, first, v[1], Some(v[2]), None), first]
        });
    }
}

#[test]
fn minimum_of_an_ensemble() {
    for (e, m) in [(1, 5), (3, 33), (5, 100)] {
        check(&format!("{e}x{m}"), &[input(&[e, m, 1])], TOLERANCE, |p, _, v| {
            let min = ensemble_min(p, v[0], 1.0);
            vec![min, ensemble_min(p, v[0], 100.0)]
        });
    }
}

#[test]
fn selected_rows() {
    for (n, d) in [(1, 3), (33, 8), (70, 1)] {
        let taken = fixed(&[n], mask(3, n, 0.5));
        check(&format!("{n}x{d}"), &[taken, input(&[n, d]), input(&[n, d])], TOLERANCE, |p, _, v| {
            let first = select_rows(p, v[0], v[1], v[2], None);
            vec![select_rows(p, v[0], first, v[1], None), first]
        });
    }
}

#[test]
fn anchored_rows() {
    // The value is that of the observed rows, the cotangent that of the predicted ones: no derivative of a function, so
    // it is written out. Rows 1 and 3 start anew.
    let mut vars = Vars::default();
    let mut add = |name: &str, shape: &[usize]| vars.add(Region::Parameters, name, DType::Real, shape);
    let [mask, seen, predicted, weights] = [("mask", [4, 1]), ("seen", [4, 2]), ("predicted", [4, 2]), ("w", [4, 2])]
        .map(|(name, shape)| add(name, &shape));
    let (value, gradient) = (add("value", &[4, 2]), add("gradient", &[4, 2]));
    let mut p = Program::new("anchored");
    let [m, a, b, w, out, g] = [mask, seen, predicted, weights, value, gradient].map(|v| p.var(&vars, v));
    let m = p.reshape(m, &[4]);
    let y = anchor_rows(&mut p, m, a, b, None);
    let root = p.real(&[1]);
    p.push(Dot, &[w, y], &[root]);
    grad(&mut p, &[(root, 1.0)], &[(b, g)]);
    pwm::ops::control::copy(&mut p, y, out);
    let team = Arc::new(Team::new(1).expect("threads"));
    let mut machine = Machine::<f64>::new(vars, vec![p], team).expect("memory");
    machine.real_mut(mask).copy_from_slice(&[0.0, 1.0, 0.0, 1.0]);
    for (i, v) in [seen, predicted, weights].into_iter().enumerate() {
        machine.real_mut(v).iter_mut().enumerate().for_each(|(j, x)| *x = (10 * i + j) as f64);
    }
    machine.run(machine.program(0)).expect("run");
    assert_eq!(machine.real(value), machine.real(seen));
    assert_eq!(machine.real(gradient), [20.0, 21.0, 0.0, 0.0, 24.0, 25.0, 0.0, 0.0]);
}

#[test]
fn actor_losses() {
    let all = |f: &dyn Fn(Bootstrap, bool, f64)| {
        for bootstrap in [Bootstrap::Exact, Bootstrap::Reference] {
            for (normalise, lambda) in [(false, 1.0), (true, 1.0), (true, 0.9)] {
                f(bootstrap, normalise, lambda);
            }
        }
    };
    all(&|bootstrap, normalise, lambda| {
        for (h, n) in [(1, 3), (4, 12), (16, 70)] {
            let (done, terminated) = flags(h * n);
            let inputs = [
                input(&[h, n]),
                input(&[h, n]),
                fixed(&[h, n], done),
                fixed(&[h, n], terminated),
                fixed(&[3], vec![0.3, 4.0, 50.0]),
            ];
            let spec = ActorLossSpec { gamma: 0.97, lambda, bootstrap, normalise, decay: 0.9 };
            check(&format!("{bootstrap:?} {normalise} {lambda} {h}x{n}"), &inputs, TOLERANCE, |p, _, v| {
                vec![actor_loss(p, spec, v[0], v[1], v[2], v[3], v[4])]
            });
        }
    });
}

const OBS: usize = 5;
const ACT: usize = 3;

/// Networks of a few units.
fn tiny(reward_head: RewardHead) -> Config {
    Config {
        horizon: 4,
        num_envs: 6,
        wm_batch_size: 6,
        latent_dim: 8,
        simnorm_dim: 4,
        units: vec![9],
        encoder_units: vec![7],
        actor_units: vec![6, 5],
        critic_units: vec![7],
        reward_head,
        num_bins: 11,
        vmin: -2.0,
        vmax: 2.0,
        rew_norm: RewNorm::None,
        actor_min_logstd: -20.0,
        ..Config::default()
    }
}

/// A copy of a leaf in memory that is shared with constants, and back to the leaf the cotangent.
fn pass(p: &mut Program, from: Val, to: Val) {
    p.push(Pass { accumulate: false }, &[from], &[to]);
}

/// Dual numbers see the targets move with the encoder, the reverse pass by design does not. So the encoder's parameters
/// are constants here, and its reverse pass is followed to the first observation.
#[test]
fn world_model_loss() {
    for (head, latent, env, dynamics) in [
        (RewardHead::Scalar, Latent::Encoded, "ant", Dynamics::Mlp),
        (RewardHead::TwoHot, Latent::Encoded, "ant", Dynamics::Mlp),
        (RewardHead::Scalar, Latent::Observed, "ant", Dynamics::Mlp),
        // Of several tasks; the embeddings of windows that no encoder sees are parameters of dynamics and reward head.
        (RewardHead::Scalar, Latent::Observed, "[a, b]", Dynamics::Mlp),
        (RewardHead::Scalar, Latent::Encoded, "[a, b]", Dynamics::Flow),
    ] {
        let c = Config { latent, env: env.into(), dynamics, task_dim: 3, ..tiny(head) };
        let (h, b) = (c.horizon, c.wm_batch_size);
        check_traced(&format!("{head:?} {latent:?} {env} {dynamics}"), TOLERANCE, |p, vars| {
            let nets = PwmNets::new(vars, &c, OBS, ACT);
            let encoded = latent == Latent::Encoded;
            let wanted = |name: &str| !(name.starts_with("encoder") || encoded && name.starts_with("task_emb"));
            let mut leaves = parameters(p, vars, &nets.world.group, wanted);
            if let Some(t) = nets.world.tasks() {
                // Only the first of the actions belongs to the first task.
                leaves.push(fixed_var(
                    p,
                    vars,
                    t.keep,
                    (0..2 * ACT).map(|i| f64::from(u8::from(i == 0 || i >= ACT))).collect(),
                ));
            }
            let constant = |shape: &[usize]| Input { wanted: false, ..input(shape) };
            let first = Input { wanted: latent == Latent::Encoded, ..input(&[b, OBS]) };
            let first = leaf(p, vars, "first", first);
            let later = leaf(p, vars, "later", constant(&[h, b, OBS]));
            let act = leaf(p, vars, "act", input(&[h, b, ACT]));
            let rew = leaf(p, vars, "rew", constant(&[h, b]));
            let obs = p.real(&[h + 1, b, OBS]);
            let (row, rest) = (p.at(obs, 0), p.rows(obs, 1, h + 1));
            pass(p, first.val(), row);
            copy(p, later.val(), rest);
            let actions = p.real(&[h, b, ACT]);
            pass(p, act.val(), actions);
            let tasks = nets.world.tasks().map(|_| task_ids(p, b, 0, 2));
            let tau = (dynamics == Dynamics::Flow).then(|| leaf(p, vars, "tau", fixed(&[h, b, 1], vec![0.3; h * b])));
            let at = tau.as_ref().map(Leaf::val);
            let batch = Batch { obs, act: actions, rew: rew.val(), tasks, tau: at };
            let loss = world_loss(p, vars, &c, &nets, batch);
            leaves.extend([first, later, act, rew].into_iter().chain(tau));
            Traced { outputs: vec![loss.dynamics, loss.reward], leaves }
        });
    }
}

/// The actor's loss with respect to the actor, through model and critics. With `detach` the reverse pass leaves out
/// what dual numbers see, except in a rollout of one step.
#[test]
fn actor_rollout() {
    for (head, latent, bootstrap, ret_norm, detach, horizon, env) in [
        (RewardHead::Scalar, Latent::Encoded, config::Bootstrap::Exact, true, false, 4, "ant"),
        (RewardHead::Scalar, Latent::Encoded, config::Bootstrap::Reference, false, false, 4, "ant"),
        (RewardHead::TwoHot, Latent::Encoded, config::Bootstrap::Reference, true, false, 5, "ant"),
        (RewardHead::Scalar, Latent::Encoded, config::Bootstrap::Exact, true, true, 1, "ant"),
        (RewardHead::Scalar, Latent::Observed, config::Bootstrap::Exact, true, false, 4, "ant"),
        (RewardHead::Scalar, Latent::Encoded, config::Bootstrap::Exact, true, false, 4, "[a, b]"),
    ] {
        let c = Config { latent, bootstrap, ret_norm, detach, horizon, env: env.into(), task_dim: 3, ..tiny(head) };
        let n = c.num_envs;
        check_traced(&format!("{head:?} {latent:?} {bootstrap:?} {ret_norm} {horizon} {env}"), TOLERANCE, |p, vars| {
            let nets = PwmNets::new(vars, &c, OBS, ACT);
            let buffers = RolloutBuffers::new(vars, &c, nets.world.width);
            let mut leaves = parameters(p, vars, &nets.actor.group, |_| true);
            leaves.extend(parameters(p, vars, &nets.world.group, |_| false));
            leaves.extend(parameters(p, vars, &nets.critics.group, |_| false));
            leaves.push(fixed_var(p, vars, nets.ret_stats, vec![0.3, 4.0, 50.0]));
            if let Some(t) = nets.world.tasks() {
                let keep = (0..2 * ACT).map(|i| f64::from(u8::from(i == 0 || i >= ACT))).collect();
                leaves.push(fixed_var(p, vars, t.keep, keep));
            }
            let (ends, falls) = flags(horizon * n);
            let given: Vec<Leaf> = [
                ("obs", Input { wanted: false, ..input(&[n, OBS]) }),
                ("noise", Input { wanted: false, ..input(&[horizon, n, ACT]) }),
                ("done", fixed(&[horizon, n], ends)),
                ("terminated", fixed(&[horizon, n], falls)),
                ("after", Input { wanted: false, ..input(&[horizon, n, OBS]) }),
            ]
            .map(|(name, input)| leaf(p, vars, name, input))
            .into();
            let [obs, noise, ends, falls, after] = [0, 1, 2, 3, 4].map(|i| given[i].val());
            let mut step = |p: &mut Program, i: usize, _: Val, (done, terminated): (Val, Val)| {
                for (from, to) in [(ends, done), (falls, terminated)] {
                    let from = p.at(from, i);
                    copy(p, from, to);
                }
                EnvStepVals { done, next_obs: Some(p.at(after, i)) }
            };
            let loss = rollout(p, vars, &c, &nets, &buffers, obs, noise, true, &mut step);
            leaves.extend(given);
            Traced { outputs: vec![loss], leaves }
        });
    }
}
