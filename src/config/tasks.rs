//! Which tasks a run has: those that `env` names, and those that its world model knows.
//!
//! `env` is one environment, a set of them (`mt30`) or a list (`[walker-*, reacher-easy]`). Sizes, masks and lengths of
//! episodes are always those of the environments; no setting says them a second time.

use super::error::{ConfigError, ConfigErrors, SourceLocation};
use super::key::{Key, KeySection};
use super::names::nearest;
use super::schema::Config;
use super::shipped::{Shipped, ShippedKind};
use globset::Glob;
use std::ops::Range;

impl Config {
    /// The environments that are played, by name: one, those of a set, or those of a list.
    pub fn env_names(&self) -> Vec<String> {
        match (list(&self.env), Shipped::set(&self.env)) {
            (Some(names), _) => names,
            (None, Some(names)) => names.into_iter().map(str::to_owned).collect(),
            (None, None) => vec![self.env.clone()],
        }
    }

    /// The tasks of the world model, in the order of its embeddings.
    pub fn model_tasks(&self) -> Vec<String> {
        if self.tasks.is_empty() { self.env_names() } else { self.tasks.clone() }
    }

    /// The numbers, among [`Config::model_tasks`], of the tasks that are played.
    ///
    /// # Panics
    /// If the model does not know them, which no configuration that was checked says.
    pub fn played(&self) -> Range<usize> {
        let (names, all) = (self.env_names(), self.model_tasks());
        let first = if all.len() == names.len() { Some(0) } else { all.iter().position(|t| *t == names[0]) };
        let first = first.expect("invariant: the model knows the tasks that are played");
        first..first + names.len()
    }

    /// The configuration of one of the environments that are played. Where there are several, settings of environments
    /// are those of its file.
    pub fn of_env(&self, name: &str) -> Config {
        if self.env_names().len() == 1 {
            return self.clone();
        }
        let mut config = self.with_defaults(is_of_each);
        config.env = name.to_owned();
        config.spec = None;
        // One that is only data has no file.
        let Some(shipped) = Shipped::find(ShippedKind::Env, name) else { return config };
        let settings = shipped.settings().unwrap_or_else(|e| panic!("invariant: shipped files are valid: {e}"));
        for s in settings.iter().filter(|s| Key::find(&s.name).is_some_and(is_of_each)) {
            assert!(config.set(&s.name, &s.value), "invariant: shipped files are valid: {}", s.name);
        }
        config
    }
}

/// Whether each of several environments has a setting for itself.
pub(super) fn is_of_each(key: &Key) -> bool {
    let of_all = ["num_envs", "mujoco_version", "env", "spec", "tasks"];
    key.section == KeySection::Env && !of_all.contains(&key.name)
}

/// The entries of `[a, b]`.
fn list(text: &str) -> Option<Vec<String>> {
    let inside = text.trim().strip_prefix('[')?.strip_suffix(']')?;
    Some(inside.split(',').map(|name| name.trim().trim_matches(['"', '\'']).to_owned()).collect())
}

/// The environments of a run that names several, each once; none if it names one.
pub(super) fn several(text: &str, place: &SourceLocation) -> Result<Option<Vec<String>>, ConfigErrors> {
    let wrong = |message: String| ConfigErrors::from(ConfigError::Syntax { place: place.clone(), message });
    let Some(names) = list(text).or_else(|| Shipped::set(text).map(|_| vec![text.to_owned()])) else { return Ok(None) };
    let found = matching(names).map_err(wrong)?;
    let known = Shipped::names(ShippedKind::Env);
    for name in &found {
        if !known.contains(&name.as_str()) {
            let near = nearest(name, known.iter().copied()).map_or(String::new(), |n| format!("; did you mean {n}"));
            return Err(wrong(format!(
                "`{name}` is no shipped environment{near}\n  several environments of one run are shipped ones"
            )));
        }
    }
    Ok(Some(found))
}

/// Shipped environments by the name of a set, or by a pattern of names; others as they are. Each once.
pub(super) fn matching(values: Vec<String>) -> Result<Vec<String>, String> {
    let mut all = vec![];
    for value in values {
        let is_list = value.starts_with('[') && value.ends_with(']');
        let is_pattern = value.contains(['*', '?', '[']) && !value.contains(['/', '.']) && !is_list;
        let matched = match Shipped::set(&value) {
            None if is_pattern => {
                let glob =
                    Glob::new(&value).map_err(|e| format!("`{value}` is no pattern of names: {e}"))?.compile_matcher();
                let found: Vec<_> = Shipped::names(ShippedKind::Env).into_iter().filter(|n| glob.is_match(n)).collect();
                if found.is_empty() {
                    return Err(format!("no shipped environment is called like `{value}`"));
                }
                Some(found)
            }
            found => found,
        };
        let found = matched.map_or_else(|| vec![value], |names| names.into_iter().map(str::to_owned).collect());
        let new: Vec<String> = found.into_iter().filter(|name| !all.contains(name)).collect();
        all.extend(new);
    }
    Ok(all)
}
