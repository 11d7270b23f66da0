//! How a session ends: by an error, or as it was meant to.

use crate::algo::TrainError;
use crate::io::atomic::FileError;
use crate::io::checkpoint::CheckpointError;
use crate::io::metrics::MetricsError;
use crate::run::folder::{End, Ended, FolderError};
use crate::run::tracker::PATIENCE;
use crate::run::{signal_health, status};

/// What ends a session with an error.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("{0}; the last checkpoint is whole, --resume goes on from it")]
    Train(#[from] TrainError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error(
        "epoch {epoch}: no update of the {network} for {PATIENCE} epochs, its gradient is not finite. Nothing was saved \
         since the last checkpoint, which a resume goes back to. If it happens again there, begin a run with a lower \
         actor_lr, critic_lr and model_lr, a smaller actor_grad_norm, or reward_clip=20"
    )]
    Dead { epoch: u64, network: &'static str },
    #[error("epoch {epoch}: the reward signal is dead: {cause}. The run is stopped; going on would not change this")]
    DeadSignal { epoch: u64, cause: signal_health::Dead },
    #[error(
        "epoch {epoch}: {tensor} holds a number that is not finite, and the run has been rolled back {rollbacks} times \
         (max_rollbacks). The last checkpoint is whole. Begin a run with a lower actor_lr, critic_lr and model_lr, a \
         smaller actor_grad_norm, or reward_clip=20"
    )]
    NonFinite { epoch: u64, tensor: String, rollbacks: u64 },
    #[error("the run collapsed: {0}. The best policy is kept; begin again with lower learning rates or an earlier end")]
    Collapsed(String),
}

impl SessionError {
    /// Whether the state in memory is whole and worth a checkpoint: an error of a file says nothing against it.
    pub(super) fn state_is_good(&self) -> bool {
        !matches!(self, Self::Train(_) | Self::Dead { .. } | Self::NonFinite { .. })
    }
}
/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// `max_epochs` are done.
    Finished,
    /// `max_minutes` are over.
    TimeUp,
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
            Self::Asked(reason) => write!(f, "stopped by {reason}"),
            Self::Stalled => f.write_str("stopped early: no better evaluation for early_stop_patience of them"),
            Self::Collapsed(what) => write!(f, "collapsed: {what}"),
        }
    }
}

impl StopReason {
    /// The same for programs.
    pub(super) fn ended(&self) -> Ended {
        let kind = match self {
            Self::Finished => End::Epochs,
            Self::TimeUp => End::Time,
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
