//! What a repository has of a cluster's WAL, as the server's own words are compared with it.

use std::collections::BTreeSet;

use super::{
    archive::Survey,
    archiver::{ArchiverStanding, Holds, ServerArchiving},
};
use crate::backup::{BackupError, Format, Repository, pruned::Pruned, storage, version::Identity, wal::Archive};
use cdc_postgres::wal::{SegmentName, WalFile};

/// What the repository has of a cluster's WAL.
pub(super) struct Holding<'a> {
    pub(super) survey: Option<&'a Survey>,
    pub(super) archive: &'a Archive,
    /// What was pruned; none where that is not known.
    pub(super) pruned: Option<&'a Pruned>,
    pub(super) spooled: &'a BTreeSet<WalFile>,
    pub(super) made: Option<i64>,
}

impl Holds for Holding<'_> {
    type Error = BackupError;

    fn has(&self, file: &WalFile) -> Result<bool, BackupError> {
        // Without a record of what was pruned, whatever is missing may have been.
        let system_id = self.archive.system_id();
        let may_be_gone = self.pruned.is_none_or(|pruned| pruned.covers_wal(system_id, file));
        Ok(may_be_gone || !self.archive.stored_copies(file)?.is_empty())
    }

    fn spools(&self, file: &WalFile) -> bool {
        self.spooled.contains(file)
    }

    fn ends(&self, of: SegmentName) -> Option<(SegmentName, SegmentName)> {
        let mut segments = self.survey?.segments(of.timeline);
        let first = segments.next()?;
        Some((first, segments.next_back().unwrap_or(first)))
    }

    fn made(&self) -> Option<i64> {
        self.made
    }
}

/// When a repository was made, in microseconds since 1970, as far as that can be read.
pub(super) fn made(repository: &Repository) -> Option<i64> {
    let identity = Identity::read(repository.path(), repository.format()).ok()?;
    identity.created.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond)
}

impl ArchiverStanding {
    /// How a server's archiving stands beside what a repository has by the names of its files: nothing is read that was archived.
    pub fn by_names(repository: &Repository, server: &ServerArchiving) -> Result<ArchiverStanding, BackupError> {
        let mut spooled = BTreeSet::new();
        for entry in storage::entries(&repository.path().join("spool"))?.into_iter().flatten() {
            spooled.extend(entry.name().parse::<WalFile>().ok());
        }
        let pruned = match repository.format() {
            Format::One => Some(Pruned::default()),
            Format::Two => Pruned::read(repository.path())?,
        };
        let archive = repository.archive(server.system_id);
        let survey = Survey::by_names(&archive.all_files()?)?;
        ArchiverStanding::judge(
            server,
            &Holding {
                survey: Some(&survey),
                archive: &archive,
                pruned: pruned.as_ref(),
                spooled: &spooled,
                made: made(repository),
            },
        )
    }
}
