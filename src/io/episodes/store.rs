//! Chunks in memory maps, and their episodes by task: what windows are drawn from. Nothing is copied until a window is.

use super::chunk::{Array, map};
use super::index::Index;
use super::{Chunk, DataError};
use crate::io::atomic::FileError;
use crate::io::crc64::Crc64;
use memmap2::Mmap;
use std::fs::File;
use std::path::PathBuf;

/// Episodes of tasks.
#[derive(Debug)]
pub struct Store {
    files: Vec<(Mmap, Chunk)>,
    tasks: Vec<StoredTask>,
}

/// The episodes of a task.
#[derive(Clone, Debug)]
pub struct StoredTask {
    pub name: String,
    /// Episodes of each run before it, file, first episode; in the order of the files.
    runs: Vec<(u64, usize, u64)>,
    /// Episodes and rows.
    pub episodes: u64,
    pub rows: u64,
}

/// An episode of the store: its file, and its number in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Episode {
    file: usize,
    number: u64,
}

impl Store {
    /// The episodes of these tasks, in this order, of one or several indices.
    ///
    /// # Errors
    /// A task without episodes; a chunk that is missing or of another size than indexed, with the tasks that it costs.
    pub fn open(indices: &[(PathBuf, Index)], tasks: &[String]) -> Result<Self, DataError> {
        let mut store = Self { files: vec![], tasks: vec![] };
        let of_name = |name: &String| StoredTask { name: name.clone(), runs: vec![], episodes: 0, rows: 0 };
        store.tasks = tasks.iter().map(of_name).collect();
        let mut missing = vec![];
        for (_, index) in indices {
            for file in &index.files {
                let name = |number: u32| index.tasks.iter().find(|t| t.number == number).map(|t| &t.name);
                let wanted = |number: u32| name(number).and_then(|n| tasks.iter().position(|t| t == n));
                if !file.runs.iter().any(|r| wanted(r.task).is_some()) {
                    continue;
                }
                if !file.path.is_file() {
                    let mut costs: Vec<&str> = file.runs.iter().filter_map(|r| Some(name(r.task)?.as_str())).collect();
                    costs.dedup();
                    missing.push(format!("{} is missing, with episodes of {}", file.path.display(), costs.join(", ")));
                    continue;
                }
                let opened = File::open(&file.path).map_err(FileError::at(&file.path, "opening it"))?;
                let map = map(&opened).map_err(FileError::at(&file.path, "mapping it into memory"))?;
                // Windows lie here and there: reading ahead would fill memory with what is not asked for.
                #[cfg(unix)]
                map.advise(memmap2::Advice::Random).map_err(FileError::at(&file.path, "mapping it into memory"))?;
                if map.len() as u64 != file.bytes {
                    let what = format!(
                        "it has {} bytes, and had {} when it was indexed; index the data anew",
                        map.len(),
                        file.bytes
                    );
                    return Err(DataError::bad(&file.path, what));
                }
                store.files.push((map, file.chunk));
                for run in &file.runs {
                    if let Some(task) = wanted(run.task) {
                        let task = &mut store.tasks[task];
                        task.runs.push((task.episodes, store.files.len() - 1, run.first));
                        task.episodes += run.count;
                        task.rows += run.count * file.chunk.rows as u64;
                    }
                }
            }
        }
        if !missing.is_empty() {
            return Err(DataError::Wrong(missing.join("\n")));
        }
        if let Some(empty) = store.tasks.iter().find(|t| t.episodes == 0) {
            let known: Vec<&str> = indices.iter().flat_map(|(_, i)| i.tasks.iter().map(|t| t.name.as_str())).collect();
            return Err(DataError::Wrong(format!(
                "there are no episodes of `{}` in the data; it has {}",
                empty.name,
                known.join(", ")
            )));
        }
        Ok(store)
    }

    /// The tasks, in the order they were asked for.
    pub fn tasks(&self) -> &[StoredTask] {
        &self.tasks
    }

    /// Bytes of the chunks that are mapped.
    pub fn mapped(&self) -> u64 {
        self.files.iter().map(|(map, _)| map.len() as u64).sum()
    }

    /// A number that differs if the tasks, their episodes or the chunks do.
    pub fn id(&self) -> String {
        let mut crc = Crc64::new();
        for t in &self.tasks {
            crc.update(format!("{} {} {} {:?};", t.name, t.episodes, t.rows, t.runs).as_bytes());
        }
        for (map, chunk) in &self.files {
            crc.update(format!("{} {chunk:?};", map.len()).as_bytes());
        }
        format!("{:016x}", crc.finish())
    }

    /// Rows of the shortest episode.
    pub fn shortest(&self) -> usize {
        self.files.iter().map(|(_, c)| c.rows).min().unwrap_or(0)
    }

    /// Episode `i` of a task.
    pub fn episode(&self, task: usize, i: u64) -> Episode {
        let runs = &self.tasks[task].runs;
        let (before, file, first) = runs[runs.partition_point(|r| r.0 <= i) - 1];
        Episode { file, number: first + (i - before) }
    }

    /// Rows of an episode.
    pub fn rows(&self, e: Episode) -> usize {
        self.files[e.file].1.rows
    }

    /// Numbers of an observation and of an action as they are stored.
    pub fn widths(&self, e: Episode) -> (usize, usize) {
        let chunk = &self.files[e.file].1;
        (chunk.obs.width, chunk.action.width)
    }

    /// The observation in a row of an episode, and the action that led to it, as bytes of single precision.
    pub fn bytes(&self, e: Episode, row: usize) -> (&[u8], &[u8]) {
        (self.row(e, |c| c.obs, row), self.row(e, |c| c.action, row))
    }

    fn row(&self, e: Episode, of: impl Fn(&Chunk) -> Array, row: usize) -> &[u8] {
        let (map, chunk) = &self.files[e.file];
        let a = of(chunk);
        let at = a.at as usize + ((e.number as usize * chunk.rows) + row) * a.width * 4;
        &map[at..at + 4 * a.width]
    }

    /// The first numbers of the observation in a row of an episode, zeros behind the last that is stored.
    pub fn obs(&self, e: Episode, row: usize, out: &mut [f32]) {
        copy(self.row(e, |c| c.obs, row), out);
    }

    /// The first numbers of the action that led to a row, in the same way.
    pub fn action(&self, e: Episode, row: usize, out: &mut [f32]) {
        copy(self.row(e, |c| c.action, row), out);
    }

    /// The reward of the step that led to a row.
    pub fn reward(&self, e: Episode, row: usize) -> f32 {
        let mut out = [0.0f32];
        copy(self.row(e, |c| c.reward, row), &mut out);
        out[0]
    }
}

fn copy(bytes: &[u8], out: &mut [f32]) {
    let numbers = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
    for (to, x) in out.iter_mut().zip(numbers.chain(std::iter::repeat(0.0))) {
        *to = x;
    }
}
