//! Checkpoints: safetensors files with a version, a string map, and checksums that cover every byte of the file.
//!
//! Any safetensors reader opens them. Bytes depend on state alone: tensors are ordered by alignment, section and name,
//! metadata by key, and no time or path enters, so the same state twice is the same file. The header begins
//!
//! ```text
//! {"__metadata__":{"pwm_checksum":"0123456789abcdef","pwm_version":"2","pwm_sections":"{\"networks\":...
//! ```
//!
//! at a fixed offset. That checksum is the CRC-64/XZ of everything before the numbers, with its own sixteen digits read
//! as zeros; `pwm_sections` names the tensors of each [`Section`] and the CRC-64/XZ of their bytes. A flipped bit
//! anywhere, header and padding included, is found at load and told by section: of a file whose replay is damaged the
//! policy can still be used ([`Checkpoint::salvage`]). Files of version 1 had one checksum, of the whole file; they
//! still load.
//!
//! `save` streams tensors from the caller's memory (it copies none); `load` checks the whole file before a single
//! number can be used, and holds none of it: tensors are read from the file straight to where they belong.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use safetensors::tensor::Metadata;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::io::atomic::{self, FileError};
use crate::io::crc64::Crc64;
use crate::io::source::ByteSource;
use crate::io::tensors::{self, entries};
pub use crate::io::tensors::{Dtype, Element, Section, Tensor, TensorInfo};

/// The layout this build writes.
pub const VERSION: &str = "2";
/// The one before, which it still reads.
const ONE_CHECKSUM: &str = "1";

/// What every checkpoint begins with, after the eight bytes of the header length; the checksum digits follow.
const PREFIX: &str = "{\"__metadata__\":{\"pwm_checksum\":\"";
const DIGITS: usize = 16;
const DIGITS_AT: usize = 8 + PREFIX.len();
/// Metadata keys that belong to the format.
const RESERVED: &str = "pwm_";

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
    #[error("{path}: checkpoint version {found}, this build reads {ONE_CHECKSUM} and {VERSION}; use the pwm version named in the run's run.json", path = path.display())]
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

/// What the header says of a section.
#[derive(Debug, Serialize, Deserialize)]
struct Listed {
    checksum: String,
    tensors: Vec<String>,
}

fn digits(crc: &Crc64) -> String {
    format!("{:016x}", crc.finish())
}

/// Writes a checkpoint, whole or not at all: on error the old file is intact and nothing else is left.
pub fn save<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = Tensor<'a>>,
    meta: &BTreeMap<String, String>,
) -> Result<(), CheckpointError> {
    let mut tensors: Vec<Tensor> = tensors.into_iter().collect();
    tensors::sort(&mut tensors);
    let header = header(&tensors, meta).map_err(|what| CheckpointError::BadInput { path: path.to_path_buf(), what })?;
    atomic::replace(path, |file| tensors::write(file, &header, &tensors))?;
    Ok(())
}

/// The JSON header, its checksum in place.
fn header(tensors: &[Tensor], meta: &BTreeMap<String, String>) -> Result<String, String> {
    let mut sections: BTreeMap<Section, (Crc64, Vec<String>)> = BTreeMap::new();
    for t in tensors {
        let (crc, names) = sections.entry(t.section).or_default();
        crc.update(t.bytes);
        names.push(t.name.into());
    }
    let listed = sections.into_iter().map(|(s, (crc, tensors))| (s, Listed { checksum: digits(&crc), tensors }));
    let listed: BTreeMap<Section, Listed> = listed.collect();
    let mut strings = Map::new();
    strings.insert("pwm_checksum".into(), Value::String("0".repeat(DIGITS)));
    strings.insert("pwm_version".into(), VERSION.into());
    strings.insert("pwm_sections".into(), serde_json::to_string(&listed).map_err(|e| e.to_string())?.into());
    for (k, v) in meta {
        if k.starts_with(RESERVED) {
            return Err(format!("metadata key `{k}`: names that begin with `{RESERVED}` belong to the format"));
        }
        strings.insert(k.clone(), v.as_str().into());
    }
    let mut text = tensors::header(strings, tensors)?;
    let mut crc = Crc64::new();
    crc.update(&(text.len() as u64).to_le_bytes());
    crc.update(text.as_bytes());
    text.replace_range(DIGITS_AT - 8..DIGITS_AT - 8 + DIGITS, &digits(&crc));
    Ok(text)
}

/// A checkpoint, every byte of it checked. Tensors stay where they are until they are copied out: a file that is
/// replaced meanwhile (which [`save`] does by a new file) stays open as it was.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    source: ByteSource,
    meta: BTreeMap<String, String>,
    tensors: BTreeMap<String, TensorInfo>,
    /// Sections that are not as they were written.
    damaged: BTreeMap<Section, Listed>,
    /// Sections that are.
    whole: Vec<Section>,
}

impl Checkpoint {
    /// Opens and verifies a file, in memory that does not grow with its tensors.
    pub fn load(path: &Path) -> Result<Self, CheckpointError> {
        let file = File::open(path).map_err(FileError::at(path, "reading it"))?;
        Self::read(path, ByteSource::File(file))?.entire()
    }

    /// As `load`, of a file that may be damaged or cut short in some of its sections: asking for a tensor of those is
    /// an error, and [`Checkpoint::loss`] names them.
    pub fn salvage(path: &Path) -> Result<Self, CheckpointError> {
        let file = File::open(path).map_err(FileError::at(path, "reading it"))?;
        Self::read(path, ByteSource::File(file))
    }

    /// Verifies the bytes of a file; `path` is for messages.
    pub fn parse(path: &Path, bytes: Vec<u8>) -> Result<Self, CheckpointError> {
        Self::read(path, ByteSource::Memory(bytes))?.entire()
    }

    /// As `salvage`, wherever the bytes are.
    pub fn read(path: &Path, source: ByteSource) -> Result<Self, CheckpointError> {
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
        let Some(data) = header_len.checked_add(8).filter(|end| *end <= found) else {
            let expected = header_len.saturating_add(8);
            return Err(CheckpointError::Truncated { path: owned(), found, expected });
        };
        let header = source.bytes(8..data).map_err(unread)?;

        // Checksums first: nothing else is believed before one holds, only used to name what is wrong.
        let signed = |end: u64| {
            let mut crc = Crc64::new();
            source.checksum(&mut crc, 0..end, &(DIGITS_AT as u64..(DIGITS_AT + DIGITS) as u64)).map_err(unread)?;
            Ok::<_, CheckpointError>(digits(&crc).as_bytes() == &head[DIGITS_AT..])
        };
        let (header_holds, file_holds) = match signed(data)? {
            true => (true, found == data),
            false => (false, signed(found)?),
        };
        if !header_holds && !file_holds {
            return Err(match expected_len(&header, data) {
                Some(expected) if expected > found => CheckpointError::Truncated { path: owned(), found, expected },
                _ => damaged("a checksum does not match its bytes, and the header is not whole".into()),
            });
        }

        let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| damaged(format!("header: {e}")))?;
        let mut meta: BTreeMap<String, String> = metadata.metadata().clone().unwrap_or_default().into_iter().collect();
        let version = meta.remove("pwm_version").unwrap_or_default();
        let one = version == ONE_CHECKSUM && file_holds;
        if !one && (version != VERSION || !header_holds) {
            return Err(CheckpointError::WrongVersion { path: owned(), found: version });
        }
        let (tensors, end) = entries(&metadata, data).map_err(damaged)?;
        let text = meta.remove("pwm_sections").unwrap_or_default();
        let listed = if one { BTreeMap::new() } else { sections(&text, &tensors).map_err(damaged)? };
        if end < found || (one && end > found) {
            return Err(damaged(format!("it has {found} bytes, {end} expected")));
        }
        meta.retain(|k, _| !k.starts_with(RESERVED));

        let mut this = Self { path: owned(), source, meta, tensors, damaged: BTreeMap::new(), whole: vec![] };
        for (section, listed) in listed {
            if this.holds(&listed, found).map_err(unread)? {
                this.whole.push(section);
            } else {
                this.damaged.insert(section, listed);
            }
        }
        Ok(this)
    }

    /// Whether the bytes of a section are there, and those that were written.
    fn holds(&self, listed: &Listed, found: u64) -> std::io::Result<bool> {
        let mut crc = Crc64::new();
        for range in listed.tensors.iter().filter_map(|name| Some(self.tensors.get(name)?.range.clone())) {
            if range.end > found {
                return Ok(false);
            }
            self.source.checksum(&mut crc, range, &(0..0))?;
        }
        Ok(digits(&crc) == listed.checksum)
    }

    /// Whether what a policy is made of is whole.
    fn has_policy(&self) -> bool {
        [Section::Networks, Section::Statistics].iter().all(|s| self.whole.contains(s))
    }

    /// Itself, if what a policy is made of is whole; all of it must be if that is not told by section.
    pub fn with_policy(self) -> Result<Self, CheckpointError> {
        if self.has_policy() { Ok(self) } else { self.entire() }
    }

    /// Itself, if all of it is whole.
    fn entire(self) -> Result<Self, CheckpointError> {
        let found = self.source.len().map_err(FileError::at(&self.path, "reading it"))?;
        let expected = self.tensors.values().map(|t| t.range.end).max().unwrap_or(found);
        match self.loss() {
            _ if expected > found => Err(CheckpointError::Truncated { path: self.path, found, expected }),
            Some(what) if self.has_policy() => {
                let what = format!("{what}; `pwm eval` and `pwm export` still take its policy");
                Err(CheckpointError::Damaged { path: self.path, what })
            }
            Some(what) => Err(CheckpointError::Damaged { path: self.path, what }),
            None => Ok(self),
        }
    }

    /// Which sections are damaged and which are not, in words; none if all are whole.
    pub fn loss(&self) -> Option<String> {
        let join = |names: Vec<&str>| names.join(", ");
        let lost = join(self.damaged.keys().map(|s| s.name()).collect());
        let whole = join(self.whole.iter().map(|s| s.name()).collect());
        let first = format!("section {lost} is not as it was written");
        match (self.damaged.len(), self.whole.is_empty()) {
            (0, _) => None,
            (1, false) => Some(format!("{first}; whole: {whole}")),
            (1, true) => Some(first),
            (_, false) => Some(format!("sections {lost} are not as they were written; whole: {whole}")),
            (_, true) => Some(format!("sections {lost} are not as they were written")),
        }
    }

    /// Names of the tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Type and shape of a tensor.
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo, CheckpointError> {
        if let Some((section, _)) = self.damaged.iter().find(|(_, l)| l.tensors.iter().any(|t| t == name)) {
            let what = format!("`{name}` is in section {}, which is not as it was written", section.name());
            return Err(CheckpointError::Damaged { path: self.path.clone(), what });
        }
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

/// The table of sections, in which every tensor stands once.
fn sections(text: &str, tensors: &BTreeMap<String, TensorInfo>) -> Result<BTreeMap<Section, Listed>, String> {
    let listed: BTreeMap<Section, Listed> =
        serde_json::from_str(text).map_err(|e| format!("table of sections: {e}"))?;
    let mut names: Vec<&String> = listed.values().flat_map(|l| &l.tensors).collect();
    names.sort();
    if names.iter().copied().eq(tensors.keys()) {
        Ok(listed)
    } else {
        Err("table of sections: it does not name every tensor once".into())
    }
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
        let header = header(&[], &BTreeMap::new()).unwrap().replace("\"pwm_version\":\"2\"", "\"pwm_version\":\"9\"");
        let e = Checkpoint::parse(Path::new("x"), signed(&header, &[])).unwrap_err();
        assert!(matches!(e, CheckpointError::WrongVersion { ref found, .. } if found == "9"), "{e}");
    }

    /// A file of version 1, as its writer made it: one checksum of everything.
    #[test]
    fn the_version_before_is_read_and_its_damage_found() {
        let w = [1.0f32, 2.0, 3.0];
        let t = Tensor::of("w", &[3], &w);
        let strings = [("pwm_checksum", "0".repeat(DIGITS)), ("pwm_version", "1".into()), ("epoch", "7".into())];
        let strings = strings.into_iter().map(|(k, v)| (k.to_string(), Value::String(v))).collect();
        let good = signed(&tensors::header(strings, &[t]).unwrap(), t.bytes);
        let c = Checkpoint::parse(Path::new("x"), good.clone()).unwrap();
        assert_eq!((c.values::<f32>("w").unwrap(), c.meta_parse::<u32>("epoch").unwrap()), (w.to_vec(), 7));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Checkpoint::read(Path::new("x"), ByteSource::Memory(bad)).is_err(), "bit {bit}");
        }
    }

    /// Bytes with one checksum over all of them.
    fn signed(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat();
        bytes[DIGITS_AT..DIGITS_AT + DIGITS].fill(b'0');
        let mut crc = Crc64::new();
        crc.update(&bytes);
        bytes[DIGITS_AT..DIGITS_AT + DIGITS].copy_from_slice(digits(&crc).as_bytes());
        bytes
    }
}
