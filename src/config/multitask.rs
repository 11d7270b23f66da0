//! Files of runs of many tasks, as the published code and its fork write them.
//!
//! Which tasks there are, and how large, such a file leaves to be filled in later; here the environments or the data say
//! it. Read as a run of one task, it would train something else than it says: so it wants several environments, or data.

use super::error::{ConfigError, ConfigErrors, SourceLocation};
use super::value::Value;
use super::yaml::{Setting, key_places};

/// Settings that only a run of many tasks has, in whatever group they stand.
const NAMES: [&str; 4] = ["multitask", "tasks", "task_dim", "action_dims"];

/// What a file says of many tasks.
#[derive(Clone, Debug)]
pub(super) struct ManyTasks {
    /// Each setting with its place and value.
    found: Vec<(String, SourceLocation, Value)>,
}

impl ManyTasks {
    /// What a file says of many tasks; none of a file of one task. `text` is what the settings were read from.
    pub fn of(name: &str, text: &str, settings: &[Setting]) -> Option<Self> {
        let mut found = vec![];
        for setting in settings {
            collect(&setting.name, &setting.value, &mut found);
        }
        // A file that says it has one task may keep the width of an embedding it does not use.
        let one = found.iter().any(|(path, value)| last(path) == "multitask" && **value == Value::Bool(false));
        found.retain(|(path, value)| asks(last(path), value) && !(one && last(path) == "task_dim"));
        // Settings of this program, which say nothing of the kind by themselves.
        let own = |path: &str| ["tasks", "task_dim"].contains(&path);
        let is_fork = super::fork::is_one(settings) || found.iter().any(|(path, _)| !own(path));
        if !is_fork && !found.iter().any(|(_, value)| is_open(value)) {
            return None;
        }
        let places = key_places(name, text);
        let unknown = SourceLocation::File { name: name.into(), line: 0, column: 0 };
        let place = |path: &str| places.iter().find(|(p, _)| p == path).map_or(&unknown, |(_, place)| place).clone();
        let found: Vec<_> =
            found.into_iter().map(|(path, value)| (path.clone(), place(&path), value.clone())).collect();
        (!found.is_empty()).then_some(Self { found })
    }

    /// Refuses what the file says of tasks and sizes that are derived; `is_algorithm` says whether it is the file of an
    /// algorithm, and not the top of a run of that code.
    pub fn check(&self, is_algorithm: bool) -> Result<(), ConfigErrors> {
        for (path, place, value) in self.found.iter().filter(|(_, _, value)| !is_open(value)) {
            let wrong = |what: &str| ConfigError::Syntax {
                place: place.clone(),
                message: format!("`{path}={value}`: {what}\n  remove this line, {}", line(place)),
            };
            match last(path) {
                "action_dims" => {
                    return Err(wrong("sizes of actions are those of the environments, or of the data's tasks").into());
                }
                "tasks" if is_algorithm => {
                    return Err(wrong(
                        "tasks are named by env=[...], or are those of the data, of which tasks=[...] takes some",
                    )
                    .into());
                }
                _ => {}
            }
        }
        if is_algorithm { Ok(()) } else { Err(self.refusal("").into()) }
    }

    /// That a run of one task cannot take this file.
    pub fn refusal(&self, env: &str) -> ConfigError {
        let settings =
            self.found.iter().map(|(path, place, value)| (number(place), format!("{path}={value}"))).collect();
        ConfigError::ManyTasks { place: self.found[0].1.clone(), settings, env: env.into() }
    }
}

fn number(place: &SourceLocation) -> u64 {
    if let SourceLocation::File { line, .. } = place { *line } else { 0 }
}

fn line(place: &SourceLocation) -> String {
    format!("line {}", number(place))
}

/// The settings of interest with their groups, as `group.name`.
fn collect<'a>(path: &str, value: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    if NAMES.contains(&last(path)) {
        found.push((path.into(), value));
    } else if let Value::Map(inside) = value {
        inside.iter().for_each(|(name, value)| collect(&format!("{path}.{name}"), value, found));
    }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// Whether a value is to be filled in later.
fn is_open(value: &Value) -> bool {
    matches!(value, Value::Text(t) if t == "???" || t.contains("${")) || *value == Value::Bool(true)
}

/// Whether a value says that there is more than one task. What is to be filled in later (`???`) does.
fn asks(name: &str, value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Int(n) => name != "task_dim" || *n > 0,
        Value::Float(x) => name != "task_dim" || *x > 0.0,
        Value::List(list) => !list.is_empty(),
        Value::Text(_) | Value::Map(_) => true,
    }
}
