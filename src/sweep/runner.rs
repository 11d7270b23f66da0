//! Starts members in their order, as many side by side as there is room for, until all are over or a signal comes.

use std::path::Path;
use std::time::{Duration, Instant};

use super::capacity::Resources;
use super::folder::{Failure, SweepEnd, SweepEnded, SweepError, SweepFolder, SweepInfo, forget_failure};
use super::launch::{Exit, Job, LOG, Launched, Launcher, last_words};
use super::status::{MemberStatus, State};
use crate::run::folder;
use crate::run::signals::StopFlag;

/// Time between two looks at the members that run.
const TICK: Duration = Duration::from_millis(100);
/// Time between two looks for other processes on those that wait.
const LOOK: Duration = Duration::from_secs(1);

/// A member of this sitting.
pub struct Member {
    /// Its place in `sweep.json`.
    pub place: usize,
    /// How to start it.
    pub job: Job,
    /// Whether there is something left to do for it.
    pub is_due: bool,
}

/// What has happened to a member.
pub enum Event<'a> {
    /// It was started.
    Started,
    /// Another process works on it; it is waited for.
    InUse,
    /// It ended.
    Ended(&'a Outcome),
    /// Something that ends nothing.
    Note(String),
    /// Nothing, some time passed. The member means nothing.
    Tick,
}

/// How a member ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is over.
    Over,
    /// It was stopped and goes on another time; with the exit status, if it did not get to the end of an epoch.
    Interrupted(Option<u8>),
    /// It failed.
    Failed(Failure),
}

/// What a member is about to do, in this sitting.
enum Phase {
    Waiting,
    /// Another process works on it.
    InUse,
    Running(Box<dyn Launched>, u64),
    Done,
}

/// Takes the members of a sweep from the first to the last.
pub struct SweepRunner<'a> {
    /// Where they are.
    pub folder: &'a SweepFolder,
    /// What is written there.
    pub info: SweepInfo,
    /// Who starts them.
    pub launcher: &'a mut dyn Launcher,
    /// Those of this sitting, in their order.
    pub members: Vec<Member>,
}

impl SweepRunner<'_> {
    /// Runs all that are due. `tell` hears of the place of a member in `sweep.json` and of what happened to it; `Ok` if
    /// all are over, or if they were stopped and saved.
    pub fn run(
        mut self,
        stop: &StopFlag,
        tell: &mut dyn FnMut(&SweepInfo, usize, Event<'_>),
    ) -> Result<SweepEnd, SweepError> {
        self.info.launcher = self.launcher.name().into();
        self.info.ended = None;
        self.folder.write(&self.info)?;
        let first = |m: &Member| if m.is_due { Phase::Waiting } else { Phase::Done };
        let mut phases: Vec<Phase> = self.members.iter().map(first).collect();
        let (mut passed_on, mut cut_short, mut looked) = (false, vec![], None);
        loop {
            if let (Some(signal), false) = (stop.signal(), passed_on) {
                passed_on = true;
                for phase in &mut phases {
                    if let Phase::Running(process, _) = phase {
                        process.signal(signal);
                    }
                }
            }
            for (i, phase) in phases.iter_mut().enumerate() {
                let Phase::Running(process, log) = phase else { continue };
                let member = &self.members[i];
                let outcome = match process.ended() {
                    Ok(None) => continue,
                    // What is left of an earlier sitting was there first: it is waited for.
                    Ok(Some(Exit::Status(1..))) if folder::goes_on(&member.job.folder) => {
                        *phase = Phase::Waiting;
                        looked = None;
                        continue;
                    }
                    Ok(Some(exit)) => judge(&member.job.folder, exit, *log, passed_on),
                    Err(e) => Outcome::Failed(Failure::to_follow(&e)),
                };
                *phase = Phase::Done;
                if let Outcome::Interrupted(Some(status)) = outcome {
                    cut_short.push(status);
                }
                if let Outcome::Failed(failure) = &outcome {
                    self.info.members[member.place].failure = Some(failure.clone());
                    write(self.folder, &self.info, member.place, tell);
                }
                tell(&self.info, member.place, Event::Ended(&outcome));
            }
            if !passed_on {
                if looked.is_none_or(|at: Instant| at.elapsed() >= LOOK) {
                    looked = Some(Instant::now());
                    self.look(&mut phases, tell);
                }
                self.start(&mut phases, tell);
            }
            let running = phases.iter().any(|p| matches!(p, Phase::Running(..)));
            let waiting = phases.iter().any(|p| matches!(p, Phase::Waiting | Phase::InUse));
            if !running && (passed_on || !waiting) {
                // A signal that came too late for all of them stopped nothing; one that somebody sent to a member alone
                // stopped that one.
                let stopped = passed_on && (waiting || self.is_unfinished()) || self.is_interrupted();
                return self.end(stopped, stop, &cut_short);
            }
            tell(&self.info, 0, Event::Tick);
            std::thread::sleep(TICK);
        }
    }

    /// Looks on which of the members that wait another process works. They are waited for: their memory is taken, and
    /// those behind them go first.
    fn look(&self, phases: &mut [Phase], tell: &mut dyn FnMut(&SweepInfo, usize, Event<'_>)) {
        for (phase, member) in phases.iter_mut().zip(&self.members) {
            if !matches!(phase, Phase::Waiting | Phase::InUse) {
                continue;
            }
            let is_used = folder::goes_on(&member.job.folder);
            if is_used && matches!(phase, Phase::Waiting) {
                tell(&self.info, member.place, Event::InUse);
            }
            *phase = if is_used { Phase::InUse } else { Phase::Waiting };
        }
    }

    /// Starts the next members, as far as there is room. One that somebody else has begun since the last look ends with
    /// an error, and is waited for then.
    fn start(&mut self, phases: &mut [Phase], tell: &mut dyn FnMut(&SweepInfo, usize, Event<'_>)) {
        let mut running: Vec<Resources> = vec![];
        let mut due = vec![];
        for (i, (phase, member)) in phases.iter().zip(&self.members).enumerate() {
            match phase {
                Phase::Running(..) | Phase::InUse => running.push(member.job.resources),
                Phase::Waiting => due.push(i),
                Phase::Done => {}
            }
        }
        for i in due {
            let Member { job, place, .. } = &self.members[i];
            if !self.launcher.has_capacity(&running, &job.resources) {
                return;
            }
            let log = std::fs::metadata(job.folder.join(LOG)).map_or(0, |m| m.len());
            // One that stays would speak of an earlier try.
            let _ = forget_failure(&job.folder);
            let member = &mut self.info.members[*place];
            let forgotten = member.failure.take().is_some() | member.job.take().is_some();
            match self.launcher.start(job) {
                Ok(process) => {
                    running.push(job.resources);
                    phases[i] = Phase::Running(process, log);
                    if forgotten {
                        write(self.folder, &self.info, *place, tell);
                    }
                    tell(&self.info, *place, Event::Started);
                }
                Err(e) => {
                    phases[i] = Phase::Done;
                    let failure = Failure::to_start(&e);
                    self.info.members[*place].failure = Some(failure.clone());
                    write(self.folder, &self.info, *place, tell);
                    tell(&self.info, *place, Event::Ended(&Outcome::Failed(failure)));
                }
            }
        }
    }

    fn status(&self, member: &Member) -> MemberStatus {
        MemberStatus::read(&member.job.folder, self.info.members[member.place].failure.as_ref())
    }

    fn is_interrupted(&self) -> bool {
        self.members.iter().any(|m| self.status(m).state == State::Interrupted)
    }

    fn is_unfinished(&self) -> bool {
        self.members.iter().any(|m| !self.status(m).state.is_over())
    }

    /// Writes how the sitting ended, and says it.
    fn end(mut self, stopped: bool, stop: &StopFlag, cut_short: &[u8]) -> Result<SweepEnd, SweepError> {
        let mut failed = vec![];
        for member in &self.members {
            let MemberStatus { state, why, .. } = self.status(member);
            if state == State::Failed {
                let info = &self.info.members[member.place];
                let status = match &info.failure {
                    Some(failure) => failure.status.unwrap_or(1),
                    // A run that says itself that it failed, and nobody was there to see it.
                    None => folder::read_info(&member.job.folder)
                        .ok()
                        .flatten()
                        .and_then(|i| i.ended)
                        .map_or(1, |e| e.status),
                };
                failed.push((format!("  {}: {}", info.name, why.unwrap_or_default()), status));
            }
        }
        let list = failed.iter().map(|f| &f.0[..]).collect::<Vec<_>>().join("\n");
        let error = if !failed.is_empty() {
            let status = if failed.iter().all(|f| f.1 == failed[0].1) { failed[0].1 } else { 1 };
            Some(SweepError::Failed { failed: failed.len(), of: self.members.len(), list, status })
        } else {
            let signal = stop.reason().unwrap_or("a request");
            let cut = cut_short.first().filter(|_| stopped);
            cut.map(|&status| SweepError::CutShort { signal, members: cut_short.len(), status })
        };
        let kind = match (stopped, failed.is_empty()) {
            (true, _) => SweepEnd::Signal,
            (false, true) => SweepEnd::Finished,
            (false, false) => SweepEnd::Failed,
        };
        let status = error.as_ref().and_then(SweepError::status).unwrap_or(0);
        self.info.ended = Some(SweepEnded { kind, status });
        self.folder.write(&self.info)?;
        error.map_or(Ok(kind), Err)
    }
}

/// Writes what is known of the members. If that fails they go on: it is tried again when the next of them ends.
fn write(folder: &SweepFolder, info: &SweepInfo, place: usize, tell: &mut dyn FnMut(&SweepInfo, usize, Event<'_>)) {
    if let Err(e) = folder.write(info) {
        tell(info, place, Event::Note(format!("not written down, the members go on: {e}")));
    }
}

/// What the end of a member's process means.
pub(super) fn judge(run: &Path, exit: Exit, log: u64, stopping: bool) -> Outcome {
    let status = MemberStatus::read(run, None);
    match exit {
        Exit::Status(0) if status.state == State::Interrupted => Outcome::Interrupted(None),
        // Before it began.
        Exit::Status(0) if stopping && status.state == State::Waiting => Outcome::Interrupted(None),
        Exit::Status(0) => Outcome::Over,
        // In the evaluation that follows its end.
        Exit::Status(130 | 138 | 143) | Exit::Killed(_) if status.state.is_over() && status.state != State::Failed => {
            Outcome::Over
        }
        Exit::Status(status @ (130 | 138 | 143)) => Outcome::Interrupted(u8::try_from(status).ok()),
        // Before it listened.
        Exit::Killed(signal) if stopping && signal != 9 => Outcome::Interrupted(u8::try_from(128 + signal).ok()),
        exit => Outcome::Failed(Failure::of(exit, last_words(run, log))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::capacity::Capacity;
    use super::super::folder::MemberInfo;
    use super::*;
    use std::cell::RefCell;
    use std::io;
    use std::path::PathBuf;
    use std::rc::Rc;

    /// What a made-up member does when it is started.
    #[derive(Clone, Copy)]
    enum Act {
        End(Exit),
        /// Until it is signalled.
        Wait,
        NoStart,
    }

    struct MadeUp {
        acts: Vec<Act>,
        capacity: Capacity,
        log: Rc<RefCell<Vec<String>>>,
    }

    struct Made(Act, bool, Rc<RefCell<Vec<String>>>);

    impl Launcher for MadeUp {
        fn name(&self) -> &'static str {
            "made up"
        }

        fn has_capacity(&self, running: &[Resources], next: &Resources) -> bool {
            self.capacity.fits(running, next)
        }

        fn start(&mut self, job: &Job) -> io::Result<Box<dyn Launched>> {
            let n: usize = job.args[0].parse().unwrap();
            if matches!(self.acts[n], Act::NoStart) {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            self.log.borrow_mut().push(format!("start {n}"));
            Ok(Box::new(Made(self.acts[n], false, self.log.clone())))
        }
    }

    impl Launched for Made {
        fn ended(&mut self) -> io::Result<Option<Exit>> {
            Ok(match self.0 {
                Act::End(exit) => Some(exit),
                _ => self.1.then_some(Exit::Status(143)),
            })
        }

        fn signal(&mut self, signal: i32) {
            self.2.borrow_mut().push(format!("signal {signal}"));
            self.1 = true;
        }
    }

    /// The log, what was told, the description at the end and the result.
    fn run_all(
        dir: &Path,
        acts: &[Act],
        jobs: usize,
        stop_after: Option<usize>,
    ) -> (Vec<String>, SweepInfo, Result<SweepEnd, SweepError>) {
        let folder = SweepFolder::take(dir).unwrap();
        let name = |i: usize| format!("m{i}");
        let member = |i: usize| MemberInfo { name: name(i), ..MemberInfo::default() };
        let info = SweepInfo { members: (0..acts.len()).map(member).collect(), ..SweepInfo::default() };
        let log = Rc::new(RefCell::new(vec![]));
        let capacity = Capacity { jobs: Some(jobs), cores: 99, ..Capacity::default() };
        let mut launcher = MadeUp { acts: acts.to_vec(), capacity, log: log.clone() };
        let job = |i: usize| Job {
            args: vec![i.to_string()],
            folder: PathBuf::from(dir).join(name(i)),
            resources: Resources { threads: 1, ..Resources::default() },
        };
        let members = (0..acts.len()).map(|place| Member { place, job: job(place), is_due: true }).collect();
        let stop = StopFlag::detached();
        let mut started = 0;
        let mut tell = |_: &SweepInfo, place: usize, event: Event<'_>| {
            match event {
                Event::Started => started += 1,
                Event::Ended(outcome) => {
                    let what = match outcome {
                        Outcome::Over => "over",
                        Outcome::Interrupted(_) => "interrupted",
                        Outcome::Failed(_) => "failed",
                    };
                    log.borrow_mut().push(format!("{what} {place}"));
                }
                _ => {}
            }
            if stop_after == Some(started) {
                stop.request();
            }
        };
        let ended = SweepRunner { folder: &folder, info, launcher: &mut launcher, members }.run(&stop, &mut tell);
        let told = log.borrow().clone();
        (told, super::super::folder::read(dir).unwrap(), ended)
    }

    #[test]
    fn members_start_in_order_and_one_that_fails_stops_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let ok = Act::End(Exit::Status(0));
        let (told, info, ended) = run_all(dir.path(), &[ok, Act::End(Exit::Killed(9)), Act::NoStart, ok, ok], 2, None);
        let starts: Vec<&String> = told.iter().filter(|t| t.starts_with("start")).collect();
        assert_eq!(starts, ["start 0", "start 1", "start 3", "start 4"]);
        let SweepError::Failed { failed, of, list, status } = ended.unwrap_err() else { panic!("it failed") };
        assert_eq!((failed, of, status), (2, 5, 1));
        assert!(list.contains("m1: killed by SIGKILL") && list.contains("m2: cannot be started"), "{list}");
        assert_eq!(info.ended, Some(SweepEnded { kind: SweepEnd::Failed, status: 1 }));
        assert_eq!(info.members.iter().filter(|m| m.failure.is_some()).count(), 2);
        assert_eq!(info.launcher, "made up");
    }

    #[test]
    fn failures_of_one_kind_give_their_status() {
        let dir = tempfile::tempdir().unwrap();
        let (_, info, ended) = run_all(dir.path(), &[Act::End(Exit::Status(5)); 3], 3, None);
        assert_eq!((ended.unwrap_err().status(), info.ended.unwrap().status), (Some(5), 5));
    }

    #[test]
    fn a_stop_is_passed_on_once_and_nothing_is_started_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let (told, info, ended) = run_all(dir.path(), &[Act::Wait; 4], 2, Some(2));
        assert_eq!(told, ["start 0", "start 1", "signal 15", "signal 15", "interrupted 0", "interrupted 1"]);
        assert!(matches!(ended, Err(SweepError::CutShort { members: 2, status: 143, .. })));
        assert_eq!(info.ended, Some(SweepEnded { kind: SweepEnd::Signal, status: 143 }));
        assert!(info.members.iter().all(|m| m.failure.is_none()));
    }
}
