//! `pwm report` and `pwm compare`: what runs came to, and whether two experiments differ.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use rayon::prelude::*;

use super::misused;
use crate::analysis::report::{Report, Run, group, reservations};
use crate::analysis::select;
use crate::analysis::stats::{
    interval, interval_of_difference, iqm, mean, permutation_test, probability_of_improvement, std,
};
use crate::io::atomic::{FileError, replace_bytes};
use crate::sweep::{REPORT, is_sweep};

/// Make one page with curves and tables of runs, and the same as SVG, CSV, Markdown and LaTeX.
#[derive(Clone, Debug, clap::Args)]
pub struct ReportArgs {
    /// Run folders, folders of runs or of a sweep, or patterns as in 'runs/mine_*'
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// Folder to write to; by default inside the folder of the run or the sweep, or `report` for several
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Say whether two experiments differ by more than chance.
#[derive(Clone, Debug, clap::Args)]
pub struct CompareArgs {
    /// Runs of the first experiment: a folder of runs or a pattern as in 'runs/mine_pwm_small_s*'
    pub a: PathBuf,
    /// Runs of the second
    pub b: PathBuf,
    /// Compare highest evaluations instead of last ones
    #[arg(long)]
    pub peak: bool,
}

fn read(what: &[PathBuf]) -> anyhow::Result<Vec<Run>> {
    let mut runs = Vec::new();
    for pattern in what {
        let found = select::runs(pattern);
        ensure!(
            !found.is_empty(),
            misused(format_args!(
                "{}: no run there; give a run folder, a folder of runs or a pattern",
                pattern.display()
            ))
        );
        let read = |path: &PathBuf| Run::read(path).with_context(|| format!("run {}", path.display()));
        // All are read before the first that cannot be is told.
        let read: Vec<anyhow::Result<Run>> = found.par_iter().map(read).collect();
        for run in read {
            runs.push(run?);
        }
    }
    Ok(runs)
}

/// Carries `pwm report` out.
pub fn report(args: &ReportArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let runs = read(&args.runs)?;
    let folder = match (&args.out, &runs[..]) {
        (Some(dir), _) => dir.clone(),
        (None, [one]) => one.path.join(REPORT),
        (None, _) => match &args.runs[..] {
            [sweep] if is_sweep(sweep) => sweep.join(REPORT),
            _ => PathBuf::from(REPORT),
        },
    };
    std::fs::create_dir_all(&folder).map_err(FileError::at(&folder, "creating the folder"))?;
    let report = Report::new(&runs);
    for (name, text) in report.files() {
        replace_bytes(&folder.join(name), text.as_bytes())?;
    }
    writeln!(out, "{}", report.title)?;
    // Every table but that of known returns, which does not depend on the runs.
    let own = report.tables.iter().filter(|t| t.name != "references");
    own.map(|t| t.markdown()).try_for_each(|t| write!(out, "\n{t}"))?;
    if !report.reservations.is_empty() {
        writeln!(out)?;
        report.reservations.iter().try_for_each(|r| writeln!(out, "note: {r}"))?;
    }
    writeln!(
        out,
        "\nwrote {} (open it in a browser) and its figures and tables",
        folder.join("report.html").display()
    )?;
    Ok(())
}

/// Carries `pwm compare` out.
pub fn compare(args: &CompareArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let (runs_a, runs_b) = (read(std::slice::from_ref(&args.a))?, read(std::slice::from_ref(&args.b))?);
    let side = |what: &PathBuf, runs: &[Run]| -> anyhow::Result<Vec<f64>> {
        let score = |r: &Run| if args.peak { r.peak().1 } else { r.last() };
        let scores: Vec<f64> = runs.iter().map(score).filter(|s| s.is_finite()).collect();
        ensure!(!scores.is_empty(), "{}: no run there has an evaluation", what.display());
        Ok(scores)
    };
    let (a, b) = (side(&args.a, &runs_a)?, side(&args.b, &runs_b)?);
    let what = if args.peak { "highest" } else { "last" };
    writeln!(out, "the {what} evaluation of every run (one number a run)")?;
    for (name, path, x) in [("A", &args.a, &a), ("B", &args.b, &b)] {
        let (low, high) = interval(x, iqm);
        writeln!(
            out,
            "  {name}  {}: {} runs, mean {:.0} ± {:.0}, IQM {:.0} [{low:.0}, {high:.0}]",
            path.display(),
            x.len(),
            mean(x),
            std(x),
            iqm(x)
        )?;
    }
    for (name, runs) in [("A", &runs_a), ("B", &runs_b)] {
        let mut commits: Vec<&str> = runs.iter().map(|r| &*r.info.commit).collect();
        commits.sort_unstable();
        commits.dedup();
        writeln!(out, "  {name}  trained by commit {}", commits.join(", "))?;
    }
    for (name, runs) in [("A", &runs_a), ("B", &runs_b)] {
        let labels: Vec<String> = group(runs).into_iter().map(|g| g.label).collect();
        if labels.len() > 1 {
            writeln!(out, "  note: {name} is {} different experiments: {}", labels.len(), labels.join("; "))?;
        }
    }
    let both: Vec<&Run> = runs_a.iter().chain(&runs_b).collect();
    reservations("A and B", &both).iter().try_for_each(|r| writeln!(out, "  note: {r}"))?;
    let (low, high) = interval_of_difference(&a, &b, mean);
    writeln!(out, "  B - A  {:.0}, 95 % bootstrap interval [{low:.0}, {high:.0}]", mean(&b) - mean(&a))?;
    writeln!(out, "  a run of B is better than one of A with probability {:.2}", probability_of_improvement(&a, &b))?;
    let test = permutation_test(&a, &b);
    let kind = if test.exact { "exact" } else { "10,000 draws" };
    writeln!(out, "  permutation test of the means ({kind}, two-sided): p = {:.4}", test.p)?;
    if test.p < 0.05 {
        writeln!(out, "significant at 5 %: {} is better", if mean(&b) > mean(&a) { "B" } else { "A" })?;
    } else if test.smallest >= 0.05 {
        writeln!(
            out,
            "not decidable: with {} and {} runs no difference, however large, gets below p = {:.3}; run more seeds",
            a.len(),
            b.len(),
            test.smallest
        )?;
    } else {
        writeln!(out, "not significant at 5 %")?;
    }
    Ok(())
}
