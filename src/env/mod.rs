//! Tasks on robots: observation, reward, termination and reset around a step of the dynamics.
//!
//! A task is data, read from an environment's file. The formulas of features and terms serve every task and stand once
//! ([`feature`], [`term`]), for every number type; one of these writes down what it is asked to compute, which is how
//! they become functions of the CUDA kernels.
//! [`EnvBatch`] is all that a learner knows of environments.
//!
//! | file | what |
//! |---|---|
//! | [`task`] | what a task is under any law |
//! | [`dflex`], [`mujoco`] | a task under either law, its robot compiled |
//! | [`spec`] | a task read from YAML |
//! | [`feature`], [`term`], [`reset`] | what is observed, what is rewarded, how episodes start |
//! | [`rows`] | rows of environments: `f32` in lanes, `f64` and dual numbers one by one |
//! | `op`, `cuda`, `formulas` | a reset, a step and its adjoint as operations; the task as text of their kernels |
//! | [`batch`] | groups of environments of different tasks |
//! | [`stepper`] | environments that are stepped by hand, outside a program |
//! | [`draw`] | shapes of a robot in a given state, forces of the ground |

pub mod batch;
mod cuda;
pub mod dflex;
pub mod draw;
pub mod feature;
mod formulas;
pub mod mujoco;
mod op;
pub mod reset;
pub mod rows;
pub mod spec;
pub mod stepper;
pub mod task;
pub mod term;

pub use batch::{EnvBatch, EnvGroup, EnvState, GradientBound, Stepped, action_mask, dims, sizes, task_sizes};
pub use dflex::{DflexSpec, DflexTask};
pub use draw::{
    DrawnShape, GroundForce, bodies_for_drawing, ground_forces, movie_poses, movie_shapes, task_movie_poses,
    task_movie_shapes, weight,
};
pub use mujoco::{MujocoSpec, MujocoTask};
pub use op::{EpisodeStat, Mode, in_physics};
pub use rows::{EnvReal, InputCotangents, OutputCotangents, StepOperands};
pub use stepper::{StepEnd, Stepper, step_rows_shared};
pub use task::{EnvSizes, KnownReturn, Law, Task, TaskSpec};

use crate::config::{Broken, Config, ConfigError, ConfigErrors, Device, Shipped, ShippedKind};
use crate::io::episodes::names::META_WORLD;

/// Whether the environment that a configuration describes can be built.
///
/// # Errors
/// What is wrong with its specification, and where.
pub fn check(c: &Config) -> Result<(), ConfigErrors> {
    let names = c.env_names();
    let several = if names.len() > 1 { names.iter() } else { [].iter() };
    let data_alone = |name: &str| name.starts_with(META_WORLD) && !c.has_environments();
    for name in several.chain(&c.tasks) {
        if Shipped::find(ShippedKind::Env, name).is_none() && !data_alone(name) {
            let rule = Broken {
                keys: vec!["env", "tasks"],
                problem: format!("`{name}` is no environment that this program has"),
                remedy: "name those that `pwm config list` shows".into(),
            };
            return Err(ConfigError::Rule { rule, from: vec![] }.into());
        }
    }
    if !c.is_played() {
        // Nothing is stepped; that the tasks are known is all.
        return Ok(());
    }
    if let Some(name) = names.iter().find(|n| n.starts_with(META_WORLD)) {
        let rule = Broken {
            keys: vec!["env"],
            problem: format!("`{name}` is a task of Meta-World, whose simulator is not here to play a policy in"),
            remedy: "a model of it can be learned: mode=pretrain".into(),
        };
        return Err(ConfigError::Rule { rule, from: vec![] }.into());
    }
    names.iter().try_for_each(|name| check_one(&c.of_env(name)))
}

/// As [`check`], of one environment.
fn check_one(c: &Config) -> Result<(), ConfigErrors> {
    let task = Task::from_config(c)?;
    let refuse = |keys: &[&'static str], problem: &str, remedy: &str| {
        let rule =
            Broken { keys: keys.to_vec(), problem: format!("{} {problem}", task.spec.title), remedy: remedy.into() };
        Err(ConfigError::Rule { rule, from: vec![] }.into())
    };
    if task.is_differentiable() {
        return Ok(());
    }
    if c.algorithm.traits().simulator_gradient {
        return refuse(
            &["algorithm", "env"],
            "moves by MuJoCo's law, which has no gradient here, and SHAC learns from nothing else",
            "take algorithm=pwm, as in alg=pwm_small: it learns from the gradient of its model",
        );
    }
    if let Device::Cuda(_) = c.device {
        return refuse(&["device", "env"], "moves by MuJoCo's law, for which there are no kernels", "take device=cpu");
    }
    Ok(())
}

/// The device that a run asks for: `auto` means the processor for a task that has no kernels.
pub fn device(c: &Config) -> Device {
    let has_no_kernels = |name: &String| Task::from_config(&c.of_env(name)).is_ok_and(|t| !t.is_differentiable());
    match c.device {
        Device::Auto if c.is_played() && c.env_names().iter().any(has_no_kernels) => Device::Cpu,
        asked => asked,
    }
}
