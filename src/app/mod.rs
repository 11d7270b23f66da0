//! What the binaries do, one file a command. Here: how a command ends.
//!
//! | exit status | meaning |
//! |---|---|
//! | 0 | done, or stopped when asked to, with everything saved |
//! | 1 | an error, named on stderr |
//! | 2 | the command or the configuration is wrong; nothing was computed |

pub mod bench;
pub mod config;
pub mod eval;
pub mod fidelity;
pub mod train;

use crate::config::ConfigErrors;
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
    if e.chain().any(|e| e.is::<ConfigErrors>()) { 2 } else { 1 }
}

/// `pwm config list | head -1` is no failure.
fn is_broken_pipe(e: &anyhow::Error) -> bool {
    e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Prints a line for a reader who may have gone: a closed pipe must not end hours of training.
fn say(out: &mut dyn Write, line: fmt::Arguments<'_>) {
    let _ = writeln!(out, "{line}");
}
