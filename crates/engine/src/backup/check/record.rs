//! `checks.json`: which points have passed a deep check, and what of the repository has no checksum of its own.

use std::collections::BTreeMap;

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
