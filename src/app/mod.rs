//! What the binaries do, one file a command. Here: how a command ends.
//!
//! | exit status | meaning |
//! |---|---|
//! | 0 | done, or stopped when asked to, with everything saved |
//! | 1 | an error, named on stderr |
//! | 2 | the command or the configuration is wrong; nothing was computed |
//! | 3 | a file cannot be read or written: disk full, no permission, not there |
//! | 4 | a file is damaged, cut short, or of another version or configuration |
//! | 5 | the learning died: it collapsed, its reward signal is dead, or numbers were not finite, and rollbacks did not help |
//! | 6 | there is not enough memory |
//! | 138, 143 | SIGUSR1, SIGTERM in an epoch or evaluation that went on for too long: ended there, the last checkpoint is whole |
//! | 130, 138, 143 | a second SIGINT, SIGUSR1, SIGTERM: ended at once, the last checkpoint is whole |

pub mod bench;
pub mod config;
pub mod doctor;
pub mod eval;
pub mod export;
pub mod fidelity;
pub mod gradcheck;
pub mod import;
pub mod plan;
pub mod report;
pub mod selftest;
pub mod train;

use crate::algo::pwm::TrainError;
use crate::config::ConfigErrors;
use crate::device::cuda::CudaError;
use crate::mem::OutOfMemory;
use crate::run::atomic::FileError;
use crate::run::checkpoint::CheckpointError;
use crate::run::folder::FolderError;
use crate::run::import::ImportError;
use crate::run::metrics::MetricsError;
use crate::run::plan::{DoesNotFit, WrongPlace};
use crate::run::report::ReportError;
use crate::run::session::RunError;
use crate::tape::exec::BindError;
use selftest::SelftestError;
use std::fmt;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// Runs a command and turns how it ends into an exit status and a message.
pub fn exit(command: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>) -> ExitCode {
    // A broken invariant has already printed where it broke; the run folder holds the last checkpoint.
    match catch_unwind(AssertUnwindSafe(|| command(&mut std::io::stdout()))) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(e)) if is_broken_pipe(&e) => ExitCode::SUCCESS,
        Ok(Err(e)) => {
            let _ = writeln!(std::io::stderr(), "error: {e:#}");
            ExitCode::from(status(&e))
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// The exit status of an error.
pub fn status(e: &anyhow::Error) -> u8 {
    // The innermost error is the reason; those around it only say where.
    e.chain().filter_map(reason).last().unwrap_or(1)
}

fn reason(e: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if e.is::<ConfigErrors>() {
        return Some(2);
    }
    if e.is::<ImportError>() {
        return Some(4);
    }
    if let Some(e) = e.downcast_ref::<RunError>() {
        return match e {
            RunError::Dead { .. }
            | RunError::DeadSignal { .. }
            | RunError::NonFinite { .. }
            | RunError::Collapsed(_) => Some(5),
            RunError::Train(e) => reason(e),
            RunError::Checkpoint(e) => reason(e),
            RunError::Folder(e) => reason(e),
            RunError::Metrics(e) => reason(e),
            RunError::File(_) => Some(3),
            RunError::Picture(_) => None,
        };
    }
    if let Some(e) = e.downcast_ref::<ReportError>() {
        return match e {
            ReportError::Folder(e) => reason(e),
            ReportError::Metrics(e) => reason(e),
            ReportError::Config(_) => Some(2),
            ReportError::File(_) => Some(3),
        };
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
            _ => None,
        };
    }
    if let Some(e) = e.downcast_ref::<TrainError>() {
        return match e {
            TrainError::Memory(_) | TrainError::Cuda(CudaError::Memory { .. } | CudaError::Pinned { .. }) => Some(6),
            TrainError::File(_) => Some(3),
            _ => None,
        };
    }
    if let Some(SelftestError::Bind(BindError::Memory(_) | BindError::Cuda(CudaError::Memory { .. }))) =
        e.downcast_ref()
    {
        return Some(6);
    }
    if e.is::<OutOfMemory>() || e.is::<DoesNotFit>() {
        return Some(6);
    }
    if e.is::<WrongPlace>() {
        return Some(2);
    }
    e.is::<FileError>().then_some(3)
}

/// `pwm config list | head -1` is no failure.
fn is_broken_pipe(e: &anyhow::Error) -> bool {
    e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Prints a line for a reader who may have gone: a closed pipe must not end hours of training.
fn say(out: &mut dyn Write, line: fmt::Arguments<'_>) {
    let _ = writeln!(out, "{line}");
}
