//! A stored policy: the file that a path means, and the policy in it, ready to act.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::ensure;

use super::misused;
use crate::algo::Actor;
use crate::config::Config;
use crate::env::EnvSizes;
use crate::io::checkpoint::Checkpoint;
use crate::run::{folder, state};

/// A checkpoint that holds a policy.
#[derive(Debug)]
pub struct StoredPolicy {
    pub path: PathBuf,
    pub checkpoint: Checkpoint,
    pub config: Config,
}

impl StoredPolicy {
    /// Of a checkpoint, or of a run's folder: then its best one. Only the policy will be used: damage to the rest of the
    /// file is a warning.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let path = checkpoint_in(path)?;
        let checkpoint = Checkpoint::salvage(&path)?.with_policy()?;
        if let Some(loss) = checkpoint.loss() {
            let _ = writeln!(std::io::stderr(), "warning: {}: {loss}; only its policy is used", path.display());
        }
        let config = state::config_of(&checkpoint)??;
        ensure!(
            config.is_played(),
            misused(format_args!(
                "{}: it holds a model without a policy; learn one in it: pwm-train mode=policy model=...",
                path.display()
            ))
        );
        Ok(Self { path, checkpoint, config })
    }

    /// The epoch that it is of.
    pub fn epoch(&self) -> anyhow::Result<u64> {
        Ok(state::epoch_of(&self.checkpoint)?)
    }

    /// The policy in a task of this name and these sizes, on at most `rows` observations at once.
    pub fn actor(&self, task: &str, sizes: EnvSizes, rows: usize) -> anyhow::Result<Actor<f32>> {
        let names = self.config.env_names();
        let path = self.path.display();
        ensure!(
            self.config.model_tasks().len() == 1 || names.iter().any(|n| n == task),
            misused(format_args!("{path}: the policy is for {}, not for {task}", names.join(", ")))
        );
        let mut actor = Actor::new(&self.config, task, rows)?;
        ensure!(
            actor.obs_dim >= sizes.obs && actor.act_dim >= sizes.act,
            misused(format_args!(
                "{path}: the policy sees {} numbers and makes {}; {task} shows {} and takes {}",
                actor.obs_dim, actor.act_dim, sizes.obs, sizes.act
            ))
        );
        state::restore_networks(&mut actor.machine, &self.checkpoint)?;
        Ok(actor)
    }
}

/// The checkpoint that a path means.
pub(super) fn checkpoint_in(path: &Path) -> anyhow::Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.into());
    }
    let files = [folder::best(path), folder::latest(path)];
    let none = || {
        let path = path.display();
        misused(format_args!("{path}: no checkpoint in this folder; give the folder of a run, or a .safetensors file"))
    };
    files.into_iter().find(|f| f.is_file()).ok_or_else(|| none().into())
}
