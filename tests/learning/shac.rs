//! SHAC: the gradient through the simulator as part of a program, and the algorithm on it.

use crate::support::ant::{ACT, OBS, START_Q};
use crate::support::eval::eval_args;
use crate::support::gradcheck::{Input, Traced, check_traced, fixed_var, input, leaf, parameters};
use crate::support::specs::{FIXED, FREE, task};
use crate::support::tiny;
use pwm::algo::shac::Shac;
use pwm::algo::shac::rollout::rollout;
use pwm::algo::{Runner, metrics};
use pwm::config::{Config, load};
use pwm::device::cpu::team::Team;
use pwm::device::philox::{Philox, Stream};
use pwm::env::{EnvBatch, GradientBound, Mode, Task};
use pwm::ops::returns::{ActorLossSpec, Bootstrap, actor_loss};
use pwm::tape::{DType, Machine, Program, Region, Vars, grad};
use std::sync::Arc;

fn config(more: &[&str]) -> Config {
    let all = [&["alg=shac"][..], more].concat();
    tiny::config(&all)
}

/// The actor's loss with respect to the actor, through simulator, observations and critics; episodes fall and are cut
/// within the horizon.
#[test]
fn actor_gradient_is_that_of_dual_numbers() {
    for (more, what) in [
        (&["termination_height=0.1"][..], "cut"),
        (&["termination_height=0.72", "mm_caching_frequency=1"][..], "falls"),
        (&["action_in_obs=true", "action_penalty=-0.05", "actor_lambda=0.9"][..], "actions seen"),
    ] {
        let sizes = ["horizon=6", "num_envs=20", "actor_units=[6,5]", "critic_units=[7]", "step_grad_norm=1e30"];
        // Shorter than a rollout, which no run may ask for.
        let c = Config { episode_length: 4, ..config(&[&sizes[..], more].concat()) };
        check_traced(what, 1e-10, |p, vars| {
            let s = Shac::new(vars, &c);
            s.env.reset(p, vars);
            let mut leaves = parameters(p, vars, &s.nets.actor.group, |_| true);
            leaves.extend(parameters(p, vars, &s.nets.critics.group, |_| false));
            let stats = [0.1, 2.0, 50.0].repeat(OBS);
            leaves.push(fixed_var(p, vars, s.nets.obs_stats, stats));
            leaves.push(fixed_var(p, vars, s.nets.ret_stats, vec![0.3, 4.0, 50.0]));
            let noise = Input { wanted: false, ..input(&[c.horizon, c.num_envs, ACT]) };
            let noise = leaf(p, vars, "noise", noise);
            let (loss, _) = rollout(p, vars, &s, noise.val());
            leaves.push(noise);
            Traced { outputs: vec![loss], leaves }
        });
    }
}

/// The walker, and robots with every kind of joint.
fn tasks(c: &Config) -> [Arc<Task>; 3] {
    [Arc::new(Task::from_config(c).unwrap()), task(FIXED, c), task(FREE, c)]
}

/// A step that a gradient flows through is the same step.
#[test]
fn both_steps_are_the_same_to_the_bit() {
    for task in tasks(&Config { episode_length: 5, ..config(&[]) }) {
        both_steps_of(&task);
    }
}

fn both_steps_of(task: &Arc<Task>) {
    let mut vars = Vars::default();
    let (obs, act) = (task.sizes.obs, task.sizes.act);
    let rng = Philox::new(3, Stream::Reset);
    let mut env = |name: &str| EnvBatch::new(&mut vars, name, &[(task.clone(), 20)], Mode::Train, rng);
    let (plain, through) = (env("plain"), env("through"));
    let action = vars.add(Region::RolloutBuffers, "action", DType::Real, &[20, act]);
    let count = vars.add(Region::Control, "count", DType::Real, &[2]);
    let mut p = Program::new("both");
    let a = p.var(&vars, action);
    for e in [&plain, &through] {
        e.reset(&mut p, &vars);
    }
    let mut state = through.state(&mut p, &vars);
    for _ in 0..8 {
        plain.step(&mut p, &vars, a, None);
        let into = [p.real(&[20, obs]), p.real(&[20]), p.real(&[20]), p.real(&[20])];
        let bound = GradientBound { norm: 1.0, count: p.var(&vars, count) };
        (_, state) = through.step_through(&mut p, &vars, &state, a, bound, into);
    }
    let mut m = Machine::<f32>::new(vars, vec![p], Arc::new(Team::new(2).unwrap())).unwrap();
    let rng = Philox::new(5, Stream::Test);
    for (i, x) in m.real_mut(action).iter_mut().enumerate() {
        *x = rng.normal(0, i as u32) as f32;
    }
    m.poison();
    m.run(m.program(0)).unwrap();
    let both = plain.states().chain([plain.obs]).zip(through.states().chain([through.obs]));
    for (a, b) in both {
        assert!(m.real(a).iter().zip(m.real(b)).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
    assert_eq!(m.index(plain.episodes), m.index(through.episodes));
    assert!(m.index(plain.episodes).iter().all(|&e| e >= 2), "episodes were cut on the way");
}

/// A step that leaves physics is reset, sends nothing back and is counted; those beside it are as they were.
#[test]
fn a_state_that_leaves_physics_sends_no_gradient() {
    for task in tasks(&config(&[])) {
        wild_state_of(&task);
    }
}

fn wild_state_of(task: &Arc<Task>) {
    let mut vars = Vars::default();
    let (s, rng) = (task.sizes, Philox::new(3, Stream::Reset));
    let act = s.act;
    let env = EnvBatch::new(&mut vars, "env", &[(task.clone(), 3)], Mode::Train, rng);
    let mut add = |name: &str, shape: &[usize]| vars.add(Region::RolloutBuffers, name, DType::Real, shape);
    let (action, gradient) = (add("action", &[3, act]), add("gradient", &[3, act]));
    let [count, value, stats] =
        [("count", &[2][..]), ("value", &[2, 3]), ("stats", &[3])].map(|(name, shape)| add(name, shape));
    let (mut begin, mut p) = (Program::new("begin"), Program::new("two_steps"));
    env.reset(&mut begin, &vars);
    let (a, g) = (p.var(&vars, action), p.var(&vars, gradient));
    let bound = GradientBound { norm: 1e30, count: p.var(&vars, count) };
    let before = p.real(&[2, 3, s.obs]);
    let [reward, done, terminated] = [(); 3].map(|()| p.real(&[2, 3]));
    let mut state = env.state(&mut p, &vars);
    for i in 0..2 {
        let into = [before, reward, done, terminated].map(|v| p.at(v, i));
        (_, state) = env.step_through(&mut p, &vars, &state, a, bound, into);
    }
    let spec = ActorLossSpec { gamma: 1.0, lambda: 1.0, bootstrap: Bootstrap::Exact, normalise: false, decay: 1.0 };
    let (value, stats) = (p.var(&vars, value), p.var(&vars, stats));
    let loss = actor_loss(&mut p, spec, reward, value, done, terminated, stats);
    grad(&mut p, &[(loss, 1.0)], &[(a, g)]);
    let mut m = Machine::<f32>::new(vars, vec![begin, p], Arc::new(Team::new(1).unwrap())).unwrap();
    let run = |m: &mut Machine<f32>, wild: bool| {
        m.index_mut(env.episodes).fill(0);
        m.run(m.program(0)).unwrap();
        m.real_mut(count).fill(0.0);
        m.real_mut(action).fill(0.3);
        if wild {
            m.real_mut(env.groups[0].qd)[s.nqd..2 * s.nqd].fill(1e5);
        }
        m.run(m.program(1)).unwrap();
        (m.real(gradient).to_vec(), m.real(count).to_vec())
    };
    let (calm, none) = run(&mut m, false);
    let (beside, counted) = run(&mut m, true);
    assert_eq!(none, [0.0, 0.0]);
    assert_eq!(counted, [0.0, 1.0], "one gradient was lost, and said to be");
    assert!(beside[act..2 * act].iter().all(|x| *x == 0.0), "{beside:?}");
    for e in [0, 2] {
        let row = e * act..(e + 1) * act;
        assert!(calm[row.clone()] == beside[row.clone()] && calm[row].iter().all(|x| *x != 0.0), "{calm:?}");
    }
}

fn train(more: &[&str]) -> (Vec<u64>, f64) {
    let mut t = Runner::<f32>::new(&config(more)).unwrap();
    let mut bounded = 0.0;
    for _ in 0..6 {
        let r = t.run_epoch().unwrap();
        assert!(
            r.get(metrics::LOSS_ACTOR).is_finite() && r.get(metrics::LOSS_CRITIC).is_finite() && r.skipped == [0; 2]
        );
        bounded += r.get(metrics::BOUNDED_GRADIENTS);
        assert_eq!(r.get(metrics::LOST_GRADIENTS), 0.0, "no gradient is lost");
    }
    let e = t.evaluate(|_| {}).unwrap();
    let params = t.machine.real(t.network("actor").group.params).iter().map(|x| u64::from(x.to_bits()));
    (params.chain(e.returns().map(|r| r.to_bits())).collect(), bounded)
}

#[test]
fn same_seed_same_bits() {
    let one = train(&["threads=1"]);
    assert_eq!(one, train(&["threads=1"]), "two runs");
    assert_eq!(one, train(&["threads=2"]), "two threads");
    assert_ne!(one, train(&["threads=1", "seed=1"]), "another seed");
}

/// A rollout through the simulator may be planned with operations rematerialised: the same bits in less memory.
#[test]
fn what_is_rematerialised_changes_no_bit() {
    let bits = |recompute: &str| {
        let c = config(&[&format!("recompute={recompute}")]);
        let mut t = Runner::<f32>::new(&c).unwrap();
        for _ in 0..3 {
            t.machine.poison();
            t.run_epoch().unwrap();
        }
        (pwm::run::state::fingerprint(&t), t.machine.bytes())
    };
    let (none, all) = (bits("none"), bits("all"));
    assert!(none.0 == all.0 && all.1 < none.1, "{none:?} {all:?}");
}

#[test]
fn outliers_are_bounded_and_counted() {
    for env in ["env=ant", "env=hopper"] {
        assert_eq!(train(&[env, "step_grad_norm=1e20"]).1, 0.0, "{env}");
        assert!(train(&[env, "step_grad_norm=1e-6"]).1 > 0.0, "{env}");
    }
}

/// Small networks, in minutes: prints the curve.
#[test]
#[ignore = "minutes of training: scripts/full"]
fn learns_to_run() {
    let mut settings = vec!["alg=shac_small".to_string(), "threads=1".into()];
    settings.extend(std::env::var("PWM_SHAC").unwrap_or_default().split_whitespace().map(Into::into));
    let c = load(&settings).unwrap();
    let mut t = Runner::<f32>::new(&c).unwrap();
    let (begun, mut best, mut bounded) = (std::time::Instant::now(), f64::MIN, 0.0);
    while t.epoch() < c.max_epochs && (c.max_minutes == 0.0 || begun.elapsed().as_secs_f64() < 60.0 * c.max_minutes) {
        let r = t.run_epoch().unwrap();
        bounded += r.get(metrics::BOUNDED_GRADIENTS) + r.get(metrics::LOST_GRADIENTS);
        if t.epoch().is_multiple_of(c.eval_every) {
            let e = t.evaluate(|_| {}).unwrap();
            best = e.mean().max(best);
            println!(
                "epoch {} {:.0} s: {e}; train {:.0}, losses {:.3} {:.3}, norms {:.3} {:.1}, bounded {bounded}, blown {}",
                t.epoch(),
                begun.elapsed().as_secs_f64(),
                r.get(metrics::TRAIN_RETURN),
                r.get(metrics::LOSS_ACTOR),
                r.get(metrics::LOSS_CRITIC),
                r.get(metrics::GRAD_NORM_ACTOR),
                r.get(metrics::GRAD_NORM_CRITIC),
                r.get(metrics::BLOWN_UP)
            );
        }
    }
    assert!(best >= 3000.0, "best return {best}");
}

/// A run of SHAC leaves what a run of PWM leaves, and goes on to the same bits.
#[test]
fn a_run_resumes_to_the_same_bits() {
    use pwm::app::{eval, train};
    use pwm::io::checkpoint::Checkpoint;
    use pwm::run::folder;
    let dir = tempfile::tempdir().unwrap();
    let go = |name: &str, settings: &[&str], resume: bool| {
        let path = dir.path().join(name);
        let own = format!("run_dir={}", path.display());
        let overrides = if resume {
            settings.iter().map(|s| (*s).into()).collect()
        } else {
            tiny::settings(&[&["alg=shac", own.as_str()][..], settings].concat())
        };
        let args = train::TrainArgs { overrides, resume: resume.then(|| path.clone()), ..Default::default() };
        let mut out = Vec::new();
        train::run(&args, &mut out, &pwm::run::signals::StopFlag::detached()).unwrap();
        (path, String::from_utf8(out).unwrap())
    };
    let (whole, said) = go("whole", &["max_epochs=10"], false);
    assert!(said.contains("SHAC on the ant") && !said.contains("world model"), "{said}");
    // The schedule counts to the end of the run, so the first sitting has to be stopped by other means than max_epochs.
    let (halves, _) = go("halves", &["max_epochs=10", "lr_schedule=constant"], false);
    let (again, _) = go("again", &["max_epochs=5", "lr_schedule=constant"], false);
    go("again", &["max_epochs=10"], true);
    let actor = |path: &std::path::Path| {
        let c = Checkpoint::load(&folder::latest(path)).unwrap();
        let n = Runner::<f32>::new(&config(&[])).unwrap().network("actor").group.len;
        let mut x = vec![0.0f32; n];
        c.copy_into("actor.params", &[n], &mut x).unwrap();
        x.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(actor(&halves), actor(&again), "resumed");
    assert_ne!(actor(&whole), actor(&halves), "another schedule");
    let mut out = Vec::new();
    let args = eval_args(&whole, |_| ());
    eval::run(&args, &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().contains("episodes)"));
}

#[test]
fn gradcheck_agrees() {
    use pwm::app::gradcheck::{GradcheckArgs, run};
    let mut out = Vec::new();
    let args = GradcheckArgs { overrides: vec!["env=ant".into()], states: 9, state: vec![], file: None, horizon: 4 };
    run(&args, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    println!("{text}");
    assert!(text.contains("mass matrix ") && text.contains("worst") && text.contains("   4 steps"), "{text}");

    // Given states: two of a file, one too short.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("states.txt");
    let start = START_Q.map(|x| x.to_string()).join(",");
    std::fs::write(&file, format!("# standing\n{start}{}\n\n{start} {}\n", ",0".repeat(14), "0.5 ".repeat(22)))
        .unwrap();
    let given = GradcheckArgs { file: Some(file.clone()), ..args.clone() };
    let mut out = Vec::new();
    run(&given, &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().contains("Ant at 2 states"));
    std::fs::write(&file, "1, 2, 3\n").unwrap();
    let refused = format!("{:#}", run(&given, &mut vec![]).unwrap_err());
    assert!(refused.contains("line 1") && refused.contains("15 coordinates"), "{refused}");
    let short = GradcheckArgs { state: vec![1.0; 3], ..args };
    assert!(run(&short, &mut vec![]).unwrap_err().to_string().contains("15 coordinates"));
}
