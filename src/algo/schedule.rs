//! Learning-rate schedules: functions of the epoch alone, so that a resumed run continues them.

use crate::config::{Config, LrSchedule};

/// Whose rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    Actor,
    Critic,
    Model,
}

/// How one rate falls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    pub kind: LrSchedule,
    pub start: f64,
    pub end: f64,
    /// Epoch at which it begins to fall, and at which it has arrived.
    pub decay: [u64; 2],
    pub warmup: u64,
}

impl Schedule {
    /// The schedule of a network: its own settings, where it has them.
    pub fn of(c: &Config, network: Network) -> Self {
        let (start, kind, end, from) = match network {
            Network::Actor => (c.actor_lr, c.actor_lr_schedule, c.actor_lr_end, c.actor_lr_decay_start),
            Network::Critic => (c.critic_lr, c.critic_lr_schedule, c.critic_lr_end, c.critic_lr_decay_start),
            Network::Model => (c.model_lr, c.model_lr_schedule, c.model_lr_end, c.model_lr_decay_start),
        };
        Self {
            kind: kind.unwrap_or(c.lr_schedule),
            start,
            end: end.unwrap_or(c.lr_end),
            decay: [from.unwrap_or(c.lr_decay_start), c.max_epochs],
            warmup: c.warmup_epochs,
        }
    }

    /// Rate at epoch `e` (from 0).
    ///
    /// With `x` from 0 to 1 over the epochs of the decay, `linear` is `start + (end - start) x` and `cosine` half a
    /// cosine between the same two; both stay at `end` afterwards. Over the first `warmup` epochs the rate rises
    /// linearly from `start / warmup`.
    pub fn rate(&self, e: u64) -> f64 {
        let [from, to] = self.decay;
        let x = (e.saturating_sub(from) as f64 / to.saturating_sub(from).max(1) as f64).min(1.0);
        let base = match self.kind {
            LrSchedule::Constant => self.start,
            LrSchedule::Linear => self.start + (self.end - self.start) * x,
            LrSchedule::Cosine => self.end + (self.start - self.end) * 0.5 * (1.0 + (std::f64::consts::PI * x).cos()),
        };
        if e < self.warmup { base * (e + 1) as f64 / self.warmup as f64 } else { base }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_network_falls_when_and_where_it_is_told_to() {
        let c = Config {
            max_epochs: 200,
            lr_decay_start: 100,
            lr_end: 1e-5,
            actor_lr: 1e-3,
            critic_lr_end: Some(1e-4),
            critic_lr: 4e-4,
            critic_lr_schedule: Some(LrSchedule::Cosine),
            model_lr_decay_start: Some(0),
            model_lr: 2e-4,
            ..Config::default()
        };
        let at = |n, e| Schedule::of(&c, n).rate(e);
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        near(at(Network::Actor, 100), 1e-3);
        near(at(Network::Actor, 150), (1e-3 + 1e-5) / 2.0);
        near(at(Network::Actor, 999), 1e-5);
        near(at(Network::Critic, 150), 2.5e-4);
        near(at(Network::Critic, 125), 1e-4 + 3e-4 * 0.5 * (1.0 + std::f64::consts::FRAC_PI_4.cos()));
        near(at(Network::Critic, 200), 1e-4);
        near(at(Network::Model, 100), (2e-4 + 1e-5) / 2.0);
    }

    #[test]
    fn warmup_rises_in_a_straight_line() {
        let c = Config { warmup_epochs: 4, lr_schedule: LrSchedule::Constant, ..Config::default() };
        let rates: Vec<f64> = (0..5).map(|e| Schedule::of(&c, Network::Actor).rate(e) / c.actor_lr).collect();
        assert_eq!(rates, [0.25, 0.5, 0.75, 1.0, 1.0]);
    }
}
