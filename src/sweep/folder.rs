//! The folder of a sweep, and its description.
//!
//! ```text
//! sweep_dir/
//!   sweep.json      the members with their settings; what failed, and why
//!   sweep.lock      held by the process that starts the members
//!   MEMBER/         the run folder of each, with what it printed in output.log; why it failed in failure.json, where a
//!                   task of a job array started it
//!   report/         all of them on one page
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::io::atomic::{self, FileError};
use crate::run::folder::{FolderError, RunFolder, is_locked, lock, utc_now};

/// The description of a sweep.
const FILE_NAME: &str = "sweep.json";
/// Why a member failed, in its folder.
const FAILURE: &str = "failure.json";
const LOCK: &str = "sweep.lock";
/// Where the report of a sweep is written, in its folder.
pub const REPORT: &str = "report";
/// Version of the description.
const SCHEMA: u32 = 1;

/// What can go wrong with a sweep.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// A file or a lock.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// There is no description.
    #[error("{path}: holds no sweep (no {FILE_NAME}); start one with `pwm-train --multirun run_dir={path} ...`", path = .0.display())]
    NoSweep(PathBuf),
    /// The folder is a run's.
    #[error("{path}: holds a single run; choose another folder for the sweep with `run_dir=...`", path = .0.display())]
    IsRun(PathBuf),
    /// A description of a later build.
    #[error("{path}: is of a later build (schema {schema}, this one reads {SCHEMA}); use that build", path = path.display())]
    Later {
        /// The file.
        path: PathBuf,
        /// Its version.
        schema: u32,
    },
    /// A member was begun with other settings than the command gives.
    #[error(
        "{path}: its member {name} was begun with other settings: {what}. Give those, or another folder with `run_dir=...`",
        path = path.display()
    )]
    Changed {
        /// The sweep's folder.
        path: PathBuf,
        /// The member.
        name: String,
        /// Each setting with both values.
        what: String,
    },
    /// Two members that would learn the same.
    #[error(
        "members {0} and {1} are the same run: they differ in nothing that changes a result; leave one of them out"
    )]
    Twice(String, String),
    /// The job array was not accepted.
    #[error("the job array was not submitted: {0}")]
    Submit(std::io::Error),
    /// There is no such member.
    #[error("{path}: has no member {place}", path = path.display())]
    NoMember {
        /// The sweep's folder.
        path: PathBuf,
        /// Its place.
        place: usize,
    },
    /// Some members failed.
    #[error("{failed} of {of} members failed:\n{list}\n  the same command with --retry tries them again")]
    Failed {
        /// How many.
        failed: usize,
        /// Of how many.
        of: usize,
        /// A line for each.
        list: String,
        /// The exit status: theirs, where they agree.
        status: u8,
    },
    /// Stopped, and some members did not get to the end of an epoch.
    #[error(
        "stopped by {signal}: {members} members were ended inside an epoch or evaluation, their last checkpoints are \
         whole; the same command goes on"
    )]
    CutShort {
        /// What stopped the sweep.
        signal: &'static str,
        /// How many members.
        members: usize,
        /// The exit status: theirs.
        status: u8,
    },
}

impl SweepError {
    /// The exit status that goes with it; none where it says nothing better than 1.
    pub fn status(&self) -> Option<u8> {
        match self {
            Self::Folder(e) => crate::run::status::reason(e),
            Self::Later { .. } => Some(4),
            Self::Submit(_) => None,
            Self::NoMember { .. } => Some(2),
            Self::Changed { .. } | Self::Twice(..) | Self::NoSweep(_) | Self::IsRun(_) => Some(2),
            Self::Failed { status, .. } | Self::CutShort { status, .. } => Some(*status),
        }
    }
}

/// The contents of `sweep.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SweepInfo {
    /// Version of this layout.
    pub schema: u32,
    /// Version of the program that wrote it, and the commit that was built from.
    pub pwm_version: String,
    /// See `pwm_version`.
    pub commit: String,
    /// When the sweep was first started, UTC.
    pub created: String,
    /// When this file was written, UTC.
    pub updated: String,
    /// What started the members.
    pub launcher: String,
    /// The settings that members are named by.
    pub axes: Vec<String>,
    /// How the last sitting ended; none while it goes on, and after a crash.
    pub ended: Option<SweepEnded>,
    /// The members in the order in which they are started.
    pub members: Vec<MemberInfo>,
}

/// A member as `sweep.json` has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemberInfo {
    /// Its folder inside the sweep's.
    pub name: String,
    /// Its settings `key=value`.
    pub overrides: Vec<String>,
    /// How it failed, if it did when it was last tried.
    pub failure: Option<Failure>,
    /// The task of a job array that it was last submitted as.
    pub job: Option<String>,
    /// What all its settings came to then, as a number: files that they name may be others when the task begins.
    pub settings: Option<String>,
}

/// How a member failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// Its exit status; none if it was killed or could not be started.
    pub status: Option<u8>,
    /// The signal that killed it.
    pub signal: Option<String>,
    /// In words.
    pub reason: String,
    /// When, UTC.
    pub at: String,
}

/// How a sitting of a sweep ended, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepEnded {
    /// In one word.
    pub kind: SweepEnd,
    /// The exit status.
    pub status: u8,
}

/// What ended a sitting of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SweepEnd {
    /// Every member is over.
    Finished,
    /// The same, but some failed.
    Failed,
    /// SIGINT, SIGTERM or SIGUSR1, to the sweep or to a member: one or more go on another time.
    Signal,
    /// A word of a later build.
    #[serde(other)]
    Other,
}

/// Whether a folder is a sweep's.
pub fn is_sweep(folder: &Path) -> bool {
    folder.join(FILE_NAME).is_file()
}

/// Whether a process starts members there.
pub fn is_alive(folder: &Path) -> bool {
    is_locked(folder, LOCK).unwrap_or_else(|| read(folder).is_ok_and(|s| s.ended.is_none()))
}

/// Reads a sweep's description; for readers, who need no lock.
pub fn read(folder: &Path) -> Result<SweepInfo, SweepError> {
    let path = folder.join(FILE_NAME);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(SweepError::NoSweep(folder.into())),
        Err(e) => return Err(FolderError::from(FileError::new(&path, "reading it", e)).into()),
    };
    let read = serde_json::from_slice::<SweepInfo>(&text);
    let info = read.map_err(|e| FolderError::BadInfo { path: path.clone(), what: e.to_string() })?;
    if info.schema > SCHEMA { Err(SweepError::Later { path, schema: info.schema }) } else { Ok(info) }
}

/// Notes in a member's folder why it failed.
pub fn write_failure(run: &Path, failure: &Failure) -> Result<(), SweepError> {
    let path = run.join(FAILURE);
    let text = serde_json::to_string_pretty(failure);
    let text = text.map_err(|e| FolderError::BadInfo { path: path.clone(), what: e.to_string() })?;
    std::fs::create_dir_all(run).map_err(|e| FolderError::from(FileError::new(run, "creating the folder", e)))?;
    Ok(atomic::replace_bytes(&path, text.as_bytes()).map_err(FolderError::from)?)
}

/// Why a member failed, if its folder says so.
pub fn read_failure(run: &Path) -> Option<Failure> {
    serde_json::from_slice(&std::fs::read(run.join(FAILURE)).ok()?).ok()
}

/// Takes that note away: the member is tried again.
pub fn forget_failure(run: &Path) -> Result<(), SweepError> {
    let path = run.join(FAILURE);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(FolderError::from(FileError::new(&path, "removing it", e)).into())
        }
        _ => Ok(()),
    }
}

/// The folder of a sweep that this process alone starts members in, until the value is dropped.
#[derive(Debug)]
pub struct SweepFolder {
    path: PathBuf,
    _lock: File,
}

impl SweepFolder {
    /// Takes the folder, which is made where it is not there.
    pub fn take(path: &Path) -> Result<Self, SweepError> {
        if RunFolder::holds_run(path) {
            return Err(SweepError::IsRun(path.into()));
        }
        std::fs::create_dir_all(path).map_err(|e| FolderError::from(FileError::new(path, "creating the folder", e)))?;
        Ok(Self { path: path.into(), _lock: lock(path, LOCK)? })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The sweep that is there; none in a new folder.
    pub fn read(&self) -> Result<Option<SweepInfo>, SweepError> {
        if is_sweep(&self.path) { read(&self.path).map(Some) } else { Ok(None) }
    }

    /// Rewrites the description, whole or not at all.
    pub fn write(&self, info: &SweepInfo) -> Result<(), SweepError> {
        let path = self.path.join(FILE_NAME);
        let now = utc_now();
        let info = SweepInfo {
            schema: SCHEMA,
            pwm_version: env!("CARGO_PKG_VERSION").into(),
            commit: crate::version::commit().into(),
            created: if info.created.is_empty() { now.clone() } else { info.created.clone() },
            updated: now,
            ..info.clone()
        };
        let mut text = serde_json::to_string_pretty(&info)
            .map_err(|e| FolderError::BadInfo { path: path.clone(), what: e.to_string() })?;
        text.push('\n');
        atomic::replace_bytes(&path, text.as_bytes()).map_err(FolderError::from)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_is_written_and_read_and_has_one_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        assert!(matches!(read(&path), Err(SweepError::NoSweep(_))) && !is_alive(&path));
        let folder = SweepFolder::take(&path).unwrap();
        assert!(folder.read().unwrap().is_none() && is_alive(&path));
        let member = MemberInfo { name: "seed=0".into(), overrides: vec!["seed=0".into()], ..MemberInfo::default() };
        let info = SweepInfo { axes: vec!["seed".into()], members: vec![member], ..SweepInfo::default() };
        folder.write(&info).unwrap();
        let stored = read(&path).unwrap();
        assert!(stored.members == info.members && stored.schema == SCHEMA && !stored.created.is_empty());
        folder.write(&stored).unwrap();
        assert_eq!(read(&path).unwrap().created, stored.created);
        let text = SweepFolder::take(&path).unwrap_err().to_string();
        assert!(text.contains("in use by another process"), "{text}");
        drop(folder);
        assert!(!is_alive(&path));
        // What a later build wrote is not misread, nor is a run taken for a sweep.
        std::fs::write(path.join(FILE_NAME), "{\"schema\": 2}").unwrap();
        assert!(matches!(read(&path), Err(SweepError::Later { schema: 2, .. })));
        std::fs::write(path.join("config.yaml"), "").unwrap();
        assert!(matches!(SweepFolder::take(&path), Err(SweepError::IsRun(_))));
    }
}
