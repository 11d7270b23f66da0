//! Runs that an earlier build began are read, judged and gone on with.

use crate::support::eval::eval_args;
use std::path::{Path, PathBuf};

use pwm::app::{eval, report, train};
use pwm::io::metrics::{FILE_NAME, Row, read_metrics};
use pwm::run::folder;
use pwm::run::signals::StopFlag;

/// The runs of version 0.1: see `tests/data/README.md`.
const RUNS: [&str; 2] = ["pwm_small", "shac_small"];

fn stored(run: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/run_0_1").join(run)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}

/// What no two runs have in common.
fn is_of_a_sitting(key: &str) -> bool {
    key.starts_with("time/") || key.starts_with("memory/")
}

/// Equal but for what another processor rounds otherwise in a few epochs.
fn assert_alike(what: &str, got: &Row, expected: &Row) {
    assert_eq!((got.step, got.epoch), (expected.step, expected.epoch), "{what}");
    assert_eq!(got.values.keys().collect::<Vec<_>>(), expected.values.keys().collect::<Vec<_>>(), "{what}");
    for (key, x) in expected.values.iter().filter(|(key, _)| !is_of_a_sitting(key)) {
        let y = got.values[key];
        assert!((x - y).abs() <= 1e-2 * x.abs().max(1e-3), "{what}, epoch {}, {key}: {y}, not {x}", got.epoch);
    }
}

#[test]
fn an_earlier_run_goes_on_to_the_rows_it_would_have_written() {
    let dir = tempfile::tempdir().unwrap();
    for run in RUNS {
        let path = dir.path().join(run);
        copy(&stored(run), &path);
        let expected = read_metrics(&path.join("expected.jsonl")).unwrap();
        let epochs = expected.last().unwrap().epoch;
        let overrides = vec![format!("max_epochs={epochs}"), "max_minutes=0".into(), "threads=1".into()];
        let args = train::TrainArgs { overrides, resume: Some(path.clone()), ..Default::default() };
        train::run(&args, &mut vec![], &StopFlag::detached()).unwrap();
        let before = read_metrics(&stored(run).join(FILE_NAME)).unwrap();
        let rows = read_metrics(&path.join(FILE_NAME)).unwrap();
        assert_eq!(rows[..before.len()], before, "{run}: rows that were written stay");
        assert_eq!(rows.len(), before.len() + expected.len(), "{run}");
        // The first of them is also of epochs that the earlier build lived through.
        for (got, expected) in rows[before.len()..].iter().zip(&expected) {
            assert_alike(run, got, expected);
        }
        assert_eq!(folder::read_info(&path).unwrap().unwrap().epoch, epochs);
    }
}

#[test]
fn an_earlier_policy_is_worth_what_it_was() {
    for run in RUNS {
        let mut said = Vec::new();
        let args = eval_args(&stored(run), |_| ());
        eval::run(&args, &mut said).unwrap();
        let said = String::from_utf8(said).unwrap();
        let best = folder::read_info(&stored(run)).unwrap().unwrap().best_return.unwrap();
        let found: f64 = said.split("return ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!((found - best).abs() <= 1e-2 * best.abs(), "{run}: {best} when it was stored; {said}");
    }
}

#[test]
fn earlier_runs_have_a_report() {
    let dir = tempfile::tempdir().unwrap();
    let args = report::ReportArgs { runs: RUNS.map(stored).into(), out: Some(dir.path().into()) };
    report::report(&args, &mut vec![]).unwrap();
    let file = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    for figure in ["loss_model.svg", "loss_critic.svg", "loss_reward.svg", "grad_actor.svg", "memory.svg"] {
        assert!(file(figure).contains("<polyline"), "{figure}");
    }
    let runs = file("runs.csv");
    assert!(RUNS.iter().all(|run| runs.lines().any(|l| l.starts_with(run))), "{runs}");
}
