//! What can be wrong with a configuration, and how it is said.
//!
//! Every message names the place (file, line and column, or the text of the override), what is wrong, and what to do.
//! All that is wrong is reported at once, in the order in which it was met.

use std::{fmt, io, path::PathBuf};

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceLocation {
    /// The built-in default.
    Default,
    /// Line and column count from 1.
    File { name: String, line: u64, column: u64 },
    /// The text `key=value` of the command line.
    Override(String),
}

impl fmt::Display for SourceLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceLocation::Default => f.write_str("the default"),
            SourceLocation::File { name, line: 0, .. } => f.write_str(name),
            SourceLocation::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            SourceLocation::Override(text) => write!(f, "override `{text}`"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{place}: there is no setting `{key}`\n  {help}")]
    UnknownKey { place: SourceLocation, key: String, help: String },

    #[error("{place}: `{key}` cannot be {value}\n  allowed: {allowed}{}", did_you_mean(.suggestion))]
    WrongValue { place: SourceLocation, key: String, value: String, allowed: String, suggestion: Option<String> },

    #[error("{place}: `{key}` is set twice\n  it was already set at {first}; keep one of the two")]
    Twice { place: SourceLocation, key: String, first: SourceLocation },

    #[error("{place}: {message}")]
    Syntax { place: SourceLocation, message: String },

    #[error("{place}: an override is written key=value, as in `seed=3`{}", did_you_mean(.suggestion))]
    NotAnOverride { place: SourceLocation, suggestion: Option<String> },

    #[error("{place}: there is no shipped {kind} configuration `{name}`\n  shipped: {known}; a file of your own is \
             given by a path ending in .yaml{}", did_you_mean(.suggestion))]
    UnknownName { place: SourceLocation, kind: &'static str, name: String, known: String, suggestion: Option<String> },

    #[error("cannot read {}: {source}\n  check the path; the shipped configurations are: {known}", .path.display())]
    Unreadable { path: PathBuf, source: io::Error, known: String },

    /// A file of a run of many tasks: the settings that make it one, and their places.
    #[error("{place}: this is a run of many tasks{}: {}\n  name them, as env=mt30 or env=[walker-run,reacher-easy]; or \
             learn from recorded episodes, mode=pretrain data=FILE.idx; for a run of one task set multitask to False \
             and task_dim to 0, and leave tasks and action_dims out", and_one(.env), with_lines(.settings))]
    ManyTasks { place: SourceLocation, settings: Vec<(u64, String)>, env: String },

    /// Settings that are each allowed and do not go together.
    #[error("{rule}{}", origins(.from))]
    Rule { rule: Broken, from: Vec<(&'static str, SourceLocation)> },
}

/// A rule between settings that does not hold, as validation finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The settings it is about, the one to change first.
    pub keys: Vec<&'static str>,
    /// What is wrong, with the numbers.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  {}", self.problem, self.remedy)
    }
}

/// Everything that is wrong; never empty.
#[derive(Debug)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        ConfigErrors(vec![error])
    }
}

impl From<Box<ConfigError>> for ConfigErrors {
    fn from(error: Box<ConfigError>) -> Self {
        ConfigErrors(vec![*error])
    }
}

/// That the environment is one.
fn and_one(env: &str) -> String {
    if env.is_empty() { String::new() } else { format!(", and env={env} is one") }
}

fn with_lines(settings: &[(u64, String)]) -> String {
    let parts: Vec<_> = settings.iter().map(|(line, setting)| format!("`{setting}` (line {line})")).collect();
    parts.join(", ")
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map_or(String::new(), |s| format!("\n  did you mean `{s}`?"))
}

fn origins(from: &[(&'static str, SourceLocation)]) -> String {
    if from.iter().all(|(_, place)| *place == SourceLocation::Default) {
        return String::new();
    }
    let parts: Vec<String> = from.iter().map(|(key, place)| format!("`{key}` from {place}")).collect();
    format!("\n  {}", parts.join(", "))
}
