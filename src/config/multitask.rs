//! Files of runs of many tasks: refused, because a run has one.
//!
//! Read as a run of one task, such a file would train something else than it says.

use super::error::{ConfigError, SourceLocation};
use super::value::Value;
use super::yaml::{Setting, key_places};

/// Settings that only a run of many tasks has, in whatever group they stand.
const NAMES: [&str; 4] = ["multitask", "tasks", "task_dim", "action_dims"];

/// The refusal of a file that asks for many tasks; none for a file of one task. `text` is what the settings were read
/// from.
pub(super) fn refusal(name: &str, text: &str, settings: &[Setting]) -> Option<ConfigError> {
    let mut found = vec![];
    for setting in settings {
        collect(&setting.name, &setting.value, &mut found);
    }
    // A file that says it has one task may keep the width of an embedding it does not use.
    let one = found.iter().any(|(path, value)| last(path) == "multitask" && **value == Value::Bool(false));
    found.retain(|(path, value)| asks(last(path), value) && !(one && last(path) == "task_dim"));
    let places = key_places(name, text);
    let unknown = SourceLocation::File { name: name.into(), line: 0, column: 0 };
    let place = |path: &str| places.iter().find(|(p, _)| p == path).map_or(&unknown, |(_, place)| place);
    let line = |path: &str| if let SourceLocation::File { line, .. } = place(path) { *line } else { 0 };
    let first = place(&found.first()?.0).clone();
    let settings = found.iter().map(|(path, value)| (line(path), format!("{path}={value}"))).collect();
    Some(ConfigError::ManyTasks { place: first, settings })
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
