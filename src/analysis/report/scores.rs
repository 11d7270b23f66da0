//! Runs on several tasks: what each is worth, on the scale of its task, beside what is known.

use super::runs::Run;
use super::table::{ReportTable, points};
use crate::algo::metrics::EVAL_MEAN;
use crate::analysis::stats::{iqm, mean, std};
use crate::config::{Dynamics, Shipped};
use crate::env::{KnownReturn, Task};
use crate::io::metrics::column;

/// Sets whose tasks pay from 0 to 1 a control step: a score is the share of all of it, in per cent.
const SCORED: [&str; 2] = ["mt30", "mt_dflex"];

/// What runs of one kind earned on a task in their last evaluations.
pub(super) struct TaskScore {
    /// What they have in common: the configuration, dynamics, how many tasks the model knows.
    pub kind: String,
    pub name: String,
    task: Task,
    returns: Vec<f64>,
    episodes: usize,
}

impl TaskScore {
    /// The share of what can be earned, in per cent; none of a task that has no such bound.
    fn score(&self, of: f64) -> Option<f64> {
        let scored = SCORED.iter().any(|set| Shipped::set(set).is_some_and(|s| s.contains(&self.name.as_str())));
        scored.then(|| 100.0 * of / self.task.most())
    }

    pub fn own(&self) -> f64 {
        self.score(mean(&self.returns)).unwrap_or(f64::NAN)
    }

    fn known(&self, policy: &str) -> String {
        let known = |r: &&KnownReturn| r.policy.starts_with(policy);
        self.task.spec.returns.iter().find(known).map_or("-".into(), |r| points((r.low + r.high) / 2.0))
    }

    /// The score of a known policy.
    pub fn published(&self, policy: &str) -> Option<f64> {
        let known = self.task.spec.returns.iter().find(|r| r.policy.starts_with(policy))?;
        self.score((known.low + known.high) / 2.0)
    }
}

/// Each task of the runs with their last evaluations, in the order of the sets; runs of several tasks count for each.
pub(super) fn scores(runs: &[Run]) -> Vec<TaskScore> {
    let mut all: Vec<TaskScore> = vec![];
    for run in runs.iter().filter(|r| r.config.is_played()) {
        let (names, kind) = (run.config.env_names(), kind(run));
        for name in &names {
            let key = if names.len() > 1 { format!("eval/{name}/return_mean") } else { EVAL_MEAN.name.into() };
            let Some((_, last)) = column(&run.rows, &key).last().copied().filter(|(_, x)| x.is_finite()) else {
                continue;
            };
            let is_this = |s: &TaskScore| s.name == *name && s.kind == kind;
            if !all.iter().any(is_this) {
                let Ok(task) = Task::from_config(&run.config.of_env(name)) else { continue };
                all.push(TaskScore { kind: kind.clone(), name: name.clone(), task, returns: vec![], episodes: 0 });
            }
            if let Some(score) = all.iter_mut().find(|s| is_this(s)) {
                score.returns.push(last);
                score.episodes += run.config.eval_episodes;
            }
        }
    }
    let order: Vec<&str> = SCORED.iter().filter_map(|set| Shipped::set(set)).flatten().collect();
    all.sort_by_key(|s| (s.kind.clone(), order.iter().position(|name| *name == s.name).unwrap_or(order.len())));
    all
}

/// What a run has in common with others on other tasks.
fn kind(run: &Run) -> String {
    let c = &run.config;
    let mut kind = c.alg.clone();
    if c.has_world_model() && c.dynamics == Dynamics::Flow {
        kind += &format!(", flow {} {}", c.flow_integrator, c.flow_substeps);
    }
    let tasks = c.model_tasks().len();
    if tasks > 1 { kind + &format!(", model of {tasks} tasks") } else { kind }
}

/// A line for each task, then the mean and the inter-quartile mean of scores. Nothing for a single task.
pub(super) fn table(scores: &[TaskScore]) -> Option<ReportTable> {
    let mut names: Vec<&str> = scores.iter().map(|s| s.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.len() < 2 {
        return None;
    }
    let shown = |x: f64| if x.is_finite() { format!("{x:.1}") } else { "-".into() };
    let row = |s: &TaskScore| {
        let spread = if s.returns.len() > 1 { points(std(&s.returns)) } else { "-".into() };
        let law = if s.task.is_differentiable() { "dFlex" } else { "MuJoCo" };
        vec![
            s.kind.clone(),
            s.name.clone(),
            s.returns.len().to_string(),
            points(mean(&s.returns)),
            spread,
            shown(s.own()),
            s.known("random"),
            s.known("doing nothing"),
            s.known("PWM"),
            s.known("TD-MPC2"),
            s.episodes.to_string(),
            law.into(),
        ]
    };
    let total = |of: &[&TaskScore], name: &str, f: fn(&[f64]) -> f64| {
        let own: Vec<f64> = of.iter().map(|s| s.own()).filter(|x| x.is_finite()).collect();
        let published = |policy: &str| {
            let x: Vec<f64> = of.iter().filter_map(|s| s.published(policy)).collect();
            // Of fewer tasks it would be another mean.
            if x.len() == own.len() && !x.is_empty() { shown(f(&x)) } else { "-".into() }
        };
        let mut cells = vec![String::from("-"); 12];
        (cells[0], cells[1]) = (of[0].kind.clone(), name.into());
        cells[5] = if own.is_empty() { "-".into() } else { shown(f(&own)) };
        (cells[8], cells[9]) = (published("PWM"), published("TD-MPC2"));
        cells
    };
    let mut rows: Vec<Vec<String>> = vec![];
    for of in scores.chunk_by(|a, b| a.kind == b.kind) {
        let of: Vec<&TaskScore> = of.iter().collect();
        rows.extend(of.iter().map(|s| row(s)));
        if of.len() > 1 {
            rows.extend([total(&of, "mean score", mean), total(&of, "inter-quartile mean", iqm)]);
        }
    }
    let has = |name: &&str| scores.iter().any(|s| s.name == **name);
    let missing = SCORED.iter().filter_map(|set| {
        let all = Shipped::set(set)?;
        let missing: Vec<&str> = all.iter().filter(|name| !has(name)).copied().collect();
        let some = missing.len() < all.len() && !missing.is_empty();
        some.then(|| format!(" Of {set} are missing: {}.", missing.join(", ")))
    });
    Some(ReportTable {
        name: "scores",
        caption:
            "Tasks: last evaluations of the runs on each. A score is the return as a share of all that can be earned, \
                  in per cent; published columns are returns, in the last lines scores."
                .to_owned()
                + &missing.collect::<String>(),
        head: vec![
            "experiment",
            "task",
            "runs",
            "return",
            "± std",
            "score",
            "random",
            "nothing",
            "PWM",
            "TD-MPC2",
            "episodes",
            "law",
        ],
        rows,
    })
}
