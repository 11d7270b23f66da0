//! Closed-loop evaluation: the deterministic policy on the true environment, acting on what is observed at each step.
//!
//! Each task is evaluated by itself. What chooses the best policy, stops a run early and sees a collapse is one number,
//! the mean over tasks of each task's score.

use super::programs::{Handle, Programs};
use super::validate::Validation;
use super::{TrainError, learner};
use crate::config::Config;
use crate::device::cpu::team::Team;
use crate::device::philox::Stream;
use crate::env::{EnvBatch, EnvGroup, Mode};
use crate::tape::{Machine, Program, Region, RunError, TapeReal, Val, VarId, Vars};
use std::sync::Arc;

/// What an evaluation measured on one task, one number an episode.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskEvaluation {
    /// The task's name.
    pub task: String,
    /// Undiscounted returns.
    pub returns: Vec<f64>,
    /// Steps.
    pub lengths: Vec<f64>,
}

impl TaskEvaluation {
    /// The mean return.
    pub fn mean(&self) -> f64 {
        mean(self.returns.iter().copied())
    }

    /// Standard deviation of returns over episodes (n - 1).
    pub fn std(&self) -> f64 {
        let (m, n) = (self.mean(), self.returns.len() as f64);
        (self.returns.iter().map(|r| (r - m).powi(2)).sum::<f64>() / (n - 1.0).max(1.0)).sqrt()
    }

    pub fn mean_length(&self) -> f64 {
        mean(self.lengths.iter().copied())
    }

    /// The episode in the middle of the order of returns: the one to show.
    pub fn median_episode(&self) -> usize {
        let mut order: Vec<usize> = (0..self.returns.len()).collect();
        order.sort_by(|&a, &b| self.returns[a].total_cmp(&self.returns[b]).then(a.cmp(&b)));
        order.get(order.len() / 2).copied().unwrap_or(0)
    }
}

/// What the numbers of an evaluation are. More is better in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Measure {
    /// Returns of episodes.
    #[default]
    Return,
    /// Losses on recorded windows, with a minus.
    Loss,
}

/// An evaluation on every task of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    pub tasks: Vec<TaskEvaluation>,
    pub measure: Measure,
}

impl Evaluation {
    /// The aggregate that policies are compared by: the mean over tasks of the task's mean return. Not finite if one
    /// task's is not.
    pub fn mean(&self) -> f64 {
        mean(self.tasks.iter().map(TaskEvaluation::mean))
    }

    /// The mean over tasks of the deviation over a task's episodes.
    pub fn std(&self) -> f64 {
        mean(self.tasks.iter().map(TaskEvaluation::std))
    }

    /// The mean over tasks of an episode's mean length.
    pub fn mean_length(&self) -> f64 {
        mean(self.tasks.iter().map(TaskEvaluation::mean_length))
    }

    /// The returns of all episodes, task by task.
    pub fn returns(&self) -> impl Iterator<Item = f64> + '_ {
        self.tasks.iter().flat_map(|t| t.returns.iter().copied())
    }
}

/// The published format of the number: training and `pwm eval` print the same line.
impl std::fmt::Display for Evaluation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let n = self.returns().count();
        if self.measure == Measure::Loss {
            return write!(f, "loss {:.5} ± {:.5} on held out windows ({n} batches)", -self.mean(), self.std());
        }
        write!(f, "return {:.2} ± {:.2}, length {:.1} ({n} episodes)", self.mean(), self.std(), self.mean_length())?;
        if self.tasks.len() > 1 {
            for (i, t) in self.tasks.iter().enumerate() {
                write!(f, "{} {} {:.2}", if i == 0 { ":" } else { "," }, t.task, t.mean())?;
            }
        }
        Ok(())
    }
}

fn mean(x: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = x.fold((0.0, 0usize), |(sum, n), x| (sum + x, n + 1));
    sum / n.max(1) as f64
}

/// How what was learned is judged.
#[derive(Clone, Debug)]
pub enum Judge {
    /// A policy, by playing it.
    Play(EvalPlan),
    /// A model, by its losses on recorded windows.
    Validate(Validation),
}

impl Judge {
    /// The environments that are played, if any are.
    pub fn env(&self) -> Option<&EnvBatch> {
        match self {
            Self::Play(plan) => Some(&plan.env),
            Self::Validate(_) => None,
        }
    }

    /// The names of the tasks that are judged one by one.
    pub fn tasks(&self) -> Vec<String> {
        self.env().map_or_else(Vec::new, |env| env.groups.iter().map(|g| g.task.spec.name.clone()).collect())
    }

    /// Judges; of a policy `watch` sees every step.
    pub(super) fn run<F: TapeReal>(
        &self,
        machine: &mut Machine<F>,
        watch: impl FnMut(StepView<F>),
    ) -> Result<Evaluation, RunError> {
        match self {
            Self::Play(plan) => plan.play(machine, watch),
            Self::Validate(validation) => validation.run(machine),
        }
    }

    /// Variables of a checkpoint: all that the next epoch depends on, or with `policy_only` networks and statistics. An
    /// evaluation starts from nothing, so its environments are left out.
    pub(super) fn state(&self, vars: &Vars, policy_only: bool) -> Vec<VarId> {
        let keep = |r: Region| match r {
            Region::Parameters | Region::Statistics => true,
            Region::Optimiser | Region::Replay | Region::Episodes | Region::Environment | Region::Control => {
                !policy_only
            }
            Region::Gradients | Region::RolloutBuffers => false,
        };
        let evaluation = self.env().map_or_else(Vec::new, EnvBatch::vars);
        vars.iter().filter(|(id, info)| keep(info.region) && !evaluation.contains(id)).map(|(id, _)| id).collect()
    }
}

/// The environments of an evaluation, and the programs that play in them.
#[derive(Clone, Debug)]
pub struct EvalPlan {
    pub env: EnvBatch,
    /// Starts an episode in each environment; makes a step in each.
    begin: Handle,
    step: Handle,
}

impl EvalPlan {
    /// Pushes the programs that play in `env` with the action that `policy` takes on the observations `[N, O]`.
    pub(super) fn push(
        programs: &mut Programs,
        vars: &Vars,
        env: EnvBatch,
        policy: impl FnOnce(&mut Program, Val) -> Val,
    ) -> Self {
        let begin = programs.push("eval_begin", |p| env.reset(p, vars));
        let step = programs.push("eval_step", |p| {
            let obs = p.var(vars, env.obs);
            let action = policy(p, obs);
            env.step(p, vars, action, None);
        });
        Self { env, begin, step }
    }

    /// Plays one episode in each environment; `watch` sees every step of it.
    pub(super) fn play<F: TapeReal>(
        &self,
        machine: &mut Machine<F>,
        mut watch: impl FnMut(StepView<F>),
    ) -> Result<Evaluation, RunError> {
        let (env, begin, step) = (&self.env, self.begin.on(machine), self.step.on(machine));
        machine.run(begin)?;
        for _ in 0..env.episode_length() {
            let shown = &env.groups[0];
            let [q, qd, returns] = [shown.q, shown.qd, env.ep_return].map(|v| machine.real(v));
            watch(StepView { q, qd, returns: &returns[shown.rows()] });
            if machine.real(env.alive).iter().all(|a| a.value() == 0.0) {
                break;
            }
            machine.run(step)?;
        }
        let of_group = |g: &EnvGroup| TaskEvaluation {
            task: g.task.spec.name.clone(),
            returns: machine.real(env.ep_return)[g.rows()].iter().map(|r| r.value()).collect(),
            lengths: machine.index(env.progress)[g.rows()].iter().map(|&l| f64::from(l)).collect(),
        };
        let tasks = env.groups.iter().map(of_group).collect();
        Ok(Evaluation { tasks, measure: Measure::Return })
    }
}

/// The environments of the first task before a step of an evaluation.
#[derive(Clone, Copy, Debug)]
pub struct StepView<'a, F> {
    /// Coordinates `[N, nq]` and velocities `[N, nqd]`.
    pub q: &'a [F],
    pub qd: &'a [F],
    /// Returns so far `[N]`.
    pub returns: &'a [F],
}

/// A policy and the environments to judge it in, without replay and training environments.
pub struct Evaluator<F: TapeReal> {
    pub machine: Machine<F>,
    env: EnvBatch,
    judge: Judge,
}

impl<F: TapeReal> Evaluator<F> {
    /// Environments for `episodes` episodes that start from random stream `stream`. Networks hold zeros until a
    /// checkpoint fills them.
    pub fn new(c: &Config, episodes: usize, stream: Stream) -> Result<Self, TrainError> {
        let (mut vars, mut programs) = (Vars::default(), Programs::default());
        let env = EnvBatch::of_config(&mut vars, "eval", c, episodes, Mode::Evaluate, stream);
        let networks = learner(c.algorithm).networks(c, &mut vars);
        let plan =
            EvalPlan::push(&mut programs, &vars, env.clone(), |p, obs| networks.policy(p, &vars, obs, c.played()));
        let machine = Machine::new(vars, programs.into_vec(), Arc::new(Team::new(c.threads)?))?;
        Ok(Self { machine, env, judge: Judge::Play(plan) })
    }

    /// The environments.
    pub fn env(&self) -> &EnvBatch {
        &self.env
    }

    /// Plays one episode in each environment; `watch` sees every step.
    pub fn evaluate(&mut self, watch: impl FnMut(StepView<F>)) -> Result<Evaluation, TrainError> {
        Ok(self.judge.run(&mut self.machine, watch)?)
    }

    /// What a checkpoint must fill.
    pub fn state(&self) -> Vec<VarId> {
        self.judge.state(self.machine.vars(), true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(name: &str, returns: &[f64], lengths: &[f64]) -> TaskEvaluation {
        TaskEvaluation { task: name.into(), returns: returns.into(), lengths: lengths.into() }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri rounds powers at random")]
    fn tasks_weigh_the_same_whatever_their_episodes() {
        let one = task("run", &[0.1, 0.2, 0.7], &[1.0, 2.0, 6.0]);
        let of = |tasks| Evaluation { tasks, measure: Measure::Return };
        let alone = of(vec![one.clone()]);
        assert_eq!((alone.mean(), alone.std(), alone.mean_length()), (one.mean(), one.std(), one.mean_length()));
        assert_eq!(alone.to_string(), "return 0.33 ± 0.32, length 3.0 (3 episodes)");
        let both = of(vec![task("run", &[10.0; 9], &[4.0; 9]), task("hop", &[1.0, 3.0], &[2.0; 2])]);
        assert_eq!((both.mean(), both.mean_length()), (6.0, 3.0));
        assert_eq!(both.to_string(), "return 6.00 ± 0.71, length 3.0 (11 episodes): run 10.00, hop 2.00");
        let lost = of(vec![task("run", &[10.0], &[4.0]), task("hop", &[f64::NAN], &[2.0])]);
        assert!(lost.mean().is_nan(), "one task that is lost is not hidden by the others");
    }
}
