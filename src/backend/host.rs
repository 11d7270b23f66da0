//! The host's memory of variables: two arenas, and the block of those outside.

use super::offloaded::Offloaded;
use crate::mem::{Arena, OutOfMemory};
use crate::tape::backend::Planned;
use crate::tape::plan::ByType;
use crate::tape::program::DType;
use crate::tape::{TapeReal, VarId};
use std::ops::Range;
use std::sync::Arc;

pub(super) struct HostMemory<F: TapeReal> {
    planned: Arc<Planned>,
    pub reals: Arena<F>,
    pub indices: Arena<u32>,
    pub offloaded: Offloaded<F>,
}

impl<F: TapeReal> HostMemory<F> {
    /// Room for `size` elements, whose pages become resident when they are touched.
    pub fn reserve(planned: Arc<Planned>, size: ByType, offloaded: Offloaded<F>) -> Result<Self, OutOfMemory> {
        let reals = Arena::reserve("number", size.real)?;
        let indices = Arena::reserve("index", size.index)?;
        Ok(Self { planned, reals, indices, offloaded })
    }

    /// Where a variable lies in its block.
    fn range(&self, var: VarId) -> Range<usize> {
        let at = self.planned.layout.vars[var.0 as usize];
        at..at + self.planned.vars.info(var).len()
    }

    pub fn read(&self, var: VarId) -> &[F] {
        let range = self.range(var);
        if self.planned.vars.is_offloaded(var) {
            // SAFETY: the variable lies inside the block, and nobody writes it while this borrow lives: writing takes
            // `&mut self`.
            return unsafe { std::slice::from_raw_parts(self.offloaded.as_ptr().add(range.start), range.len()) };
        }
        self.reals.slice(range)
    }

    pub fn write(&mut self, var: VarId) -> &mut [F] {
        let range = self.range(var);
        if self.planned.vars.is_offloaded(var) {
            // SAFETY: as above; `&mut self` makes the borrow exclusive.
            return unsafe { std::slice::from_raw_parts_mut(self.offloaded.as_ptr().add(range.start), range.len()) };
        }
        &mut self.reals.as_mut_slice()[range]
    }

    pub fn read_index(&self, var: VarId) -> &[u32] {
        self.indices.slice(self.range(var))
    }

    pub fn write_index(&mut self, var: VarId) -> &mut [u32] {
        let range = self.range(var);
        &mut self.indices.as_mut_slice()[range]
    }

    /// Bytes of a variable in an arena, for copies from and to a device: first byte and length.
    pub fn place(&self, var: VarId) -> (*mut u8, usize) {
        let range = self.range(var);
        let (block, size) = match self.planned.vars.info(var).dtype {
            DType::Real => (self.reals.as_ptr().cast::<u8>(), size_of::<F>()),
            DType::Index => (self.indices.as_ptr().cast(), size_of::<u32>()),
        };
        (block.wrapping_add(range.start * size), range.len() * size)
    }
}
