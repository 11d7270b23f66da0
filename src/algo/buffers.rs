//! What the programs of an epoch pass to each other.

use crate::config::Config;
use crate::tape::{DType, Region, VarId, Vars};

/// A rollout, for the critics to learn from. Time-major.
#[derive(Clone, Debug)]
pub struct RolloutBuffers {
    /// `[H, N, D]`: what actor and critics see before each step.
    pub latents: VarId,
    /// `[H, N]`: rewards; values of the states after each step.
    pub rewards: VarId,
    pub values: VarId,
    /// `[H, N]`, 0 or 1.
    pub done: VarId,
    pub terminated: VarId,
    /// `[H, N]`: TD(lambda) targets.
    pub targets: VarId,
}

impl RolloutBuffers {
    /// `latent` is the width of a latent.
    pub fn new(vars: &mut Vars, c: &Config, latent: usize) -> Self {
        let (h, n) = (c.horizon, c.num_envs);
        let mut add = |name: &str, shape: &[usize]| vars.add(Region::RolloutBuffers, name, DType::Real, shape);
        Self {
            latents: add("rollout.latents", &[h, n, latent]),
            rewards: add("rollout.rewards", &[h, n]),
            values: add("rollout.values", &[h, n]),
            done: add("rollout.done", &[h, n]),
            terminated: add("rollout.terminated", &[h, n]),
            targets: add("rollout.targets", &[h, n]),
        }
    }
}
