//! What can keep a fault from being injected.

use camino::Utf8PathBuf;

use cdc_model::units::{Exit, Failure, Hint};
use cdc_pipeline::client::ClientError;

/// A fault that could not be injected, or not be looked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FaultError {
    /// The pipeline may not be broken.
    #[error(transparent)]
    Attach(#[from] cdc_pipeline::attach::AttachError),
    /// A system did not answer as asked.
    #[error("fault {fault}: {cause}")]
    Client {
        /// The fault.
        fault: &'static str,
        /// What it said.
        cause: ClientError,
    },
    /// A file could not be read or changed.
    #[error("fault {fault}: {what} {path}: {cause}")]
    File {
        /// The fault.
        fault: &'static str,
        /// What was tried.
        what: &'static str,
        /// The file.
        path: Utf8PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// The target is not in a state in which this fault means anything.
    #[error("fault {fault} on {object}: expected {expected}, found {found}")]
    Unfit {
        /// The fault.
        fault: &'static str,
        /// What it was aimed at.
        object: String,
        /// What it needs.
        expected: String,
        /// What there is.
        found: String,
        /// What to do.
        hint: &'static str,
    },
}

impl Failure for FaultError {
    /// A fault that was not injected proves nothing.
    fn exit(&self) -> Exit {
        match self {
            FaultError::Attach(error) => error.exit(),
            FaultError::Client { .. } | FaultError::File { .. } | FaultError::Unfit { .. } => Exit::Inconclusive,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            FaultError::Attach(error) => error.hints(),
            FaultError::Client { cause, .. } => cause.hints(),
            FaultError::File { .. } => vec!["faults on files need the server's own machine and its rights".into()],
            FaultError::Unfit { hint, .. } => vec![(*hint).into()],
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            FaultError::Attach(error) => error.is_transient(),
            FaultError::Client { cause, .. } => cause.is_transient(),
            FaultError::File { .. } | FaultError::Unfit { .. } => false,
        }
    }
}

impl FaultError {
    pub(super) fn client(fault: &'static str) -> impl FnOnce(ClientError) -> FaultError {
        move |cause| FaultError::Client { fault, cause }
    }

    pub(super) fn file(
        fault: &'static str,
        what: &'static str,
        path: impl Into<Utf8PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> FaultError {
        let path = path.into();
        move |cause| FaultError::File { fault, what, path, cause }
    }

    pub(super) fn unfit(
        fault: &'static str,
        object: impl ToString,
        expected: impl Into<String>,
        found: impl Into<String>,
        hint: &'static str,
    ) -> FaultError {
        let (expected, found) = (expected.into(), found.into());
        FaultError::Unfit { fault, object: object.to_string(), expected, found, hint }
    }
}
