//! What keeps verification from looking at all. What it sees is a finding, never an error.

use cdc_model::units::{Exit, Failure, Hint};
use cdc_pipeline::client::ClientError;

/// Why nothing could be judged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A connector is set up in a way this tool cannot read; reading on would pass what it has not understood.
    #[error("connector {connector}: {setting}={found} is not supported: expected {expected}")]
    Refused {
        /// The connector.
        connector: String,
        /// The setting.
        setting: String,
        /// What would be understood.
        expected: String,
        /// Its value.
        found: String,
        /// What to do.
        hint: String,
    },
    /// There is no such connector, or none at all.
    #[error("connector {connector} does not exist: found {found}")]
    NoConnector {
        /// The one that was asked for.
        connector: String,
        /// What there is.
        found: String,
        /// What to do.
        hint: &'static str,
    },
    /// A recovery point that cannot be compared with.
    #[error("recovery point {point}: expected a readable registry dump and topic settings, found {found}")]
    Point {
        /// The point.
        point: String,
        /// What is wrong with it.
        found: String,
    },
    /// A system did not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A worker thread of this program failed.
    #[error("reading topics: {0}")]
    Thread(String),
}

impl Failure for VerifyError {
    fn exit(&self) -> Exit {
        match self {
            VerifyError::Refused { .. } | VerifyError::NoConnector { .. } => Exit::Invalid,
            VerifyError::Point { .. } => Exit::BackupIncomplete,
            VerifyError::Client(error) => error.exit(),
            VerifyError::Thread(_) => Exit::Internal,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            VerifyError::Refused { hint, .. } => vec![hint.clone().into()],
            VerifyError::NoConnector { hint, .. } => vec![(*hint).into()],
            VerifyError::Point { .. } => {
                vec!["`cdc-drill backup list` shows the points that can be compared with".into()]
            }
            VerifyError::Client(error) => error.hints(),
            VerifyError::Thread(_) => Vec::new(),
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            VerifyError::Client(error) => error.is_transient(),
            VerifyError::Refused { .. }
            | VerifyError::NoConnector { .. }
            | VerifyError::Point { .. }
            | VerifyError::Thread(_) => false,
        }
    }
}
