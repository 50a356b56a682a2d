//! What was archived first and last: `head.json` of a cluster's archive.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::name::Named;
use crate::backup::{BackupError, format::checked};
use cdc_postgres::wal::{WalFile, timeline_digits};

const HEAD: &str = "head.json";

/// The ends of what is archived. It may be behind by what was archived at the moment of a crash, never ahead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// By timeline, the objects of its first and its last segment.
    pub(crate) segments: BTreeMap<String, Ends>,
    /// The objects of all other files.
    pub(crate) others: BTreeSet<String>,
}

/// The objects of a timeline's first and last segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ends {
    pub(crate) first: String,
    pub(crate) last: String,
}

impl Head {
    pub(super) fn path(folder: &Utf8Path) -> Utf8PathBuf {
        folder.join(HEAD)
    }

    pub(super) fn read(folder: &Utf8Path) -> Result<Option<Head>, BackupError> {
        checked::read(&Head::path(folder))
    }

    pub(super) fn from_bytes(path: &Utf8Path, bytes: &[u8]) -> Result<Head, BackupError> {
        checked::from_bytes(path, bytes)
    }

    pub(super) fn to_bytes(&self, path: &Utf8Path) -> Result<Vec<u8>, BackupError> {
        checked::to_bytes(path, self)
    }

    /// Every object that is named.
    pub(crate) fn objects(&self) -> BTreeSet<&str> {
        let ends = self.segments.values().flat_map(|ends| [&ends.first, &ends.last]);
        ends.chain(&self.others).map(String::as_str).collect()
    }

    /// The file that an object holds, by its name.
    pub(crate) fn file_of(object: &str) -> Option<WalFile> {
        Named::parse(object).map(|named| named.file)
    }

    /// With an object that is there now; none where nothing changes.
    pub(super) fn with(&self, file: &WalFile, object: &str) -> Option<Head> {
        let mut head = self.clone();
        match file {
            WalFile::Segment(_) => {
                let new = || Ends { first: object.to_owned(), last: object.to_owned() };
                let ends = head.segments.entry(timeline_digits(file.timeline())).or_insert_with(new);
                // An object that replaced a damaged one has another name, and the same file.
                if Head::file_of(object) <= Head::file_of(&ends.first) {
                    ends.first = object.to_owned();
                }
                if Head::file_of(object) >= Head::file_of(&ends.last) {
                    ends.last = object.to_owned();
                }
            }
            WalFile::Partial(_) | WalFile::History(_) | WalFile::BackupLabel(..) => {
                head.others.retain(|other| Head::file_of(other).as_ref() != Some(file));
                head.others.insert(object.to_owned());
            }
        }
        (head != *self).then_some(head)
    }
}
