//! Checkpoints: safetensors files with a version, a string map, and a checksum over every byte of the file.
//!
//! Any safetensors reader opens them. Bytes depend on state alone: tensors are ordered by alignment then name, metadata
//! by key, and no time or path enters, so the same state twice is the same file. The header begins
//!
//! ```text
//! {"__metadata__":{"pwm_checksum":"0123456789abcdef","pwm_version":"1", ...
//! ```
//!
//! at a fixed offset, and the checksum is the CRC-64/XZ of the whole file with those sixteen digits read as zeros: a
//! flipped bit anywhere, header and padding included, is found at load. `save` streams tensors from the caller's memory
//! (it copies none); `load` checks the whole file before a single number can be used, and holds none of it: tensors are
//! read from the file straight to where they belong.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::tensor::Metadata;
use serde_json::{Map, Value, json};

use super::atomic::{self, FileError};
use super::crc64::Crc64;

/// The layout this build writes and the only one it reads.
pub const VERSION: &str = "1";

/// What every checkpoint begins with, after the eight bytes of the header length; the checksum digits follow.
const PREFIX: &str = "{\"__metadata__\":{\"pwm_checksum\":\"";
const DIGITS: usize = 16;
const DIGITS_AT: usize = 8 + PREFIX.len();
/// Metadata keys that belong to the format.
const RESERVED: &str = "pwm_";

/// Number types a checkpoint may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// Single precision.
    F32,
    /// Double precision.
    F64,
    /// Counters.
    U32,
    /// Counters and random state.
    U64,
    /// Flags and text.
    U8,
}

impl Dtype {
    /// Bytes of one number.
    pub const fn size(self) -> usize {
        match self {
            Self::F64 | Self::U64 => 8,
            Self::F32 | Self::U32 => 4,
            Self::U8 => 1,
        }
    }

    /// Its name in a safetensors header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F64 => "F64",
            Self::U32 => "U32",
            Self::U64 => "U64",
            Self::U8 => "U8",
        }
    }

    fn from_safetensors(d: safetensors::Dtype) -> Option<Self> {
        Some(match d {
            safetensors::Dtype::F32 => Self::F32,
            safetensors::Dtype::F64 => Self::F64,
            safetensors::Dtype::U32 => Self::U32,
            safetensors::Dtype::U64 => Self::U64,
            safetensors::Dtype::U8 => Self::U8,
            _ => return None,
        })
    }
}

/// Rust numbers that a tensor can be read as.
pub trait Element: bytemuck::Pod {
    /// The number type in the file.
    const DTYPE: Dtype;
}
impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
}
impl Element for f64 {
    const DTYPE: Dtype = Dtype::F64;
}
impl Element for u32 {
    const DTYPE: Dtype = Dtype::U32;
}
impl Element for u64 {
    const DTYPE: Dtype = Dtype::U64;
}
impl Element for u8 {
    const DTYPE: Dtype = Dtype::U8;
}

/// One tensor to save: the bytes are little-endian numbers in row-major order.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// Unique name, `actor.layer0.weight`.
    pub name: &'a str,
    /// Number type.
    pub dtype: Dtype,
    /// Sizes, slowest first; empty for a scalar.
    pub shape: &'a [usize],
    /// `product(shape) * dtype.size()` bytes.
    pub bytes: &'a [u8],
}

impl<'a> Tensor<'a> {
    /// A view of a slice of numbers.
    pub fn of<T: Element>(name: &'a str, shape: &'a [usize], values: &'a [T]) -> Self {
        Self { name, dtype: T::DTYPE, shape, bytes: bytemuck::cast_slice(values) }
    }
}

/// What can be wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system said no.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is some other file.
    #[error("{path}: not a pwm checkpoint; give a file written to checkpoints/ by a training run", path = path.display())]
    NotACheckpoint {
        /// The file.
        path: PathBuf,
    },
    /// It ends too early.
    #[error("{path}: truncated, {found} bytes of {expected}; copy it again or use another file of that run's checkpoints/", path = path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes there are.
        found: u64,
        /// Bytes there should be, 0 where the header itself is cut.
        expected: u64,
    },
    /// Its bytes are not the ones that were written.
    #[error("{path}: damaged ({what}); copy it again or use another file of that run's checkpoints/", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not agree.
        what: String,
    },
    /// Written by a build with another layout.
    #[error("{path}: checkpoint version {found}, this build reads {VERSION}; use the pwm version named in the run's run.json", path = path.display())]
    WrongVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// The caller looks for something the file lacks.
    #[error("{path}: no {what} named `{name}`; it was written by a run with another configuration (compare config.yaml)", path = path.display())]
    Absent {
        /// The file.
        path: PathBuf,
        /// `tensor` or `metadata`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A tensor is there, with another type or shape.
    #[error("{path}: `{name}` is {found}, expected {expected}; the configuration differs from the one it was written with (compare config.yaml)", path = path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Type and shape in the file.
        found: String,
        /// Type and shape asked for.
        expected: String,
    },
    /// `save` was given tensors or metadata that make no checkpoint.
    #[error("{path}: cannot save: {what}", path = path.display())]
    BadInput {
        /// The file.
        path: PathBuf,
        /// What is wrong with the input.
        what: String,
    },
}

/// Writes a checkpoint, whole or not at all: on error the old file is intact and nothing else is left.
pub fn save<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = Tensor<'a>>,
    meta: &BTreeMap<String, String>,
) -> Result<(), CheckpointError> {
    let bad = |what: String| CheckpointError::BadInput { path: path.to_path_buf(), what };
    let mut tensors: Vec<Tensor> = tensors.into_iter().collect();
    // Widest numbers first keeps every tensor aligned to its own size.
    tensors.sort_by(|a, b| b.dtype.size().cmp(&a.dtype.size()).then(a.name.cmp(b.name)));
    let header = header(&tensors, meta).map_err(bad)?;

    atomic::replace(path, |file| {
        let mut crc = Crc64::new();
        let mut put = |file: &mut File, bytes: &[u8]| -> io::Result<()> {
            crc.update(bytes);
            file.write_all(bytes)
        };
        put(file, &(header.len() as u64).to_le_bytes())?;
        put(file, header.as_bytes())?;
        for t in &tensors {
            put(file, t.bytes)?;
        }
        file.seek(SeekFrom::Start(DIGITS_AT as u64))?;
        file.write_all(format!("{:016x}", crc.finish()).as_bytes())
    })?;
    Ok(())
}

/// The JSON header, zeros for the checksum, padded so that the data starts on a multiple of eight bytes.
fn header(tensors: &[Tensor], meta: &BTreeMap<String, String>) -> Result<String, String> {
    let mut strings = Map::new();
    strings.insert("pwm_checksum".into(), Value::String("0".repeat(DIGITS)));
    strings.insert("pwm_version".into(), VERSION.into());
    for (k, v) in meta {
        if k.starts_with(RESERVED) {
            return Err(format!("metadata key `{k}`: names that begin with `{RESERVED}` belong to the format"));
        }
        strings.insert(k.clone(), v.as_str().into());
    }
    let mut root = Map::new();
    root.insert("__metadata__".into(), Value::Object(strings));
    let mut at = 0usize;
    for t in tensors {
        let want = t.shape.iter().try_fold(t.dtype.size(), |n, &d| n.checked_mul(d));
        if want != Some(t.bytes.len()) {
            return Err(format!("tensor `{}`: {} bytes for {} {:?}", t.name, t.bytes.len(), t.dtype.name(), t.shape));
        }
        let entry = json!({"dtype": t.dtype.name(), "shape": t.shape, "data_offsets": [at, at + t.bytes.len()]});
        if root.insert(t.name.to_string(), entry).is_some() {
            return Err(format!("tensor name `{}` is given twice or is reserved", t.name));
        }
        at += t.bytes.len();
    }
    let mut text = Value::Object(root).to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    Ok(text)
}

/// A checkpoint, every byte of it checked. Tensors stay where they are until they are copied out: a file that is replaced
/// meanwhile (which [`save`] does by a new file) stays open as it was.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    source: Source,
    meta: BTreeMap<String, String>,
    tensors: BTreeMap<String, Entry>,
}

/// What is known of a tensor without reading it.
#[derive(Debug)]
pub struct Entry {
    /// Number type.
    pub dtype: Dtype,
    /// Sizes, slowest first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Where it lies in the file.
    range: Range<u64>,
}

impl Entry {
    /// Bytes it takes.
    pub fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// Where the bytes are.
#[derive(Debug)]
enum Source {
    Memory(Vec<u8>),
    File(File),
}

/// Bytes that are read at once to be checked.
const CHUNK: usize = 1 << 16;

impl Source {
    fn len(&self) -> io::Result<u64> {
        match self {
            Self::Memory(bytes) => Ok(bytes.len() as u64),
            Self::File(file) => Ok(file.metadata()?.len()),
        }
    }

    /// Fills `out` with the bytes from `at` on; an error if there are fewer.
    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Memory(bytes) => {
                let from = bytes.get(at as usize..).and_then(|b| b.get(..out.len()));
                out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            Self::File(file) => {
                let mut file = file;
                file.seek(SeekFrom::Start(at))?;
                file.read_exact(out)
            }
        }
    }

    fn bytes(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let mut out = vec![0; (range.end - range.start) as usize];
        self.read(range.start, &mut out)?;
        Ok(out)
    }

    /// The checksum of `len` bytes, the digits of the stored one read as zeros.
    fn checksum(&self, len: u64) -> io::Result<u64> {
        let (mut crc, mut chunk) = (Crc64::new(), vec![0; CHUNK]);
        let mut at = 0;
        while at < len {
            let n = (len - at).min(CHUNK as u64) as usize;
            self.read(at, &mut chunk[..n])?;
            if at == 0 {
                let end = n.min(DIGITS_AT + DIGITS);
                chunk[DIGITS_AT.min(end)..end].fill(b'0');
            }
            crc.update(&chunk[..n]);
            at += n as u64;
        }
        Ok(crc.finish())
    }
}

impl Checkpoint {
    /// Opens and verifies a file, in memory that does not grow with its tensors.
    pub fn load(path: &Path) -> Result<Self, CheckpointError> {
        let file = File::open(path).map_err(FileError::at(path, "reading it"))?;
        Self::verify(path, Source::File(file))
    }

    /// Verifies the bytes of a file; `path` is for messages.
    pub fn parse(path: &Path, bytes: Vec<u8>) -> Result<Self, CheckpointError> {
        Self::verify(path, Source::Memory(bytes))
    }

    fn verify(path: &Path, source: Source) -> Result<Self, CheckpointError> {
        let owned = || path.to_path_buf();
        let damaged = |what: String| CheckpointError::Damaged { path: path.to_path_buf(), what };
        let unread = |e| FileError::new(path, "reading it", e);
        let found = source.len().map_err(unread)?;
        let head = source.bytes(0..found.min((DIGITS_AT + DIGITS) as u64)).map_err(unread)?;
        let start = head.get(8..).unwrap_or_default();
        let seen = start.len().min(PREFIX.len());
        if start[..seen] != PREFIX.as_bytes()[..seen] {
            return Err(CheckpointError::NotACheckpoint { path: owned() });
        }
        if head.len() < DIGITS_AT + DIGITS {
            return Err(CheckpointError::Truncated { path: owned(), found, expected: 0 });
        }
        let header_len = u64::from_le_bytes(head[..8].try_into().unwrap_or_default());
        let data = header_len.checked_add(8).filter(|end| *end <= found);
        let header = |end| source.bytes(8..end).map_err(unread);

        // The checksum first: nothing else is believed before it holds, only used to name what is wrong.
        let checksum = source.checksum(found).map_err(unread)?;
        if format!("{checksum:016x}").as_bytes() != &head[DIGITS_AT..] {
            let expected = match data {
                Some(end) => expected_len(&header(end)?, end),
                None => header_len.checked_add(8),
            };
            return Err(match expected {
                Some(expected) if expected > found => CheckpointError::Truncated { path: owned(), found, expected },
                _ => damaged("its checksum does not match its bytes".into()),
            });
        }

        let data = data.ok_or_else(|| damaged("header: it is longer than the file".into()))?;
        let metadata: Metadata = serde_json::from_slice(&header(data)?).map_err(|e| damaged(format!("header: {e}")))?;
        let mut meta: BTreeMap<String, String> = metadata.metadata().clone().unwrap_or_default().into_iter().collect();
        let version = meta.get("pwm_version").cloned().unwrap_or_default();
        if version != VERSION {
            return Err(CheckpointError::WrongVersion { path: owned(), found: version });
        }
        meta.retain(|k, _| !k.starts_with(RESERVED));
        let tensors = entries(&metadata, data, found).map_err(damaged)?;
        Ok(Self { path: owned(), source, meta, tensors })
    }

    /// Names of the tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Type and shape of a tensor.
    pub fn tensor(&self, name: &str) -> Result<&Entry, CheckpointError> {
        self.tensors.get(name).ok_or_else(|| self.absent("tensor", name))
    }

    /// Copies a tensor into `out`, after checking its type and shape.
    pub fn copy_into<T: Element>(&self, name: &str, shape: &[usize], out: &mut [T]) -> Result<(), CheckpointError> {
        let t = self.tensor(name)?;
        if t.dtype != T::DTYPE || t.shape != shape || out.len() != shape.iter().product::<usize>() {
            return Err(CheckpointError::Mismatch {
                path: self.path.clone(),
                name: name.into(),
                found: format!("{} {:?}", t.dtype.name(), t.shape),
                expected: format!("{} {:?} ({} numbers)", T::DTYPE.name(), shape, out.len()),
            });
        }
        let read = self.source.read(t.range.start, bytemuck::cast_slice_mut(out));
        Ok(read.map_err(FileError::at(&self.path, "reading it"))?)
    }

    /// All numbers of a tensor, whatever its shape, after checking its type.
    pub fn values<T: Element>(&self, name: &str) -> Result<Vec<T>, CheckpointError> {
        let t = self.tensor(name)?;
        let mut out = vec![T::zeroed(); t.shape.iter().product()];
        self.copy_into(name, &t.shape, &mut out)?;
        Ok(out)
    }

    /// The string map that was saved.
    pub fn meta(&self) -> &BTreeMap<String, String> {
        &self.meta
    }

    /// One string of the map.
    pub fn meta_str(&self, key: &str) -> Result<&str, CheckpointError> {
        self.meta.get(key).map(String::as_str).ok_or_else(|| self.absent("metadata", key))
    }

    /// One string of the map, read as a number (or anything that parses).
    pub fn meta_parse<T: std::str::FromStr>(&self, key: &str) -> Result<T, CheckpointError> {
        let text = self.meta_str(key)?;
        text.parse().map_err(|_| CheckpointError::Mismatch {
            path: self.path.clone(),
            name: key.into(),
            found: format!("`{text}`"),
            expected: std::any::type_name::<T>().into(),
        })
    }

    /// The file it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn absent(&self, what: &'static str, name: &str) -> CheckpointError {
        CheckpointError::Absent { path: self.path.clone(), what, name: name.into() }
    }
}

/// The tensors of a file of `found` bytes whose data begin at `data`: one after another, of the sizes their shapes ask
/// for, to the file's last byte.
fn entries(metadata: &Metadata, data: u64, found: u64) -> Result<BTreeMap<String, Entry>, String> {
    let (mut tensors, mut at) = (BTreeMap::new(), data);
    for name in metadata.offset_keys() {
        let Some(info) = metadata.info(&name) else { continue };
        let dtype = Dtype::from_safetensors(info.dtype)
            .ok_or_else(|| format!("tensor `{name}` has the unknown type {:?}", info.dtype))?;
        let bytes = info.shape.iter().try_fold(dtype.size(), |n, &d| n.checked_mul(d));
        let (from, to) = info.data_offsets;
        let end = at.checked_add(bytes.unwrap_or(usize::MAX) as u64).filter(|end| *end <= found);
        let end = end.filter(|end| (at - data, end - data) == (from as u64, to as u64));
        let end = end.ok_or_else(|| format!("tensor table: `{name}` does not lie where its shape says"))?;
        tensors.insert(name, Entry { dtype, shape: info.shape.clone(), range: at..end });
        at = end;
    }
    if at == found { Ok(tensors) } else { Err(format!("tensor table: it ends {} bytes before the file", found - at)) }
}

/// The length that a header asks for, if data begin at `data`.
fn expected_len(header: &[u8], data: u64) -> Option<u64> {
    let root: Map<String, Value> = serde_json::from_slice(header).ok()?;
    let end = root.values().filter_map(|t| t.get("data_offsets")?.get(1)?.as_u64()).max().unwrap_or(0);
    data.checked_add(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_prefix_is_where_the_reader_looks() {
        let h = header(&[], &BTreeMap::from([("a".into(), "b".into())])).unwrap();
        assert!(h.starts_with(PREFIX), "{h}");
        assert_eq!(h.len() % 8, 0);
    }

    #[test]
    fn a_later_version_is_named() {
        let header = header(&[], &BTreeMap::new()).unwrap().replace("\"pwm_version\":\"1\"", "\"pwm_version\":\"9\"");
        let mut bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
        let mut crc = Crc64::new();
        crc.update(&bytes);
        bytes[DIGITS_AT..DIGITS_AT + DIGITS].copy_from_slice(format!("{:016x}", crc.finish()).as_bytes());
        let e = Checkpoint::parse(Path::new("x"), bytes).unwrap_err();
        assert!(matches!(e, CheckpointError::WrongVersion { ref found, .. } if found == "9"), "{e}");
    }
}
