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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algo::learner;
    use crate::config::{Algorithm, Config};

    /// The columns of runs that other programs read: none may go or be called otherwise.
    #[test]
    fn columns_have_the_names_they_always_had() {
        let run = [
            "eval/return_mean",
            "eval/return_std",
            "eval/length",
            "train/return",
            "train/length",
            "train/episodes",
            "loss/actor",
            "loss/critic",
            "loss/dynamics",
            "loss/reward",
            "grad_norm/actor",
            "grad_norm/critic",
            "grad_norm/world_model",
            "lr/actor",
            "lr/critic",
            "lr/world_model",
            "time/elapsed_s",
            "time/cpu_s",
            "time/steps_per_s",
            "time/actor_s",
            "time/critic_s",
            "time/world_model_s",
            "time/eval_s",
            "time/save_s",
            "memory/rss_mib",
            "env/blown_up",
            "skipped_updates",
            "nonfinite_losses",
            "rollbacks",
            "env/bounded_gradients",
            "env/lost_gradients",
        ];
        let probes = [
            "probe/reward_correlation",
            "probe/reward_spread",
            "probe/true_reward_spread",
            "probe/error_one_step",
            "probe/error_horizon",
            "probe/group_drift",
            "probe/velocity_error_0",
            "probe/velocity_error_1_4",
            "probe/velocity_error_1_2",
            "probe/velocity_error_3_4",
            "probe/velocity_error_1",
        ];
        let of = |algorithm| {
            let parts = learner(algorithm)
                .build(&Config { algorithm, wm_buffer_size: 5000, horizon: 4, ..Config::default() })
                .parts;
            let metrics: Vec<Metric> = parts.metrics.iter().map(|m| m.metric).collect();
            let columns = columns(&metrics, &["run".into()], parts.probe.is_some());
            columns.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(of(Algorithm::Pwm), [&run[..], &probes].concat());
        // What SHAC does not measure was never written.
        let of_model = ["loss/dynamics", "loss/reward", "grad_norm/world_model", "lr/world_model"];
        assert_eq!(of(Algorithm::Shac), run.into_iter().filter(|c| !of_model.contains(c)).collect::<Vec<_>>());
    }
}
