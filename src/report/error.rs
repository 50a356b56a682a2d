//! What can go wrong with reports.

use camino::Utf8PathBuf;

use crate::units::Exit;

/// A report that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A file cannot be read.
    #[error("read {path}: {source}\nhint: name a folder with an events.jsonl, or the id of a run below reports/")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error(
        "write {path}: {source}\nhint: is the disk full, or the folder another user's? `--report-dir DIR` takes another one"
    )]
    Write {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        source: std::io::Error,
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
    #[error("events {path}: expected format {known} or older, found {found}\nhint: use a newer cdc-drill")]
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

impl ReportError {
    /// The exit code for a command that ends with this error.
    pub fn exit(&self) -> Exit {
        match self {
            ReportError::Read { .. } | ReportError::Event { .. } => Exit::Invalid,
            ReportError::TooNew { .. } => Exit::FormatTooNew,
            ReportError::Write { .. } => Exit::Inconclusive,
            ReportError::Format { .. } => Exit::Internal,
        }
    }
}
