//! Environments of one or several tasks side by side: all that a learner knows of them.
//!
//! Environments of one task are a *group* and lie in neighbouring rows; a group is stepped by one operation.
//! Observations are as wide as the widest task's, with zeros behind a narrower one's; of an action a task reads its
//! first entries. So rows of all tasks go through one network. With a single group nothing is padded.

use super::op::{EnvReset, EnvStep, Group, Mode, STATS};
use super::task::{EnvSizes, Task};
use crate::config::Config;
use crate::device::philox::{Philox, Stream};
use crate::io::episodes::names::{META_WORLD, META_WORLD_SIZES};
use crate::ops::control::copy;
use crate::tape::{DType, Program, Region, Val, VarId, Vars};
use std::ops::Range;
use std::sync::Arc;

/// Environments of one task.
#[derive(Clone, Debug)]
pub struct EnvGroup {
    pub task: Arc<Task>,
    /// Their rows in the batch.
    pub first: usize,
    pub count: usize,
    /// `[count, nq]`: coordinates.
    pub q: VarId,
    /// `[count, nqd]`: velocities.
    pub qd: VarId,
}

impl EnvGroup {
    /// Their rows in the batch.
    pub fn rows(&self) -> Range<usize> {
        self.first..self.first + self.count
    }
}

/// The state of `count` environments.
#[derive(Clone, Debug)]
pub struct EnvBatch {
    /// At least one.
    pub groups: Vec<EnvGroup>,
    pub count: usize,
    /// Entries of an observation and of an action, those of the widest task.
    pub obs_dim: usize,
    pub act_dim: usize,
    pub mode: Mode,
    pub rng: Philox,
    /// `[N, obs_dim]`: the observation that the next action is for.
    pub obs: VarId,
    /// Index `[N]`: steps of the current episode.
    pub progress: VarId,
    /// Index `[N]`: episodes begun.
    pub episodes: VarId,
    /// `[N]`: undiscounted true return of the episode so far.
    pub ep_return: VarId,
    /// `[N]`: 1 while an evaluation episode runs.
    pub alive: VarId,
    /// `[4]` for each group: sums over episodes that ended, see [`super::EpisodeStat`]. The host reads and clears them.
    pub episode_stats: VarId,
}

/// What one step gives, as values of the program.
#[derive(Clone, Copy, Debug)]
pub struct Stepped {
    /// `[N, obs_dim]`: observation of the new state, before any reset.
    pub obs_before_reset: Val,
    /// `[N]`.
    pub reward: Val,
    /// `[N]`, 0 or 1: the episode ended, for whatever reason.
    pub done: Val,
    /// `[N]`, 0 or 1: it ended by falling, so that the state has no value.
    pub terminated: Val,
}

/// The state of all environments between two steps, as values that a gradient can flow through.
#[derive(Clone, Debug)]
pub struct EnvState {
    /// `[count, nq]` and `[count, nqd]` of each group.
    pub groups: Vec<[Val; 2]>,
    /// `[N, obs_dim]`.
    pub obs: Val,
}

/// How the reverse pass through a step keeps one environment's gradient from drowning all others.
#[derive(Clone, Copy, Debug)]
pub struct GradientBound {
    /// Norm that the gradient of one environment's state and action is scaled down to.
    pub norm: f64,
    /// `[2]`, counted up: gradients that were scaled down, and those that were not finite and became zero.
    pub count: Val,
}

/// The tasks of a configuration that was checked: the groups of its batches, in their order.
fn tasks(c: &Config) -> Vec<Arc<Task>> {
    c.env_names().iter().map(|name| Arc::new(of_config(&c.of_env(name)))).collect()
}

/// The tasks that the world model of a configuration knows, in the order of its embeddings.
fn known(c: &Config) -> Vec<EnvSizes> {
    if c.tasks.is_empty() {
        return tasks(c).iter().map(|t| t.sizes).collect();
    }
    let of_name = |name: &String| {
        if name.starts_with(META_WORLD) {
            let (obs, act) = META_WORLD_SIZES;
            return EnvSizes { obs, act, ..EnvSizes::default() };
        }
        // Its sizes do not depend on settings.
        of_config(&Config { env: name.clone(), spec: None, ..Config::default() }).sizes
    };
    c.tasks.iter().map(of_name).collect()
}

/// The tasks that the world model of a configuration knows: names, entries of observations and of actions.
///
/// # Panics
/// As [`dims`].
pub fn task_sizes(c: &Config) -> Vec<(String, usize, usize)> {
    c.model_tasks().into_iter().zip(known(c)).map(|(name, s)| (name, s.obs, s.act)).collect()
}

/// `[T, A]`: 1 for an entry of the action that a task of the world model has, 0 behind its last.
///
/// # Panics
/// As [`dims`].
pub fn action_mask(c: &Config) -> Vec<f64> {
    let tasks = known(c);
    let widest = tasks.iter().map(|t| t.act).max().unwrap_or(0);
    tasks.iter().flat_map(|t| (0..widest).map(|k| f64::from(u8::from(k < t.act)))).collect()
}

/// Entries of an observation and of an action of the networks that a configuration describes: those of the widest task
/// that its world model knows.
///
/// # Panics
/// If the configuration's specification is not right: see [`super::check`].
pub fn dims(c: &Config) -> (usize, usize) {
    let tasks = known(c);
    let widest = |of: fn(&EnvSizes) -> usize| tasks.iter().map(of).max().unwrap_or(0);
    (widest(|t| t.obs), widest(|t| t.act))
}

/// The most of something that any task has.
fn widest(tasks: &[Arc<Task>], of: fn(&Task) -> usize) -> usize {
    tasks.iter().map(|t| of(t)).max().unwrap_or(0)
}

/// Sizes of the environments of a configuration, of several tasks those of the first.
///
/// # Panics
/// As [`dims`].
pub fn sizes(c: &Config) -> EnvSizes {
    of_config(&c.of_env(&c.env_names()[0])).sizes
}

/// The task of a configuration that was checked.
pub(super) fn of_config(c: &Config) -> Task {
    Task::from_config(c).unwrap_or_else(|e| panic!("invariant: a configuration's environment was checked: {e}"))
}

impl EnvBatch {
    /// `count` environments of each of the configuration's tasks, as wide as its networks. Their starts are drawn from
    /// `stream`.
    ///
    /// # Panics
    /// If the configuration's specification is not right: see [`super::check`].
    pub fn of_config(vars: &mut Vars, name: &str, c: &Config, count: usize, mode: Mode, stream: Stream) -> Self {
        let groups: Vec<_> = tasks(c).into_iter().map(|task| (task, count)).collect();
        let rng = Philox::new(c.seed, stream);
        if c.tasks.is_empty() {
            return Self::new(vars, name, &groups, mode, rng);
        }
        let (obs_dim, act_dim) = dims(c);
        Self::as_wide_as(vars, name, &groups, mode, rng, obs_dim, act_dim)
    }

    /// Environments of each of these tasks, in this order. Variables are called `name.*`; those of a group among
    /// several `name.0.*` and so on.
    ///
    /// # Panics
    /// If there is no group, or one without environments.
    pub fn new(vars: &mut Vars, name: &str, tasks: &[(Arc<Task>, usize)], mode: Mode, rng: Philox) -> Self {
        let all: Vec<Arc<Task>> = tasks.iter().map(|(task, _)| task.clone()).collect();
        let (obs_dim, act_dim) = (widest(&all, |t| t.sizes.obs), widest(&all, |t| t.sizes.act));
        Self::as_wide_as(vars, name, tasks, mode, rng, obs_dim, act_dim)
    }

    /// As [`EnvBatch::new`], with observations and actions at least as wide as the tasks'.
    fn as_wide_as(
        vars: &mut Vars,
        name: &str,
        tasks: &[(Arc<Task>, usize)],
        mode: Mode,
        rng: Philox,
        obs_dim: usize,
        act_dim: usize,
    ) -> Self {
        assert!(!tasks.is_empty() && tasks.iter().all(|(_, n)| *n > 0), "invariant: a group has environments");
        let mut add =
            |what: &str, dtype, shape: &[usize]| vars.add(Region::Environment, format!("{name}.{what}"), dtype, shape);
        let mut groups = Vec::new();
        let mut first = 0;
        for (i, (task, count)) in tasks.iter().enumerate() {
            let part = if tasks.len() == 1 { String::new() } else { format!("{i}.") };
            groups.push(EnvGroup {
                task: task.clone(),
                first,
                count: *count,
                q: add(&format!("{part}q"), DType::Real, &[*count, task.sizes.nq]),
                qd: add(&format!("{part}qd"), DType::Real, &[*count, task.sizes.nqd]),
            });
            first += count;
        }
        let count = first;
        Self {
            count,
            obs_dim,
            act_dim,
            mode,
            rng,
            obs: add("obs", DType::Real, &[count, obs_dim]),
            progress: add("progress", DType::Index, &[count]),
            episodes: add("episodes", DType::Index, &[count]),
            ep_return: add("return", DType::Real, &[count]),
            alive: add("alive", DType::Real, &[count]),
            episode_stats: add("meters", DType::Real, &[groups.len() * STATS]),
            groups,
        }
    }

    /// Steps of the longest episode that any task has.
    pub fn episode_length(&self) -> usize {
        self.groups.iter().map(|g| g.task.spec.episode_length).max().unwrap_or(0)
    }

    /// Which task each row is of, as the number of its group.
    pub fn task_ids(&self) -> Vec<u32> {
        (0u32..).zip(&self.groups).flat_map(|(i, g)| std::iter::repeat_n(i, g.count)).collect()
    }

    /// `[groups, act_dim]`: 1 where a task reads an entry of the action, 0 behind its last.
    pub fn action_mask(&self) -> Vec<f32> {
        let reads = |g: &EnvGroup, k: usize| f32::from(u8::from(k < g.task.sizes.act));
        self.groups.iter().flat_map(|g| (0..self.act_dim).map(move |k| reads(g, k))).collect()
    }

    /// All variables, those of an evaluation that a checkpoint leaves out.
    pub fn vars(&self) -> Vec<VarId> {
        let own = [self.obs, self.progress, self.episodes, self.ep_return, self.alive, self.episode_stats];
        self.states().chain(own).collect()
    }

    /// Coordinates and velocities of every group.
    pub fn states(&self) -> impl Iterator<Item = VarId> + '_ {
        self.groups.iter().flat_map(|g| [g.q, g.qd])
    }

    /// Sum of a slot of [`EnvBatch::episode_stats`] over the groups.
    pub fn total(&self, stats: impl Fn(usize) -> f64, stat: super::EpisodeStat) -> f64 {
        (1..self.groups.len()).fold(stats(stat as usize), |sum, g| sum + stats(g * STATS + stat as usize))
    }

    /// Philox blocks that the starts of the groups before `g` take.
    fn blocks_before(&self, g: &EnvGroup) -> u32 {
        let before = self.groups.iter().take_while(|other| other.first < g.first);
        before.map(|g| g.task.start_blocks() * g.count as u32).sum()
    }

    fn group(&self, g: &EnvGroup) -> Group {
        Group {
            task: g.task.clone(),
            mode: self.mode,
            rng: self.rng,
            first_block: self.blocks_before(g),
            entries: self.obs_dim,
            actions: self.act_dim,
        }
    }

    /// The variables of group `i`, in the order that its operations write them.
    fn outputs(&self, p: &mut Program, vars: &Vars, i: usize) -> Vec<Val> {
        let g = &self.groups[i];
        let rows = [self.progress, self.episodes, self.ep_return, self.alive];
        let mut all = vec![p.var(vars, g.q), p.var(vars, g.qd)];
        all.push(p.var_at(vars, self.obs, g.first * self.obs_dim, &[g.count, self.obs_dim]));
        all.extend(rows.map(|v| p.var_at(vars, v, g.first, &[g.count])));
        all.push(p.var_at(vars, self.episode_stats, i * STATS, &[STATS]));
        all
    }

    /// The rows of a group: the value itself if there is one group only.
    fn part(&self, p: &mut Program, of: Val, g: &EnvGroup) -> Val {
        if self.groups.len() == 1 { of } else { p.rows(of, g.first, g.first + g.count) }
    }

    /// Appends the start of a new episode in every environment. Evaluation starts are the same every time.
    pub fn reset(&self, p: &mut Program, vars: &Vars) {
        for (i, g) in self.groups.iter().enumerate() {
            let outputs = self.outputs(p, vars, i);
            p.push(EnvReset { group: self.group(g) }, &[], &outputs);
        }
    }

    /// Appends one step with `action` `[N, act_dim]` (clipped to plus or minus 1 inside). Reward, done and terminated
    /// are written to `into` if given.
    pub fn step(&self, p: &mut Program, vars: &Vars, action: Val, into: Option<(Val, Val, Val)>) -> Stepped {
        let n = self.count;
        let obs_before_reset = p.real(&[n, self.obs_dim]);
        let (reward, done, terminated) = into.unwrap_or_else(|| (p.real(&[n]), p.real(&[n]), p.real(&[n])));
        for (i, g) in self.groups.iter().enumerate() {
            let mut outputs = self.outputs(p, vars, i);
            outputs.extend([obs_before_reset, reward, done, terminated].map(|v| self.part(p, v, g)));
            let action = self.part(p, action, g);
            p.push(EnvStep { group: self.group(g), bound: None }, &[action], &outputs);
        }
        Stepped { obs_before_reset, reward, done, terminated }
    }

    /// Appends copies of the present state, to go on from with [`EnvBatch::step_through`].
    pub fn state(&self, p: &mut Program, vars: &Vars) -> EnvState {
        let mut copied = |v: VarId| {
            let (from, to) = (p.var(vars, v), p.real(&vars.info(v).shape));
            copy(p, from, to);
            to
        };
        EnvState { groups: self.groups.iter().map(|g| [g.q, g.qd].map(&mut copied)).collect(), obs: copied(self.obs) }
    }

    /// [`EnvBatch::step`] from `from`, which is the environments' present state, for a gradient to flow through: from
    /// the next state, `obs_before_reset` and the reward back to `from` and the action. An environment that starts anew
    /// cuts it there. `into` receives `obs_before_reset`, reward, done and terminated.
    pub fn step_through(
        &self,
        p: &mut Program,
        vars: &Vars,
        from: &EnvState,
        action: Val,
        bound: GradientBound,
        into: [Val; 4],
    ) -> (Stepped, EnvState) {
        let [obs_before_reset, reward, done, terminated] = into;
        let mut next = EnvState { groups: vec![], obs: from.obs };
        for g in &self.groups {
            next.groups.push([p.real(&[g.count, g.task.sizes.nq]), p.real(&[g.count, g.task.sizes.nqd])]);
        }
        next.obs = p.real(&[self.count, self.obs_dim]);
        for (i, g) in self.groups.iter().enumerate() {
            let mut outputs = self.outputs(p, vars, i);
            outputs.extend(into.map(|v| self.part(p, v, g)));
            outputs.extend(next.groups[i]);
            outputs.extend([self.part(p, next.obs, g), bound.count]);
            let ([q, qd], action, obs) = (from.groups[i], self.part(p, action, g), self.part(p, from.obs, g));
            p.push(EnvStep { group: self.group(g), bound: Some(bound.norm) }, &[action, q, qd, obs], &outputs);
        }
        (Stepped { obs_before_reset, reward, done, terminated }, next)
    }
}
