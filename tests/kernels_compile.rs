//! Every kernel compiles for every architecture it is meant for, and those that are meant to live in registers do.
//!
//! The run-time compiler is a library that needs no GPU: `PWM_NVRTC_PATH` says where it is. Without it these tests say
//! so and fail; they are behind the feature `kernel-tests`.

mod support;

use crate::support::standin::all;
use crate::support::{specs, tiny};
use pwm::algo::build;
use pwm::app::selftest::cases;
use pwm::backend::cuda::describe_launches;
use pwm::backend::cuda::epoch_graph;
use pwm::config::{Config, Precision, load};
use pwm::device::cuda::Launch;
use pwm::device::cuda::matmul::Matmul;
use pwm::device::cuda::nvrtc::{Image, Nvrtc, Usage};
use pwm::device::cuda::unit::{FILES, units};
use pwm::device::philox::{Philox, Stream};
use pwm::env::{EnvBatch, GradientBound, Mode};
use pwm::ops::loss::squared_error;
use pwm::run::plan::{ArenaPlace as PlanPlace, Plan};
use pwm::run::recorded::complete;
use pwm::sim::cuda::ThreadLayout;
use pwm::sim::size::CLASSES;
use pwm::tape::{DType, Program, Region, Vars, grad};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

/// The last one, whose kernels are the templates of the first, with `PWM_LONG_CASES` alone.
const ARCHITECTURES: [(i32, &str); 3] = [(8, "sm_80"), (9, "sm_90a"), (10, "sm_100a")];

/// What a GPU of compute capability `major` launches, in every precision.
fn launches(c: &Config, major: i32) -> Vec<Launch> {
    [Precision::Fp32, Precision::Tf32, Precision::Bf16].into_iter().flat_map(|p| described(c, major, p)).collect()
}

fn described(c: &Config, major: i32, precision: Precision) -> Vec<Launch> {
    let (vars, programs) = build(c);
    let matmul = Matmul::best(major, precision);
    let mut all = describe_launches(&vars, &programs, &matmul).unwrap().concat().concat();
    all.extend(epoch_graph::describe_launches());
    all
}

/// Shipped configurations, and choices that reach the kernels they leave out. On all architectures but one the robots
/// that are no equal chains stand for each other, except with `PWM_LONG_CASES`: a robot takes the compiler a while, and
/// its kernels differ in constants.
fn configurations(major: i32) -> Vec<Config> {
    let two_hot = ["reward_head=two_hot", "rew_norm=none", "obs_norm=true", "critic_shuffle=true"];
    let ends = ["replay_sampling=episode", "bootstrap=reference", "inertia=exact", "reference_point=world"];
    let mut all = vec![
        tiny::config(&two_hot),
        tiny::config(&ends),
        tiny::shipped("pwm_small"),
        tiny::shipped("pwm_5M"),
        tiny::shipped("pwm_48M"),
        tiny::config(&["dynamics=flow", "flow_head=simnorm", "flow_projection=simplex", "actor=flow"]),
        tiny::shipped("pwm_5M_flow_v2"),
        tiny::shipped("pwm_48M_flow_v2_rk4"),
        tiny::shipped("shac"),
        // Clusters of one, two and five blocks, also of members.
        tiny::config(&[
            "alg=pwm_5M",
            "critic_units=[256,640,512,256]",
            "num_critics=4",
            "num_envs=512",
            "wm_buffer_size=10000",
            "critic_batches=1",
        ]),
        tiny::config(&["alg=shac_small", "subgradient=central", "reference_point=world"]),
        tiny::config(&["alg=shac_small", "env=hopper"]),
        recorded(),
    ];
    if all_robots(major) {
        // On a rail, in the air, large, with rigidly connected bodies.
        let robots = ["dflex-cartpole-balance", "dflex-humanoid-walk", "anymal"];
        all.extend(robots.map(|env| tiny::config(&["alg=shac_small", &format!("env={env}")])));
    }
    all
}

/// A model of two tasks, learned from episodes that are recorded here.
fn recorded() -> Config {
    static INDEX: LazyLock<String> = LazyLock::new(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recorded");
        let _ = std::fs::remove_dir_all(&dir);
        let (data, index) = (dir.join("data").display().to_string(), dir.join("all.idx").display().to_string());
        let pwm = |args: &[&str]| {
            let o = Command::new(env!("CARGO_BIN_EXE_pwm")).args(args).output().unwrap();
            assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
        };
        pwm(&["collect", "--out", &data, "--episodes", "1", "env=dflex-hopper-stand,dflex-cartpole-balance"]);
        pwm(&["data", "index", &data, "--out", &index]);
        index
    });
    let data = format!("data={}", *INDEX);
    complete(load(&["alg=pwm_small_mt", "mode=pretrain", &data]).unwrap()).unwrap()
}

fn all_robots(major: i32) -> bool {
    major == 9 || all()
}

/// Robots of every kind, in every layout: those of the self-test.
fn physics() -> Vec<Launch> {
    let matmul = Matmul::best(8, Precision::Fp32);
    let cases = cases().into_iter().filter(|c| c.name.starts_with("physics"));
    cases.flat_map(|c| c.launches(&matmul).unwrap()).collect()
}

/// What each entry point takes, and the stack that a plan counts for it: entry points of several robots have one name.
/// The self-test's are in no plan.
fn compile((major, arch): (i32, &str)) -> Vec<(Usage, Option<u32>)> {
    let nvrtc = Nvrtc::load().unwrap();
    let mut all: Vec<Launch> = configurations(major).iter().flat_map(|c| launches(c, major)).collect();
    let planned = all.len();
    if all_robots(major) {
        all.extend(physics());
    }
    let (units, which) = units(&all);
    let mut stacks = vec![BTreeMap::new(); units.len()];
    for (launch, unit) in all.iter().zip(which).take(planned) {
        stacks[unit].insert(launch.symbol(), launch.stack);
    }
    let image = |i: usize| {
        let image = nvrtc.compile(&units[i], arch).unwrap_or_else(|e| panic!("{e}"));
        assert!(image.losses.is_empty(), "{arch}: {:?}", image.losses);
        let stack = |u: &Usage| stacks[i].get(&u.symbol).copied();
        image.usage.into_iter().map(|u| (u.clone(), stack(&u))).collect::<Vec<_>>()
    };
    // Side by side.
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let unit = || Some(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)).filter(|&i| i < units.len());
        std::iter::from_fn(unit).flat_map(image).collect::<Vec<_>>()
    };
    std::thread::scope(|s| {
        let threads = [s.spawn(work), s.spawn(work)];
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    })
}

/// Bytes off the chip in which the compiler's own sine reduces a large angle: tasks that show angles have them.
const SINE: u32 = 32;

#[test]
fn every_kernel_compiles_without_spills() {
    for &arch in if all() { &ARCHITECTURES[..] } else { &ARCHITECTURES[..2] } {
        let usage = compile(arch);
        let arch = arch.1;
        assert!(usage.len() > 60, "{} entry points reported for {arch}", usage.len());
        println!("{arch}: registers, shared memory, stack, spills");
        for (u, _) in &usage {
            println!(
                "{:60} {:4} {:6} {:5} {:5}",
                u.symbol,
                u.registers,
                u.shared,
                u.stack,
                u.spill_stores + u.spill_loads
            );
        }
        // The state of an environment lives in registers and in memory on the chip, from reset to reward.
        let is_off_chip = |(u, _): &&(Usage, Option<u32>)| u.symbol.starts_with("env_step") && u.stack > SINE;
        let off_chip: Vec<_> = usage.iter().filter(is_off_chip).collect();
        assert!(off_chip.is_empty(), "{arch}: {off_chip:#?}");
        // A plan counts what a launch says of its stack.
        let beyond: Vec<_> = usage.iter().filter(|(u, stack)| stack.is_some_and(|stack| u.stack > stack)).collect();
        assert!(beyond.is_empty(), "{arch}: {beyond:#?}");
        // Every kernel is meant to have none.
        let spilling: Vec<_> = usage.iter().filter(|(u, _)| u.spill_stores + u.spill_loads > 0).collect();
        assert!(spilling.is_empty(), "{arch}: {spilling:#?}");
    }
}

/// The largest robot that is not refused has room: step and adjoint declare what the bound in `sim::cuda` says. On one
/// architecture, since what is declared is the same on all.
#[test]
fn the_largest_robot_has_room_on_the_chip() {
    let mut vars = Vars::default();
    let task = specs::on_the_largest(&Config::default());
    let env = EnvBatch::new(&mut vars, "env", &[(task, 5)], Mode::Train, Philox::new(1, Stream::Reset));
    let mut p = Program::new("step and back");
    let mut var = |name: &str, shape: &[usize]| vars.add(Region::Control, name, DType::Real, shape);
    let (action, bar) = (var("action", &[env.count, env.act_dim]), var("bar", &[env.count, env.act_dim]));
    let (target, count) = (var("target", &[env.count, env.obs_dim]), var("bounded", &[2]));
    let [action, bar, target, count] = [action, bar, target, count].map(|v| p.var(&vars, v));
    let state = env.state(&mut p, &vars);
    let into = [&[env.count, env.obs_dim][..], &[env.count], &[env.count], &[env.count]].map(|shape| p.real(shape));
    env.step_through(&mut p, &vars, &state, action, GradientBound { norm: 1e3, count }, into);
    let root = squared_error(&mut p, into[0], target, vec![1.0]);
    grad(&mut p, &[(root, 1.0)], &[(action, bar)]);
    let launches = describe_launches(&vars, &[p], &Matmul::best(9, Precision::Fp32)).unwrap().concat().concat();
    let launches: Vec<_> = launches.into_iter().filter(|l| l.kernel.file == "sim/env.cu").collect();
    let (units, _) = units(&launches);
    assert_eq!((launches.len(), units.len()), (2, 1));
    let image = Nvrtc::load().unwrap().compile(&units[0], "sm_90a").unwrap_or_else(|e| panic!("{e}"));
    println!("{:#?}", image.usage);
    let bound = ThreadLayout::tree_shared(CLASSES[CLASSES.len() - 1], 32);
    for launch in &launches {
        let usage = image.usage.iter().find(|u| u.symbol == launch.symbol()).unwrap();
        assert!(usage.stack <= launch.stack && usage.spill_stores + usage.spill_loads == 0, "{usage:?}");
        match launch.kernel.name {
            "env_adjoint" => assert_eq!(usage.shared as usize, bound),
            _ => assert!((usage.shared as usize) < bound),
        }
    }
}

/// What a plan for a device counts for code, and for the compiler while it makes it. In a process of its own, whose
/// memory nothing else fills.
#[test]
fn code_and_compiler_keep_within_the_plan() {
    const ALONE: &str = "PWM_COMPILE_ALONE";
    let Ok(alg) = std::env::var(ALONE) else {
        for alg in ["alg=pwm_48M_flow_v2", "alg=pwm_48M_flow_v2 precision=tf32", "alg=shac"] {
            let out = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "code_and_compiler_keep_within_the_plan", "--nocapture"])
                .env(ALONE, alg)
                .output()
                .unwrap();
            print!("{}", String::from_utf8_lossy(&out.stdout));
            assert!(out.status.success(), "{alg}: {}", String::from_utf8_lossy(&out.stderr));
        }
        return;
    };
    let c = load(&alg.split(' ').collect::<Vec<_>>()).unwrap();
    let plan = Plan::new(&c, PlanPlace::Device);
    let planned = |name: &str| plan.fixed.iter().find(|i| i.name == name).unwrap().bytes;
    let before = resident_peak();
    let launches = described(&c, 9, c.precision);
    let (units, _) = units(&launches);
    // Side by side, as a run compiles them.
    let nvrtc = Nvrtc::load().unwrap();
    let images: Vec<Image> = std::thread::scope(|s| {
        let (nvrtc, jobs) = (&nvrtc, units.iter());
        let jobs: Vec<_> = jobs.map(|u| s.spawn(move || nvrtc.compile(u, "sm_90a").unwrap())).collect();
        jobs.into_iter().map(|j| j.join().unwrap()).collect()
    });
    let code: u64 = images.iter().map(|i| i.code.len() as u64).sum();
    let entries: usize = images.iter().map(|i| i.usage.len()).sum();
    let stack = images.iter().flat_map(|i| &i.usage).map(|u| u.stack).max().unwrap();
    let compiler = resident_peak() - before;
    println!(
        "{alg}: {} files, {entries} entry points, {code} bytes of code ({} planned), stack {stack}, {compiler} bytes \
         while compiling ({} planned)",
        images.len(),
        planned("kernels"),
        planned("compiler")
    );
    assert!(code <= planned("kernels") && compiler <= planned("compiler"));
    let counted = launches.iter().map(|l| l.stack).max().unwrap();
    assert!(stack <= counted);
    // More than a thread of a fresh context has makes the driver take more of the device.
    let extra = plan.fixed.iter().find(|i| i.name == "stack").map_or(0, |i| i.bytes);
    assert_eq!(extra > 0, counted > Launch::USUAL_STACK);
    assert!(extra == 0 || extra >= u64::from(stack) * 2048 * 132, "of an H200");
}

/// The most bytes that were resident so far.
fn resident_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// What is embedded is what lies there.
#[test]
fn every_file_is_in_the_list() {
    fn walk(dir: &std::path::Path, root: &std::path::Path, found: &mut BTreeSet<String>) {
        for path in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let (mut found, root) = (BTreeSet::new(), std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels"));
    walk(&root, &root, &mut found);
    assert_eq!(found, FILES.iter().map(|f| f.0.to_owned()).collect());
}

#[test]
fn every_file_is_launched_by_some_configuration() {
    let of_runs: Vec<Launch> = configurations(9).iter().flat_map(|c| launches(c, 9)).collect();
    let used: BTreeSet<_> = of_runs.iter().chain(&physics()).map(|l| l.kernel.file).collect();
    for (file, _) in FILES.iter().filter(|(f, _)| f.ends_with(".cu")) {
        assert!(used.contains(file), "{file} is not used");
    }
}
