//! What a run folder shows: the curve, the robot in motion, a still of it.

use super::Session;
use crate::algo::metrics::{EVAL_MEAN, EVAL_STD, TRAIN_RETURN};
use crate::algo::{TaskEvaluation, learner};
use crate::config::Config;
use crate::draw::curve::LearningCurve;
use crate::draw::viewer::ViewerError;
use crate::io::metrics::{self, MetricsError, Rows};
use crate::run::folder::FolderError;
use crate::run::progress::{Short, Time};
use crate::run::state::Stored;

/// Pictures of a run folder.
pub const CURVE: &str = "curve.svg";

/// The page with the moving robot, called after the environment.
pub fn movie_name(c: &Config) -> String {
    format!("{}.html", c.env_label())
}

/// The still picture.
pub fn still_name(c: &Config) -> String {
    format!("{}.svg", c.env_label())
}

/// What a picture may fail of. No run ends for that.
#[derive(Debug, thiserror::Error)]
enum PictureError {
    #[error(transparent)]
    Viewer(#[from] ViewerError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

impl<F: Stored> Session<F> {
    pub(super) fn draw_movie(&mut self, e: &TaskEvaluation) {
        let drawn = self.movie(e);
        let name = movie_name(self.runner.config());
        self.note_undrawn(&name, drawn);
    }

    fn movie(&self, e: &TaskEvaluation) -> Result<(), PictureError> {
        let c = self.runner.config();
        let Some(env) = self.runner.eval_env() else { return Ok(()) };
        let task = &env.groups[0].task;
        let (title, env) = (format!("{}, {}, seed {}", task.spec.title, c.alg, c.seed), self.trajectory.episode(e));
        let subtitle = format!(
            "epoch {}, {} environment steps; the median of {} evaluation episodes: return {:.0}, {} steps",
            self.runner.epoch(),
            Short(self.runner.env_steps() as f64),
            e.returns.len(),
            e.returns[env],
            e.lengths[env],
        );
        let p = self.trajectory.pictures(task, e, env, &title, &subtitle)?;
        self.folder.write_file(&movie_name(c), &p.html)?;
        self.folder.write_file(&still_name(c), &p.svg)?;
        Ok(())
    }

    pub(super) fn draw_curve(&mut self) {
        let drawn = self.curve();
        self.note_undrawn(CURVE, drawn);
    }

    fn curve(&self) -> Result<(), PictureError> {
        let c = self.runner.config();
        let groups = self.runner.eval_env().map_or(&[][..], |env| &env.groups);
        let (on, known) = match groups {
            [] => (format!("model of {} tasks", c.model_tasks().len()), vec![]),
            [one] => (one.task.spec.title.clone(), one.task.spec.drawn_returns()),
            several => (format!("mean of {} tasks", several.len()), vec![]),
        };
        let title = format!("{}, {on}: {}, seed {}", learner(c.algorithm).title(), c.alg, c.seed);
        let (episodes, every, elapsed) = (c.eval_episodes, c.eval_every, Time(self.elapsed()));
        let subtitle = if groups.is_empty() {
            format!("minus the loss on held out episodes, every {every} epochs; {elapsed} of training")
        } else {
            format!(
                "true environment, deterministic policy, {episodes} episodes every {every} epochs; {elapsed} of training"
            )
        };
        let columns = LearningCurve::new(EVAL_MEAN.name, EVAL_STD.name, TRAIN_RETURN.name);
        let mut curve = columns.beside(known);
        for row in Rows::open(&self.folder.file(metrics::FILE_NAME))? {
            curve.add(&row?);
        }
        self.folder.write_file(CURVE, &curve.plot(&title, &subtitle).svg())?;
        Ok(())
    }

    /// A picture can be made again, the run cannot: it goes on without.
    fn note_undrawn(&mut self, name: &str, drawn: Result<(), PictureError>) {
        let epoch = self.runner.epoch();
        match drawn {
            Ok(()) => {}
            // An episode that blew up in its first step leaves nothing to show.
            Err(PictureError::Viewer(ViewerError::Empty)) => {
                self.progress.note(format_args!("epoch {epoch}: no {name}: the episode to show has no finite state"));
            }
            Err(e) => self.progress.note(format_args!("epoch {epoch}: no {name}, the run goes on: {e}")),
        }
    }
}
