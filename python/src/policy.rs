//! A stored policy that acts.

use numpy::{PyArray2, PyReadonlyArray2, PyUntypedArrayMethods};
use pwm::algo::Actor;
use pwm::app::Misused;
use pwm::app::stored::StoredPolicy;
use pwm::env::{Task, task_sizes};
use pyo3::prelude::*;
use std::path::PathBuf;

use crate::batch::array;
use crate::errors::guarded;

/// The policy of a checkpoint, in one of its tasks.
#[pyclass(module = "pwm_rl._core")]
pub struct Policy {
    stored: StoredPolicy,
    task: Task,
    /// With room for so many observations; grows.
    actor: Actor<f32>,
    rows: usize,
}

/// Rows at first.
const FEW: usize = 8;

impl Policy {
    fn open(path: PathBuf, task: Option<String>, threads: usize) -> anyhow::Result<Self> {
        let mut stored = StoredPolicy::open(&path)?;
        stored.config.threads = threads;
        let names = stored.config.env_names();
        let name = task.as_ref().unwrap_or(&names[0]);
        anyhow::ensure!(
            names.contains(name),
            Misused::new(format!("{}: the policy is for {}, not for {name}", path.display(), names.join(", ")))
        );
        let task = Task::from_config(&stored.config.of_env(name))?;
        let actor = stored.actor(name, task.sizes, FEW)?;
        Ok(Self { stored, task, actor, rows: FEW })
    }

    fn mean_actions(&mut self, obs: &[f32], width: usize, rows: usize) -> anyhow::Result<Vec<f32>> {
        let s = self.task.sizes;
        anyhow::ensure!(
            width == s.obs,
            Misused::new(format!("an observation of {width} numbers; {} shows {}", self.task.spec.name, s.obs))
        );
        if rows > self.rows {
            let room = rows.next_power_of_two();
            self.actor = self.stored.actor(&self.task.spec.name, s, room)?;
            self.rows = room;
        }
        Ok(self.actor.act(obs, width, rows, s.act)?)
    }
}

#[pymethods]
impl Policy {
    #[new]
    #[pyo3(signature = (path, task = None, threads = 1))]
    fn new(py: Python<'_>, path: PathBuf, task: Option<String>, threads: usize) -> PyResult<Self> {
        Ok(py.detach(|| guarded(|| Self::open(path, task, threads)))?)
    }

    /// `[N, act]`: the mean actions on observations `[N, obs]`.
    fn act<'py>(&mut self, py: Python<'py>, obs: PyReadonlyArray2<'_, f32>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let ([rows, width], obs) = ([obs.shape()[0], obs.shape()[1]], obs.as_slice()?);
        let actions = py.detach(|| guarded(|| self.mean_actions(obs, width, rows)))?;
        array(py, actions, rows, self.task.sizes.act)
    }

    #[getter]
    fn path(&self) -> PathBuf {
        self.stored.path.clone()
    }

    #[getter]
    fn task(&self) -> &str {
        &self.task.spec.name
    }

    /// All tasks that it is for.
    #[getter]
    fn tasks(&self) -> Vec<String> {
        task_sizes(&self.stored.config).into_iter().map(|(name, ..)| name).collect()
    }

    #[getter]
    fn epoch(&self) -> PyResult<u64> {
        Ok(guarded(|| self.stored.epoch())?)
    }

    #[getter]
    fn obs_dim(&self) -> usize {
        self.task.sizes.obs
    }

    #[getter]
    fn act_dim(&self) -> usize {
        self.task.sizes.act
    }

    /// Its configuration, as JSON.
    fn config(&self) -> String {
        self.stored.config.to_json().to_string()
    }
}
