//! Algorithms: which programs there are, and in which order an epoch runs them.
//!
//! An algorithm is a [`Learner`]: it writes a [`Blueprint`], which [`Runner`] runs. Neither the runner nor anything
//! above knows which algorithms there are; [`learner`] alone does.

mod actor;
mod blueprint;
mod buffers;
pub mod critic;
mod error;
mod evaluate;
mod exec_plan;
mod in_flight;
mod learner;
pub mod metrics;
mod networks;
mod probe;
pub mod programs;
pub mod pwm;
mod report;
mod runner;
pub mod schedule;
pub mod shac;
mod target;
mod validate;

pub use actor::Actor;
pub use blueprint::{Blueprint, EpochKind, EpochSchedule, Parts, TrainedNetwork};
pub use buffers::RolloutBuffers;
pub use error::TrainError;
pub use evaluate::{EvalPlan, Evaluation, Evaluator, Judge, Measure, StepView, TaskEvaluation};
pub use exec_plan::{ExecPlan, rematerialised};
pub use learner::Learner;
pub use networks::Networks;
pub use probe::{Probe, ProbeVars, TAUS};
pub use report::EpochReport;
pub use runner::Runner;
pub use target::{resolve, target};

use crate::config::{Algorithm, Config};
use crate::tape::{Program, Vars};

/// The algorithm of that name.
pub fn learner(algorithm: Algorithm) -> &'static dyn Learner {
    match algorithm {
        Algorithm::Pwm => &pwm::PwmLearner,
        Algorithm::Shac => &shac::ShacLearner,
    }
}

/// What a run of `c` allocates and runs.
pub fn build(c: &Config) -> (Vars, Vec<Program>) {
    let Blueprint { vars, programs, .. } = learner(c.algorithm).build(c);
    (vars, programs.into_vec())
}
