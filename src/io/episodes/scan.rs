//! An index made of chunks: whose episodes they hold, and what is in them, in one pass.
//!
//! Arrays are read one behind the other, in strides that suit network disks; what is held beside the sums is one stride.

use super::chunk::{Array, Checked};
use super::index::{IndexedFile, IndexedTask, Run, Spread};
use super::names::published;
use super::{Chunk, DataError, Index};
use crate::io::atomic::FileError;
use crate::io::torch::zip;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes that are read at once, or one episode if that is more.
const STRIDE: u64 = 16 << 20;

/// A file in the folder of chunks that names tasks which are none of the published ones: a list, by number.
pub const TASKS: &str = "tasks.json";

/// How much of the data is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Whose episodes there are, and a few of them for their sizes.
    Tasks,
    /// Every number, and the checksums.
    All,
}

/// Episodes of each task that [`Depth::Tasks`] looks into.
const SAMPLE: u64 = 4;

/// The chunks in a folder, in the order of their names; or the file itself.
pub fn chunks_in(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if path.is_file() {
        return Ok(vec![path.into()]);
    }
    let entries = std::fs::read_dir(path).map_err(FileError::at(path, "reading the folder"))?;
    let mut found = vec![];
    for entry in entries {
        let file = entry.map_err(FileError::at(path, "reading the folder"))?.path();
        if file.extension().is_some_and(|e| e == "pt") && file.is_file() {
            found.push(file);
        }
    }
    // chunk_2 before chunk_10.
    found.sort_by_key(|p| {
        let name = p.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let start = name.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
        let number = name[start.len()..].parse::<u64>().unwrap_or(0);
        (start, number, p.clone())
    });
    if found.is_empty() {
        return Err(DataError::bad(path, "there is no chunk (*.pt) in this folder"));
    }
    Ok(found)
}

/// The tasks' names by number, for chunks of a folder.
fn names(chunk: &Path) -> Result<Vec<String>, DataError> {
    let path = chunk.parent().unwrap_or(Path::new(".")).join(TASKS);
    if !path.is_file() {
        return Ok(published().iter().map(|name| (*name).to_owned()).collect());
    }
    let text = std::fs::read_to_string(&path).map_err(FileError::at(&path, "reading it"))?;
    serde_json::from_str(&text).map_err(|e| DataError::bad(&path, format!("it is no list of names ({e})")))
}

/// An index of these chunks. `progress` is told bytes that are done and bytes in all.
pub fn scan(paths: &[PathBuf], depth: Depth, mut progress: impl FnMut(u64, u64)) -> Result<Index, DataError> {
    let mut opened = vec![];
    for path in paths {
        opened.push((path, Chunk::open(path)?, names(path)?));
    }
    let of = |c: &Chunk| if depth == Depth::All { c.bytes() } else { c.len(&c.task) };
    let (mut done, all) = (0, opened.iter().map(|(_, (c, _), _)| of(c)).sum());
    let (mut files, mut sums) = (vec![], BTreeMap::<u32, Sums>::new());
    for (path, (chunk, checked), names) in &opened {
        let mut file = File::open(path).map_err(FileError::at(path, "opening it"))?;
        let bytes = file.metadata().map_err(FileError::at(path, "asking for its size"))?.len();
        let mut reader = Reader { path, file: &mut file, chunk, depth };
        let mut step = |n: u64| {
            done += n;
            progress(done, all);
        };
        let runs = reader.runs(&checked[3], names, &mut step)?;
        for run in &runs {
            let sums = sums.entry(run.task).or_insert_with(|| Sums::new(&names[run.task as usize]));
            if sums.name != names[run.task as usize] {
                let what = format!(
                    "task {} is called `{}` here and `{}` elsewhere",
                    run.task, names[run.task as usize], sums.name
                );
                return Err(DataError::bad(path, what));
            }
            sums.episodes += run.count;
            sums.rows += run.count * chunk.rows as u64;
        }
        reader.look(&runs, &mut sums, checked, &mut step)?;
        files.push(IndexedFile { path: (*path).clone(), bytes, chunk: *chunk, runs });
    }
    let tasks = sums.into_iter().map(|(number, s)| s.finish(number)).collect();
    Ok(Index::new(files, tasks))
}

/// What is summed up of a task.
struct Sums {
    name: String,
    episodes: u64,
    rows: u64,
    obs: usize,
    action: usize,
    reward: Moments,
    returns: Moments,
    not_finite: u64,
}

impl Sums {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            episodes: 0,
            rows: 0,
            obs: 0,
            action: 0,
            reward: Moments::default(),
            returns: Moments::default(),
            not_finite: 0,
        }
    }

    fn finish(self, number: u32) -> IndexedTask {
        IndexedTask {
            number,
            name: self.name,
            episodes: self.episodes,
            rows: self.rows,
            obs: self.obs,
            action: self.action,
            reward: self.reward.spread(),
            episode_return: self.returns.spread(),
            not_finite: self.not_finite,
        }
    }
}

/// Mean and spread of numbers as they come (Welford).
#[derive(Default)]
struct Moments {
    count: u64,
    mean: f64,
    squares: f64,
    range: Option<(f64, f64)>,
}

impl Moments {
    fn add(&mut self, x: f64) {
        self.count += 1;
        let from = x - self.mean;
        self.mean += from / self.count as f64;
        self.squares += from * (x - self.mean);
        let (low, high) = self.range.unwrap_or((x, x));
        self.range = Some((low.min(x), high.max(x)));
    }

    fn spread(&self) -> Spread {
        let (min, max) = self.range.unwrap_or((0.0, 0.0));
        Spread { mean: self.mean, std: (self.squares / self.count.max(1) as f64).sqrt(), min, max }
    }
}

/// Reads the arrays of a chunk.
struct Reader<'a> {
    path: &'a Path,
    file: &'a mut File,
    chunk: &'a Chunk,
    depth: Depth,
}

impl Reader<'_> {
    /// Passes the bytes of an array to `each`, whole episodes at a time with the number of the first. Looking at all, the
    /// checksum is verified.
    fn stream(
        &mut self,
        a: &Array,
        checked: &Checked,
        mut each: impl FnMut(u64, &[u8]) -> Result<(), String>,
    ) -> Result<(), DataError> {
        let (path, episode, all) = (self.path, self.chunk.episode_len(a), self.chunk.len(a));
        let at_once = (STRIDE / episode).max(1) * episode;
        let mut buffer = vec![0; at_once.min(all) as usize];
        let verify = self.depth == Depth::All && checked.at == a.at && checked.len == all;
        let mut digest = zip::checksum();
        self.file.seek(SeekFrom::Start(a.at)).map_err(FileError::at(path, "reading it"))?;
        for from in (0..all).step_by(at_once as usize) {
            let part = &mut buffer[..(all - from).min(at_once) as usize];
            self.file.read_exact(part).map_err(FileError::at(path, "reading it"))?;
            if verify {
                digest.update(part);
            }
            each(from / episode, part).map_err(|what| DataError::bad(path, what))?;
        }
        if verify && digest.finalize() != checked.crc {
            return Err(DataError::bad(path, zip::damaged(&checked.name)));
        }
        Ok(())
    }

    /// Whose episodes the chunk holds.
    fn runs(&mut self, checked: &Checked, names: &[String], step: &mut impl FnMut(u64)) -> Result<Vec<Run>, DataError> {
        let (rows, a) = (self.chunk.rows, self.chunk.task);
        let mut runs: Vec<Run> = vec![];
        self.stream(&a, checked, |first, bytes| {
            for (episode, ids) in (first..).zip(bytes.chunks_exact(4 * rows)) {
                let mut all = ids.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b));
                let number = all.next().unwrap_or(-1);
                if all.any(|id| id != number) {
                    return Err(format!("the rows of episode {episode} are of several tasks"));
                }
                let task = u32::try_from(number).ok().filter(|t| (*t as usize) < names.len());
                let task = task.ok_or_else(|| {
                    format!(
                        "episode {episode} is of task {number}, and {} tasks have names; name them in {TASKS} beside \
                         the chunks, a list by number",
                        names.len()
                    )
                })?;
                match runs.last_mut().filter(|r| r.task == task) {
                    Some(run) => run.count += 1,
                    None => runs.push(Run { task, first: episode, count: 1 }),
                }
            }
            step(bytes.len() as u64);
            Ok(())
        })?;
        Ok(runs)
    }

    /// What is in the episodes.
    fn look(
        &mut self,
        runs: &[Run],
        sums: &mut BTreeMap<u32, Sums>,
        checked: &[Checked],
        step: &mut impl FnMut(u64),
    ) -> Result<(), DataError> {
        let chunk = *self.chunk;
        let rows = chunk.rows;
        let arrays = [chunk.obs, chunk.action, chunk.reward];
        if self.depth == Depth::Tasks {
            for run in runs {
                let sums = sums.get_mut(&run.task).expect("invariant: every run's task is known");
                for (array, a) in arrays.iter().enumerate().take(2) {
                    let mut bytes = vec![0; (run.count.min(SAMPLE) * chunk.episode_len(a)) as usize];
                    let at = a.at + run.first * chunk.episode_len(a);
                    let read = self.file.seek(SeekFrom::Start(at)).and_then(|_| self.file.read_exact(&mut bytes));
                    read.map_err(FileError::at(self.path, "reading it"))?;
                    for episode in bytes.chunks_exact(4 * rows * a.width) {
                        add(sums, array, episode, a.width);
                    }
                }
            }
            return Ok(());
        }
        for (array, (a, checked)) in arrays.iter().zip(checked).enumerate() {
            let mut of = runs.iter().flat_map(|r| (r.first..r.first + r.count).map(|_| r.task));
            self.stream(a, checked, |_, bytes| {
                for episode in bytes.chunks_exact(4 * rows * a.width) {
                    let task = of.next().expect("invariant: every episode has a task");
                    let sums = sums.get_mut(&task).expect("invariant: every run's task is known");
                    add(sums, array, episode, a.width);
                }
                step(bytes.len() as u64);
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// Adds an episode of observations (0), actions (1) or rewards (2).
fn add(sums: &mut Sums, array: usize, episode: &[u8], width: usize) {
    let mut total = 0.0;
    for (i, row) in episode.chunks_exact(4 * width).enumerate() {
        // Actions and rewards of row 0 are filler.
        if i == 0 && array > 0 {
            continue;
        }
        for (k, b) in row.as_chunks::<4>().0.iter().enumerate() {
            let x = f32::from_le_bytes(*b);
            if !x.is_finite() {
                sums.not_finite += 1;
                continue;
            }
            match array {
                0 if x != 0.0 => sums.obs = sums.obs.max(k + 1),
                1 if x != 0.0 => sums.action = sums.action.max(k + 1),
                2 => {
                    sums.reward.add(f64::from(x));
                    total += f64::from(x);
                }
                _ => {}
            }
        }
    }
    if array == 2 {
        sums.returns.add(total);
    }
}
