//! What follows from the settings, said once.

use std::path::{Path, PathBuf};

use super::choices::{Algorithm, Mode};
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

/// Settings that say what a world model is.
const OF_MODEL: [&str; 18] = [
    "latent",
    "latent_dim",
    "simnorm_dim",
    "task_dim",
    "dynamics",
    "flow_integrator",
    "flow_substeps",
    "flow_head",
    "flow_projection",
    "units",
    "encoder_units",
    "reward_head",
    "num_bins",
    "vmin",
    "vmax",
    "decode",
    "obs_norm",
    "rew_norm",
];

impl Config {
    /// The same with the world model of another configuration.
    pub fn with_model_of(&self, other: &Config) -> Config {
        let mut c = self.clone();
        for key in OF_MODEL {
            let value = other.get(key).expect("invariant: these are keys");
            assert!(c.set(key, &value), "invariant: what another configuration has is allowed");
        }
        c
    }

    /// The run's folder: `run_dir`, or `runs/<env>_<alg>_s<seed>`.
    pub fn run_folder(&self) -> PathBuf {
        if !self.run_dir.is_empty() {
            return PathBuf::from(&self.run_dir);
        }
        let what = if self.mode == Mode::Pretrain { "pretrain" } else { label(&self.env) };
        Path::new("runs").join(format!("{what}_{}_s{}", label(&self.alg), self.seed))
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
        self.algorithm.traits().replay && self.mode == Mode::Train
    }

    /// Whether it steps true environments to learn.
    pub fn has_environments(&self) -> bool {
        self.mode == Mode::Train
    }

    /// Whether it plays its policy in true environments to judge it.
    pub fn is_played(&self) -> bool {
        self.mode != Mode::Pretrain
    }

    /// World-model updates of the first epoch that can learn.
    pub fn bootstrap_updates(&self) -> usize {
        self.wm_bootstrap_iterations.unwrap_or(self.episode_length)
    }

    /// States of a rollout, which are also the environment steps of an epoch.
    pub fn rollout_states(&self) -> usize {
        self.num_envs * self.horizon
    }

    /// Steps of an epoch, as curves count them: of the environments, or of the recorded windows that a model learns from.
    pub fn epoch_steps(&self) -> usize {
        match self.mode {
            Mode::Pretrain => self.wm_iterations * self.wm_batch_size * self.horizon,
            Mode::Train | Mode::Policy => self.rollout_states(),
        }
    }

    /// What [`Config::epoch_steps`] counts.
    pub fn steps_are(&self) -> &'static str {
        match self.mode {
            Mode::Train => "environment steps",
            Mode::Pretrain => "recorded steps",
            Mode::Policy => "imagined steps",
        }
    }

    /// States of a critic minibatch; `critic_batches` divides them evenly.
    pub fn critic_batch_size(&self) -> usize {
        self.rollout_states() / self.critic_batches
    }
}

/// A shipped name as it is, a file's name without folder and ending.
fn label(chosen: &str) -> &str {
    // Of a list the first, as a file's name: the others are in the run's configuration.
    if let Some(first) = chosen.strip_prefix('[').and_then(|names| names.split([',', ']']).next()) {
        return first.trim();
    }
    let path = Path::new(chosen);
    let is_file = path.extension().is_some_and(|e| e == "yaml" || e == "yml");
    if is_file { path.file_stem().and_then(|stem| stem.to_str()).unwrap_or(chosen) } else { chosen }
}
