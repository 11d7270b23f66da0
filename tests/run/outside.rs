//! What others see of a run while it goes on: a terminal, a log file, TensorBoard, wandb, a second process that
//! evaluates.
#![cfg(unix)]

use crate::support::process::{signal, wait_for};
use crate::support::tiny;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::support::events::events;
use pwm::io::metrics::{Row, read_metrics};
use pwm::io::tensorboard;
use pwm::run::folder::{self, End, Ended, RunFolder};

const TRAIN: &str = env!("CARGO_BIN_EXE_pwm-train");

fn settings(run: &Path, more: &[&str]) -> Vec<String> {
    tiny::settings(&[&["threads=1"], more, &[&format!("run_dir={}", run.display())]].concat())
}

fn train(run: &Path, more: &[&str], flags: &[&str]) -> Output {
    let o = Command::new(TRAIN).args(settings(run, more)).args(flags).output().unwrap();
    assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
    o
}

fn rows(run: &Path) -> Vec<Row> {
    read_metrics(&run.join("metrics.jsonl")).unwrap()
}

/// A run that would take for ever.
fn spawn(run: &Path) -> Child {
    let long = ["max_epochs=1_000_000", "eval_every=100", "save_every=50"];
    Command::new(TRAIN).args(settings(run, &long)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// What a terminal of this size receives from a run.
fn on_a_terminal(run: &Path, rows: usize, columns: usize, flags: &str) -> String {
    let command = format!("stty rows {rows} cols {columns}; exec {TRAIN} {} {flags}", settings(run, &[]).join(" "));
    let o = Command::new("script").args(["-qec", &command, "/dev/null"]).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&o.stdout).into_owned();
    assert!(o.status.success(), "{text}");
    text
}

/// Lines in a file, as under SLURM; on a terminal what fits, or what is asked for.
#[test]
fn a_run_shows_what_fits_where_it_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let text = |o: Output| String::from_utf8(o.stderr).unwrap();
    let of = |name: &str| dir.path().join(name);
    let plain = text(train(&of("plain"), &[], &[]));
    assert!(!plain.contains('\x1b') && !plain.contains('\r'), "{plain:?}");
    assert!(plain.lines().any(|l| l.starts_with("epoch 1/20")), "{plain}");
    assert!(plain.contains("epoch 20: evaluation return"), "{plain}");

    let bar = |text: &str| text.contains("\x1b[K") && text.contains("epoch 1/20") && !text.contains("evaluations  ");
    let full = |text: &str| {
        ["pwm_small on ant, seed 0", "evaluations  ", "losses  ", "memory  ", "\x1b[7A"]
            .iter()
            .all(|p| text.contains(p))
    };
    let terminal = on_a_terminal(&of("full"), 40, 100, "");
    assert!(full(&terminal), "{terminal}");
    let small = on_a_terminal(&of("bar"), 6, 100, "");
    assert!(bar(&small), "{small}");
    // Asked for, whatever fits.
    let asked = on_a_terminal(&of("asked"), 40, 100, "--ui plain 2>&1");
    assert!(!asked.contains('\x1b') && asked.contains("epoch 1/20"), "{asked}");
    assert!(bar(&text(train(&of("bar file"), &[], &["--ui", "bar"]))));
    assert!(full(&text(train(&of("full file"), &[], &["--ui", "full"]))));
    let wrong = Command::new(TRAIN).args(["--ui", "round"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn tensorboard_and_wandb_get_every_row() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("r");
    train(&run, &["max_epochs=12"], &[]);
    let o = Command::new(TRAIN).arg("--resume").arg(&run).arg("max_epochs=16").output().unwrap();
    assert!(o.status.success());
    let rows = rows(&run);
    // Epoch 16 has one row, though it is logged and is the last: a step stands once.
    assert!(rows.len() > 8 && rows.windows(2).all(|w| w[0].step < w[1].step));
    let events = events(&run.join(tensorboard::FILE_NAME));
    assert_eq!(events.len(), rows.len());
    for (row, (step, values)) in rows.iter().zip(&events) {
        assert_eq!((row.step, row.values.len()), (*step, values.len()));
        assert!(row.values.iter().all(|(tag, v)| values[tag] == *v as f32), "{row:?} {values:?}");
    }

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/wandb_feed.py");
    let o = Command::new("python3").arg(&script).arg(&run).args(["--dry-run", "--follow"]).output().unwrap();
    assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
    let said = String::from_utf8(o.stdout).unwrap();
    let sent: Vec<(u64, serde_json::Value)> = said
        .lines()
        .map(|l| l.split_once(' ').map(|(step, v)| (step.parse().unwrap(), serde_json::from_str(v).unwrap())).unwrap())
        .collect();
    assert_eq!(sent.len(), rows.len());
    for (row, (step, values)) in rows.iter().zip(&sent) {
        assert!(row.step == *step && row.values.iter().all(|(k, v)| values[k] == *v), "{row:?} {values}");
    }
}

/// What is cut and written on past the place that was read is read from the beginning.
#[test]
fn a_feed_does_not_stumble_over_a_run_that_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/wandb_feed.py");
    let text = r#"
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("feed", sys.argv[1])
feed = importlib.util.module_from_spec(spec)
spec.loader.exec_module(feed)
path = pathlib.Path(sys.argv[2])
row = lambda step, more="": '{"step":%d,"epoch":1,"a":0.5%s}\n' % (step, more)
path.write_text(row(1) + row(2) + '{"step":3,"ep')
later = [row(1) + row(2, "0123456789012345678901234567890123456789") + row(4), None]
feed.time.sleep = lambda seconds: path.write_text(later.pop(0))
print([step for step, _ in feed.rows(path, True, lambda: later[0] is None)])
"#;
    let o = Command::new("python3").args(["-c", text]).arg(&script).arg(dir.path().join("m")).output().unwrap();
    assert!(o.status.success(), "{}", String::from_utf8_lossy(&o.stderr));
    assert_eq!(String::from_utf8_lossy(&o.stdout), "[1, 2, 1, 2, 4]\n");
}

/// `pwm eval --watch` in a process of its own; its errors are kept.
fn watch(run: &Path, more: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pwm"));
    command.args(["eval", "--watch", "--episodes", "3"]).args(more).arg(run);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// `pwm eval --watch` beside a run that is not there yet: a line for every checkpoint as it appears, and an end when
/// the run ends, with or without a word.
#[test]
fn a_run_is_evaluated_while_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("r");
    let csv = dir.path().join("t.csv");
    let mut beside = watch(&run, &["--csv", csv.to_str().unwrap()]);
    let mut notes = BufReader::new(beside.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(notes.next().unwrap().contains("no run there yet"));
    let child = spawn(&run);
    let mut lines = BufReader::new(beside.stdout.take().unwrap()).lines().map(Result::unwrap);
    let (mut latest, mut heads) = (vec![], 0);
    let epoch = |line: &str| line.split('|').nth(5).map(|e| e.trim().parse::<u64>().unwrap());
    while latest.len() < 3 {
        let line = lines.next().expect("it goes on as long as the run");
        heads += usize::from(line.contains("| checkpoint |"));
        if line.contains("| latest |") {
            latest.push(epoch(&line).unwrap());
        }
    }
    signal(&child, "TERM");
    child.wait_with_output().unwrap();
    latest.extend(lines.filter(|l| l.contains("| latest |")).filter_map(|l| epoch(&l)));
    assert!(beside.wait().unwrap().success());
    assert!(latest.windows(2).all(|w| w[0] < w[1]) && heads == 1, "{latest:?}, {heads} heads");
    let end = folder::read_info(&run).unwrap().unwrap().epoch;
    assert_eq!(latest.last(), Some(&end), "also the last one");
    let table = std::fs::read_to_string(&csv).unwrap();
    assert!(table.lines().any(|l| l.contains(&format!(",latest,ant,0,{end},"))), "{table}");

    // A run that was over and is taken up again: what it said at its end is no reason to leave.
    let held = RunFolder::open(&run).unwrap();
    assert!(held.read_info().unwrap().unwrap().finished.is_some());
    let mut beside = watch(&run, &[]);
    // It judges the latest checkpoint twice: it came back after its first look.
    let mut lines = BufReader::new(beside.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut judged = || lines.by_ref().any(|l| l.contains("| latest |"));
    assert!(judged(), "it looks");
    let latest = std::fs::File::options().write(true).open(folder::latest(&run)).unwrap();
    latest.set_modified(std::time::SystemTime::now()).unwrap();
    assert!(judged(), "it stays, as a process works on it");
    // One that is killed says nothing at all.
    let info = folder::RunInfo { finished: None, ended: None, ..held.read_info().unwrap().unwrap() };
    held.write_info(&info).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/wandb_feed.py");
    let mut feed = Command::new("python3")
        .arg(&script)
        .arg(&run)
        .args(["--dry-run", "--follow"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    drop(held);
    wait_for("the end of the watch", || beside.try_wait().unwrap().is_some());
    let said = beside.wait_with_output().unwrap();
    assert!(said.status.success() && String::from_utf8_lossy(&said.stderr).contains("no process works on it"));
    wait_for("the end of the feed", || feed.try_wait().unwrap().is_some());
}

/// `scripts/train.sbatch` with stand-ins for SLURM's own commands: told of the time limit the run ends and its job is
/// queued again; the same job goes on to the end, and is not.
#[test]
fn a_job_of_slurm_is_queued_again_until_the_run_is_over() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (bin, run, queued) = (dir.path().join("bin"), dir.path().join("r"), dir.path().join("queued"));
    std::fs::create_dir(&bin).unwrap();
    for (name, text) in
        [("srun", "exec \"$@\"".to_owned()), ("scontrol", format!("echo \"$*\" >> {}", queued.display()))]
    {
        std::fs::write(bin.join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(bin.join(name), PermissionsExt::from_mode(0o755)).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/train.sbatch");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let job = |more: &[&str]| {
        let mut c = Command::new("bash");
        c.arg(&script)
            .arg(&run)
            .args(tiny::settings(&[&["max_epochs=400", "threads=1"], more].concat()))
            .env("PATH", &path);
        c.env("PWM_TRAIN", TRAIN).env("SLURM_JOB_ID", "7").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut first = job(&[]);
    wait_for("rows", || read_metrics(&run.join("metrics.jsonl")).is_ok_and(|r| r.len() > 4));
    // SLURM sends its signal to the program, not to the script. Who holds the run's lock is that program.
    let program = std::fs::read_to_string(run.join("run.lock")).unwrap();
    assert!(Command::new("kill").args(["-USR1", program.trim()]).status().unwrap().success());
    assert!(first.wait().unwrap().success());
    assert_eq!(std::fs::read_to_string(&queued).unwrap(), "requeue 7\n");
    let stopped_at = folder::read_info(&run).unwrap().unwrap().epoch;
    assert!(stopped_at < 400);
    // A start that fails is not tried for ever, though the run still says that a signal ended it.
    assert_eq!(job(&["mem=1M"]).wait().unwrap().code(), Some(6));
    assert_eq!(std::fs::read_to_string(&queued).unwrap(), "requeue 7\n", "not for want of memory");
    assert!(job(&[]).wait().unwrap().success());
    let info = folder::read_info(&run).unwrap().unwrap();
    assert_eq!((info.epoch, info.finished.as_deref(), info.resumed), (400, Some("max_epochs are done"), 1));
    assert_eq!(info.ended, Some(Ended { kind: End::Epochs, status: 0 }));
    // Nor is a job that finds its run over a failure.
    assert!(job(&[]).wait().unwrap().success());
    assert_eq!(std::fs::read_to_string(&queued).unwrap(), "requeue 7\n", "not once more");
}
