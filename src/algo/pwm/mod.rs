//! PWM: policy learning inside a learned world model (Georgiev et al., 2024).
//!
//! An epoch is three updates. The *actor* drives the true environments for `horizon` steps with latents that the model
//! imagines (or that the environment shows, see `rollout`), and climbs the gradient of the imagined return through the
//! model; the *critics* regress to TD(lambda) targets of that rollout; the *world model* learns from replayed windows.
//! [`Pwm`] holds the variables and writes the programs.

mod build;
pub mod fidelity;
mod probe;
pub mod recorded;
pub mod rollout;
pub mod world;

pub use build::{PwmLearner, build};
pub use fidelity::Fidelity;
pub use world::RewardLoss;

pub use super::{RolloutBuffers, critic};

use super::networks::normalised;
use super::{Networks, ProbeVars};
use crate::config::Config;
use crate::device::philox::Stream;
use crate::env::{EnvBatch, Mode};
use crate::model::{Actor, Critics, WorldModel};
use crate::ops::replay::{ReplaySpec, ReplayVars};
use crate::ops::stats::START_COUNT;
use crate::tape::{DType, Machine, Program, Region, TapeReal, Val, VarId, Vars};

/// Networks and statistics: what a policy needs to act, and all that `best` checkpoints hold.
#[derive(Clone, Debug)]
pub struct PwmNets {
    pub world: WorldModel,
    pub actor: Actor,
    pub critics: Critics,
    /// `[1, 3]`: rewards of replayed windows.
    pub rew_stats: VarId,
    /// `[3]`: imagined returns.
    pub ret_stats: VarId,
    /// `[O, 3]`: replayed observations, if they are normalised.
    pub obs_stats: Option<VarId>,
    /// What the reward head is trained by.
    pub reward_loss: RewardLoss,
}

impl PwmNets {
    pub fn new(vars: &mut Vars, c: &Config, obs_dim: usize, act_dim: usize) -> Self {
        let mut stats = |name: &str, shape: &[usize]| vars.add(Region::Statistics, name, DType::Real, shape);
        let (rew_stats, ret_stats) = (stats("rew_stats", &[1, 3]), stats("ret_stats", &[3]));
        let obs_stats = c.obs_norm.then(|| stats("obs_stats", &[obs_dim, 3]));
        let world = WorldModel::new(vars, c, obs_dim, act_dim);
        let latent = world.seen();
        Self {
            world,
            actor: Actor::new(vars, c, latent, act_dim),
            critics: Critics::new(vars, c, latent),
            rew_stats,
            ret_stats,
            obs_stats,
            reward_loss: world::reward_loss,
        }
    }

    /// Draws all parameters from `seed`, and lets the statistics start as if they had seen nothing.
    pub fn init<F: TapeReal>(&self, machine: &mut Machine<F>, seed: u64) {
        for group in [&self.world.group, &self.actor.group, &self.critics.group] {
            group.init(machine, seed);
        }
        for stats in self.statistics() {
            for s in machine.real_mut(stats).chunks_exact_mut(3) {
                s.copy_from_slice(&[F::zero(), F::one(), F::of(START_COUNT)]);
            }
        }
    }

    /// The constants of tasks, which the host writes before a run begins.
    pub fn constants(&self, c: &Config) -> Vec<(VarId, Vec<f64>)> {
        self.world.tasks().map(|t| (t.keep, crate::env::action_mask(c))).into_iter().collect()
    }

    /// The statistics that there are.
    pub fn statistics(&self) -> Vec<VarId> {
        [Some(self.rew_stats), Some(self.ret_stats), self.obs_stats].into_iter().flatten().collect()
    }

    /// Observations as the networks take them.
    pub fn prepare(&self, p: &mut Program, vars: &Vars, obs: Val) -> Val {
        normalised(p, vars, self.obs_stats, obs)
    }
}

/// The networks of its policy.
impl From<PwmNets> for Networks {
    fn from(n: PwmNets) -> Self {
        Self { actor: n.actor, critics: n.critics, world: Some(n.world), obs_stats: n.obs_stats }
    }
}

/// Slots of the losses that the host reads after an epoch and clears before it.
#[derive(Clone, Copy, Debug)]
pub enum PwmLoss {
    Actor = 0,
    /// Sum over all minibatches.
    Critic = 1,
    /// Sums over the world-model updates.
    Dynamics = 2,
    Reward = 3,
}

/// Every variable of a run.
#[derive(Clone, Debug)]
pub struct Pwm {
    pub config: Config,
    pub nets: PwmNets,
    pub env: EnvBatch,
    pub replay: ReplayVars,
    pub buffers: RolloutBuffers,
    /// Index `[1]`: epochs begun, the step of the policy's noise.
    pub epoch: VarId,
    /// Index `[1]`: critic passes made, the step of their shuffle.
    pub passes: VarId,
    /// `[4]`: see [`PwmLoss`].
    pub losses: VarId,
    pub probe: ProbeVars,
}

impl Pwm {
    pub fn new(vars: &mut Vars, c: &Config) -> Self {
        let (obs_dim, act_dim) = crate::env::dims(c);
        let nets = PwmNets::new(vars, c, obs_dim, act_dim);
        let env = EnvBatch::of_config(vars, "env", c, c.num_envs / c.env_names().len(), Mode::Train, Stream::Reset);
        let spec = ReplaySpec {
            num_envs: c.num_envs,
            tasks: env.groups.len(),
            horizon: c.horizon,
            capacity: c.wm_buffer_size,
            staging_rows: env.episode_length() + 1,
            obs_dim,
            act_dim,
            batch: c.wm_batch_size,
            sampling: c.replay_sampling,
            unfinished: c.replay_unfinished,
            seed: c.seed,
        };
        let replay = ReplayVars::new(vars, &spec);
        let buffers = RolloutBuffers::new(vars, c, nets.world.width);
        let epoch = vars.add(Region::Control, "epoch", DType::Index, &[1]);
        let passes = vars.add(Region::Control, "critic_passes", DType::Index, &[1]);
        let losses = vars.add(Region::Control, "losses", DType::Real, &[4]);
        let probe = ProbeVars::new(vars);
        Self { config: c.clone(), nets, env, replay, buffers, epoch, passes, losses, probe }
    }
}
