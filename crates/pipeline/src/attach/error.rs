//! Why a pipeline is not touched.

use std::io;

use camino::Utf8PathBuf;

use crate::client::ClientError;
use cdc_model::units::{Exit, Failure, Hint};

/// A change that is refused, or a pipeline that could not be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The pipeline is not one that may be touched so. Nothing was.
    #[error("refused for safety: {what}: expected {expected}, found {found}")]
    Refused {
        /// What was looked at.
        what: String,
        /// What would permit the change.
        expected: String,
        /// What there is.
        found: String,
        /// What to do.
        hint: String,
    },
    /// A system did not say who it is.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The server does not answer, and there is no control file that says who it was.
    #[error("refused for safety: {cause}")]
    Lost {
        /// The data folder.
        pgdata: Utf8PathBuf,
        /// What the server's silence was like.
        cause: ClientError,
    },
    /// The server does not answer, and its control file, which says who it was, cannot be read.
    #[error("read {path}: {cause}")]
    ControlFile {
        /// The file.
        path: Utf8PathBuf,
        /// Why not.
        cause: io::Error,
    },
}

impl Failure for AttachError {
    fn exit(&self) -> Exit {
        match self {
            AttachError::Refused { .. } | AttachError::Lost { .. } => Exit::Refused,
            AttachError::Client(error) => error.exit(),
            AttachError::ControlFile { .. } => Exit::Inconclusive,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            AttachError::Refused { hint, .. } => vec![hint.clone().into()],
            AttachError::Client(error) => error.hints(),
            AttachError::Lost { pgdata, cause } => {
                let mut hints = cause.hints();
                let which = format!(
                    "data folder {pgdata} has no control file that says which cluster this is; name it with --system-id N, \
                     one that [attach] system_ids lists"
                );
                hints.push(which.into());
                hints
            }
            AttachError::ControlFile { .. } => {
                vec!["the server does not answer, so its control file has to say who it was".into()]
            }
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            AttachError::Client(error) => error.is_transient(),
            AttachError::Refused { .. } | AttachError::Lost { .. } | AttachError::ControlFile { .. } => false,
        }
    }
}

impl AttachError {
    pub(super) fn refused(
        what: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
        hint: impl Into<String>,
    ) -> AttachError {
        AttachError::Refused { what: what.into(), expected: expected.into(), found: found.into(), hint: hint.into() }
    }
}
