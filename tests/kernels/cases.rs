//! The CUDA kernels without a GPU: compiled as C++ behind a shim and run through the whole back end on a stand-in
//! driver.

use crate::support::standin;
use crate::support::tiny;
use approx::assert_relative_eq;
use pwm::algo::{ExecPlan, Runner, build, metrics, rematerialised};
use pwm::app::selftest::{Case, ENCODED, cases, train_beside_cpu};
use pwm::backend::Target;
use pwm::backend::cuda::Options;
use pwm::config::{Config, Precision, ReplayPlace};
use pwm::device::cuda::driver::Context;
use pwm::device::cuda::matmul::Matmul;
use pwm::run::plan::{ArenaPlace, Plan};
use pwm::run::state::fingerprint;
use pwm::tape::Placement;
use std::collections::BTreeSet;
use std::path::Path;

const PRECISIONS: [Precision; 3] = [Precision::Fp32, Precision::Tf32, Precision::Bf16];

fn target(precision: Precision) -> Target {
    standin::load();
    let context = Context::open(0).unwrap();
    let matmul = Matmul::on(&context.info, precision).unwrap();
    Target::Cuda(context, Options { matmul, ..Options::default() })
}

pub fn check(cases: &[Case], precision: Precision) {
    let target = target(precision);
    let mut failed = vec![];
    for case in cases {
        let o = case.run(1, &target).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        println!("{:58} {:10.1e} {:10.1e} {}", o.name, o.error, o.cpu_error, if o.passed { "" } else { "FAILED" });
        if !o.passed {
            failed.push(format!("{}:{}", o.name, o.detail));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_case_matches_double_precision() {
    let others = [CLUSTER, ROBOTS];
    let list: Vec<_> = every_case().into_iter().filter(|c| !others.iter().any(|o| c.name.starts_with(o))).collect();
    let list = if checks_accesses() && !standin::all() { sample(list) } else { list };
    check(&list, Precision::Fp32);
    let mut elsewhere = [&EPOCHS[..], &RECORDED, &ON_HOPPER, &PHYSICS].concat();
    elsewhere.sort();
    assert_eq!(missed(), elsewhere, "kernels that no case launches");
}

/// One case in thirteen, and as many more as launch every kernel; the later ones of a kind are the larger ones.
fn sample(cases: Vec<Case>) -> Vec<Case> {
    let (matmul, mut seen, mut kept) = (Matmul::best(8, Precision::Fp32), BTreeSet::new(), vec![]);
    for (i, case) in cases.into_iter().enumerate().rev() {
        let names: Vec<_> = case.launches(&matmul).unwrap().iter().map(|l| l.kernel.name).collect();
        if i % 13 == 0 || names.iter().any(|name| !seen.contains(name)) {
            seen.extend(names);
            kept.push(case);
        }
    }
    kept
}

/// Under the address sanitizer, for which the compiler takes three times as long.
fn checks_accesses() -> bool {
    std::env::var("PWM_STANDIN_FLAGS").is_ok()
}

/// What no operation launches but a machine of epochs: epochs.rs runs them.
const EPOCHS: [&str; 3] = ["epoch_prologue", "epoch_epilogue", "epoch_check_finite"];
/// What needs recorded episodes: epochs.rs.
const RECORDED: [&str; 2] = ["windows_take", "windows_count"];
/// What is launched in tf32 and bf16 on a GPU of compute capability 9 alone.
const ON_HOPPER: [&str; 4] = ["pack_rows", "product_tma", "round_rows", "transpose_round"];

/// Cases for the GPUs whose blocks form clusters: to the others they are layers like any.
const CLUSTER: &str = "cluster";

/// Cases of robots without a task, and their kernels: they have a test of their own.
const ROBOTS: &str = "physics";
const PHYSICS: [&str; 2] = ["physics_adjoint", "physics_step"];

/// Trees with every kind of joint, and equal chains in both layouts, forward and back.
#[test]
fn robots_of_every_kind_match_double_precision() {
    let list: Vec<_> = cases().into_iter().filter(|c| c.name.starts_with(ROBOTS)).collect();
    check(&list, Precision::Fp32);
}

/// Kernels that this thread has not launched.
fn missed() -> Vec<String> {
    let launched = standin::launched();
    let instance = |name: &str| {
        let of = |s: &String| s.strip_prefix(name).is_some_and(|rest| rest == "_k" || is_template(rest));
        launched.iter().any(of)
    };
    kernels().into_iter().filter(|name| !instance(name)).collect()
}

/// Cases that take a processor seconds: with `PWM_LONG_CASES` alone, and under no other order of threads. Three of
/// those that the copy unit takes part in are left for that, one of them with clusters.
const LONG: [&str; 11] = [
    "2730x256",
    "8203x40",
    "17001x300",
    "1281x1153",
    "3x2817",
    "3x2900",
    "1x3100",
    "1x1540",
    "1x4100",
    "1x2500",
    "4x3080",
];

fn long() -> bool {
    standin::all() && !harsh()
}

/// One of the long cases, without which a kernel for the copy unit would not run.
const PACKED: &str = "2730x256";

/// Whether this is a test again, in another environment.
fn harsh() -> bool {
    ["PWM_STANDIN_ORDER", "PWM_STANDIN_FLAGS", "PWM_PRODUCTS"].iter().any(|v| std::env::var(v).is_ok())
}

/// Whether the copy unit is there, and nothing keeps products from it.
fn on_hopper() -> bool {
    std::env::var("PWM_STANDIN_MAJOR").is_ok_and(|m| m == "9") && !harsh()
}

fn every_case() -> Vec<Case> {
    let is_left_out =
        |name: &str| !long() && LONG.iter().any(|l| name.contains(l)) && !(on_hopper() && name.contains(PACKED));
    cases().into_iter().filter(|c| !is_left_out(&c.name)).collect()
}

/// The cases with matrix products, in every precision and on the units that `PWM_PRODUCTS` leaves.
fn products(precision: Precision) {
    let hopper = std::env::var("PWM_STANDIN_MAJOR").is_ok_and(|m| m == "9");
    let mut with =
        ["linear", "ensemble", "product", "flow euler", "flow heun", "flow rk4 2"].map(String::from).to_vec();
    with.extend(hopper.then(|| format!("{CLUSTER} {precision}")));
    let list: Vec<_> = every_case().into_iter().filter(|c| with.iter().any(|w| c.name.starts_with(w))).collect();
    check(&list, precision);
    if on_hopper() && long() {
        // The last two parameters of the template: LayerNorm follows, in so many blocks a row.
        let launched = standin::launched();
        let follows = |end: &str| launched.iter().any(|s| s.starts_with("product_tma") && s.ends_with(end));
        let ends: &[&str] = if precision == Precision::Bf16 {
            &["_1_4_k", "_2_8_k", "_2_3_k", "_3_5_k"]
        } else {
            &["_3_1_k", "_1_2_k"]
        };
        let missed: Vec<_> = ends.iter().filter(|e| !follows(e)).collect();
        assert!(missed.is_empty(), "{missed:?}");
    }
    if on_hopper() && precision == Precision::Bf16 {
        let missed = missed();
        assert!(ON_HOPPER.iter().all(|k| !missed.iter().any(|m| m == k)), "{missed:?}");
    }
}

#[test]
fn products_in_tf32() {
    products(Precision::Tf32);
}

#[test]
fn products_in_bf16() {
    products(Precision::Bf16);
}

/// The same on a GPU with the copy unit, and products by groups of warps.
#[test]
fn products_on_other_units() {
    for test in ["products_in_tf32", "products_in_bf16"] {
        standin::again(test, &[major("9")]);
    }
}

/// Without clusters, and on older units, as a user may force it: the templates are those of the tests before.
#[test]
#[ignore = "a minute: scripts/full"]
fn products_on_forced_units() {
    for units in ["wgmma", "mma", "fma"] {
        forced(units);
    }
}

fn major(m: &str) -> (&'static str, String) {
    ("PWM_STANDIN_MAJOR", m.to_owned())
}

fn forced(units: &str) {
    standin::again("products_in_bf16", &[major("9"), ("PWM_PRODUCTS", units.into())]);
}

/// `_8_m1_k`: values of template parameters.
fn is_template(rest: &str) -> bool {
    let values = rest.strip_prefix('_').and_then(|r| r.strip_suffix("_k"));
    values.is_some_and(|v| v.split('_').all(|v| v.trim_start_matches('m').parse::<u64>().is_ok()))
}

/// Names of all kernels, from the tables that declare them.
fn kernels() -> BTreeSet<String> {
    fn walk(dir: &Path, names: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, names);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            // A table ends with the first brace at the beginning of a line.
            for table in text.split("cuda_kernels! {").skip(1).filter_map(|t| t.split("\n}").next()) {
                let declared = table.lines().filter_map(|l| l.trim().strip_prefix("fn ")?.split_once('['));
                names.extend(declared.filter(|(_, rest)| rest.contains(']')).map(|(name, _)| name.to_owned()));
            }
        }
    }
    let mut names = BTreeSet::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut names);
    assert!(names.len() > 50, "{names:?}");
    names
}

/// A precision, and the compute capability of a GPU.
type Products = (&'static str, &'static str);

fn products_again(which: usize, products: &[Products]) {
    for (precision, major) in products {
        again(which, &format!("products_in_{precision}"), major);
    }
}

/// A test again in an environment of [`standin::harsh`].
fn again(which: usize, test: &str, major: &str) {
    let environment = &standin::harsh()[which];
    standin::again(test, &[&environment[..], &[("PWM_STANDIN_MAJOR", major.into())]].concat());
}

/// All cases again but those of matrix products in tensor cores.
fn cases_again(which: usize) {
    again(which, "every_case_matches_double_precision", "8");
    again(which, "robots_of_every_kind_match_double_precision", "8");
}

/// A missing barrier shows when the threads of a block run in another order: in any precision, as all have the same.
#[test]
fn the_order_of_threads_does_not_matter_from_behind() {
    cases_again(0);
}

#[test]
fn the_order_of_threads_does_not_matter_at_random() {
    cases_again(1);
    products_again(1, &[("tf32", "8")]);
}

#[test]
fn no_access_is_stray() {
    cases_again(2);
}

/// The same templates as in the tests before, in other orders, types and tiles.
#[test]
#[ignore = "minutes of compiling: scripts/full"]
fn other_products_in_harsh_environments() {
    products_again(0, &[("bf16", "8"), ("bf16", "9"), ("tf32", "9")]);
    products_again(1, &[("tf32", "9"), ("bf16", "8")]);
    products_again(2, &[("bf16", "8"), ("bf16", "9"), ("tf32", "8"), ("tf32", "9")]);
}

/// Settings that reach other operations than the defaults do.
const OTHER: [&str; 6] = [
    "reward_head=two_hot",
    "rew_norm=none",
    "obs_norm=true",
    "critic_shuffle=true",
    "replay_sampling=episode",
    "bootstrap=reference",
];

/// Flow dynamics and a flow policy.
const FLOW: [&str; 7] = [
    "latent=encoded",
    "obs_norm=false",
    "dynamics=flow",
    "flow_substeps=2",
    "flow_keep_substeps=false",
    "flow_projection=simplex",
    "actor=flow",
];

#[test]
fn training_follows_the_processor() {
    for precision in PRECISIONS {
        let all = [&[][..], &FLOW, ENCODED, &OTHER];
        // What else there is multiplies as these two do.
        let some = if precision == Precision::Fp32 || long() { &all[..] } else { &all[..2] };
        for more in some {
            let t = train_beside_cpu(&target(precision), 3, more).unwrap();
            println!("{precision}: {t}");
            assert!(t.passed(), "{precision} {more:?}: {t}");
        }
    }
}

/// The gradient through the simulator, and all that learns from it.
#[test]
fn shac_follows_the_processor() {
    let c = tiny::config(&["alg=shac", "num_envs=12"]);
    let run = |target: &Target| -> Vec<[f64; 3]> {
        let exec_plan = ExecPlan::rematerialising(&rematerialised(&c, build(&c).1.len()));
        let mut t = Runner::<f32>::from_plan(&c, target, &exec_plan).unwrap();
        let mut epoch = || {
            t.run_epoch()
                .map(|r| [r.get(metrics::LOSS_ACTOR), r.get(metrics::LOSS_CRITIC), r.get(metrics::GRAD_NORM_ACTOR)])
                .unwrap()
        };
        (0..3).map(|_| epoch()).collect()
    };
    let (cpu, gpu) = (run(&Target::Cpu), run(&target(Precision::Fp32)));
    assert_relative_eq!(gpu.as_flattened(), cpu.as_flattened(), max_relative = 1e-3);
}

fn train(options: Options) -> (u64, Vec<u64>) {
    standin::load();
    let target = Target::Cuda(Context::open(0).unwrap(), options);
    let mut t = Runner::<f32>::on(&tiny::config(&["num_envs=6"]), &target).unwrap();
    for _ in 0..5 {
        t.run_epoch().unwrap();
    }
    let e = t.evaluate(|_| {}).unwrap();
    (fingerprint(&t), e.returns().map(|r| r.to_bits()).collect())
}

#[test]
fn graphs_and_single_launches_give_the_same_bits_twice() {
    let once = train(Options::default());
    assert_eq!(once, train(Options::default()), "twice");
    assert_eq!(once, train(Options { eager: true, ..Options::default() }), "without graphs");
}

/// In the device's memory, and in the host's, which kernels then read and write in place.
#[test]
fn wherever_the_replay_lies_the_bits_are_the_same() {
    let target = target(Precision::Fp32);
    // A ring that turns over.
    let c = tiny::config(&["num_envs=6", "wm_buffer_size=250", "replay_unfinished=true"]);
    let train = |replay: Placement| {
        let Target::Cuda(context, _) = &target else { unreachable!("invariant: a GPU") };
        let free = || context.memory().unwrap().0;
        let (before, rematerialised) = (free(), rematerialised(&c, build(&c).1.len()));
        let mut t = Runner::<f32>::from_plan(&c, &target, &ExecPlan { rematerialised, replay }).unwrap();
        let taken = before - free();
        for _ in 0..8 {
            t.run_epoch().unwrap();
        }
        assert!(t.bootstrapped());
        (fingerprint(&t), taken, t.machine.offloaded_bytes())
    };
    let (own, pinned) = (train(Placement::Arena), train(Placement::Pinned));
    assert_eq!(own.0, pinned.0);
    // Both are on the device, or on both sides, what was planned to be there.
    let plan = |replay| Plan::new(&Config { replay, ..c.clone() }, ArenaPlace::Device);
    for (got, plan) in [(own, plan(ReplayPlace::Device)), (pinned, plan(ReplayPlace::Host))] {
        let tables = plan.lines().find(|(item, _)| item.name == "epoch tables").unwrap().1[1];
        assert_eq!((got.1 as u64, got.2 as u64), (plan.arena_bytes() + tables, plan.offloaded_bytes()));
    }
}

/// The program from outside: limits of a device, a replay that does not fit there, and what the header says of it.
#[test]
fn a_device_has_a_budget_and_a_replay_that_exceeds_it_moves_to_the_host() {
    const SETTINGS: [&str; 5] =
        ["max_epochs=4", "eval_every=4", "num_envs=6", "wm_buffer_size=100_000", "replay_unfinished=true"];
    let dir = tempfile::tempdir().unwrap();
    let train = |name: &str, more: &[&str], environment: &[(&str, &str)]| {
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_pwm-train"))
            .args(tiny::settings(&["device=cuda:0"]))
            .args(SETTINGS)
            .args(more)
            .arg(format!("run_dir={}", dir.path().join(name).display()))
            .envs(standin::environment(""))
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (out.status.code(), text(&out.stdout), text(&out.stderr))
    };
    let c = tiny::config(&SETTINGS);
    let plan = Plan::new(&c, ArenaPlace::Device);
    let state = |name: &str| std::fs::read(dir.path().join(name).join("checkpoints/latest.safetensors")).unwrap();

    // What is free on the device, less a margin; the context is there already.
    let (status, said, errors) = train("free", &[], &[]);
    assert_eq!(status, Some(0), "{errors}");
    assert!(
        ["free on stand-in", "margin", "in the device's memory", "are taken now"].iter().all(|w| said.contains(w)),
        "{said}"
    );
    // One byte less than all of it: the replay moves, and no bit changes.
    let less = format!("device_mem={}", plan.device() - 1);
    let (status, said, errors) = train("host", &[&less], &[]);
    assert_eq!(status, Some(0), "{errors}");
    assert!(said.contains("locked, read by the device in place") && said.contains("(device_mem)"), "{said}");
    assert!(state("free") == state("host"));
    // A device on which less is free than was asked for: what is free counts.
    let context = plan.fixed.iter().find(|i| i.name == "context").unwrap().bytes;
    let free = ((plan.device() - 1000) * 50 / 49 - context).to_string();
    let (status, said, errors) = train("small", &["device_mem=40G"], &[("PWM_STANDIN_MEMORY", &free)]);
    assert_eq!(status, Some(0), "{errors}");
    assert!(said.contains("locked, read by the device in place"), "{said}");
    // Too small for that too; and a host that locks no memory.
    let (status, _, errors) = train("no", &[], &[("PWM_STANDIN_MEMORY", "100000")]);
    assert!(status == Some(6) && errors.contains("of device memory") && errors.contains("largest: "), "{errors}");
    let (status, _, errors) = train("no", &["replay=host"], &[("PWM_STANDIN_LOCKED", "1000")]);
    assert!(status == Some(6) && errors.contains("cannot lock") && errors.trim().lines().count() == 1, "{errors}");
    // A file cannot be read from there, whether the device is named or found.
    for device in ["device=cuda:0", "device=auto"] {
        let (status, _, errors) = train("no", &["replay=file", device], &[]);
        assert!(status == Some(2) && errors.contains("replay") && errors.contains("host"), "{errors}");
    }
    assert!(!dir.path().join("no").exists());
}

/// A run says what it multiplies in, and stores it.
#[test]
fn the_header_names_the_products() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let train = |run: &std::path::Path, device: &str, environment: &[(&str, &str)]| {
        let run_dir = format!("run_dir={}", run.display());
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_pwm-train"))
            .args(tiny::settings(&[&run_dir, device, "precision=bf16", "max_epochs=1", "lr_schedule=constant"]))
            .envs(standin::environment(""))
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let info = std::fs::read_to_string(run.join("run.json")).unwrap();
        (String::from_utf8_lossy(&out.stdout).into_owned(), info)
    };
    let (text, info) = train(&a, "device=cuda:0", &[]);
    assert!(text.contains("bf16 products on tensor cores by mma.sync"), "{text}");
    assert!(info.contains("\"precision\": \"bf16\""), "{info}");
    let (text, info) = train(&b, "device=auto", &[("LD_LIBRARY_PATH", "/nowhere")]);
    assert!(text.contains("fp32 (precision=bf16 is for a GPU)"), "{text}");
    assert!(info.contains("\"precision\": \"fp32\""), "{info}");
}

/// Whether the command succeeds, what it prints and what it complains of, in an environment of its own.
fn pwm(args: &[&str], environment: &[(&str, &str)]) -> (bool, String, String) {
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_pwm"))
        .args(args)
        .envs(standin::environment(""))
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.success(), text(&out.stdout), text(&out.stderr))
}

#[test]
fn one_clear_line_for_everything_that_is_missing() {
    let failing = |environment: &[(&str, &str)], device: &str, words: &str| {
        let (ok, _, text) = pwm(&["selftest", "--device", device], environment);
        assert!(!ok && text.contains(words) && text.trim().lines().count() == 1, "{environment:?}: {text}");
    };
    failing(&[("LD_LIBRARY_PATH", "/nowhere")], "cuda:0", "no CUDA driver");
    failing(&[("PWM_STANDIN_VERSION", "11040")], "cuda:0", "version 11.4, needed is 12.0");
    failing(&[("PWM_STANDIN_DEVICES", "0")], "cuda:0", "no GPU 0: the driver shows 0");
    failing(&[], "cuda:3", "no GPU 3: the driver shows 1");
    failing(&[("PWM_STANDIN_MAJOR", "7")], "cuda:0", "compute capability 7.0, needed is 8.0");
    failing(&[("PWM_NVRTC_PATH", "/nowhere")], "cuda:0", "no run-time compiler");
    failing(&[("PWM_PRODUCTS", "wmma")], "cuda:0", "PWM_PRODUCTS=wmma is none of fma, mma, wgmma and clusters");
    failing(&[("PWM_STANDIN_MEMORY", "4")], "cuda:0", "the GPU has no room for");
    let (ok, text, _) = pwm(&["doctor"], &[]);
    assert!(ok && ["stand-in, sm_80", "CUDA 13.0", "NVRTC 0.1"].iter().all(|w| text.contains(w)), "{text}");
    assert!(text.contains("precision=tf32: tf32 products on tensor cores by mma.sync"), "{text}");
    let (_, text, _) = pwm(&["doctor"], &[("PWM_STANDIN_MAJOR", "9")]);
    assert!(text.contains("precision=bf16: bf16 products on tensor cores by wgmma in clusters"), "{text}");
    let (_, text, _) = pwm(&["doctor"], &[("PWM_STANDIN_MAJOR", "9"), ("PWM_PRODUCTS", "fma")]);
    assert!(text.contains("precision=bf16: fp32 products on fused multiply-adds"), "{text}");
    let (ok, text, _) = pwm(&["doctor"], &[("LD_LIBRARY_PATH", "/nowhere"), ("PWM_NVRTC_PATH", "/nowhere")]);
    assert!(ok && text.contains("no CUDA driver") && text.contains("no run-time compiler"), "{text}");
}
