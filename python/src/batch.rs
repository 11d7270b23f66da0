//! Environments of one task side by side.

use numpy::ndarray::Dimension;
use numpy::{
    Element, PyArray1, PyArray2, PyArray3, PyArrayMethods, PyReadonlyArray, PyReadonlyArray1, PyReadonlyArray2,
    PyReadwriteArray1, PyReadwriteArray2, PyUntypedArrayMethods,
};
use pwm::app::Misused;
use pwm::config::{KEYS, KeySection, Shipped, ShippedKind, load};
use pwm::device::cpu::lanes::WIDTH;
use pwm::device::philox::{Philox, Stream};
use pwm::env::{EnvReal, InputCotangents, OutputCotangents, StepEnd, StepOperands, Stepper, Task, step_rows_shared};
use pyo3::prelude::*;
use rayon::prelude::*;
use std::sync::Arc;

use crate::errors::guarded;
use crate::frame;
use crate::pool::Pool;

/// Settings of the section of environments that say which they are, and how many.
const NOT_HERE: [&str; 4] = ["env", "spec", "tasks", "num_envs"];
/// The most environments and threads of a batch.
pub const MOST_ENVS: usize = 1 << 20;
pub const MOST_THREADS: usize = 1024;

/// When an episode that ended makes room for the next, by gymnasium's words.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Autoreset {
    NextStep,
    SameStep,
    Disabled,
}

impl Autoreset {
    fn of(word: &str) -> anyhow::Result<Self> {
        match word {
            "NextStep" => Ok(Self::NextStep),
            "SameStep" => Ok(Self::SameStep),
            "Disabled" => Ok(Self::Disabled),
            _ => Err(Misused::new(format!("no mode of autoreset is called {word}")).into()),
        }
    }
}

/// The task `env`, a name or a file's path, with these settings.
fn task_of(env: &str, settings: &[String]) -> anyhow::Result<Arc<Task>> {
    let is_set = Shipped::find(ShippedKind::Env, env).is_some_and(Shipped::is_set);
    anyhow::ensure!(
        !is_set && !env.contains(['*', '[', ',']),
        Misused::new(format!("{env}: an environment is one task; make one for each"))
    );
    for setting in settings {
        let name = setting.split('=').next().unwrap_or_default();
        let key = KEYS.iter().find(|k| k.name == name);
        let is_of_env = key.is_none_or(|k| k.section == KeySection::Env && !NOT_HERE.contains(&k.name));
        anyhow::ensure!(is_of_env, Misused::new(format!("`{name}` is no setting of an environment")));
    }
    // What trains there is not asked: an episode may be shorter than its rollouts.
    let mut all = vec!["horizon=1".to_owned(), format!("env={env}")];
    all.extend_from_slice(settings);
    Ok(Arc::new(Task::from_config(&load(&all)?)?))
}

/// Environments with what they need beside their states.
struct Envs<F> {
    stepper: Stepper<F>,
    /// Of each: the source of its starts, and how many of them it has had.
    random: Vec<Philox>,
    episodes: Vec<u64>,
    /// Coordinates with which the present episodes began, for pictures.
    begun: Vec<F>,
    /// Whether any episode has begun.
    has_begun: bool,
    pool: Pool,
}

impl<F: EnvReal> Envs<F> {
    fn new(env: &str, settings: &[String], count: usize, threads: usize) -> anyhow::Result<Self> {
        let of = |name, n, most| Misused::new(format!("{name} is {n}; it is 1 to {most}"));
        anyhow::ensure!((1..=MOST_ENVS).contains(&count), of("num_envs", count, MOST_ENVS));
        anyhow::ensure!((1..=MOST_THREADS).contains(&threads), of("threads", threads, MOST_THREADS));
        let stepper = Stepper::<F>::new(task_of(env, settings)?, count);
        Ok(Self {
            random: vec![Philox::new(0, Stream::Reset); count],
            episodes: vec![0; count],
            begun: stepper.q.clone(),
            stepper,
            has_begun: false,
            pool: Pool::new(threads),
        })
    }

    fn begin(&mut self, row: usize) {
        let nq = self.stepper.task.sizes.nq;
        self.stepper.begin(row, &self.random[row], self.episodes[row], 0);
        self.episodes[row] += 1;
        self.begun[row * nq..][..nq].copy_from_slice(&self.stepper.q[row * nq..][..nq]);
    }

    /// Begins episodes where `mask` says so, the first time everywhere.
    fn reset(&mut self, seeds: &[u64], mask: &[bool]) {
        let everywhere = !self.has_begun;
        for row in (0..self.stepper.count).filter(|&row| everywhere || mask[row]) {
            if let Some(&seed) = seeds.get(row) {
                (self.random[row], self.episodes[row]) = (Philox::new(seed, Stream::Reset), 0);
            }
            self.begin(row);
        }
        self.has_begun = true;
    }

    fn step(&mut self, action: &[F], out: Stepped<'_, F>, mode: Autoreset) -> anyhow::Result<()> {
        anyhow::ensure!(self.has_begun, Misused::new("reset() comes before the first step()"));
        let rows = self.stepper.count;
        let was_over: Vec<usize> = (0..rows).filter(|&row| self.stepper.ends[row].is_end()).collect();
        anyhow::ensure!(
            mode != Autoreset::Disabled || was_over.is_empty(),
            Misused::new("an episode that is over takes no step; reset its environment first")
        );
        let Self { stepper, pool, .. } = self;
        if pool.is_shared() {
            pool.install(|| stepper.step_shared(action))?;
        } else {
            stepper.step(action);
        }
        // Their step is the reset.
        for &row in &was_over {
            self.begin(row);
            self.stepper.reward[row] = F::zero();
        }
        let s = self.stepper.task.sizes;
        for row in 0..rows {
            let end = self.stepper.ends[row];
            out.reward[row] = self.stepper.reward[row].value();
            (out.terminated[row], out.truncated[row]) = (end.terminated, end.truncated);
            out.left_physics[row] = end.left_physics;
            if end.is_end() && mode == Autoreset::SameStep {
                let part = row * s.obs..(row + 1) * s.obs;
                out.final_obs[part.clone()].copy_from_slice(&self.stepper.obs[part]);
                self.begin(row);
            }
        }
        out.obs.copy_from_slice(&self.stepper.obs);
        Ok(())
    }
}

/// What a step writes: `[N, obs]`, `[N]` and so on.
struct Stepped<'a, F> {
    obs: &'a mut [F],
    reward: &'a mut [f64],
    terminated: &'a mut [bool],
    truncated: &'a mut [bool],
    left_physics: &'a mut [bool],
    final_obs: &'a mut [F],
}

/// Rows of one step or of what came out, or of their cotangents: coordinates, velocities, observation, action or reward.
type Rows<F> = [Vec<F>; 4];

/// The step as a function, without anything that is remembered: the new coordinates, velocities, observations and
/// rewards.
fn transition<F: EnvReal>(task: &Task, rows: usize, shared: bool, [q, qd, obs, action]: [&[F]; 4]) -> Rows<F> {
    let s = task.sizes;
    let (mut q, mut qd) = (q.to_vec(), qd.to_vec());
    let (mut next, mut reward) = (vec![F::zero(); rows * s.obs], vec![F::zero(); rows]);
    if shared {
        step_rows_shared(task, &mut q, &mut qd, obs, action, &mut next, &mut reward);
    } else {
        F::step_rows(task, rows, &mut q, &mut qd, obs, action, &mut next, &mut reward);
    }
    [q, qd, next, reward]
}

/// `n` rows from `first` on of rows `width` wide.
fn part<F>(rows: &[F], width: usize, first: usize, n: usize) -> &[F] {
    &rows[first * width..(first + n) * width]
}

/// The adjoint of [`transition`]: cotangents of its operands from those of its results.
fn transition_adjoint<F: EnvReal>(
    task: &Task,
    rows: usize,
    shared: bool,
    [q, qd, obs, action]: [&[F]; 4],
    [q_bar, qd_bar, obs_bar, reward_bar]: [&[F]; 4],
) -> Rows<F> {
    let s = task.sizes;
    let zeros = |width: usize| vec![F::zero(); rows * width];
    let (mut to_q, mut to_qd, mut to_obs, mut to_action) = (zeros(s.nq), zeros(s.nqd), zeros(s.obs), zeros(s.act));
    let pull = |first: usize, to: InputCotangents<'_, F>| {
        let n = to.q.len() / s.nq;
        let at = StepOperands {
            q: part(q, s.nq, first, n),
            qd: part(qd, s.nqd, first, n),
            action: part(action, s.act, first, n),
            obs: part(obs, s.obs, first, n),
        };
        let from = OutputCotangents {
            q: part(q_bar, s.nq, first, n),
            qd: part(qd_bar, s.nqd, first, n),
            obs: part(obs_bar, s.obs, first, n),
            reward: part(reward_bar, 1, first, n),
        };
        F::adjoint_rows(task, n, at, from, to);
    };
    if shared {
        (to_q.par_chunks_mut(WIDTH * s.nq).zip(to_qd.par_chunks_mut(WIDTH * s.nqd)))
            .zip(to_obs.par_chunks_mut(WIDTH * s.obs).zip(to_action.par_chunks_mut(WIDTH * s.act)))
            .enumerate()
            .for_each(|(i, ((q, qd), (obs, action)))| pull(i * WIDTH, InputCotangents { q, qd, obs, action }));
    } else {
        pull(0, InputCotangents { q: &mut to_q, qd: &mut to_qd, obs: &mut to_obs, action: &mut to_action });
    }
    [to_q, to_qd, to_obs, to_action]
}

macro_rules! batch {
    ($name:ident, $real:ty, $doc:literal) => {
        #[doc = $doc]
        #[pyclass(module = "pwm_rl._core")]
        pub struct $name(Envs<$real>);

        #[pymethods]
        impl $name {
            #[new]
            #[pyo3(signature = (env, settings, count, threads = 1))]
            fn new(py: Python<'_>, env: &str, settings: Vec<String>, count: usize, threads: usize) -> PyResult<Self> {
                Ok(Self(py.detach(|| guarded(|| Envs::new(env, &settings, count, threads)))?))
            }

            #[getter]
            fn name(&self) -> &str {
                &self.0.stepper.task.spec.name
            }

            #[getter]
            fn title(&self) -> &str {
                &self.0.stepper.task.spec.title
            }

            #[getter]
            fn count(&self) -> usize {
                self.0.stepper.count
            }

            /// Entries of an observation, of an action, of coordinates and of velocities.
            #[getter]
            fn sizes(&self) -> (usize, usize, usize, usize) {
                let s = self.0.stepper.task.sizes;
                (s.obs, s.act, s.nq, s.nqd)
            }

            #[getter]
            fn dt(&self) -> f64 {
                self.0.stepper.task.spec.dt
            }

            #[getter]
            fn episode_length(&self) -> usize {
                self.0.stepper.task.spec.episode_length
            }

            #[getter]
            fn is_differentiable(&self) -> bool {
                self.0.stepper.task.is_differentiable()
            }

            #[getter]
            fn has_begun(&self) -> bool {
                self.0.has_begun
            }

            /// Begins an episode in every row of `mask`; with seeds (one a row, or none at all) the first one of its
            /// seed, else the next one. Writes all observations.
            fn reset(
                &mut self,
                py: Python<'_>,
                seeds: Vec<u64>,
                mask: PyReadonlyArray1<'_, bool>,
                mut obs: PyReadwriteArray2<'_, $real>,
            ) -> PyResult<()> {
                let envs = &mut self.0;
                let (n, s) = (envs.stepper.count, envs.stepper.task.sizes);
                shaped(&mask, &[n])?;
                shaped(&obs, &[n, s.obs])?;
                let (mask, obs) = (mask.as_slice()?, obs.as_slice_mut()?);
                Ok(py.detach(|| {
                    guarded(|| {
                        let few = Misused::new("a seed for every environment, or none");
                        anyhow::ensure!(seeds.is_empty() || seeds.len() == n, few);
                        envs.reset(&seeds, mask);
                        obs.copy_from_slice(&envs.stepper.obs);
                        Ok(())
                    })
                })?)
            }

            #[allow(clippy::too_many_arguments, reason = "what a step writes, array by array")]
            fn step(
                &mut self,
                py: Python<'_>,
                action: PyReadonlyArray2<'_, $real>,
                mut obs: PyReadwriteArray2<'_, $real>,
                mut reward: PyReadwriteArray1<'_, f64>,
                mut terminated: PyReadwriteArray1<'_, bool>,
                mut truncated: PyReadwriteArray1<'_, bool>,
                mut left_physics: PyReadwriteArray1<'_, bool>,
                mut final_obs: PyReadwriteArray2<'_, $real>,
                autoreset: &str,
            ) -> PyResult<()> {
                let envs = &mut self.0;
                let (n, s) = (envs.stepper.count, envs.stepper.task.sizes);
                shaped(&action, &[n, s.act])?;
                shaped(&obs, &[n, s.obs])?;
                shaped(&final_obs, &[n, s.obs])?;
                shaped(&reward, &[n])?;
                for flags in [&terminated, &truncated, &left_physics] {
                    shaped(flags, &[n])?;
                }
                let action = action.as_slice()?;
                let out = Stepped {
                    obs: obs.as_slice_mut()?,
                    reward: reward.as_slice_mut()?,
                    terminated: terminated.as_slice_mut()?,
                    truncated: truncated.as_slice_mut()?,
                    left_physics: left_physics.as_slice_mut()?,
                    final_obs: final_obs.as_slice_mut()?,
                };
                Ok(py.detach(|| guarded(|| envs.step(action, out, Autoreset::of(autoreset)?)))?)
            }

            /// Coordinates, velocities, observations and steps of the present episodes: copies.
            #[allow(clippy::type_complexity, reason = "a tuple of arrays")]
            fn state<'py>(
                &self,
                py: Python<'py>,
            ) -> PyResult<(
                Bound<'py, PyArray2<$real>>,
                Bound<'py, PyArray2<$real>>,
                Bound<'py, PyArray2<$real>>,
                Bound<'py, PyArray1<i64>>,
            )> {
                let e = &self.0.stepper;
                let (n, s) = (e.count, e.task.sizes);
                let progress: Vec<i64> = e.progress.iter().map(|&t| t as i64).collect();
                Ok((
                    array(py, e.q.clone(), n, s.nq)?,
                    array(py, e.qd.clone(), n, s.nqd)?,
                    array(py, e.obs.clone(), n, s.obs)?,
                    PyArray1::from_vec(py, progress),
                ))
            }

            /// Puts the environments into a state.
            fn set_state(
                &mut self,
                q: PyReadonlyArray2<'_, $real>,
                qd: PyReadonlyArray2<'_, $real>,
                obs: PyReadonlyArray2<'_, $real>,
                progress: PyReadonlyArray1<'_, i64>,
            ) -> PyResult<()> {
                let e = &mut self.0.stepper;
                let (n, sizes) = (e.count, e.task.sizes);
                // All before the first is taken over.
                shaped(&q, &[n, sizes.nq])?;
                shaped(&qd, &[n, sizes.nqd])?;
                shaped(&obs, &[n, sizes.obs])?;
                shaped(&progress, &[n])?;
                e.q.copy_from_slice(q.as_slice()?);
                e.qd.copy_from_slice(qd.as_slice()?);
                e.obs.copy_from_slice(obs.as_slice()?);
                let progress = progress.as_slice()?;
                e.progress.iter_mut().zip(progress).for_each(|(to, &from)| *to = from.max(0) as usize);
                e.ends.fill(Default::default());
                self.0.has_begun = true;
                Ok(())
            }

            /// A step as a function of coordinates, velocities, observations and raw actions: the same after it, with
            /// rewards in the place of actions.
            #[allow(clippy::type_complexity, reason = "a tuple of arrays")]
            fn transition<'py>(
                &mut self,
                py: Python<'py>,
                q: PyReadonlyArray2<'_, $real>,
                qd: PyReadonlyArray2<'_, $real>,
                obs: PyReadonlyArray2<'_, $real>,
                action: PyReadonlyArray2<'_, $real>,
            ) -> PyResult<(
                Bound<'py, PyArray2<$real>>,
                Bound<'py, PyArray2<$real>>,
                Bound<'py, PyArray2<$real>>,
                Bound<'py, PyArray1<$real>>,
            )> {
                let Envs { stepper, pool, .. } = &mut self.0;
                let (task, n, shared) = (&*stepper.task, stepper.count, pool.is_shared());
                let s = task.sizes;
                for (rows, width) in [(&q, s.nq), (&qd, s.nqd), (&obs, s.obs), (&action, s.act)] {
                    shaped(rows, &[n, width])?;
                }
                let operands = [q.as_slice()?, qd.as_slice()?, obs.as_slice()?, action.as_slice()?];
                let [q, qd, obs, reward] =
                    py.detach(|| guarded(|| pool.install(|| transition(task, n, shared, operands))))?;
                let reward = PyArray1::from_vec(py, reward);
                Ok((array(py, q, n, s.nq)?, array(py, qd, n, s.nqd)?, array(py, obs, n, s.obs)?, reward))
            }

            /// Adjoint of `transition`: cotangents of coordinates, velocities, observations and raw actions from those
            /// of what came out.
            #[allow(clippy::type_complexity, clippy::too_many_arguments, reason = "a tuple of arrays")]
            fn transition_adjoint<'py>(
                &mut self,
                py: Python<'py>,
                q: PyReadonlyArray2<'_, $real>,
                qd: PyReadonlyArray2<'_, $real>,
                obs: PyReadonlyArray2<'_, $real>,
                action: PyReadonlyArray2<'_, $real>,
                q_bar: PyReadonlyArray2<'_, $real>,
                qd_bar: PyReadonlyArray2<'_, $real>,
                obs_bar: PyReadonlyArray2<'_, $real>,
                reward_bar: PyReadonlyArray1<'_, $real>,
            ) -> PyResult<(
                Bound<'py, PyArray2<$real>>,
                Bound<'py, PyArray2<$real>>,
                Bound<'py, PyArray2<$real>>,
                Bound<'py, PyArray2<$real>>,
            )> {
                let Envs { stepper, pool, .. } = &mut self.0;
                let (task, n, shared) = (&*stepper.task, stepper.count, pool.is_shared());
                let s = task.sizes;
                for (rows, width) in [(&q, s.nq), (&qd, s.nqd), (&obs, s.obs), (&action, s.act)] {
                    shaped(rows, &[n, width])?;
                }
                for (rows, width) in [(&q_bar, s.nq), (&qd_bar, s.nqd), (&obs_bar, s.obs)] {
                    shaped(rows, &[n, width])?;
                }
                shaped(&reward_bar, &[n])?;
                let operands = [q.as_slice()?, qd.as_slice()?, obs.as_slice()?, action.as_slice()?];
                let from = [q_bar.as_slice()?, qd_bar.as_slice()?, obs_bar.as_slice()?, reward_bar.as_slice()?];
                let [q, qd, obs, action] = py.detach(|| {
                    guarded(|| {
                        differentiable(task)?;
                        pool.install(|| transition_adjoint(task, n, shared, operands, from))
                    })
                })?;
                let [q, qd, obs] = [array(py, q, n, s.nq)?, array(py, qd, n, s.nqd)?, array(py, obs, n, s.obs)?];
                Ok((q, qd, obs, array(py, action, n, s.act)?))
            }

            /// Refuses a task whose law has no gradient.
            fn check_differentiable(&self) -> PyResult<()> {
                Ok(guarded(|| differentiable(&self.0.stepper.task))?)
            }

            /// Of observations and rewards after a step, and the steps of the episodes so far: whether an episode ended
            /// by falling, whether it is as long as it may be, and whether the state left physics.
            #[allow(clippy::type_complexity, reason = "a tuple of arrays")]
            fn judge<'py>(
                &self,
                py: Python<'py>,
                obs: PyReadonlyArray2<'_, $real>,
                reward: PyReadonlyArray1<'_, $real>,
                progress: PyReadonlyArray1<'_, i64>,
            ) -> PyResult<(Bound<'py, PyArray1<bool>>, Bound<'py, PyArray1<bool>>, Bound<'py, PyArray1<bool>>)> {
                let e = &self.0.stepper;
                let (n, width) = (e.count, e.task.sizes.obs);
                shaped(&obs, &[n, width])?;
                shaped(&reward, &[n])?;
                shaped(&progress, &[n])?;
                let rows = obs.as_slice()?.chunks_exact(width).zip(reward.as_slice()?).zip(progress.as_slice()?);
                let of = |((obs, reward), t): ((&[$real], &$real), &i64)| {
                    StepEnd::of(&e.task, obs, *reward, (*t).max(0) as usize)
                };
                let ends: Vec<StepEnd> = rows.map(of).collect();
                let flags = |of: fn(&StepEnd) -> bool| PyArray1::from_iter(py, ends.iter().map(of));
                Ok((flags(|e| e.terminated), flags(|e| e.truncated), flags(|e| e.left_physics)))
            }

            /// `[height, width, 3]`: the robot of one environment, red, green and blue.
            fn picture<'py>(&self, py: Python<'py>, row: usize) -> PyResult<Bound<'py, PyArray3<u8>>> {
                let e = &self.0.stepper;
                let nq = e.task.sizes.nq;
                let pixels = py.detach(|| {
                    guarded(|| {
                        anyhow::ensure!(row < e.count, Misused::new(format!("there is no environment {row}")));
                        let wide = |q: &[$real]| q[row * nq..][..nq].iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
                        frame::picture(&e.task, &wide(&self.0.begun), &wide(&e.q))
                    })
                })?;
                Ok(PyArray3::from_owned_array(py, pixels))
            }
        }
    };
}

batch!(Batch32, f32, "Environments of one task in single precision, eight at a time.");
batch!(Batch64, f64, "Environments of one task in double precision.");

/// `[rows, width]`, as an array that owns its numbers.
pub fn array<F: numpy::Element>(
    py: Python<'_>,
    rows: Vec<F>,
    count: usize,
    width: usize,
) -> PyResult<Bound<'_, PyArray2<F>>> {
    PyArray1::from_vec(py, rows).reshape([count, width])
}

/// Refuses an array that is not of this shape, row after row.
fn shaped<T: Element, D: Dimension>(array: &PyReadonlyArray<'_, T, D>, shape: &[usize]) -> PyResult<()> {
    Ok(guarded(|| {
        let is_right = array.shape() == shape && array.is_c_contiguous();
        let what =
            format!("an array of shape {:?}, where one of {shape:?} in the order of rows is expected", array.shape());
        anyhow::ensure!(is_right, Misused::new(what));
        Ok(())
    })?)
}

fn differentiable(task: &Task) -> anyhow::Result<()> {
    anyhow::ensure!(
        task.is_differentiable(),
        Misused::new(format!(
            "{} moves by MuJoCo's law, which has no gradient here; PWM learns such tasks through the gradient of its \
             model: pwm_rl.train(alg=\"pwm_small\", env=\"{}\")",
            task.spec.title, task.spec.name
        ))
    );
    Ok(())
}
