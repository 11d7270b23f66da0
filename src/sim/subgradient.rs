//! What the adjoint takes for a derivative where there is none: at a tie, at an end, at rest.

use crate::device::Scalar;

pub use crate::config::Subgradient;

/// The choice as factors.
#[derive(Clone, Copy, Debug)]
pub struct Kinks<S> {
    /// Share of the first side's derivative at a tie.
    pub tie: S,
    /// Share of viscous friction's derivative at rest.
    pub still: S,
}

impl Subgradient {
    #[inline(always)]
    pub fn kinks<S: Scalar>(self) -> Kinks<S> {
        let (tie, still) = match self {
            Self::Reference => (0.0, 0.0),
            Self::Central => (0.5, 1.0),
        };
        Kinks { tie: S::of(tie), still: S::of(still) }
    }
}
