//! A configuration that trains in a second: every part of published PWM is there, none of it is large.

use pwm::config::{Config, load};

/// Settings of it, as a command line gives them. Twenty epochs see warm-up, falls, truncated episodes and learning.
pub const SETTINGS: [&str; 23] = [
    "max_epochs=20",
    "max_minutes=0",
    "threads=2",
    "eval_every=5",
    "eval_episodes=4",
    "save_every=5",
    "log_every=2",
    "num_envs=20",
    "episode_length=24",
    "horizon=8",
    "latent=encoded",
    "rollout=imagined",
    "obs_norm=false",
    "latent_dim=32",
    "units=[48]",
    "encoder_units=[40]",
    "actor_units=[32,16]",
    "critic_units=[32]",
    "num_critics=2",
    "wm_batch_size=40",
    "wm_iterations=2",
    "wm_buffer_size=2000",
    "wm_bootstrap_iterations=6",
];

pub fn settings(more: &[&str]) -> Vec<String> {
    SETTINGS.iter().chain(more).map(|s| (*s).into()).collect()
}

pub fn config(more: &[&str]) -> Config {
    load(&settings(more)).unwrap()
}

/// A shipped algorithm as it is.
pub fn shipped(alg: &str) -> Config {
    load(&[format!("alg={alg}")]).unwrap()
}
