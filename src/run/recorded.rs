//! What a configuration takes from files that others wrote: the tasks of recorded episodes, and a world model to begin
//! with. A run's folder keeps what was found, so that it goes on without asking again.

use crate::algo::pwm::recorded::open;
use crate::config::{Broken, Config, ConfigError, ConfigErrors, Mode, nearest};
use crate::env;
use crate::io::checkpoint::{Checkpoint, CheckpointError};
use crate::io::episodes::{DataError, Index};
use crate::run::folder::{self, RunFolder};
use crate::run::state;
use globset::Glob;
use std::path::{Path, PathBuf};

/// Why a configuration cannot be completed.
#[derive(Debug, thiserror::Error)]
pub enum RecordedError {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Model(#[from] CheckpointError),
}

fn broken(keys: &[&'static str], problem: String, remedy: &str) -> RecordedError {
    let rule = Broken { keys: keys.to_vec(), problem, remedy: remedy.into() };
    RecordedError::Config(ConfigError::Rule { rule, from: vec![] }.into())
}

/// The configuration with its tasks written out. Reads indices and a checkpoint's description; computes nothing.
pub fn complete(c: Config) -> Result<Config, RecordedError> {
    if c.mode != Mode::Train && c.data.is_empty() {
        return Err(broken(
            &["mode", "data"],
            format!("mode={} learns from recorded episodes, and data names none", c.mode),
            "set data to an index: pwm data index FOLDER --out FILE.idx",
        ));
    }
    if c.mode == Mode::Policy && c.model.is_empty() {
        return Err(broken(
            &["mode", "model"],
            "mode=policy learns in a world model that is there, and model names none".into(),
            "set model to the folder of a run with mode=pretrain, or to a checkpoint",
        ));
    }
    let mut c = match c.mode {
        Mode::Train => return with_model(c),
        Mode::Pretrain => with_new_tasks(of_data(c)?)?,
        Mode::Policy => with_model(c)?,
    };
    c.validate()?;
    env::check(&c)?;
    c.data_id = open(&c)?.id();
    check(&c)?;
    Ok(c)
}

/// Whether the recorded episodes of a configuration are there, and are what it says.
pub fn check(c: &Config) -> Result<(), RecordedError> {
    if c.mode == Mode::Train {
        return Ok(());
    }
    let store = open(c)?;
    if store.id() != c.data_id {
        return Err(broken(
            &["data"],
            format!("the episodes of {} are not those that the run began with", c.data.join(", ")),
            "give the index of those, wherever it is now, or start a new run",
        ));
    }
    let shortest = store.shortest();
    if c.horizon >= shortest {
        return Err(broken(
            &["horizon", "data"],
            format!("horizon={} steps do not fit into recorded episodes of {} steps", c.horizon, shortest - 1),
            &format!("set horizon to at most {}", shortest - 1),
        ));
    }
    // A row must hold what the environments show and take.
    let sizes = env::task_sizes(c);
    for (i, task) in store.tasks().iter().enumerate() {
        let name = |t: &(String, usize, usize)| t.0 == task.name;
        let Some((_, obs, act)) = sizes.iter().find(|t| name(t)) else { continue };
        let (stored_obs, stored_act) = store.widths(store.episode(i, 0));
        if stored_obs < *obs || stored_act < *act {
            return Err(broken(
                &["data"],
                format!(
                    "`{}` shows {obs} numbers and takes {act}; the data have {stored_obs} and {stored_act}",
                    task.name
                ),
                "take data that were recorded in this environment",
            ));
        }
    }
    Ok(())
}

/// The tasks of the data that are meant, in the order of their numbers.
fn of_data(mut c: Config) -> Result<Config, RecordedError> {
    let mut known: Vec<(u32, String)> = vec![];
    let (mut shortest, mut shown) = (usize::MAX, vec![]);
    for path in &c.data {
        let index = Index::load(Path::new(path))?;
        shortest = index.files.iter().map(|f| f.chunk.rows - 1).fold(shortest, usize::min);
        for t in index.tasks {
            if !known.iter().any(|(_, name)| *name == t.name) {
                known.push((t.number, t.name.clone()));
            }
            shown.push(t);
        }
    }
    known.sort();
    let mut tasks: Vec<String> = vec![];
    for pattern in &c.tasks {
        let glob = Glob::new(pattern)
            .map_err(|e| broken(&["tasks"], format!("`{pattern}` is no pattern of names: {e}"), "name tasks"))?;
        let matcher = glob.compile_matcher();
        let found: Vec<&String> = known.iter().map(|(_, name)| name).filter(|n| matcher.is_match(n)).collect();
        if found.is_empty() {
            let names: Vec<&str> = known.iter().map(|(_, name)| name.as_str()).collect();
            let near = nearest(pattern, names.iter().copied()).map_or(String::new(), |n| format!("; did you mean {n}"));
            return Err(broken(
                &["tasks", "data"],
                format!("`{pattern}` is none of the tasks of the data{near}"),
                &format!("they are {}", names.join(", ")),
            ));
        }
        tasks.extend(found.into_iter().filter(|n| !tasks.contains(n)).cloned().collect::<Vec<_>>());
    }
    if c.tasks.is_empty() {
        tasks = known.iter().map(|(_, name)| name.clone()).collect();
    }
    c.env = if let [one] = &tasks[..] { one.clone() } else { format!("[{}]", tasks.join(", ")) };
    c.tasks = tasks;
    // No window is longer.
    c.episode_length = shortest;
    // What is ever shown or done in the data may not be more than the environments have.
    for (name, obs, act) in env::task_sizes(&c) {
        for t in shown.iter().filter(|t| t.name == name) {
            if t.not_finite > 0 {
                return Err(broken(
                    &["data"],
                    format!("`{name}` has {} recorded numbers that are not finite", t.not_finite),
                    "leave the task out (tasks=[...]), or record it anew",
                ));
            }
            if t.obs > obs || t.action > act {
                return Err(broken(
                    &["data"],
                    format!(
                        "`{name}` shows {obs} numbers and takes {act}; the data have numbers up to {} and {}",
                        t.obs, t.action
                    ),
                    "take data that were recorded in this environment",
                ));
            }
        }
    }
    Ok(c)
}

/// What kind of a model tasks are taught to that go beyond its own; if a run begins with one.
fn with_new_tasks(c: Config) -> Result<Config, RecordedError> {
    if c.model.is_empty() {
        return Ok(c);
    }
    let stored = Checkpoint::load(&checkpoint_of(&c))?;
    let model = state::config_of(&stored)??;
    let known = model.model_tasks();
    if !c.task_init.is_empty() && !known.contains(&c.task_init) {
        let near = nearest(&c.task_init, known.iter().map(String::as_str));
        return Err(broken(
            &["task_init", "model"],
            format!(
                "`{}` is none of the model's tasks{}",
                c.task_init,
                near.map_or(String::new(), |n| format!("; did you mean {n}"))
            ),
            &format!("they are {}", known.join(", ")),
        ));
    }
    let mut c = c.with_model_of(&model);
    // It keeps what it knows, and learns from what there is data of.
    let new: Vec<String> = c.tasks.iter().filter(|t| !known.contains(t)).cloned().collect();
    if known.len() == 1 && !new.is_empty() {
        return Err(broken(
            &["model", "data"],
            format!("the model is of {} alone and has no embeddings to tell {} from it", known[0], new.join(", ")),
            "learn a model of all of them: leave `model` out",
        ));
    }
    c.tasks = known.into_iter().chain(new).collect();
    let (before, now) = (env::dims(&model), env::dims(&c));
    if before != now {
        return Err(broken(
            &["model", "data"],
            format!(
                "the new tasks show up to {} numbers and take up to {}, the model has room for {} and {}",
                now.0, now.1, before.0, before.1
            ),
            "learn a model of all of them: leave `model` out",
        ));
    }
    Ok(c)
}

/// The tasks of the model that a run begins with, and what kind of a model it is; if it begins with one.
fn with_model(mut c: Config) -> Result<Config, RecordedError> {
    if c.model.is_empty() {
        return Ok(c);
    }
    let stored = Checkpoint::load(&checkpoint_of(&c))?;
    let model = state::config_of(&stored)??;
    // What it is, it brings along.
    c = c.with_model_of(&model);
    let (own, theirs) = (c.model_tasks(), model.model_tasks());
    if (c.mode == Mode::Train || !c.tasks.is_empty()) && own != theirs {
        return Err(broken(
            &["model", "tasks"],
            format!("the model knows {}, and this run names {}", theirs.join(", "), own.join(", ")),
            "leave tasks out, or take another model",
        ));
    }
    if c.mode == Mode::Train {
        return Ok(c);
    }
    let names = c.env_names();
    if names.len() > 1 {
        return Err(broken(
            &["mode", "env"],
            format!("mode=policy learns one task, and env names {}", names.len()),
            &format!("train each: pwm-train --multirun env={}", c.env),
        ));
    }
    if !theirs.contains(&names[0]) {
        let near = nearest(&names[0], theirs.iter().map(String::as_str));
        return Err(broken(
            &["env", "model"],
            format!(
                "`{}` is none of the model's tasks{}",
                names[0],
                near.map_or(String::new(), |n| format!("; did you mean {n}"))
            ),
            &format!("they are {}", theirs.join(", ")),
        ));
    }
    if theirs.len() > 1 {
        c.tasks = theirs;
    }
    Ok(c)
}

/// The checkpoint that `model` means: a file, or of a run's folder the best, else the latest.
pub fn checkpoint_of(c: &Config) -> PathBuf {
    let path = PathBuf::from(&c.model);
    if !RunFolder::holds_run(&path) {
        return path;
    }
    let best = folder::best(&path);
    if best.is_file() { best } else { folder::latest(&path) }
}
