//! What ends a session with an error.

use crate::algo::TrainError;
use crate::io::atomic::FileError;
use crate::io::checkpoint::CheckpointError;
use crate::io::metrics::MetricsError;
use crate::run::folder::FolderError;
use crate::run::signal_health;
use crate::run::tracker::PATIENCE;

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
