//! Environments of several tasks in one batch: padded rows, masks, task numbers; each group as if it were alone.

use crate::support::gradcheck::{Traced, check_traced, fixed, input, leaf};
use crate::support::specs::{FIXED, task};
use pwm::config::Config;
use pwm::device::cpu::team::Team;
use pwm::device::philox::{Philox, Stream};
use pwm::env::{EnvBatch, EpisodeStat, GradientBound, Mode, Task};
use pwm::ops::stats::normalise;
use pwm::tape::{DType, Machine, Program, Region, VarId, Vars};
use std::sync::Arc;

fn tasks() -> [Arc<Task>; 2] {
    let c = Config { episode_length: 3, action_penalty: -0.1, ..Config::default() };
    [Arc::new(Task::from_config(&c).unwrap()), task(FIXED, &c)]
}

fn rng() -> Philox {
    Philox::new(9, Stream::Reset)
}

#[test]
fn a_batch_tells_its_rows() {
    let [a, b] = tasks();
    let e = EnvBatch::new(&mut Vars::default(), "env", &[(b.clone(), 2), (a.clone(), 3)], Mode::Train, rng());
    assert_eq!((e.count, e.obs_dim, e.act_dim), (5, a.sizes.obs, a.sizes.act));
    assert_eq!(e.task_ids(), [0, 0, 1, 1, 1]);
    assert_eq!(e.groups[1].rows(), 2..5);
    let mask = e.action_mask();
    assert_eq!(mask.len(), 2 * a.sizes.act);
    assert_eq!(mask[..a.sizes.act], [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    assert!(mask[a.sizes.act..].iter().all(|m| *m == 1.0));
    // With one group nothing is padded, and no variable is called otherwise than without groups.
    let mut vars = Vars::default();
    let alone = EnvBatch::new(&mut vars, "env", &[(b.clone(), 2)], Mode::Train, rng());
    assert_eq!((alone.obs_dim, alone.act_dim), (b.sizes.obs, b.sizes.act));
    assert!(vars.find("env.q").is_some() && vars.find("env.obs").is_some());
}

/// Steps of a batch: what each group does is what it does alone, to the bit, with zeros behind its entries.
#[test]
fn groups_do_not_see_each_other() {
    let [a, b] = tasks();
    for mode in [Mode::Train, Mode::Evaluate] {
        let (n, steps) = ([20, 5], 4);
        let mut vars = Vars::default();
        let both = EnvBatch::new(&mut vars, "both", &[(a.clone(), n[0]), (b.clone(), n[1])], mode, rng());
        let first = EnvBatch::new(&mut vars, "first", &[(a.clone(), n[0])], mode, rng());
        let act = vars.add(Region::RolloutBuffers, "action", DType::Real, &[n[0] + n[1], a.sizes.act]);
        let mut p = Program::new("steps");
        let all = p.var(&vars, act);
        let own = p.rows(all, 0, n[0]);
        both.reset(&mut p, &vars);
        first.reset(&mut p, &vars);
        let counted = p.nodes.len();
        for _ in 0..steps {
            both.step(&mut p, &vars, all, None);
            first.step(&mut p, &vars, own, None);
        }
        assert_eq!((counted, p.nodes.len() - counted), (3, 3 * steps), "an operation a group and nothing else");
        let mut m = Machine::<f32>::new(vars, vec![p], Arc::new(Team::new(2).unwrap())).unwrap();
        let noise = Philox::new(5, Stream::Test);
        m.real_mut(act).iter_mut().enumerate().for_each(|(i, x)| *x = noise.normal(0, i as u32) as f32);
        m.poison();
        m.run(m.program(0)).unwrap();
        let rows = |v, from: usize, to: usize| m.real(v)[from..to].to_vec();
        let width = both.obs_dim;
        assert_eq!(rows(both.obs, 0, n[0] * width), m.real(first.obs));
        assert_eq!(rows(both.ep_return, 0, n[0]), m.real(first.ep_return));
        assert_eq!(m.real(both.groups[0].q), m.real(first.groups[0].q));
        let padded = rows(both.obs, n[0] * width, (n[0] + n[1]) * width);
        for row in padded.chunks(width) {
            assert!(row[b.sizes.obs..].iter().all(|x| *x == 0.0) && row[..b.sizes.obs].iter().any(|x| *x != 0.0));
            assert!(row.iter().all(|x| x.is_finite()));
        }
        // Every episode was cut once.
        let stats: Vec<f64> = m.real(both.episode_stats).iter().map(|&x| f64::from(x)).collect();
        assert_eq!(stats[4], n[1] as f64, "the second group has its own sums");
        assert_eq!(both.total(|i| stats[i], EpisodeStat::Episodes), (n[0] + n[1]) as f64);
        // The second group's starts are drawn behind the first's: not the same as if it were alone.
        assert_eq!(m.index(both.episodes)[n[0]], if mode == Mode::Train { 2 } else { 1 });
    }
}

/// The gradient through steps of both groups at once, with respect to every action.
#[test]
fn gradients_flow_through_every_group() {
    let [a, b] = tasks();
    check_traced("two groups", 1e-10, |p, vars| {
        let env = EnvBatch::new(vars, "env", &[(b.clone(), 3), (a.clone(), 4)], Mode::Train, rng());
        env.reset(p, vars);
        let raw = leaf(p, vars, "action", input(&[env.count, env.act_dim]));
        // Groups read parts of it: it is a result, as a policy's is.
        let stats = leaf(p, vars, "stats", fixed(&[env.act_dim, 3], [0.1, 2.0, 50.0].repeat(env.act_dim)));
        let action = normalise(p, raw.val(), stats.val(), true);
        let count = vars.add(Region::Control, "bounded", DType::Real, &[2]);
        let bound = GradientBound { norm: 1e30, count: p.var(vars, count) };
        let mut state = env.state(p, vars);
        let mut outputs = vec![];
        for _ in 0..4 {
            let n = env.count;
            let into = [p.real(&[n, env.obs_dim]), p.real(&[n]), p.real(&[n]), p.real(&[n])];
            (_, state) = env.step_through(p, vars, &state, action, bound, into);
            outputs.extend([into[0], into[1]]);
        }
        outputs.push(state.obs);
        outputs.extend(state.groups.iter().flatten());
        Traced { outputs, leaves: vec![raw, stats] }
    });
}

/// The variable of the actions, and programs that start all environments and step them once.
fn start_and_step(env: &EnvBatch, vars: &mut Vars) -> (VarId, [Program; 2]) {
    let action = vars.add(Region::Control, "action", DType::Real, &[env.count, env.act_dim]);
    let (mut start, mut step) = (Program::new("start"), Program::new("step"));
    env.reset(&mut start, vars);
    let value = step.var(vars, action);
    env.step(&mut step, vars, value, None);
    (action, [start, step])
}

/// Every environment draws from Philox blocks of its own: so groups of the same task start differently, and no pair of
/// counter and key serves two of them. Which blocks they are is found out from the states.
#[test]
fn no_two_groups_draw_from_one_block() {
    let [a, b] = tasks();
    let mut vars = Vars::default();
    let groups = [(a.clone(), 4), (a.clone(), 3), (b.clone(), 5), (a, 4), (b, 2)];
    let env = EnvBatch::new(&mut vars, "env", &groups, Mode::Train, rng());
    let (_, programs) = start_and_step(&env, &mut vars);
    let mut m = Machine::<f32>::new(vars, programs.into(), Arc::new(Team::new(1).unwrap())).unwrap();
    m.poison();
    m.run(m.program(0)).unwrap();
    let all: u32 = env.groups.iter().map(|g| g.task.dflex().spec.reset.blocks() * g.count as u32).sum();
    for episode in 0..2 {
        // Episodes are cut after three steps.
        for _ in 0..3 * episode {
            m.run(m.program(1)).unwrap();
        }
        assert!(m.index(env.episodes).iter().all(|&e| e == episode + 1));
        let (mut taken, mut starts) = (vec![], vec![]);
        for g in &env.groups {
            let (s, reset) = (g.task.sizes, &g.task.dflex().spec.reset);
            assert!(reset.blocks() > 1);
            let (mut q, mut qd) = (vec![0f32; s.nq], vec![0f32; s.nqd]);
            for e in 0..g.count {
                let at = [&m.real(g.q)[e * s.nq..][..s.nq], &m.real(g.qd)[e * s.nqd..][..s.nqd]];
                let mut drawn_from = (0..2 * all).filter(|&block| {
                    reset.write(&rng(), u64::from(episode), block, &mut q, &mut qd);
                    [&q[..], &qd[..]] == at
                });
                let block = drawn_from.next().expect("some block was drawn from");
                taken.extend(block..block + reset.blocks());
                starts.push(at.concat());
            }
        }
        taken.sort_unstable();
        assert!(taken.windows(2).all(|w| w[0] < w[1]), "episode {episode}: {taken:?}");
        assert_eq!(taken.len(), all as usize);
        for (i, x) in starts.iter().enumerate() {
            assert!(!starts[..i].contains(x), "environment {i} starts as another one");
        }
    }
}

/// An environment of an evaluation whose episode is over stays as it is, to the bit, whatever its neighbours do, and
/// its episode counts once.
#[test]
fn an_evaluation_that_is_over_stays_frozen() {
    let c = Config { episode_length: 60, termination_height: 0.6, ..Config::default() };
    let groups = [(Arc::new(Task::from_config(&c).unwrap()), 24), (task(FIXED, &c), 5)];
    let mut vars = Vars::default();
    let env = EnvBatch::new(&mut vars, "env", &groups, Mode::Evaluate, rng());
    let (action, programs) = start_and_step(&env, &mut vars);
    let mut m = Machine::<f32>::new(vars, programs.into(), Arc::new(Team::new(2).unwrap())).unwrap();
    m.run(m.program(0)).unwrap();
    // All that is there of one environment, as bits.
    let row = |m: &Machine<f32>, i: usize| {
        let g = env.groups.iter().find(|g| g.rows().contains(&i)).unwrap();
        let (s, e, w) = (g.task.sizes, i - g.first, env.obs_dim);
        let state = [&m.real(g.q)[e * s.nq..][..s.nq], &m.real(g.qd)[e * s.nqd..][..s.nqd]].concat();
        let own = [&m.real(env.obs)[i * w..][..w], &[m.real(env.ep_return)[i], m.real(env.alive)[i]]].concat();
        let counts = [m.index(env.progress)[i], m.index(env.episodes)[i]];
        [&state, &own].into_iter().flatten().map(|x| x.to_bits()).chain(counts).collect::<Vec<u32>>()
    };
    let noise = Philox::new(5, Stream::Test);
    let (mut over_at, mut frozen) = (vec![None; env.count], vec![vec![]; env.count]);
    for t in 0..70 {
        let before: Vec<_> = (0..env.count).map(|i| row(&m, i)).collect();
        m.real_mut(action).iter_mut().zip(0..).for_each(|(x, i)| *x = noise.normal(t, i) as f32);
        m.poison();
        m.run(m.program(1)).unwrap();
        for i in 0..env.count {
            let now = row(&m, i);
            if over_at[i].is_some() {
                assert_eq!(now, frozen[i], "environment {i} in step {t}");
                continue;
            }
            assert_ne!(now, before[i], "environment {i} in step {t}");
            if m.real(env.alive)[i] == 0.0 {
                (over_at[i], frozen[i]) = (Some(t + 1), now);
            }
        }
    }
    let ends: Vec<u64> = over_at.into_iter().map(|t| t.expect("every episode was cut")).collect();
    // Some fell while their neighbours went on, some were cut.
    let (walkers, cut) = ends.split_at(24);
    assert!(walkers.iter().min() < walkers.iter().max() && cut.iter().all(|&t| t == 60), "{ends:?}");
    let stats: Vec<f64> = m.real(env.episode_stats).iter().map(|&x| f64::from(x)).collect();
    let of = |stat| env.total(|i| stats[i], stat);
    assert_eq!(of(EpisodeStat::Episodes), env.count as f64);
    assert_eq!(of(EpisodeStat::Length), ends.iter().sum::<u64>() as f64);
}
