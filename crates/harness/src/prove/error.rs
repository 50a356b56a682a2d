//! Why a proof could not be carried out.

use camino::Utf8PathBuf;

use crate::{report::ReportError, stack::StackError};
use cdc_engine::{backup::BackupError, recovery::RecoveryError};
use cdc_model::units::{Exit, Failure, Hint, Verdict};
use cdc_pipeline::client::ClientError;
use cdc_verify::VerifyError;

/// Why a step of a proof, or the proof itself, came to no end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// The repository, or something of the point.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// A part that could not be restored.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The scratch stack.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// A system of the scratch stack.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The comparison.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The reports.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A file of this machine.
    #[error("{what} {path}: {cause}")]
    File {
        /// What was done.
        what: &'static str,
        /// Its path.
        path: Utf8PathBuf,
        /// Why it failed.
        cause: std::io::Error,
    },
    /// The point holds nothing that a proof could restore.
    #[error("recovery point {point}: expected {expected}, found {found}")]
    Nothing {
        /// The point.
        point: String,
        /// What should be there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A signature.
    #[error("{what}: {detail}")]
    Signature {
        /// What was to be signed or looked at.
        what: String,
        /// What went wrong.
        detail: String,
        /// What to do.
        hint: &'static str,
    },
    /// A thread of this program ended.
    #[error("{what}: {detail}")]
    Thread {
        /// What it did.
        what: &'static str,
        /// How it ended.
        detail: String,
    },
}

impl ProveError {
    pub(super) fn file(what: &'static str, path: impl Into<Utf8PathBuf>) -> impl FnOnce(std::io::Error) -> ProveError {
        let path = path.into();
        move |cause| ProveError::File { what, path, cause }
    }

    /// What a proof comes to that this ended. What is wrong with the point is a failure of the point; everything else means that it was
    /// not looked at.
    pub(super) fn verdict(&self) -> Verdict {
        match self.exit() {
            Exit::RecoveryFailed | Exit::BackupIncomplete | Exit::ChecksumMismatch | Exit::WalGap => Verdict::Failed,
            _ => Verdict::Inconclusive,
        }
    }

    /// The exit code of a command whose proof this ended: that of the damage, of the stack or the wait, and 13 for all that kept
    /// it from looking.
    pub(super) fn exit_of_proof(&self) -> Exit {
        match (self.verdict(), self.exit()) {
            (Verdict::Failed, exit) | (_, exit @ (Exit::StackDidNotStart | Exit::TimedOut | Exit::Internal)) => exit,
            _ => Exit::Inconclusive,
        }
    }
}

impl Failure for ProveError {
    fn exit(&self) -> Exit {
        match self {
            ProveError::Backup(error) => error.exit(),
            ProveError::Recovery(error) => error.exit(),
            ProveError::Stack(error) => error.exit(),
            ProveError::Client(error) => error.exit(),
            ProveError::Verify(error) => error.exit(),
            ProveError::Report(error) => error.exit(),
            ProveError::File { .. } | ProveError::Nothing { .. } | ProveError::Signature { .. } => Exit::Inconclusive,
            ProveError::Thread { .. } => Exit::Internal,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            ProveError::Backup(error) => error.hints(),
            ProveError::Recovery(error) => error.hints(),
            ProveError::Stack(error) => error.hints(),
            ProveError::Client(error) => error.hints(),
            ProveError::Verify(error) => error.hints(),
            ProveError::Report(error) => error.hints(),
            ProveError::Signature { hint, .. } => vec![(*hint).into()],
            ProveError::Nothing { .. } => vec!["`cdc-drill backup list` shows the points and what they hold".into()],
            ProveError::File { .. } | ProveError::Thread { .. } => Vec::new(),
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            ProveError::Backup(error) => error.is_transient(),
            ProveError::Recovery(error) => error.is_transient(),
            ProveError::Stack(error) => error.is_transient(),
            ProveError::Client(error) => error.is_transient(),
            ProveError::Verify(error) => error.is_transient(),
            ProveError::Report(error) => error.is_transient(),
            ProveError::File { .. }
            | ProveError::Nothing { .. }
            | ProveError::Signature { .. }
            | ProveError::Thread { .. } => false,
        }
    }
}
