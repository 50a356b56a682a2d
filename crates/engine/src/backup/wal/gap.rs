//! A hole in the archive.

use cdc_model::units::{Exit, Failure, Hint, Lsn, SystemId, Timeline};

/// A hole in the archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "WAL archive of system {system_id} on timeline {timeline} has a gap: {missing_from} up to {missing_to} is missing (first missing segment {segment}; needed {from} to {to})"
)]
pub struct WalGap {
    /// The cluster.
    pub system_id: SystemId,
    /// The timeline that was followed.
    pub timeline: Timeline,
    /// The first missing byte.
    pub missing_from: Lsn,
    /// The end of the first missing stretch.
    pub missing_to: Lsn,
    /// The first missing segment.
    pub segment: String,
    /// Where the needed stretch begins.
    pub from: Lsn,
    /// Where the needed stretch ends.
    pub to: Lsn,
}

impl Failure for WalGap {
    fn exit(&self) -> Exit {
        Exit::WalGap
    }

    fn hints(&self) -> Vec<Hint> {
        vec!["look for the segment in the old server's pg_wal, or choose an earlier target".into()]
    }

    /// The segment may yet be archived.
    fn is_transient(&self) -> bool {
        true
    }
}
