//! What a record needs of those who hold it against other processes.

use std::fmt::Debug;

use crate::recovery::RecoveryError;

/// Held by the process that goes on with a recovery.
pub(crate) trait Guard: Debug + Send + Sync {
    /// Fails if another process has taken over: this one was suspended for too long, and must change nothing more.
    fn still_ours(&self) -> Result<(), RecoveryError>;

    /// Says that this recovery is no longer unfinished.
    fn clear(&self, recovery: &str) -> Result<(), RecoveryError>;
}
