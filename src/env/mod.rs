//! Tasks on robots: observation, reward, termination and reset around a step of the dynamics.
//!
//! A task is data, read from an environment's file. The formulas of features and terms serve every task and stand once
//! ([`feature`], [`term`]), for every number type; one of these writes down what it is asked to compute, which is how
//! they become functions of the CUDA kernels.
//! [`EnvBatch`] is all that a learner knows of environments.
//!
//! | file | what |
//! |---|---|
//! | [`task`] | what a task is, its robot compiled |
//! | [`spec`] | a task read from YAML |
//! | [`feature`], [`term`], [`reset`] | what is observed, what is rewarded, how episodes start |
//! | [`rows`] | rows of environments: `f32` in lanes, `f64` and dual numbers one by one |
//! | `op`, `cuda`, `formulas` | a reset, a step and its adjoint as operations; the task as text of their kernels |
//! | [`batch`] | groups of environments of different tasks |
//! | [`draw`] | shapes of a robot in a given state, forces of the ground |

pub mod batch;
mod cuda;
pub mod draw;
pub mod feature;
mod formulas;
mod op;
pub mod reset;
pub mod rows;
pub mod spec;
pub mod task;
pub mod term;

pub use batch::{EnvBatch, EnvGroup, EnvState, GradientBound, Stepped, dims, sizes};
pub use draw::{DrawnShape, GroundForce, bodies_for_drawing, ground_forces, movie_poses, movie_shapes};
pub use op::{EpisodeStat, Mode, in_physics};
pub use rows::{EnvReal, InputCotangents, OutputCotangents, StepOperands};
pub use task::{EnvSizes, KnownReturn, Task, TaskSpec};

use crate::config::{Config, ConfigErrors};

/// Whether the environment that a configuration describes can be built.
///
/// # Errors
/// What is wrong with its specification, and where.
pub fn check(c: &Config) -> Result<(), ConfigErrors> {
    Task::from_config(c).map(|_| ())
}
