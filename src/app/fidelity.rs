//! `pwm fidelity`: how far a stored model's gradient agrees with the true environment.

use std::io::Write;
use std::path::PathBuf;

use super::misused;
use super::stored::StoredPolicy;
use crate::algo::pwm::Fidelity;
use crate::algo::pwm::fidelity::{Agreement, FidelityReport};
use crate::run::state;

/// Compare what a stored model predicts, and the policy gradient that it gives, with the true environment
#[derive(Clone, Debug, clap::Args)]
pub struct FidelityArgs {
    /// A checkpoint, or the folder of a run: then its best checkpoint
    pub checkpoint: PathBuf,
    /// Rollouts of the training policy that are compared
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    pub rollouts: u32,
    /// Rollouts before that, so that episodes are on their way
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub warm_up: u32,
    /// One JSON object instead of a table
    #[arg(long)]
    pub json: bool,
    /// Worker threads; 0 means one for each core. The result does not depend on it
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
}

/// Carries the command out; `out` is standard output, or a test's buffer.
pub fn run(args: &FidelityArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let StoredPolicy { path, mut config, checkpoint } = StoredPolicy::open(&args.checkpoint)?;
    anyhow::ensure!(
        config.has_world_model(),
        misused(format_args!("{} holds no world model: it is of {}", path.display(), config.alg))
    );
    config.threads = args.threads;
    let mut fidelity = Fidelity::<f32>::new(&config)?;
    state::restore_networks(&mut fidelity.machine, &checkpoint)?;
    let report = fidelity.measure(args.warm_up as usize, args.rollouts as usize)?;
    if args.json {
        writeln!(out, "{}", json(&report))?;
        return Ok(());
    }
    let epoch = state::epoch_of(&checkpoint)?;
    writeln!(out, "{}: {}, seed {}, epoch {epoch}", path.display(), config.alg, config.seed)?;
    writeln!(out, "{:<22}{:>12}{:>12}{:>12}{:>12}{:>9}", "", "correlation", "rms error", "model", "truth", "pairs")?;
    let mut line = |name: &str, a: &Agreement| {
        writeln!(
            out,
            "{name:<22}{:>12.3}{:>12.4}{:>12.4}{:>12.4}{:>9}",
            a.correlation, a.rmse, a.model_mean, a.true_mean, a.count
        )
    };
    let last = report.rewards.len() - 1;
    for t in [0, last / 4, last / 2, last] {
        line(&format!("reward of step {}", t + 1), &report.rewards[t])?;
    }
    line("value of last state", &report.value)?;
    writeln!(out, "slope of the return along the policy gradient:")?;
    writeln!(
        out,
        "  promised by the model {:.3}, paid by the environment {:.3}",
        report.promised_slope, report.paid_slope
    )?;
    writeln!(out, "cosine between the gradients of consecutive rollouts {:.3}", report.gradient_cosine)?;
    Ok(())
}

fn json(r: &FidelityReport) -> serde_json::Value {
    let of = |a: &Agreement| {
        serde_json::json!({
            "correlation": a.correlation, "rmse": a.rmse, "deviation": a.deviation, "model_mean": a.model_mean,
            "true_mean": a.true_mean, "pairs": a.count,
        })
    };
    serde_json::json!({
        "rewards": r.rewards.iter().map(of).collect::<Vec<_>>(), "value": of(&r.value),
        "promised_slope": r.promised_slope, "paid_slope": r.paid_slope, "gradient_cosine": r.gradient_cosine,
    })
}
