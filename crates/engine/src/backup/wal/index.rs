//! The index of a timeline's archived files.

use serde::{Deserialize, Serialize};

use cdc_model::units::Lsn;

/// One archived file: a line of `index.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IndexLine {
    /// The file's name as PostgreSQL knows it.
    pub(super) seg: String,
    /// Its size.
    pub(super) size_raw: u64,
    /// The size of the stored file.
    pub(super) size: u64,
    /// The checksum of its content.
    pub(super) sha256_raw: String,
    /// The checksum of the stored file.
    pub(super) sha256: String,
    /// The first LSN of a segment.
    pub(super) first_lsn: Option<Lsn>,
    /// When it was archived, RFC 3339.
    pub(super) archived_at: String,
}
