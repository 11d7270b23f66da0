//! Configurations at random: every part of PWM in sizes that are planned in a millisecond.

use pwm::config::{Config, load};
use pwm::device::philox::{Philox, Stream};

/// Numbers drawn one after another.
pub struct Draw {
    rng: Philox,
    next: u64,
}

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self { rng: Philox::new(seed, Stream::Init), next: 0 }
    }

    /// From `low` to `high`, both included.
    pub fn number(&mut self, low: usize, high: usize) -> usize {
        self.next += 1;
        low + (self.rng.uniform(self.next, 0) * (high - low + 1) as f64) as usize
    }

    pub fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.number(0, of.len() - 1)]
    }

    fn widths(&mut self, most: usize) -> String {
        let layers = self.number(1, 3);
        let widths: Vec<String> = (0..layers).map(|_| self.number(1, most).to_string()).collect();
        format!("[{}]", widths.join(","))
    }
}

/// Settings that go together, and their configuration.
pub fn settings(d: &mut Draw) -> Vec<String> {
    loop {
        let group = d.number(1, 8);
        let (envs, horizon) = (d.number(1, 24), d.number(1, 8));
        let head = d.one(&["scalar", "scalar", "two_hot"]);
        let norm = if head == "two_hot" { "none" } else { d.one(&["none", "scale", "center_scale"]) };
        let mut s = vec![
            "threads=1".to_string(),
            "max_minutes=0".into(),
            format!("num_envs={envs}"),
            format!("horizon={horizon}"),
            format!("episode_length={}", horizon + d.number(0, 24)),
            format!("critic_batches={}", d.number(1, 4)),
            format!("simnorm_dim={group}"),
            format!("latent_dim={}", group * d.number(1, 8)),
            format!("wm_batch_size={}", d.number(1, 48)),
            format!("wm_buffer_size={}", envs * (horizon + 1) + d.number(48, 4000)),
            format!("eval_episodes={}", d.number(1, 8)),
            format!("num_critics={}", d.number(1, 4)),
            format!("reward_head={head}"),
            format!("rew_norm={norm}"),
            format!("num_bins={}", d.number(2, 64)),
        ];
        for (key, words) in [
            ("latent", &["encoded", "encoded", "observed"][..]),
            ("rollout", &["imagined", "anchored"]),
            ("replay_sampling", &["row", "episode"]),
            ("bootstrap", &["exact", "reference"]),
        ] {
            s.push(format!("{key}={}", d.one(words)));
        }
        if d.number(0, 2) == 0 {
            s.push("dynamics=flow".into());
            for (key, words) in [
                ("flow_integrator", &["euler", "heun", "rk4"][..]),
                ("flow_head", &["tangent", "linear", "simnorm"]),
                ("flow_projection", &["none", "simplex"]),
                ("flow_tau_sampling", &["uniform", "midpoint"]),
                ("flow_keep_substeps", &["true", "false"]),
                ("flow_consistency", &["0", "1"]),
            ] {
                s.push(format!("{key}={}", d.one(words)));
            }
            s.push(format!("flow_substeps={}", d.number(1, 3)));
        }
        if d.number(0, 3) == 0 {
            s.push("actor=flow".into());
            s.push(format!("actor_flow_integrator={}", d.one(&["euler", "heun", "rk4"])));
            s.push(format!("actor_flow_substeps={}", d.number(1, 2)));
        }
        for key in ["detach", "critic_shuffle", "ret_norm", "obs_norm", "replay_unfinished"] {
            s.push(format!("{key}={}", d.one(&["true", "false"])));
        }
        s.push(format!("replay={}", d.one(&["auto", "device", "host", "file"])));
        s.push(format!("recompute={}", d.one(&["auto", "auto", "auto", "none", "all"])));
        for key in ["units", "encoder_units", "actor_units", "critic_units"] {
            s.push(format!("{key}={}", d.widths(96)));
        }
        if load(&s).is_ok() {
            return s;
        }
    }
}

pub fn config(d: &mut Draw) -> Config {
    load(&settings(d)).unwrap()
}
