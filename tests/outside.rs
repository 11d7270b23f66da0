//! What others see of a run while it goes on: a terminal, a log file, TensorBoard, wandb, a second process that evaluates.
#![cfg(unix)]

#[path = "support/tiny.rs"]
mod tiny;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use pwm::run::metrics::{Row, read_metrics};
use pwm::run::{folder, tensorboard};

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

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status().unwrap().success());
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let from = Instant::now();
    while !is_so() {
        assert!(from.elapsed() < Duration::from_secs(60), "it does not come: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
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

/// One event: step, and numbers by tag. A reader of its own, from the description of the format: records of a length, its
/// masked CRC-32C, a protocol buffer, and its masked CRC-32C.
fn events(file: &Path) -> Vec<(u64, BTreeMap<String, f32>)> {
    fn crc(bytes: &[u8]) -> u32 {
        let mut c = !0u32;
        for b in bytes {
            c ^= u32::from(*b);
            (0..8).for_each(|_| c = if c & 1 == 1 { (c >> 1) ^ 0x82f6_3b78 } else { c >> 1 });
        }
        (!c).rotate_right(15).wrapping_add(0xa282_ead8)
    }
    fn varint(b: &mut &[u8]) -> u64 {
        let mut n = 0;
        for i in 0.. {
            let byte = b[0];
            *b = &b[1..];
            n |= u64::from(byte & 127) << (7 * i);
            if byte < 128 {
                break;
            }
        }
        n
    }
    /// Fields of a message: number, and what it holds as bytes or as a whole number.
    fn fields(mut b: &[u8]) -> Vec<(u64, &[u8], u64)> {
        let mut out = vec![];
        while !b.is_empty() {
            let key = varint(&mut b);
            let (len, number) = match key & 7 {
                0 => (0, varint(&mut b)),
                1 => (8, 0),
                2 => (varint(&mut b) as usize, 0),
                5 => (4, 0),
                other => panic!("wire type {other}"),
            };
            out.push((key >> 3, &b[..len], number));
            b = &b[len..];
        }
        out
    }
    let bytes = std::fs::read(file).unwrap();
    let (mut b, mut out) = (&bytes[..], vec![]);
    while !b.is_empty() {
        let len = u64::from_le_bytes(b[..8].try_into().unwrap()) as usize;
        assert_eq!(crc(&b[..8]).to_le_bytes(), b[8..12]);
        let event = &b[12..12 + len];
        assert_eq!(crc(event).to_le_bytes(), b[12 + len..16 + len]);
        b = &b[16 + len..];
        let of = |n: u64| fields(event).into_iter().filter(move |f| f.0 == n);
        if out.is_empty() && of(3).any(|f| f.1 == b"brain.Event:2") {
            continue;
        }
        let values = of(5).flat_map(|summary| fields(summary.1)).filter(|f| f.0 == 1).map(|value| {
            let part = |n: u64| fields(value.1).into_iter().find(|f| f.0 == n).unwrap().1;
            (String::from_utf8(part(1).to_vec()).unwrap(), f32::from_le_bytes(part(2).try_into().unwrap()))
        });
        out.push((of(2).map(|f| f.2).next().unwrap_or(0), values.collect()));
    }
    out
}

#[test]
fn tensorboard_and_wandb_get_every_row() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("r");
    train(&run, &["max_epochs=12"], &[]);
    let o = Command::new(TRAIN).arg("--resume").arg(&run).arg("max_epochs=16").output().unwrap();
    assert!(o.status.success());
    let rows = rows(&run);
    assert!(rows.len() > 8);
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

/// `pwm eval --watch` beside a run: a line for every checkpoint as it appears, and an end when the run ends.
#[test]
fn a_run_is_evaluated_while_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("r");
    let csv = dir.path().join("t.csv");
    let child = spawn(&run);
    wait_for("a first checkpoint", || folder::latest(&run).is_file());
    let mut watch = Command::new(env!("CARGO_BIN_EXE_pwm"))
        .args(["eval", "--watch", "--episodes", "3", "--csv"])
        .args([&csv, &run])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut latest = vec![];
    let epoch = |line: &str| line.split('|').nth(4).map(|e| e.trim().parse::<u64>().unwrap());
    while latest.len() < 3 {
        let line = lines.next().expect("it goes on as long as the run");
        if line.contains("| latest |") {
            latest.push(epoch(&line).unwrap());
        }
    }
    signal(&child, "TERM");
    child.wait_with_output().unwrap();
    latest.extend(lines.filter(|l| l.contains("| latest |")).filter_map(|l| epoch(&l)));
    assert!(watch.wait().unwrap().success());
    assert!(latest.windows(2).all(|w| w[0] < w[1]), "{latest:?}");
    let end = folder::read_info(&run).unwrap().unwrap().epoch;
    assert_eq!(latest.last(), Some(&end), "also the last one");
    let table = std::fs::read_to_string(&csv).unwrap();
    assert!(table.lines().any(|l| l.contains(&format!(",latest,0,{end},"))), "{table}");
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
    let job = || {
        let mut c = Command::new("bash");
        c.arg(&script).arg(&run).args(tiny::settings(&["max_epochs=400", "threads=1"])).env("PATH", &path);
        c.env("PWM_TRAIN", TRAIN).env("SLURM_JOB_ID", "7").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut first = job();
    wait_for("rows", || read_metrics(&run.join("metrics.jsonl")).is_ok_and(|r| r.len() > 4));
    // SLURM sends its signal to the program, not to the script. Who holds the run's lock is that program.
    let program = std::fs::read_to_string(run.join("run.lock")).unwrap();
    assert!(Command::new("kill").args(["-USR1", program.trim()]).status().unwrap().success());
    assert!(first.wait().unwrap().success());
    assert_eq!(std::fs::read_to_string(&queued).unwrap(), "requeue 7\n");
    let stopped_at = folder::read_info(&run).unwrap().unwrap().epoch;
    assert!(stopped_at < 400);
    assert!(job().wait().unwrap().success());
    let info = folder::read_info(&run).unwrap().unwrap();
    assert_eq!((info.epoch, info.finished.as_deref(), info.resumed), (400, Some("max_epochs are done"), 1));
    assert_eq!(std::fs::read_to_string(&queued).unwrap(), "requeue 7\n", "not once more");
}
