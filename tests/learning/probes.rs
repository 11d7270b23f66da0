//! What is measured of the world model, and that a run whose rewards cannot be learned does not go on.

use crate::support::tiny;
use std::path::Path;

use pwm::algo::Runner;
use pwm::algo::pwm::build;
use pwm::backend::Target;
use pwm::config::Config;
use pwm::device::Real;
use pwm::io::checkpoint::Checkpoint;
use pwm::io::metrics::{FILE_NAME, read_metrics};
use pwm::ops::loss::squared_error;
use pwm::run::folder::{RunFolder, RunInfo};
use pwm::run::session::{Session, SessionError};
use pwm::run::signal_health::Dead;
use pwm::run::signals::StopFlag;
use pwm::tape::{Op, OpArgs, Program, Val};

const ENCODED: [&str; 4] = ["latent=encoded", "obs_norm=false", "rew_norm=none", "rollout=imagined"];

/// Every number of `x` as often as a row has bins.
#[derive(Debug)]
struct Broadcast;

impl Broadcast {
    #[inline(always)]
    fn run<F: Real>(&self, args: &OpArgs<F>, _: usize, _: usize) {
        let bins = args.out_len(0) / args.input(0).len();
        for (row, x) in args.out_all(0).chunks_exact_mut(bins).zip(args.input(0)) {
            row.fill(*x);
        }
    }
}

// SAFETY: a phase has one task.
unsafe impl Op for Broadcast {
    fn name(&self) -> &'static str {
        "test_broadcast"
    }
    fn phases(&self, _: &[Vec<usize>], _: &[Vec<usize>]) -> Vec<usize> {
        vec![1]
    }
    fn differentiable(&self) -> bool {
        false
    }
    pwm::kernels!();
}

/// The published pair: a distributional head whose every logit is regressed to the reward.
fn every_logit(p: &mut Program, _: &Config, head: Val, rew: Val, powers: &[f64]) -> Val {
    let shape = p.shape(head).to_vec();
    let wanted = p.real(&shape);
    p.push(Broadcast, &[rew], &[wanted]);
    let scale = 1.0 / (powers.len() * p.len_of(head)) as f64;
    squared_error(p, head, wanted, powers.iter().map(|g| g * powers.len() as f64 * scale).collect())
}

fn config(more: &[&str]) -> Config {
    tiny::config(&[&ENCODED[..], &["max_epochs=60", "wm_iterations=4", "model_lr=1e-3"], more].concat())
}

#[test]
fn a_run_with_a_dead_reward_head_stops_and_says_why() {
    for dynamics in [&["dynamics=mlp"][..], &["dynamics=flow", "flow_head=simnorm", "flow_substeps=2"]] {
        let c = config(&[dynamics, &["reward_head=two_hot"]].concat());
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(&dir.path().join("run"), &c.to_yaml()).unwrap();
        let runner = Runner::<f32>::of(build(&c, every_logit), &Target::Cpu).unwrap();
        let mut session = Session::begin(runner, folder, RunInfo::begin(c.seed)).unwrap();
        let error = session.run(&StopFlag::detached()).expect_err("a dead signal");
        let SessionError::DeadSignal { epoch, cause: Dead::Flat { predicted, true_ } } = &error else {
            panic!("{error}")
        };
        println!("{dynamics:?}: epoch {epoch}, {predicted:e} of {true_}");
        assert!(*epoch <= 50 && *predicted < 1e-4 * true_);
        let message = error.to_string();
        assert!(message.contains("same for every state and action") && message.contains("squared error"), "{message}");
    }
}

/// What the probes have shown is part of the checkpoint: a run that is killed after every epoch is stopped at the same
/// one.
#[test]
fn a_dead_reward_head_is_seen_across_sittings() {
    let c = config(&["dynamics=mlp", "reward_head=two_hot"]);
    let runner = || Runner::<f32>::of(build(&c, every_logit), &Target::Cpu).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let stop = StopFlag::detached();
    let stopped_at = |run: &Path, killed: bool| {
        let folder = RunFolder::create(run, &c.to_yaml()).unwrap();
        let mut session = Session::begin(runner(), folder, RunInfo::begin(c.seed)).unwrap();
        loop {
            match session.step(&stop) {
                Ok(stop_reason) => assert_eq!(stop_reason, None),
                Err(SessionError::DeadSignal { epoch, .. }) => return epoch,
                Err(e) => panic!("{e}"),
            }
            if killed {
                session.save().unwrap();
                drop(session);
                let folder = RunFolder::open(run).unwrap();
                let latest = Checkpoint::load(&folder.latest()).unwrap();
                session = Session::resume(runner(), folder, RunInfo::begin(c.seed), &latest).unwrap();
            }
        }
    };
    assert_eq!(stopped_at(&dir.path().join("killed"), true), stopped_at(&dir.path().join("whole"), false));
}

#[test]
fn a_run_that_learns_is_left_alone_and_measured() {
    let observed = ["latent=observed", "obs_norm=true", "rollout=anchored", "flow_head=linear", "model_lr=2e-3"];
    let c = config(&[&["dynamics=flow", "flow_substeps=2"], &observed[..]].concat());
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(&dir.path().join("run"), &c.to_yaml()).unwrap();
    let metrics = folder.file(FILE_NAME);
    let mut session = Session::begin(Runner::<f32>::new(&c).unwrap(), folder, RunInfo::begin(c.seed)).unwrap();
    session.run(&StopFlag::detached()).unwrap();
    let probe = session.runner.probe().unwrap().expect("windows to measure on");
    println!("{probe:?}");
    assert!(probe.reward_correlation > 0.3, "{probe:?}");
    assert!(probe.error_one > 0.0 && probe.error_one < 0.9, "better than predicting no change: {probe:?}");
    assert!(probe.group_drift.is_nan(), "observations have no groups: {probe:?}");
    assert!(probe.velocity.iter().all(|v| v.is_finite() && *v > 0.0), "{probe:?}");
    let rows = read_metrics(&metrics).unwrap();
    let last = rows.last().expect("rows");
    let written = last.values["probe/reward_correlation"];
    assert!((written - probe.reward_correlation).abs() < 1e-6, "the row of the last evaluation has {written}");
}

#[test]
fn sums_of_groups_drift_by_one_a_step_under_simnorm_velocities_and_stay_under_tangent_ones() {
    for (head, expected) in [("flow_head=simnorm", 8.0), ("flow_head=tangent", 0.0)] {
        let c = config(&["dynamics=flow", head, "flow_integrator=euler", "flow_substeps=3", "horizon=8"]);
        let mut t = Runner::<f32>::new(&c).unwrap();
        while !t.bootstrapped() {
            t.run_epoch().unwrap();
        }
        let drift = t.probe().unwrap().unwrap().group_drift;
        assert!((drift - expected).abs() < 1e-3, "{head}: {drift}");
    }
}

#[test]
fn probing_leaves_no_mark_on_training() {
    let run = |probes: bool| {
        let mut t = Runner::<f32>::new(&config(&["dynamics=flow", "flow_substeps=1"])).unwrap();
        for _ in 0..8 {
            t.run_epoch().unwrap();
            if probes {
                t.probe().unwrap();
            }
        }
        let params = t.machine.real(t.network("world model").group.params);
        params.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(run(true), run(false));
}
