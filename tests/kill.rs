//! A run that is killed again and again ends as one that never was: state, best policy and metrics.
//!
//! Twenty kills; `PWM_KILLS=200 cargo test --release --test kill` (scripts/soak.sh) for more.
#![cfg(unix)]

#[path = "support/tiny.rs"]
mod tiny;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pwm::device::philox::{Philox, Stream};
use pwm::run::checkpoint::Checkpoint;
use pwm::run::folder;
use pwm::run::metrics::read_metrics;
use pwm::run::state;

/// Starts or continues the run: the same command every time, but for where the replay lies, which changes nothing.
fn start(run: &Path, epochs: u64, replay: &str) -> std::process::Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pwm-train"));
    let length = format!("max_epochs={epochs}");
    command.args(tiny::settings(&[&length, "threads=1", "save_every=3", "log_every=4", "eval_every=6"]));
    command.arg(format!("run_dir={}", run.display())).arg(format!("replay={replay}"));
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Rows without the columns that tell of this machine and not of the run.
fn rows(run: &Path) -> Vec<(u64, u64, BTreeMap<String, u64>)> {
    let rows = read_metrics(&run.join("metrics.jsonl")).unwrap().into_iter();
    let of_the_run = |k: &String| !k.starts_with("time/") && !k.starts_with("memory/");
    rows.map(|r| {
        (r.step, r.epoch, r.values.into_iter().filter(|(k, _)| of_the_run(k)).map(|(k, v)| (k, v.to_bits())).collect())
    })
    .collect()
}

#[test]
fn killed_anywhere_it_ends_as_if_it_never_was() {
    let kills: u64 = std::env::var("PWM_KILLS").map_or(20, |n| n.parse().unwrap());
    let epochs = 18 * kills;
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
        // The first at any moment of its birth, the others when they have got on a little.
        let goal = before + if kill == 0 { 0 } else { 3 };
        for _ in 0..60_000 {
            if epoch_on_disk(&killed) >= goal {
                break;
            }
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself at kill {kill}");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros((20_000.0 * rng.uniform(kill, 0)) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(epoch_on_disk(&killed) >= before, "kill {kill}: never a step back");
    }
    let last = start(&killed, epochs, "file").wait_with_output().unwrap();
    assert!(last.status.success(), "{}", String::from_utf8_lossy(&last.stderr));

    let bytes = |p| std::fs::read(p).unwrap();
    assert!(bytes(folder::latest(&whole)) == bytes(folder::latest(&killed)), "the state differs");
    assert!(bytes(folder::best(&whole)) == bytes(folder::best(&killed)), "the best policy differs");
    let (a, b) = (rows(&whole), rows(&killed));
    // Checkpoints and rows fall on different epochs.
    let expected: Vec<u64> = (0..=epochs).filter(|e| e % 4 == 0 || e % 6 == 0).collect();
    assert_eq!(a.iter().map(|r| r.1).collect::<Vec<_>>(), expected, "no row lost or doubled");
    let apart = a.iter().zip(&b).find(|(a, b)| a != b);
    assert!(a == b, "the metrics differ: {} and {} rows, first {apart:?}", a.len(), b.len());
}
