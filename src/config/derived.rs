//! What follows from the settings, said once.

use std::path::{Path, PathBuf};

use super::choices::Algorithm;
use super::schema::Config;

/// What an algorithm has, as far as settings and plans depend on it.
#[derive(Clone, Copy, Debug)]
pub struct AlgorithmTraits {
    /// The setting that chooses it.
    pub setting: &'static str,
    /// A model of the world that it learns.
    pub world_model: bool,
    /// Experience that it keeps.
    pub replay: bool,
    /// The gradient of the simulator.
    pub simulator_gradient: bool,
}

impl Algorithm {
    /// What it has. (What it does, `algo` knows.)
    pub const fn traits(self) -> AlgorithmTraits {
        match self {
            Algorithm::Pwm => {
                AlgorithmTraits { setting: "algorithm=pwm", world_model: true, replay: true, simulator_gradient: false }
            }
            Algorithm::Shac => AlgorithmTraits {
                setting: "algorithm=shac",
                world_model: false,
                replay: false,
                simulator_gradient: true,
            },
        }
    }
}

impl Config {
    /// The run's folder: `run_dir`, or `runs/<env>_<alg>_s<seed>`.
    pub fn run_folder(&self) -> PathBuf {
        if !self.run_dir.is_empty() {
            return PathBuf::from(&self.run_dir);
        }
        Path::new("runs").join(format!("{}_{}_s{}", label(&self.env), label(&self.alg), self.seed))
    }

    /// The environment as a file's name has it: its shipped name, or its file's without folder and ending.
    pub fn env_label(&self) -> &str {
        label(&self.env)
    }

    /// The algorithm's configuration in the same way.
    pub fn alg_label(&self) -> &str {
        label(&self.alg)
    }

    /// Whether the algorithm learns a world model.
    pub fn has_world_model(&self) -> bool {
        self.algorithm.traits().world_model
    }

    /// Whether it keeps experience in a replay.
    pub fn has_replay(&self) -> bool {
        self.algorithm.traits().replay
    }

    /// World-model updates of the first epoch that can learn.
    pub fn bootstrap_updates(&self) -> usize {
        self.wm_bootstrap_iterations.unwrap_or(self.episode_length)
    }

    /// States of a rollout, which are also the environment steps of an epoch.
    pub fn rollout_states(&self) -> usize {
        self.num_envs * self.horizon
    }

    /// States of a critic minibatch; `critic_batches` divides them evenly.
    pub fn critic_batch_size(&self) -> usize {
        self.rollout_states() / self.critic_batches
    }
}

/// A shipped name as it is, a file's name without folder and ending.
fn label(chosen: &str) -> &str {
    let path = Path::new(chosen);
    let is_file = path.extension().is_some_and(|e| e == "yaml" || e == "yml");
    if is_file { path.file_stem().and_then(|stem| stem.to_str()).unwrap_or(chosen) } else { chosen }
}
