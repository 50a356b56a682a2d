//! `pruned.json` of a topic's archive: which backups were removed on purpose, and why. It is written before anything goes, so a backup
//! that is missing without an entry here is lost.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{
    archive::{PRUNED, TopicArchive},
    manifest::PreviousBackup,
};
use crate::backup::{BackupError, files, format::checked, pruned::PruneReason};

/// The backups of a topic that were removed on purpose, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PrunedBackups {
    pub(crate) backups: BTreeMap<String, PrunedBackup>,
}

/// A backup that was removed on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PrunedBackup {
    /// The hash of its manifest.
    pub(crate) manifest: String,
    /// When it began, RFC 3339.
    pub(crate) begin: String,
    pub(crate) why: PruneReason,
    /// When it was removed, by the clock of the machine that did.
    pub(crate) at: String,
}

impl PrunedBackups {
    fn path(archive: &TopicArchive) -> Utf8PathBuf {
        archive.folder.join(PRUNED)
    }

    /// Reads it; empty where nothing was ever removed.
    pub(crate) fn read(archive: &TopicArchive) -> Result<PrunedBackups, BackupError> {
        Ok(checked::read(&PrunedBackups::path(archive))?.unwrap_or_default())
    }

    /// Makes the file, empty, in an archive that has no backups yet: its loss is noticed from then on.
    pub(crate) fn make(archive: &TopicArchive) -> Result<(), BackupError> {
        match archive.newest()? {
            None => PrunedBackups::default().write(archive),
            Some(_) => Ok(()),
        }
    }

    /// Whether the file is there.
    pub(crate) fn is_there(archive: &TopicArchive) -> Result<bool, BackupError> {
        files::is_there(&PrunedBackups::path(archive))
    }

    pub(crate) fn write(&self, archive: &TopicArchive) -> Result<(), BackupError> {
        let path = PrunedBackups::path(archive);
        archive.store().write(&path, &checked::to_bytes(&path, self)?)
    }

    /// Whether the backup that another one names was removed on purpose.
    pub(crate) fn covers(&self, link: &PreviousBackup) -> bool {
        self.backups.get(&link.backup).is_some_and(|pruned| pruned.manifest == link.manifest)
    }
}
