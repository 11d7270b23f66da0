//! Scratch memory of matrix products: each thread's own, reserved before the first product, so that none allocates.
//!
//! The product crate copies panels of its operands into a workspace that grows when a product needs more. It chooses
//! their size by the caches of the machine and the product's shape alone, so the largest is known beforehand.

use crate::device::Real;
use crate::mem::ALIGN;
use gemmkit::{Workspace, tuning};
use std::cell::RefCell;

thread_local! {
    static OWN: RefCell<Workspace> = const { RefCell::new(Workspace::new()) };
}

/// Register tiles of the crate's kernels, for single and double precision on any processor.
const TILES: [(usize, usize); 6] = [(32, 12), (16, 12), (16, 6), (16, 4), (8, 6), (4, 4)];
/// Elements by which whole rows are padded.
const PADDING: usize = 16;

/// Bytes of a workspace that a product of `m x k` and `k x n` numbers of `size` bytes into row-major memory touches: an
/// upper bound.
pub fn bytes(m: usize, k: usize, n: usize, size: usize) -> usize {
    // Under Miri the crate multiplies nothing.
    if cfg!(miri) {
        return 0;
    }
    // The crate computes such a product as its transpose, except a single column.
    let panels = panels(n, k, m, size).max(if n == 1 { panels(m, k, n, size) } else { 0 });
    // Where both sides are small, whole rows are copied.
    let rows = if m.max(n) <= tuning::small_mn_dim() { (m + n) * (k.next_multiple_of(PADDING) + PADDING) } else { 0 };
    panels.max(rows) * size + 2 * ALIGN
}

/// Numbers of the packed panels of a product into column-major memory. The second operand is read in place if few rows
/// share it.
fn panels(m: usize, k: usize, n: usize, size: usize) -> usize {
    let of = |(mr, nr): (usize, usize)| {
        let b = gemmkit::topology().blocking(mr, nr, size, m, n, k);
        let second = if m > tuning::rhs_pack_threshold() { b.nc.min(n).next_multiple_of(nr) } else { 0 };
        (b.mc.next_multiple_of(mr) + second) * b.kc
    };
    TILES.map(of).into_iter().max().unwrap_or(0)
}

/// Bytes that a workspace takes so that `bytes` of it can be touched: the crate's grow to powers of two.
pub fn taken(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { bytes.next_power_of_two().max(ALIGN) }
}

/// Lets this thread's workspace be at least `bytes` large, and writes all of it, so that what is planned is there from
/// the start: by a product whose operands are `zeros`, if there are enough of them.
pub fn reserve<F: Real>(bytes: usize, zeros: &[F]) {
    if bytes == 0 {
        return;
    }
    OWN.with_borrow_mut(|own| *own = Workspace::with_capacity(bytes));
    // Of two operands whose rows run across k the crate copies whole rows: that is how this product fills the
    // workspace.
    let mut sums = [F::zero(); SIDE * SIDE];
    let k = (bytes / (2 * SIDE * size_of::<F>())).saturating_sub(2 * PADDING);
    if k <= tuning::small_mn_pack_min_k() || tuning::small_mn_dim() < SIDE || zeros.len() < k * SIDE {
        return;
    }
    let zeros = zeros.as_ptr();
    // SAFETY: both operands are the same k x SIDE numbers, the sums are SIDE x SIDE of this function's own.
    unsafe { F::gemm((SIDE, k, SIDE), (zeros, 1, SIDE), (zeros, SIDE, 1), false, (sums.as_mut_ptr(), SIDE, 1)) };
}

/// Rows of each operand of the product that writes a workspace.
const SIDE: usize = 16;

/// Runs a product with this thread's workspace.
#[inline]
pub fn with<R>(f: impl FnOnce(&mut Workspace) -> R) -> R {
    OWN.with_borrow_mut(f)
}
