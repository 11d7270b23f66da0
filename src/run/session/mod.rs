//! The epoch loop: learn, log, evaluate, save, until something says stop.
//!
//! A session is one sitting of a run; a run that was stopped goes on in another. Schedules count epochs, so sittings
//! leave no mark on what is learned: only `max_minutes` counts them apart. `max_cpu_minutes` counts them together.

mod error;
mod judge;
mod pictures;
mod recover;
mod stop_reason;

pub use error::SessionError;
pub use pictures::{CURVE, movie_name, still_name};
pub use stop_reason::StopReason;

use std::time::{Duration, Instant};

use crate::algo::metrics::EVAL_MEAN;
use crate::algo::{Evaluation, Probe, Runner};
use crate::env::{self, EnvSizes};
use crate::io::checkpoint::Checkpoint;
use crate::io::metrics::{self, Metrics, Rows, Start};
use crate::run::cpu_time::cpu_seconds;
use crate::run::early_stop::EarlyStop;
use crate::run::folder::{End, Ended, RunFolder, RunInfo, utc_now};
use crate::run::incidents::{self, Incident};
use crate::run::progress::{Progress, Status, Ui};
use crate::run::retention::{self, Kept};
use crate::run::signal_health::SignalHealth;
use crate::run::signals::{GRACE, INTERRUPTED, StopFlag};
use crate::run::state::{self, Best, Stored};
use crate::run::status;
use crate::run::tracker::{PATIENCE, PartialRow, Tracker};
use crate::run::trajectory::Trajectory;

/// Weight of the newest epoch in the speed that the time left is told from.
const NEWEST: f64 = 0.05;

/// Is given every row of metrics as it is written: a line of `metrics.jsonl`.
pub type Watch = Box<dyn FnMut(&[u8]) + Send>;

/// A run in this process: runner, folder and what is remembered from epoch to epoch.
pub struct Session<F: Stored> {
    pub runner: Runner<F>,
    pub folder: RunFolder,
    pub info: RunInfo,
    pub progress: Progress,
    watch: Option<Watch>,
    metrics: Metrics,
    tracker: Tracker,
    trajectory: Trajectory,
    early_stop: EarlyStop,
    incidents: Vec<Incident>,
    kept: Kept,
    best: Option<Best>,
    evaluation: Option<(u64, Evaluation)>,
    signal_health: SignalHealth,
    probe: Option<(u64, Probe)>,
    /// Whether the present epoch has its row and its judgement. Only then is it worth a checkpoint: a run that went on
    /// from another would lack a row for good.
    synced: bool,
    saved: Option<u64>,
    saved_at: Instant,
    begun: Instant,
    /// Seconds of earlier sittings.
    before: f64,
    /// The same of the processor, and its clock when this sitting began.
    cpu_before: Option<f64>,
    cpu_begun: Option<f64>,
    status: Status,
    epoch_seconds: f64,
    /// When the first of the epochs was begun that are not synced, and whether the last one was an ordinary one.
    from: Option<Instant>,
    was_bootstrapped: bool,
    eval_seconds: f64,
    save_seconds: f64,
}

impl<F: Stored> Session<F> {
    /// A run that begins: evaluates the untrained policy and writes its first checkpoint, in this order. A run that is
    /// killed before it has a checkpoint begins again; one that has one goes on, and expects the row before it.
    pub fn begin(runner: Runner<F>, folder: RunFolder, info: RunInfo) -> Result<Self, SessionError> {
        Self::begin_shown(runner, folder, info, None)
    }

    /// The same, shown in this way.
    pub fn begin_shown(
        runner: Runner<F>,
        folder: RunFolder,
        info: RunInfo,
        ui: Option<Ui>,
    ) -> Result<Self, SessionError> {
        let mut s = Self::new(runner, folder, info, (&PartialRow::default(), Start::Fresh), None)?;
        ui.into_iter().for_each(|ui| s.progress.set_ui(ui));
        incidents::write(s.folder.path(), &[])?;
        s.evaluate()?;
        s.row()?;
        s.save()?;
        Ok(s)
    }

    /// A run that goes on from its latest checkpoint; `runner` is new and of the same configuration.
    pub fn resume(
        runner: Runner<F>,
        folder: RunFolder,
        info: RunInfo,
        latest: &Checkpoint,
    ) -> Result<Self, SessionError> {
        Self::resume_shown(runner, folder, info, latest, None)
    }

    /// The same, shown in this way.
    pub fn resume_shown(
        mut runner: Runner<F>,
        folder: RunFolder,
        info: RunInfo,
        latest: &Checkpoint,
        ui: Option<Ui>,
    ) -> Result<Self, SessionError> {
        state::restore(&mut runner, latest)?;
        let path = folder.best();
        let best = if path.is_file() { Some(state::best_of(&Checkpoint::load(&path)?)?) } else { None };
        // The row of the checkpoint's own epoch stands; later ones are written again.
        let start = Start::FromEpoch(runner.epoch() + 1);
        let remembered = state::loop_state_of(latest)?;
        let mut s = Self::new(runner, folder, info, (&remembered.partial_row, start), best)?;
        ui.into_iter().for_each(|ui| s.progress.set_ui(ui));
        // A process may have been killed between the two files.
        (s.info.best_return, s.info.best_epoch) = (best.map(|b| b.mean), best.map(|b| b.epoch));
        s.saved = Some(s.runner.epoch());
        s.info.resumed += 1;
        (s.info.commit, s.info.compiler) = (crate::version::commit().into(), crate::version::COMPILER.into());
        (s.early_stop, s.signal_health) = (remembered.early_stop, remembered.signal_health);
        let mut empty = true;
        for row in Rows::open(&s.folder.file(metrics::FILE_NAME))? {
            empty = false;
            if let Some(mean) = row?.values.get(EVAL_MEAN.name) {
                s.progress.evaluated(*mean);
            }
        }
        if let Some(what) = s.metrics.cut() {
            s.progress.note(format_args!("{what}"));
        }
        // A run writes its first row before its first checkpoint.
        if empty {
            let (path, epoch) = (s.folder.file(metrics::FILE_NAME), s.runner.epoch());
            let path = path.display();
            s.progress.note(format_args!("{path}: no rows; what was measured up to epoch {epoch} is lost"));
        }
        s.incidents = incidents::read(s.folder.path())?;
        s.incidents.truncate(s.early_stop.incidents as usize);
        incidents::write(s.folder.path(), &s.incidents)?;
        let progress = &mut s.progress;
        s.kept = Kept::read(&s.folder.checkpoints(), |e| progress.note(format_args!("left out: {e}")));
        // Readers of the folder see that the run goes on.
        s.folder.write_info(&s.info)?;
        Ok(s)
    }

    /// `rows` says what is remembered of the epochs since the last row, and which rows are kept.
    fn new(
        runner: Runner<F>,
        folder: RunFolder,
        info: RunInfo,
        (partial, start): (&PartialRow, Start),
        best: Option<Best>,
    ) -> Result<Self, SessionError> {
        let tracker = tracker(&runner, partial);
        let metrics = Metrics::open(folder.path(), &tracker.columns(), start)?;
        let best_return = best.map_or(f64::NAN, |b| b.mean);
        let c = runner.config();
        let sizes = if c.is_played() { env::sizes(c) } else { EnvSizes::default() };
        let trajectory = Trajectory::new(sizes, c.eval_episodes, c.episode_length);
        let title = format!("{} on {}, seed {}, {}", c.alg, c.env, c.seed, folder.path().display());
        let status = Status {
            epoch: runner.epoch(),
            epochs: runner.config().max_epochs,
            env_steps: runner.env_steps(),
            best_return,
            metrics: tracker.shown(),
            ..Status::default()
        };
        Ok(Self {
            before: info.elapsed_seconds,
            cpu_before: info.cpu_seconds,
            cpu_begun: cpu_seconds(),
            runner,
            folder,
            info: RunInfo { finished: None, ended: None, ..info },
            progress: Progress::stderr(title),
            watch: None,
            metrics,
            tracker,
            trajectory,
            early_stop: EarlyStop::default(),
            incidents: Vec::new(),
            kept: Kept::default(),
            best,
            evaluation: None,
            signal_health: SignalHealth::default(),
            probe: None,
            synced: true,
            saved: None,
            saved_at: Instant::now(),
            begun: Instant::now(),
            status,
            epoch_seconds: f64::NAN,
            from: None,
            was_bootstrapped: false,
            eval_seconds: 0.0,
            save_seconds: 0.0,
        })
    }

    /// Gives `watch` the row that this sitting has written last, if it has written one, and every later one.
    pub fn set_watch(&mut self, mut watch: Watch) {
        if !self.metrics.last().is_empty() {
            watch(self.metrics.last());
        }
        self.watch = Some(watch);
    }

    /// The best evaluation so far.
    pub fn best(&self) -> Option<Best> {
        self.best
    }

    /// What the evaluations have said so far.
    pub fn early_stop(&self) -> &EarlyStop {
        &self.early_stop
    }

    /// The evaluation of the present policy, if there is one.
    pub fn evaluation(&self) -> Option<&Evaluation> {
        self.evaluation.as_ref().filter(|(e, _)| *e == self.runner.epoch()).map(|(_, e)| e)
    }

    /// States that left physics in this sitting.
    pub fn blown_up(&self) -> f64 {
        self.tracker.blown_up
    }

    /// Seconds of training, all sittings together.
    pub fn elapsed(&self) -> f64 {
        self.before + self.begun.elapsed().as_secs_f64()
    }

    /// Processor time of it, of all threads; none if a part of it was not counted.
    pub fn cpu_elapsed(&self) -> Option<f64> {
        Some(self.cpu_before? + self.cpu_of_sitting()?)
    }

    fn cpu_of_sitting(&self) -> Option<f64> {
        Some(cpu_seconds()? - self.cpu_begun?)
    }

    /// Seconds of the processor that `max_cpu_minutes` leaves; none without that limit. What was not counted is not
    /// held against a run.
    fn cpu_left(&self) -> Option<f64> {
        let limit = self.runner.config().max_cpu_minutes * 60.0;
        let used = || self.cpu_before.unwrap_or(0.0) + self.cpu_of_sitting().unwrap_or(0.0);
        (limit > 0.0).then(|| limit - used())
    }

    /// Trains until the end, a signal or an error; then evaluates, saves and draws.
    pub fn run(&mut self, stop: &StopFlag) -> Result<StopReason, SessionError> {
        let ended = self.learn(stop).and_then(|stop_reason| {
            self.finish(&stop_reason, stop)?;
            Ok(stop_reason)
        });
        self.progress.finish();
        if let Err(e) = &ended {
            self.info.finished = Some(format!("error: {e}"));
            self.info.ended = Some(Ended { kind: End::Error, status: status::reason(e).unwrap_or(1) });
            // The error is what is reported; a checkpoint that cannot be written either leaves the last one.
            let saved = self.synced && e.state_is_good() && self.save().is_ok();
            if !saved {
                let _ = self.folder.write_info(&self.info);
            }
        }
        ended
    }

    fn learn(&mut self, stop: &StopFlag) -> Result<StopReason, SessionError> {
        loop {
            if let Some(stop_reason) = self.step(stop)? {
                return Ok(stop_reason);
            }
        }
    }

    /// One epoch with the evaluation, the checkpoint and the judgement that are due after it; why the run stops, if it
    /// is over.
    pub fn step(&mut self, stop: &StopFlag) -> Result<Option<StopReason>, SessionError> {
        let c = self.runner.config();
        let (max_epochs, seconds, save_every, keep_every) =
            (c.max_epochs, c.max_minutes * 60.0, c.save_every, c.keep_every);
        let before = self.runner.epoch();
        let over = match stop.reason() {
            Some(reason) => Some(StopReason::Asked(reason)),
            None if before >= max_epochs => Some(StopReason::Finished),
            None if seconds > 0.0 && self.begun.elapsed().as_secs_f64() >= seconds => Some(StopReason::TimeUp),
            None if self.cpu_left().is_some_and(|left| left <= 0.0) => Some(StopReason::CpuTimeUp),
            None => None,
        };
        if over.is_some() {
            // After the last epoch nothing is left to sync, as its evaluation was due: a run that is over is not rolled
            // back.
            stop.interruptible(|| self.sync())?;
            return Ok(over);
        }
        let from = Instant::now();
        self.synced = false;
        stop.interruptible(|| self.epoch())?;
        let epoch = self.runner.epoch();
        if epoch <= before {
            // Rolled back, to an epoch whose evaluation and checkpoint are there.
            self.synced = true;
            return Ok(None);
        }
        let mut stop_reason = None;
        if self.evaluates_at(epoch) {
            stop.interruptible(|| self.evaluate())?;
            self.row()?;
            // Before the judgement, which may save the state.
            let signal = self.check_signal();
            stop_reason = self.judge()?;
            self.synced = true;
            self.draw_curve();
            signal?;
        }
        self.synced = true;
        if keep_every > 0 && epoch.is_multiple_of(keep_every) {
            self.keep_policy(&retention::epoch_at(&self.folder.checkpoints(), epoch))?;
        }
        if epoch.is_multiple_of(save_every) || self.save_is_wise(from.elapsed()) {
            self.sync()?;
            self.save()?;
        }
        Ok(stop_reason)
    }

    /// Whether an evaluation is due after so many epochs: every `eval_every` of them, and after the last.
    fn evaluates_at(&self, epoch: u64) -> bool {
        let c = self.runner.config();
        epoch.is_multiple_of(c.eval_every) || epoch == c.max_epochs
    }

    /// Whether to save though nothing asks for it. A scheduler's signal may end the process inside a slow epoch or
    /// evaluation, and no more than that one should be lost; but saving takes at most a twentieth of the time.
    fn save_is_wise(&self, epoch: Duration) -> bool {
        let slow = epoch.as_secs_f64().max(self.eval_seconds) > GRACE.as_secs_f64() / 2.0;
        slow && self.saved_at.elapsed().as_secs_f64() >= 20.0 * self.save_seconds
    }

    /// Begins an epoch. If something is due after it, or the next one needs its outcome, waits for it and for those
    /// before it, and brings metrics and progress line up to date. Allocates nothing, unless the state is no longer
    /// finite: then the run goes back to its last checkpoint.
    pub fn epoch(&mut self) -> Result<(), SessionError> {
        self.was_bootstrapped = self.runner.bootstrapped();
        self.from.get_or_insert_with(Instant::now);
        self.runner.begin_epoch()?;
        let (epoch, c) = (self.runner.epoch(), self.runner.config());
        let every = [c.log_every, c.save_every, c.keep_every];
        let due = self.evaluates_at(epoch) || every.iter().any(|&n| n > 0 && epoch.is_multiple_of(n));
        if due || self.runner.must_sync() {
            self.sync()?;
        }
        Ok(())
    }

    /// Waits for the epochs that were begun and does what is due after the last of them.
    fn sync(&mut self) -> Result<(), SessionError> {
        let Some(from) = self.from.take() else { return Ok(()) };
        let epochs = self.runner.machine.in_flight() as f64;
        let (tracker, mut seconds) = (&mut self.tracker, f64::NAN);
        self.runner.sync(|r| {
            // The first report arrives when all epochs are over.
            if seconds.is_nan() {
                seconds = from.elapsed().as_secs_f64() / epochs;
            }
            tracker.add(r, seconds);
        })?;
        // The first epoch that learns is many times longer than those after it, and those before it shorter.
        if self.was_bootstrapped {
            let old = if self.epoch_seconds.is_nan() { seconds } else { self.epoch_seconds };
            self.epoch_seconds = old + NEWEST * (seconds - old);
        }
        self.show(seconds);
        let epoch = self.runner.epoch();
        if let Some(tensor) = self.runner.non_finite() {
            let what = format!("{tensor} holds a number that is not finite");
            let rollbacks = self.early_stop.rollbacks;
            return self.roll_back(&what, SessionError::NonFinite { epoch, tensor, rollbacks });
        }
        if let Some(network) = self.tracker.dead() {
            let what = format!("no update of the {network} for {PATIENCE} epochs, its gradient is not finite");
            return self.roll_back(&what, SessionError::Dead { epoch, network });
        }
        // An evaluation writes the row itself.
        if epoch.is_multiple_of(self.runner.config().log_every) && !self.evaluates_at(epoch) {
            self.row()?;
        }
        Ok(())
    }

    fn show(&mut self, seconds: f64) {
        let c = self.runner.config();
        let epoch = self.runner.epoch();
        let each =
            self.epoch_seconds + self.eval_seconds / c.eval_every as f64 + self.save_seconds / c.save_every as f64;
        let mut left = c.max_epochs.saturating_sub(epoch) as f64 * each;
        if c.max_minutes > 0.0 {
            left = left.min((c.max_minutes * 60.0 - self.begun.elapsed().as_secs_f64()).max(0.0));
        }
        if let (Some(cpu_left), Some(cpu)) = (self.cpu_left(), self.cpu_of_sitting()) {
            // At the pace of this sitting.
            left = left.min((cpu_left * self.begun.elapsed().as_secs_f64() / cpu.max(1e-3)).max(0.0));
        }
        let lately = if self.epoch_seconds.is_nan() { seconds } else { self.epoch_seconds };
        let [episode_return, episode_length] = self.tracker.episodes();
        let (epochs, steps_per_second) = (c.max_epochs, c.epoch_steps() as f64 / lately);
        let (env_steps, elapsed) = (self.runner.env_steps(), self.elapsed());
        let s = &mut self.status;
        (s.epoch, s.epochs, s.env_steps, s.steps_per_second) = (epoch, epochs, env_steps, steps_per_second);
        // Between the first epochs of an interval the last interval's numbers stay.
        for (new, shown) in [(episode_return, &mut s.episode_return), (episode_length, &mut s.episode_length)] {
            if !new.is_nan() {
                *shown = new;
            }
        }
        self.tracker.show(&mut s.metrics);
        s.best_return = self.best.map_or(f64::NAN, |b| b.mean);
        (s.seconds, s.seconds_left) = (elapsed, left);
        self.progress.update(&self.status);
    }

    /// Writes the row of the epochs since the last one, and says what was not finite in them.
    fn row(&mut self) -> Result<(), SessionError> {
        let epoch = self.runner.epoch();
        for (network, n) in self.tracker.skipped() {
            self.progress
                .note(format_args!("epoch {epoch}: skipped {n} updates of the {network}: its gradient was not finite"));
        }
        for (loss, n) in self.tracker.lost() {
            self.progress.note(format_args!("epoch {epoch}: the {loss} loss was not finite in {n} epochs"));
        }
        let seconds = [self.elapsed(), self.cpu_elapsed().unwrap_or(f64::NAN)];
        let (rollbacks, steps) = (self.early_stop.rollbacks, self.runner.env_steps());
        let eval = self.evaluation.as_ref().filter(|(e, _)| *e == epoch).map(|(_, e)| e);
        let probe = self.probe.as_ref().filter(|(e, _)| *e == epoch).map(|(_, p)| p);
        let row = self.tracker.row(eval, probe, seconds, rollbacks);
        self.metrics.row(steps, epoch, row)?;
        if let Some(watch) = &mut self.watch {
            watch(self.metrics.last());
        }
        self.tracker.written();
        Ok(())
    }

    /// Ends the run with an error if what the policy learns from is dead.
    fn check_signal(&mut self) -> Result<(), SessionError> {
        let Some((epoch, probe)) = self.probe else { return Ok(()) };
        match self.signal_health.judge(epoch, self.runner.bootstrapped(), &probe) {
            None => Ok(()),
            Some(cause) => Err(SessionError::DeadSignal { epoch, cause }),
        }
    }

    /// Writes the latest checkpoint and the description of the run.
    pub fn save(&mut self) -> Result<(), SessionError> {
        let (from, epoch) = (Instant::now(), self.runner.epoch());
        // Rows first: a checkpoint expects those of its epochs, also after a power cut.
        self.metrics.sync()?;
        if self.saved != Some(epoch) {
            let (early_stop, partial_row, signal_health) =
                (self.early_stop.clone(), self.tracker.partial_row(), self.signal_health);
            state::save_latest(
                &self.folder.latest(),
                &self.runner,
                &state::LoopState { early_stop, partial_row, signal_health },
            )?;
            (self.saved, self.saved_at) = (Some(epoch), Instant::now());
            self.save_seconds = from.elapsed().as_secs_f64();
            self.tracker.add_pause(0.0, self.save_seconds);
        }
        (self.info.epoch, self.info.env_steps) = (epoch, self.runner.env_steps());
        (self.info.elapsed_seconds, self.info.cpu_seconds) = (self.elapsed(), self.cpu_elapsed());
        self.info.updated = utc_now();
        Ok(self.folder.write_info(&self.info)?)
    }

    /// The state first: what follows can be had again. A scheduler that sends a signal may not wait for an evaluation.
    /// The evaluation that ends a sitting is one more than is due. It is shown and is no part of the run: neither its
    /// metrics nor its best policies, so that stopping changes nothing.
    fn finish(&mut self, stop_reason: &StopReason, stop: &StopFlag) -> Result<(), SessionError> {
        (self.info.finished, self.info.ended) = (Some(stop_reason.to_string()), Some(stop_reason.ended()));
        self.save()?;
        let in_a_hurry = matches!(stop_reason, StopReason::Asked("SIGTERM" | "SIGUSR1" | INTERRUPTED));
        if !in_a_hurry && self.evaluation().is_none() {
            let e = stop.interruptible(|| self.play())?;
            self.evaluation = Some((self.runner.epoch(), e));
        }
        self.draw_curve();
        Ok(())
    }
}

/// What happened since the last row of a run, of which `partial` is remembered.
fn tracker<F: Stored>(runner: &Runner<F>, partial: &PartialRow) -> Tracker {
    Tracker::new(&runner.parts, &runner.tasks(), &runner.skipped(), partial)
}
