//! What multiplies in matrix products: the setting, the GPU's own units, and a way to force another.

use super::CudaError;
use super::driver::DeviceInfo;
use crate::config::Precision;

/// The units that products run on, from those every GPU has to those of one architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Units {
    /// Fused multiply-adds, in single precision whatever the setting says.
    Fma,
    /// Tensor cores by warps (`mma.sync`): compute capability 8.0 and newer.
    Mma,
    /// Tensor cores by groups of warps from shared memory that is filled by the copy unit (`wgmma`, TMA): 9.0 alone.
    Wgmma,
    /// The same with blocks in clusters, which have whole rows together: LayerNorm follows the product in its registers.
    Clusters,
}

/// How products are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Multiply {
    pub precision: Precision,
    pub units: Units,
}

impl Default for Multiply {
    fn default() -> Self {
        Self { precision: Precision::Fp32, units: Units::Fma }
    }
}

/// The variable that forces units older than the GPU's own, to find out whether they are to blame.
pub const FORCE: &str = "PWM_PRODUCTS";

impl Multiply {
    /// The best of a GPU of compute capability `major`.
    pub fn best(major: i32, precision: Precision) -> Self {
        let units = match (precision, major) {
            (Precision::Fp32, _) => Units::Fma,
            (_, 9) => Units::Clusters,
            _ => Units::Mma,
        };
        Self { precision, units }.settled()
    }

    /// The best of `info`'s GPU, or what the environment forces: [`FORCE`] names one of the [`Units`].
    pub fn on(info: &DeviceInfo, precision: Precision) -> Result<Self, CudaError> {
        let best = Self::best(info.major, precision);
        let at_most = match std::env::var(FORCE).as_deref() {
            Err(_) | Ok("" | "clusters") => Units::Clusters,
            Ok("wgmma") => Units::Wgmma,
            Ok("mma") => Units::Mma,
            Ok("fma") => Units::Fma,
            Ok(other) => return Err(CudaError::Products(other.into())),
        };
        Ok(Self { precision, units: best.units.min(at_most) }.settled())
    }

    /// Without tensor cores everything is in single precision.
    fn settled(self) -> Self {
        if self.units == Units::Fma { Self { precision: Precision::Fp32, ..self } } else { self }
    }
}

impl std::fmt::Display for Multiply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = match self.units {
            Units::Fma => "fused multiply-adds",
            Units::Mma => "tensor cores by mma.sync",
            Units::Wgmma => "tensor cores by wgmma",
            Units::Clusters => "tensor cores by wgmma in clusters",
        };
        write!(f, "{} products on {units}", self.precision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_units_that_the_precision_needs() {
        let units = |major, precision| Multiply::best(major, precision).units;
        assert_eq!(units(9, Precision::Fp32), Units::Fma);
        assert_eq!(units(8, Precision::Tf32), Units::Mma);
        assert_eq!(units(9, Precision::Bf16), Units::Clusters);
        assert_eq!(units(10, Precision::Bf16), Units::Mma);
        let none = Multiply { precision: Precision::Bf16, units: Units::Fma };
        assert_eq!(none.settled().precision, Precision::Fp32);
    }
}
