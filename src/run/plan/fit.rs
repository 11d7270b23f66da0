//! What fits: the largest value of each setting that decides how much memory a run takes, and the smallest change of
//! one that makes a run fit.

use super::{ArenaPlace, Limits, Planner};
use crate::config::{Config, Mode};

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
        most: |c| ring(c, c.horizon + 1).min(((1 << 30) - 1) / (c.episode_length + 1)).min(1 << 20),
        step: |c| c.critic_batches / gcd(c.critic_batches, c.horizon),
    },
    Knob {
        key: "horizon",
        unit: "steps",
        get: |c| c.horizon,
        set: |c, n| c.horizon = n,
        most: |c| c.episode_length.min(ring(c, c.num_envs).saturating_sub(1)).min(MAX_HORIZON),
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

/// Those of the settings that a run of `c` reads.
pub fn knobs(c: &Config) -> impl Iterator<Item = &'static Knob> {
    // A policy's data may have shorter episodes than its environment, which is not known here.
    let of_mode = |k: &&Knob| c.mode != Mode::Policy || k.key != "horizon";
    KNOBS.iter().filter(of_mode).filter(|k| c.unread(k.key).is_none())
}

/// How many blocks of so many rows the replay has; where there is none, there is no bound.
fn ring(c: &Config, rows: usize) -> usize {
    if c.has_replay() { c.wm_buffer_size / rows } else { usize::MAX }
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

    /// Whether `value` is the most that the other settings allow, whatever the memory.
    pub fn is_most(&self, c: &Config, value: usize) -> bool {
        let step = (self.step)(c).max(1);
        value / step == (self.most)(c) / step
    }
}

/// The search for what fits.
pub struct Fit<'a> {
    c: &'a Config,
    place: ArenaPlace,
    limits: &'a Limits,
    /// How much each program rematerialises where `c` holds least: also tried at other values of a setting, whose
    /// programs are the same but for their sizes.
    shares: Vec<f64>,
}

impl<'a> Fit<'a> {
    /// Of values that keep the run that is planned within the limits.
    pub fn new(planner: &Planner<'a>, limits: &'a Limits) -> Self {
        Self { c: planner.c, place: planner.place, limits, shares: planner.shares() }
    }

    /// The largest value of a setting that keeps within the limits, all others as they are; none if not even the least
    /// does.
    pub fn largest(&self, knob: &Knob) -> Option<usize> {
        self.largest_below(knob, (knob.most)(self.c) + 1)
    }

    /// The same with another configuration that differs in nothing that programs are made of.
    pub fn of<'b>(&self, c: &'b Config) -> Fit<'b>
    where
        'a: 'b,
    {
        Fit { c, place: self.place, limits: self.limits, shares: self.shares.clone() }
    }

    /// As [`Fit::largest`], of the values less than `end`. Memory grows with every one of these settings, but for how
    /// well values happen to pack: bisection finds the place, and the values right above it are tried too.
    fn largest_below(&self, knob: &Knob, end: usize) -> Option<usize> {
        let (c, step) = (self.c, (knob.step)(self.c).max(1));
        let allowed = |n: usize| knob.with(c, n * step).broken_rules().is_empty();
        let fits =
            |n: usize| allowed(n) && Planner::new(&knob.with(c, n * step), self.place).fits(self.limits, &self.shares);
        let most = (end.max(1) - 1) / step;
        if most > 0 && fits(most) {
            return Some(most * step);
        }
        // The least value that the rules allow: below it nothing fits, whatever the budget.
        let some = (0..usize::BITS).map(|i| 1usize << i).chain([(knob.get)(c) / step, most]);
        let some = some.filter(|&n| (1..=most).contains(&n) && allowed(n)).min()?;
        let least = bisect(0, some, |n| !allowed(n)) + 1;
        if !fits(least) {
            return None;
        }
        let mut found = bisect(least, most, fits);
        while let Some(above) = (found + 1..most.min(found + NEAR)).rev().find(|&n| fits(n)) {
            found = above;
        }
        Some(found * step)
    }

    /// The one setting that must shrink by the smallest factor: key, from, to.
    pub(super) fn smallest_change(&self) -> Option<(&'static str, usize, usize)> {
        knobs(self.c)
            .filter_map(|k| {
                let from = (k.get)(self.c);
                Some((k.key, from, self.largest_below(k, from)?))
            })
            .max_by(|a, b| (a.2 as f64 / a.1 as f64).total_cmp(&(b.2 as f64 / b.1 as f64)))
    }
}

/// The last number for which `holds`, if it does at `low`, does not at `high`, and changes once in between.
fn bisect(mut low: usize, mut high: usize, holds: impl Fn(usize) -> bool) -> usize {
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        *(if holds(middle) { &mut low } else { &mut high }) = middle;
    }
    low
}

/// Values above the bisected one that are tried too.
const NEAR: usize = 16;
