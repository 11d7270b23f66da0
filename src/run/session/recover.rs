//! Ways back: to the best policy after a collapse, to the last checkpoint after a number that is not finite.

use super::{Session, SessionError, tracker};
use crate::io::checkpoint::Checkpoint;
use crate::io::metrics::{Metrics, Start};
use crate::run::incidents::{self, Incident, IncidentKind};
use crate::run::retention;
use crate::run::state::{self, Stored};

impl<F: Stored> Session<F> {
    /// Networks and statistics return to the best policy, with lower learning rates. The epoch, the replay and the
    /// environments go on: what was lived through is still worth learning from, and schedules never run backwards.
    pub(super) fn return_to_best(&mut self, epoch: u64) -> Result<(), SessionError> {
        let kept = retention::best_at(&self.folder.checkpoints(), epoch);
        let path = if kept.is_file() { kept } else { self.folder.best() };
        let policy = Checkpoint::load(&path)?;
        state::restore_weights(&mut self.runner, &policy)?;
        let scale = self.lower_rates();
        let best = state::best_of(&policy)?;
        self.incident(
            IncidentKind::Rollback,
            format!(
                "networks and statistics are those of epoch {} again (return {:.0}), optimisers anew, learning rates \
                 times {scale}",
                best.epoch, best.mean
            ),
        )?;
        self.evaluation = None;
        self.save()
    }

    /// Goes back to the last checkpoint, with lower learning rates; `give_up` if that was tried often enough.
    pub(super) fn roll_back(&mut self, what: &str, give_up: SessionError) -> Result<(), SessionError> {
        self.incident(IncidentKind::NonFinite, what.into())?;
        let c = self.runner.config().clone();
        if !self.early_stop.roll_back(&c) {
            return Err(give_up);
        }
        let scale = self.runner.lr_scale();
        let latest = Checkpoint::load(&self.folder.latest())?;
        state::restore(&mut self.runner, &latest)?;
        let remembered = state::loop_state_of(&latest)?;
        (self.early_stop, self.signal_health) =
            (std::mem::take(&mut self.early_stop).back_to(remembered.early_stop), remembered.signal_health);
        self.runner.set_lr_scale(scale);
        let scale = self.lower_rates();
        let epoch = self.runner.epoch();
        self.tracker = tracker(&self.runner, &remembered.partial_row.forgiven());
        self.metrics = Metrics::open(self.folder.path(), &self.tracker.columns(), Start::FromEpoch(epoch + 1))?;
        self.evaluation = None;
        self.incident(
            IncidentKind::Rollback,
            format!("back to the checkpoint of epoch {epoch}, learning rates times {scale}"),
        )?;
        self.saved = None;
        self.save()
    }

    fn lower_rates(&mut self) -> f64 {
        let scale = self.runner.lr_scale() * self.runner.config().rollback_lr_factor;
        self.runner.set_lr_scale(scale);
        scale
    }

    /// Prints and keeps what happened.
    pub(super) fn incident(&mut self, kind: IncidentKind, text: String) -> Result<(), SessionError> {
        let (epoch, step) = (self.runner.epoch(), self.runner.env_steps());
        self.progress.note(format_args!("epoch {epoch}: {text}"));
        self.incidents.push(Incident { epoch, step, kind, text });
        self.early_stop.incidents = self.incidents.len() as u64;
        Ok(incidents::write(self.folder.path(), &self.incidents)?)
    }
}
