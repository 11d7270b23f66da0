//! What the binaries do, one file a command. Here: how a command ends.
//!
//! The statuses are listed in [`EXIT_STATUS`], and given to errors in `run/status.rs`.

pub mod baseline;
pub mod bench;
pub mod cli;
pub mod collect;
pub mod config;
pub mod data;
pub mod doctor;
pub mod eval;
pub mod export;
pub mod fidelity;
pub mod gradcheck;
pub mod import;
pub mod plan;
pub mod report;
pub mod robot;
pub mod selftest;
pub mod stored;
pub mod sweep;
pub mod train;

use crate::analysis::report::ReportError;
use crate::device::cuda::CudaError;
use crate::run::status::reason as reason_of;
use crate::sweep::SweepError;
use crate::tape::BindError;
use selftest::SelftestError;
use std::fmt;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// What the exit status of either program means; the end of `--help`.
pub const EXIT_STATUS: &str = "\
Exit status:
  0          done, or stopped when asked to, with everything saved
  1          an error, named on stderr
  2          the command or a setting is wrong; nothing was computed
  3          a file cannot be read or written: disk full, no permission, not there
  4          a file is damaged, cut short, or of another version or configuration
  5          the learning died: it collapsed, its reward signal is dead, or numbers were not finite
             and rollbacks did not help
  6          there is not enough memory
  138, 143   SIGUSR1, SIGTERM in an epoch or evaluation that went on for too long: ended there,
             the last checkpoint is whole; the same command goes on
  130, 138, 143
             a second SIGINT, SIGUSR1, SIGTERM: ended at once, the last checkpoint is whole
A sweep (--multirun) of which members failed ends with their status, or with 1 if they differ.
";

/// A command that asks for what there is not, whatever the settings say; nothing was computed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Misused(String);

impl Misused {
    /// Says what there is not.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// The error of a command that asks for what there is not.
fn misused(what: fmt::Arguments<'_>) -> Misused {
    Misused(what.to_string())
}

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
    if let Some(e) = e.downcast_ref() {
        return match e {
            ReportError::Folder(e) => reason_of(e),
            ReportError::Metrics(e) => reason_of(e),
            ReportError::Config(_) => Some(2),
            ReportError::File(_) => Some(3),
        };
    }
    if e.is::<Misused>() {
        return Some(2);
    }
    if let Some(e) = e.downcast_ref::<SweepError>() {
        return e.status();
    }
    match e.downcast_ref() {
        Some(SelftestError::Bind(BindError::Memory(_) | BindError::Cuda(CudaError::Memory { .. }))) => Some(6),
        _ => reason_of(e),
    }
}

/// `pwm config list | head -1` is no failure.
fn is_broken_pipe(e: &anyhow::Error) -> bool {
    e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Prints a line for a reader who may have gone: a closed pipe must not end hours of training.
fn say(out: &mut dyn Write, line: fmt::Arguments<'_>) {
    let _ = writeln!(out, "{line}");
}
