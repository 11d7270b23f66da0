//! Where a run computes: the key `device`, resolved.

use crate::config::Device;
use crate::device::cuda::CudaError;
use crate::device::cuda::driver::Context;
use crate::device::cuda::nvrtc::Nvrtc;
use crate::tape::cuda::Options;
use crate::tape::exec::Target;

/// What `device` means on this machine. `auto` takes the first GPU if driver, GPU and compiler are there, else the
/// processor; `cuda:N` says what is missing.
pub fn target(device: Device) -> Result<Target, CudaError> {
    resolve(device).map(|(target, _)| target)
}

/// The same, and why `auto` does not take a GPU that is there: none if there is no driver or no GPU.
pub fn resolve(device: Device) -> Result<(Target, Option<CudaError>), CudaError> {
    let gpu = |n: u32| {
        let context = Context::open(n as usize)?;
        Nvrtc::load()?.arch(&context.info)?;
        Ok(Target::Cuda(context, Options::default()))
    };
    match device {
        Device::Cpu => Ok((Target::Cpu, None)),
        Device::Cuda(n) => Ok((gpu(n)?, None)),
        Device::Auto => Ok(match gpu(0) {
            Ok(target) => (target, None),
            Err(CudaError::NoDriver(_) | CudaError::NoDevice { .. }) => (Target::Cpu, None),
            Err(e) => (Target::Cpu, Some(e)),
        }),
    }
}
