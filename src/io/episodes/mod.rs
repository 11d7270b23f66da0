//! Recorded episodes of many tasks: the files in which TD-MPC2 published its data (Hansen et al., 2024), read where
//! they lie.
//!
//! A *chunk* is a file of `torch.save`: a TensorDict of `obs` `[E, T, O]`, `action` `[E, T, A]`, `reward` `[E, T]` in
//! single precision and `task` `[E, T]`, whole numbers. Row 0 of an episode is its first observation; its action and
//! reward are filler, also in statistics. Row i has the observation after step i, with action and reward of that step.
//! An *index* says which episodes of which chunks are of which task, and what is in them; the numbers stay in the chunks.
//!
//! | file | what |
//! |---|---|
//! | [`chunk`] | where the numbers of a chunk lie |
//! | [`scan`] | an index made of chunks, in one pass |
//! | [`index`] | the index as a file |
//! | [`store`] | chunks in memory maps, episodes by task |
//! | [`mod@write`] | chunks written |
//! | [`names`] | the published numbers of tasks |

pub mod chunk;
pub mod index;
pub mod names;
pub mod scan;
pub mod store;
pub mod write;

pub use chunk::Chunk;
pub use index::Index;
pub use store::Store;

use super::atomic::FileError;
use std::path::{Path, PathBuf};

/// Why episodes cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error(transparent)]
    File(#[from] FileError),
    /// A file that is not what it should be.
    #[error("{path}: {what}", path = path.display())]
    Bad {
        /// The file in question.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// Something that concerns no single file.
    #[error("{0}")]
    Wrong(String),
}

impl DataError {
    /// A file that is not what it should be.
    pub fn bad(path: &Path, what: impl Into<String>) -> Self {
        Self::Bad { path: path.into(), what: what.into() }
    }
}
