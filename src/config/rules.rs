//! Rules between settings: what each allows alone but not together. Ranges of single settings stand in the key table.
//!
//! Checked before anything is computed. Products are taken in 128 bits, so no input overflows them.

use super::choices::{
    Device, Dynamics, FlowHead, FlowProjection, Latent, LrSchedule, Mode, Precision, ReplayPlace, RewNorm, RewardHead,
};
use super::error::Broken;
use super::schema::Config;

/// Rows of a replay, finished and unfinished episodes each.
const MAX_ROWS: usize = 1 << 30;

impl Config {
    /// Every rule that does not hold. `load` has checked them; a `Config` changed by hand is checked by this.
    pub fn broken_rules(&self) -> Vec<Broken> {
        let mut broken = Vec::new();
        let mut rule = |holds: bool, keys: &[&'static str], text: &dyn Fn() -> (String, String)| {
            if !holds {
                let (problem, remedy) = text();
                broken.push(Broken { keys: keys.to_vec(), problem, remedy });
            }
        };
        let c = self;

        rule(c.device != Device::Cpu || c.precision == Precision::Fp32, &["device", "precision"], &|| {
            (
                format!("device=cpu multiplies in single precision, precision={} is for a GPU", c.precision),
                "set precision to fp32, or device to auto or cuda:0".into(),
            )
        });

        let group = c.simnorm_dim.max(1);
        rule(
            c.latent == Latent::Observed || c.latent_dim.is_multiple_of(group),
            &["latent_dim", "simnorm_dim"],
            &|| {
                let below = c.latent_dim / group * group;
                let near = if below == 0 { format!("{group}") } else { format!("{below} or {}", below + group) };
                (
                    format!("latent_dim={} is not a multiple of simnorm_dim={}", c.latent_dim, c.simnorm_dim),
                    format!("set latent_dim to {near}"),
                )
            },
        );

        let free = c.flow_head == FlowHead::Linear && c.flow_projection == FlowProjection::None;
        rule(
            c.dynamics == Dynamics::Mlp || c.latent == Latent::Encoded || free,
            &["flow_head", "flow_projection", "latent"],
            &|| {
                (
                    format!(
                        "latent=observed has no groups whose sums flow_head={} and flow_projection={} could keep",
                        c.flow_head, c.flow_projection
                    ),
                    "set flow_head to linear and flow_projection to none, or latent to encoded".into(),
                )
            },
        );

        let rows = c.num_envs as u128 * c.horizon as u128;
        let batches = c.critic_batches.max(1) as u128;
        rule(rows.is_multiple_of(batches), &["critic_batches", "num_envs", "horizon"], &|| {
            let near = (1..=batches).rev().find(|b| rows.is_multiple_of(*b)).unwrap_or(1);
            (
                format!(
                    "a rollout of num_envs={} x horizon={} = {rows} states cannot be cut into critic_batches={batches} equal parts",
                    c.num_envs, c.horizon
                ),
                format!("set critic_batches to {near}, or num_envs to a multiple of {batches}"),
            )
        });

        let (names, all) = (c.env_names(), c.model_tasks());
        let tasks = names.len();
        rule(c.num_envs.is_multiple_of(tasks) || !c.has_environments(), &["num_envs", "env"], &|| {
            let near = c.num_envs.div_ceil(tasks) * tasks;
            (
                format!("num_envs={} cannot be shared out equally among the {tasks} tasks of env", c.num_envs),
                format!("set num_envs to {near}"),
            )
        });
        let known = tasks == 1 && all.contains(&names[0]);
        // Elsewhere tasks are those of the data, or of the model, which are not read here.
        let of_env = c.mode == Mode::Train;
        rule(c.tasks.is_empty() || names == all || known || !of_env, &["tasks", "env"], &|| {
            (
                format!("the world model's tasks are {}, and env={} is none of them", all.join(", "), c.env),
                "name one of them as env".into(),
            )
        });
        rule(c.has_world_model() || all.len() == 1, &["algorithm", "env"], &|| {
            (
                format!("{} learns one task, and env names {}", c.algorithm.traits().setting, all.len()),
                "take algorithm=pwm, or train each task: pwm-train --multirun".into(),
            )
        });

        rule(c.mode == Mode::Train || c.has_world_model(), &["mode", "algorithm"], &|| {
            (
                format!("mode={} is for a world model, which algorithm={} has not", c.mode, c.algorithm),
                "take algorithm=pwm".into(),
            )
        });

        let no_replay = !c.has_replay();
        let needed = c.num_envs as u128 * (c.horizon as u128 + 1);
        rule(no_replay || c.wm_buffer_size as u128 >= needed, &["wm_buffer_size", "num_envs", "horizon"], &|| {
            (
                format!(
                    "wm_buffer_size={} rows cannot hold one window of horizon+1={} rows for each of num_envs={}",
                    c.wm_buffer_size,
                    c.horizon as u128 + 1,
                    c.num_envs
                ),
                format!("set wm_buffer_size to at least {needed}"),
            )
        });

        // Row numbers are 32 bits wide, with room to count on.
        let staged = c.num_envs as u128 * (c.episode_length as u128 + 1);
        rule(
            no_replay || (c.wm_buffer_size < MAX_ROWS && staged < MAX_ROWS as u128),
            &["wm_buffer_size", "num_envs"],
            &|| {
                (
                    format!(
                        "the replay numbers fewer than {MAX_ROWS} rows; wm_buffer_size={} and unfinished episodes of num_envs={} x \
                     (episode_length={} + 1) rows are too many",
                        c.wm_buffer_size, c.num_envs, c.episode_length
                    ),
                    "lower wm_buffer_size or num_envs".into(),
                )
            },
        );

        let on_gpu = matches!(c.device, Device::Cuda(_));
        rule(no_replay || !on_gpu || c.replay != ReplayPlace::File, &["replay", "device"], &|| {
            (
                format!("replay=file cannot be read by device={}", c.device),
                "set replay to host, or device to cpu".into(),
            )
        });

        rule(no_replay || c.wm_buffer_size >= c.wm_batch_size, &["wm_buffer_size", "wm_batch_size"], &|| {
            (
                format!(
                    "wm_buffer_size={} rows is less than wm_batch_size={} windows",
                    c.wm_buffer_size, c.wm_batch_size
                ),
                format!("set wm_buffer_size to at least {}, or lower wm_batch_size", c.wm_batch_size),
            )
        });

        rule(c.horizon <= c.episode_length, &["horizon", "episode_length"], &|| {
            (
                format!("horizon={} steps is longer than an episode of episode_length={}", c.horizon, c.episode_length),
                format!("set horizon to at most {}", c.episode_length),
            )
        });

        let two_hot = c.reward_head == RewardHead::TwoHot;
        rule(!two_hot || c.rew_norm == RewNorm::None, &["reward_head", "rew_norm"], &|| {
            (
                format!("reward_head=two_hot learns the raw reward, which rew_norm={} would change", c.rew_norm),
                "set rew_norm to none, or reward_head to scalar".into(),
            )
        });

        rule(c.vmin < c.vmax, &["vmin", "vmax"], &|| {
            (format!("the bins from vmin={} to vmax={} are empty", c.vmin, c.vmax), "set vmin below vmax".into())
        });

        let ends = [
            ("actor_lr", c.actor_lr, "actor_lr_end", c.actor_lr_end, c.actor_lr_schedule),
            ("critic_lr", c.critic_lr, "critic_lr_end", c.critic_lr_end, c.critic_lr_schedule),
            ("model_lr", c.model_lr, "model_lr_end", c.model_lr_end, c.model_lr_schedule),
        ];
        for (name, rate, own, own_end, own_schedule) in ends {
            let (end_key, end) = own_end.map_or(("lr_end", c.lr_end), |e| (own, e));
            let schedule = own_schedule.unwrap_or(c.lr_schedule);
            rule(schedule == LrSchedule::Constant || end <= rate, &[end_key, name], &|| {
                (
                    format!("lr_schedule={schedule} would raise {name}={rate:?} to {end_key}={end:?}"),
                    format!("set {end_key} to at most {rate:?}, or lr_schedule to constant"),
                )
            });
        }

        let starts = [
            ("lr_decay_start", Some(c.lr_decay_start)),
            ("actor_lr_decay_start", c.actor_lr_decay_start),
            ("critic_lr_decay_start", c.critic_lr_decay_start),
            ("model_lr_decay_start", c.model_lr_decay_start),
        ];
        for (key, start) in starts {
            let start = start.unwrap_or(0);
            rule(start < c.max_epochs, &[key, "max_epochs"], &|| {
                (
                    format!("{key}={start} leaves nothing of max_epochs={} for the rate to fall in", c.max_epochs),
                    format!("set {key} below {}, or lr_schedule to constant", c.max_epochs),
                )
            });
        }

        rule(c.warmup_epochs < c.max_epochs, &["warmup_epochs", "max_epochs"], &|| {
            (
                format!("warmup_epochs={} leaves nothing of max_epochs={}", c.warmup_epochs, c.max_epochs),
                format!("set warmup_epochs below {}", c.max_epochs),
            )
        });

        rule(c.actor_min_logstd <= c.actor_init_logstd, &["actor_init_logstd", "actor_min_logstd"], &|| {
            (
                format!("actor_init_logstd={} is below actor_min_logstd={}", c.actor_init_logstd, c.actor_min_logstd),
                format!("set actor_init_logstd to at least {}", c.actor_min_logstd),
            )
        });

        broken
    }
}
