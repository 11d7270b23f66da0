//! Sweeps as processes: refused as a whole, failing in part, stopped, killed and gone on with to the same bits.
#![cfg(unix)]

use crate::support::process::{end, signal, wait_for, wait_while_it_runs};
use crate::support::{mjcf, tiny};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use pwm::config::load;
use pwm::run::folder::{self, End, RunFolder};
use pwm::run::plan::{ArenaPlace, Plan};
use pwm::sweep::{self, SweepEnd};
use serde_json::Value;

/// The command of a sweep of small runs in `dir`, each with one thread because nothing is said of threads.
fn command(dir: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pwm-train"));
    command.arg("--multirun").args(tiny::SETTINGS.iter().filter(|s| !s.starts_with("threads=")));
    command.args(more).arg(format!("run_dir={}", dir.display())).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(o: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr))
}

/// Runs it to its end; its exit status and all that it said.
fn run(dir: &Path, more: &[&str]) -> (i32, String) {
    let o = command(dir, more).output().unwrap();
    (o.status.code().unwrap(), said(&o))
}

/// What `pwm sweep status` says of it.
fn status(dir: &Path) -> Value {
    let o = Command::new(env!("CARGO_BIN_EXE_pwm")).args(["sweep", "status", "--json"]).arg(dir).output().unwrap();
    assert!(o.status.success(), "{}", said(&o));
    serde_json::from_slice(&o.stdout).unwrap()
}

fn member<'a>(status: &'a Value, name: &str) -> &'a Value {
    status["members"].as_array().unwrap().iter().find(|m| m["name"] == name).unwrap()
}

#[test]
fn what_is_wrong_with_a_member_is_told_before_any_is_started() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("s");
    let (code, text) = run(&at, &["seed=0,1", "gamma=0.9,high"]);
    assert!(code == 2 && text.contains("member seed=0,gamma=high (and 1 other)"), "{text}");
    assert!(text.contains("`gamma` cannot be") && text.contains("nothing was started"), "{text}");
    let (code, text) = run(&at, &["seed=0,1", "gama=0.9"]);
    assert!(code == 2 && text.contains("(and 1 other)") && text.contains("did you mean `gamma`"), "{text}");
    let (code, text) = run(&at, &["seed=0,1", "alg=pwm_small,unheard_of"]);
    assert!(code == 2 && text.contains("member seed=0,alg=unheard_of"), "{text}");
    let (code, text) = run(&at, &["seed=0,,1"]);
    assert!(code == 2 && text.contains("seed=0,,1"), "{text}");
    let (code, text) = run(&at, &["seed=range(0,2),7"]);
    assert!(code == 2 && text.contains("`range(0,2)` stands alone"), "{text}");
    let (code, text) = run(&at, &["seed=0,1", "out=a,b"]);
    assert!(code == 2 && text.contains("a sweep has one folder"), "{text}");
    let (code, text) = run(&at, &["seed=2,2"]);
    assert!(code == 2 && text.contains("same run"), "{text}");
    // One that does not fit is told as it would be alone.
    let large = ["wm_buffer_size=2000,300000000", "replay=device", "--mem", "1G"];
    let (code, text) = run(&at, &large);
    assert!(code == 6 && text.contains("member wm_buffer_size=300000000"), "{text}");
    assert!(text.contains("this run needs") && text.contains("smallest change"), "{text}");
    assert!(!at.exists(), "nothing was written");
    // What is for sweeps alone, and folders that are not a sweep's.
    let alone = |args: &[&str]| {
        let o = Command::new(env!("CARGO_BIN_EXE_pwm-train")).args(args).output().unwrap();
        (o.status.code().unwrap(), said(&o))
    };
    let (code, text) = alone(&["--jobs", "2"]);
    assert!(code == 2 && text.contains("--multirun"), "{text}");
    let (code, text) = alone(&["seed=0,1"]);
    assert!(code == 2 && text.contains("several values of seed are a sweep, which --multirun begins"), "{text}");
    drop(RunFolder::create(&at, "seed: 1\n").unwrap());
    let (code, text) = run(&at, &["seed=0,1"]);
    assert!(code == 2 && text.contains("holds a single run"), "{text}");
    let o = Command::new(env!("CARGO_BIN_EXE_pwm")).args(["sweep", "status"]).arg(dir.path()).output().unwrap();
    assert!(o.status.code() == Some(2) && said(&o).contains("holds no sweep"), "{}", said(&o));
}

#[test]
fn a_sweep_ends_with_one_report_and_grows() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("a sweep");
    let grid = ["gamma=0.9,0.99", "seed=range(0,2)", "--jobs", "2", "max_epochs=10"];
    let (code, text) = run(&at, &grid);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("sweep of 4 runs") && text.contains("1 thread each"), "{text}");
    // In a file there is a line for every change.
    for line in ["gamma=0.9,seed=0: begins", "gamma=0.99,seed=1: over after 10 epochs", "4 members: 4 finished"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let page = std::fs::read_to_string(at.join("report/report.html")).unwrap();
    assert!(page.contains("gamma=0.9") && page.contains("2 experiments, 4 runs"), "both experiments");
    let told = status(&at);
    assert_eq!((&told["counts"]["finished"], &told["alive"]), (&4.into(), &false.into()));
    let names: Vec<&str> = told["members"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["gamma=0.9,seed=0", "gamma=0.9,seed=1", "gamma=0.99,seed=0", "gamma=0.99,seed=1"]);
    for m in told["members"].as_array().unwrap() {
        assert_eq!((&m["state"], &m["epoch"], &m["max_epochs"]), (&"finished".into(), &10.into(), &10.into()), "{m}");
        assert_eq!(m["env_steps"], 1600);
        assert!(m["minutes"].as_f64() > Some(0.0) && m["cpu_minutes"].as_f64() > Some(0.0), "{m}");
        assert!(m["best_return"].as_f64() >= m["last_return"].as_f64() && m["minutes_left"].is_null(), "{m}");
        assert_eq!(m["overrides"].as_object().unwrap().len(), 2, "what differs: {m}");
        let info = folder::read_info(&at.join(m["name"].as_str().unwrap())).unwrap().unwrap();
        assert_eq!((info.threads, info.resumed), (1, 0));
    }
    let info = sweep::read(&at).unwrap();
    assert_eq!(info.ended.unwrap().kind, SweepEnd::Finished);
    assert!(!info.commit.is_empty() && info.launcher == "local" && info.axes == ["gamma", "seed"]);

    // The same command finds nothing to do; with more values it does what is new.
    let (code, text) = run(&at, &grid);
    assert!(code == 0 && text.contains("4 of them over") && !text.contains("begins"), "{text}");
    let (code, text) = run(&at, &[&grid[..], &["seed=0,2", "--ui", "full"]].concat());
    assert!(code == 0 && text.contains("2 more are there") && text.matches(": begins").count() == 2, "{text}");
    assert!(text.contains("\x1b[J") && text.contains("6 members: 6 finished"), "{text}");
    // With more epochs all of them go on; nothing that decides what is learned may change.
    let (code, text) = run(&at, &[&grid[..], &["horizon=4"]].concat());
    assert!(
        code == 2 && text.contains("member gamma=0.9,seed=0") && text.contains("`horizon` was 8 and is 4"),
        "{text}"
    );
    // The folder may have been moved, and the command be given anywhere.
    let moved = dir.path().join("moved");
    std::fs::rename(&at, &moved).unwrap();
    let mut elsewhere = Command::new(env!("CARGO_BIN_EXE_pwm-train"));
    let o = elsewhere.args(["--resume", "moved", "max_epochs=12"]).current_dir(dir.path()).output().unwrap();
    assert!(o.status.success(), "{}", said(&o));
    let at = moved;
    let told = status(&at);
    assert!(told["members"].as_array().unwrap().iter().all(|m| m["epoch"] == 12 && m["state"] == "finished"), "{told}");

    // Other commands take its folder for all of its runs.
    let pwm = |args: &[&str]| {
        let o = Command::new(env!("CARGO_BIN_EXE_pwm")).args(args).arg(&at).output().unwrap();
        assert!(o.status.success(), "{args:?}: {}", said(&o));
        said(&o)
    };
    std::fs::remove_dir_all(at.join("report")).unwrap();
    assert!(pwm(&["report"]).contains("2 experiments, 6 runs") && at.join("report/report.html").is_file());
    assert!(pwm(&["compare", at.to_str().unwrap()]).contains("6 runs"));
    let table = pwm(&["sweep", "status"]);
    assert!(table.lines().nth(1).unwrap().trim().starts_with("gamma  seed  state"), "{table}");
    assert_eq!(table.lines().count(), 2 + 6, "{table}");
    let o = Command::new(env!("CARGO_BIN_EXE_pwm-train")).arg(format!("run_dir={}", at.display())).output().unwrap();
    assert!(o.status.code() == Some(2) && said(&o).contains("holds a sweep"), "{}", said(&o));
}

#[test]
fn a_member_that_fails_says_why_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("s");
    // The first evaluation below the best one is called a collapse: half of the runs end then.
    let drill = ["eval_every=1", "collapse_fraction=0.9999", "collapse_evals=1", "seed=0,1", "collapse=warn,stop"];
    // One cannot even begin.
    std::fs::create_dir_all(&at).unwrap();
    std::fs::write(at.join("seed=1,collapse=warn"), "in the way").unwrap();
    let (code, text) = run(&at, &drill);
    assert_eq!(code, 1, "their statuses differ: {text}");
    assert!(text.contains("3 of 4 members failed") && text.contains("--retry"), "{text}");
    assert!(at.join("report/report.html").is_file(), "of those that have something to tell: {text}");
    let check = || {
        let told = status(&at);
        assert_eq!((&told["counts"]["finished"], &told["counts"]["failed"]), (&1.into(), &3.into()), "{told}");
        assert_eq!(member(&told, "seed=0,collapse=warn")["state"], "finished");
        for name in ["seed=0,collapse=stop", "seed=1,collapse=stop"] {
            let why = member(&told, name)["why"].as_str().unwrap();
            assert!(why.contains("the run collapsed") && why.contains("(the learning died)"), "{why}");
        }
        let why = member(&told, "seed=1,collapse=warn")["why"].as_str().unwrap();
        assert!(why.contains("cannot be started"), "{why}");
    };
    check();
    let info = sweep::read(&at).unwrap();
    let statuses: Vec<_> = info.members.iter().map(|m| m.failure.as_ref().and_then(|f| f.status)).collect();
    assert_eq!(statuses, [None, Some(5), None, Some(5)]);
    assert_eq!((info.ended.unwrap().kind, info.ended.unwrap().status), (SweepEnd::Failed, 1));

    // The same command leaves them alone; when it is told to, it tries them again.
    let (code, text) = run(&at, &drill);
    assert!(code == 1 && !text.contains(": begins"), "{text}");
    check();
    std::fs::remove_file(at.join("seed=1,collapse=warn")).unwrap();
    let (_, text) = run(&at, &[&drill[..], &["--retry"]].concat());
    assert_eq!(text.matches(": begins").count(), 3, "{text}");
    assert_eq!(member(&status(&at), "seed=1,collapse=warn")["state"], "finished");
}

/// Long enough to be stopped on their way.
const LONG: [&str; 5] = ["seed=0,1,2,3", "max_epochs=800", "save_every=5", "eval_every=200", "--jobs"];

fn start(dir: &Path) -> Child {
    command(dir, &[&LONG[..], &["2"]].concat()).spawn().unwrap()
}

/// Epochs that all members together have rows of.
fn epochs(dir: &Path) -> u64 {
    status(dir)["members"].as_array().unwrap().iter().map(|m| m["epoch"].as_u64().unwrap()).sum()
}

#[test]
fn stopped_and_killed_it_goes_on_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, broken) = (dir.path().join("whole"), dir.path().join("broken"));
    let (code, text) = run(&whole, &[&LONG[..], &["3"]].concat());
    assert_eq!(code, 0, "{text}");

    // A scheduler's signal in the middle of the first two.
    let mut first = start(&broken);
    wait_for("its folder", || sweep::is_sweep(&broken));
    wait_while_it_runs(&mut first, "some epochs", || epochs(&broken) > 30);
    signal(&first, "TERM");
    let code = end(&mut first).code();
    let text = said(&first.wait_with_output().unwrap());
    // Inside an epoch there is no time to end it, if the machine is very busy.
    assert!(matches!(code, Some(0 | 143)) && text.contains("stopped by SIGTERM"), "{code:?} {text}");
    let told = status(&broken);
    assert_eq!((&told["alive"], &told["ended"]["kind"]), (&false.into(), &"signal".into()), "{told}");
    assert!(told["counts"]["running"].is_null() && told["counts"]["failed"].is_null(), "{told}");
    assert!(told["counts"]["interrupted"].as_u64() >= Some(1), "{told}");

    // The sweep itself is killed, and the same command comes at once.
    let before = epochs(&broken);
    let mut again = start(&broken);
    wait_while_it_runs(&mut again, "more epochs", || epochs(&broken) > before + 30);
    again.kill().unwrap();
    again.wait().unwrap();
    let last = start(&broken).wait_with_output().unwrap();
    assert!(last.status.success(), "{}", said(&last));
    assert_eq!(status(&broken)["counts"]["finished"], 4);
    for seed in 0..4 {
        let name = format!("seed={seed}");
        for file in ["checkpoints/latest.safetensors", "checkpoints/best.safetensors"] {
            let bytes = |sweep: &Path| std::fs::read(sweep.join(&name).join(file)).unwrap();
            assert!(bytes(&whole) == bytes(&broken), "{name}: {file} differs");
        }
        assert_eq!(crate::support::rows::rows(&whole.join(&name)), crate::support::rows::rows(&broken.join(&name)));
        let info = folder::read_info(&broken.join(&name)).unwrap().unwrap();
        assert!(info.resumed <= 2 && info.ended.unwrap().kind == End::Epochs, "{info:?}");
    }
}

/// Nothing goes on behind the back of a user who killed the sweep; a second signal ends it and them at once.
#[test]
fn members_end_with_the_process_that_started_them() {
    let dir = tempfile::tempdir().unwrap();
    for (name, killed) in [("killed", true), ("twice", false)] {
        let at = dir.path().join(name);
        let endless = ["seed=0,1", "max_epochs=1_000_000", "eval_every=1_000_000", "save_every=5", "--jobs", "2"];
        let mut child = command(&at, &endless).spawn().unwrap();
        wait_for("its folder", || sweep::is_sweep(&at));
        let runs = [at.join("seed=0"), at.join("seed=1")];
        let begun = |told: &Value| told["members"].as_array().unwrap().iter().all(|m| m["epoch"].as_u64() > Some(5));
        wait_while_it_runs(&mut child, "some epochs of both", || begun(&status(&at)));
        let told = status(&at);
        assert_eq!((&told["counts"]["running"], &told["alive"]), (&2.into(), &true.into()), "{told}");
        assert!(member(&told, "seed=0")["minutes_left"].as_f64() > Some(0.0), "{told}");
        let (code, text) = run(&at, &endless);
        assert!(code == 1 && text.contains("in use by another process"), "{text}");
        if killed {
            child.kill().unwrap();
            assert_eq!(end(&mut child).code(), None);
        } else {
            signal(&child, "TERM");
            signal(&child, "TERM");
            assert!(matches!(end(&mut child).code(), Some(0 | 143)));
        }
        wait_for("the end of the members", || !runs.iter().any(|r| folder::goes_on(r)));
        let told = status(&at);
        assert_eq!((&told["counts"]["interrupted"], &told["alive"]), (&2.into(), &false.into()), "{told}");
    }
}

/// What is planned of all that run together keeps within the limit: here there is memory for one and a half.
#[test]
fn memory_bounds_what_runs_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("s");
    let settings = tiny::settings(&["threads=1", "max_epochs=2", "lr_schedule=constant"]);
    let plan = Plan::new(&load(&settings).unwrap(), ArenaPlace::Host).host();
    let mem = (plan * 3 / 2).to_string();
    let (code, text) = run(&at, &["seed=0,1", "max_epochs=2", "lr_schedule=constant", "--mem", &mem]);
    assert!(code == 0 && text.contains("side by side   1 at first"), "{text}");
    // The second begins when the first is over.
    let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what}: {text}"));
    assert!(at("seed=0: over") < at("seed=1: begins"), "{text}");
}

/// What a member was begun with is in its folder: the file of its task may be gone, or say something else.
#[test]
fn a_sweep_goes_on_without_the_file_of_its_task() {
    let dir = tempfile::tempdir().unwrap();
    let (at, env) = (dir.path().join("s"), mjcf::write(dir.path(), "leg", mjcf::LEG, mjcf::LEG_TASK));
    let (code, text) = run(&at, &[&env, "seed=0,1", "max_epochs=2", "lr_schedule=constant"]);
    assert_eq!(code, 0, "{text}");
    std::fs::remove_file(dir.path().join("leg.yaml")).unwrap();
    std::fs::remove_file(dir.path().join("leg.xml")).unwrap();
    let o =
        Command::new(env!("CARGO_BIN_EXE_pwm-train")).arg("--resume").arg(&at).arg("max_epochs=4").output().unwrap();
    assert!(o.status.success(), "{}", said(&o));
    let told = status(&at);
    assert!(told["members"].as_array().unwrap().iter().all(|m| m["epoch"] == 4 && m["state"] == "finished"), "{told}");
}
