//! Whole-file writes that are either there or not, and the one error type of every file a run touches.
//!
//! `replace` writes `NAME.tmp` beside the target, syncs it, renames it over the target and syncs the folder: a crash or
//! a full disk at any point leaves the old file as it was. The temporary name is fixed, so that a killed process leaves
//! at most one and the next write reuses it; the run folder's lock (`folder.rs`) keeps two writers apart.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file operation that failed: which file, what was being done, and what helps.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// No room left on the device, or the user's quota is used up.
    #[error("{path}: the disk is full (while {doing}); free space there or choose another run_dir, then resume", path = path.display())]
    DiskFull {
        /// The file being written.
        path: PathBuf,
        /// What was being done to it.
        doing: &'static str,
    },
    /// The file, its folder or the whole file system may not be written.
    #[error("{path}: not writable (while {doing}): {source}; check its permissions or choose another run_dir", path = path.display())]
    ReadOnly {
        /// The file being written.
        path: PathBuf,
        /// What was being done to it.
        doing: &'static str,
        /// The system's own words.
        source: io::Error,
    },
    /// Nothing by that name.
    #[error("{path}: no such file or folder (while {doing}); check the spelling of the path", path = path.display())]
    Missing {
        /// The file that was looked for.
        path: PathBuf,
        /// What was being done to it.
        doing: &'static str,
    },
    /// Anything else the system reports.
    #[error("{path}: {source} (while {doing})", path = path.display())]
    Io {
        /// The file in question.
        path: PathBuf,
        /// What was being done to it.
        doing: &'static str,
        /// The system's own words.
        source: io::Error,
    },
}

impl FileError {
    /// Sorts a system error by what the reader can do about it.
    pub fn new(path: &Path, doing: &'static str, source: io::Error) -> Self {
        use io::ErrorKind::*;
        let path = path.to_path_buf();
        match source.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => Self::DiskFull { path, doing },
            PermissionDenied | ReadOnlyFilesystem => Self::ReadOnly { path, doing, source },
            NotFound => Self::Missing { path, doing },
            _ => Self::Io { path, doing, source },
        }
    }

    /// For `map_err`: the same, curried.
    pub fn at<'a>(path: &'a Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self + 'a {
        move |e| Self::new(path, doing, e)
    }
}

/// The name a file has while it is being written: beside its target, so that the rename stays on one file system.
pub fn temp_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    path.with_file_name(name)
}

/// Replaces `path` by what `fill` writes, whole or not at all. On error the old file is intact and no temporary stays.
pub fn replace(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), FileError> {
    let temp = temp_path(path);
    let mut file = File::create(&temp).map_err(FileError::at(&temp, "creating it"))?;
    let written = fill(&mut file)
        .map_err(FileError::at(&temp, "writing it"))
        .and_then(|()| file.sync_all().map_err(FileError::at(&temp, "syncing it to disk")));
    drop(file);
    let renamed =
        written.and_then(|()| std::fs::rename(&temp, path).map_err(FileError::at(path, "renaming it in place")));
    if let Err(e) = renamed {
        // The first error is the one to report; a temporary that cannot be removed is reused by the next write.
        let _ = std::fs::remove_file(&temp);
        return Err(e);
    }
    sync_folder(path);
    Ok(())
}

/// Replaces `path` by `bytes`, whole or not at all.
pub fn replace_bytes(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    replace(path, |f| f.write_all(bytes))
}

/// Makes the rename itself durable. Some file systems refuse to sync a folder; the file is complete all the same, and
/// after a power cut either the old or the new one is there, so a refusal is no error.
fn sync_folder(path: &Path) {
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    if let Ok(d) = File::open(folder) {
        let _ = d.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_keeps_the_old_file_and_leaves_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        replace_bytes(&path, b"old").unwrap();
        let full = replace(&path, |f| {
            f.write_all(b"half of the n")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert!(matches!(full, Err(FileError::DiskFull { .. })), "{full:?}");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        replace_bytes(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_target_that_cannot_be_replaced_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        std::fs::create_dir(&path).unwrap();
        assert!(replace_bytes(&path, b"x").unwrap_err().to_string().contains("taken"));
        assert!(!temp_path(&path).exists());
        let nowhere = dir.path().join("no/such/folder/file");
        assert!(matches!(replace_bytes(&nowhere, b"x"), Err(FileError::Missing { .. })));
    }
}
