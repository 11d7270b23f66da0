//! The thirty tasks of MT30 against dm_control 1.0.8 on MuJoCo 2.3.1: control steps, observations, rewards, starts.
//!
//! Arrays are in the folder `PWM_GOLDEN_MUJOCO`, else in tests/golden/mujoco; what they are stands in the README there.

use crate::mujoco::{mujoco, state};
use crate::support::verdict::{Golden, Verdict, error_of_one, quantile};
use pwm::config::load;
use pwm::device::philox::{Philox, Stream};
use pwm::env::mujoco::formula::Formula;
use pwm::env::{EnvReal, Law, MujocoSpec, MujocoTask, Task};

/// Every task with its system and its arrays.
const TASKS: [(&str, &str, &str); 30] = [
    ("walker-stand", "walker", "stand"),
    ("walker-walk", "walker", "walk"),
    ("walker-run", "walker", "run"),
    ("cheetah-run", "cheetah", "run"),
    ("reacher-easy", "reacher", "easy"),
    ("reacher-hard", "reacher", "hard"),
    ("acrobot-swingup", "acrobot", "swingup"),
    ("pendulum-swingup", "pendulum", "swingup"),
    ("cartpole-balance", "cartpole", "balance"),
    ("cartpole-balance-sparse", "cartpole", "balance_sparse"),
    ("cartpole-swingup", "cartpole", "swingup"),
    ("cartpole-swingup-sparse", "cartpole", "swingup_sparse"),
    ("cup-catch", "cup", "catch"),
    ("finger-spin", "finger", "spin"),
    ("finger-turn-easy", "finger", "turn_easy"),
    ("finger-turn-hard", "finger", "turn_hard"),
    ("fish-swim", "fish", "swim"),
    ("hopper-stand", "hopper", "stand"),
    ("hopper-hop", "hopper", "hop"),
    ("walker-walk-backwards", "walker", "walk_backwards"),
    ("walker-run-backwards", "walker", "run_backwards"),
    ("cheetah-run-backwards", "cheetah", "run_backwards"),
    ("cheetah-run-front", "cheetah", "run_front"),
    ("cheetah-run-back", "cheetah", "run_back"),
    ("cheetah-jump", "cheetah", "jump"),
    ("hopper-hop-backwards", "hopper", "hop_backwards"),
    ("reacher-three-easy", "reacher_three", "three_easy"),
    ("reacher-three-hard", "reacher_three", "three_hard"),
    ("cup-spin", "cup", "spin"),
    ("pendulum-spin", "pendulum", "spin"),
];

fn shipped(name: &str) -> Task {
    Task::from_config(&load(&[format!("env={name}")]).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn law(task: &Task) -> &MujocoTask {
    match &task.law {
        Law::Mujoco(law) => law,
        Law::Dflex(_) => panic!("{} is under another law", task.spec.name),
    }
}

/// The task with one control step in an environment step.
fn one_control_step(name: &str) -> Task {
    let task = shipped(name);
    assert_eq!(law(&task).spec.repeat, 2, "{name}");
    let spec = MujocoSpec { repeat: 1, ..law(&task).spec.clone() };
    Task::under_mujoco(task.spec, spec)
}

/// The numbers of a goal that a task here has among those that the arrays have.
fn goal<'g>(task: &Task, goal: &'g [f64]) -> &'g [f64] {
    &goal[..law(task).spec.start.goal.len()]
}

/// A state with its goal, as it is here.
fn placed(task: &Task, qpos: &[f64], qvel: &[f64], of: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (mut q, qd) = state(&law(task).spec.system, qpos, qvel);
    q.extend(goal(task, of));
    (q, qd)
}

/// The state without its goal, as MuJoCo has it.
fn theirs(task: &Task, q: &[f64], qd: &[f64]) -> Vec<f64> {
    let system = &law(task).spec.system;
    let (qpos, qvel) = mujoco(system, &q[..system.law.model.coordinates], qd);
    [qpos, qvel].concat()
}

struct Arrays<'g> {
    g: &'g Golden,
    of: &'g str,
}

impl Arrays<'_> {
    fn get(&self, name: &str, i: usize) -> &[f64] {
        self.g.get(&format!("{}/{name}", self.of)).row(i)
    }

    fn rows(&self, name: &str) -> usize {
        self.g.get(&format!("{}/{name}", self.of)).rows()
    }

    fn all(&self, name: &str) -> &[f64] {
        &self.g.get(&format!("{}/{name}", self.of)).data
    }
}

/// Coordinates and velocities.
type State = (Vec<f64>, Vec<f64>);

/// One step in the number type `R` from states side by side: next states, observations, rewards.
fn steps<R: EnvReal>(task: &Task, states: &[State], actions: &[Vec<f64>]) -> Vec<[Vec<f64>; 3]> {
    let (s, n) = (task.sizes, states.len());
    let flat = |f: &dyn Fn(usize) -> Vec<f64>| (0..n).flat_map(f).map(R::of).collect::<Vec<R>>();
    let (mut q, mut qd) = (flat(&|i| states[i].0.clone()), flat(&|i| states[i].1.clone()));
    let action = flat(&|i| actions[i].clone());
    let (mut obs, mut reward) = (vec![R::zero(); n * s.obs], vec![R::zero(); n]);
    R::step_rows(task, n, &mut q, &mut qd, &[], &action, &mut obs, &mut reward);
    let wide = |x: &[R]| x.iter().map(|x| x.value()).collect::<Vec<f64>>();
    (0..n)
        .map(|i| {
            let (q, qd) = (wide(&q[i * s.nq..][..s.nq]), wide(&qd[i * s.nqd..][..s.nqd]));
            [theirs(task, &q, &qd), wide(&obs[i * s.obs..][..s.obs]), vec![reward[i].value()]]
        })
        .collect()
}

/// All states of a rollout but the last, with their actions.
fn rollout(task: &Task, a: &Arrays) -> (Vec<State>, Vec<Vec<f64>>) {
    (0..a.rows("action"))
        .map(|i| (placed(task, a.get("qpos", i), a.get("qvel", i), a.all("goal")), a.get("action", i).to_vec()))
        .unzip()
}

/// Every single control step in `f64`.
#[test]
fn golden_mujoco_control_steps() {
    let mut v = Verdict::default();
    for (name, system, of) in TASKS {
        let (task, g) = (one_control_step(name), Golden::mujoco(&format!("{system}_rollout")));
        let a = Arrays { g: &g, of };
        let (states, actions) = rollout(&task, &a);
        let single = if system == "cartpole" { 1e-8 } else { 1e-9 };
        for (i, [state, obs, reward]) in steps::<f64>(&task, &states, &actions).into_iter().enumerate() {
            let next = [a.get("qpos", i + 1), a.get("qvel", i + 1)].concat();
            for (what, got, expected) in
                [("state", state, &next[..]), ("obs", obs, a.get("obs", i + 1)), ("reward", reward, a.get("reward", i))]
            {
                let error = error_of_one(&got, expected);
                v.check(&format!("{name} {what}"), format!("step {i}"), error, single);
            }
        }
    }
    v.finish();
}

/// Control steps after each other in `f64`, two hundred at most. Small differences grow tenfold in 20 to 40 of them where a robot
/// walks.
#[test]
fn golden_mujoco_free_runs() {
    let mut v = Verdict::default();
    for (name, system, of) in TASKS {
        let (task, g) = (one_control_step(name), Golden::mujoco(&format!("{system}_rollout")));
        let a = Arrays { g: &g, of };
        let (states, actions) = rollout(&task, &a);
        let free = match system {
            "hopper" | "cartpole" => 1e-7,
            "walker" => 1e-5,
            _ => 1e-9,
        };
        let s = task.sizes;
        let (mut q, mut qd) = states[0].clone();
        let (mut obs, mut reward) = (vec![0.0; s.obs], [0.0]);
        for (i, action) in actions.iter().enumerate().take(200) {
            f64::step_rows(&task, 1, &mut q, &mut qd, &[], action, &mut obs, &mut reward);
            let next = [a.get("qpos", i + 1), a.get("qvel", i + 1)].concat();
            let error = error_of_one(&theirs(&task, &q, &qd), &next).max(error_of_one(&obs, a.get("obs", i + 1)));
            v.check(&format!("{name} free run"), format!("step {i}"), error, free);
        }
    }
    v.finish();
}

/// How far a step in `f64` moves where its inputs do by two units in the last place of single precision.
fn sensitivity(task: &Task, (q, qd): &State, action: &[f64]) -> f64 {
    let random = Philox::new(5, Stream::Test);
    let moved = |x: &[f64], draw: u64, first: usize| -> Vec<f64> {
        let ulps = |k: usize| 2.0 * (2.0 * random.uniform(draw, (first + k) as u32) - 1.0) * f64::from(f32::EPSILON);
        x.iter().enumerate().map(|(k, x)| x * (1.0 + ulps(k))).collect()
    };
    let mut states = vec![(q.clone(), qd.clone())];
    states.extend((0..16).map(|draw| (moved(q, draw, 0), moved(qd, draw, 64))));
    let all = steps::<f64>(task, &states, &vec![action.to_vec(); states.len()]);
    all[1..].iter().map(|moved| error_of_one(&moved[0], &all[0][0])).fold(0.0, f64::max)
}

/// Every single control step in lanes of single precision. Where a foot comes down within round-off of the end of a
/// physics step, single precision may see it a step later: there steps in `f64` differ as much when their inputs are
/// moved.
#[test]
fn golden_mujoco_control_steps_in_single_precision() {
    let mut v = Verdict::default();
    for (name, system, of) in TASKS {
        let (task, g) = (one_control_step(name), Golden::mujoco(&format!("{system}_rollout")));
        let a = Arrays { g: &g, of };
        let (states, actions) = rollout(&task, &a);
        let (mut errors, mut edges) = (vec![], 0);
        for (i, [state, obs, reward]) in steps::<f32>(&task, &states, &actions).into_iter().enumerate() {
            let next = [a.get("qpos", i + 1), a.get("qvel", i + 1)].concat();
            let error = error_of_one(&state, &next).max(error_of_one(&obs, a.get("obs", i + 1)));
            errors.push(error);
            if error > 1e-4 && 10.0 * sensitivity(&task, &states[i], &actions[i]) > error {
                edges += 1;
                continue;
            }
            v.check(&format!("{name} state and obs"), format!("step {i}"), error, 1e-4);
            let error = error_of_one(&reward, a.get("reward", i));
            v.check(&format!("{name} reward"), format!("step {i}"), error, 1e-4);
        }
        v.check(&format!("{name} median"), "", quantile(&errors, 0.5), 2e-6);
        v.check(&format!("{name} at an edge, of a hundred"), "", 100.0 * f64::from(edges) / errors.len() as f64, 1.0);
    }
    v.finish();
}

/// Observation and reward at states where rewards vary, and the observation that an episode begins with.
#[test]
fn golden_mujoco_probes() {
    let mut v = Verdict::default();
    for (name, system, of) in TASKS {
        let (task, g) = (shipped(name), Golden::mujoco(&format!("{system}_rollout")));
        let a = Arrays { g: &g, of };
        let mut obs = vec![0.0; task.sizes.obs];
        for i in 0..a.rows("probe_qpos") {
            let goal = if a.all("goal").is_empty() { &[] } else { a.get("probe_goal", i) };
            let (q, qd) = placed(&task, a.get("probe_qpos", i), a.get("probe_qvel", i), goal);
            let reward = law(&task).look(&q, &qd, a.get("probe_ctrl", i), &mut obs);
            let error = error_of_one(&obs, a.get("probe_obs", i));
            v.check(&format!("{name} obs"), format!("probe {i}"), error, 1e-11);
            let error = error_of_one(&[reward], a.get("probe_reward", i));
            v.check(&format!("{name} reward"), format!("probe {i}"), error, 1e-11);
        }
        let (q, qd) = placed(&task, a.get("qpos", 0), a.get("qvel", 0), a.all("goal"));
        law(&task).look(&q, &qd, &vec![0.0; task.sizes.act], &mut obs);
        v.check(&format!("{name} first obs"), "", error_of_one(&obs, a.get("obs", 0)), 1e-9);
    }
    v.finish();
}

/// A cheetah that was left alone, from legs as they were drawn.
#[test]
fn golden_mujoco_cheetahs_settle() {
    let mut v = Verdict::default();
    for (name, system, of) in TASKS.into_iter().filter(|t| t.1 == "cheetah") {
        let (task, g) = (shipped(name), Golden::mujoco(&format!("{system}_rollout")));
        let a = Arrays { g: &g, of };
        for i in 0..a.rows("init_raw") {
            let (mut q, mut qd) = (law(&task).spec.start.pose.clone(), vec![0.0; task.sizes.nqd]);
            q[3..].copy_from_slice(a.get("init_raw", i));
            law(&task).settle(&mut q, &mut qd);
            let expected = [a.get("init_qpos", i), a.get("init_qvel", i)].concat();
            v.check(name, format!("start {i}"), error_of_one(&theirs(&task, &q, &qd), &expected), 1e-9);
        }
    }
    v.finish();
}

/// The largest distance of two distributions, as Kolmogorov and Smirnov have it, in units in which it is beyond 2.5 once
/// in 130,000 times where the two are one.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    let (mut a, mut b) = (a.to_vec(), b.to_vec());
    a.sort_by(f64::total_cmp);
    b.sort_by(f64::total_cmp);
    let share = |of: &[f64], x: f64| of.partition_point(|y| *y <= x) as f64 / of.len() as f64;
    let apart = a.iter().chain(&b).map(|&x| (share(&a, x) - share(&b, x)).abs()).fold(0.0, f64::max);
    let (n, m) = (a.len() as f64, b.len() as f64);
    apart * (n * m / (n + m)).sqrt()
}

/// Starts are drawn from the distributions of the real tasks.
#[test]
fn golden_mujoco_starts() {
    const DRAWN: usize = 2000;
    let mut v = Verdict::default();
    for (name, system, of) in TASKS {
        let (task, g) = (shipped(name), Golden::mujoco(&format!("{system}_rollout")));
        let a = Arrays { g: &g, of };
        let s = task.sizes;
        let count = if law(&task).spec.start.settle > 0 { DRAWN / 4 } else { DRAWN };
        let random = Philox::new(11, Stream::Test);
        let goals = law(&task).spec.start.goal.len();
        let ours: Vec<Vec<f64>> = (0..count)
            .map(|e| {
                let (mut q, mut qd, mut obs) = (vec![0.0; s.nq], vec![0.0; s.nqd], vec![0.0; s.obs]);
                task.begin_row(&random, 3, e as u32, &mut q, &mut qd, &mut obs);
                // What an episode begins with is the observation of its state.
                let mut seen = obs.clone();
                law(&task).look(&q, &qd, &vec![0.0; s.act], &mut seen);
                assert_eq!(obs, seen, "{name}");
                [theirs(&task, &q, &qd), q[s.nq - goals..].to_vec()].concat()
            })
            .collect();
        let drawn: Vec<Vec<f64>> = (0..a.rows("init_qpos"))
            .map(|i| {
                let goal = if goals == 0 { &[] } else { &a.get("init_goal", i)[..goals] };
                [a.get("init_qpos", i), a.get("init_qvel", i), goal].concat()
            })
            .collect();
        let column = |of: &[Vec<f64>], k: usize| of.iter().map(|row| row[k]).collect::<Vec<f64>>();
        for k in 0..ours[0].len() {
            let (mut a, mut b) = (column(&ours, k), column(&drawn, k));
            // A number that no start changes is the same to round-off.
            let fixed = b.iter().all(|x| (x - b[0]).abs() < 1e-12);
            if fixed {
                assert!(a.iter().all(|x| (x - b[0]).abs() < 1e-12), "{name}, number {k}: {} is not {}", a[0], b[0]);
                continue;
            }
            v.check(name, format!("number {k}"), distance(&a, &b), 2.5);
            // The same of its size.
            let middle = quantile(&b, 0.5);
            a.iter_mut().chain(&mut b).for_each(|x| *x = (*x - middle).abs());
            v.check(name, format!("size of number {k}"), distance(&a, &b), 2.5);
        }
    }
    v.finish();
}

/// What a row becomes depends on that row alone: not on its place, nor on its neighbours, be they no numbers at all.
#[test]
fn rows_do_not_depend_on_place_or_neighbours() {
    for (name, system, of) in TASKS {
        let (task, g) = (shipped(name), Golden::mujoco(&format!("{system}_rollout")));
        let (states, actions) = rollout(&task, &Arrays { g: &g, of });
        // Also states where rewards vary: limbs that cross, balls in cups, fingers on spinners.
        let chosen = |k: usize| (k * 13) % states.len();
        let mut rows: Vec<State> = (0..11).map(|k| states[chosen(k)].clone()).collect();
        let actions: Vec<_> = (0..11).map(|k| actions[chosen(k)].clone()).collect();
        let alone: Vec<_> = (0..11).map(|k| steps::<f32>(&task, &rows[k..=k], &actions[k..=k])[0].clone()).collect();
        assert_eq!(steps::<f32>(&task, &rows, &actions), alone, "{name}");
        rows[4].0.fill(f64::NAN);
        let beside = steps::<f32>(&task, &rows, &actions);
        let same = (0..11).filter(|&k| beside[k] == alone[k]).count();
        assert_eq!(same, 10, "{name}");
    }
}

/// Two control steps with one action are one environment step, and its rewards are added.
#[test]
fn an_environment_step_is_two_control_steps() {
    for name in ["hopper-hop", "finger-turn-easy"] {
        let (twice, once) = (shipped(name), one_control_step(name));
        let s = twice.sizes;
        let (mut q, mut qd, mut obs) = (vec![0.0; s.nq], vec![0.0; s.nqd], vec![0.0; s.obs]);
        twice.begin_row(&Philox::new(2, Stream::Test), 0, 0, &mut q, &mut qd, &mut obs);
        let action = vec![0.5; s.act];
        let (first, then) = {
            let one = |(q, qd): (Vec<f64>, Vec<f64>)| {
                let (mut q, mut qd, mut obs, mut reward) = (q, qd, vec![0.0; s.obs], [0.0]);
                f64::step_rows(&once, 1, &mut q, &mut qd, &[], &action, &mut obs, &mut reward);
                ((q, qd), obs, reward[0])
            };
            let (state, _, first) = one((q.clone(), qd.clone()));
            let (state, obs, second) = one(state);
            (first + second, (state, obs))
        };
        let mut reward = [0.0];
        f64::step_rows(&twice, 1, &mut q, &mut qd, &[], &action, &mut obs, &mut reward);
        assert_eq!(((q, qd), obs), then);
        assert_eq!(reward[0], first);
    }
}

#[test]
fn rewards_are_no_constants() {
    for (name, ..) in TASKS {
        let task = shipped(name);
        assert!(Formula::fixed(&law(&task).spec.reward).is_none(), "{name}");
        assert_eq!((task.spec.episode_length, task.is_differentiable()), (500, false), "{name}");
    }
}
