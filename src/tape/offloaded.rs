//! Variables outside the arena: what is too large for where programs run, and read there in small pieces.

use crate::device::cuda::CudaError;
use crate::device::cuda::driver::{Context, Pinned};
use crate::mem::{MapError, Mapped};
use bytemuck::Pod;
use std::path::PathBuf;
use std::sync::Arc;

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

/// The block of such variables.
pub(super) enum Offloaded<F: Pod> {
    None,
    Mapped(Mapped<F>),
    Pinned(Pinned),
}

impl<F: Pod> Offloaded<F> {
    /// `len` zeros in a file, or none if everything is in the arena.
    pub fn on_cpu(placement: &Placement, len: usize) -> Result<Self, MapError> {
        match placement {
            Placement::Arena => Ok(Self::None),
            Placement::File(folder) => Ok(Self::Mapped(Mapped::new(folder, len)?)),
            Placement::Pinned => panic!("invariant: memory is pinned for a GPU"),
        }
    }

    /// `len` zeros that a GPU reads in place, or none.
    pub fn on_gpu(placement: &Placement, context: &Arc<Context>, len: usize) -> Result<Self, CudaError> {
        assert_eq!(size_of::<F>(), 4, "invariant: a GPU computes in single precision");
        match placement {
            Placement::Arena => Ok(Self::None),
            Placement::Pinned => Ok(Self::Pinned(Pinned::new(context, len)?)),
            Placement::File(_) => panic!("invariant: a file is mapped for the processor"),
        }
    }

    /// Where the host finds the first number.
    pub fn as_ptr(&self) -> *mut F {
        match self {
            Self::None => std::ptr::null_mut(),
            Self::Mapped(m) => m.as_ptr(),
            Self::Pinned(p) => p.as_ptr().cast(),
        }
    }

    /// Where programs find it.
    pub fn address(&self) -> usize {
        match self {
            Self::Pinned(p) => p.address as usize,
            _ => self.as_ptr() as usize,
        }
    }
}
