//! Disks that are full, files that are broken, folders that vanish: a typed error, the documented exit status, and what
//! was saved before is still there.

use crate::support::ant::MOVIE;
use crate::support::only;
use crate::support::tiny;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::rows::rows;
use pwm::algo::Runner;
use pwm::app;
use pwm::device::philox::{Philox, Stream};
use pwm::io::checkpoint::Checkpoint;
use pwm::io::metrics::read_metrics;
use pwm::run::folder::{self, End, Ended, RunFolder, RunInfo};
use pwm::run::session::{CURVE, Session};
use pwm::run::signals::StopFlag;

fn train(run: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pwm-train"));
    command.args(tiny::settings(more)).arg(format!("run_dir={}", run.display())).output().unwrap()
}

fn resume(run: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pwm-train")).arg("--resume").arg(run).arg("max_epochs=30").output().unwrap()
}

fn said(o: &Output) -> String {
    String::from_utf8_lossy(&o.stderr).into_owned()
}

/// The system refuses to let a file grow in the middle of a write: a short write, then an error, as on a full disk.
#[cfg(unix)]
#[test]
fn a_disk_that_is_full_ends_the_run_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("r");
    assert!(train(&run, &[]).status.success());
    let before = std::fs::read(folder::latest(&run)).unwrap();
    let rows = read_metrics(&run.join("metrics.jsonl")).unwrap();
    // Half of a checkpoint, in blocks of 512 bytes.
    let blocks = before.len() / 2 / 512;
    let script = format!(
        "trap '' XFSZ; ulimit -f {blocks}; exec {} --resume {} max_epochs=40",
        env!("CARGO_BIN_EXE_pwm-train"),
        run.display()
    );
    let full = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(full.status.code(), Some(3), "{}", said(&full));
    assert!(said(&full).contains("the disk is full"), "{}", said(&full));
    assert!(std::fs::read(folder::latest(&run)).unwrap() == before, "the last checkpoint is as it was");
    assert!(!run.join("checkpoints/latest.safetensors.tmp").exists(), "no half file stays");
    assert!(read_metrics(&run.join("metrics.jsonl")).unwrap().len() >= rows.len());
    assert!(resume(&run).status.success(), "with room again it goes on");
}

#[cfg(unix)]
#[test]
fn a_folder_that_vanishes_ends_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("r");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pwm-train"));
    command.args(tiny::settings(&["max_epochs=1_000_000", "save_every=5"])).arg(format!("run_dir={}", run.display()));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while std::fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |t| t.lines().count()) < 8 {
        assert!(child.try_wait().unwrap().is_none(), "it trains");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // A file may be made between the look into a folder and its removal.
    while run.exists() {
        let _ = std::fs::remove_dir_all(&run);
    }
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(3), "{}", said(&ended));
    assert!(said(&ended).contains("no such file or folder"), "{}", said(&ended));
}

#[test]
fn places_that_cannot_be_written_are_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    // A folder inside a file: nobody can make that, not even root.
    let o = train(&file.join("run"), &[]);
    assert_eq!(o.status.code(), Some(3), "{}", said(&o));
    assert!(said(&o).contains("creating the folder"), "{}", said(&o));
}

#[test]
fn a_rename_that_fails_leaves_the_run_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("r");
    assert!(train(&run, &[]).status.success());
    // Where a file should go there is a folder with something in it.
    let taken = run.join("incidents.jsonl");
    std::fs::remove_file(&taken).unwrap();
    std::fs::create_dir_all(taken.join("full")).unwrap();
    let before = std::fs::read(folder::latest(&run)).unwrap();
    let o = resume(&run);
    assert_eq!(o.status.code(), Some(3), "{}", said(&o));
    assert!(said(&o).contains("incidents.jsonl"), "{}", said(&o));
    assert!(std::fs::read(folder::latest(&run)).unwrap() == before);
    std::fs::remove_dir_all(&taken).unwrap();
    assert!(resume(&run).status.success());
}

/// A checkpoint or a description that cannot be put in place or synced, in the middle of a run: a typed error, the file
/// as it was, no half one beside it; and with the obstacle gone the run goes on.
#[cfg(unix)]
#[test]
fn a_file_that_cannot_be_put_in_place_is_an_error_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("r");
    let config = tiny::config(&[&format!("run_dir={}", run.display())]);
    let folder = RunFolder::create(&run, &config.to_yaml()).unwrap();
    let mut s = Session::begin(Runner::<f32>::new(&config).unwrap(), folder, RunInfo::begin(0)).unwrap();
    for file in [folder::latest(&run), run.join("run.json")] {
        let temp = pwm::io::atomic::temp_path(&file);
        let fails = |s: &mut Session<f32>, doing: &str| {
            s.epoch().unwrap();
            let e = anyhow::Error::from(s.save().unwrap_err());
            assert!(app::status(&e) == 3 && e.to_string().contains(doing), "{e:#}");
            assert!(!temp.exists(), "no half file stays");
        };
        let before = std::fs::read(&file).unwrap();
        // A pipe takes every byte and cannot be synced.
        assert!(Command::new("mkfifo").arg(&temp).status().unwrap().success());
        let pipe = temp.clone();
        let reader = std::thread::spawn(move || std::fs::read(pipe).unwrap().len());
        fails(&mut s, "syncing it to disk");
        assert!(reader.join().unwrap() > 100);
        assert!(std::fs::read(&file).unwrap() == before, "as it was");
        // A folder with something in it cannot be renamed over.
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir_all(file.join("full")).unwrap();
        fails(&mut s, "renaming it in place");
        std::fs::remove_dir_all(&file).unwrap();
        s.save().unwrap();
    }
    drop(s);
    Checkpoint::load(&folder::latest(&run)).unwrap();
    assert!(resume(&run).status.success());
}

/// A run that has to end for an error says so with the status it ends with.
#[test]
fn an_error_is_written_down_with_its_status() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("r");
    let config = tiny::config(&["save_every=3", &format!("run_dir={}", run.display())]);
    let folder = RunFolder::create(&run, &config.to_yaml()).unwrap();
    let mut s = Session::begin(Runner::<f32>::new(&config).unwrap(), folder, RunInfo::begin(0)).unwrap();
    std::fs::remove_file(folder::latest(&run)).unwrap();
    std::fs::create_dir_all(folder::latest(&run).join("full")).unwrap();
    let e = anyhow::Error::from(s.run(&StopFlag::detached()).unwrap_err());
    let info = folder::read_info(&run).unwrap().unwrap();
    assert_eq!(info.ended, Some(Ended { kind: End::Error, status: 3 }));
    assert!(app::status(&e) == 3 && info.finished.unwrap().contains("renaming it in place"), "{e:#}");
}

/// Pictures can be made again, so nothing that goes wrong with them ends a run.
#[test]
fn a_picture_that_cannot_be_drawn_is_a_note() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("r");
    for name in [CURVE, MOVIE] {
        std::fs::create_dir_all(run.join(name).join("full")).unwrap();
    }
    let o = train(&run, &[]);
    assert_eq!(o.status.code(), Some(0), "{}", said(&o));
    for name in [CURVE, MOVIE] {
        assert!(said(&o).contains(&format!("no {name}, the run goes on: ")), "{}", said(&o));
    }
    assert_eq!(folder::read_info(&run).unwrap().unwrap().epoch, 20);
}

#[test]
fn broken_files_are_named_with_their_own_status() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("r");
    assert!(train(&run, &[]).status.success());
    let latest = folder::latest(&run);
    let good = std::fs::read(&latest).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 4;
    let half = good[..good.len() / 2].to_vec();
    for (what, bytes) in [
        ("damaged", flipped),
        ("truncated", half),
        ("not a pwm checkpoint", b"seed: 1\nrun_dir: somewhere, and some more of it\n".to_vec()),
    ] {
        std::fs::write(&latest, bytes).unwrap();
        let o = resume(&run);
        assert_eq!(o.status.code(), Some(4), "{what}: {}", said(&o));
        assert!(said(&o).contains(what) && said(&o).contains("latest.safetensors"), "{}", said(&o));
    }
    // The replay is last in the file. Without it there is no resuming, but the policy is there.
    let mut replay = good.clone();
    *replay.last_mut().unwrap() ^= 1;
    std::fs::write(&latest, replay).unwrap();
    let o = resume(&run);
    assert!(o.status.code() == Some(4) && said(&o).contains("section replay"), "{}", said(&o));
    let eval = |file: &Path| Command::new(env!("CARGO_BIN_EXE_pwm")).arg("eval").arg(file).output().unwrap();
    let damaged = eval(&latest);
    assert!(damaged.status.success() && said(&damaged).contains("warning: "), "{}", said(&damaged));
    std::fs::write(&latest, &good).unwrap();
    let whole = eval(&latest);
    assert!(whole.status.success() && said(&whole).is_empty(), "{}", said(&whole));
    assert_eq!(damaged.stdout, whole.stdout, "the same policy");
    let config = run.join("config.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("gamma:", "gama:")).unwrap();
    let o = resume(&run);
    assert!(o.status.code() == Some(2) && said(&o).contains("`gamma`"), "{}", said(&o));
    std::fs::write(&config, text).unwrap();
    // What a power cut leaves behind the rows of the checkpoint is cut off.
    use std::io::Write;
    let metrics = run.join("metrics.jsonl");
    std::fs::File::options().append(true).open(&metrics).unwrap().write_all(b"\0\0\0\n").unwrap();
    let o = resume(&run);
    assert!(o.status.success() && said(&o).contains("is no row") && said(&o).contains("cut off"), "{}", said(&o));
    // Without its metrics a run goes on, and says what is gone.
    std::fs::remove_file(&metrics).unwrap();
    let o = resume(&run);
    assert!(
        o.status.success() && said(&o).contains("no rows; what was measured up to epoch 30 is lost"),
        "{}",
        said(&o)
    );
}

/// The wall clock may be set while a run goes on or between its parts. It is only written down: durations are those of
/// a clock that cannot be set, and what was written down is not read for any decision.
#[test]
fn a_wall_clock_that_is_set_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let runs = ["past", "future", "as it was"].map(|name| dir.path().join(name));
    let mut states = vec![];
    for run in &runs {
        assert!(train(run, &[]).status.success());
        let moved = match run.file_name().unwrap().to_str().unwrap() {
            "past" => Some(("1970-01-01T00:00:00Z", std::time::UNIX_EPOCH)),
            "future" => {
                Some(("2099-12-31T23:59:59Z", std::time::UNIX_EPOCH + std::time::Duration::from_secs(4_102_444_799)))
            }
            _ => None,
        };
        if let Some((text, time)) = moved {
            let path = run.join("run.json");
            let mut info: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            for key in ["started", "updated"] {
                info[key] = text.into();
            }
            std::fs::write(&path, info.to_string()).unwrap();
            for file in [path, folder::latest(run), run.join("metrics.jsonl"), run.join("config.yaml")] {
                std::fs::File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
            }
        }
        let o = resume(run);
        assert!(o.status.success(), "{}", said(&o));
        let epochs: Vec<u64> = read_metrics(&run.join("metrics.jsonl")).unwrap().iter().map(|r| r.epoch).collect();
        states.push((std::fs::read(folder::latest(run)).unwrap(), epochs));
    }
    assert!(states[0] == states[2] && states[1] == states[2]);
}

/// A clock of the time of day that is set back and forth by a dozen years at every look, under a run that is stopped by
/// its own time and goes on.
#[cfg(target_os = "linux")]
#[test]
fn a_wall_clock_that_jumps_in_mid_run_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (source, shim) = (dir.path().join("clock.c"), dir.path().join("clock.so"));
    let text = "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <time.h>\n\
        int clock_gettime(clockid_t id, struct timespec *t) {\n\
            static int (*real)(clockid_t, struct timespec *);\n\
            static long looks;\n\
            if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, \"clock_gettime\");\n\
            int r = real(id, t);\n\
            if (id == CLOCK_REALTIME) t->tv_sec += looks++ % 2 ? 400000000 : -400000000;\n\
            return r;\n\
        }\n";
    std::fs::write(&source, text).unwrap();
    // What Rust links with.
    let cc = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&shim, &source]).arg("-ldl").output().unwrap();
    assert!(cc.status.success(), "{}", said(&cc));
    let sit = |name: &str, minutes: &str, shim: Option<&Path>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pwm-train"));
        command.args(tiny::settings(&[
            "max_epochs=200",
            "threads=1",
            "eval_every=50",
            "save_every=50",
            "log_every=10",
            minutes,
        ]));
        command.arg(format!("run_dir={}", dir.path().join(name).display()));
        shim.iter().for_each(|s| {
            command.env("LD_PRELOAD", s);
        });
        let o = command.output().unwrap();
        assert!(o.status.success(), "{}", said(&o));
        folder::read_info(&dir.path().join(name)).unwrap().unwrap()
    };
    assert!(sit("steady", "max_minutes=0", None).elapsed_seconds < 600.0);
    // Time for some of the epochs, however busy the machine is.
    let mut minutes = 0.002;
    let jumps = loop {
        let name = format!("jumps_{minutes}");
        let first = sit(&name, &format!("max_minutes={minutes}"), Some(&shim));
        assert!(first.ended.unwrap().kind == End::Time, "{first:?}");
        if first.epoch > 0 {
            break name;
        }
        minutes *= 2.0;
    };
    let info = sit(&jumps, "max_minutes=0", Some(&shim));
    let year: u32 = info.updated[..4].parse().unwrap();
    assert!(!(2020..=2035).contains(&year), "the clock was set: {}", info.updated);
    assert!(info.elapsed_seconds < 600.0, "durations are none of its business");
    let (a, b) = (dir.path().join("steady"), dir.path().join(&jumps));
    assert!(std::fs::read(folder::latest(&a)).unwrap() == std::fs::read(folder::latest(&b)).unwrap());
    assert_eq!(rows(&a), rows(&b));
}

/// Where the source asks for the time of day: to write it down, and to see that a file is another one than before.
#[test]
fn the_time_of_day_is_asked_for_in_three_places() {
    let mut found = vec![];
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if std::fs::read_to_string(&entry).is_ok_and(|t| t.contains("SystemTime")) {
                found.push(entry.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_str().unwrap().to_string());
            }
        }
    }
    found.sort();
    assert_eq!(found, ["src/app/eval.rs", "src/io/metrics.rs", "src/run/folder.rs"]);
}

/// Runs the rest of a test in a process with mounts of its own, as root there; false in the process that only starts
/// it. Where the system allows no such thing it fails, unless PWM_NO_MOUNTS says that it is to be left out.
#[cfg(target_os = "linux")]
fn with_own_mounts(test: &str) -> bool {
    if std::env::var_os("PWM_TEST_MOUNTS").is_some() {
        return true;
    }
    let unshare = || {
        let mut c = Command::new("unshare");
        c.args(["--user", "--map-root-user", "--mount"]);
        c
    };
    let probe = tempfile::tempdir().unwrap();
    let possible = unshare().args(["mount", "-t", "tmpfs", "tmpfs"]).arg(probe.path()).output();
    if !possible.is_ok_and(|o| o.status.success()) {
        let skip = std::env::var_os("PWM_NO_MOUNTS").is_some();
        assert!(skip, "{test}: mounts are not allowed here, so this cannot be shown; PWM_NO_MOUNTS=1 leaves it out");
        return false;
    }
    let mut inner = unshare();
    inner.arg(std::env::current_exe().unwrap()).args(only(test)).env("PWM_TEST_MOUNTS", "1");
    let o = inner.output().unwrap();
    let out = String::from_utf8_lossy(&o.stdout);
    assert!(o.status.success() && out.contains(" 1 passed;"), "{out}\n{}", said(&o));
    false
}

#[cfg(target_os = "linux")]
fn mount(args: &[&str], at: &Path) {
    let o = Command::new("mount").args(args).arg(at).output().unwrap();
    assert!(o.status.success(), "mount {args:?}: {}", said(&o));
}

/// A disk that is full again and again, at whatever the run was writing then: it ends as if there had been room.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_in_mid_run_loses_no_row() {
    use std::io::Write;
    if !with_own_mounts("a_disk_that_fills_up_in_mid_run_loses_no_row") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    mount(&["-t", "tmpfs", "-o", "size=24m", "tmpfs"], dir.path());
    let (whole, run) = (dir.path().join("whole"), dir.path().join("run"));
    let settings = ["max_epochs=150", "log_every=1", "eval_every=6", "save_every=4"];
    assert!(train(&whole, &settings).status.success());
    let ballast = dir.path().join("ballast");
    for round in 1..=5 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pwm-train"));
        command.args(tiny::settings(&settings)).arg(format!("run_dir={}", run.display()));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let goal = 25 * round - 7;
        while std::fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |t| t.lines().count()) < goal {
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself in round {round}");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let mut file = std::fs::File::create(&ballast).unwrap();
        while child.try_wait().unwrap().is_none() {
            // What is freed by files that are replaced is taken, too.
            let _ = file.write_all(&[0; 4096]);
        }
        drop(file);
        std::fs::remove_file(&ballast).unwrap();
        let full = child.wait_with_output().unwrap();
        assert_eq!(full.status.code(), Some(3), "{}", said(&full));
        assert!(said(&full).contains("the disk is full"), "{}", said(&full));
    }
    let o = train(&run, &settings);
    assert!(o.status.success(), "{}", said(&o));
    assert_eq!(rows(&run), rows(&whole));
    for file in [folder::latest, folder::best] {
        assert!(std::fs::read(file(&run)).unwrap() == std::fs::read(file(&whole)).unwrap(), "the state differs");
    }
}

/// A folder that may only be read, before a run and in the middle of one. Root is refused, too.
#[cfg(target_os = "linux")]
#[test]
fn a_read_only_folder_is_refused_and_nothing_in_it_changes() {
    if !with_own_mounts("a_read_only_folder_is_refused_and_nothing_in_it_changes") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    mount(&["-t", "tmpfs", "tmpfs"], dir.path());
    let run = dir.path().join("run");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pwm-train"));
    command.args(tiny::settings(&["max_epochs=1_000_000", "save_every=5"])).arg(format!("run_dir={}", run.display()));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while std::fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |t| t.lines().count()) < 8 {
        assert!(child.try_wait().unwrap().is_none(), "it trains");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // Another file system over the folder of the checkpoints, where nothing can be made.
    let checkpoints = run.join("checkpoints");
    mount(&["-t", "tmpfs", "-o", "ro", "tmpfs"], &checkpoints);
    let o = child.wait_with_output().unwrap();
    assert_eq!(o.status.code(), Some(3), "{}", said(&o));
    assert!(said(&o).contains("not writable") && said(&o).contains("run_dir"), "{}", said(&o));
    assert!(Command::new("umount").arg(&checkpoints).status().unwrap().success());
    let before = std::fs::read(folder::latest(&run)).unwrap();
    Checkpoint::load(&folder::latest(&run)).unwrap();

    mount(&["-o", "remount,ro"], dir.path());
    for o in [resume(&run), train(&dir.path().join("new"), &[])] {
        assert_eq!(o.status.code(), Some(3), "{}", said(&o));
        assert!(said(&o).contains("not writable"), "{}", said(&o));
    }
    let report = Command::new(env!("CARGO_BIN_EXE_pwm")).arg("report").arg(&run).output().unwrap();
    assert_eq!(report.status.code(), Some(3), "{}", said(&report));
    // To play a policy nothing needs to be written.
    let eval = Command::new(env!("CARGO_BIN_EXE_pwm")).arg("eval").arg(&run).output().unwrap();
    assert!(eval.status.success(), "{}", said(&eval));
    assert!(std::fs::read(folder::latest(&run)).unwrap() == before);
    mount(&["-o", "remount,rw"], dir.path());
    let epoch = pwm::run::state::epoch_of(&Checkpoint::load(&folder::latest(&run)).unwrap()).unwrap();
    let o = Command::new(env!("CARGO_BIN_EXE_pwm-train"))
        .arg("--resume")
        .arg(&run)
        .arg(format!("max_epochs={}", epoch + 5))
        .output();
    assert!(o.as_ref().unwrap().status.success(), "{}", said(&o.unwrap()));
}

/// The checkpoint of a run cut or with a flipped bit at a thousand positions: the run does not go on from it, and says
/// why with the status of a damaged file.
#[test]
fn damage_at_a_thousand_positions_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("r");
    assert!(train(&run, &["wm_buffer_size=200"]).status.success());
    let again = || {
        let args = app::train::TrainArgs { resume: Some(run.clone()), ..Default::default() };
        app::train::run(&args, &mut vec![], &StopFlag::detached())
    };
    let rng = Philox::new(11, Stream::Init);
    for path in [folder::latest(&run), folder::best(&run)] {
        let good = std::fs::read(&path).unwrap();
        for i in 0..500 {
            let at = (rng.uniform(i, 0) * good.len() as f64) as usize;
            let mut flipped = good.clone();
            flipped[at] ^= 1 << (i % 8);
            for (what, bytes) in [("flipped", &flipped[..]), ("cut", &good[..at])] {
                std::fs::write(&path, bytes).unwrap();
                // Some of them through the whole command.
                let loaded = || Checkpoint::load(&path).map(drop).map_err(anyhow::Error::from);
                let e = if i % 20 == 0 { again() } else { loaded() }.expect_err(what);
                let text = format!("{e:#}");
                assert!(app::status(&e) == 4 && text.contains("safetensors: "), "{what} at {at}: {text}");
            }
        }
        std::fs::write(&path, &good).unwrap();
    }
    again().unwrap();
}
