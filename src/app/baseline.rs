//! `pwm baseline`: what policies earn on a task that have learned nothing, to compare returns with.

use crate::algo::TaskEvaluation;
use crate::config::{Grid, load_with_notes};
use crate::device::cpu::lanes::WIDTH;
use crate::device::philox::{Philox, Stream};
use crate::env::{EnvReal, Task, in_physics};
use rayon::prelude::*;
use std::io::Write;

/// Play a task with random actions, and with none.
#[derive(Clone, Debug, clap::Args)]
pub struct BaselineArgs {
    /// Episodes of each, from starts that no training and no evaluation during it uses
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub episodes: u32,
    /// Settings as key=value: the task is env=NAME or a file, several are env=mt30 or env='walker-*'
    pub overrides: Vec<String>,
}

/// Carries the command out.
pub fn run(args: &BaselineArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    // All are read before the first is played.
    let read = |point: &Vec<String>| {
        let (config, notes) = load_with_notes(point)?;
        for note in notes {
            writeln!(std::io::stderr(), "{note}")?;
        }
        let of = |name: &String| anyhow::Ok((Task::from_config(&config.of_env(name))?, config.seed));
        config.env_names().iter().map(of).collect::<anyhow::Result<Vec<_>>>()
    };
    let tasks = Grid::new(&args.overrides)?.points.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    tasks.iter().flatten().try_for_each(|(task, seed)| show(task, args, *seed, out))
}

fn show(task: &Task, args: &BaselineArgs, seed: u64, out: &mut dyn Write) -> anyhow::Result<()> {
    writeln!(out, "{}, {} episodes each", task.spec.title, args.episodes)?;
    for (name, scale) in [("random actions", 1.0), ("doing nothing", 0.0)] {
        let e = play(task, args.episodes as usize, seed, scale);
        writeln!(
            out,
            "  {name:<15}  return {:.1} ± {:.1} (error of the mean), length {:.1}",
            e.mean(),
            e.std() / f64::from(args.episodes).sqrt(),
            e.mean_length()
        )?;
    }
    Ok(())
}

/// One episode from each of `episodes` starts, with actions uniform in [-scale, scale]; eight side by side.
pub fn play(task: &Task, episodes: usize, seed: u64, scale: f64) -> TaskEvaluation {
    let (s, starts, policy) = (task.sizes, Philox::new(seed, Stream::FreshEval), Philox::new(seed, Stream::Policy));
    let group = |first: usize| {
        let n = WIDTH.min(episodes - first);
        let (mut q, mut qd) = (vec![0f32; n * s.nq], vec![0f32; n * s.nqd]);
        let (mut obs, mut next) = (vec![0f32; n * s.obs], vec![0f32; n * s.obs]);
        let (mut action, mut reward) = (vec![0f32; n * s.act], vec![0f32; n]);
        for e in 0..n {
            let (q, qd, obs) = (&mut q[e * s.nq..], &mut qd[e * s.nqd..], &mut obs[e * s.obs..][..s.obs]);
            task.begin_row(&starts, 0, (first + e) as u32, q, qd, obs);
        }
        let (mut total, mut length) = (vec![0.0; n], vec![None; n]);
        for steps in 1.. {
            for (i, a) in action.iter_mut().enumerate() {
                let u = policy.uniform(steps as u64 - 1, (first * s.act + i) as u32);
                *a = (scale * (2.0 * u - 1.0)) as f32;
            }
            f32::step_rows(task, n, &mut q, &mut qd, &obs, &action, &mut next, &mut reward);
            std::mem::swap(&mut obs, &mut next);
            for e in 0..n {
                if length[e].is_some() {
                    continue;
                }
                let obs = &obs[e * s.obs..][..s.obs];
                let sane = in_physics(obs) && reward[e].is_finite();
                total[e] += if sane { f64::from(reward[e]) } else { 0.0 };
                if !sane || task.is_terminal(obs) || task.is_truncated(steps) {
                    length[e] = Some(steps as f64);
                }
            }
            if length.iter().all(Option::is_some) {
                break;
            }
        }
        total.into_iter().zip(length.into_iter().flatten()).collect::<Vec<_>>()
    };
    let first: Vec<usize> = (0..episodes).step_by(WIDTH).collect();
    let (returns, lengths) = first.into_par_iter().flat_map_iter(group).unzip();
    TaskEvaluation { task: task.spec.name.clone(), returns, lengths }
}
