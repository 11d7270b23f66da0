//! One member of a sweep, started by somebody else than the sweep: a task of a job array.

use std::path::Path;
use std::time::Duration;

use super::folder::{Failure, SweepError, forget_failure, write_failure};
use super::launch::{Exit, Job, LOG, Launcher, last_words};
use super::runner::{Outcome, judge};
use crate::run::folder::{self, RunFolder};
use crate::run::signals::StopFlag;

/// Time between two looks at it.
const TICK: Duration = Duration::from_millis(100);

/// Starts a member, unless it is over when its folder is free, and waits for its end. Signals are passed on; why it
/// failed is noted in its own folder, since the tasks of an array have no file that one of them writes for all.
///
/// # Errors
/// If the note cannot be written.
pub fn run_member(
    launcher: &mut dyn Launcher,
    job: &Job,
    is_over: impl Fn() -> bool,
    stop: &StopFlag,
) -> Result<Outcome, SweepError> {
    forget_failure(&job.folder)?;
    // What is left of an earlier try on another node was there first. Where a disk knows no locks nothing is known.
    while RunFolder::is_taken(&job.folder) {
        if stop.requested() {
            return Ok(Outcome::Interrupted(None));
        }
        std::thread::sleep(TICK);
    }
    if is_over() {
        return Ok(Outcome::Over);
    }
    let log = std::fs::metadata(job.folder.join(LOG)).map_or(0, |m| m.len());
    let epoch = || folder::read_info(&job.folder).ok().flatten().map_or(0, |i| i.epoch);
    let before = epoch();
    let outcome = match launcher.start(job) {
        Err(e) => Outcome::Failed(Failure::to_start(&e)),
        Ok(mut process) => {
            let mut passed_on = false;
            loop {
                if let (Some(signal), false) = (stop.signal(), passed_on) {
                    passed_on = true;
                    process.signal(signal);
                }
                match process.ended() {
                    Ok(None) => std::thread::sleep(TICK),
                    Ok(Some(exit)) => break of_exit(&job.folder, exit, log, passed_on),
                    Err(e) => break Outcome::Failed(Failure::to_follow(&e)),
                }
            }
        }
    };
    // One that cannot do an epoch within a job's time would do so for ever.
    let is_stuck = matches!(outcome, Outcome::Interrupted(_)) && stop.reason() == Some("SIGUSR1") && epoch() == before;
    let outcome = if is_stuck { Outcome::Failed(Failure::without_progress(before)) } else { outcome };
    if let Outcome::Failed(failure) = &outcome {
        write_failure(&job.folder, failure)?;
    }
    Ok(outcome)
}

fn of_exit(run: &Path, exit: Exit, log: u64, stopping: bool) -> Outcome {
    match judge(run, exit, log, stopping) {
        // A control group's limit names itself nowhere else.
        Outcome::Failed(failure) if failure.signal.as_deref() == Some("SIGKILL") => {
            let said = last_words(run, log).map_or_else(String::new, |said| format!("; its last words: {said}"));
            Outcome::Failed(Failure { reason: failure.reason + &said, ..failure })
        }
        outcome => outcome,
    }
}
