//! The index as a file: which episodes of which chunks are of which task, and what is in them.

use super::{Chunk, DataError};
use crate::io::atomic::{FileError, replace_bytes};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What the file says it is.
const FORMAT: &str = "pwm episodes 1";

/// An index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Index {
    format: String,
    pub files: Vec<IndexedFile>,
    /// Tasks that have episodes, in the order of their numbers.
    pub tasks: Vec<IndexedTask>,
}

/// A chunk and whose episodes it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexedFile {
    /// Where it is; in the index's file from there, if it is below.
    pub path: PathBuf,
    /// Its size in bytes. A chunk of another size is another file.
    pub bytes: u64,
    pub chunk: Chunk,
    pub runs: Vec<Run>,
}

/// Episodes of one task that lie one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The task's number in the chunks.
    pub task: u32,
    pub first: u64,
    pub count: u64,
}

/// What the episodes of a task are like. Statistics leave out filler and numbers that are not finite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexedTask {
    /// Its number in the chunks.
    pub number: u32,
    pub name: String,
    pub episodes: u64,
    /// Rows of all episodes, one more than steps in each.
    pub rows: u64,
    /// Entries of an observation and of an action up to the last that is ever another number than zero.
    pub obs: usize,
    pub action: usize,
    /// Of a step.
    pub reward: Spread,
    /// Sums over episodes.
    pub episode_return: Spread,
    /// Numbers that are not finite, filler left out.
    pub not_finite: u64,
}

/// How numbers are spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub mean: f64,
    pub std: f64,
    pub min: f64,
    pub max: f64,
}

impl Index {
    /// An index of these files.
    pub fn new(files: Vec<IndexedFile>, tasks: Vec<IndexedTask>) -> Self {
        Self { format: FORMAT.into(), files, tasks }
    }

    /// Writes the file. Chunks below its folder are named from there, so that the whole can be moved.
    pub fn save(&self, path: &Path) -> Result<(), DataError> {
        let mut index = self.clone();
        let folder = absolute(path.parent().unwrap_or(Path::new(".")));
        for file in &mut index.files {
            let whole = absolute(&file.path);
            file.path = whole.strip_prefix(&folder).map(Path::to_path_buf).unwrap_or(whole);
        }
        let mut text = serde_json::to_string_pretty(&index).expect("numbers and names are JSON");
        text.push('\n');
        Ok(replace_bytes(path, text.as_bytes())?)
    }

    /// Reads the file; chunks are looked for from its folder.
    pub fn load(path: &Path) -> Result<Self, DataError> {
        let text = std::fs::read_to_string(path).map_err(FileError::at(path, "reading it"))?;
        let mut index: Self = Self::parse(&text).map_err(|what| DataError::bad(path, what))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        for file in &mut index.files {
            file.path = folder.join(&file.path);
        }
        Ok(index)
    }

    /// The index that a text is; what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let index: Self = serde_json::from_str(text)
            .map_err(|e| format!("it is no index of episodes ({e}); make one: pwm data index FOLDER --out FILE"))?;
        if index.format != FORMAT {
            return Err(format!(
                "it is of format `{}`, and `{FORMAT}` is read here; index the data anew",
                index.format
            ));
        }
        for file in &index.files {
            let past = |r: &Run| r.first.checked_add(r.count).is_none_or(|end| end > file.chunk.episodes);
            let outside = |a: &super::chunk::Array| {
                let len = (file.chunk.rows.checked_mul(a.width))
                    .and_then(|n| (n as u64).checked_mul(4)?.checked_mul(file.chunk.episodes)?.checked_add(a.at));
                len.is_none_or(|end| end > file.bytes)
            };
            let empty = file.chunk.arrays().iter().any(|a| a.width == 0);
            if empty || file.chunk.rows < 2 || file.runs.iter().any(past) || file.chunk.arrays().iter().any(outside) {
                return Err(format!("{} has episodes beyond its end; index the data anew", file.path.display()));
            }
        }
        for t in &index.tasks {
            let of = index.files.iter().flat_map(|f| f.runs.iter().map(move |r| (r, f.chunk.rows as u64)));
            let sums = of.filter(|(r, _)| r.task == t.number).try_fold((0u64, 0u64), |(e, n), (r, rows)| {
                Some((e.checked_add(r.count)?, n.checked_add(r.count.checked_mul(rows)?)?))
            });
            if sums != Some((t.episodes, t.rows)) {
                return Err(format!("its files hold other episodes of `{}` than it says; index the data anew", t.name));
            }
        }
        Ok(index)
    }

    /// The task of this name.
    pub fn task(&self, name: &str) -> Option<&IndexedTask> {
        self.tasks.iter().find(|t| t.name == name)
    }
}

/// The path from the root, whether or not the file is there.
fn absolute(path: &Path) -> PathBuf {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    std::fs::canonicalize(path).or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_path_buf())
}
