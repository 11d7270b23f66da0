//! The tables of a report: runs, experiments, their differences, and what a return is worth.

use super::runs::{Run, RunGroup};
use super::table::{ReportTable, points, told};
use crate::algo::metrics::{ELAPSED, SPEED};
use crate::analysis::stats::{
    interval, interval_of_difference, iqm, mean, permutation_test, probability_of_improvement, std,
};
use crate::config::{Config, Dynamics};
use crate::draw::plot::Label;
use crate::env::{KnownReturn, Task, TaskSpec};
use crate::io::metrics::column;
use crate::run::progress::{Short, Time};

/// The tasks of these runs, each once.
pub(super) fn tasks_of(runs: &[Run]) -> Vec<TaskSpec> {
    let mut tasks: Vec<(Config, TaskSpec)> = Vec::new();
    for run in runs.iter().filter(|r| r.config.is_played()) {
        for config in run.config.env_names().iter().map(|name| run.config.of_env(name)) {
            let same = |(other, _): &(Config, TaskSpec)| (&other.env, &other.spec) == (&config.env, &config.spec);
            if !tasks.iter().any(same)
                && let Ok(task) = Task::from_config(&config)
            {
                tasks.push((config, task.spec));
            }
        }
    }
    tasks.into_iter().map(|(_, task)| task).collect()
}

pub(super) fn of_runs(runs: &[Run]) -> ReportTable {
    let row = |r: &Run| {
        let (at, peak) = r.peak();
        vec![
            r.name(),
            r.config.alg.clone(),
            r.config.seed.to_string(),
            r.rows.last().map_or(0, |row| row.epoch).to_string(),
            Short(r.rows.last().map_or(0, |row| row.step) as f64).to_string(),
            points(peak),
            told(at, Short(at)),
            points(r.last()),
            told(r.final_value(ELAPSED.name), Time(r.final_value(ELAPSED.name))),
            points(mean(&column(&r.rows, SPEED.name).iter().map(|p| p.1).collect::<Vec<_>>())),
            r.info.planned_bytes.map_or("-".into(), |b| points(b as f64 / f64::from(1 << 20))),
            r.incidents.len().to_string(),
            r.info.commit.clone(),
            r.info.finished.clone().unwrap_or_else(|| "running, or killed".into()),
        ]
    };
    ReportTable {
        name: "runs",
        caption: "Runs. Peak is the highest evaluation and so a maximum over noise; memory is what was planned.".into(),
        head: vec![
            "run",
            "configuration",
            "seed",
            "epochs",
            "steps",
            "peak",
            "at steps",
            "final",
            "time",
            "steps/s",
            "MiB",
            "incidents",
            "commit",
            "ended",
        ],
        rows: runs.iter().map(row).collect(),
    }
}

pub(super) fn of_groups(runs: &[Run], groups: &[RunGroup]) -> ReportTable {
    let row = |g: &RunGroup| {
        let of = |f: &dyn Fn(&Run) -> f64| -> Vec<f64> {
            g.runs.iter().map(|&i| f(&runs[i])).filter(|v| v.is_finite()).collect()
        };
        let with_interval = |x: &[f64]| match x.len() {
            0 => "-".into(),
            1 => points(x[0]),
            _ => {
                let (low, high) = interval(x, iqm);
                format!("{} [{}, {}]", points(iqm(x)), points(low), points(high))
            }
        };
        let (peaks, finals) = (of(&|r| r.peak().1), of(&Run::last));
        let spread = if finals.len() > 1 { points(std(&finals)) } else { "-".into() };
        let (all, used) = (g.runs.len(), finals.len());
        vec![
            g.label.clone(),
            if used == all { all.to_string() } else { format!("{used} of {all}") },
            with_interval(&peaks),
            with_interval(&finals),
            points(mean(&finals)),
            spread,
        ]
    };
    ReportTable {
        name: "groups",
        caption:
            "Experiments: inter-quartile mean over seeds [95 % bootstrap interval]; mean and deviation of the final \
                  evaluations."
                .into(),
        head: vec!["experiment", "runs", "peak, IQM", "final, IQM", "final, mean", "std"],
        rows: groups.iter().map(row).collect(),
    }
}

/// Every experiment against the baseline of its task: the first one whose model is PWM's own, as flow models are meant
/// to be better than it; where there is none, the first. Nothing with a single experiment.
pub(super) fn differences(runs: &[Run], groups: &[RunGroup]) -> Option<ReportTable> {
    let is_baseline = |g: &RunGroup| {
        let c = &runs[g.runs[0]].config;
        c.has_world_model() && c.dynamics == Dynamics::Mlp
    };
    // Returns on other tasks are no baseline.
    let env = |g: &RunGroup| &runs[g.runs[0]].config.env;
    let baseline_of = |g: &RunGroup| {
        let mut same = groups.iter().filter(|other| env(other) == env(g));
        let first = same.clone().next();
        same.find(|other| is_baseline(other)).or(first).filter(|base| base.runs != g.runs)
    };
    let finals =
        |g: &RunGroup| -> Vec<f64> { g.runs.iter().map(|&i| runs[i].last()).filter(|v| v.is_finite()).collect() };
    let row = |g: &RunGroup| {
        let baseline = baseline_of(g)?;
        let (base, own) = (finals(baseline), finals(g));
        let mut cells = vec![g.label.clone(), baseline.label.clone()];
        if own.is_empty() || base.is_empty() {
            cells.extend(["-"; 3].map(String::from));
        } else {
            let (low, high) = interval_of_difference(&base, &own, mean);
            let difference = points(mean(&own) - mean(&base));
            cells.push(format!("{difference} [{}, {}]", points(low), points(high)));
            cells.push(format!("{:.2}", probability_of_improvement(&base, &own)));
            cells.push(format!("{:.3}", permutation_test(&base, &own).p));
        }
        Some(cells)
    };
    let rows: Vec<_> = groups.iter().filter_map(row).collect();
    (!rows.is_empty()).then_some(ReportTable {
        name: "differences",
        caption:
            "Final evaluations against the baseline: difference of the means [95 % bootstrap interval], probability \
                  that a run is better than one of the baseline, two-sided permutation test."
                .into(),
        head: vec!["experiment", "baseline", "difference", "better", "p"],
        rows,
    })
}

/// What the returns of the runs' tasks are worth, where that is known.
pub(super) fn references(runs: &[Run]) -> Option<ReportTable> {
    let row = |task: &TaskSpec, r: &KnownReturn| {
        let range =
            if r.low == r.high { Label(r.low).to_string() } else { format!("{}-{}", Label(r.low), Label(r.high)) };
        vec![task.title.clone(), r.policy.clone(), range]
    };
    let tasks = tasks_of(runs);
    let rows: Vec<_> = tasks.iter().flat_map(|t| t.returns.iter().map(|r| row(t, r))).collect();
    (!rows.is_empty()).then(|| ReportTable {
        name: "references",
        caption: "What a return is worth.".into(),
        head: vec!["task", "policy", "return"],
        rows,
    })
}
