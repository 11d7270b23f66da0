//! Files of `torch.save`, read without Python: a ZIP of one pickle and the raw numbers of each storage.
//!
//! Only what state dictionaries are made of is understood: dictionaries, lists, tuples, numbers, text, tensors. Objects
//! of any other class are named, with the tensors and numbers among their attributes; nothing in the file is ever run.

pub mod pickle;
pub mod zip;

use std::collections::BTreeMap;

use half::{bf16, f16};
use pickle::{Id, Pickle, PickleNode};

/// A tensor as the file describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct TorchTensor {
    /// Sizes, slowest first; empty for a scalar.
    pub shape: Vec<usize>,
    strides: Vec<usize>,
    offset: usize,
    /// Name of the entry that holds its numbers, and their type.
    storage: String,
    kind: String,
}

impl TorchTensor {
    /// The first of its numbers among those of its storage, if they lie one behind the other.
    pub fn contiguous(&self) -> Option<usize> {
        let mut step = 1usize;
        for (size, stride) in self.shape.iter().zip(&self.strides).rev() {
            if *size > 1 && *stride != step {
                return None;
            }
            step = step.checked_mul(*size)?;
        }
        Some(self.offset)
    }
}

/// What the numbers of a storage are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    F32,
    F64,
    F16,
    Bf16,
    I32,
}

impl Storage {
    fn of(kind: &str) -> Result<Self, String> {
        Ok(match kind {
            "torch FloatStorage" => Self::F32,
            "torch DoubleStorage" => Self::F64,
            "torch HalfStorage" => Self::F16,
            "torch BFloat16Storage" => Self::Bf16,
            "torch IntStorage" => Self::I32,
            other => return Err(format!("numbers of type {other} are not read here")),
        })
    }
}

/// A leaf of the file's tree.
#[derive(Clone, Debug, PartialEq)]
pub enum Leaf {
    Tensor(TorchTensor),
    Number(f64),
    /// Text, and what else says little.
    Other,
}

/// What a file holds, by path: `actor.mu_net.0.weight`, `rew_rms.count`.
#[derive(Debug)]
pub struct TorchFile<'a> {
    pub leaves: BTreeMap<String, Leaf>,
    /// Objects that were not made: path and class.
    pub objects: BTreeMap<String, String>,
    entries: zip::Entries<'a>,
    prefix: String,
}

/// How deep a tree may be, and how much text its paths may take in all: shared parts count as often as they appear.
const DEPTH: usize = 32;
const PATHS: usize = 1 << 24;

impl<'a> TorchFile<'a> {
    /// Understands a file; its numbers stay where they are.
    pub fn parse(file: &'a [u8]) -> Result<Self, String> {
        Self::understand(file, zip::entries)
    }

    /// The same of a file that is too large to be read whole: what describes its numbers is verified, they are not.
    pub fn header(file: &'a [u8]) -> Result<Self, String> {
        Self::understand(file, |file| {
            let entry = |(name, e): (String, zip::Entry<'a>)| {
                let is_storage = name.contains("/data/");
                let bytes = if is_storage { Ok(e.bytes) } else { e.verified(&name) };
                bytes.map(|bytes| (name, bytes))
            };
            zip::directory(file)?.into_iter().map(entry).collect()
        })
    }

    fn understand(
        file: &'a [u8],
        entries: impl Fn(&'a [u8]) -> Result<zip::Entries<'a>, String>,
    ) -> Result<Self, String> {
        if file.first() == Some(&0x80) {
            return Err("it is of the format before PyTorch 1.6; load it there and save it again".into());
        }
        let entries = entries(file)?;
        let name = entries.keys().find(|n| n.ends_with("/data.pkl")).ok_or("it has no data.pkl: not of torch.save")?;
        let prefix = name.trim_end_matches("data.pkl").to_string();
        if entries.get(&format!("{prefix}byteorder")).is_some_and(|b| *b != b"little") {
            return Err("its numbers are big-endian, which is not read here".into());
        }
        let pickle = pickle::read(entries[name]).map_err(|e| format!("data.pkl: {e}"))?;
        let mut walk = Walk { pickle: &pickle, left: PATHS, leaves: BTreeMap::new(), objects: BTreeMap::new() };
        walk.visit(pickle.root, String::new(), 0)?;
        let (leaves, objects) = (walk.leaves, walk.objects);
        Ok(Self { leaves, objects, entries, prefix })
    }

    /// A tensor by its path.
    pub fn tensor(&self, path: &str) -> Option<&TorchTensor> {
        match self.leaves.get(path)? {
            Leaf::Tensor(t) => Some(t),
            _ => None,
        }
    }

    /// The name of the entry that holds the numbers of a tensor, its bytes, and their type.
    pub fn storage(&self, t: &TorchTensor) -> Result<(String, &'a [u8], Storage), String> {
        let name = format!("{}data/{}", self.prefix, t.storage);
        let bytes = *self.entries.get(&name).ok_or_else(|| format!("`{name}` is missing"))?;
        Ok((name, bytes, Storage::of(&t.kind)?))
    }

    /// An upper bound of the numbers in the file.
    pub fn numbers(&self) -> usize {
        self.entries.values().map(|e| e.len() / 2).sum()
    }

    /// The numbers of a tensor in row-major order, in single precision.
    pub fn values(&self, t: &TorchTensor) -> Result<Vec<f32>, String> {
        let (_, bytes, storage) = self.storage(t)?;
        let (size, read): (usize, fn(&[u8]) -> f32) = match storage {
            Storage::F32 => (4, |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
            Storage::F64 => (8, |b| f64::from_le_bytes(std::array::from_fn(|i| b[i])) as f32),
            Storage::F16 => (2, |b| f16::from_le_bytes([b[0], b[1]]).to_f32()),
            Storage::Bf16 => (2, |b| bf16::from_le_bytes([b[0], b[1]]).to_f32()),
            Storage::I32 => (4, |b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f32),
        };
        let held = bytes.len() / size;
        let count = t.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|n| *n <= held);
        let count = count.ok_or("it has more numbers than its storage")?;
        let mut out = Vec::with_capacity(count);
        let mut index = vec![0; t.shape.len()];
        for _ in 0..count {
            let place =
                index.iter().zip(&t.strides).try_fold(t.offset, |at, (i, s)| at.checked_add(s.checked_mul(*i)?));
            let place = place.filter(|p| *p < held).ok_or("it reaches beyond its storage")?;
            out.push(read(&bytes[place * size..]));
            for d in (0..index.len()).rev() {
                index[d] += 1;
                if index[d] < t.shape[d] {
                    break;
                }
                index[d] = 0;
            }
        }
        Ok(out)
    }
}

/// Goes through the tree of a pickle.
struct Walk<'a> {
    pickle: &'a Pickle,
    /// Bytes of paths that may still be made.
    left: usize,
    leaves: BTreeMap<String, Leaf>,
    objects: BTreeMap<String, String>,
}

impl Walk<'_> {
    fn visit(&mut self, id: Id, path: String, depth: usize) -> Result<(), String> {
        // An empty path costs something, too: the tree may branch without names.
        let left = self.left.checked_sub(path.len() + 64).filter(|_| depth <= DEPTH);
        self.left = left.ok_or("its tree is too deep or too large for a checkpoint")?;
        let pickle = self.pickle;
        let leaf = match pickle.node(id) {
            PickleNode::Dict(pairs) => {
                for &(key, value) in pairs {
                    if let Some(key) = self.key(key) {
                        self.visit(value, self.join(&path, &key)?, depth + 1)?;
                    }
                }
                return Ok(());
            }
            PickleNode::List(items) | PickleNode::Tuple(items) => {
                for (i, &item) in items.iter().enumerate() {
                    self.visit(item, self.join(&path, &i.to_string())?, depth + 1)?;
                }
                return Ok(());
            }
            PickleNode::Object { class, args, state } => {
                let class = self.class(*class).unwrap_or("something without a name");
                match (class, self.tuple(*args)) {
                    ("torch._utils _rebuild_tensor_v2", Some(args)) => {
                        Leaf::Tensor(self.tensor(args).ok_or_else(|| format!("the tensor `{path}` is malformed"))?)
                    }
                    // What newer versions of TensorDict make of a class and its attributes.
                    ("tensordict._reductions _make_td", Some([_, attributes, ..])) => {
                        return self.visit(*attributes, path, depth + 1);
                    }
                    ("torch._utils _rebuild_parameter", Some([tensor, ..])) => {
                        return self.visit(*tensor, path, depth + 1);
                    }
                    _ => {
                        self.objects.insert(path.clone(), class.into());
                        return match state {
                            Some(state) => self.visit(*state, path, depth + 1),
                            None => Ok(()),
                        };
                    }
                }
            }
            PickleNode::Int(n) => Leaf::Number(*n as f64),
            PickleNode::Float(x) => Leaf::Number(*x),
            PickleNode::None => return Ok(()),
            PickleNode::Bool(_)
            | PickleNode::Text(_)
            | PickleNode::Other
            | PickleNode::Class(_)
            | PickleNode::Persistent(_) => Leaf::Other,
        };
        self.leaves.insert(path, leaf);
        Ok(())
    }

    fn key(&self, id: Id) -> Option<String> {
        match self.pickle.node(id) {
            PickleNode::Text(t) => Some(t.clone()),
            PickleNode::Int(n) => Some(n.to_string()),
            _ => None,
        }
    }

    fn join(&self, path: &str, key: &str) -> Result<String, String> {
        if path.len() + key.len() > self.left {
            return Err("its names are too long for a checkpoint".into());
        }
        Ok(if path.is_empty() { key.into() } else { format!("{path}.{key}") })
    }

    fn class(&self, id: Id) -> Option<&str> {
        match self.pickle.node(id) {
            PickleNode::Class(name) => Some(name),
            _ => None,
        }
    }

    fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.pickle.node(id) {
            PickleNode::Tuple(items) => Some(items),
            _ => None,
        }
    }

    fn size(&self, id: Id) -> Option<usize> {
        match self.pickle.node(id) {
            PickleNode::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        }
    }

    fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        self.tuple(id)?.iter().map(|&i| self.size(i)).collect()
    }

    /// Storage, offset, sizes, strides.
    fn tensor(&self, args: &[Id]) -> Option<TorchTensor> {
        let &[storage, offset, shape, strides, ..] = args else { return None };
        let PickleNode::Persistent(storage) = self.pickle.node(storage) else { return None };
        let &[_, kind, key, ..] = self.tuple(*storage)? else { return None };
        let PickleNode::Text(key) = self.pickle.node(key) else { return None };
        let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
        // What no program makes and what would take room for nothing.
        if shape.len() != strides.len() || shape.len() > 16 || key.len() > 64 {
            return None;
        }
        let kind = self.class(kind)?.to_string();
        Some(TorchTensor { shape, strides, offset: self.size(offset)?, storage: key.clone(), kind })
    }
}
