//! Why a session ended as it was meant to.

use super::SessionError;
use crate::config::Config;
use crate::run::folder::{End, Ended, RunInfo};
use crate::run::status;

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// `max_epochs` are done.
    Finished,
    /// `max_minutes` are over.
    TimeUp,
    /// `max_cpu_minutes` are over.
    CpuTimeUp,
    /// A signal, or the program that the run is part of, asked for it.
    Asked(&'static str),
    /// No better evaluation for `early_stop_patience` of them.
    Stalled,
    /// Evaluations collapsed, and the settings say to stop then; what happened.
    Collapsed(String),
}

impl std::fmt::Display for StopReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Finished => f.write_str("max_epochs are done"),
            Self::TimeUp => f.write_str("max_minutes are over"),
            Self::CpuTimeUp => f.write_str("max_cpu_minutes are over"),
            Self::Asked(reason) => write!(f, "stopped by {reason}"),
            Self::Stalled => f.write_str("stopped early: no better evaluation for early_stop_patience of them"),
            Self::Collapsed(what) => write!(f, "collapsed: {what}"),
        }
    }
}

impl StopReason {
    /// Why a run needs no further sitting, if it has reached a limit that all its sittings share.
    pub fn of_whole_run(info: &RunInfo, c: &Config) -> Option<Self> {
        let cpu = c.max_cpu_minutes * 60.0;
        if info.epoch >= c.max_epochs {
            Some(Self::Finished)
        } else {
            (cpu > 0.0 && info.cpu_seconds.is_some_and(|s| s >= cpu)).then_some(Self::CpuTimeUp)
        }
    }

    /// The same for programs.
    pub(super) fn ended(&self) -> Ended {
        let kind = match self {
            Self::Finished => End::Epochs,
            Self::TimeUp | Self::CpuTimeUp => End::Time,
            Self::Asked(reason) if reason.starts_with("SIG") => End::Signal,
            Self::Asked(_) => End::Request,
            Self::Stalled => End::EarlyStop,
            Self::Collapsed(what) => {
                let error = SessionError::Collapsed(what.clone());
                return Ended { kind: End::Collapse, status: status::reason(&error).unwrap_or(1) };
            }
        };
        Ended { kind, status: 0 }
    }
}
