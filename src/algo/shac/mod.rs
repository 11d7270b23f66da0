//! SHAC: short-horizon actor-critic through the true dynamics (Xu et al., "Accelerated policy learning with parallel
//! differentiable simulation", 2022).
//!
//! An epoch is two updates. The *actor* drives the environments for `horizon` steps and climbs the gradient of its
//! return through the simulator itself; beyond the horizon the critics' value stands. The *critics* regress to
//! TD(lambda) targets of that rollout. Policy and critics see observations normalised by running statistics, which are
//! held during a rollout. [`Shac`] holds the variables and writes the programs.

mod build;
pub mod rollout;

pub use build::ShacLearner;

use super::{Networks, RolloutBuffers};
use crate::config::Config;
use crate::device::philox::Stream;
use crate::env::{EnvBatch, Mode};
use crate::model::{Actor, Critics};
use crate::ops::stats::START_COUNT;
use crate::tape::{DType, Machine, Region, TapeReal, VarId, Vars};

/// Networks and statistics: what a policy needs to act, and all that `best` checkpoints hold.
#[derive(Clone, Debug)]
pub struct ShacNets {
    pub actor: Actor,
    pub critics: Critics,
    /// `[O, 3]`: observations seen in training.
    pub obs_stats: VarId,
    /// `[3]`: returns over a horizon.
    pub ret_stats: VarId,
}

impl ShacNets {
    pub fn new(vars: &mut Vars, c: &Config, obs_dim: usize, act_dim: usize) -> Self {
        let mut stats = |name: &str, shape: &[usize]| vars.add(Region::Statistics, name, DType::Real, shape);
        let (obs_stats, ret_stats) = (stats("obs_stats", &[obs_dim, 3]), stats("ret_stats", &[3]));
        let (actor, critics) = (Actor::new(vars, c, obs_dim, act_dim), Critics::new(vars, c, obs_dim));
        Self { actor, critics, obs_stats, ret_stats }
    }

    /// Draws all parameters from `seed`, and lets the statistics start as if they had seen nothing.
    pub fn init<F: TapeReal>(&self, machine: &mut Machine<F>, seed: u64) {
        for group in [&self.actor.group, &self.critics.group] {
            group.init(machine, seed);
        }
        for stats in [self.obs_stats, self.ret_stats] {
            for s in machine.real_mut(stats).chunks_exact_mut(3) {
                s.copy_from_slice(&[F::zero(), F::one(), F::of(START_COUNT)]);
            }
        }
    }
}

/// The networks of its policy.
impl From<ShacNets> for Networks {
    fn from(n: ShacNets) -> Self {
        Self { actor: n.actor, critics: n.critics, world: None, obs_stats: Some(n.obs_stats) }
    }
}

/// Slots of the losses that the host reads after an epoch and clears before it.
#[derive(Clone, Copy, Debug)]
pub enum ShacLoss {
    Actor = 0,
    /// Sum over all minibatches.
    Critic = 1,
}

/// Every variable of a run.
#[derive(Clone, Debug)]
pub struct Shac {
    pub config: Config,
    pub nets: ShacNets,
    pub env: EnvBatch,
    /// `latents` are normalised observations.
    pub buffers: RolloutBuffers,
    /// Index `[1]`: epochs begun, the step of the policy's noise.
    pub epoch: VarId,
    /// Index `[1]`: critic passes made, the step of their shuffle.
    pub passes: VarId,
    /// `[2]`: see [`ShacLoss`].
    pub losses: VarId,
    /// `[2]`: gradients of single steps scaled down, and not finite, in this epoch.
    pub bounded: VarId,
}

impl Shac {
    pub fn new(vars: &mut Vars, c: &Config) -> Self {
        let (obs_dim, act_dim) = crate::env::dims(c);
        let nets = ShacNets::new(vars, c, obs_dim, act_dim);
        let env = EnvBatch::of_config(vars, "env", c, c.num_envs, Mode::Train, Stream::Reset);
        let buffers = RolloutBuffers::new(vars, c, obs_dim);
        let mut control = |name: &str, dtype, n: usize| vars.add(Region::Control, name, dtype, &[n]);
        Self {
            config: c.clone(),
            nets,
            env,
            buffers,
            epoch: control("epoch", DType::Index, 1),
            passes: control("critic_passes", DType::Index, 1),
            losses: control("losses", DType::Real, 2),
            bounded: control("bounded", DType::Real, 2),
        }
    }
}
