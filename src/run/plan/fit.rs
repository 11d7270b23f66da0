//! What fits: the largest value of each setting that decides how much memory a run takes, and the smallest change of one
//! that makes a run fit.

use super::{Budgets, Place, Plan};
use crate::config::{Algorithm, Config};

/// A setting that decides how much memory a run takes.
#[derive(Clone, Copy, Debug)]
pub struct Knob {
    pub key: &'static str,
    pub unit: &'static str,
    pub get: fn(&Config) -> usize,
    set: fn(&mut Config, usize),
    /// The largest value that the other settings allow.
    most: fn(&Config) -> usize,
    /// What it must be a multiple of.
    step: fn(&Config) -> usize,
}

/// The settings that are searched for what fits.
pub const KNOBS: [Knob; 4] = [
    Knob {
        key: "wm_batch_size",
        unit: "windows",
        get: |c| c.wm_batch_size,
        set: |c, n| c.wm_batch_size = n,
        most: |c| c.wm_buffer_size.min(1 << 20),
        step: |_| 1,
    },
    Knob {
        key: "num_envs",
        unit: "environments",
        get: |c| c.num_envs,
        set: |c, n| c.num_envs = n,
        most: |c| (c.wm_buffer_size / (c.horizon + 1)).min(((1 << 30) - 1) / (c.episode_length + 1)).min(1 << 20),
        step: |c| c.critic_batches / gcd(c.critic_batches, c.horizon),
    },
    Knob {
        key: "horizon",
        unit: "steps",
        get: |c| c.horizon,
        set: |c, n| c.horizon = n,
        most: |c| c.episode_length.min((c.wm_buffer_size / c.num_envs).saturating_sub(1)).min(MAX_HORIZON),
        step: |c| c.critic_batches / gcd(c.critic_batches, c.num_envs),
    },
    Knob {
        key: "wm_buffer_size",
        unit: "rows",
        get: |c| c.wm_buffer_size,
        set: |c, n| c.wm_buffer_size = n,
        most: |_| (1 << 30) - 1,
        step: |_| 1,
    },
];

/// Those of the settings that a run of `c` reads: without a world model there is no replay.
pub fn knobs(c: &Config) -> impl Iterator<Item = &'static Knob> {
    let world = c.algorithm == Algorithm::Pwm;
    KNOBS.iter().filter(move |k| world || !k.key.starts_with("wm_"))
}

/// Longer rollouts are not searched: a program grows with them, and so does the time to plan it.
const MAX_HORIZON: usize = 1024;

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Knob {
    /// `c` with this setting at `value`.
    pub fn with(&self, c: &Config, value: usize) -> Config {
        let mut c = c.clone();
        (self.set)(&mut c, value);
        c
    }

    /// The largest value that keeps within the budgets, all other settings as they are; none if not even the least does.
    pub fn largest(&self, c: &Config, place: Place, budgets: &Budgets) -> Option<usize> {
        self.largest_below(c, place, budgets, (self.most)(c) + 1)
    }

    /// As [`Knob::largest`], of the values less than `end`. Memory grows with every one of these settings, but for how
    /// well values happen to pack: bisection finds the place, and the values right above it are tried too.
    fn largest_below(&self, c: &Config, place: Place, budgets: &Budgets, end: usize) -> Option<usize> {
        let step = (self.step)(c).max(1);
        let allowed = |n: usize| self.with(c, n * step).broken_rules().is_empty();
        let fits = |n: usize| allowed(n) && Plan::fits(&self.with(c, n * step), place, budgets);
        let most = (end.max(1) - 1) / step;
        // Below the least value that the rules allow nothing fits, whatever the budget.
        let least = (0..24).map(|i| 1usize << i).find(|&n| allowed(n)).filter(|n| *n <= most)?;
        if fits(most) {
            return Some(most * step);
        }
        if !fits(least) {
            return None;
        }
        let (mut low, mut high) = (least, most);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            *(if fits(middle) { &mut low } else { &mut high }) = middle;
        }
        let above = (low + 1..most.min(low + NEAR)).rev().find(|&n| fits(n));
        Some(above.unwrap_or(low) * step)
    }
}

/// Values above the bisected one that are tried too.
const NEAR: usize = 16;

/// The one setting that must shrink by the smallest factor: key, from, to.
pub(super) fn smallest_change(c: &Config, place: Place, budgets: &Budgets) -> Option<(&'static str, usize, usize)> {
    knobs(c)
        .filter_map(|k| {
            let from = (k.get)(c);
            Some((k.key, from, k.largest_below(c, place, budgets, from)?))
        })
        .max_by(|a, b| (a.2 as f64 / a.1 as f64).total_cmp(&(b.2 as f64 / b.1 as f64)))
}
