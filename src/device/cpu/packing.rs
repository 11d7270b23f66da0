//! Scratch memory of matrix products: each thread's own, reserved before the first product, so that none allocates.
//!
//! The product crate copies panels of its operands into a workspace that grows when a product needs more. How large its
//! panels are it decides by the caches of the machine and the product's shape alone, so the most is known beforehand.

use gemmkit::Workspace;
use std::cell::RefCell;

thread_local! {
    static OWN: RefCell<Workspace> = const { RefCell::new(Workspace::new()) };
}

/// Register tiles of the crate's kernels, for single and double precision on any processor.
const TILES: [(usize, usize); 6] = [(32, 12), (16, 12), (16, 6), (16, 4), (8, 6), (4, 4)];
/// Below this both sides of a product are small, and whole rows are copied instead of panels.
const SMALL: usize = 64;

/// Bytes that a workspace must have for a product of `m x k` and `k x n` numbers of `size` bytes: an upper bound.
pub fn bytes(m: usize, k: usize, n: usize, size: usize) -> usize {
    let panels = |m: usize, n: usize| {
        let of = |(mr, nr): (usize, usize)| {
            let b = gemmkit::topology().blocking(mr, nr, size, m, n, k);
            (b.mc.min(m).next_multiple_of(mr) + b.nc.min(n).next_multiple_of(nr)) * b.kc
        };
        TILES.map(of).into_iter().max().unwrap_or(0)
    };
    // A product into row-major memory is computed as the transposed one.
    let panels = panels(m, n).max(panels(n, m));
    let rows = if m.max(n) <= SMALL { (m + n) * k.next_multiple_of(SMALL) } else { 0 };
    // A workspace grows to powers of two.
    (panels.max(rows) * size + 4 * SMALL).next_power_of_two()
}

/// Lets this thread's workspace be at least `bytes` large, all of it resident.
pub fn reserve(bytes: usize) {
    OWN.with_borrow_mut(|own| *own = Workspace::with_capacity(bytes));
}

/// Runs a product with this thread's workspace.
#[inline]
pub fn with<R>(f: impl FnOnce(&mut Workspace) -> R) -> R {
    OWN.with_borrow_mut(f)
}
