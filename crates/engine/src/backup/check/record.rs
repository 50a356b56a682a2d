//! `checks.json`: which points have passed a deep check, and what of the repository has no checksum of its own.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::backup::{
    BackupError,
    files::{self, Store, is_there},
    format::{Format, checked},
};
use cdc_model::units::PointId;

const MARK: &[u8] = b"checks.json is here\n";

/// What checks have found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The last deep check that each point has passed. It is always written: without a default, another file with a checksum of its own
    /// is not taken for this one.
    pub(crate) passed: BTreeMap<PointId, Passed>,
    /// What files of format 1 held that have no checksum of their own, by path below the repository.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) seen: BTreeMap<String, Seen>,
}

/// A deep check that a point has passed: that, and nothing else, makes it good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// When, RFC 3339.
    pub at: String,
    /// The version of the program that checked.
    pub by: String,
    /// The hash of the manifest that was checked.
    pub manifest: String,
}

/// The beginning of a file that only grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// How many bytes.
    pub(crate) bytes: u64,
    /// Their hash.
    pub(crate) sha256: String,
}

impl Record {
    pub(crate) fn path(root: &Utf8Path) -> Utf8PathBuf {
        root.join("checks.json")
    }

    /// Reads it; none where nothing was ever checked.
    pub(crate) fn read(root: &Utf8Path) -> Result<Option<Record>, BackupError> {
        checked::read(&Record::path(root))
    }

    pub(crate) fn write(&self, store: &Store, format: Format) -> Result<(), BackupError> {
        if format == Format::One {
            store.write(&Record::mark(store.root()), MARK)?;
        }
        let path = Record::path(store.root());
        store.write(&path, &checked::to_bytes(&path, self)?)
    }

    /// The same for a check that began with notes of these points. What another check has noted of others meanwhile stays.
    pub(super) fn write_beside(
        &self,
        store: &Store,
        format: Format,
        began_with: &BTreeSet<PointId>,
    ) -> Result<(), BackupError> {
        if format == Format::One {
            store.write(&Record::mark(store.root()), MARK)?;
        }
        let path = Record::path(store.root());
        store.change(&path, |bytes| {
            let there = bytes.and_then(|bytes| checked::from_bytes::<Record>(&path, &bytes).ok()).unwrap_or_default();
            let mut all = self.clone();
            for (point, passed) in there.passed.into_iter().filter(|(point, _)| !began_with.contains(point)) {
                all.passed.entry(point).or_insert(passed);
            }
            checked::to_bytes(&path, &all).map(Some)
        })
    }

    /// The file that says that there has to be a record. A repository of format 2 has a record since it was made.
    pub(super) fn mark(root: &Utf8Path) -> Utf8PathBuf {
        root.join("checks.made")
    }

    /// Whether there has to be a record.
    pub(super) fn was_made(root: &Utf8Path, format: Format) -> Result<bool, BackupError> {
        Ok(format == Format::Two || is_there(&Record::mark(root))?)
    }

    /// What is wrong with the mark of a repository of format 1; nothing before the first record.
    pub(super) fn wrong_mark(root: &Utf8Path) -> Result<Option<&'static str>, BackupError> {
        Ok(match files::read_if_there(&Record::mark(root))? {
            Some(bytes) => (bytes != MARK).then_some("other text"),
            None => is_there(&Record::path(root))?.then_some("nothing"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::fixture;

    #[test]
    fn checks_that_end_one_after_the_other_keep_one_anothers_notes() {
        let passed = |by: &str| Passed { at: "2026-11-22T02:00:00Z".into(), by: by.into(), manifest: "ab".into() };
        let record = |points: &[(&str, &str)]| Record {
            passed: points.iter().map(|(point, by)| (PointId::new(*point), passed(by))).collect(),
            seen: BTreeMap::new(),
        };
        let ids = |points: &[&str]| points.iter().map(|point| PointId::new(*point)).collect::<BTreeSet<_>>();
        let folder = tempfile::tempdir().unwrap();
        for root in [Utf8Path::from_path(folder.path()).unwrap(), &fixture::bucket()] {
            let store = Store::new(root).unwrap();
            record(&[("old", "first"), ("gone", "first")]).write(&store, Format::Two).unwrap();
            // Both began with these. The one that saw a new point ends first; to the other, one of the old points is gone.
            let began_with = ids(&["old", "gone"]);
            record(&[("old", "second"), ("new", "second")]).write_beside(&store, Format::Two, &began_with).unwrap();
            record(&[("old", "third")]).write_beside(&store, Format::Two, &began_with).unwrap();
            assert_eq!(Record::read(root).unwrap(), Some(record(&[("old", "third"), ("new", "second")])));
        }
    }
}
