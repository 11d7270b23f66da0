//! `pwm import`: a checkpoint of published PWM, its flow fork or TD-MPC2 becomes one of ours.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, ensure};

use super::misused;
use crate::config;
use crate::io::atomic::FileError;
use crate::io::torch::TorchFile;
use crate::run::import::{self, ImportError, ImportReport};

/// Make a policy of a checkpoint of published PWM or its flow fork, or a model of one of TD-MPC2 (.pt)
#[derive(Clone, Debug, clap::Args)]
pub struct ImportArgs {
    /// A file of torch.save, as the published code writes it
    pub file: PathBuf,
    /// The checkpoint to write; or a folder, then the file is called as the one that is read
    #[arg(long, value_name = "FILE.safetensors")]
    pub out: PathBuf,
    /// Settings, `alg=NAME` and `key=value`, where those read off the file do not do; `alg=pwm_5M` without
    pub settings: Vec<String>,
}

/// Carries the command out; `out` is standard output, or a test's buffer.
pub fn run(args: &ImportArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let bytes = std::fs::read(&args.file).map_err(FileError::at(&args.file, "reading it"))?;
    let file = TorchFile::parse(&bytes).map_err(|what| ImportError::Unreadable { path: args.file.clone(), what })?;
    let mut settings = vec!["alg=pwm_5M".to_string()];
    settings.extend(import::settings(&file));
    writeln!(out, "settings read off the file: {}", settings[1..].join(" "))?;
    settings.extend(args.settings.iter().cloned());
    let mut config = config::load(&settings)?;
    if !config.is_played() {
        // Its tasks are all that a model alone is of.
        config.env = format!("[{}]", config.tasks.join(", "));
        if config.tasks.is_empty() {
            return Err(misused(format_args!(
                "how many tasks the model has is in the file, not which; name them in their order: pwm import FILE \
                 --out OUT tasks=[...]"
            ))
            .into());
        }
    }
    crate::env::check(&config)?;
    let imported = import::import(&file, &config);
    print(&imported.report, out)?;
    imported.complete(&args.file)?;
    let mut target = args.out.clone();
    if target.is_dir() {
        // A return in the name has a dot of its own.
        let mut name = args.file.file_stem().context("the file has no name")?.to_os_string();
        name.push(".safetensors");
        target.push(name);
        // The user did not choose this name, so nothing is overwritten.
        ensure!(
            !target.exists(),
            misused(format_args!("{}: is there already; give the file to write with --out", target.display()))
        );
    }
    imported.save(&target)?;
    let next = if config.is_played() { "pwm eval " } else { "pwm-train mode=policy data=FILE.idx env=TASK model=" };
    writeln!(out, "written: {0}; {next}{0}", target.display())?;
    Ok(())
}

fn print(report: &ImportReport, out: &mut dyn Write) -> anyhow::Result<()> {
    let width = report.taken.iter().map(|(theirs, ..)| theirs.len()).max().unwrap_or(0);
    for (theirs, ours, shape) in &report.taken {
        writeln!(out, "taken    {theirs:<width$}  {ours} {shape:?}")?;
    }
    for (name, why) in &report.missing {
        writeln!(out, "MISSING  {name}: {why}")?;
    }
    for (name, what) in &report.ignored {
        writeln!(out, "ignored  {name}: {what}")?;
    }
    for line in &report.statistics {
        writeln!(out, "{line}")?;
    }
    let (taken, missing, ignored) = (report.taken.len(), report.missing.len(), report.ignored.len());
    writeln!(out, "{taken} tensors taken, {missing} missing or misfit, {ignored} entries ignored")?;
    Ok(())
}
