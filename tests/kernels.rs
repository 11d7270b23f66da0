//! The CUDA kernels without a GPU: compiled as C++ behind a shim and run through the whole back end on a stand-in driver.

#[path = "support/standin.rs"]
mod standin;
#[path = "support/tiny.rs"]
mod tiny;

use pwm::algo::pwm::Trainer;
use pwm::algo::{Learner, repeats, shac, written};
use pwm::app::selftest::{Case, ENCODED, cases, train_beside_cpu};
use pwm::device::cuda::driver::Context;
use pwm::run::state::fingerprint;
use pwm::tape::cuda::Options;
use pwm::tape::exec::Target;
use std::collections::BTreeSet;
use std::path::Path;

fn target() -> Target {
    standin::load();
    Target::Cuda(Context::open(0).unwrap(), Options::default())
}

fn check(cases: &[Case]) {
    let target = target();
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
    check(&cases());
    let launched = standin::launched();
    let instance = |name: &str| {
        let of = |s: &String| s.strip_prefix(name).is_some_and(|rest| rest == "_k" || is_template(rest));
        launched.iter().any(of)
    };
    let missed: Vec<_> = kernels().into_iter().filter(|name| !instance(name)).collect();
    // Those of rounds are no operations: tests/rounds.rs runs them.
    assert_eq!(missed, ["round_begin", "round_end", "round_watch"], "kernels that no case launches");
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
            for table in text.split("cuda_kernels! {").skip(1) {
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

/// A missing barrier shows when the threads of a block run in another order, a stray access under the sanitizer.
#[test]
fn neither_the_order_of_threads_nor_a_stray_access_matters() {
    for environment in standin::harsh() {
        standin::again("every_case_matches_double_precision", &environment);
    }
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
    for more in [&[][..], ENCODED, &OTHER, &FLOW] {
        let t = train_beside_cpu(&target(), 3, more).unwrap();
        println!("{t}");
        assert!(t.passed(), "{t}");
    }
}

/// The gradient through the simulator, and all that learns from it.
#[test]
fn shac_follows_the_processor() {
    let c = tiny::config(&["alg=shac", "num_envs=12"]);
    let run = |target: &Target| -> Vec<[f64; 3]> {
        let taken = repeats(&c, written(&c).1.len());
        let mut t = shac::Trainer::<f32>::repeating_on(&c, target, &taken).unwrap();
        let mut epoch = || t.run_epoch().map(|r| [r.actor_loss, r.critic_loss, r.actor_grad_norm]).unwrap();
        (0..3).map(|_| epoch()).collect()
    };
    let (cpu, gpu) = (run(&Target::Cpu), run(&target()));
    for (a, b) in cpu.as_flattened().iter().zip(gpu.as_flattened()) {
        assert!((a - b).abs() <= 1e-3 * a.abs(), "{cpu:?} {gpu:?}");
    }
}

fn train(options: Options) -> (u64, Vec<u64>) {
    standin::load();
    let target = Target::Cuda(Context::open(0).unwrap(), options);
    let mut t = Trainer::<f32>::on(&tiny::config(&["num_envs=12"]), &target).unwrap();
    for _ in 0..5 {
        t.run_epoch().unwrap();
    }
    let e = t.evaluate(|_| {}).unwrap();
    (fingerprint(&t), e.returns.iter().map(|r| r.to_bits()).collect())
}

#[test]
fn graphs_and_single_launches_give_the_same_bits_twice() {
    let once = train(Options::default());
    assert_eq!(once, train(Options::default()), "twice");
    assert_eq!(once, train(Options { eager: true }), "without graphs");
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
    failing(&[("PWM_STANDIN_MEMORY", "4")], "cuda:0", "the GPU has no room for");
    let (ok, text, _) = pwm(&["doctor"], &[]);
    assert!(ok && ["stand-in, sm_80", "CUDA 13.0", "NVRTC 0.1"].iter().all(|w| text.contains(w)), "{text}");
    let (ok, text, _) = pwm(&["doctor"], &[("LD_LIBRARY_PATH", "/nowhere"), ("PWM_NVRTC_PATH", "/nowhere")]);
    assert!(ok && text.contains("no CUDA driver") && text.contains("no run-time compiler"), "{text}");
}
