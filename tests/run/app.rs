//! Runs from the outside: what they leave, that they go on to the same bits, and how they end.

#[cfg(target_os = "linux")]
use crate::support::ant::{MOVIE, STILL};
use crate::support::eval::eval_args;
use crate::support::process::processor_time;
#[cfg(unix)]
use crate::support::process::{end, signal, wait_for, wait_while_it_runs};
use crate::support::tiny;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::rows::rows as rows_of;
use pwm::algo::Runner;
use pwm::app::{eval, train};
use pwm::config::load;
use pwm::io::checkpoint::Checkpoint;
use pwm::io::metrics::{column, read_metrics};
use pwm::ops::replay::Counter;
use pwm::run::folder::{self, End, Ended, RunFolder, RunInfo};
use pwm::run::incidents;
use pwm::run::session::{CURVE, Session, StopReason};
use pwm::run::signals::StopFlag;
use pwm::run::state;

fn train_args(settings: &[&str], resume: Option<&Path>) -> train::TrainArgs {
    let overrides = match resume {
        None => tiny::settings(settings),
        Some(_) => settings.iter().map(|s| (*s).into()).collect(),
    };
    train::TrainArgs { overrides, resume: resume.map(Into::into), ..Default::default() }
}

/// Runs `pwm-train` inside this process and returns what it printed.
fn train(settings: &[&str], resume: Option<&Path>) -> anyhow::Result<String> {
    let mut out = Vec::new();
    train::run(&train_args(settings, resume), &mut out, &StopFlag::detached())?;
    Ok(String::from_utf8(out)?)
}

fn evaluate(path: &Path, more: impl FnOnce(&mut eval::EvalArgs)) -> anyhow::Result<String> {
    let mut out = Vec::new();
    eval::run(&eval_args(path, more), &mut out)?;
    Ok(String::from_utf8(out)?)
}

fn run_dir(dir: &Path) -> String {
    format!("run_dir={}", dir.display())
}

#[test]
fn a_run_leaves_its_folder_and_is_evaluated_to_the_same_number() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("a run");
    let said = train(&[&run_dir(&run)], None).unwrap();
    for file in ["config.yaml", "run.json", "metrics.jsonl", CURVE, MOVIE, STILL] {
        assert!(run.join(file).is_file(), "{file}");
    }
    let rows = read_metrics(&run.join("metrics.jsonl")).unwrap();
    assert_eq!(rows.iter().map(|r| r.epoch).collect::<Vec<_>>(), [0, 2, 4, 5, 6, 8, 10, 12, 14, 15, 16, 18, 20]);
    let evals = column(&rows, "eval/return_mean");
    assert_eq!(evals.len(), 5);
    for name in ["loss/actor", "loss/critic", "loss/dynamics", "loss/reward", "grad_norm/world_model", "train/return"] {
        assert!(!column(&rows, name).is_empty(), "{name}");
    }

    // The last line of training about each policy, and what `pwm eval` says.
    let line = |text: &str, begin: &str| {
        let line = text.lines().find(|l| l.trim_start().starts_with(begin)).unwrap();
        line.trim_start().trim_start_matches(begin).trim().to_owned()
    };
    let last = line(&said, "last policy");
    let again = evaluate(&folder::latest(&run), |_| {}).unwrap();
    assert_eq!(again.lines().nth(1).unwrap(), last);
    let best = line(&said, "best policy");
    let movie = dir.path().join("m.html");
    let again = evaluate(&run, |a| a.movie = Some(movie.clone())).unwrap();
    let number = again.lines().nth(1).unwrap().split(" (").next().unwrap();
    assert!(best.starts_with(number), "{best} is {number}");
    assert!(movie.is_file() && dir.path().join("m.svg").is_file());
    assert!(std::fs::read(dir.path().join("m.gif")).unwrap().starts_with(b"GIF89a"));
    // Other starts give another number, and the count can be chosen.
    let fresh = evaluate(&run, |a| (a.fresh, a.episodes) = (true, Some(7))).unwrap();
    assert!(fresh.contains("(7 episodes), fresh starts") && !fresh.contains(number), "{fresh}");

    // Pictures of it go into its own folder unless another place is given.
    let page = eval::RenderArgs { checkpoint: run.clone(), out: None, episodes: 2 };
    eval::render(&page, &mut vec![]).unwrap();
    assert!(["best.html", "best.svg", "best.gif"].iter().all(|n| run.join("render").join(n).is_file()));

    // Nothing is left to do for the same command; another run in this folder is refused.
    let again = train(&[&run_dir(&run)], None).unwrap();
    let command = format!("--resume '{}' max_epochs=40 max_minutes=0", run.display());
    assert!(again.contains("this run is over") && again.contains(&command), "{again}");
    let text = train(&[&run_dir(&run), "seed=5"], None).unwrap_err().to_string();
    assert!(text.contains("--resume") && text.contains("run_dir="), "{text}");
    assert!(said.contains(&command) && said.contains("learning rates fall over max_epochs"), "{said}");
    // A finished run can be made longer. Its new end has an evaluation and one row, though it is logged anyway.
    let said = train(&["max_epochs=22"], Some(&run)).unwrap();
    assert!(said.contains("22 of 22 epochs"), "{said}");
    let rows = read_metrics(&run.join("metrics.jsonl")).unwrap();
    assert!(rows.windows(2).all(|w| w[0].epoch < w[1].epoch), "no epoch stands twice");
    assert!(rows.last().unwrap().epoch == 22 && rows.last().unwrap().values.contains_key("eval/return_mean"));
    let info = folder::read_info(&run).unwrap().unwrap();
    assert_eq!(info.ended, Some(Ended { kind: End::Epochs, status: 0 }));
}

#[test]
fn every_checkpoint_of_several_runs_stands_in_one_table() {
    let dir = tempfile::tempdir().unwrap();
    for seed in ["seed=0", "seed=1"] {
        train(&[&run_dir(&dir.path().join(seed)), seed, "keep_best=2", "max_epochs=10"], None).unwrap();
    }
    let (csv, markdown) = (dir.path().join("t.csv"), dir.path().join("t.md"));
    let all = |path: &Path| {
        let (csv, markdown) = (csv.clone(), markdown.clone());
        // The runs are over: a watch looks once.
        evaluate(path, |a| (a.episodes, a.watch, a.csv, a.markdown) = (Some(6), true, Some(csv), Some(markdown)))
            .unwrap()
    };
    let said = all(&dir.path().join("seed=*"));
    assert_eq!(said.lines().count(), 2 + 2 * 4, "best, two of the best, latest: {said}");
    assert_eq!(std::fs::read_to_string(&markdown).unwrap(), said);
    let table = std::fs::read_to_string(&csv).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|l| l.split(',').collect()).collect();
    let row = |run: &str, name: &str| rows.iter().find(|r| r[0] == run && r[1] == name).unwrap();
    // The best policy is one of the best, and the same policy gets the same numbers.
    let best = row("seed=1", "best");
    let twin = rows.iter().find(|r| r[0] == "seed=1" && r[1].starts_with("best-") && r[4] == best[4]).unwrap();
    assert_eq!(best[5..], twin[5..]);
    assert!(rows.iter().all(|r| r.len() == 12 && r[2] == "ant" && r[10] == "6" && r[9].parse::<usize>().unwrap() <= 6));
    assert_eq!(all(dir.path()), said, "a folder of runs means all of them");
    let run = dir.path().join("seed=0");
    let one = evaluate(&run, |a| a.all = true).unwrap();
    assert_eq!(one.lines().count(), 2 + 4, "{one}");
    let asked = evaluate(&run, |a| a.episodes = Some(6)).unwrap();
    assert_eq!(asked.lines().count(), 2 + 4, "{asked}");
    let fresh = evaluate(&run, |a| (a.episodes, a.fresh) = (Some(6), true)).unwrap();
    assert_eq!(fresh.lines().count(), 2, "the best policy alone: {fresh}");

    // One that is damaged costs its own line and the status, not the others.
    let best = folder::best(&run);
    let mut bytes = std::fs::read(&best).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&best, bytes).unwrap();
    let mut out = vec![];
    let args = eval_args(&run, |a| (a.all, a.episodes, a.csv) = (true, Some(2), Some(csv.clone())));
    let error = eval::run(&args, &mut out).unwrap_err();
    assert!(pwm::app::status(&error) == 4 && format!("{error:#}").contains("3 checkpoints were judged"), "{error:#}");
    assert_eq!(String::from_utf8(out).unwrap().lines().count(), 2 + 3);
    assert_eq!(std::fs::read_to_string(&csv).unwrap().lines().count(), 1 + 3);
}

/// A process that is killed between writing its best policy and its state lives through that evaluation again, and then
/// leaves what it would have left.
#[test]
fn a_run_killed_beside_its_best_policy_tells_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("r");
    // With constant rates a run that is cut short is the beginning of the longer one.
    let settings = ["eval_every=1", "save_every=1000", "lr_schedule=constant", &run_dir(&run)];
    let config = tiny::config(&settings);
    let folder = RunFolder::create(&run, &config.to_yaml()).unwrap();
    let mut s = Session::begin(Runner::<f32>::new(&config).unwrap(), folder, RunInfo::begin(config.seed)).unwrap();
    let stop = StopFlag::detached();
    while s.best().unwrap().epoch == 0 {
        assert_eq!(s.step(&stop).unwrap(), None);
    }
    let best = s.best().unwrap();
    assert_eq!(folder::read_info(&run).unwrap().unwrap().best_epoch, Some(0), "as at its first checkpoint");
    drop(s);
    let pictures = [MOVIE, STILL].map(|n| run.join(n));
    pictures.iter().for_each(|p| std::fs::write(p, "of an older policy").unwrap());
    train(&[&format!("max_epochs={}", best.epoch)], Some(&run)).unwrap();
    let info = folder::read_info(&run).unwrap().unwrap();
    assert_eq!((info.best_return, info.best_epoch), (Some(best.mean), Some(best.epoch)));
    assert!(pictures.iter().all(|p| std::fs::metadata(p).unwrap().len() > 1000), "drawn again");
}

#[test]
fn a_resumed_run_goes_on_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    train(&[&run_dir(&a)], None).unwrap();

    let config = tiny::config(&[&run_dir(&b)]);
    let folder = RunFolder::create(&b, &config.to_yaml()).unwrap();
    let mut s = Session::begin(Runner::<f32>::new(&config).unwrap(), folder, RunInfo::begin(config.seed)).unwrap();
    // Before the first evaluation, which only `run` makes.
    (0..4).for_each(|_| s.epoch().unwrap());
    s.save().unwrap();
    // Epochs after the checkpoint are lost with the process, and made again.
    (0..2).for_each(|_| s.epoch().unwrap());
    drop(s);
    train(&["threads=1"], Some(&b)).unwrap();

    let bytes = |p| std::fs::read(p).unwrap();
    assert!(bytes(folder::latest(&a)) == bytes(folder::latest(&b)), "latest checkpoints differ");
    assert!(bytes(folder::best(&a)) == bytes(folder::best(&b)), "best checkpoints differ");
    assert_eq!(rows_of(&a), rows_of(&b));
}

/// Epochs 3 to 19 do not fall on a row: what the next one is made of must be in the checkpoint. Nor does an evaluation
/// fall on them: the one that ends a sitting must not count, or the run would be rolled back to a policy that another
/// never had.
#[test]
fn a_run_that_goes_on_between_two_rows_writes_the_same_ones() {
    let dir = tempfile::tempdir().unwrap();
    let every = ["max_epochs=24", "log_every=7", "eval_every=10", "save_every=100"];
    let collapse =
        ["keep_best=1", "collapse=rollback", "collapse_fraction=0.9999", "collapse_evals=1", "max_rollbacks=99"];
    let grid = [&every[..], &collapse].concat();
    let whole = dir.path().join("whole");
    train(&[&grid[..], &[&run_dir(&whole)]].concat(), None).unwrap();
    let rows = rows_of(&whole);
    assert_eq!(rows.iter().map(|r| r.1).collect::<Vec<_>>(), [0, 7, 10, 14, 20, 21, 24]);
    for (killed, at) in [(true, 3), (true, 12), (false, 12), (true, 19), (false, 19)] {
        let run = dir.path().join(format!("{killed}{at}"));
        let config = tiny::config(&[&grid[..], &[&run_dir(&run)]].concat());
        let folder = RunFolder::create(&run, &config.to_yaml()).unwrap();
        let mut s = Session::begin(Runner::<f32>::new(&config).unwrap(), folder, RunInfo::begin(config.seed)).unwrap();
        let stop = StopFlag::detached();
        while s.runner.epoch() < at {
            assert_eq!(s.step(&stop).unwrap(), None);
        }
        if killed {
            s.save().unwrap();
            assert_eq!(s.step(&stop).unwrap(), None, "an epoch that is lost");
        } else {
            let best = s.best();
            stop.request();
            assert_eq!(s.run(&stop).unwrap(), StopReason::Asked("a request"));
            assert!(s.evaluation().is_some() && s.best() == best, "shown, and not counted");
        }
        drop(s);
        train(&["threads=1"], Some(&run)).unwrap();
        assert_eq!(rows_of(&run), rows, "killed {killed}, at epoch {at}");
        let told = |run: &Path| {
            let i = folder::read_info(run).unwrap().unwrap();
            (i.best_return, i.best_epoch, incidents::read(run).unwrap(), std::fs::read(folder::best(run)).unwrap())
        };
        assert!(told(&run) == told(&whole), "killed {killed}, at epoch {at}");
        let state = |run: &Path| std::fs::read(folder::latest(run)).unwrap();
        assert!(state(&run) == state(&whole), "killed {killed}, at epoch {at}: the state differs");
    }
    // Nothing is left to do: no row is doubled.
    train(&["threads=1"], Some(&whole)).unwrap();
    assert_eq!(rows_of(&whole), rows);
}

/// A checkpoint of an earlier build, which did not store what the next row is made of, goes on all the same.
#[test]
fn a_checkpoint_of_an_earlier_build_goes_on() {
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/run_without_pending.safetensors");
    let stored = Checkpoint::load(&old).unwrap();
    assert!(!stored.meta().contains_key("pending") && !stored.meta().contains_key("vitals"));
    assert_eq!(state::loop_state_of(&stored).unwrap().partial_row, Default::default());
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("r");
    drop(RunFolder::create(&run, stored.meta_str("config").unwrap()).unwrap());
    std::fs::copy(&old, folder::latest(&run)).unwrap();
    let said = train(&["max_epochs=9", "max_minutes=0"], Some(&run)).unwrap();
    assert!(said.contains("after epoch 7") && said.contains("9 of 9 epochs"), "{said}");
}

#[test]
fn time_is_up_and_a_run_that_never_began_are_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("r");
    // Nothing but a folder: as if the process had been killed before its first checkpoint.
    let config = tiny::config(&[&run_dir(&run)]);
    drop(RunFolder::create(&run, &config.to_yaml()).unwrap());
    let said = train(&["max_minutes=1e-9"], Some(&run)).unwrap();
    assert!(said.contains("time is up") && said.contains("0 of 20 epochs"), "{said}");
    assert!(said.contains("max_minutes="), "{said}");
    let said = train(&["max_minutes=0"], Some(&run)).unwrap();
    assert!(said.contains("20 of 20 epochs"), "{said}");
}

/// As processes: inside this one, other tests' threads take processor time too.
#[cfg(unix)]
#[test]
fn processor_time_adds_up_over_sittings_and_ends_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("r");
    let sit = |minutes: f64| {
        let limit = format!("max_cpu_minutes={minutes}");
        let long = ["max_epochs=1_000_000", "eval_every=1_000_000", "log_every=1", "threads=1"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_pwm-train"));
        command.args(tiny::settings(&[&long[..], &[&limit, &run_dir(&run)]].concat()));
        let out = command.output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        (String::from_utf8(out.stdout).unwrap(), folder::read_info(&run).unwrap().unwrap())
    };
    let (said, first) = sit(0.002);
    assert!(said.contains("processor time is up") && said.contains("max_cpu_minutes=0.008"), "{said}");
    assert_eq!(first.ended, Some(Ended { kind: End::Time, status: 0 }));
    let used = first.cpu_seconds.unwrap();
    assert!((0.12..60.0).contains(&used), "{used}");
    let (said, again) = sit(0.002);
    assert!(said.contains("this run is over") && again == first, "{said}");
    let (_, second) = sit((used + 0.1) / 60.0);
    assert!(second.cpu_seconds.unwrap() >= used + 0.1 && second.epoch > first.epoch, "{first:?} {second:?}");
    assert_eq!(second.resumed, 1);
    let spent: Vec<f64> =
        column(&read_metrics(&run.join("metrics.jsonl")).unwrap(), "time/cpu_s").into_iter().map(|r| r.1).collect();
    assert!(spent.len() as u64 == second.epoch + 1 && spent.is_sorted() && spent[0] > 0.0, "{spent:?}");
}

#[test]
fn wrong_settings_are_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("r");
    let status = |e: anyhow::Error| (pwm::app::status(&e), format!("{e:#}"));
    let (code, text) = status(train(&[&run_dir(&run), "wm_batch=3"], None).unwrap_err());
    assert!(code == 2 && text.contains("wm_batch_size"), "{text}");
    assert!(!run.exists());
    train(&[&run_dir(&run), "max_epochs=2"], None).unwrap();
    let (code, text) = status(train(&["gamma=0.9", "seed=4"], Some(&run)).unwrap_err());
    assert!(code == 2 && text.contains("`gamma`") && text.contains("`seed`") && text.contains("max_minutes"), "{text}");
    let (code, text) = status(train(&[], Some(&dir.path().join("nowhere"))).unwrap_err());
    assert!(code == 2 && text.contains("holds no run"), "{text}");
    let (_, text) = status(evaluate(&dir.path().join("nothing.safetensors"), |_| {}).unwrap_err());
    assert!(text.contains("no such file"), "{text}");
    let (_, text) = status(evaluate(&run.join("checkpoints"), |_| {}).unwrap_err());
    assert!(text.contains("no checkpoint"), "{text}");
    // A best checkpoint holds no optimiser: a run cannot go on from it, and says what is missing.
    std::fs::copy(folder::best(&run), folder::latest(&run)).unwrap();
    let (code, text) = status(train(&["max_epochs=3"], Some(&run)).unwrap_err());
    assert!(code == 4 && text.contains("adam"), "{text}");
}

/// `pwm-train` as a process of its own, on a run that would take for ever. No evaluation is due when a signal may come.
#[cfg(unix)]
fn spawn(run: &Path) -> std::process::Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pwm-train"));
    command
        .args(tiny::settings(&["max_epochs=1_000_000", "save_every=20", "eval_every=1_000_000", "threads=1"]))
        .arg(run_dir(run));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let metrics = run.join("metrics.jsonl");
    wait_while_it_runs(&mut child, "it has trained for a while", || {
        std::fs::read_to_string(&metrics).is_ok_and(|t| t.lines().count() > 30)
    });
    child
}

#[cfg(unix)]
#[test]
fn signals_end_a_run_with_everything_saved() {
    let dir = tempfile::tempdir().unwrap();
    for (name, evaluates) in [("INT", true), ("TERM", false), ("USR1", false)] {
        let run = dir.path().join(name);
        let child = spawn(&run);
        let busy = Command::new(env!("CARGO_BIN_EXE_pwm-train")).arg("--resume").arg(&run).output().unwrap();
        assert_eq!(busy.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&busy.stderr).contains("in use by another process"));
        signal(&child, name);
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stdout);
        assert_eq!(ended.status.code(), Some(0), "{name}: {said}\n{}", String::from_utf8_lossy(&ended.stderr));
        assert!(said.contains(&format!("stopped by SIG{name}")) && said.contains("--resume"), "{said}");
        assert_eq!(said.contains("last policy"), evaluates, "{said}");
        let info = folder::read_info(&run).unwrap().unwrap();
        assert!(info.epoch > 0 && info.finished.is_some(), "{info:?}");
        assert_eq!(info.ended, Some(Ended { kind: End::Signal, status: 0 }));
        assert!(folder::latest(&run).is_file() && run.join(CURVE).is_file() && run.join(MOVIE).is_file());
    }
}

/// A scheduler kills soon after its signal, also in the middle of an epoch that takes a minute.
#[cfg(target_os = "linux")]
#[test]
fn a_schedulers_signal_does_not_wait_for_a_long_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("r");
    let long = ["wm_iterations=200000", "wm_bootstrap_iterations=0", "max_epochs=3"];
    let mut child = Command::new(env!("CARGO_BIN_EXE_pwm-train"))
        .args(tiny::settings(&long))
        .arg(format!("run_dir={}", run.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_while_it_runs(&mut child, "its first checkpoint", || folder::latest(&run).is_file());
    // What lies between that and the long epoch takes milliseconds.
    let begun = processor_time(&child);
    let inside = || processor_time(&child) > begun + Duration::from_millis(500);
    wait_for("it is inside the epoch", inside);
    signal(&child, "TERM");
    end(&mut child);
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(143), "{said}");
    assert!(said.contains("SIGTERM inside an epoch"), "{said}");
    state::epoch_of(&Checkpoint::load(&folder::latest(&run)).unwrap()).unwrap();

    // Nor for a first evaluation that takes as long.
    let run = dir.path().join("first");
    let wide = ["actor_units=[3000,3000]", "threads=1"];
    let long = ["eval_episodes=64", "episode_length=1000", "early_termination=false"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_pwm-train"));
    command
        .args(tiny::settings(&[&wide[..], &long, &[&run_dir(&run)]].concat()))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait_while_it_runs(&mut child, "the run's folder", || RunFolder::holds_run(&run));
    signal(&child, "USR1");
    assert_eq!(end(&mut child).code(), Some(138));
    assert!(!folder::latest(&run).exists());

    // Nor for the evaluation that ends a sitting: the run is saved by then. Its first checkpoint is written here, as
    // its first evaluation would take as long.
    let run = dir.path().join("last");
    let config = tiny::config(&[&wide[..], &long, &["max_minutes=1e-4", &run_dir(&run)]].concat());
    drop(RunFolder::create(&run, &config.to_yaml()).unwrap());
    let mut runner = Runner::<f32>::new(&config).unwrap();
    runner.run_epoch().unwrap();
    state::save_latest(&folder::latest(&run), &runner, &state::LoopState::default()).unwrap();
    drop(runner);
    let mut command = Command::new(env!("CARGO_BIN_EXE_pwm-train"));
    let mut child = command.arg("--resume").arg(&run).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let ended = || folder::read_info(&run).is_ok_and(|i| i.is_some_and(|i| i.ended.is_some()));
    wait_while_it_runs(&mut child, "the run is over", ended);
    signal(&child, "TERM");
    end(&mut child);
    // That status tells that it did not finish the evaluation.
    let said = child.wait_with_output().unwrap();
    assert_eq!(said.status.code(), Some(143), "{}", String::from_utf8_lossy(&said.stderr));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("metrics.jsonl: no rows; what was measured up to epoch 1 is lost"), "{said}");
}

/// The largest shipped flow model. How long its checkpoint takes with a full replay buffer is printed: that is the
/// disk's (`TMPDIR=/dev/shm` tells what is the program's own).
#[cfg(unix)]
#[test]
#[ignore = "2.5 GiB and some minutes: scripts/full"]
fn the_48m_flow_model_is_gone_within_five_seconds_of_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let settings = ["alg=pwm_48M_flow_v2", "eval_episodes=1"];
    let mut t = Runner::<f32>::new(&load(&settings).unwrap()).unwrap();
    let (counters, capacity) = (t.replay().unwrap().counters, t.config().wm_buffer_size);
    t.machine.index_mut(counters)[Counter::Rows as usize] = capacity as u32;
    let file = dir.path().join("full.safetensors");
    for _ in 0..3 {
        let from = Instant::now();
        state::save_latest(&file, &t, &state::LoopState::default()).unwrap();
        let (seconds, bytes) = (from.elapsed().as_secs_f64(), std::fs::metadata(&file).unwrap().len());
        println!("a checkpoint of {:.0} MiB with {capacity} rows of replay: {seconds:.2} s", bytes as f64 / 1048576.0);
    }
    drop(t);

    let run = dir.path().join("r");
    // Waits until it is in its epochs for the `sitting`-th time, from 0.
    let start = |sitting: Option<u64>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pwm-train"));
        let child = command.args(settings).arg(run_dir(&run)).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let child = child.unwrap();
        let resumed = |n: u64| folder::read_info(&run).is_ok_and(|i| i.is_some_and(|i| i.resumed == n));
        let from = Instant::now();
        while sitting.is_some_and(|n| !(folder::latest(&run).is_file() && resumed(n))) {
            assert!(from.elapsed().as_secs() < 600, "it does not begin");
            std::thread::sleep(Duration::from_millis(50));
        }
        child
    };
    for (i, name) in ["TERM", "USR1", "TERM", "USR1", "TERM"].into_iter().enumerate() {
        let child = start(Some(i as u64));
        // Anywhere in what it does then.
        std::thread::sleep(Duration::from_millis(700 + 2300 * i as u64));
        let from = Instant::now();
        signal(&child, name);
        let ended = child.wait_with_output().unwrap();
        let seconds = from.elapsed().as_secs_f64();
        let epoch = state::epoch_of(&Checkpoint::load(&folder::latest(&run)).unwrap()).unwrap();
        println!("SIG{name}: {seconds:.2} s, status {:?}, saved epoch {epoch}", ended.status.code());
        assert!(seconds <= 5.0 && matches!(ended.status.code(), Some(0 | 138 | 143)));
    }
    // While it begins.
    let child = start(None);
    std::thread::sleep(Duration::from_millis(300));
    let from = Instant::now();
    signal(&child, "TERM");
    let ended = child.wait_with_output().unwrap();
    println!("SIGTERM at its beginning: {:.2} s, status {:?}", from.elapsed().as_secs_f64(), ended.status.code());
    assert!(from.elapsed().as_secs_f64() <= 5.0);
    let child = start(Some(folder::read_info(&run).unwrap().unwrap().resumed + 1));
    std::thread::sleep(Duration::from_millis(1500));
    signal(&child, "TERM");
    std::thread::sleep(Duration::from_millis(300));
    let from = Instant::now();
    signal(&child, "TERM");
    let ended = child.wait_with_output().unwrap();
    println!("a second SIGTERM: {:.2} s", from.elapsed().as_secs_f64());
    assert!(from.elapsed().as_secs_f64() < 1.0 && ended.status.code() == Some(143));
    Checkpoint::load(&folder::latest(&run)).unwrap();
}

#[cfg(unix)]
#[test]
fn a_killed_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("r");
    let mut child = spawn(&run);
    child.kill().unwrap();
    child.wait().unwrap();
    let before = folder::read_info(&run).unwrap().unwrap();
    assert!(before.finished.is_none());
    // The checkpoint may be newer than what is said about it.
    let end = state::epoch_of(&Checkpoint::load(&folder::latest(&run)).unwrap()).unwrap() + 3;
    let said = train(&[&format!("max_epochs={end}")], Some(&run)).unwrap();
    assert!(said.contains("finished"), "{said}");
    let rows = read_metrics(&run.join("metrics.jsonl")).unwrap();
    assert!(rows.windows(2).all(|w| w[0].epoch < w[1].epoch), "no epoch stands twice");
    assert_eq!(rows.last().unwrap().epoch, end);
}

#[test]
fn help_lists_every_setting_and_a_wrong_command_is_refused() {
    let out = Command::new(env!("CARGO_BIN_EXE_pwm-train")).arg("--help").output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    for key in pwm::config::KEYS {
        assert!(text.contains(&format!("{}=", key.name)), "{}", key.name);
    }
    let after = text.split("When a run is continued").nth(1).unwrap();
    assert!(after.contains("max_minutes") && after.contains("collapse_evals") && !after.contains("gamma"), "{after}");
    assert!(after.contains("Exit status:") && after.contains("138, 143"), "{after}");
    let code = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_pwm-train")).args(args).output().unwrap().status.code();
    assert_eq!(code(&["--nonsense"]), Some(2));
    assert_eq!(code(&["alg=unheard_of"]), Some(2));
    let pwm = Command::new(env!("CARGO_BIN_EXE_pwm")).args(["config", "list"]).output().unwrap();
    assert!(pwm.status.success() && String::from_utf8_lossy(&pwm.stdout).contains("alg=pwm_small"));
}

/// Both programs and a run say what they were built from and with. The library alone does not know: a commit that was
/// part of it would have it compiled anew.
#[test]
fn the_commit_is_told() {
    assert_eq!(pwm::version::commit(), "unknown");
    let root = env!("CARGO_MANIFEST_DIR");
    let git = Command::new("git").args(["-C", root, "rev-parse", "--short=12", "HEAD"]).output();
    let commit =
        git.ok().filter(|o| o.status.success()).map(|o| String::from_utf8(o.stdout).unwrap().trim().to_owned());
    let commit = std::env::var("PWM_COMMIT").ok().or(commit).unwrap_or("unknown".into());
    for program in [env!("CARGO_BIN_EXE_pwm"), env!("CARGO_BIN_EXE_pwm-train")] {
        let said = String::from_utf8(Command::new(program).arg("--version").output().unwrap().stdout).unwrap();
        assert!(said.contains(&format!("(commit {commit}")) && said.contains("rustc 1."), "{said}");
    }
    let dir = tempfile::tempdir().unwrap();
    let run_dir = format!("run_dir={}", dir.path().join("run").display());
    let settings = tiny::settings(&[&run_dir, "max_epochs=1", "lr_schedule=constant"]);
    assert!(Command::new(env!("CARGO_BIN_EXE_pwm-train")).args(settings).output().unwrap().status.success());
    let info = pwm::run::folder::read_info(&dir.path().join("run")).unwrap().unwrap();
    assert!(info.commit.starts_with(&commit) && info.compiler.starts_with("rustc 1."), "{info:?}");
}

/// Manual pages and completions are made of the same definitions as `--help`, commands below commands among them.
#[test]
fn pages_and_completions_know_every_command() {
    use clap::Parser;
    use pwm::app::cli::PwmCommand;

    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut out = vec![];
        PwmCommand::parse_from([&["pwm"], args].concat()).run(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let told = run(&["man", "--out", &dir.path().display().to_string()]);
    for page in ["pwm", "pwm-train", "pwm-eval", "pwm-data", "pwm-data-index", "pwm-sweep-status"] {
        let file = dir.path().join(format!("{page}.1"));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{page}: {e}"));
        assert!(told.contains(&file.display().to_string()) && text.contains(".TH"), "{page}");
    }
    let page = std::fs::read_to_string(dir.path().join("pwm-train.1")).unwrap();
    assert!(page.contains("resume") && page.contains("max_epochs") && page.contains("Exit status"));
    assert!(std::fs::read_to_string(dir.path().join("pwm-data-index.1")).unwrap().contains("SYNOPSIS"));

    let bash = run(&["completions", "bash", "pwm-train"]);
    assert!(bash.contains("max_epochs=") && bash.contains("--resume") && bash.contains("_pwm__train"), "{bash}");
    let zsh = run(&["completions", "zsh"]);
    assert!(zsh.starts_with("#compdef pwm") && zsh.contains("selftest"));
}
