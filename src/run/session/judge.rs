//! Evaluations of a run, and what they mean for it.

use super::{Session, SessionError, StopReason};
use crate::algo::{Evaluation, TaskEvaluation};
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

    /// Saves and draws the policy that was evaluated, if it is among the best.
    fn retain(&mut self, epoch: u64, e: Evaluation) -> Result<(), SessionError> {
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
            if let Some(task) = e.tasks.first() {
                self.draw_movie(task);
            }
        }
        self.evaluation = Some((epoch, e));
        Ok(())
    }

    /// Keeps the present policy under a name of its own, with its evaluation if it has one.
    pub(super) fn keep_policy(&mut self, path: &Path) -> Result<(), SessionError> {
        let unknown = TaskEvaluation { returns: vec![f64::NAN], lengths: vec![f64::NAN], ..TaskEvaluation::default() };
        let unknown = Evaluation { tasks: vec![unknown] };
        state::save_best(path, &self.runner, self.evaluation().unwrap_or(&unknown))?;
        Ok(())
    }

    /// What the evaluation just made means for the run; the reason to stop, if it ends it.
    pub(super) fn judge(&mut self) -> Result<Option<StopReason>, SessionError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algo::Runner;
    use crate::config::Config;
    use crate::run::folder::{RunFolder, RunInfo};

    fn session(dir: &Path, change: impl FnOnce(&mut Config)) -> Session<f32> {
        let mut c = Config {
            num_envs: 4,
            eval_episodes: 2,
            episode_length: 4,
            horizon: 2,
            critic_batches: 1,
            units: vec![4],
            encoder_units: vec![4],
            actor_units: vec![4],
            critic_units: vec![4],
            latent_dim: 8,
            wm_batch_size: 4,
            wm_buffer_size: 100,
            threads: 1,
            run_dir: dir.display().to_string(),
            ..Config::default()
        };
        change(&mut c);
        let folder = RunFolder::create(dir, &c.to_yaml()).unwrap();
        let mut s = Session::begin(Runner::new(&c).unwrap(), folder, RunInfo::begin(0)).unwrap();
        // What the real policy is worth is not the question here.
        (s.best, s.early_stop) = (None, Default::default());
        s
    }

    /// An evaluation of two tasks, two episodes each.
    fn made_up(run: f64, hop: f64) -> Evaluation {
        let task = |name: &str, mean: f64| TaskEvaluation {
            task: name.into(),
            returns: vec![mean - 1.0, mean + 1.0],
            lengths: vec![3.0; 2],
        };
        Evaluation { tasks: vec![task("run", run), task("hop", hop)] }
    }

    #[test]
    fn several_tasks_are_judged_by_their_mean() {
        let dir = tempfile::tempdir().unwrap();
        let mut s = session(&dir.path().join("r"), |c| {
            (c.collapse, c.collapse_evals, c.collapse_fraction) = (Collapse::Stop, 1, 0.5);
        });
        let mut judged = |run, hop| {
            s.retain(0, made_up(run, hop)).unwrap();
            (s.best.unwrap().mean, s.judge().unwrap())
        };
        assert_eq!(judged(90.0, 10.0), (50.0, None));
        // One task alone falls to a ninth: the run has not collapsed, and is not better.
        assert_eq!(judged(10.0, 90.0), (50.0, None));
        assert_eq!(judged(60.0, 42.0), (51.0, None), "better, though no task is at its best");
        let (best, stop_reason) = judged(90.0, -40.0);
        assert!(best == 51.0 && matches!(stop_reason, Some(StopReason::Collapsed(_))), "{best} {stop_reason:?}");
        let stored = state::best_of(&crate::io::checkpoint::Checkpoint::load(&s.folder.best()).unwrap()).unwrap();
        assert_eq!((stored.mean, stored.length), (51.0, 3.0));
    }

    #[test]
    fn patience_counts_gains_of_the_mean_over_tasks() {
        let dir = tempfile::tempdir().unwrap();
        let mut s = session(&dir.path().join("r"), |c| {
            (c.early_stop_patience, c.early_stop_min_gain) = (2, 5.0);
        });
        let mut judged = |run, hop| {
            s.retain(0, made_up(run, hop)).unwrap();
            s.judge().unwrap()
        };
        assert_eq!(judged(10.0, 10.0), None);
        // Twice as good on one task is four better in the mean.
        assert_eq!(judged(20.0, 8.0), None);
        assert_eq!(judged(24.0, 8.0), None, "six better in the mean");
        assert_eq!(judged(8.0, 24.0), None);
        assert_eq!(judged(16.0, 16.0), Some(StopReason::Stalled));
    }
}
