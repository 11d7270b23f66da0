//! Settings that other settings switch off. They are accepted, and said to change nothing.

use super::choices::{ActorKind, Dynamics, Latent, LrSchedule, Mode, RewardHead};
use super::fork::{Note, NoteKind};
use super::names::resolve;
use super::schema::Config;
use super::shipped::{Shipped, ShippedKind};
use super::yaml::Setting;

impl Config {
    /// The setting, as `key=value`, or the file because of which `key` is not read; none if it is.
    pub fn unread(&self, key: &str) -> Option<&'static str> {
        let schedules = [self.actor_lr_schedule, self.critic_lr_schedule, self.model_lr_schedule];
        let algorithm = self.algorithm.traits();
        let constant = schedules.iter().all(|s| s.unwrap_or(self.lr_schedule) == LrSchedule::Constant);
        let mode = match self.mode {
            Mode::Train => "mode=train",
            Mode::Pretrain => "mode=pretrain",
            Mode::Policy => "mode=policy",
        };
        let (off, why) = match key {
            _ if self.mode != Mode::Train && of_replay(key) => (true, mode),
            "wm_bootstrap_iterations" if self.mode != Mode::Train => (true, mode),
            "rollout" if self.mode == Mode::Policy => (true, mode),
            _ if self.mode == Mode::Pretrain && of_policy(key) => (true, mode),
            "latent_dim" | "simnorm_dim" | "encoder_units" => (self.latent == Latent::Observed, "latent=observed"),
            "num_bins" | "vmin" | "vmax" | "decode" | "reward_coef" => {
                (self.reward_head == RewardHead::Scalar, "reward_head=scalar")
            }
            "lr_end" | "lr_decay_start" => (constant, "lr_schedule=constant"),
            "data" | "data_id" | "held_out" | "task_sampling" => (self.mode == Mode::Train, mode),
            "task_init" => {
                (self.mode != Mode::Pretrain || self.model.is_empty(), "what does not teach a model new tasks")
            }
            "finetune" => (self.mode != Mode::Policy, "a mode that is not `policy`"),
            "task_dim" => (self.mode == Mode::Train && self.model_tasks().len() == 1, "a single task"),
            "mujoco_version" => (!self.is_under_mujoco(), "an environment under dFlex's law"),
            _ if OF_DFLEX.contains(&key) && self.is_under_mujoco() => (true, "an environment under MuJoCo's law"),
            "inertia" => (self.spec.as_ref().is_some_and(|s| s.has_robot_file()), "a robot from a file of its own"),
            "step_grad_norm" | "subgradient" => (!algorithm.simulator_gradient, algorithm.setting),
            _ if !algorithm.world_model && of_world_model(key) => (true, algorithm.setting),
            _ if !algorithm.replay && of_replay(key) => (true, algorithm.setting),
            _ if key.starts_with("flow_") => (self.dynamics == Dynamics::Mlp, "dynamics=mlp"),
            _ if key.starts_with("actor_flow_") => (self.actor == ActorKind::Gaussian, "actor=gaussian"),
            _ => (false, ""),
        };
        off.then_some(why)
    }

    /// Whether the environment's specification says so.
    pub fn is_under_mujoco(&self) -> bool {
        match &self.spec {
            Some(own) => own.is_under_mujoco(),
            None => {
                let spec = |name: &String| Shipped::find(ShippedKind::Env, name).and_then(Shipped::spec);
                self.env_names().iter().all(|name| spec(name).is_some_and(|s| s.is_under_mujoco()))
            }
        }
    }
}

/// Settings of a task that moves by dFlex's law.
const OF_DFLEX: [&str; 11] = [
    "early_termination",
    "termination_height",
    "action_penalty",
    "up_rew_scale",
    "joint_vel_obs_scaling",
    "mm_caching_frequency",
    "stochastic_init",
    "action_in_obs",
    "inertia",
    "reference_point",
    "subgradient",
];

/// Settings of the replay.
fn of_replay(key: &str) -> bool {
    key == "replay" || key.starts_with("replay_") || key == "wm_buffer_size"
}

/// Settings of what acts and of what values are for.
fn of_policy(key: &str) -> bool {
    let others = ["num_envs", "num_critics", "eval_episodes", "lam", "detach", "rollout", "value_scale", "bootstrap"];
    ["actor_", "critic_", "ret_norm"].iter().any(|f| key.starts_with(f)) || others.contains(&key)
}

/// Settings of the world model and its rollouts. SHAC always normalises observations.
fn of_world_model(key: &str) -> bool {
    let families = ["wm_", "model_", "flow_"];
    let others =
        ["latent", "dynamics", "units", "reward_head", "rollout", "detach", "rew_norm", "reward_clip", "obs_norm"];
    !of_replay(key) && families.iter().any(|f| key.starts_with(f)) || others.contains(&key)
}

/// A note for each of these settings that changes nothing.
pub(super) fn notes(config: &Config, asked_for: &[Setting]) -> Vec<Note> {
    let note = |s: &Setting| {
        let (key, _) = resolve(&s.name, s.value.clone())?;
        let why = config.unread(key.name)?;
        let (setting, meaning) = (format!("{}={}", s.name, s.value), format!("{why} does not read it"));
        Some(Note { kind: NoteKind::Ignored, setting, meaning })
    };
    asked_for.iter().filter_map(note).collect()
}
