//! What multiplies in matrix products: the setting, the GPU's own path, and a way to force another.

use super::CudaError;
use super::driver::DeviceInfo;
use crate::config::Precision;

/// The units that products run on, from those every GPU has to those of one architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MmaPath {
    /// Fused multiply-adds, in single precision whatever the setting says.
    Fma,
    /// Tensor cores by warps (`mma.sync`): compute capability 8.0 and newer.
    Mma,
    /// Tensor cores by groups of warps from shared memory that is filled by the copy unit (`wgmma`, TMA): 9.0 alone.
    Wgmma,
    /// The same with blocks in clusters, which have whole rows together: LayerNorm follows the product in its
    /// registers.
    Clusters,
}

/// How products are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matmul {
    pub precision: Precision,
    pub path: MmaPath,
}

impl Default for Matmul {
    fn default() -> Self {
        Self { precision: Precision::Fp32, path: MmaPath::Fma }
    }
}

/// The variable that forces units older than the GPU's own, to find out whether they are to blame.
pub const FORCE: &str = "PWM_PRODUCTS";

impl Matmul {
    /// The best of a GPU of compute capability `major`.
    pub fn best(major: i32, precision: Precision) -> Self {
        let path = match (precision, major) {
            (Precision::Fp32, _) => MmaPath::Fma,
            (_, 9) => MmaPath::Clusters,
            _ => MmaPath::Mma,
        };
        Self { precision, path }.consistent()
    }

    /// The best of `info`'s GPU, or what the environment forces: [`FORCE`] names one of the [`MmaPath`].
    pub fn on(info: &DeviceInfo, precision: Precision) -> Result<Self, CudaError> {
        let best = Self::best(info.major, precision);
        let at_most = match std::env::var(FORCE).as_deref() {
            Err(_) | Ok("" | "clusters") => MmaPath::Clusters,
            Ok("wgmma") => MmaPath::Wgmma,
            Ok("mma") => MmaPath::Mma,
            Ok("fma") => MmaPath::Fma,
            Ok(other) => return Err(CudaError::Products(other.into())),
        };
        Ok(Self { precision, path: best.path.min(at_most) }.consistent())
    }

    /// Without tensor cores everything is in single precision.
    fn consistent(self) -> Self {
        if self.path == MmaPath::Fma { Self { precision: Precision::Fp32, ..self } } else { self }
    }
}

impl std::fmt::Display for Matmul {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = match self.path {
            MmaPath::Fma => "fused multiply-adds",
            MmaPath::Mma => "tensor cores by mma.sync",
            MmaPath::Wgmma => "tensor cores by wgmma",
            MmaPath::Clusters => "tensor cores by wgmma in clusters",
        };
        write!(f, "{} products on {units}", self.precision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_units_that_the_precision_needs() {
        let units = |major, precision| Matmul::best(major, precision).path;
        assert_eq!(units(9, Precision::Fp32), MmaPath::Fma);
        assert_eq!(units(8, Precision::Tf32), MmaPath::Mma);
        assert_eq!(units(9, Precision::Bf16), MmaPath::Clusters);
        assert_eq!(units(10, Precision::Bf16), MmaPath::Mma);
        let none = Matmul { precision: Precision::Bf16, path: MmaPath::Fma };
        assert_eq!(none.consistent().precision, Precision::Fp32);
    }
}
