//! The exit status that each kind of error stands for (`app::EXIT_STATUS` lists what they mean). It is here and not
//! with the commands because a run writes the status it ends with into its folder.

use std::error::Error;

use crate::algo::TrainError;
use crate::config::ConfigErrors;
use crate::device::cuda::CudaError;
use crate::io::atomic::FileError;
use crate::io::checkpoint::CheckpointError;
use crate::io::episodes::DataError;
use crate::io::metrics::MetricsError;
use crate::mem::OutOfMemory;
use crate::run::folder::FolderError;
use crate::run::import::ImportError;
use crate::run::plan::{DoesNotFit, WrongPlace};
use crate::run::recorded::RecordedError;
use crate::run::session::SessionError;

/// What a status means, in a few words.
pub fn meaning(status: u8) -> &'static str {
    match status {
        0 => "done",
        2 => "a setting is wrong",
        3 => "a file cannot be read or written",
        4 => "a file is damaged or does not fit",
        5 => "the learning died",
        6 => "not enough memory",
        130 | 138 | 143 => "ended by a signal",
        _ => "an error",
    }
}

/// The status of an error by itself, not of what caused it; none where it says nothing better than 1.
pub fn reason(e: &(dyn Error + 'static)) -> Option<u8> {
    if e.is::<ConfigErrors>() {
        return Some(2);
    }
    if e.is::<ImportError>() {
        return Some(4);
    }
    if let Some(e) = e.downcast_ref::<SessionError>() {
        return match e {
            SessionError::Dead { .. }
            | SessionError::DeadSignal { .. }
            | SessionError::NonFinite { .. }
            | SessionError::Collapsed(_) => Some(5),
            SessionError::Train(e) => reason(e),
            SessionError::Checkpoint(e) => reason(e),
            SessionError::Folder(e) => reason(e),
            SessionError::Metrics(e) => reason(e),
            SessionError::File(_) => Some(3),
        };
    }
    if let Some(e) = e.downcast_ref::<RecordedError>() {
        return match e {
            RecordedError::Config(_) => Some(2),
            RecordedError::Data(e) => reason(e),
            RecordedError::Model(e) => reason(e),
        };
    }
    if let Some(e) = e.downcast_ref::<DataError>() {
        return Some(if matches!(e, DataError::File(_)) { 3 } else { 4 });
    }
    if let Some(e) = e.downcast_ref::<CheckpointError>() {
        return match e {
            CheckpointError::File(_) => Some(3),
            CheckpointError::BadInput { .. } => None,
            _ => Some(4),
        };
    }
    if let Some(e) = e.downcast_ref::<MetricsError>() {
        return Some(if matches!(e, MetricsError::File(_)) { 3 } else { 4 });
    }
    if let Some(e) = e.downcast_ref::<FolderError>() {
        return match e {
            FolderError::File(_) => Some(3),
            FolderError::BadInfo { .. } => Some(4),
            FolderError::Exists { .. } | FolderError::NoRun { .. } => Some(2),
            FolderError::Locked { .. } => None,
        };
    }
    if let Some(e) = e.downcast_ref::<TrainError>() {
        return match e {
            TrainError::Memory(_) | TrainError::Cuda(CudaError::Memory { .. } | CudaError::Pinned { .. }) => Some(6),
            TrainError::File(_) => Some(3),
            _ => None,
        };
    }
    if e.is::<OutOfMemory>() || e.is::<DoesNotFit>() {
        return Some(6);
    }
    if e.is::<WrongPlace>() {
        return Some(2);
    }
    e.is::<FileError>().then_some(3)
}
