//! Named tensors in the safetensors format: what a file's header says, and the order in which numbers lie.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;

use safetensors::tensor::Metadata;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Number types a file of ours may hold.
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

/// What a tensor serves: damage to a checkpoint is told by these, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// Weights.
    Networks,
    /// Running means and variances.
    Statistics,
    /// Moments and step counts.
    Optimiser,
    /// Counters, random ones among them.
    Counters,
    /// The state of the environments.
    Environment,
    /// Transitions to learn from.
    Replay,
}

impl Section {
    /// Its name in messages and headers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Networks => "networks",
            Self::Statistics => "statistics",
            Self::Optimiser => "optimiser",
            Self::Counters => "counters",
            Self::Environment => "environment",
            Self::Replay => "replay",
        }
    }
}

/// One tensor to save: the bytes are little-endian numbers in row-major order.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// Where a checkpoint keeps it.
    pub section: Section,
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
    /// A view of a slice of numbers, among the networks.
    pub fn of<T: Element>(name: &'a str, shape: &'a [usize], values: &'a [T]) -> Self {
        Self { section: Section::Networks, name, dtype: T::DTYPE, shape, bytes: bytemuck::cast_slice(values) }
    }

    /// The same, in another section.
    pub fn within(self, section: Section) -> Self {
        Self { section, ..self }
    }
}

/// The order in a file: widest numbers first, which keeps every tensor aligned to its own size.
pub fn sort(tensors: &mut [Tensor]) {
    tensors
        .sort_by(|a, b| b.dtype.size().cmp(&a.dtype.size()).then(a.section.cmp(&b.section)).then(a.name.cmp(b.name)));
}

/// The JSON header of a file of these tensors in this order, padded so that the data start on a multiple of eight
/// bytes.
pub fn header(strings: Map<String, Value>, tensors: &[Tensor]) -> Result<String, String> {
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

/// Writes a file: the length of the header, the header, the numbers.
pub fn write(file: &mut impl Write, header: &str, tensors: &[Tensor]) -> io::Result<()> {
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    tensors.iter().try_for_each(|t| file.write_all(t.bytes))
}

/// What is known of a tensor without reading it.
#[derive(Debug)]
pub struct TensorInfo {
    /// Number type.
    pub dtype: Dtype,
    /// Sizes, slowest first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Where it lies in the file.
    pub(super) range: Range<u64>,
}

impl TensorInfo {
    /// Bytes it takes.
    pub fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// The tensors of a file whose data begin at `data`, one after another, of the sizes their shapes ask for; and where
/// the last one ends. The file may be shorter.
pub fn entries(metadata: &Metadata, data: u64) -> Result<(BTreeMap<String, TensorInfo>, u64), String> {
    let (mut tensors, mut at) = (BTreeMap::new(), data);
    for name in metadata.offset_keys() {
        let Some(info) = metadata.info(&name) else { continue };
        let dtype = Dtype::from_safetensors(info.dtype)
            .ok_or_else(|| format!("tensor `{name}` has the unknown type {:?}", info.dtype))?;
        let bytes = info.shape.iter().try_fold(dtype.size(), |n, &d| n.checked_mul(d));
        let (from, to) = info.data_offsets;
        let end = bytes.and_then(|b| at.checked_add(b as u64));
        let end = end.filter(|end| (at - data, end - data) == (from as u64, to as u64));
        let end = end.ok_or_else(|| format!("tensor table: `{name}` does not lie where its shape says"))?;
        tensors.insert(name, TensorInfo { dtype, shape: info.shape.clone(), range: at..end });
        at = end;
    }
    Ok((tensors, at))
}
