//! Whole epochs of a run, simulator and replay included, and the time of each program of an epoch.

use super::measure::{Measurement, repeat, timed};
use crate::algo::{Runner, target};
use crate::config::{Config, Device};
use crate::tape::profile::Profile;
use anyhow::bail;

/// Epochs without learning after which the measurement gives up: more than an episode lasts.
const PATIENCE: usize = 4096;

/// What an epoch takes.
#[derive(Clone, Debug)]
pub struct EpochTiming {
    /// All programs with what the host does between them.
    pub epoch: Measurement,
    /// Each program with its runs an epoch, and the time of all these together.
    pub programs: Vec<(&'static str, usize, Measurement)>,
    /// True environment steps of an epoch.
    pub env_steps: usize,
}

/// Times ordinary epochs: after the replay has something to learn from, without the first one's longer training.
pub fn epoch(c: &Config, seconds: f64) -> anyhow::Result<EpochTiming> {
    let mut t = learning(c)?;
    let whole = repeat(seconds, || timed(|| t.run_epoch().map(drop)))?;
    let mut programs = vec![];
    for (id, runs) in t.steps().to_vec() {
        let timing = repeat(seconds / 4.0, || {
            timed(|| (0..runs).try_for_each(|_| t.machine.run(id)).and_then(|()| t.machine.wait()))
        })?;
        programs.push((t.machine.name(id), runs, timing));
    }
    Ok(EpochTiming { epoch: whole, programs, env_steps: c.rollout_states() })
}

/// Time by operation of each program of an epoch, on one thread.
pub fn profiles(c: &Config, seconds: f64) -> anyhow::Result<Vec<Profile>> {
    // Operations are timed one by one on the processor.
    let mut t = learning(&Config { device: Device::Cpu, ..c.clone() })?;
    let mut profiles = vec![];
    for (id, _) in t.steps().to_vec() {
        let repetitions = repeat(seconds, || timed(|| t.machine.run(id)))?.n;
        profiles.push(t.machine.profile(id, repetitions));
    }
    Ok(profiles)
}

/// A run whose replay has something to learn from.
pub fn learning(c: &Config) -> anyhow::Result<Runner<f32>> {
    let mut t = Runner::<f32>::on(c, &target(crate::env::device(c), c.precision)?)?;
    until_it_learns(&mut t)?;
    Ok(t)
}

/// Runs epochs until one learns: the replay then has something to draw from.
pub(super) fn until_it_learns(t: &mut Runner<f32>) -> anyhow::Result<()> {
    t.set_bootstrapped(true);
    for _ in 0..PATIENCE {
        if t.run_epoch()?.learned {
            return Ok(());
        }
    }
    bail!("no episode ended in {PATIENCE} epochs")
}
