//! Where the numbers of a chunk lie.

use super::DataError;
use crate::io::atomic::FileError;
use crate::io::torch::{Storage, TorchFile, TorchTensor, zip};
use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::Path;

/// An array of a chunk: its numbers lie one behind the other from a byte of the file on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Array {
    /// Its first byte.
    pub at: u64,
    /// Numbers of a row, four bytes each.
    pub width: usize,
}

/// The arrays of a chunk, in the order of the published files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Episodes, and rows of each.
    pub episodes: u64,
    pub rows: usize,
    pub obs: Array,
    pub action: Array,
    pub reward: Array,
    /// Whole numbers in four bytes.
    pub task: Array,
}

/// An array's whole entry in the file, which has a checksum.
#[derive(Clone, Debug)]
pub struct Checked {
    pub name: String,
    pub at: u64,
    pub len: u64,
    pub crc: u32,
}

/// The longest episode and the widest row that are read: more is a damaged file.
const MOST_ROWS: usize = 1 << 20;
const MOST_WIDTH: usize = 1 << 12;

impl Chunk {
    /// Bytes of the file that hold rows.
    pub fn bytes(&self) -> u64 {
        self.arrays().iter().map(|a| self.len(a)).sum()
    }

    /// The arrays in the order of the published files.
    pub fn arrays(&self) -> [Array; 4] {
        [self.obs, self.action, self.reward, self.task]
    }

    /// Bytes of an array.
    pub fn len(&self, a: &Array) -> u64 {
        self.episodes * self.episode_len(a)
    }

    /// Bytes of an episode in an array.
    pub fn episode_len(&self, a: &Array) -> u64 {
        (self.rows * a.width * 4) as u64
    }

    /// Where everything lies in the bytes of a file; what is wrong with it.
    pub fn understand(file: &[u8]) -> Result<(Self, Vec<Checked>), String> {
        let torch = TorchFile::header(file)?;
        let find = |name: &str| {
            let path = [format!("_tensordict.{name}"), format!("_source._tensordict.{name}"), name.to_owned()]
                .into_iter()
                .find_map(|path| torch.tensor(&path).cloned());
            path.ok_or_else(|| format!("it has no array `{name}`: it is no TensorDict of episodes"))
        };
        let [obs, action, reward, task] = [find("obs")?, find("action")?, find("reward")?, find("task")?];
        let shape = |name: &str, t: &TorchTensor, of: usize| {
            let said = || format!("`{name}` has shape {:?}; {of} numbers were expected of it", t.shape);
            if t.shape.len() == of { Ok(t.shape.clone()) } else { Err(said()) }
        };
        let [o, a] = [shape("obs", &obs, 3)?, shape("action", &action, 3)?];
        let [r, k] = [shape("reward", &reward, 2)?, shape("task", &task, 2)?];
        if [&a, &r, &k].iter().any(|s| s[..2] != o[..2]) {
            return Err(format!("its arrays are of different episodes: {o:?}, {a:?}, {r:?}, {k:?}"));
        }
        let (episodes, rows) = (o[0], o[1]);
        if !(2..=MOST_ROWS).contains(&rows) || o[2] == 0 || a[2] == 0 || o[2].max(a[2]) > MOST_WIDTH {
            return Err(format!("episodes of {rows} rows of {} and {} numbers are none", o[2], a[2]));
        }
        let directory = zip::directory(file)?;
        let mut checked = vec![];
        let mut place = |name: &str, t: &TorchTensor, width: usize, kind: Storage| {
            let (entry, bytes, storage) = torch.storage(t)?;
            if storage != kind {
                return Err(format!("`{name}` holds numbers of type {storage:?}, and {kind:?} is read here"));
            }
            let from = t.contiguous().ok_or_else(|| format!("the rows of `{name}` do not lie one behind the other"))?;
            let len = episodes.checked_mul(rows).and_then(|n| n.checked_mul(width));
            let end = len.and_then(|n| n.checked_add(from)).and_then(|n| n.checked_mul(4));
            if end.is_none_or(|end| end > bytes.len()) {
                return Err(format!("`{name}` has more numbers than its storage"));
            }
            let start = (bytes.as_ptr().addr() - file.as_ptr().addr()) as u64;
            let crc = directory.get(&entry).map_or(0, |e| e.crc);
            checked.push(Checked { name: entry, at: start, len: bytes.len() as u64, crc });
            Ok(Array { at: start + 4 * from as u64, width })
        };
        let chunk = Self {
            episodes: episodes as u64,
            rows,
            obs: place("obs", &obs, o[2], Storage::F32)?,
            action: place("action", &action, a[2], Storage::F32)?,
            reward: place("reward", &reward, 1, Storage::F32)?,
            task: place("task", &task, 1, Storage::I32)?,
        };
        Ok((chunk, checked))
    }

    /// The same of a file on disk, of which only what describes it is read.
    pub fn open(path: &Path) -> Result<(Self, Vec<Checked>), DataError> {
        let file = File::open(path).map_err(FileError::at(path, "opening it"))?;
        let map = map(&file).map_err(FileError::at(path, "mapping it into memory"))?;
        Self::understand(&map).map_err(|what| DataError::bad(path, what))
    }
}

/// A file as memory, to read.
pub(super) fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is only read. A file that another process cuts short while it is mapped ends this one with
    // SIGBUS; that data sets are left alone while they are in use is said in the documentation of `data`.
    unsafe { Mmap::map(file) }
}
