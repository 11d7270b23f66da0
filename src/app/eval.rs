//! `pwm eval`: plays a stored policy on the true environment.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::algo::pwm::Evaluator;
use crate::device::philox::Stream;
use crate::run::atomic::replace_bytes;
use crate::run::checkpoint::Checkpoint;
use crate::run::film::Film;
use crate::run::{folder, state};

/// Evaluate a stored policy: closed loop, deterministic, acting on what is observed at each step.
#[derive(Clone, Debug, clap::Args)]
pub struct EvalArgs {
    /// A checkpoint, or the folder of a run: then its best checkpoint
    pub checkpoint: PathBuf,
    /// Episodes; by default as many as in training, or 100 with --fresh
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub episodes: Option<u32>,
    /// Start from states that no evaluation during training used, for figures that are published
    #[arg(long)]
    pub fresh: bool,
    /// Write the episode of median return as a moving picture to this file (and a still beside it, .svg)
    #[arg(long, value_name = "FILE.html")]
    pub movie: Option<PathBuf>,
    /// Worker threads; 0 means one for each core. The result does not depend on it
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
}

/// Carries the command out; `out` is standard output, or a test's buffer.
pub fn run(args: &EvalArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let path = checkpoint_in(&args.checkpoint)?;
    let stored = Checkpoint::load(&path)?;
    let mut config = state::config_of(&stored)??;
    config.threads = args.threads;
    let (stream, usual) = if args.fresh { (Stream::Publish, 100) } else { (Stream::Eval, config.eval_episodes) };
    let episodes = args.episodes.map_or(usual, |n| n as usize);

    let mut evaluator = Evaluator::<f32>::new(&config, episodes, stream)?;
    state::restore_policy(&mut evaluator, &stored)?;
    let mut film = Film::default();
    let filmed = args.movie.is_some();
    let e = evaluator.evaluate(|q, returns| {
        if filmed {
            film.frame(q, returns);
        }
    })?;
    let epoch = state::epoch_of(&stored)?;
    writeln!(out, "{}: {} on the {}, seed {}, epoch {epoch}", path.display(), config.alg, config.env, config.seed)?;
    writeln!(out, "{e}{}", if args.fresh { ", fresh starts" } else { "" })?;

    if let Some(file) = &args.movie {
        let env = film.episode(&e);
        let title = format!("Ant, {}, seed {}", config.alg, config.seed);
        let subtitle = format!(
            "epoch {epoch}; the median of {} evaluation episodes: return {:.0}, {} steps",
            e.returns.len(),
            e.returns[env],
            e.lengths[env]
        );
        let pictures = film.pictures(&evaluator.env.ant, &e, env, &title, &subtitle)?;
        let still = file.with_extension("svg");
        replace_bytes(file, pictures.html.as_bytes())?;
        replace_bytes(&still, pictures.svg.as_bytes())?;
        writeln!(out, "moving ant {}, still {}", file.display(), still.display())?;
    }
    Ok(())
}

/// The checkpoint that a path means.
pub(super) fn checkpoint_in(path: &Path) -> anyhow::Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.into());
    }
    let files = [folder::best(path), folder::latest(path)];
    files.into_iter().find(|f| f.is_file()).with_context(|| {
        format!("{}: no checkpoint in this folder; give the folder of a run, or a .safetensors file", path.display())
    })
}
