//! Evaluations of a run, and what they mean for it.

use super::{Session, SessionError, StopReason};
use crate::algo::{Evaluation, Measure, TaskEvaluation};
use crate::config::Collapse;
use crate::run::early_stop::Verdict;
use crate::run::incidents::IncidentKind;
use crate::run::retention;
use crate::run::state::{self, Best, Stored};
use std::path::Path;
use std::time::Instant;

impl<F: Stored> Session<F> {
    /// Plays the present policy on the true environment and keeps the states.
    pub(super) fn play(&mut self) -> Result<Evaluation, SessionError> {
        self.trajectory.clear();
        let trajectory = &mut self.trajectory;
        let e = self.runner.evaluate(|view| trajectory.frame(view))?;
        self.progress.note(format_args!("epoch {}: evaluation {e}", self.runner.epoch()));
        self.progress.evaluated(e.mean());
        Ok(e)
    }

    /// The evaluation that is due: of the policy, with a probe of the model; the best policy so far is saved and drawn.
    pub(super) fn evaluate(&mut self) -> Result<(), SessionError> {
        let from = Instant::now();
        let (e, epoch) = (self.play()?, self.runner.epoch());
        self.probe = self.runner.probe()?.map(|p| (epoch, p));
        self.retain(epoch, e)?;
        self.eval_seconds = from.elapsed().as_secs_f64();
        self.tracker.add_pause(self.eval_seconds, 0.0);
        Ok(())
    }

    /// Saves and draws the policy that was evaluated at `epoch`, if it is among the best.
    pub fn retain(&mut self, epoch: u64, e: Evaluation) -> Result<(), SessionError> {
        if !e.mean().is_finite() {
            self.progress.note(format_args!("epoch {epoch}: the evaluation is not finite and cannot be the best"));
        } else {
            let (folder, count) = (self.folder.checkpoints(), self.runner.config().keep_best);
            if self.kept.wants(epoch, e.mean(), count) {
                state::save_best(&retention::best_at(&folder, epoch), &self.runner, &e)?;
                self.kept.add(&folder, epoch, e.mean(), count)?;
            }
        }
        // A process that was killed after its best policy was written and before its state was comes by here again:
        // then what belongs to that policy may be missing.
        let is_best = |b: Best| e.mean() > b.mean || (e.mean() == b.mean && epoch == b.epoch);
        if e.mean().is_finite() && self.best.is_none_or(is_best) {
            let best = state::save_best(&self.folder.best(), &self.runner, &e)?;
            self.best = Some(best);
            (self.info.best_return, self.info.best_epoch) = (Some(best.mean), Some(best.epoch));
            // Of several tasks the first is shown.
            if let Some(task) = e.tasks.first().filter(|_| e.measure == Measure::Return) {
                self.draw_movie(task);
            }
        }
        self.evaluation = Some((epoch, e));
        Ok(())
    }

    /// Keeps the present policy under a name of its own, with its evaluation if it has one.
    pub(super) fn keep_policy(&mut self, path: &Path) -> Result<(), SessionError> {
        let unknown = TaskEvaluation { returns: vec![f64::NAN], lengths: vec![f64::NAN], ..TaskEvaluation::default() };
        let unknown = Evaluation { tasks: vec![unknown], measure: Measure::Return };
        state::save_best(path, &self.runner, self.evaluation().unwrap_or(&unknown))?;
        Ok(())
    }

    /// What the evaluation just made means for the run; the reason to stop, if it ends it.
    pub fn judge(&mut self) -> Result<Option<StopReason>, SessionError> {
        let (epoch, c) = (self.runner.epoch(), self.runner.config().clone());
        let Some(mean) = self.evaluation().map(Evaluation::mean) else { return Ok(None) };
        let verdict = self.early_stop.judge(&c, epoch, mean);
        // The early stop is part of the state.
        self.saved = None;
        match verdict {
            Verdict::Fine => Ok(None),
            Verdict::Stalled { evaluations } => {
                let (best, at) = self.early_stop.best.unwrap_or((f64::NAN, 0));
                let what = format!("{evaluations} evaluations without one better than {best:.0} at epoch {at}");
                self.incident(IncidentKind::EarlyStop, what)?;
                Ok(Some(StopReason::Stalled))
            }
            Verdict::Collapsed { best, epoch: at } => {
                let what = format!(
                    "{} evaluations in a row below {} of the best, {best:.0} at epoch {at}; now {mean:.0}",
                    c.collapse_evals, c.collapse_fraction
                );
                self.incident(IncidentKind::Collapse, what.clone())?;
                match c.collapse {
                    Collapse::Warn => Ok(None),
                    Collapse::Stop => {
                        self.early_stop.stop();
                        Ok(Some(StopReason::Collapsed(what)))
                    }
                    Collapse::Rollback if !self.early_stop.roll_back(&c) => {
                        self.early_stop.stop();
                        let what = format!("{what}; rolled back {} times before (max_rollbacks)", c.max_rollbacks);
                        Ok(Some(StopReason::Collapsed(what)))
                    }
                    Collapse::Rollback => {
                        self.return_to_best(at)?;
                        Ok(None)
                    }
                }
            }
        }
    }
}
