//! The block of variables outside the arena.

use crate::device::cuda::CudaError;
use crate::device::cuda::driver::{Context, Pinned};
use crate::mem::{MapError, Mapped};
use crate::tape::Placement;
use bytemuck::Pod;
use std::sync::Arc;

/// Where the variables lie that [`crate::tape::Vars::offload`] took out of the arena.
pub(super) enum Offloaded<F: Pod> {
    None,
    Mapped(Mapped<F>),
    Pinned(Pinned),
}

impl<F: Pod> Offloaded<F> {
    /// `len` zeros in a file, or none if everything is in the arena.
    pub fn mapped(placement: &Placement, len: usize) -> Result<Self, MapError> {
        match placement {
            Placement::Arena => Ok(Self::None),
            Placement::File(folder) => Ok(Self::Mapped(Mapped::new(folder, len)?)),
            Placement::Pinned => panic!("invariant: memory is pinned for a GPU"),
        }
    }

    /// `len` zeros that a GPU reads in place, or none.
    pub fn pinned(placement: &Placement, context: &Arc<Context>, len: usize) -> Result<Self, CudaError> {
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

    /// Where a GPU finds it; 0 if it is no memory that a GPU reads.
    pub fn device_address(&self) -> usize {
        match self {
            Self::Pinned(p) => p.address as usize,
            _ => 0,
        }
    }

    pub fn bytes(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Mapped(m) => size_of_val(m.as_slice()),
            Self::Pinned(p) => 4 * p.words,
        }
    }
}
