//! Variables outside the arena: what is too large for where programs run, and read there in small pieces.

use std::path::PathBuf;

/// Where the variables lie that [`super::Vars::offload`] took out of the arena.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// In the arena: none was taken out.
    #[default]
    Arena,
    /// Page-locked memory of the host, which a GPU reads and writes in place.
    Pinned,
    /// A file without a name in this folder, mapped into memory; for programs on the processor.
    File(PathBuf),
}
