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

    /// Writes it. What a process has noted that held the lock meanwhile stays: what was pruned once is gone.
    pub(crate) fn write(&self, store: &Store) -> Result<(), BackupError> {
        let path = Pruned::path(store.root());
        store.change(&path, |bytes| {
            let noted: Option<Pruned> = bytes.map(|bytes| checked::from_bytes(&path, &bytes)).transpose()?;
            checked::to_bytes(&path, &self.with(noted.unwrap_or_default())).map(Some)
        })
    }

    /// With what another one says besides.
    fn with(&self, other: Pruned) -> Pruned {
        let mut all = self.clone();
        for (point, tombstone) in other.points {
            all.points.entry(point).or_insert(tombstone);
        }
        for (system_id, timelines) in other.wal {
            let own = all.wal.entry(system_id).or_default();
            for (timeline, first) in timelines {
                // Names of segments of one timeline are in the order of their numbers.
                let kept = own.entry(timeline).or_default();
                *kept = first.max(std::mem::take(kept));
            }
        }
        all
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
    use crate::backup::fixture::{self, SYSTEM, size};

    #[test]
    fn what_another_process_has_noted_is_not_forgotten() {
        let name = |number: u64| SegmentName::new(Timeline::FIRST, number, size());
        let of = |point: &str, first: u64| {
            let mut pruned = Pruned::default();
            let tombstone = Tombstone {
                manifest: "ab".into(),
                number: first,
                begin: "2026-11-22T02:00:00Z".into(),
                kind: Kind::Full,
                bytes: 1,
                why: PruneReason::Retention,
                at: "2026-11-22T02:00:00Z".into(),
            };
            pruned.points.insert(PointId::new(point), tombstone);
            pruned.keep_from(SYSTEM, name(first));
            pruned
        };
        let folder = tempfile::tempdir().unwrap();
        for root in [Utf8Path::from_path(folder.path()).unwrap(), &fixture::bucket()] {
            let store = Store::new(root).unwrap();
            of("20261122T020000Z-0001", 5).write(&store).unwrap();
            // One that was suspended with an older state.
            of("20261122T020000Z-0002", 3).write(&store).unwrap();
            let pruned = Pruned::read(root).unwrap().unwrap();
            assert_eq!((pruned.points.len(), pruned.first_kept(SYSTEM, Timeline::FIRST)), (2, Some(name(5))));
        }
    }

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
