//! `pruned.json`: which recovery points and which archived WAL were removed on purpose, and why. It is written before anything goes,
//! so what is missing without an entry here is lost.
//!
//! One process writes it at a time, the holder of the lock for maintenance. Archivers never touch it, and it never touches their
//! `head.json`.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{
    BackupError,
    files::Store,
    format::{Kind, Link, checked},
};
use cdc_model::units::{PointId, SystemId, Timeline};
use cdc_postgres::wal::{SegmentName, WalFile, timeline_digits};

/// Why a recovery point goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PruneReason {
    /// It is older than what is to be kept.
    Retention,
    /// The repository would take more room than its budget, or than the disk has.
    Budget,
}

impl std::fmt::Display for PruneReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            PruneReason::Retention => "retention",
            PruneReason::Budget => "budget",
        })
    }
}

/// A recovery point that was removed on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tombstone {
    /// The hash of its manifest.
    pub(crate) manifest: String,
    /// Its number in the chain.
    pub(crate) number: u64,
    /// When its capture began.
    pub(crate) begin: String,
    pub(crate) kind: Kind,
    pub(crate) bytes: u64,
    pub(crate) why: PruneReason,
    /// When it was pruned, by the clock of the machine that did.
    pub(crate) at: String,
}

/// What was removed on purpose. Every field is always written: without defaults, another file with a checksum of its own is not taken for
/// this one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pruned {
    /// When something was removed last: every removal changes the file, so a check notices one that happened meanwhile.
    pub(crate) at: String,
    pub(crate) points: BTreeMap<PointId, Tombstone>,
    /// By system identifier and timeline the first segment that was kept. It only moves on.
    wal: BTreeMap<String, BTreeMap<String, String>>,
}

impl Pruned {
    pub(crate) fn path(root: &Utf8Path) -> Utf8PathBuf {
        root.join("pruned.json")
    }

    /// Reads it; none where there is none.
    pub(crate) fn read(root: &Utf8Path) -> Result<Option<Pruned>, BackupError> {
        checked::read(&Pruned::path(root))
    }

    /// Reads it for those who want to know which points there are. A damaged one must not keep a recovery from its points, and a point
    /// that is half removed has no manifest.
    pub(crate) fn read_or_none(root: &Utf8Path) -> Result<Pruned, BackupError> {
        match Pruned::read(root) {
            Ok(pruned) => Ok(pruned.unwrap_or_default()),
            Err(error) if error.is_damage() => {
                tracing::warn!(%error, "which recovery points were pruned is not known");
                Ok(Pruned::default())
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn write(&self, store: &Store) -> Result<(), BackupError> {
        let path = Pruned::path(store.root());
        store.write(&path, &checked::to_bytes(&path, self)?)
    }

    /// Whether the point that another one remembers was pruned.
    pub(crate) fn covers(&self, link: &Link) -> bool {
        self.points.get(&link.point).is_some_and(|tombstone| tombstone.manifest == link.manifest)
    }

    /// The first segment of a timeline that was kept; none where nothing was pruned.
    pub(crate) fn first_kept(&self, system_id: SystemId, timeline: Timeline) -> Option<SegmentName> {
        let first = self.wal.get(&system_id.to_string())?.get(&timeline_digits(timeline))?;
        match first.parse() {
            Ok(WalFile::Segment(name)) => Some(name),
            _ => None,
        }
    }

    /// Whether WAL of a cluster was pruned.
    pub(crate) fn has_wal_of(&self, system_id: SystemId) -> bool {
        self.wal.contains_key(&system_id.to_string())
    }

    /// Notes that everything of a timeline before this segment goes.
    pub(crate) fn keep_from(&mut self, system_id: SystemId, first: SegmentName) {
        if self.first_kept(system_id, first.timeline).is_none_or(|noted| noted < first) {
            let timelines = self.wal.entry(system_id.to_string()).or_default();
            timelines.insert(timeline_digits(first.timeline), first.to_string());
        }
    }

    /// Whether an archived file was pruned, or may be at any moment.
    pub(crate) fn covers_wal(&self, system_id: SystemId, file: &WalFile) -> bool {
        match file {
            WalFile::Segment(name) | WalFile::Partial(name) | WalFile::BackupLabel(name, _) => {
                self.first_kept(system_id, name.timeline).is_some_and(|first| *name < first)
            }
            WalFile::History(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::fixture::{SYSTEM, size};

    #[test]
    fn a_mark_only_moves_on_and_is_a_timelines_own() {
        let name = |timeline: u32, number: u64| SegmentName::new(Timeline::literal(timeline), number, size());
        let mut pruned = Pruned::default();
        pruned.keep_from(SYSTEM, name(1, 5));
        pruned.keep_from(SYSTEM, name(1, 3));
        assert_eq!(pruned.first_kept(SYSTEM, Timeline::FIRST), Some(name(1, 5)));
        assert!(pruned.covers_wal(SYSTEM, &WalFile::Segment(name(1, 4))));
        assert!(pruned.covers_wal(SYSTEM, &WalFile::BackupLabel(name(1, 4), 40)));
        assert!(!pruned.covers_wal(SYSTEM, &WalFile::Segment(name(1, 5))));
        assert!(!pruned.covers_wal(SYSTEM, &WalFile::Segment(name(2, 4))), "another timeline");
        assert!(!pruned.covers_wal(SystemId(7), &WalFile::Segment(name(1, 4))), "another cluster");
        assert!(!pruned.covers_wal(SYSTEM, &WalFile::History(Timeline::FIRST)));
    }
}
