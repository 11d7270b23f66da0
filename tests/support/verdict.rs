//! The physics' golden files, row by row, and comparison relative to the largest element.

use std::collections::HashMap;

use super::golden;

/// One array, whatever its type was, in `f64`.
#[derive(Clone, Debug)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

impl Array {
    pub fn rows(&self) -> usize {
        self.shape[0]
    }
    /// Elements of one entry along the first dimension.
    pub fn stride(&self) -> usize {
        self.data.len() / self.shape[0].max(1)
    }
    pub fn row(&self, i: usize) -> &[f64] {
        &self.data[i * self.stride()..][..self.stride()]
    }
}

pub struct Golden {
    name: String,
    arrays: HashMap<String, Array>,
}

impl Golden {
    /// File `name`, such as `ant/ant_step`.
    pub fn open(name: &str) -> Self {
        Self::of(name, golden::Golden::open(name))
    }

    /// None if there is no such file.
    pub fn find(name: &str) -> Option<Self> {
        golden::Golden::find(name).map(|file| Self::of(name, file))
    }

    /// File `name` of those of MuJoCo's law.
    pub fn mujoco(name: &str) -> Self {
        Self::of(name, golden::Golden::mujoco(name))
    }

    /// File `name` of tests/fixtures.
    pub fn fixture(name: &str) -> Self {
        Self::of(name, golden::Golden::fixture(name))
    }

    fn of(name: &str, file: golden::Golden) -> Self {
        let array = |key: String| {
            let golden::Array { shape, values: data, .. } = file.array(&key);
            (key, Array { shape, data })
        };
        let arrays = file.names().into_iter().map(array).collect();
        Self { name: name.into(), arrays }
    }

    pub fn get(&self, key: &str) -> &Array {
        self.arrays.get(key).unwrap_or_else(|| panic!("{}: no array {key}", self.name))
    }
    pub fn has(&self, key: &str) -> bool {
        self.arrays.contains_key(key)
    }
    pub fn scalar(&self, key: &str) -> f64 {
        self.get(key).data[0]
    }
}

/// Largest difference divided by the largest element of `want`; infinite if either is not finite or lengths differ.
pub fn relative_error(got: &[f64], want: &[f64]) -> f64 {
    if got.len() != want.len() || got.iter().chain(want).any(|x| !x.is_finite()) {
        return f64::INFINITY;
    }
    let scale = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let error = got.iter().zip(want).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
    if error == 0.0 { 0.0 } else { error / scale.max(f64::MIN_POSITIVE) }
}

/// Largest difference divided by the largest element of `want`, or by 1 where all are smaller.
pub fn error_of_one(got: &[f64], want: &[f64]) -> f64 {
    if got.len() != want.len() {
        return f64::INFINITY;
    }
    distance(got, want) / want.iter().fold(1.0f64, |m, x| m.max(x.abs()))
}

/// Largest absolute difference.
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0f64, |m, (x, y)| if (x - y).is_finite() { m.max((x - y).abs()) } else { f64::INFINITY })
}

/// Value below which the share `p` of the samples lies.
pub fn quantile(samples: &[f64], p: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * p).round() as usize]
}

/// Worst error of each named comparison, for one message with all that failed.
#[derive(Default)]
pub struct Verdict {
    worst: Vec<(String, f64, f64, String)>,
}

impl Verdict {
    pub fn check(&mut self, name: &str, place: impl std::fmt::Display, error: f64, tolerance: f64) {
        match self.worst.iter_mut().find(|w| w.0 == name && w.2 == tolerance) {
            // What is not a number is the worst, and stays it.
            Some(w) if w.1.is_nan() || w.1 >= error => {}
            Some(w) => (w.1, w.3) = (error, place.to_string()),
            None => self.worst.push((name.into(), error, tolerance, place.to_string())),
        }
    }
    /// Prints every comparison and panics if one is beyond its tolerance.
    pub fn finish(self) {
        let line = |(name, error, tolerance, place): &(String, f64, f64, String)| {
            format!("{name}: {error:.2e} (tolerance {tolerance:.0e}) at {place}")
        };
        for w in &self.worst {
            println!("{}", line(w));
        }
        let failed: Vec<_> = self.worst.iter().filter(|w| w.1.is_nan() || w.1 > w.2).map(line).collect();
        assert!(!self.worst.is_empty(), "nothing was compared");
        assert!(failed.is_empty(), "beyond tolerance:\n{}", failed.join("\n"));
    }
}
