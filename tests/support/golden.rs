//! Golden arrays: safetensors files under the folder in `PWM_GOLDEN` (which holds `ant/` and `pwm/`), else under
//! `tests/golden`. Those of MuJoCo's law: under `PWM_GOLDEN_MUJOCO`, else `tests/golden/mujoco`.

use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// An array of a golden file, as `f64` whatever it is stored as.
#[derive(Clone, Debug)]
pub struct Array {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

pub struct Golden {
    path: PathBuf,
    bytes: Vec<u8>,
    metadata: HashMap<String, String>,
}

fn folder(variable: &str, own: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(folder) => folder.into(),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(own),
    }
}

impl Golden {
    /// File `name`, such as `pwm/f_twohot`.
    pub fn open(name: &str) -> Self {
        let path = folder("PWM_GOLDEN", "tests/golden").join(format!("{name}.safetensors"));
        Self::at(&path).unwrap_or_else(|| panic!("golden file {} is missing", path.display()))
    }

    /// File `name` of those of MuJoCo's law, such as `fish_step`.
    pub fn mujoco(name: &str) -> Self {
        let path = folder("PWM_GOLDEN_MUJOCO", "tests/golden/mujoco").join(format!("{name}.safetensors"));
        Self::at(&path).unwrap_or_else(|| panic!("golden file {} is missing", path.display()))
    }

    /// File `name` of tests/fixtures.
    pub fn fixture(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.safetensors"));
        Self::at(&path).unwrap_or_else(|| panic!("{} is missing", path.display()))
    }

    /// As [`Golden::open`]; none if there is no such file. Not every golden file is kept in the repository.
    pub fn find(name: &str) -> Option<Self> {
        Self::at(&folder("PWM_GOLDEN", "tests/golden").join(format!("{name}.safetensors")))
    }

    fn at(path: &Path) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        Some(Self::parse(path.to_owned(), bytes).unwrap_or_else(|e| panic!("golden file {e}")))
    }

    /// Takes the bytes of a golden file; `path` is for messages.
    pub fn parse(path: PathBuf, bytes: Vec<u8>) -> Result<Self, String> {
        let named = |e| format!("{}: {e}", path.display());
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(named)?;
        // Also whether every array lies within the file.
        SafeTensors::deserialize(&bytes).map_err(named)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        Ok(Self { path, bytes, metadata })
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).expect("the header was read before")
    }

    /// Names of all arrays, in alphabetical order.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.tensors().names().into_iter().map(Into::into).collect();
        names.sort();
        names
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors().tensor(name).is_ok()
    }

    /// Array `name`.
    pub fn array(&self, name: &str) -> Array {
        self.read(name).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Array `name`, or why it cannot be had.
    pub fn read(&self, name: &str) -> Result<Array, String> {
        let tensors = self.tensors();
        let t = tensors.tensor(name).map_err(|e| format!("{}: {name}: {e}", self.path.display()))?;
        let b = t.data();
        fn each<const N: usize>(b: &[u8], f: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            b.chunks_exact(N).map(|c| f(c.try_into().expect("chunks of N bytes"))).collect()
        }
        let values = match t.dtype() {
            Dtype::F32 => each(b, |c| f64::from(f32::from_le_bytes(c))),
            Dtype::F64 => each(b, f64::from_le_bytes),
            Dtype::I32 => each(b, |c| f64::from(i32::from_le_bytes(c))),
            Dtype::I64 => each(b, |c| i64::from_le_bytes(c) as f64),
            Dtype::U8 | Dtype::BOOL => each(b, |[c]| f64::from(c)),
            other => return Err(format!("{}: {name} has the type {other:?}", self.path.display())),
        };
        Ok(Array { name: name.to_string(), shape: t.shape().to_vec(), values })
    }

    /// Numbers of array `name`.
    pub fn get(&self, name: &str) -> Vec<f64> {
        self.array(name).values
    }

    /// The only number of array `name`.
    pub fn scalar(&self, name: &str) -> f64 {
        let a = self.array(name);
        assert_eq!(a.values.len(), 1, "{name} is one number");
        a.values[0]
    }

    /// What the reference computes for `name` in f64, on the same f32 inputs: the array to compare with.
    pub fn want(&self, name: &str) -> Array {
        self.array(&format!("{name}.f64"))
    }

    /// Entry `key` of the file's metadata.
    pub fn meta(&self, key: &str) -> &str {
        self.metadata.get(key).unwrap_or_else(|| panic!("{}: no metadata {key}", self.path.display()))
    }

    /// Entry `key` of the file's metadata, as a number.
    pub fn number(&self, key: &str) -> f64 {
        self.meta(key).parse().unwrap_or_else(|e| panic!("{}: metadata {key}: {e}", self.path.display()))
    }
}

/// Fails unless `got` is within `tolerance` times the largest element of `want`, everywhere. Returns the worst distance
/// in those units.
pub fn assert_close(got: &[f64], want: &Array, tolerance: f64) -> f64 {
    assert_eq!(got.len(), want.values.len(), "{}: number of elements", want.name);
    let scale = want.values.iter().fold(0.0f64, |m, x| m.max(x.abs())).max(f64::MIN_POSITIVE);
    let mut worst = 0.0f64;
    for (i, (g, w)) in got.iter().zip(&want.values).enumerate() {
        let error = if g.is_nan() && w.is_nan() { 0.0 } else { (g - w).abs() / scale };
        // Also fails for NaN.
        assert!(error <= tolerance, "{}[{i}]: got {g:.17e}, want {w:.17e}, relative {error:.2e}", want.name);
        worst = worst.max(error);
    }
    worst
}
