//! What stops a run of any algorithm.

use crate::device::cuda::CudaError;
use crate::mem::{MapError, OutOfMemory};
use crate::tape::{BindError, RunError};

/// Anything that stops a runner.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    #[error(transparent)]
    File(#[from] MapError),
    #[error(transparent)]
    Kernel(#[from] RunError),
    #[error(transparent)]
    Cuda(#[from] CudaError),
    #[error("cannot start worker threads: {0}")]
    Threads(#[from] std::io::Error),
}

/// A machine that cannot be bound stops the run with the same error.
impl From<BindError> for TrainError {
    fn from(e: BindError) -> Self {
        match e {
            BindError::Memory(e) => Self::Memory(e),
            BindError::File(e) => Self::File(e),
            BindError::Cuda(e) => Self::Cuda(e),
        }
    }
}
