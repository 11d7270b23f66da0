//! `pwm collect`: episodes recorded in the true environments, in the files that `pwm data` reads.

use super::data::{Numbers, progress, write_part};
use super::misused;
use super::stored::StoredPolicy;
use crate::algo::Actor;
use crate::config::{Grid, Shipped, ShippedKind, load_with_notes};
use crate::device::philox::{Philox, Stream};
use crate::env::{Stepper, Task};
use crate::io::atomic::FileError;
use crate::io::episodes::Chunk;
use crate::io::episodes::names::mt30;
use crate::io::episodes::write::Episodes;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Record episodes of tasks: with random actions, with smooth noise, or with a policy
#[derive(Clone, Debug, clap::Args)]
pub struct CollectArgs {
    /// The folder to write chunks to, which need not exist; what is in it stays
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Episodes of each task
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub episodes: u32,
    /// Who acts: `random` (uniform at every step), `smooth` (noise that lasts, of another strength and length in every
    /// episode), or the checkpoint of a policy
    #[arg(long, value_name = "POLICY", default_value = "random")]
    pub policy: String,
    /// Deviation of the noise that is added to the actions of a policy
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    pub noise: f64,
    /// Settings as key=value: the task is env=NAME or a file, several are env=mt30 or env='walker-*'; `seed` decides
    /// starts and noise
    pub overrides: Vec<String>,
}

/// Episodes side by side.
const SIDE_BY_SIDE: usize = 64;
/// Episodes of a file at most.
const OF_A_FILE: usize = 5000;
/// Widths of the published data of MT30, whose rows have zeros behind a narrower task's.
const PUBLISHED_WIDTHS: (usize, usize) = (24, 6);

/// Carries the command out.
pub fn run(args: &CollectArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    // All are read before the first is played.
    let mut tasks = vec![];
    for point in &Grid::new(&args.overrides)?.points {
        let (config, notes) = load_with_notes(point)?;
        notes.iter().try_for_each(|note| writeln!(std::io::stderr(), "{note}"))?;
        for name in config.env_names() {
            let file = name.ends_with(".yaml") || name.ends_with(".yml");
            anyhow::ensure!(
                !file || Shipped::find(ShippedKind::Env, config.env_label()).is_none(),
                misused(format_args!(
                    "{name}: `{}` is a shipped environment; call your own otherwise",
                    config.env_label()
                ))
            );
            tasks.push((Arc::new(Task::from_config(&config.of_env(&name))?), config.seed));
        }
    }
    std::fs::create_dir_all(&args.out).map_err(FileError::at(&args.out, "creating the folder"))?;
    let mut numbers = Numbers::of(&args.out)?;
    for (task, seed) in &tasks {
        // Behind what there is of this task, so that no start and no noise come twice.
        let before = recorded_before(&args.out, &task.spec.name)?;
        let mut actor = match args.policy.as_str() {
            "random" | "smooth" => None,
            path => Some(StoredPolicy::open(path.as_ref())?.actor(&task.spec.name, task.sizes, SIDE_BY_SIDE)?),
        };
        let number = numbers.of_task(&task.spec.name);
        // Names come first: chunks whose tasks have none cannot be read.
        numbers.save()?;
        let (mut part, mut file, mut returns) = (Episodes::default(), 0, vec![]);
        let all = args.episodes as usize;
        let mut show = progress("recording:");
        for first in (0..all).step_by(SIDE_BY_SIDE) {
            let count = SIDE_BY_SIDE.min(all - first);
            let recorded = record(task, args, *seed, before + first, count, actor.as_mut(), number)?;
            returns.extend(
                recorded.reward.chunks(recorded.rows).map(|r| r[1..].iter().map(|x| f64::from(*x)).sum::<f64>()),
            );
            if !part.is_empty() && part.len() + recorded.len() > OF_A_FILE {
                file = write_part(&args.out, &task.spec.name, file, &mut part, out)?;
            }
            add(&mut part, recorded);
            let bytes = |n: usize| (n * part.rows * (part.obs_dim + part.act_dim + 2) * 4) as u64;
            show(bytes(first + count), bytes(all));
        }
        if !part.is_empty() {
            write_part(&args.out, &task.spec.name, file, &mut part, out)?;
        }
        let mean = returns.iter().sum::<f64>() / returns.len().max(1) as f64;
        let left = all - returns.len();
        let lost = if left > 0 { format!(", {left} that left physics are left out") } else { String::new() };
        writeln!(out, "{}: {} episodes, mean return {mean:.1}{lost}", task.spec.name, returns.len())?;
    }
    Ok(())
}

/// Episodes of a task in the files of a folder that are called after it.
fn recorded_before(folder: &Path, task: &str) -> anyhow::Result<usize> {
    let mut episodes = 0;
    for i in 0.. {
        let path = folder.join(format!("{task}_{i}.pt"));
        if !path.is_file() {
            break;
        }
        episodes += Chunk::open(&path)?.0.episodes as usize;
    }
    Ok(episodes)
}

fn add(to: &mut Episodes, more: Episodes) {
    (to.rows, to.obs_dim, to.act_dim) = (more.rows, more.obs_dim, more.act_dim);
    to.obs.extend(more.obs);
    to.action.extend(more.action);
    to.reward.extend(more.reward);
    to.task.extend(more.task);
}

/// Noise that lasts: of an episode, its strength and how much of it stays from one step to the next.
fn smooth(noise: &Philox, episode: usize) -> (f64, f64) {
    let u = |i| noise.uniform(u64::MAX, (2 * episode + i) as u32);
    // From hardly anything to far beyond the limits; from a step to about thirty.
    (2.0 * u(0), 1.0 - 0.97 * u(1).powi(2) - 0.03)
}

/// Records `count` episodes, the first of which is number `first` of all. Those that leave physics are left out.
fn record(
    task: &Arc<Task>,
    args: &CollectArgs,
    seed: u64,
    first: usize,
    count: usize,
    mut actor: Option<&mut Actor<f32>>,
    number: i32,
) -> anyhow::Result<Episodes> {
    let s = task.sizes;
    let (starts, noise) = (Philox::new(seed, Stream::Collect), Philox::new(seed ^ 0x434f_4c4c, Stream::Collect));
    let rows = task.spec.episode_length + 1;
    let (obs_dim, act_dim) = if mt30().contains(&task.spec.name.as_str()) {
        (s.obs.max(PUBLISHED_WIDTHS.0), s.act.max(PUBLISHED_WIDTHS.1))
    } else {
        (s.obs, s.act)
    };
    let n = count;
    let mut envs = Stepper::<f32>::new(task.clone(), n);
    (0..n).for_each(|e| envs.begin(e, &starts, 0, (first + e) as u32));
    let mut action = vec![0f32; n * s.act];
    let mut all = Episodes {
        rows,
        obs_dim,
        act_dim,
        obs: vec![0.0; n * rows * obs_dim],
        action: vec![0.0; n * rows * act_dim],
        reward: vec![0.0; n * rows],
        task: vec![number; n],
    };
    // Filler, as the published files have it.
    for e in 0..n {
        all.obs[e * rows * obs_dim..][..s.obs].copy_from_slice(&envs.obs[e * s.obs..][..s.obs]);
        all.action[e * rows * act_dim..][..act_dim].fill(f32::NAN);
        all.reward[e * rows] = f32::NAN;
    }
    let mut sane = vec![true; n];
    for t in 1..rows {
        let chosen = match &mut actor {
            Some(actor) => Some(actor.act(&envs.obs, s.obs, n, s.act)?),
            None => None,
        };
        for (i, a) in action.iter_mut().enumerate() {
            let (e, k) = (first + i / s.act, i % s.act);
            let index = (e * s.act + k) as u32;
            *a = match (&chosen, args.policy.as_str()) {
                (Some(chosen), _) => f64::from(chosen[i]) + args.noise * noise.normal(t as u64, index),
                (None, "smooth") => {
                    let (strength, stays) = smooth(&noise, e);
                    // The sum of what has come is kept unclipped in the action before.
                    let fresh = (1.0 - stays * stays).sqrt() * strength * noise.normal(t as u64, index);
                    stays * f64::from(*a) + fresh
                }
                _ => 2.0 * noise.uniform(t as u64, index) - 1.0,
            } as f32;
        }
        let clipped: Vec<f32> = action.iter().map(|a| a.clamp(-1.0, 1.0)).collect();
        envs.step_shared(&clipped);
        for e in 0..n {
            let row = &envs.obs[e * s.obs..][..s.obs];
            sane[e] &= !envs.ends[e].left_physics;
            all.obs[(e * rows + t) * obs_dim..][..s.obs].copy_from_slice(row);
            all.action[(e * rows + t) * act_dim..][..s.act].copy_from_slice(&clipped[e * s.act..][..s.act]);
            all.reward[e * rows + t] = envs.reward[e];
        }
    }
    if sane.contains(&false) {
        let keep = |numbers: &[f32], width: usize| -> Vec<f32> {
            let kept = numbers.chunks(width).zip(&sane).filter(|(_, sane)| **sane);
            kept.flat_map(|(x, _)| x.iter().copied()).collect()
        };
        (all.obs, all.action) = (keep(&all.obs, rows * obs_dim), keep(&all.action, rows * act_dim));
        all.reward = keep(&all.reward, rows);
        all.task.truncate(all.reward.len() / rows);
    }
    Ok(all)
}
