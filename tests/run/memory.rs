//! The plan is what is allocated, and no result depends on what stood in memory before.

#[cfg(target_os = "linux")]
use crate::support::cage::Cage;
use crate::support::tiny;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use pwm::algo::{ExecPlan, Runner, build, rematerialised};
use pwm::backend::Target;
use pwm::config::{Bytes, Config, load};
use pwm::mem::Budget;
use pwm::run::plan::{ArenaPlace, Limits, Plan};
use pwm::run::state::fingerprint;
use pwm::tape::plan::{ByType, ProgramLayout};
use pwm::tape::recompute::candidates;
use pwm::tape::{Layout, Placement};

fn planned(c: &Config) -> usize {
    let (vars, programs) = build(c);
    Layout::new(&vars, &programs).total().bytes(size_of::<f32>())
}

#[test]
fn shipped_configurations_take_the_planned_bytes() {
    // A shorter replay for the sake of the test's time; it is one variable among others.
    for alg in ["alg=pwm_small", "alg=pwm_5M"] {
        let c = load(&[alg, "wm_buffer_size=50_000", "threads=1"]).unwrap();
        let machine = Runner::<f32>::new(&c).unwrap().machine;
        assert_eq!(planned(&c), machine.bytes(), "{alg}");
    }
}

#[test]
fn every_part_of_a_plan_is_accounted_for() {
    for alg in ["alg=pwm_small", "alg=pwm_5M", "alg=pwm_48M"] {
        let c = load(&[alg]).unwrap();
        let (vars, programs) = build(&c);
        let layout = Layout::new(&vars, &programs);
        let by_region: usize = layout.regions.values().map(|b| b.bytes(4)).sum();
        assert_eq!(by_region, layout.persistent.bytes(4), "{alg}");
        assert_eq!(by_region + layout.activations.bytes(4), layout.total().bytes(4), "{alg}");
        // The region is as large as the largest need of each type, which may be those of two programs.
        let most = |of: fn(&ByType) -> usize, p: fn(&ProgramLayout) -> ByType| {
            layout.programs.iter().map(|l| of(&p(l))).max().unwrap()
        };
        for of in [|b: &ByType| b.real, |b: &ByType| b.index] {
            assert_eq!(most(of, |p| p.activations), of(&layout.activations), "{alg}");
            assert!(of(&layout.activations) <= most(of, |p| p.unshared), "{alg}");
        }
    }
}

#[test]
fn results_do_not_depend_on_old_activations() {
    let train = |poison: bool| {
        let mut t = Runner::<f32>::new(&tiny::config(&[])).unwrap();
        for _ in 0..12 {
            if poison {
                t.machine.poison();
            }
            t.run_epoch().unwrap();
        }
        if poison {
            t.machine.poison();
        }
        let e = t.evaluate(|_| {}).unwrap();
        (fingerprint(&t), e)
    };
    assert_eq!(train(false), train(true));
}

/// A folder on a disk: the one for passing files may lie in main memory.
fn on_disk() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// To the terminal, past the test harness, which keeps what tests print.
#[cfg(target_os = "linux")]
fn say(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// What keeps a run of `pwm-train` within its memory.
#[cfg(target_os = "linux")]
enum Limit {
    Group(Cage),
    /// `ulimit -d`, of data as the system counts it.
    Data(u64),
}

#[cfg(target_os = "linux")]
impl Limit {
    /// A control group of its own where one can be made. Says which it is.
    fn new(bytes: u64) -> Self {
        let limit = Cage::new(bytes).map_or(Self::Data(bytes), Self::Group);
        let what = limit.describe();
        say(&format!("a run in {bytes} bytes is kept there by {what}"));
        limit
    }

    fn describe(&self) -> String {
        match self {
            Self::Group(cage) => format!("the control group's {}", cage.file().display()),
            Self::Data(_) => "the process's limit of data".into(),
        }
    }

    fn train(&self, settings: &[String], dir: &Path) -> Output {
        let program = env!("CARGO_BIN_EXE_pwm-train");
        let mut command = match self {
            Self::Group(cage) => cage.command(program),
            Self::Data(bytes) => {
                let limit = format!("ulimit -d {} && exec \"$0\" \"$@\"", bytes / 1024);
                let mut command = Command::new("sh");
                command.args(["-c", &limit, program]);
                command
            }
        };
        command.args(settings).arg(format!("run_dir={}", dir.display())).output().unwrap()
    }
}

/// Where the system enforces a limit, at the planned figure plus 5 %: a run ends well, and has seen the limit.
#[cfg(target_os = "linux")]
fn completes(limit: &Limit, settings: &[String], need: u64) -> String {
    let dir = on_disk();
    let run = limit.train(settings, &dir.path().join("run"));
    assert!(run.status.success(), "{:?} {}", run.status, String::from_utf8_lossy(&run.stderr));
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(said.contains(&limit.describe()) && said.contains("margin"), "{said}");
    if let Limit::Group(cage) = limit {
        let held = cage.peak().unwrap_or(0);
        say(&format!("  it held {held} bytes at most, {need} were planned"));
    }
    said
}

#[test]
#[cfg(target_os = "linux")]
fn the_system_need_not_stop_a_run_that_fits_and_one_that_does_not_says_so_itself() {
    let settings = |more: &[&str]| {
        let mut s = tiny::settings(&["max_epochs=8", "eval_every=4", "replay_unfinished=true", "threads=1"]);
        s.extend(more.iter().map(|s| (*s).into()));
        s
    };
    let need = |s: &[String]| {
        let plan = Plan::new(&load(s).unwrap(), ArenaPlace::Host);
        (plan.host(), plan.unused)
    };
    // With a replay that is nearly all of it, and with next to none.
    for more in [&["wm_buffer_size=2_000_000", "replay=host"][..], &[]] {
        let settings = settings(more);
        let (need, unused) = need(&settings);
        // The process's own limit counts address space that is taken and never used.
        let data = Limit::Data((need + unused) * 105 / 100);
        completes(&data, &settings, need);
        completes(&Limit::new(need * 105 / 100), &settings, need);

        let (limit, dir) = (Limit::new(need / 2), on_disk());
        let half = limit.train(&settings, &dir.path().join("half"));
        let said = String::from_utf8_lossy(&half.stderr);
        assert_eq!(half.status.code(), Some(6), "{said}");
        assert!(said.contains("largest: ") && said.contains(&limit.describe()), "{said}");
        assert!(more.is_empty() || said.contains("wm_buffer_size="), "{said}");
        assert!(!dir.path().join("half").exists());
    }
}

/// Left to choose, a run whose replay has no room in memory maps a file, and fills it with twice the memory that it may
/// hold: what is in memory of the file the system takes back.
#[test]
#[cfg(target_os = "linux")]
fn a_replay_that_does_not_fit_goes_into_a_file() {
    let more = ["max_epochs=150", "eval_every=150", "save_every=75", "threads=1", "num_envs=256", "log_every=100"];
    let mut settings = tiny::settings(&more);
    settings.extend(["wm_buffer_size=1_000_000".into(), "critic_batches=1".into(), "wm_bootstrap_iterations=1".into()]);
    let with = |replay: &str| settings.iter().cloned().chain([format!("replay={replay}")]).collect::<Vec<_>>();
    let plan = Plan::new(&load(&with("file")).unwrap(), ArenaPlace::Host);
    assert_eq!(plan.mapped_bytes(), 1_000_000 * 4 * 46);
    let need = plan.host();
    let limit = Limit::new(need * 105 / 100);
    let said = completes(&limit, &settings, need);
    assert!(said.contains("in a file without a name"), "{said}");
    assert!(150 * 256 * 8 * 4 * 46 > 2 * need, "more than fits is written");
    let dir = on_disk();
    let refused = limit.train(&with("host"), &dir.path().join("run"));
    assert_eq!(refused.status.code(), Some(6), "{}", String::from_utf8_lossy(&refused.stderr));
}

/// Blocks of the file are taken before it is mapped: what would be a signal later is an error at the start.
#[test]
#[cfg(unix)]
fn a_disk_without_room_for_the_replay_is_an_error_at_the_start() {
    let dir = on_disk();
    let run = dir.path().join("run");
    let script = "trap '' XFSZ; ulimit -f 1000; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_pwm-train")]);
    command.args(tiny::settings(&["replay=file", "wm_buffer_size=100_000"])).arg(format!("run_dir={}", run.display()));
    let ended = command.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(3), "{said}");
    assert!(
        said.contains("replay=host")
            && said.contains("bytes of the replay in a file")
            && said.trim().lines().count() == 1,
        "{said}"
    );
    assert!(!run.exists(), "nothing is left");
    // And a plan that knows better refuses before that.
    let c = tiny::config(&["replay=file"]);
    let disk = Plan::new(&c, ArenaPlace::Host).disk();
    let limits = Limits { disk: Some(Budget::asked("disk", Bytes(disk - 1))), ..Limits::default() };
    let refusal = limits.admit(&c).unwrap_err().to_string();
    assert!(refusal.contains("of disk") && refusal.contains("wm_buffer_size="), "{refusal}");
}

#[test]
fn wherever_the_replay_lies_the_bits_are_the_same() {
    // A ring that turns over, and one that does not.
    for more in [&["wm_buffer_size=700"][..], &["replay_sampling=row", "replay_unfinished=true"]] {
        let c = tiny::config(more);
        let train = |replay: Placement| {
            let exec_plan = ExecPlan { replay, ..ExecPlan::rematerialising(&rematerialised(&c, build(&c).1.len())) };
            let mut t = Runner::<f32>::from_plan(&c, &Target::Cpu, &exec_plan).unwrap();
            for _ in 0..16 {
                t.machine.poison();
                t.run_epoch().unwrap();
            }
            assert!(t.bootstrapped());
            (fingerprint(&t), t.machine.bytes() + t.machine.offloaded_bytes(), t.machine.offloaded_bytes() > 0)
        };
        let dir = on_disk();
        let (arena, file) = (train(Placement::Arena), train(Placement::File(dir.path().into())));
        assert_eq!((arena.0, arena.1), (file.0, file.1), "{more:?}");
        assert!(!arena.2 && file.2);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[test]
fn what_is_rematerialised_changes_memory_and_no_bit() {
    let settings: [&[&str]; 6] = [
        &[],
        &["latent=observed", "rollout=anchored", "obs_norm=true"],
        &["reward_head=two_hot", "rew_norm=none", "detach=false", "actor_lambda=0.9"],
        &["critic_shuffle=true", "units=[48,40,32]", "ret_norm=false"],
        &["latent=encoded", "obs_norm=false", "dynamics=flow", "flow_substeps=2", "flow_consistency=1"],
        &["dynamics=flow", "flow_head=linear", "flow_integrator=rk4", "actor=flow", "actor_flow_substeps=2"],
    ];
    for more in settings {
        let c = tiny::config(more);
        let train = |taken: &[usize]| {
            let mut t = Runner::<f32>::rematerialising(&c, taken).unwrap();
            for _ in 0..8 {
                t.machine.poison();
                t.run_epoch().unwrap();
            }
            assert!(t.bootstrapped());
            (fingerprint(&t), t.machine.layout().activations.real)
        };
        let programs = build(&c).1;
        let of = |share: usize| programs.iter().map(|p| candidates(p).len() * share / 8).collect::<Vec<_>>();
        let (bits, most) = train(&of(0));
        let (all, least) = train(&of(8));
        assert!(bits == all && least < most, "{more:?}: {least} of {most} numbers");
        for share in [1, 2, 4, 7] {
            assert_eq!(train(&of(share)).0, bits, "{more:?}, {share} eighths");
        }
    }
}

/// What operations say of their stack is what a worker touches, for a robot of each class, forward and back.
#[test]
#[cfg(target_os = "linux")]
fn a_worker_touches_the_stack_that_is_planned() {
    use crate::support::specs;
    use pwm::device::cpu::team::Team;
    use pwm::device::philox::{Philox, Stream};
    use pwm::env::{EnvBatch, GradientBound, Mode, Task};
    use pwm::ops::loss::squared_error;
    use pwm::tape::plan::stack;
    use pwm::tape::{DType, Machine, Program, Region, Vars, grad};
    use std::sync::{Arc, Mutex};

    // What is not optimised keeps more on the stack, and is not planned.
    if cfg!(debug_assertions) {
        return;
    }
    let c = Config::default();
    let shipped = |c: &Config| Arc::new(Task::from_config(c).unwrap());
    let under_mujoco = ["pendulum-spin", "cup-catch", "walker-run", "cheetah-run", "fish-swim"];
    let under_mujoco = under_mujoco
        .map(|name| shipped(&load(&[&format!("env={name}")[..], "episode_length=2", "horizon=1"]).unwrap()));
    let tasks = [shipped(&c), specs::task(specs::FREE, &c), specs::on_the_largest(&c)];
    for task in tasks.into_iter().chain(under_mujoco) {
        let title = task.spec.title.clone();
        for back in [false, true].into_iter().take(1 + usize::from(task.is_differentiable())) {
            let mut vars = Vars::default();
            let groups = [(task.clone(), 320)];
            let env = EnvBatch::new(&mut vars, "env", &groups, Mode::Train, Philox::new(1, Stream::Reset));
            let mut p = Program::new("steps");
            env.reset(&mut p, &vars);
            let mut var = |name: &str, shape: &[usize]| vars.add(Region::Control, name, DType::Real, shape);
            let (n, wide) = (env.count, [env.count, env.act_dim]);
            let all = [var("action", &wide), var("bar", &wide), var("target", &[n, env.obs_dim]), var("bounded", &[2])];
            let [action, bar, target, count] = all.map(|v| p.var(&vars, v));
            if back {
                let state = env.state(&mut p, &vars);
                let into = [p.real(&[n, env.obs_dim]), p.real(&[n]), p.real(&[n]), p.real(&[n])];
                env.step_through(&mut p, &vars, &state, action, GradientBound { norm: 1e3, count }, into);
                let root = squared_error(&mut p, into[0], target, vec![1.0]);
                grad(&mut p, &[(root, 1.0)], &[(action, bar)]);
            } else {
                env.step(&mut p, &vars, action, None);
            }
            let planned = stack([&p]) as u64;
            let team = Arc::new(Team::new(2).unwrap());
            let mut m = Machine::<f32>::new(vars, vec![p], team.clone()).unwrap();
            // The calling thread may be done before the worker has begun.
            for _ in 0..20 {
                m.run(m.program(0)).unwrap();
            }
            let caller = std::thread::current().id();
            let touched = Mutex::new(0);
            let look = || {
                let here = 0u8;
                if std::thread::current().id() != caller {
                    *touched.lock().unwrap() = resident_around((&raw const here).addr());
                }
            };
            team.on_each(&look).unwrap();
            let touched = touched.into_inner().unwrap();
            say(&format!(
                "{title}, {}: {touched} bytes of stack, {planned} planned",
                if back { "back" } else { "forward" }
            ));
            // Beside them a thread's own, which the plan counts apart.
            assert!(touched <= planned + (32 << 10) && planned <= 2 * touched, "{touched} touched, {planned} planned");
        }
    }
}

/// Bytes in memory of the mapping that an address lies in.
#[cfg(target_os = "linux")]
fn resident_around(address: usize) -> u64 {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let hex = |text: &str| usize::from_str_radix(text, 16).ok();
    let mut inside = false;
    for line in maps.lines() {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        if let Some((from, to)) = range.and_then(|(from, to)| hex(from).zip(hex(to))) {
            inside = (from..to).contains(&address);
        }
        if let Some(size) = line.strip_prefix("Rss:").filter(|_| inside) {
            return size.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10;
        }
    }
    panic!("a stack is mapped");
}
