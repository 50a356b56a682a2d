//! WAL of a server that a command restores over.

use std::{os::unix::fs::MetadataExt, path::Path};

use camino::{Utf8Path, Utf8PathBuf};

use crate::run::{RunError, rig::Pipeline};
use cdc_model::units::Epoch;
use cdc_postgres::wal::WalFile;

/// Holds on to the WAL of a server whose data folder may be deleted at any moment, by links to its segments: what is written
/// into the last one later is seen too.
pub(super) struct KeptWal {
    /// The folder, with the files below `pg_wal`.
    pub(super) home: Utf8PathBuf,
    pg_wal: Utf8PathBuf,
    folder: Option<u64>,
}

impl KeptWal {
    pub(super) fn new(pipeline: &Pipeline, epoch: Epoch) -> Result<KeptWal, RunError> {
        let home = pipeline.dir.join("exec").join(format!("wal-of-epoch-{}", epoch.0));
        let into = home.join("pg_wal");
        std::fs::create_dir_all(&into).map_err(RunError::file("create", &into))?;
        let pg_wal = pipeline.config.postgres.pgdata.join("pg_wal");
        let kept = KeptWal { home, folder: inode(&pg_wal), pg_wal };
        kept.gather();
        Ok(kept)
    }

    /// Links what is new, as long as it is the old server's folder. What cannot be linked is not there any more.
    pub(super) fn gather(&self) {
        if self.replaced() {
            return;
        }
        let Ok(entries) = self.pg_wal.read_dir_utf8() else { return };
        for entry in entries.flatten().filter(|e| is_wal(e.file_name())) {
            let to = self.home.join("pg_wal").join(entry.file_name());
            if !to.exists() && std::fs::hard_link(entry.path(), &to).is_err() {
                let _ = std::fs::copy(entry.path(), &to);
            }
        }
    }

    /// Whether another data folder stands in the place of that server's.
    pub(super) fn replaced(&self) -> bool {
        inode(&self.pg_wal) != self.folder
    }
}

fn inode(path: &Utf8Path) -> Option<u64> {
    std::fs::metadata(Path::new(path)).ok().map(|m| m.ino())
}

/// Whether a file of `pg_wal` is a segment or a timeline's history.
fn is_wal(name: &str) -> bool {
    matches!(name.parse(), Ok(WalFile::Segment(_) | WalFile::History(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_and_histories_are_wal() {
        for (name, wal) in [
            ("000000010000000000000003", true),
            ("00000002.history", true),
            ("000000010000000000000003.00000028.backup", false),
            ("archive_status", false),
            ("xlogtemp.77", false),
        ] {
            assert_eq!(is_wal(name), wal, "{name}");
        }
    }
}
