//! How far a member is, read from its run folder: by any process, on any machine that sees the folder.

use std::path::Path;

use serde::Serialize;

use super::folder::{Failure, read_failure};
use crate::algo::metrics::{CPU, ELAPSED, EVAL_MEAN};
use crate::config::Config;
use crate::io::metrics::{self, Row};
use crate::run::folder::{self, End, RunFolder, RunInfo};
use crate::run::session::StopReason;

/// What a member is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It was not started yet.
    Waiting,
    /// A scheduler has it in its queue.
    Queued,
    /// A process works on it.
    Running,
    /// It was stopped or killed on its way, and goes on from its last checkpoint.
    Interrupted,
    /// It came to its end.
    Finished,
    /// It came to its end before, for want of better evaluations.
    StoppedEarly,
    /// It ended with an error, or could not be started.
    Failed,
}

impl State {
    /// Every state, in the order of a run's life.
    pub const ALL: [Self; 7] = [
        Self::Waiting,
        Self::Queued,
        Self::Running,
        Self::Interrupted,
        Self::Finished,
        Self::StoppedEarly,
        Self::Failed,
    ];

    /// As the table shows it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Finished => "finished",
            Self::StoppedEarly => "stopped early",
            Self::Failed => "failed",
        }
    }

    /// Whether it will not go on by itself.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Finished | Self::StoppedEarly | Self::Failed)
    }
}

/// How far a member is. What is not known, or not measured yet, is none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemberStatus {
    /// What it is doing.
    pub state: State,
    /// Why, of one that does not go on.
    pub why: Option<String>,
    /// Epochs done.
    pub epoch: u64,
    /// Epochs it will do.
    pub max_epochs: Option<u64>,
    /// Environment steps done.
    pub env_steps: u64,
    /// Minutes of training, all sittings together.
    pub minutes: f64,
    /// The same of the processor.
    pub cpu_minutes: Option<f64>,
    /// Highest evaluation.
    pub best_return: Option<f64>,
    /// Last evaluation.
    pub last_return: Option<f64>,
    /// Minutes to its end at its mean speed so far, of one that runs.
    pub minutes_left: Option<f64>,
}

impl MemberStatus {
    /// Of the run in this folder, which may not be there yet; `failure` is what its sweep remembers of it, unless the
    /// folder itself says so.
    pub fn read(run: &Path, failure: Option<&Failure>) -> Self {
        // Before its files: a process that ends meanwhile has written all of them.
        let running = folder::goes_on(run);
        let info = folder::read_info(run).ok().flatten();
        let noted = read_failure(run);
        let (state, why) = match (running, failure.or(noted.as_ref())) {
            (true, _) => (State::Running, None),
            (false, Some(failure)) => (State::Failed, Some(failure.reason.clone())),
            (false, None) => ended(run, info.as_ref()),
        };
        let info = info.unwrap_or_default();
        let (row, last_return) = last(&run.join(metrics::FILE_NAME));
        let now = |name: &str| row.as_ref().and_then(|r| r.values.get(name)).copied().filter(|x| x.is_finite());
        let seconds = info.elapsed_seconds.max(now(ELAPSED.name).unwrap_or(0.0));
        let cpu = info.cpu_seconds.into_iter().chain(now(CPU.name)).reduce(f64::max);
        let (epoch, env_steps) = row.as_ref().map_or((0, 0), |r| (r.epoch, r.step));
        let mut status = Self {
            state,
            why,
            epoch: epoch.max(info.epoch),
            max_epochs: None,
            env_steps: env_steps.max(info.env_steps),
            minutes: seconds / 60.0,
            cpu_minutes: cpu.map(|s| s / 60.0),
            best_return: info.best_return.into_iter().chain(last_return).reduce(f64::max),
            last_return,
            minutes_left: None,
        };
        if let Some(config) = config_of(run) {
            status.max_epochs = Some(config.max_epochs);
            status.minutes_left = (state == State::Running).then(|| status.left(&config, &info)).flatten();
        }
        status
    }

    /// Minutes to the first of its limits.
    fn left(&self, c: &Config, info: &RunInfo) -> Option<f64> {
        if self.epoch == 0 {
            return None;
        }
        let by_epochs = c.max_epochs.saturating_sub(self.epoch) as f64 * self.minutes / self.epoch as f64;
        // A sitting that goes on from another has its own `max_minutes`, and does not say since when.
        let by_time = (c.max_minutes > 0.0 && info.resumed == 0).then_some(c.max_minutes - self.minutes);
        let by_cpu = self.cpu_minutes.filter(|cpu| c.max_cpu_minutes > 0.0 && *cpu > 0.0);
        let by_cpu = by_cpu.map(|cpu| (c.max_cpu_minutes - cpu) * self.minutes / cpu);
        [Some(by_epochs), by_time, by_cpu].into_iter().flatten().reduce(f64::min).map(|left| left.max(0.0))
    }
}

/// What a run says of its end, on which no process works.
fn ended(run: &Path, info: Option<&RunInfo>) -> (State, Option<String>) {
    let Some(ended) = info.and_then(|i| i.ended) else {
        // A run says how it ended unless it is killed.
        let killed = || (State::Interrupted, Some("killed".into()));
        return if RunFolder::holds_run(run) { killed() } else { (State::Waiting, None) };
    };
    let state = match ended.kind {
        End::Epochs | End::Time => State::Finished,
        End::EarlyStop => State::StoppedEarly,
        End::Signal | End::Request | End::Other => State::Interrupted,
        End::Collapse | End::Error => State::Failed,
    };
    (state, info.and_then(|i| i.finished.clone()))
}

/// The last row of a run's metrics, and the last evaluation that is a number.
fn last(path: &Path) -> (Option<Row>, Option<f64>) {
    /// Rows of a hundred epochs and more.
    const TAIL: u64 = 64 << 10;
    let eval = |r: &Row| r.values.get(EVAL_MEAN.name).copied().filter(|x| x.is_finite());
    let mut bytes = TAIL;
    loop {
        let Ok(rows) = metrics::last_rows(path, bytes) else { return (None, None) };
        let last = rows.iter().rev().find_map(eval);
        // Evaluations may be further apart than that.
        if last.is_some() || std::fs::metadata(path).is_ok_and(|m| m.len() <= bytes) {
            return (rows.into_iter().next_back(), last);
        }
        bytes = bytes.saturating_mul(16);
    }
}

fn config_of(run: &Path) -> Option<Config> {
    let file = run.join("config.yaml");
    let text = std::fs::read_to_string(&file).ok()?;
    Config::from_yaml::<&str>(&file.display().to_string(), &text, &[]).ok()
}

/// Whether the run in a folder came to its end by itself and these settings do not take it any further.
pub fn is_over(run: &Path, c: &Config) -> bool {
    let Ok(Some(info)) = folder::read_info(run) else { return false };
    if StopReason::of_whole_run(&info, c).is_some() {
        return info.ended.is_some_and(|e| matches!(e.kind, End::Epochs | End::Time));
    }
    let limits = ["max_epochs", "max_minutes", "max_cpu_minutes", "early_stop_patience"];
    let as_before = |stored: Config| limits.iter().all(|key| stored.get(key) == c.get(key));
    info.ended.is_some_and(|e| matches!(e.kind, End::Time | End::EarlyStop)) && config_of(run).is_some_and(as_before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::folder::{Ended, RunFolder};

    fn run(dir: &Path, kind: Option<End>, epoch: u64) -> RunFolder {
        let c = Config { max_epochs: 20, ..Config::default() };
        let folder = RunFolder::create(dir, &c.to_yaml()).unwrap();
        let ended = kind.map(|kind| Ended { kind, status: 0 });
        let finished = kind.map(|_| "some reason".to_owned());
        let times = RunInfo { elapsed_seconds: 60.0, cpu_seconds: Some(90.0), ..RunInfo::begin(1) };
        folder.write_info(&RunInfo { epoch, env_steps: 100 * epoch, ended, finished, ..times }).unwrap();
        folder
    }

    #[test]
    fn a_folder_tells_how_far_its_run_is() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str| MemberStatus::read(&dir.path().join(name), None);
        assert_eq!((of("none").state, of("none").epoch, of("none").max_epochs), (State::Waiting, 0, None));
        for (kind, state) in [
            (Some(End::Epochs), State::Finished),
            (Some(End::Time), State::Finished),
            (Some(End::EarlyStop), State::StoppedEarly),
            (Some(End::Signal), State::Interrupted),
            (Some(End::Error), State::Failed),
            (Some(End::Collapse), State::Failed),
            (None, State::Interrupted),
        ] {
            let name = format!("{kind:?}");
            drop(run(&dir.path().join(&name), kind, 5));
            let status = of(&name);
            assert_eq!((status.state, status.epoch, status.max_epochs), (state, 5, Some(20)));
            assert_eq!(status.minutes_left, None);
            assert_eq!(status.why.as_deref(), Some(if kind.is_some() { "some reason" } else { "killed" }));
        }
        let held = run(&dir.path().join("held"), None, 5);
        let rows = "{\"step\":500,\"epoch\":5,\"eval/return_mean\":7.5}\n\
                    {\"step\":1000,\"epoch\":10,\"time/elapsed_s\":120,\"time/cpu_s\":240}\n{\"step\":11";
        std::fs::write(held.file(metrics::FILE_NAME), rows).unwrap();
        let status = of("held");
        assert_eq!((status.state, status.epoch, status.env_steps), (State::Running, 10, 1000));
        assert_eq!((status.minutes, status.cpu_minutes), (2.0, Some(4.0)));
        assert_eq!((status.best_return, status.last_return), (Some(7.5), Some(7.5)));
        assert_eq!(status.minutes_left, Some(2.0), "ten more epochs of twenty");
        drop(held);
        let failure = Failure { reason: "killed by SIGKILL".into(), ..Failure::default() };
        let failed = MemberStatus::read(&dir.path().join("held"), Some(&failure));
        assert_eq!((failed.state, failed.why.as_deref()), (State::Failed, Some("killed by SIGKILL")));
    }

    #[test]
    fn a_run_is_over_until_its_limits_are_moved() {
        let dir = tempfile::tempdir().unwrap();
        let c = |max_epochs, max_minutes| Config { max_epochs, max_minutes, ..Config::default() };
        let over = |kind, epoch, c: &Config| {
            let path = dir.path().join(format!("{kind:?}{epoch}"));
            if !path.exists() {
                drop(run(&path, kind, epoch));
            }
            is_over(&path, c)
        };
        assert!(over(Some(End::Epochs), 20, &c(20, 0.0)) && !over(Some(End::Epochs), 20, &c(30, 0.0)));
        assert!(over(Some(End::Time), 7, &c(20, 0.0)) && !over(Some(End::Time), 7, &c(20, 9.0)));
        assert!(over(Some(End::EarlyStop), 7, &c(20, 0.0)));
        for kind in [None, Some(End::Signal), Some(End::Error)] {
            assert!(!over(kind, 20, &c(20, 0.0)) && !over(kind, 7, &c(20, 0.0)), "{kind:?}");
        }
        assert!(!is_over(&dir.path().join("none"), &c(20, 0.0)));
    }
}
