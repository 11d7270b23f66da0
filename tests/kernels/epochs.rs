//! An epoch on a GPU is one launch, and the host looks once an interval of logging: driver calls counted on the
//! stand-in, and the same bits however epochs are submitted.

use crate::support::standin;
use crate::support::tiny;
use approx::assert_relative_eq;
use pwm::algo::{EpochReport, Runner, metrics};
use pwm::backend::Target;
use pwm::backend::cuda::Options;
use pwm::config::{Config, load};
use pwm::device::cpu::team::Team;
use pwm::device::cuda::driver::Context;
use pwm::device::cuda::estimate::GPUS;
use pwm::io::metrics::{FILE_NAME, read_metrics};
use pwm::ops::control::copy;
use pwm::run::folder::{RunFolder, RunInfo};
use pwm::run::plan::{ArenaPlace, Plan, Planner};
use pwm::run::recorded::complete;
use pwm::run::session::{Session, StopReason};
use pwm::run::signals::StopFlag;
use pwm::run::state::fingerprint;
use pwm::tape::{DType, EpochIo, Machine, Placement, Program, Region, Vars};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::CStr;
use std::path::Path;
use std::sync::Arc;

struct Counting;
thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn target(options: Options) -> Target {
    standin::load();
    Target::Cuda(Context::open(0).unwrap(), options)
}

/// What the driver was asked for on this thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Calls {
    graphs: u64,
    kernels: u64,
    waits: u64,
    copies: u64,
    /// Of device and pinned memory, and of the host's heap.
    allocations: u64,
    captures: u64,
}

impl Calls {
    fn now() -> Self {
        let of = |names: &[&CStr]| names.iter().map(|name| standin::calls(name)).sum();
        Self {
            graphs: of(&[c"cuGraphLaunch"]),
            kernels: of(&[c"cuLaunchKernel"]),
            waits: of(&[c"cuStreamSynchronize"]),
            copies: of(&[c"cuMemcpyHtoDAsync_v2", c"cuMemcpyDtoHAsync_v2"]),
            allocations: of(&[c"cuMemAlloc_v2", c"cuMemHostAlloc"]) + ALLOCATIONS.with(Cell::get),
            captures: of(&[c"cuStreamBeginCapture_v2", c"cuGraphInstantiateWithFlags"]),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            graphs: self.graphs - before.graphs,
            kernels: self.kernels - before.kernels,
            waits: self.waits - before.waits,
            copies: self.copies - before.copies,
            allocations: self.allocations - before.allocations,
            captures: self.captures - before.captures,
        }
    }
}

/// Epochs that learn, until the replay is so full that it need not be looked at.
const WARM: u64 = 12;

fn settings(more: &[&str]) -> Config {
    let small =
        ["num_envs=8", "horizon=4", "wm_batch_size=12", "wm_iterations=2", "critic_iterations=2", "eval_episodes=2"];
    let quiet = ["episode_length=12", "log_every=4", "eval_every=100000", "save_every=100000", "max_epochs=100000"];
    tiny::config(&[&small[..], &quiet, more].concat())
}

fn runner(c: &Config, options: Options) -> Runner<f32> {
    Runner::on(c, &target(options)).unwrap()
}

/// `epochs` epochs, looked at after every `every` of them or when that must be.
fn epochs(t: &mut Runner<f32>, epochs: u64, every: u64) -> Vec<EpochReport> {
    let mut reports = vec![];
    for e in 1..=epochs {
        t.begin_epoch().unwrap();
        if e % every == 0 || t.must_sync() {
            t.sync(|r| reports.push(r.clone())).unwrap();
        }
    }
    t.sync(|r| reports.push(r.clone())).unwrap();
    reports
}

/// Logs eight epochs in two rows and counts what that takes.
fn count(t: Runner<f32>) -> Calls {
    let c = t.config().clone();
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(&dir.path().join("run"), &c.to_yaml()).unwrap();
    let metrics = folder.file(FILE_NAME);
    let mut session = Session::begin(t, folder, RunInfo::begin(c.seed)).unwrap();
    (0..WARM).for_each(|_| session.epoch().unwrap());
    let before = Calls::now();
    (0..8).for_each(|_| session.epoch().unwrap());
    let calls = Calls::now().since(before);
    let rows = read_metrics(&metrics).unwrap();
    let last = rows.last().unwrap();
    assert_eq!((last.epoch, rows.len() as u64), (WARM + 8, 1 + (WARM + 8) / 4));
    assert!(last.values["loss/actor"].is_finite() && last.values["lr/actor"] > 0.0, "{:?}", last.values);
    calls
}

/// One launch an epoch, one wait an interval, and nothing else: no copy, no allocation, no capture.
#[test]
fn an_epoch_is_one_launch() {
    let want = Calls { graphs: 8, waits: 2, ..Calls::default() };
    assert_eq!(count(runner(&settings(&[]), Options::default())), want);
    assert_eq!(count(runner(&settings(&["alg=shac"]), Options::default())), want);
}

/// `pwm plan --epoch` counts what is launched: by itself, and as graphs.
#[test]
fn an_epoch_launches_what_is_counted() {
    let gpu = GPUS.iter().find(|g| g.major == 8).unwrap();
    let flow = ["dynamics=flow", "flow_substeps=2", "actor=flow"];
    for more in [&[][..], &flow, &["alg=shac"]] {
        let c = settings(&[more, &["device=cuda:0", "replay_unfinished=true"]].concat());
        let planner = Planner::new(&c, ArenaPlace::Device);
        let epoch = planner.epoch_on(gpu, &Plan::new(&c, ArenaPlace::Device)).unwrap();
        for eager in [true, false] {
            let mut t = runner(&c, Options { eager, ..Options::default() });
            while !epochs(&mut t, 1, 1).pop().unwrap().learned {}
            // The first epoch that learns may be another one.
            epochs(&mut t, 1, 1);
            let before = Calls::now();
            epochs(&mut t, 1, 1);
            let calls = Calls::now().since(before);
            let want = if eager { (epoch.total().nodes, 0) } else { (0, epoch.graph_launches()) };
            assert_eq!((calls.kernels, calls.graphs), want, "{more:?}");
        }
    }
}

/// While the replay may be empty the host looks once an epoch, at a counter that lies with the other reports.
#[test]
fn one_look_an_epoch_while_there_may_be_no_window() {
    let mut t = runner(&settings(&["replay_unfinished=false", "episode_length=40"]), Options::default());
    // The first one reads where the run stands.
    epochs(&mut t, 1, 1);
    let before = Calls::now();
    let reports = epochs(&mut t, 3, 5);
    let calls = Calls::now().since(before);
    assert!(reports.iter().all(|r| !r.learned), "{reports:?}");
    assert_eq!((calls.graphs, calls.waits, calls.copies, calls.captures), (3, 3, 0, 0), "{calls:?}");
}

/// However epochs are submitted and looked at: the same reports and the same state.
#[test]
fn epochs_give_the_same_bits_however_they_are_submitted() {
    let run = |options: Options, every: u64| {
        let mut t = runner(&settings(&[]), options);
        let reports = epochs(&mut t, WARM + 6, every);
        assert!(reports.iter().filter(|r| r.learned).count() > 8);
        let numbers = reports.iter().flat_map(|r| {
            let losses = [
                r.get(metrics::LOSS_ACTOR),
                r.get(metrics::LOSS_CRITIC),
                r.get(metrics::LOSS_DYNAMICS),
                r.get(metrics::LOSS_REWARD),
            ];
            let others = [
                r.get(metrics::GRAD_NORM_ACTOR),
                r.get(metrics::GRAD_NORM_MODEL),
                r.get(metrics::LR_MODEL),
                r.get(metrics::TRAIN_EPISODES),
                r.get(metrics::TRAIN_RETURN),
                r.get(metrics::TRAIN_LENGTH),
            ];
            losses.into_iter().chain(others).map(f64::to_bits).collect::<Vec<_>>()
        });
        (fingerprint(&t), numbers.collect::<Vec<_>>())
    };
    let once = run(Options::default(), 4);
    assert!(once == run(Options::default(), 4), "twice");
    assert!(once == run(Options::default(), 1), "looked at after every epoch");
    assert!(once == run(Options { eager: true, ..Options::default() }, 4), "kernel by kernel");
}

/// A number that is not finite is reported with the epochs, and named only then.
#[test]
fn the_device_reports_what_is_not_finite() {
    let mut t = runner(&settings(&[]), Options::default());
    epochs(&mut t, WARM, 4);
    assert_eq!(t.non_finite(), None);
    let v = t.network("critic").group.v;
    t.machine.real_mut(v)[1] = f32::INFINITY;
    epochs(&mut t, 2, 4);
    assert!(t.machine.non_finite());
    assert!(t.non_finite().is_some_and(|name| name.contains("second moment")), "{:?}", t.non_finite());
}

/// More inputs, outputs, checked variables, words and steps than any run has today: an epoch is as large as its
/// programs make it, on both back ends.
#[test]
fn an_epoch_has_as_many_inputs_outputs_and_steps_as_it_likes() {
    const MANY: usize = 60;
    const STEPS: usize = 9;
    let run = |target: &Target| {
        let mut vars = Vars::default();
        let mut add = |name: String, len: usize| vars.add(Region::RolloutBuffers, name, DType::Real, &[len]);
        let pairs: Vec<_> =
            (0..MANY).map(|i| (add(format!("in {i}"), 1 + 5 * i), add(format!("out {i}"), 1 + 5 * i))).collect();
        let programs = (0..STEPS).map(|step| {
            let mut p = Program::new("copies");
            for &(from, to) in pairs.iter().skip(step).step_by(STEPS) {
                let (from, to) = (p.var(&vars, from), p.var(&vars, to));
                copy(&mut p, from, to);
            }
            p
        });
        let programs: Vec<_> = programs.collect();
        let io = EpochIo {
            inputs: pairs.iter().map(|p| p.0).collect(),
            outputs: pairs.iter().map(|p| p.1).collect(),
            finite_checked: pairs.iter().flat_map(|p| [p.0, p.1]).collect(),
            sequences: vec![(0..STEPS).map(|i| (i, 1)).collect()],
            ahead: 3,
        };
        let team = Arc::new(Team::new(1).unwrap());
        let mut m = Machine::<f32>::with_epochs(target, vars, programs, &io, team, &Placement::Arena).unwrap();
        let steps: Vec<_> = (0..STEPS).map(|i| (m.program(i), 1)).collect();
        let mut seen = vec![];
        for epoch in 0..5 {
            for (i, &(from, _)) in pairs.iter().enumerate() {
                let number = if (epoch, i) == (4, MANY - 1) { f32::INFINITY } else { (100 * epoch + i) as f32 };
                m.input(from).fill(number);
            }
            m.submit(&steps).unwrap();
            m.sync().unwrap();
            assert_eq!(m.seconds().len(), STEPS);
            seen.extend(pairs.iter().map(|&(_, to)| m.output(0, to).to_vec()));
        }
        // One of no sequence, whose steps are more.
        let twice: Vec<_> = steps.iter().chain(&steps).copied().collect();
        for &(from, _) in &pairs {
            m.input(from).fill(1.0);
        }
        m.submit(&twice).unwrap();
        m.sync().unwrap();
        assert_eq!(m.seconds().len(), 2 * STEPS);
        (seen, m.gpu().is_none() || !m.non_finite())
    };
    let (seen, finite) = run(&target(Options::default()));
    assert!(finite, "only the epoch before was not finite");
    assert_eq!(seen.len(), 5 * MANY);
    assert!(
        seen[MANY..2 * MANY]
            .iter()
            .enumerate()
            .all(|(i, v)| v.len() == 1 + 5 * i && v.iter().all(|&x| x == (100 + i) as f32))
    );
    assert_eq!(seen, run(&Target::Cpu).0);
    assert_eq!(seen, run(&target(Options { eager: true, ..Options::default() })).0);
}

/// The last epochs of a run are rolled back as any others: it is not over before they are done again.
#[test]
fn a_run_that_is_rolled_back_at_its_end_is_not_over() {
    let c = settings(&["max_epochs=15", "eval_every=7"]);
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(&dir.path().join("run"), &c.to_yaml()).unwrap();
    let mut s = Session::begin(runner(&c, Options::default()), folder, RunInfo::begin(c.seed)).unwrap();
    let stop = StopFlag::detached();
    while s.runner.epoch() < 14 {
        assert_eq!(s.step(&stop).unwrap(), None);
    }
    s.save().unwrap();
    let v = s.runner.network("critic").group.v;
    s.runner.machine.real_mut(v)[1] = f32::INFINITY;
    assert_eq!(s.run(&stop).unwrap(), StopReason::Finished);
    assert_eq!((s.early_stop().rollbacks, s.runner.epoch()), (1, 15));
    assert_eq!(read_metrics(&dir.path().join("run").join(FILE_NAME)).unwrap().last().unwrap().epoch, 15);
}

/// A command that ends well.
fn pwm(args: &[&str]) {
    let o = std::process::Command::new(env!("CARGO_BIN_EXE_pwm")).args(args).output().unwrap();
    assert!(o.status.success(), "{args:?}: {}", String::from_utf8_lossy(&o.stderr));
}

/// Windows of recorded episodes are drawn by the host before an epoch begins. On the processor they are the windows that
/// programs draw themselves; on a device losses are those of the processor, and their bits do not depend on how many
/// epochs are in flight.
#[test]
fn recorded_episodes_reach_a_device() {
    let dir = tempfile::tempdir().unwrap();
    let text = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (data, idx) = (text("data"), text("all.idx"));
    pwm(&["collect", "--out", &data, "--episodes", "3", "env=cartpole-balance,dflex-hopper-stand"]);
    pwm(&["data", "index", &data, "--out", &idx]);
    let model = text("model");
    let data = format!("data={idx}");
    let own = ["num_envs=", "episode_length="];
    let small: Vec<&str> = tiny::SETTINGS.iter().copied().filter(|s| !own.iter().any(|o| s.starts_with(o))).collect();
    let all = ["held_out=0.4", "horizon=4", "wm_batch_size=12", "wm_iterations=2", "log_every=4", &data];
    let settings = |more: &[&str]| {
        let c = load(&[&small[..], &all, more].concat()).unwrap();
        complete(c).unwrap()
    };
    let pretrain = ["mode=pretrain", "task_dim=5"];
    {
        let c = settings(&pretrain);
        let folder = RunFolder::create(Path::new(&model), &c.to_yaml()).unwrap();
        let t = Runner::<f32>::on(&c, &Target::Cpu).unwrap();
        let mut session = Session::begin(t, folder, RunInfo::begin(c.seed)).unwrap();
        session.epoch().unwrap();
        session.save().unwrap();
    }
    let model = format!("model={model}");
    let policy = [
        "mode=policy",
        &model,
        "env=dflex-hopper-stand",
        "num_envs=6",
        "critic_batches=2",
        "finetune=true",
        "episode_length=24",
    ];
    for mode in [&pretrain[..], &policy] {
        let run = |device: &str, target: &Target, every: u64| {
            let mut t = Runner::<f32>::on(&settings(&[mode, &[device]].concat()), target).unwrap();
            let reports = epochs(&mut t, 6, every);
            let probe = t.probe().unwrap().unwrap();
            let judged = t.evaluate(|_| {}).unwrap().mean();
            let losses = reports.iter().map(|r| [r.get(metrics::LOSS_DYNAMICS), r.get(metrics::LOSS_REWARD)]);
            assert!(probe.reward_correlation.is_finite(), "{probe:?}");
            (fingerprint(&t), losses.collect::<Vec<_>>(), judged)
        };
        let cpu = run("device=cpu", &Target::Cpu, 1);
        let fed = run("device=cuda:0", &Target::Cpu, 1);
        assert_eq!((cpu.0, &cpu.1, cpu.2), (fed.0, &fed.1, fed.2), "drawn before, and when they are needed");
        let gpu = run("device=cuda:0", &target(Options::default()), 1);
        assert_relative_eq!(gpu.1.as_flattened(), cpu.1.as_flattened(), max_relative = 1e-3);
        assert_relative_eq!(gpu.2, cpu.2, max_relative = 1e-2);
        let ahead = run("device=cuda:0", &target(Options::default()), 4);
        assert_eq!((gpu.0, &gpu.1, gpu.2), (ahead.0, &ahead.1, ahead.2), "looked at seldom");
    }
}

/// The kernels around an epoch, and all others of it, with threads in another order; with `PWM_LONG_CASES` alone from
/// behind, and with every access checked, for which all of an epoch has to be compiled again.
#[test]
fn the_order_of_threads_does_not_matter() {
    let harsh = standin::harsh();
    for environment in if standin::all() { &harsh[..] } else { &harsh[1..2] } {
        standin::again("the_device_reports_what_is_not_finite", environment);
    }
}
