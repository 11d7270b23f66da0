//! `incidents.jsonl`: what happened to a run besides training. One object a line:
//!
//! ```text
//! {"epoch":1200,"step":1228800,"kind":"rollback","text":"2 evaluations below half of 1311 ..."}
//! ```
//!
//! The file is rewritten whole at each incident (there are few), so it is never torn. A checkpoint stores how many of
//! the lines belong to its history; a run resumed from it drops the others, whose epochs it will live through again.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::io::atomic::{self, FileError};

/// The file's name in a run folder.
pub const FILE_NAME: &str = "incidents.jsonl";

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentKind {
    /// Evaluations collapsed.
    Collapse,
    /// The state was put back to an earlier one.
    Rollback,
    /// A number was infinite or not a number.
    NonFinite,
    /// No better evaluation for a while: the run ended.
    EarlyStop,
}

impl IncidentKind {
    /// In words, for a picture.
    pub fn name(self) -> &'static str {
        match self {
            IncidentKind::Collapse => "collapse",
            IncidentKind::Rollback => "rollback",
            IncidentKind::NonFinite => "not finite",
            IncidentKind::EarlyStop => "early stop",
        }
    }
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Epochs done when it was noticed.
    pub epoch: u64,
    /// Environment steps done.
    pub step: u64,
    /// What kind.
    pub kind: IncidentKind,
    /// What was said about it.
    pub text: String,
}

/// All incidents of a run folder, oldest first; none if there is no file. Lines that are not incidents are left out.
pub fn read(run: &Path) -> Result<Vec<Incident>, FileError> {
    let path = run.join(FILE_NAME);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(vec![]),
        Err(e) => Err(FileError::new(&path, "reading it", e)),
    }
}

/// Replaces the file.
pub fn write(run: &Path, incidents: &[Incident]) -> Result<(), FileError> {
    let lines = incidents.iter().map(|i| serde_json::to_string(i).expect("strings and numbers are JSON") + "\n");
    atomic::replace_bytes(&run.join(FILE_NAME), lines.collect::<String>().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), []);
        let i = Incident { epoch: 3, step: 30, kind: IncidentKind::NonFinite, text: "a \"quote\"\n".into() };
        write(dir.path(), &[i.clone(), i.clone()]).unwrap();
        assert_eq!(read(dir.path()).unwrap(), [i.clone(), i]);
    }
}
