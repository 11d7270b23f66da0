//! A run that is killed again and again, and rolled back now and then, ends as one that never was: state, policies,
//! metrics, incidents, pictures, and what it says of itself.
//!
//! Twenty kills; `PWM_KILLS=200 cargo test --release --test run kill` (scripts/full) for more.
#![cfg(unix)]

use crate::support::ant::{MOVIE, STILL};
use crate::support::events;
use crate::support::tiny;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::rows::rows;
use pwm::device::philox::{Philox, Stream};
use pwm::io::checkpoint::Checkpoint;
use pwm::io::tensorboard;
use pwm::run::folder;
use pwm::run::incidents::{self, IncidentKind};
use pwm::run::state;

/// Starts or continues the run: the same command every time, but for where the replay lies, which changes nothing.
fn start(run: &Path, epochs: u64, replay: &str) -> std::process::Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pwm-train"));
    let length = format!("max_epochs={epochs}");
    command.args(tiny::settings(&[&length, "threads=1", "save_every=5", "log_every=4", "eval_every=6", "keep_best=2"]));
    command.args(["collapse=rollback", "collapse_fraction=0.8", "max_rollbacks=1000", "rollback_lr_factor=0.98"]);
    command.arg(format!("run_dir={}", run.display())).arg(format!("replay={replay}"));
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn killed_anywhere_it_ends_as_if_it_never_was() {
    let kills: u64 = std::env::var("PWM_KILLS").map_or(20, |n| n.parse().unwrap());
    // Long enough to go back more than once, however few kills there are.
    let epochs = 18 * kills.max(20);
    let dir = tempfile::tempdir().unwrap();
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    assert!(start(&whole, epochs, "device").wait_with_output().unwrap().status.success());

    let rng = Philox::new(7, Stream::Init);
    let epoch_on_disk = |run: &Path| match folder::latest(run) {
        file if file.is_file() => state::epoch_of(&Checkpoint::load(&file).unwrap()).unwrap(),
        _ => 0,
    };
    for kill in 0..kills {
        let before = epoch_on_disk(&killed);
        let mut child = start(&killed, epochs, ["file", "host", "device", "auto"][kill as usize % 4]);
        // The first at any moment of its birth, others at any of their return, most when they have got on a little.
        let (goal, most) = if kill % 5 == 0 { (before, 150_000.0) } else { (before + 3, 20_000.0) };
        for _ in 0..60_000 {
            if epoch_on_disk(&killed) >= goal {
                break;
            }
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself at kill {kill}");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros((most * rng.uniform(kill, 0)) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(epoch_on_disk(&killed) >= before, "kill {kill}: never a step back");
    }
    let last = start(&killed, epochs, "file").wait_with_output().unwrap();
    assert!(last.status.success(), "{}", String::from_utf8_lossy(&last.stderr));

    // Every policy that is kept, the state, the incidents, the pictures of the best policy.
    let policies = |run: &Path| {
        let names = std::fs::read_dir(run.join("checkpoints")).unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<_> = names.map(|n| Path::new("checkpoints").join(n)).collect();
        names.sort();
        names
    };
    let names = policies(&whole);
    assert_eq!((names.len(), &names), (4, &policies(&killed)), "best, two of the best, latest");
    let beside = [incidents::FILE_NAME, MOVIE, STILL].map(|n| Path::new(n).to_path_buf());
    for name in names.iter().chain(&beside) {
        let bytes = |run: &Path| std::fs::read(run.join(name)).unwrap();
        assert!(bytes(&whole) == bytes(&killed), "{} differs", name.display());
    }
    let rollbacks = incidents::read(&whole).unwrap().iter().filter(|i| i.kind == IncidentKind::Rollback).count();
    assert!(rollbacks > 1, "{rollbacks} rollbacks");
    let told = |run: &Path| {
        let i = folder::read_info(run).unwrap().unwrap();
        (i.best_return, i.best_epoch, i.epoch, i.env_steps, i.finished, i.ended)
    };
    assert_eq!(told(&whole), told(&killed));
    // Events without those of the machine.
    let events = |run: &Path| {
        let mut all = events::events(&run.join(tensorboard::FILE_NAME));
        all.iter_mut().for_each(|e| e.1.retain(|k, _| !k.starts_with("time/") && !k.starts_with("memory/")));
        all
    };
    assert!(events(&whole) == events(&killed), "the events differ");
    let (a, b) = (rows(&whole), rows(&killed));
    // Checkpoints and rows fall on different epochs.
    let expected: Vec<u64> = (0..=epochs).filter(|e| e % 4 == 0 || e % 6 == 0).collect();
    assert_eq!(a.iter().map(|r| r.1).collect::<Vec<_>>(), expected, "no row lost or doubled");
    let apart = a.iter().zip(&b).find(|(a, b)| a != b);
    assert!(a == b, "the metrics differ: {} and {} rows, first {apart:?}", a.len(), b.len());
}
