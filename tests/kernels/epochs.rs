//! An epoch on a GPU is one launch, and the host looks once an interval of logging: driver calls counted on the
//! stand-in, and the same bits however epochs are submitted.

use crate::support::standin;
use crate::support::tiny;
use pwm::algo::{EpochReport, Runner, metrics};
use pwm::backend::Target;
use pwm::backend::cuda::Options;
use pwm::config::Config;
use pwm::device::cpu::team::Team;
use pwm::device::cuda::driver::Context;
use pwm::io::metrics::{FILE_NAME, read_metrics};
use pwm::ops::control::copy;
use pwm::run::folder::{RunFolder, RunInfo};
use pwm::run::session::{Session, StopReason};
use pwm::run::signals::StopFlag;
use pwm::run::state::fingerprint;
use pwm::tape::{DType, EpochIo, Machine, Placement, Program, Region, Vars};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::CStr;
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
const WARM: u64 = 20;

fn settings(more: &[&str]) -> Config {
    let small =
        ["num_envs=8", "horizon=4", "wm_batch_size=12", "wm_iterations=2", "critic_iterations=2", "eval_episodes=2"];
    let quiet = ["log_every=5", "eval_every=100000", "save_every=100000", "max_epochs=100000"];
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

/// Logs twenty epochs in four rows and counts what that takes.
fn count(t: Runner<f32>) -> Calls {
    let c = t.config().clone();
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(&dir.path().join("run"), &c.to_yaml()).unwrap();
    let metrics = folder.file(FILE_NAME);
    let mut session = Session::begin(t, folder, RunInfo::begin(c.seed)).unwrap();
    (0..WARM).for_each(|_| session.epoch().unwrap());
    let before = Calls::now();
    (0..20).for_each(|_| session.epoch().unwrap());
    let calls = Calls::now().since(before);
    let rows = read_metrics(&metrics).unwrap();
    let last = rows.last().unwrap();
    assert_eq!((last.epoch, rows.len() as u64), (WARM + 20, 1 + (WARM + 20) / 5));
    assert!(last.values["loss/actor"].is_finite() && last.values["lr/actor"] > 0.0, "{:?}", last.values);
    calls
}

/// One launch an epoch, one wait an interval, and nothing else: no copy, no allocation, no capture.
#[test]
fn an_epoch_is_one_launch() {
    let want = Calls { graphs: 20, waits: 4, ..Calls::default() };
    assert_eq!(count(runner(&settings(&[]), Options::default())), want);
    assert_eq!(count(runner(&settings(&["alg=shac"]), Options::default())), want);
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
        let reports = epochs(&mut t, 40, every);
        assert!(reports.iter().filter(|r| r.learned).count() > 20);
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
    let once = run(Options::default(), 5);
    assert!(once == run(Options::default(), 5), "twice");
    assert!(once == run(Options::default(), 1), "looked at after every epoch");
    assert!(once == run(Options { eager: true, ..Options::default() }, 5), "kernel by kernel");
}

/// A number that is not finite is reported with the epochs, and named only then.
#[test]
fn the_device_reports_what_is_not_finite() {
    let mut t = runner(&settings(&[]), Options::default());
    epochs(&mut t, WARM, 5);
    assert_eq!(t.non_finite(), None);
    let v = t.network("critic").group.v;
    t.machine.real_mut(v)[1] = f32::INFINITY;
    epochs(&mut t, 2, 5);
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
    let c = settings(&["max_epochs=23", "eval_every=10"]);
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(&dir.path().join("run"), &c.to_yaml()).unwrap();
    let mut s = Session::begin(runner(&c, Options::default()), folder, RunInfo::begin(c.seed)).unwrap();
    let stop = StopFlag::detached();
    while s.runner.epoch() < 22 {
        assert_eq!(s.step(&stop).unwrap(), None);
    }
    s.save().unwrap();
    let v = s.runner.network("critic").group.v;
    s.runner.machine.real_mut(v)[1] = f32::INFINITY;
    assert_eq!(s.run(&stop).unwrap(), StopReason::Finished);
    assert_eq!((s.early_stop().rollbacks, s.runner.epoch()), (1, 23));
    assert_eq!(read_metrics(&dir.path().join("run").join(FILE_NAME)).unwrap().last().unwrap().epoch, 23);
}

/// The kernels around an epoch, and all others of it, with threads in other orders and with every access checked.
#[test]
fn the_order_of_threads_does_not_matter() {
    for environment in standin::harsh() {
        standin::again("the_device_reports_what_is_not_finite", &environment);
    }
}
