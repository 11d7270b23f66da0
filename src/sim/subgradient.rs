//! What the adjoint takes for a derivative where there is none: at a tie, at an end, at rest.

use crate::device::Scalar;

/// The choice. Away from kinks all are the same. That a point begins to touch has no derivative in any of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subgradient {
    /// The reference's: of `min(a, b)` at a tie that of b; none of friction on a point at rest; at a joint's limit the
    /// inside's; at the ends of the action's range the inside's.
    #[default]
    Reference,
    /// The mean of both sides, which is what central differences measure. Friction on a point at rest has the derivative
    /// of viscous friction, on any side.
    Central,
}

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
