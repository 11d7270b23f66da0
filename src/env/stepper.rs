//! Environments that are stepped by hand, outside a program.

use super::op::in_physics;
use super::rows::EnvReal;
use super::task::Task;
use crate::device::cpu::lanes::WIDTH;
use crate::device::philox::Philox;
use rayon::prelude::*;
use std::sync::Arc;

/// How a step left one environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepEnd {
    /// The episode ended by falling, or because the state left physics: what follows has no value.
    pub terminated: bool,
    /// The episode has as many steps as it may have.
    pub truncated: bool,
    /// The state left physics: its observation and reward were replaced by zeros.
    pub left_physics: bool,
}

impl StepEnd {
    /// What an observation and a reward, after so many steps of an episode, say of it.
    pub fn of<F: EnvReal>(task: &Task, obs: &[F], reward: F, progress: usize) -> Self {
        let left_physics = !(in_physics(obs) && reward.is_finite());
        let terminated = left_physics || task.is_terminal(obs);
        Self { terminated, truncated: task.is_truncated(progress), left_physics }
    }

    /// Whether the episode is over.
    pub fn is_end(self) -> bool {
        self.terminated || self.truncated
    }
}

/// Environments of one task side by side, whose caller says when they step and when an episode begins. What an
/// environment does depends on its own numbers alone, whatever their number and however many threads step them.
#[derive(Clone, Debug)]
pub struct Stepper<F> {
    pub task: Arc<Task>,
    pub count: usize,
    /// `[count, nq]`: coordinates.
    pub q: Vec<F>,
    /// `[count, nqd]`: velocities.
    pub qd: Vec<F>,
    /// `[count, obs]`: what the next action is for.
    pub obs: Vec<F>,
    /// `[count]`: rewards of the last step.
    pub reward: Vec<F>,
    /// `[count]`: steps of the present episodes.
    pub progress: Vec<usize>,
    /// `[count]`: how the last step left them.
    pub ends: Vec<StepEnd>,
    /// Becomes `obs`.
    next: Vec<F>,
}

impl<F: EnvReal> Stepper<F> {
    /// So many environments, none of which has begun an episode.
    pub fn new(task: Arc<Task>, count: usize) -> Self {
        let s = task.sizes;
        let zeros = |width: usize| vec![F::zero(); count * width];
        Self {
            count,
            q: zeros(s.nq),
            qd: zeros(s.nqd),
            obs: zeros(s.obs),
            next: zeros(s.obs),
            reward: zeros(1),
            progress: vec![0; count],
            ends: vec![StepEnd::default(); count],
            task,
        }
    }

    /// Begins an episode in row `row`: the start that environment `env` among many gets at `step` of the stream, see
    /// [`Task::begin`].
    pub fn begin(&mut self, row: usize, random: &Philox, step: u64, env: u32) {
        let s = self.task.sizes;
        let (q, qd) = (&mut self.q[row * s.nq..], &mut self.qd[row * s.nqd..]);
        self.task.begin_row(random, step, env, q, qd, &mut self.obs[row * s.obs..][..s.obs]);
        (self.progress[row], self.ends[row]) = (0, StepEnd::default());
    }

    /// One step of every environment with the raw actions `[count, act]`, on this thread.
    ///
    /// # Panics
    /// If there are not so many actions.
    pub fn step(&mut self, action: &[F]) {
        let rows = self.count;
        assert_eq!(action.len(), rows * self.task.sizes.act, "invariant: an action for every environment");
        let Self { task, q, qd, obs, next, reward, .. } = self;
        F::step_rows(task, rows, q, qd, obs, action, next, reward);
        self.judge();
    }

    /// [`Stepper::step`], shared by the threads of the present pool.
    ///
    /// # Panics
    /// As [`Stepper::step`].
    pub fn step_shared(&mut self, action: &[F]) {
        let s = self.task.sizes;
        assert_eq!(action.len(), self.count * s.act, "invariant: an action for every environment");
        let Self { task, q, qd, obs, next, reward, .. } = self;
        step_rows_shared(task, q, qd, obs, action, next, reward);
        self.judge();
    }

    /// What the step that was just taken says of each episode.
    fn judge(&mut self) {
        std::mem::swap(&mut self.obs, &mut self.next);
        let rows = self.obs.chunks_exact_mut(self.task.sizes.obs).zip(&mut self.reward);
        for ((row, reward), (progress, end)) in rows.zip(self.progress.iter_mut().zip(&mut self.ends)) {
            *progress += 1;
            *end = StepEnd::of(&self.task, row, *reward, *progress);
            if end.left_physics {
                row.fill(F::zero());
                *reward = F::zero();
            }
        }
    }
}

/// [`EnvReal::step_rows`] of as many rows as there are rewards, shared by the threads of the present pool.
///
/// # Panics
/// As [`EnvReal::step_rows`].
pub fn step_rows_shared<F: EnvReal>(
    task: &Task,
    q: &mut [F],
    qd: &mut [F],
    obs: &[F],
    action: &[F],
    next_obs: &mut [F],
    reward: &mut [F],
) {
    let s = task.sizes;
    let parts = (q.par_chunks_mut(WIDTH * s.nq).zip(qd.par_chunks_mut(WIDTH * s.nqd)))
        .zip(obs.par_chunks(WIDTH * s.obs).zip(action.par_chunks(WIDTH * s.act)))
        .zip(next_obs.par_chunks_mut(WIDTH * s.obs).zip(reward.par_chunks_mut(WIDTH)));
    parts.for_each(|(((q, qd), (obs, action)), (next, reward))| {
        F::step_rows(task, reward.len(), q, qd, obs, action, next, reward);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;
    use crate::device::philox::Stream;

    /// The same episodes, alone, side by side and on several threads.
    #[test]
    fn an_environment_is_on_its_own() {
        const N: usize = 11;
        for name in ["ant", "cartpole-swingup"] {
            let c = load(&[format!("env={name}")]).unwrap();
            let task = Arc::new(Task::from_config(&c).unwrap());
            let act = task.sizes.act;
            let (random, noise) = (Philox::new(1, Stream::Test), Philox::new(2, Stream::Test));
            let mut all = Stepper::<f32>::new(task.clone(), N);
            (0..N).for_each(|e| all.begin(e, &random, 0, e as u32));
            let mut shared = all.clone();
            let mut alone = Stepper::<f32>::new(task.clone(), 1);
            alone.begin(0, &random, 0, 7);
            for t in 0..20 {
                let action: Vec<f32> = (0..N * act).map(|i| 2.0 * noise.uniform(t, i as u32) as f32 - 1.0).collect();
                all.step(&action);
                shared.step_shared(&action);
                alone.step(&action[7 * act..8 * act]);
                assert_eq!((&all.q, &all.obs, &all.reward), (&shared.q, &shared.obs, &shared.reward));
                assert_eq!(alone.obs, all.obs[7 * task.sizes.obs..8 * task.sizes.obs]);
                assert_eq!((alone.reward[0], alone.ends[0]), (all.reward[7], all.ends[7]));
            }
        }
    }

    /// A state that left physics ends its episode and shows zeros; one that has run its course is cut.
    #[test]
    fn episodes_end() {
        let c = load(&["env=ant", "episode_length=3", "horizon=1"]).unwrap();
        let task = Arc::new(Task::from_config(&c).unwrap());
        let random = Philox::new(1, Stream::Test);
        let mut env = Stepper::<f32>::new(task.clone(), 2);
        (0..2).for_each(|e| env.begin(e, &random, 0, e as u32));
        env.qd[0] = f32::NAN;
        for t in 1..=3 {
            env.step(&vec![0.0; 2 * task.sizes.act]);
            assert_eq!(env.ends[0], StepEnd { terminated: true, truncated: t == 3, left_physics: true });
            assert_eq!(env.ends[1], StepEnd { terminated: false, truncated: t == 3, left_physics: false });
            assert!(env.obs[..task.sizes.obs].iter().all(|x| *x == 0.0) && env.reward[0] == 0.0);
        }
        assert!(env.obs[task.sizes.obs..].iter().any(|x| *x != 0.0));
    }
}
