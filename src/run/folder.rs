//! The folder of one run: names of its files, its description, and the lock that keeps a second process out.
//!
//! ```text
//! run_dir/
//!   config.yaml            every setting, resolved
//!   run.json               versions, device, seed, times, why it ended
//!   run.lock               held by the process that writes here
//!   metrics.jsonl          one object a logging step, and TensorBoard events beside it
//!   incidents.jsonl        collapses, rollbacks and the like
//!   checkpoints/latest.safetensors, best.safetensors, and what `retention.rs` says
//! ```
//!
//! A run is there when `config.yaml` is; it is written last at creation, so a creation that failed half-way counts as
//! none. The lock is the operating system's and ends with the process, however that ends; the file itself stays.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::io::atomic::{self, FileError};

/// What can go wrong with a run folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The file system said no.
    #[error(transparent)]
    File(#[from] FileError),
    /// `create` found a run.
    #[error(
        "{path}: holds a run already; continue it with `pwm-train --resume {path}`, or choose another folder with `run_dir=...`",
        path = path.display()
    )]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// `open` found none.
    #[error("{path}: holds no run (no config.yaml); give the folder of a run, or start one with `run_dir={path}`", path = path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
    /// Another process writes there.
    #[error("{path}: in use by another process{holder}; wait for it, stop it, or choose another run_dir", path = path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// ` (process 1234)` where known.
        holder: String,
    },
    /// `run.json` is there and is not one.
    #[error("{path}: {what}; delete it to go on, it holds a description and no state", path = path.display())]
    BadInfo {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        what: String,
    },
}

/// The lock of a run.
const LOCK: &str = "run.lock";
/// How often a lock that is taken is tried again, ten milliseconds apart.
const PATIENCE: usize = 10;

/// The contents of `run.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunInfo {
    /// Version of this program.
    pub pwm_version: String,
    /// What it was built from and with; of the sitting that wrote this. Files of earlier builds lack them.
    pub commit: String,
    pub compiler: String,
    /// Version of the checkpoint layout.
    pub checkpoint_version: String,
    /// What computes: the processor's or the accelerator's name, threads, instruction set.
    pub device: String,
    /// What multiplies: `fp32`, `tf32`, `bf16`.
    pub precision: String,
    /// Threads.
    pub threads: usize,
    /// Seed.
    pub seed: u64,
    /// When the run first started, UTC.
    pub started: String,
    /// When this file was written, UTC.
    pub updated: String,
    /// Seconds of training, all sittings together.
    pub elapsed_seconds: f64,
    /// Processor time of it, the threads' together; none where the system does not tell, and of runs that a build began
    /// which did not count it.
    pub cpu_seconds: Option<f64>,
    /// How often it was resumed.
    pub resumed: u64,
    /// Epochs done.
    pub epoch: u64,
    /// Environment steps done.
    pub env_steps: u64,
    /// Highest evaluation on the true environment.
    pub best_return: Option<f64>,
    /// Epoch of that evaluation.
    pub best_epoch: Option<u64>,
    /// Planned bytes of memory.
    pub planned_bytes: Option<u64>,
    /// Where the replay lies, in words; none without one.
    pub replay: Option<String>,
    /// Why it ended, in words; none while it runs, and after a crash.
    pub finished: Option<String>,
    /// The same for programs. Files of earlier builds lack it.
    pub ended: Option<Ended>,
}

/// How a sitting ended, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub kind: End,
    /// The exit status that goes with it.
    pub status: u8,
}

/// What ended a sitting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// `max_epochs` are done.
    Epochs,
    /// `max_minutes` or `max_cpu_minutes` are over.
    Time,
    /// SIGINT, SIGTERM or SIGUSR1.
    Signal,
    /// The program that the run is part of.
    Request,
    /// No better evaluation for a while.
    EarlyStop,
    /// Evaluations collapsed.
    Collapse,
    /// An error.
    Error,
    /// A word of a later build.
    #[serde(other)]
    Other,
}

impl RunInfo {
    /// A description of a run that starts now.
    pub fn begin(seed: u64) -> Self {
        let now = utc_now();
        Self {
            pwm_version: env!("CARGO_PKG_VERSION").into(),
            commit: crate::version::commit().into(),
            compiler: crate::version::COMPILER.into(),
            checkpoint_version: crate::io::checkpoint::VERSION.into(),
            seed,
            started: now.clone(),
            updated: now,
            cpu_seconds: super::cpu_time::cpu_seconds().map(|_| 0.0),
            ..Self::default()
        }
    }
}

/// A run folder that this process alone writes to, until the value is dropped.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    _lock: File,
}

impl RunFolder {
    /// Whether there is a run in a folder.
    pub fn holds_run(path: &Path) -> bool {
        path.join("config.yaml").is_file()
    }

    /// Whether a process is known to write in a folder; not where a disk knows no locks.
    pub fn is_taken(path: &Path) -> bool {
        is_locked(path, LOCK) == Some(true)
    }

    /// Makes a folder for a new run and takes it. An existing run is never overwritten.
    pub fn create(path: &Path, config_yaml: &str) -> Result<Self, FolderError> {
        let checkpoints = path.join("checkpoints");
        std::fs::create_dir_all(&checkpoints).map_err(FileError::at(&checkpoints, "creating the folder"))?;
        let folder = Self::take(path)?;
        if Self::holds_run(path) {
            return Err(FolderError::Exists { path: path.to_path_buf() });
        }
        atomic::replace_bytes(&folder.config_path(), config_yaml.as_bytes())?;
        Ok(folder)
    }

    /// Takes the folder of an existing run, to resume it.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        if !Self::holds_run(path) {
            return Err(FolderError::NoRun { path: path.to_path_buf() });
        }
        let folder = Self::take(path)?;
        let checkpoints = path.join("checkpoints");
        std::fs::create_dir_all(&checkpoints).map_err(FileError::at(&checkpoints, "creating the folder"))?;
        Ok(folder)
    }

    fn take(path: &Path) -> Result<Self, FolderError> {
        Ok(Self { path: path.to_path_buf(), _lock: lock(path, LOCK)? })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `config.yaml`.
    pub fn config_path(&self) -> PathBuf {
        self.path.join("config.yaml")
    }

    /// Where checkpoints are.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// The newest state, to resume from.
    pub fn latest(&self) -> PathBuf {
        latest(&self.path)
    }

    /// The state with the highest evaluation.
    pub fn best(&self) -> PathBuf {
        best(&self.path)
    }

    /// Another file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The settings, as they were written at creation.
    pub fn read_config(&self) -> Result<String, FolderError> {
        let path = self.config_path();
        Ok(std::fs::read_to_string(&path).map_err(FileError::at(&path, "reading it"))?)
    }

    /// Replaces the settings, for a resume that changes some.
    pub fn write_config(&self, config_yaml: &str) -> Result<(), FolderError> {
        Ok(atomic::replace_bytes(&self.config_path(), config_yaml.as_bytes())?)
    }

    /// Rewrites `run.json`, whole or not at all.
    pub fn write_info(&self, info: &RunInfo) -> Result<(), FolderError> {
        let path = self.path.join("run.json");
        let mut text = serde_json::to_string_pretty(info)
            .map_err(|e| FolderError::BadInfo { path: path.clone(), what: e.to_string() })?;
        text.push('\n');
        Ok(atomic::replace_bytes(&path, text.as_bytes())?)
    }

    /// Reads `run.json`; none where it was not written yet.
    pub fn read_info(&self) -> Result<Option<RunInfo>, FolderError> {
        read_info(&self.path)
    }

    /// Writes a picture or a report, whole or not at all.
    pub fn write_file(&self, name: &str, contents: &str) -> Result<PathBuf, FolderError> {
        let path = self.path.join(name);
        atomic::replace_bytes(&path, contents.as_bytes())?;
        Ok(path)
    }
}

/// Takes the lock of this name in a folder. It holds until the file is closed, at the latest when the process ends.
pub fn lock(folder: &Path, name: &str) -> Result<File, FolderError> {
    let name = folder.join(name);
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&name)
        .map_err(FileError::at(&name, "opening the lock"))?;
    // A reader holds the lock for a moment, to see whether the run goes on.
    let mut taken = file.try_lock();
    for _ in 0..PATIENCE {
        if !matches!(taken, Err(TryLockError::WouldBlock)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
        taken = file.try_lock();
    }
    match taken {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = std::fs::read_to_string(&name).unwrap_or_default();
            let holder = if pid.trim().is_empty() { String::new() } else { format!(" (process {})", pid.trim()) };
            return Err(FolderError::Locked { path: folder.to_path_buf(), holder });
        }
        // Some network file systems know no locks; a run there is better unguarded than refused.
        Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => {}
        Err(TryLockError::Error(e)) => return Err(FileError::new(&name, "taking the lock", e).into()),
    }
    // The number is for the message above only; the lock holds without it.
    let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// The newest state in a run folder; for readers, who need no lock.
pub fn latest(run: &Path) -> PathBuf {
    run.join("checkpoints").join("latest.safetensors")
}

/// The best state in a run folder; for readers, who need no lock.
pub fn best(run: &Path) -> PathBuf {
    run.join("checkpoints").join("best.safetensors")
}

/// Whether a process works on a run. Its lock ends with it, however it ends: a run that was killed does not go on, one
/// that was over and is taken up again does. Where the file system knows no locks, whether it has not said that it
/// ended.
pub fn goes_on(run: &Path) -> bool {
    let unended = || read_info(run).is_ok_and(|i| i.is_some_and(|i| i.finished.is_none()));
    is_locked(run, LOCK).unwrap_or_else(unended)
}

/// Whether a process holds the lock of this name in a folder; none where the file system knows no locks.
pub fn is_locked(folder: &Path, name: &str) -> Option<bool> {
    let Ok(lock) = File::open(folder.join(name)) else { return Some(false) };
    match lock.try_lock_shared() {
        Ok(()) => Some(false),
        Err(TryLockError::WouldBlock) => Some(true),
        Err(TryLockError::Error(_)) => None,
    }
}

/// Reads a run's description; for readers, who need no lock.
pub fn read_info(run: &Path) -> Result<Option<RunInfo>, FolderError> {
    let path = run.join("run.json");
    let text = match std::fs::read(&path) {
        Ok(t) => t,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(FileError::new(&path, "reading it", e).into()),
    };
    serde_json::from_slice(&text).map(Some).map_err(|e| FolderError::BadInfo { path, what: e.to_string() })
}

/// The time now as `2026-01-31T23:59:59Z`.
pub fn utc_now() -> String {
    utc(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()))
}

/// Seconds since 1970 as `2026-01-31T23:59:59Z`.
pub fn utc(seconds: u64) -> String {
    let (days, s) = ((seconds / 86400) as i64, seconds % 86400);
    // Days to civil date, with years that begin in March so that the leap day comes last.
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", s / 3600, s % 3600 / 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(utc(4_102_444_799), "2099-12-31T23:59:59Z");
    }

    #[test]
    fn a_run_is_created_once_and_resumed_after() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("deep/run");
        assert!(matches!(RunFolder::open(&run), Err(FolderError::NoRun { .. })));
        let f = RunFolder::create(&run, "seed: 1\n").unwrap();
        assert_eq!(f.read_info().unwrap(), None);
        let info = RunInfo { device: "cpu".into(), best_return: Some(1500.25), ..RunInfo::begin(7) };
        f.write_info(&info).unwrap();
        assert_eq!(f.read_info().unwrap(), Some(info));
        drop(f);
        let text = RunFolder::create(&run, "seed: 2\n").unwrap_err().to_string();
        assert!(text.contains("--resume") && text.contains("run_dir="), "{text}");
        assert_eq!(RunFolder::open(&run).unwrap().read_config().unwrap(), "seed: 1\n");
    }

    #[test]
    fn one_writer_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!goes_on(dir.path()));
        let held = RunFolder::create(dir.path(), "a: 1\n").unwrap();
        assert!(goes_on(dir.path()) && goes_on(dir.path()));
        let text = RunFolder::open(dir.path()).unwrap_err().to_string();
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        drop(held);
        assert!(!goes_on(dir.path()));
        // A reader that looks just now is waited for.
        let reader = File::open(dir.path().join("run.lock")).unwrap();
        reader.lock_shared().unwrap();
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            drop(reader);
        });
        RunFolder::open(dir.path()).unwrap();
        late.join().unwrap();
    }

    #[test]
    fn how_it_ended_is_a_fixed_word_and_older_and_newer_files_are_read() {
        let ended = Some(Ended { kind: End::Signal, status: 0 });
        let text = serde_json::to_string(&RunInfo { ended, ..RunInfo::begin(7) }).unwrap();
        assert!(text.contains("\"ended\":{\"kind\":\"signal\",\"status\":0}"), "{text}");
        let read = |text: &str| serde_json::from_str::<RunInfo>(text).unwrap();
        assert_eq!(read(&text).ended, ended);
        let old = read("{\"finished\": \"max_epochs are done\"}");
        assert_eq!((old.finished.as_deref(), old.ended), (Some("max_epochs are done"), None));
        assert_eq!(read("{\"ended\": {\"kind\": \"bored\", \"status\": 9}}").ended.unwrap().kind, End::Other);
    }

    #[test]
    fn a_file_in_the_way_and_a_broken_description_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert!(RunFolder::create(&file, "").unwrap_err().to_string().contains("file"));
        std::fs::write(dir.path().join("run.json"), "{oops").unwrap();
        assert!(matches!(read_info(dir.path()), Err(FolderError::BadInfo { .. })));
    }
}
