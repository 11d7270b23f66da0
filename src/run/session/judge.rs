//! Evaluations of a run, and what they mean for it.

use super::{RunError, Session, StopReason};
use crate::algo::Learner;
use crate::algo::pwm::Evaluation;
use crate::config::Collapse;
use crate::run::early_stop::Verdict;
use crate::run::incidents::Kind;
use crate::run::retention;
use crate::run::state::{self, Best, Stored};
use std::path::Path;
use std::time::Instant;

impl<L: Learner> Session<L>
where
    L::F: Stored,
{
    /// Plays the present policy on the true environment, filmed.
    pub(super) fn play(&mut self) -> Result<Evaluation, RunError> {
        self.film.clear();
        let film = &mut self.film;
        let e = self.trainer.evaluate(|view| film.frame(view))?;
        self.progress.note(format_args!("epoch {}: evaluation {e}", self.trainer.epoch()));
        self.progress.evaluated(e.mean());
        Ok(e)
    }

    /// The evaluation that is due: of the policy, with a probe of the model; the best policy so far is saved and drawn.
    pub(super) fn evaluate(&mut self) -> Result<(), RunError> {
        let from = Instant::now();
        let (e, epoch) = (self.play()?, self.trainer.epoch());
        self.probe = self.trainer.probe()?.map(|p| (epoch, p));
        if !e.mean().is_finite() {
            self.progress.note(format_args!("epoch {epoch}: the evaluation is not finite and cannot be the best"));
        } else {
            let (folder, count) = (self.folder.checkpoints(), self.trainer.config().keep_best);
            if self.kept.wants(epoch, e.mean(), count) {
                state::save_best(&retention::best_at(&folder, epoch), &self.trainer, &e)?;
                self.kept.add(&folder, epoch, e.mean(), count)?;
            }
        }
        // A process that was killed after its best policy was written and before its state was comes by here again: then
        // what belongs to that policy may be missing.
        let is_best = |b: Best| e.mean() > b.mean || (e.mean() == b.mean && epoch == b.epoch);
        if e.mean().is_finite() && self.best.is_none_or(is_best) {
            let best = state::save_best(&self.folder.best(), &self.trainer, &e)?;
            self.best = Some(best);
            (self.info.best_return, self.info.best_epoch) = (Some(best.mean), Some(best.epoch));
            self.draw_movie(&e);
        }
        self.evaluation = Some((epoch, e));
        self.eval_seconds = from.elapsed().as_secs_f64();
        self.tracker.add_pause(self.eval_seconds, 0.0);
        Ok(())
    }

    /// Keeps the present policy under a name of its own, with its evaluation if it has one.
    pub(super) fn keep_policy(&mut self, path: &Path) -> Result<(), RunError> {
        let unknown = Evaluation { returns: vec![f64::NAN], lengths: vec![f64::NAN] };
        state::save_best(path, &self.trainer, self.evaluation().unwrap_or(&unknown))?;
        Ok(())
    }

    /// What the evaluation just made means for the run; the ending, if it ends it.
    pub(super) fn judge(&mut self) -> Result<Option<StopReason>, RunError> {
        let (epoch, c) = (self.trainer.epoch(), self.trainer.config().clone());
        let Some(mean) = self.evaluation().map(Evaluation::mean) else { return Ok(None) };
        let verdict = self.early_stop.judge(&c, epoch, mean);
        // The early stop is part of the state.
        self.saved = None;
        match verdict {
            Verdict::Fine => Ok(None),
            Verdict::Stalled { evaluations } => {
                let (best, at) = self.early_stop.best.unwrap_or((f64::NAN, 0));
                let what = format!("{evaluations} evaluations without one better than {best:.0} at epoch {at}");
                self.incident(Kind::EarlyStop, what)?;
                Ok(Some(StopReason::Stalled))
            }
            Verdict::Collapsed { best, epoch: at } => {
                let what = format!(
                    "{} evaluations in a row below {} of the best, {best:.0} at epoch {at}; now {mean:.0}",
                    c.collapse_evals, c.collapse_fraction
                );
                self.incident(Kind::Collapse, what.clone())?;
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
