//! Algorithms: which programs there are, and in which order an epoch runs them.

pub mod learner;
pub mod pwm;
pub mod schedule;
pub mod shac;
pub mod target;

pub use learner::{ExecPlan, Learner, build, epoch_io, rematerialised};
pub use target::{resolve, target};
