//! A stored policy that acts.

use numpy::{PyArray2, PyReadonlyArray2, PyUntypedArrayMethods};
use pwm::algo::Actor;
use pwm::app::Misused;
use pwm::app::stored::StoredPolicy;
use pwm::env::{Task, task_sizes};
use pyo3::prelude::*;
use std::mem::ManuallyDrop;
use std::path::PathBuf;

use crate::batch::array;
use crate::errors::guarded;

/// The policy of a checkpoint, in one of its tasks.
#[pyclass(module = "pwm_rl._core")]
pub struct Policy {
    stored: StoredPolicy,
    task: Task,
    /// With room for [`ROOM`] observations. Its threads are those of the process that made it.
    actor: ManuallyDrop<Actor<f32>>,
    process: u32,
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            // SAFETY: it is not used after this.
            unsafe { ManuallyDrop::drop(&mut self.actor) }
        }
    }
}

/// Observations at once.
const ROOM: usize = 16;

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
        let actor = stored.actor(name, task.sizes, ROOM)?;
        Ok(Self { stored, task, actor: ManuallyDrop::new(actor), process: std::process::id() })
    }

    fn mean_actions(&mut self, obs: &[f32], width: usize, rows: usize) -> anyhow::Result<Vec<f32>> {
        let s = self.task.sizes;
        anyhow::ensure!(
            width == s.obs,
            Misused::new(format!("an observation of {width} numbers; {} shows {}", self.task.spec.name, s.obs))
        );
        if self.process != std::process::id() {
            // After a fork the threads are not there, nor to be waited for: the old one stays.
            self.actor = ManuallyDrop::new(self.stored.actor(&self.task.spec.name, s, ROOM)?);
            self.process = std::process::id();
        }
        let mut actions = Vec::with_capacity(rows * s.act);
        // Always as many at once: with another number products would round otherwise.
        for part in obs.chunks(ROOM * width.max(1)) {
            actions.extend(self.actor.act(part, width, part.len() / width, s.act)?);
        }
        Ok(actions)
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
        if !obs.is_c_contiguous() {
            return Err(guarded::<()>(|| Err(Misused::new("observations in the order of rows").into()))
                .unwrap_err()
                .into());
        }
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
