//! What can go wrong with reports.

use camino::Utf8PathBuf;

use cdc_model::units::{Exit, Failure, Hint};

/// A report that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A file cannot be read.
    #[error("read {path}: {cause}")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// A file cannot be written.
    #[error("write {path}: {cause}")]
    Write {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// A line is not an event.
    #[error("events {path}: line {line}: expected an event of format {format}, found: {message}")]
    Event {
        /// The file.
        path: Utf8PathBuf,
        /// The line, from 1.
        line: usize,
        /// The format that this program reads.
        format: u32,
        /// What the reader said.
        message: String,
    },
    /// The file was written by a newer program.
    #[error("events {path}: expected format {known} or older, found {found}")]
    TooNew {
        /// The file.
        path: Utf8PathBuf,
        /// The newest format that this program reads.
        known: u32,
        /// The file's.
        found: u32,
    },
    /// A report cannot be put into its format.
    #[error("make {what}: {message}")]
    Format {
        /// Which report.
        what: &'static str,
        /// Why.
        message: String,
    },
}

impl Failure for ReportError {
    fn exit(&self) -> Exit {
        match self {
            ReportError::Read { .. } | ReportError::Event { .. } => Exit::Invalid,
            ReportError::TooNew { .. } => Exit::FormatTooNew,
            ReportError::Write { .. } => Exit::Inconclusive,
            ReportError::Format { .. } => Exit::Internal,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            ReportError::Read { .. } => {
                vec!["name a folder with an events.jsonl, or the id of a run below reports/".into()]
            }
            ReportError::Write { .. } => {
                vec!["is the disk full, or the folder another user's? `--report-dir DIR` takes another one".into()]
            }
            ReportError::TooNew { .. } => vec!["use a newer cdc-drill".into()],
            ReportError::Event { .. } | ReportError::Format { .. } => Vec::new(),
        }
    }

    fn is_transient(&self) -> bool {
        false
    }
}
