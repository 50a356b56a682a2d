//! Rows that were written to see whether they arrive.

use serde::{Deserialize, Serialize};

use cdc_model::units::{Lsn, TableName};

/// How the wait for quiet ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiet {
    /// The marker's topic.
    pub topic: String,
    /// The marker's table.
    pub table: TableName,
    /// The marker.
    pub token: String,
    /// Where the server's WAL ended once the marker was committed.
    pub lsn: Lsn,
    /// Whether the marker was read and the stored offset is past it.
    pub reached: Result<(), Interrupted>,
}

/// Why the wait for quiet ended without the marker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interrupted {
    /// Whether something is dead, rather than slow.
    pub dead: bool,
    /// What was seen last.
    pub seen: String,
}

/// A row written to see whether it arrives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// Its table.
    pub table: TableName,
    /// Its topic.
    pub topic: String,
    /// Its token.
    pub token: String,
    /// Milliseconds until it was read; why not, where it was not.
    pub arrived_ms: Result<u64, String>,
}
