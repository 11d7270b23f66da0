//! Where a run computes, and how it multiplies there: the keys `device` and `precision`, resolved.

use crate::backend::Target;
use crate::backend::cuda::Options;
use crate::config::{Device, Precision};
use crate::device::cuda::CudaError;
use crate::device::cuda::driver::Context;
use crate::device::cuda::matmul::Matmul;
use crate::device::cuda::nvrtc::Nvrtc;

/// What `device` means on this machine. `auto` takes the first GPU if driver, GPU and compiler are there, else the
/// processor, which multiplies in single precision whatever `precision` says; `cuda:N` says what is missing.
pub fn target(device: Device, precision: Precision) -> Result<Target, CudaError> {
    resolve(device, precision).map(|(target, _)| target)
}

/// The same, and why `auto` does not take a GPU that is there: none if there is no driver or no GPU.
pub fn resolve(device: Device, precision: Precision) -> Result<(Target, Option<CudaError>), CudaError> {
    let gpu = |n: u32| {
        let context = Context::open(n as usize)?;
        let matmul = Matmul::on(&Nvrtc::load()?.sees(&context.info)?, precision)?;
        Ok(Target::Cuda(context, Options { matmul, ..Options::default() }))
    };
    match device {
        Device::Cpu => Ok((Target::Cpu, None)),
        Device::Cuda(n) => Ok((gpu(n)?, None)),
        Device::Auto => match gpu(0) {
            Ok(target) => Ok((target, None)),
            Err(CudaError::NoDriver(_) | CudaError::NoDevice { .. }) => Ok((Target::Cpu, None)),
            // A wrong word in the environment is no missing GPU.
            Err(e @ CudaError::Products(_)) => Err(e),
            Err(e) => Ok((Target::Cpu, Some(e))),
        },
    }
}
