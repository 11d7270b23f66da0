//! Tasks on robots: observation, reward, termination and reset around a step of the dynamics.
//!
//! A task is plain functions over rows of numbers (one row an environment); who owns the rows and when environments are
//! reset is the caller's business.

pub mod ant;
mod cuda;
pub mod step;

pub use ant::{Ant, AntSettings, EnvReal};

/// Sizes of one environment's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvSizes {
    pub obs: usize,
    pub act: usize,
    /// Coordinates and velocities of the robot.
    pub nq: usize,
    pub nqd: usize,
}

/// Every task by name.
pub const REGISTRY: &[(&str, EnvSizes)] = &[(ant::NAME, ant::SIZES)];

/// Sizes of the task called `name`.
pub fn sizes(name: &str) -> Option<EnvSizes> {
    REGISTRY.iter().find(|(n, _)| *n == name).map(|&(_, sizes)| sizes)
}
