//! `pwm export`: the weights of a checkpoint, for use elsewhere.

use std::io::Write;
use std::path::PathBuf;

use super::misused;
use super::stored::StoredPolicy;
use crate::run::export::{self, ExportPart};
use anyhow::ensure;

/// Write a policy's weights as plain safetensors, with what it takes to use them
#[derive(Clone, Debug, clap::Args)]
pub struct ExportArgs {
    /// A checkpoint, or the folder of a run: then its best checkpoint
    pub checkpoint: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE.safetensors", default_value = "policy.safetensors")]
    pub out: PathBuf,
    /// What goes into it
    #[arg(long, value_delimiter = ',', default_value = "actor")]
    pub parts: Vec<ExportPart>,
}

/// Carries the command out; `out` is standard output, or a test's buffer.
pub fn run(args: &ExportArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let StoredPolicy { path, config, checkpoint } = StoredPolicy::open(&args.checkpoint)?;
    let tasks = config.model_tasks();
    ensure!(
        tasks.len() == 1,
        misused(format_args!(
            "{}: its networks take the embedding of one of {} tasks, which recipes of exports do not know",
            path.display(),
            tasks.len()
        ))
    );
    for (name, shape) in export::export(&checkpoint, &config, &args.parts, &args.out)? {
        writeln!(out, "{name} {shape:?}")?;
    }
    writeln!(out, "written: {} from {}", args.out.display(), path.display())?;
    Ok(())
}
