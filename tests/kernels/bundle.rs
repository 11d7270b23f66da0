//! What `scripts/bundle` packs runs from an empty folder, without Rust: on the processor, and on the stand-in driver
//! with the script that measures.
#![cfg(unix)]

use crate::support::standin;
use crate::support::tiny;
use std::path::Path;
use std::process::{Command, Output};

/// A program of the bundle that finds nothing but the system's own tools.
fn run(bundle: &Path, program: &str, args: &[String], environment: &[(&str, String)]) -> Output {
    let mut command = Command::new(bundle.join(program));
    command.args(args).current_dir(bundle).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", bundle);
    command.envs(environment.iter().map(|(k, v)| (k, v))).output().unwrap()
}

fn text(o: &Output) -> String {
    String::from_utf8_lossy(&o.stdout).into_owned() + &String::from_utf8_lossy(&o.stderr)
}

#[test]
fn a_bundle_runs_from_an_empty_folder() {
    let dir = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (packed, elsewhere) = (dir.path().join("pwm-bundle"), dir.path().join("gpu"));
    let programs = Path::new(env!("CARGO_BIN_EXE_pwm")).parent().unwrap();
    let standins = standin::build("");
    let status = Command::new(root.join("scripts/bundle"))
        .args([&packed, programs])
        .env("PWM_NVRTC_PATH", &standins)
        .status()
        .unwrap();
    assert!(status.success());
    std::fs::create_dir(&elsewhere).unwrap();
    let unpacked =
        Command::new("tar").arg("-xzf").arg(packed.with_extension("tar.gz")).arg("-C").arg(&elsewhere).status();
    assert!(unpacked.unwrap().success());
    std::fs::remove_dir_all(&packed).unwrap();
    let bundle = elsewhere.join("pwm-bundle");

    let small = ["num_envs=8", "horizon=4", "wm_batch_size=12", "max_epochs=3", "run_dir=run"];
    let train = |run_dir: &str, device: &str, environment: &[(&str, String)]| {
        let more = [&small[..], &[run_dir, "--device", device]].concat();
        let o = run(&bundle, "bin/pwm-train", &tiny::settings(&more), environment);
        assert!(o.status.success() && text(&o).contains("evaluation"), "{}", text(&o));
        assert!(bundle.join(run_dir.split_once('=').unwrap().1).join("checkpoints/latest.safetensors").is_file());
    };
    train("run_dir=cpu", "auto", &[]);

    // The compiler of the bundle is the stand-in's; the driver is the system's, here the stand-in too.
    let gpu: Vec<_> = standin::environment("").into_iter().filter(|(k, _)| *k != "PWM_NVRTC_PATH").collect();
    let with_compiler: Vec<_> =
        gpu.iter().cloned().chain([("PWM_NVRTC_PATH", text_of(&bundle.join("nvrtc")))]).collect();
    train("run_dir=gpu", "cuda:0", &with_compiler);
    let o = run(&bundle, "measure", &["doctor".into(), "bits_fp32_same".into()], &gpu);
    // There is nothing to compare yet: the step fails, says so, and does not keep the others from running.
    assert!(!o.status.success() && text(&o).contains("bits_fp32_same.txt"), "{}", text(&o));
    let doctor = std::fs::read_to_string(bundle.join("results/doctor.txt")).unwrap();
    let commit = std::fs::read_to_string(bundle.join("COMMIT")).unwrap();
    let head: Vec<_> = doctor.lines().take(2).collect();
    assert!(head[0] == "# pwm doctor" && head[1].contains(commit.lines().next().unwrap()), "{doctor}");
    assert!(doctor.contains("stand-in, sm_80") && doctor.contains("nvrtc"), "{doctor}");

    let o = run(&bundle, "measure", &["docter".into()], &gpu);
    assert!(!o.status.success() && text(&o).contains("there is no step docter"), "{}", text(&o));
    // Results of another build are not mixed with those of this one.
    std::fs::write(bundle.join("COMMIT"), "another\n").unwrap();
    let o = run(&bundle, "measure", &["doctor".into()], &gpu);
    assert!(o.status.success() && text(&o).contains("results of another build are in"), "{}", text(&o));
    assert!(!bundle.join("results/bits_fp32_same.txt").exists());

    // Every step of the script is one that the documents name.
    let o = run(&bundle, "measure", &["--list".into()], &gpu);
    let unmeasured = std::fs::read_to_string(bundle.join("unmeasured.md")).unwrap();
    let steps: Vec<_> = text(&o).lines().map(|l| l.split(':').next().unwrap().to_owned()).collect();
    assert!(steps.len() > 15, "{steps:?}");
    for step in &steps {
        assert!(unmeasured.contains(&format!("`{step}`")), "{step} is not in docs/unmeasured.md");
    }
}

fn text_of(p: &Path) -> String {
    p.display().to_string()
}
