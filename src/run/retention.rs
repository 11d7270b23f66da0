//! Which policies of a run are kept: `best.safetensors`, the few best under their epochs, and every so many epochs one.
//!
//! ```text
//! checkpoints/best.safetensors           the highest evaluation
//! checkpoints/best-00001200.safetensors  one of the `keep_best` highest, where that is more than one
//! checkpoints/epoch-00002000.safetensors one every `keep_every` epochs, never deleted
//! ```
//!
//! A policy is networks and statistics with the evaluation that was made of it. The table is in the files themselves,
//! so it cannot disagree with them.

use std::path::{Path, PathBuf};

use crate::io::atomic::FileError;
use crate::io::checkpoint::{Checkpoint, CheckpointError};
use crate::run::state::{self, Best};

/// The best policies under their epochs, best first; of equals the earlier.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept(Vec<(u64, f64)>);

/// A policy among the best, under its epoch.
pub fn best_at(checkpoints: &Path, epoch: u64) -> PathBuf {
    checkpoints.join(format!("best-{epoch:08}.safetensors"))
}

/// A policy that is kept for good.
pub fn epoch_at(checkpoints: &Path, epoch: u64) -> PathBuf {
    checkpoints.join(format!("epoch-{epoch:08}.safetensors"))
}

impl Kept {
    /// The table of a run folder. Files that cannot be read are told to `complain` and count for nothing.
    pub fn read(checkpoints: &Path, mut complain: impl FnMut(&CheckpointError)) -> Self {
        let names = std::fs::read_dir(checkpoints).into_iter().flatten().flatten().map(|e| e.path());
        let is_best = |p: &PathBuf| {
            p.file_name()
                .and_then(|n| n.to_str())
                .is_some_and(|n| n.starts_with("best-") && n.ends_with(".safetensors"))
        };
        let mut kept = Self::default();
        for path in names.filter(is_best) {
            match Checkpoint::load(&path).and_then(|c| state::best_of(&c)) {
                Ok(Best { epoch, mean, .. }) => kept.insert(epoch, mean),
                Err(e) => complain(&e),
            }
        }
        kept
    }

    fn insert(&mut self, epoch: u64, mean: f64) {
        self.0.retain(|(e, _)| *e != epoch);
        self.0.push((epoch, mean));
        self.0.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    }

    /// Whether an evaluation is among the best `count`.
    pub fn wants(&self, epoch: u64, mean: f64, count: usize) -> bool {
        let above = self.0.iter().filter(|(e, m)| *e != epoch && (*m > mean || (*m == mean && *e < epoch))).count();
        count > 1 && above < count
    }

    /// Takes an evaluation whose file is written, and deletes the files of those that are no longer among the best.
    pub fn add(&mut self, checkpoints: &Path, epoch: u64, mean: f64, count: usize) -> Result<(), FileError> {
        self.insert(epoch, mean);
        for (epoch, _) in self.0.split_off(count.min(self.0.len())) {
            let path = best_at(checkpoints, epoch);
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(FileError::new(&path, "deleting it", e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Epochs and evaluations, best first.
    pub fn table(&self) -> &[(u64, f64)] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_few_stay_and_of_equals_the_earlier() {
        let dir = tempfile::tempdir().unwrap();
        let mut k = Kept::default();
        for (epoch, mean) in [(10, 5.0), (20, 7.0), (30, 5.0), (40, 9.0), (50, 1.0), (60, 7.0)] {
            if k.wants(epoch, mean, 3) {
                std::fs::write(best_at(dir.path(), epoch), "").unwrap();
                k.add(dir.path(), epoch, mean, 3).unwrap();
            }
        }
        assert_eq!(k.table(), [(40, 9.0), (20, 7.0), (60, 7.0)]);
        let files: Vec<bool> = [10, 20, 30, 40, 60].iter().map(|&e| best_at(dir.path(), e).exists()).collect();
        assert_eq!(files, [false, true, false, true, true]);
        assert!(!k.wants(70, 7.0, 3) && k.wants(60, 7.0, 3) && !k.wants(70, 70.0, 1));
    }
}
