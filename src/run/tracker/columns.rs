//! The columns of a row of metrics: their names, their order, and what each shows.

use std::borrow::Cow;

use crate::algo::metrics::{self, CATALOGUE, Metric};
use crate::algo::{Evaluation, Probe};

/// What a column of a row shows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell {
    /// The evaluation: of all tasks, or of one.
    Eval(Option<usize>, EvalStat),
    /// A metric of the algorithm, by place.
    Metric(usize),
    Elapsed,
    Cpu,
    Speed,
    EvalSeconds,
    SaveSeconds,
    Resident,
    SkippedUpdates,
    LostLosses,
    Rollbacks,
    /// A number of the probe, by place.
    Probe(usize),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum EvalStat {
    Mean,
    Std,
    Length,
}

/// What the run knows of itself.
const OWN: [(Metric, Cell); 12] = [
    (metrics::EVAL_MEAN, Cell::Eval(None, EvalStat::Mean)),
    (metrics::EVAL_STD, Cell::Eval(None, EvalStat::Std)),
    (metrics::EVAL_LENGTH, Cell::Eval(None, EvalStat::Length)),
    (metrics::ELAPSED, Cell::Elapsed),
    (metrics::CPU, Cell::Cpu),
    (metrics::SPEED, Cell::Speed),
    (metrics::EVAL_SECONDS, Cell::EvalSeconds),
    (metrics::SAVE_SECONDS, Cell::SaveSeconds),
    (metrics::RSS, Cell::Resident),
    (metrics::SKIPPED_UPDATES, Cell::SkippedUpdates),
    (metrics::NONFINITE_LOSSES, Cell::LostLosses),
    (metrics::ROLLBACKS, Cell::Rollbacks),
];

/// The columns of a run: in the order of the catalogue, then what it does not list, then probes and single tasks.
pub(super) fn columns(measured: &[Metric], tasks: &[String], probed: bool) -> Vec<(Cow<'static, str>, Cell)> {
    let of_metrics = measured.iter().enumerate().map(|(i, m)| (*m, Cell::Metric(i)));
    let mut all: Vec<(Metric, Cell)> = OWN.into_iter().chain(of_metrics).collect();
    all.sort_by_key(|(m, _)| CATALOGUE.iter().position(|c| c.name == m.name).unwrap_or(CATALOGUE.len()));
    let mut columns: Vec<(Cow<str>, Cell)> = all.into_iter().map(|(m, cell)| (m.name.into(), cell)).collect();
    if probed {
        columns
            .extend(Probe::NONE.columns().into_iter().enumerate().map(|(i, (name, _))| (name.into(), Cell::Probe(i))));
    }
    if tasks.len() > 1 {
        for (i, task) in tasks.iter().enumerate() {
            for (what, stat) in
                [("return_mean", EvalStat::Mean), ("return_std", EvalStat::Std), ("length", EvalStat::Length)]
            {
                columns.push((format!("eval/{task}/{what}").into(), Cell::Eval(Some(i), stat)));
            }
        }
    }
    columns
}

/// A number of an evaluation. NaN is "not measured" in a row; what was measured and is no number is written as an
/// infinity.
pub(super) fn measured(e: &Evaluation, task: Option<usize>, stat: EvalStat) -> f64 {
    let x = match (task.map(|i| &e.tasks[i]), stat) {
        (None, EvalStat::Mean) => e.mean(),
        (None, EvalStat::Std) => e.std(),
        (None, EvalStat::Length) => e.mean_length(),
        (Some(t), EvalStat::Mean) => t.mean(),
        (Some(t), EvalStat::Std) => t.std(),
        (Some(t), EvalStat::Length) => t.mean_length(),
    };
    if x.is_nan() { f64::INFINITY } else { x }
}
