//! A GPU that cannot be used, or that fails on the way: one clear line, the exit status, and a checkpoint that is
//! whole.

use crate::support::standin;
use crate::support::tiny;
use std::path::Path;
use std::process::Command;

struct Ended {
    status: i32,
    out: String,
    err: String,
}

/// A program on the stand-in driver, in an environment of its own.
fn run(program: &str, args: &[String], environment: &[(&str, &str)]) -> Ended {
    let out = Command::new(program)
        .args(args)
        .envs(standin::environment(""))
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { status: out.status.code().unwrap(), out: text(&out.stdout), err: text(&out.stderr) }
}

fn pwm(args: &[&str], environment: &[(&str, &str)]) -> Ended {
    run(env!("CARGO_BIN_EXE_pwm"), &args.iter().map(|a| (*a).into()).collect::<Vec<_>>(), environment)
}

/// A small run, with more settings and flags.
fn train(dir: &Path, more: &[&str], environment: &[(&str, &str)]) -> Ended {
    let run_dir = format!("run_dir={}", dir.display());
    let small =
        ["num_envs=8", "horizon=4", "wm_batch_size=12", "max_epochs=8", "eval_every=4", "save_every=2", "threads=1"];
    let args = tiny::settings(&[&small[..], &[&run_dir], more].concat());
    run(env!("CARGO_BIN_EXE_pwm-train"), &args, environment)
}

/// Exactly one line, which says this.
fn one_line(text: &str, words: &str) {
    let lines: Vec<_> = text.lines().filter(|l| l.starts_with("error: ")).collect();
    assert!(lines.len() == 1 && lines[0].contains(words), "{words}: {text}");
}

#[test]
fn a_gpu_that_is_taken_is_named() {
    for (status, words) in [("46", "is taken: a process that does not share it"), ("2", "is taken: its memory is full")]
    {
        let busy = [("PWM_STANDIN_CONTEXT", status)];
        let e = pwm(&["selftest", "--device", "cuda:0"], &busy);
        assert_eq!(e.status, 1);
        one_line(&e.err, words);
        let doctor = pwm(&["doctor"], &busy);
        assert!(doctor.status == 0 && doctor.out.contains(words), "{}", doctor.out);
    }
}

/// A compiler that is older than the GPU compiles for the newest architecture that it knows, and the driver translates;
/// one that knows none the GPU can run is an error.
#[test]
fn an_architecture_that_the_compiler_does_not_know() {
    let newer = [("PWM_STANDIN_MAJOR", "9"), ("PWM_STANDIN_ARCH", "80")];
    let doctor = pwm(&["doctor"], &newer);
    assert!(doctor.out.contains("does not know sm_90a: it compiles for compute_80"), "{}", doctor.out);
    let dir = tempfile::tempdir().unwrap();
    let e = train(&dir.path().join("run"), &["max_epochs=1", "--device", "cuda:0"], &newer);
    assert!(e.status == 0 && e.out.contains("stand-in"), "{}{}", e.out, e.err);

    let older = [("PWM_STANDIN_ARCH", "75")];
    let e = pwm(&["selftest", "--device", "cuda:0"], &older);
    one_line(&e.err, "NVRTC 0.1, knows no architecture that stand-in (sm_80) can run");
    assert!(pwm(&["doctor"], &older).out.contains("knows no architecture"));
}

/// What a compiler of CUDA 13 makes is nothing that a driver of CUDA 12 runs.
#[test]
fn a_compiler_newer_than_the_driver_is_not_used() {
    let newer = [("PWM_STANDIN_NVRTC", "13"), ("PWM_STANDIN_VERSION", "12040")];
    let words = "is NVRTC 13.1, and the driver, of CUDA 12.4, runs only what older ones make";
    one_line(&pwm(&["selftest", "--device", "cuda:0"], &newer).err, words);
    assert!(pwm(&["doctor"], &newer).out.contains(words));
    let same = pwm(&["doctor"], &[("PWM_STANDIN_NVRTC", "12"), ("PWM_STANDIN_VERSION", "12040")]);
    assert!(same.out.contains("NVRTC 12.1"), "{}", same.out);
}

/// `auto` takes the processor, and says why if there is a GPU that it could have taken.
#[test]
fn auto_says_why_not() {
    let dir = tempfile::tempdir().unwrap();
    let go = |name: &str, environment: &[(&str, &str)]| {
        let e = train(&dir.path().join(name), &["max_epochs=1", "--device", "auto"], environment);
        assert_eq!(e.status, 0, "{}", e.err);
        e
    };
    let e = go("compiler", &[("PWM_NVRTC_PATH", "/nowhere")]);
    assert!(e.err.contains("device=auto takes the processor: no run-time compiler"), "{}", e.err);
    let e = go("none", &[("LD_LIBRARY_PATH", "/nowhere")]);
    assert!(!e.err.contains("takes the processor"), "{}", e.err);
    let e = go("gpu", &[]);
    assert!(e.out.contains("stand-in"), "{}", e.out);
}

/// What does not fit is refused before anything is computed, whoever notices.
#[test]
fn too_little_memory_on_the_gpu() {
    let dir = tempfile::tempdir().unwrap();
    let little = [("PWM_STANDIN_MEMORY", "400000")];
    let e = train(&dir.path().join("a"), &["--device", "cuda:0"], &little);
    assert_eq!(e.status, 6, "{}", e.err);
    assert!(e.err.contains("free on stand-in"), "{}", e.err);
    // Nothing is planned here: the allocation says it.
    let e = pwm(&["selftest", "--device", "cuda:0"], &[("PWM_STANDIN_MEMORY", "4")]);
    assert_eq!(e.status, 6, "{}", e.err);
    one_line(&e.err, "the GPU has no room for");
}

/// A driver newer than this program returns codes that it does not know: the line says the number.
#[test]
fn a_code_that_nobody_knows_is_said() {
    let e = pwm(&["selftest", "--device", "cuda:0"], &[("PWM_STANDIN_CONTEXT", "999999")]);
    assert_eq!(e.status, 1, "{}", e.err);
    one_line(&e.err, "is taken: code 999999, a code that the driver does not explain");
    let dir = tempfile::tempdir().unwrap();
    let failing = [("PWM_STANDIN_FAIL", "36"), ("PWM_STANDIN_STATUS", "999999")];
    let e = train(dir.path(), &["--device", "cuda:0"], &failing);
    assert_eq!(e.status, 1, "{}{}", e.out, e.err);
    one_line(&e.err, "cuStreamSynchronize failed with code 999999: a code that the driver does not explain");
}

/// Threads get the stack that the kernels need before anything is recorded.
#[test]
fn the_stack_is_there_before_a_graph() {
    let dir = tempfile::tempdir().unwrap();
    let e = train(dir.path(), &["--device", "cuda:0"], &[("PWM_STANDIN_STACK", "2400")]);
    assert_eq!(e.status, 0, "{}{}", e.out, e.err);
}

/// Compiled code that a crash cut short is compiled once more, and is whole again on the disk.
#[test]
fn a_damaged_cache_is_mended() {
    let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let environment = [("PWM_CACHE", cache.path().to_str().unwrap())];
    let files = || -> std::collections::BTreeMap<_, _> {
        let list = std::fs::read_dir(cache.path()).unwrap().map(|f| f.unwrap().path());
        list.map(|f| (f.clone(), std::fs::read(f).unwrap())).collect()
    };
    let run = |name: &str| {
        let e = train(&dir.path().join(name), &["--device", "cuda:0", "max_epochs=1"], &environment);
        assert_eq!(e.status, 0, "{}{}", e.out, e.err);
    };
    run("first");
    let whole = files();
    assert!(whole.len() > 5 && whole.keys().all(|f| f.extension().is_some_and(|e| e == "cubin")), "{whole:?}");
    for (file, code) in &whole {
        std::fs::write(file, &code[..code.len() / 2]).unwrap();
    }
    run("second");
    assert_eq!(files(), whole);
}

/// A kernel that fails takes its context with it: the run ends with one line, and goes on from its last checkpoint to
/// what it would have been.
#[test]
fn a_launch_that_fails_leaves_the_last_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, failed) = (dir.path().join("whole"), dir.path().join("failed"));
    let latest = |run: &Path| std::fs::read(run.join("checkpoints/latest.safetensors")).unwrap();
    assert_eq!(train(&whole, &["--device", "cuda:0"], &[]).status, 0);
    // Initialisation, an evaluation of 24 steps, and some epochs.
    let e = train(&failed, &["--device", "cuda:0"], &[("PWM_STANDIN_FAIL", "36")]);
    assert_eq!(e.status, 1, "{}{}", e.out, e.err);
    one_line(&e.err, "unspecified launch failure; the last checkpoint is whole, --resume goes on from it");
    assert_ne!(latest(&failed), latest(&whole));
    assert_eq!(train(&failed, &["--device", "cuda:0"], &[]).status, 0);
    assert_eq!(latest(&failed), latest(&whole), "resumed");
}
