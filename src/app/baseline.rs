//! `pwm baseline`: what policies earn on a task that have learned nothing, to compare returns with.

use crate::algo::TaskEvaluation;
use crate::config::{Grid, load_with_notes};
use crate::device::cpu::lanes::WIDTH;
use crate::device::philox::{Philox, Stream};
use crate::env::{Stepper, Task};
use rayon::prelude::*;
use std::io::Write;
use std::sync::Arc;

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
    let task = Arc::new(task.clone());
    let group = |first: usize| {
        let n = WIDTH.min(episodes - first);
        let mut envs = Stepper::<f32>::new(task.clone(), n);
        (0..n).for_each(|e| envs.begin(e, &starts, 0, (first + e) as u32));
        let mut action = vec![0f32; n * s.act];
        let (mut total, mut length) = (vec![0.0; n], vec![None; n]);
        for steps in 1.. {
            for (i, a) in action.iter_mut().enumerate() {
                let u = policy.uniform(steps as u64 - 1, (first * s.act + i) as u32);
                *a = (scale * (2.0 * u - 1.0)) as f32;
            }
            envs.step(&action);
            for e in 0..n {
                if length[e].is_none() {
                    total[e] += f64::from(envs.reward[e]);
                    length[e] = envs.ends[e].is_end().then_some(steps as f64);
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
