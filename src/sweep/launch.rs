//! Starts a member and hears how it ended. Here: as a process on this machine.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::capacity::{Capacity, Resources};
use super::folder::Failure;
use crate::run::folder::utc_now;
use crate::run::status;

/// What a member prints, in its folder.
pub const LOG: &str = "output.log";

/// A member to be started.
#[derive(Clone, Debug)]
pub struct Job {
    /// Arguments of the program that trains, the run's folder among them.
    pub args: Vec<String>,
    /// The run's folder.
    pub folder: PathBuf,
    /// What it takes.
    pub resources: Resources,
}

/// How a member's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this status.
    Status(i32),
    /// Killed by this signal.
    Killed(i32),
}

/// Where members run.
pub trait Launcher {
    /// Its name in `sweep.json`.
    fn name(&self) -> &'static str;
    /// Whether a member may start beside those that run.
    fn has_capacity(&self, running: &[Resources], next: &Resources) -> bool;
    /// Starts a member. It appends what it prints to [`LOG`] in its folder.
    fn start(&mut self, job: &Job) -> io::Result<Box<dyn Launched>>;
}

/// A member that was started.
pub trait Launched {
    /// How it ended, if it did.
    fn ended(&mut self) -> io::Result<Option<Exit>>;
    /// Passes a signal on, after which it saves and ends.
    fn signal(&mut self, signal: i32);
}

/// Members are processes of this machine, ended with the process that started them.
#[derive(Debug)]
pub struct Local {
    /// The program that trains.
    pub program: PathBuf,
    /// What there is for all of them.
    pub capacity: Capacity,
}

impl Launcher for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn has_capacity(&self, running: &[Resources], next: &Resources) -> bool {
        self.capacity.fits(running, next)
    }

    fn start(&mut self, job: &Job) -> io::Result<Box<dyn Launched>> {
        std::fs::create_dir_all(&job.folder)?;
        let log = OpenOptions::new().create(true).append(true).open(job.folder.join(LOG))?;
        let mut command = Command::new(&self.program);
        command.args(&job.args).args(["--ui", "plain", "--lifeline"]);
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        // A key on the terminal is for the sweep, which passes it on: a second signal would end a run at once.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        Ok(Box::new(Process(command.spawn()?)))
    }
}

/// A process whose standard input is its lifeline: see `StopFlag::follow`.
struct Process(Child);

impl Launched for Process {
    fn ended(&mut self) -> io::Result<Option<Exit>> {
        let Some(status) = self.0.try_wait()? else { return Ok(None) };
        #[cfg(unix)]
        if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
            return Ok(Some(Exit::Killed(signal)));
        }
        Ok(Some(Exit::Status(status.code().unwrap_or(1))))
    }

    fn signal(&mut self, signal: i32) {
        let Some(lifeline) = &mut self.0.stdin else { return };
        // One that has just ended hears nothing any more.
        let _ = lifeline.write_all(&[signal as u8]).and_then(|()| lifeline.flush());
    }
}

impl Failure {
    /// Why a member failed that ended so and printed this.
    pub fn of(exit: Exit, said: Option<String>) -> Self {
        let (status, signal, reason) = match exit {
            Exit::Status(code) => {
                let status = u8::try_from(code).unwrap_or(1);
                let said = said.unwrap_or_else(|| format!("exit status {code}"));
                (Some(status), None, format!("{said} ({})", status::meaning(status)))
            }
            Exit::Killed(signal) => {
                let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
                let memory = if name == "SIGKILL" { ", as the system does where memory runs out" } else { "" };
                (None, Some(name.into()), format!("killed by {name}{memory}"))
            }
        };
        Self { status, signal, reason, at: utc_now() }
    }

    /// Why a member could not be started.
    pub fn to_start(e: &io::Error) -> Self {
        Self { reason: format!("cannot be started: {e}"), at: utc_now(), ..Self::default() }
    }

    /// Why a member does not go back into a scheduler's queue.
    pub fn without_progress(epoch: u64) -> Self {
        let reason =
            format!("the time of its job was over before an epoch was, as before: epoch {epoch}; give it more");
        Self { reason, at: utc_now(), ..Self::default() }
    }

    /// Why nothing is known of how a member ended.
    pub fn to_follow(e: &io::Error) -> Self {
        Self {
            reason: format!("was started, and its process cannot be waited for: {e}"),
            at: utc_now(),
            ..Self::default()
        }
    }
}

/// The error that a member told last behind the first `from` bytes of its log, or the last line that it printed.
pub fn last_words(folder: &Path, from: u64) -> Option<String> {
    /// As much of the end as is read.
    const TAIL: u64 = 16 << 10;
    let mut file = File::open(folder.join(LOG)).ok()?;
    let end = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(from.max(end.saturating_sub(TAIL)))).ok()?;
    let mut text = vec![];
    file.read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let lines = || text.lines().rev().map(str::trim).filter(|l| !l.is_empty());
    let line = lines().find_map(|l| l.strip_prefix("error: ")).or_else(|| lines().next())?;
    Some(line.chars().take(400).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_last_error_and_what_the_status_means() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(last_words(dir.path(), 0), None);
        std::fs::write(dir.path().join(LOG), "epoch 3\nerror: old\nerror: new\n  more of it\n\n").unwrap();
        assert_eq!(last_words(dir.path(), 0).as_deref(), Some("new"));
        std::fs::write(dir.path().join(LOG), "error: of an earlier try\nthread panicked\n").unwrap();
        assert_eq!(last_words(dir.path(), 25).as_deref(), Some("thread panicked"));
        let failure = Failure::of(Exit::Status(6), Some("this run needs 9 GiB".into()));
        assert_eq!((failure.status, &failure.reason[..]), (Some(6), "this run needs 9 GiB (not enough memory)"));
        let killed = Failure::of(Exit::Killed(9), None);
        assert!(killed.status.is_none() && killed.reason.contains("SIGKILL") && killed.reason.contains("memory"));
    }
}
