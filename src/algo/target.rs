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
    let gpu = |n: u32| {
        let context = Context::open(n as usize)?;
        Nvrtc::load()?;
        Ok(Target::Cuda(context, Options::default()))
    };
    match device {
        Device::Cpu => Ok(Target::Cpu),
        Device::Cuda(n) => gpu(n),
        Device::Auto => Ok(gpu(0).unwrap_or(Target::Cpu)),
    }
}
