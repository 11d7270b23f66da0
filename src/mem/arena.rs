//! A block of numbers that is allocated once, touched at once, and never grows.

use bytemuck::Pod;
use std::alloc::Layout;
use std::ops::Range;
use std::ptr::NonNull;

/// Addresses handed out inside an arena are multiples of this many bytes (one cache line, one AVX-512 register).
pub const ALIGN: usize = 64;

/// The allocator refused; nothing was allocated.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot allocate {bytes} bytes for the {what} arena: reduce num_envs, wm_batch_size, horizon or wm_buffer_size"
)]
pub struct OutOfMemory {
    pub what: &'static str,
    pub bytes: usize,
}

/// `len` numbers at a fixed, 64-byte aligned address. Shared with worker threads through raw pointers: the executor
/// (`crate::backend`) decides who may touch which range, and when.
pub struct Arena<T: Pod> {
    ptr: NonNull<T>,
    len: usize,
    /// What the allocator gave: the numbers begin at the first multiple of `ALIGN` in it.
    block: NonNull<u8>,
}

// SAFETY: the arena owns its block; every access goes through the executor, which orders conflicting ones.
unsafe impl<T: Pod + Send> Send for Arena<T> {}
// SAFETY: as above.
unsafe impl<T: Pod + Sync> Sync for Arena<T> {}

impl<T: Pod> Arena<T> {
    /// Allocates `len` numbers and writes `fill` to each, so that every page is resident from the start.
    pub fn new(what: &'static str, len: usize, fill: T) -> Result<Self, OutOfMemory> {
        let mut arena = Self::reserve(what, len)?;
        arena.as_mut_slice().fill(fill);
        Ok(arena)
    }

    /// Allocates `len` zeros that take address space only: a page becomes resident when it is first touched.
    pub fn reserve(what: &'static str, len: usize) -> Result<Self, OutOfMemory> {
        let bytes = len.saturating_mul(size_of::<T>());
        let refuse = || OutOfMemory { what, bytes };
        if len == 0 {
            return Ok(Self { ptr: NonNull::dangling(), len, block: NonNull::dangling() });
        }
        let layout = Self::layout(bytes).ok_or_else(refuse)?;
        // SAFETY: the layout has a non-zero size; all-zero bytes are a value of every `Pod` type.
        let block = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).ok_or_else(refuse)?;
        // SAFETY: the block is longer than the numbers by what is skipped here.
        let ptr = unsafe { block.add(block.align_offset(ALIGN)) }.cast();
        Ok(Self { ptr, len, block })
    }

    /// What is asked of the allocator. Were it asked for the alignment too, it would write the zeros itself, page by
    /// page, instead of taking pages that are zero already.
    fn layout(bytes: usize) -> Option<Layout> {
        Layout::from_size_align(bytes.checked_add(ALIGN)?, align_of::<T>()).ok()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn as_ptr(&self) -> *mut T {
        self.ptr.as_ptr()
    }

    /// The whole block; `&mut self` proves that no program runs.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: len initialised numbers, exclusively borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }

    /// Part of the block, and nothing of the rest, which others may write meanwhile.
    pub fn slice(&self, range: Range<usize>) -> &[T] {
        assert!(range.start <= range.end && range.end <= self.len, "invariant: a view stays inside its arena");
        // SAFETY: initialised numbers inside the block; nothing writes them while this borrow lives: see `as_slice`.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr().add(range.start), range.len()) }
    }

    pub fn as_slice(&self) -> &[T] {
        // SAFETY: len initialised numbers; writers need `&mut self` or run inside `Machine::run(&mut self)`.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl<T: Pod> Drop for Arena<T> {
    fn drop(&mut self) {
        if self.len > 0 {
            let layout = Self::layout(self.len * size_of::<T>()).expect("invariant: it was allocated with this");
            // SAFETY: the block and the layout of `reserve`.
            unsafe { std::alloc::dealloc(self.block.as_ptr(), layout) };
        }
    }
}
