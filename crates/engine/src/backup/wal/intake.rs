//! How files come into the archive: durably, once, and never over other content.

use std::io;

use camino::Utf8Path;

use super::{
    Archive,
    archive::Shelves,
    held::Held,
    objects::Objects,
    offered::{Offered, Stored},
    read_header,
};
use crate::backup::{
    BackupError,
    files::{self, is_there},
    format::Format,
    storage,
};
use cdc_model::units::IfThere;
use cdc_pipeline::config::RepositoryConfig;
use cdc_postgres::wal::{WalFile, WalNameError};

/// Whether a salvaged segment is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentState {
    /// The server had finished it: it goes into the archive under its own name.
    Complete,
    /// The last one, which the server was still writing: it is kept as `<name>.partial`, which recovery does not ask for.
    Partial,
}

impl Archive {
    /// Takes in what an `archive_command` that cannot run this program left in the repository's spool, and says how many files
    /// that were. A file leaves the spool when it is durable here, so there is no moment at which it is in neither. One that
    /// contradicts what is here stays, as a refused one stays in `pg_wal`; so does another cluster's. A bucket has no spool.
    pub fn drain(&self) -> Result<usize, BackupError> {
        if storage::is_in_a_bucket(self.store.root()) {
            return Ok(0);
        }
        let spool = RepositoryConfig::at(self.store.root().to_owned()).spool();
        let entries = spool.read_dir_utf8().if_there().map_err(BackupError::io("list", &spool))?;
        let Some(entries) = entries else { return Ok(0) };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(BackupError::io("list", &spool))?.into_path();
            // What is still being copied has another name.
            if let Ok(file) = path.file_name().unwrap_or_default().parse::<WalFile>() {
                files.push((file, path));
            }
        }
        if files.is_empty() {
            return Ok(0);
        }
        let mut taken = 0;
        files.sort_by(|a, b| a.1.cmp(&b.1));
        for (file, path) in files {
            match self.add(&file, &path) {
                Ok(_) => {
                    files::remove(&path)?;
                }
                // Another process that takes in the spool was faster.
                Err(BackupError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound && !is_there(&path)? => {}
                Err(error @ (BackupError::NotWal { .. } | BackupError::WalConflict { .. })) => {
                    tracing::warn!(%path, %error, "left in the spool");
                    continue;
                }
                Err(error) => return Err(error),
            }
            taken += 1;
        }
        Ok(taken)
    }

    /// Takes a segment (from an old server's `pg_wal`) or a history file into the archive. The name is the file's own; a
    /// segment's header must agree with it. What is there already with the same content is left alone.
    pub(crate) fn add_segment(&self, path: &Utf8Path, state: SegmentState) -> Result<Held, BackupError> {
        let name = path.file_name().unwrap_or_default();
        let file: WalFile = name
            .parse()
            .map_err(|e: WalNameError| BackupError::NotWal { path: path.to_owned(), why: e.to_string() })?;
        let file = match (file, state) {
            (WalFile::Segment(segment), SegmentState::Partial) => WalFile::Partial(segment),
            (file, _) => file,
        };
        self.add(&file, path)?;
        self.find(&file)?.ok_or_else(|| BackupError::checksum(self.place(&file), "what was just archived", "nothing"))
    }

    /// Stores what another archive of this cluster holds.
    pub(crate) fn adopt(&self, held: &Held) -> Result<(), BackupError> {
        let plain = files::temporary_beside(&self.store.root().join(held.file.to_string()));
        let added = held.decode_to(&plain).and_then(|()| self.add(&held.file, &plain));
        files::remove(&plain)?;
        added.map(drop)
    }

    /// A file under its name, or why it cannot be that file of this cluster.
    pub(super) fn offered(&self, file: &WalFile, path: &Utf8Path) -> Result<Offered, BackupError> {
        let first_lsn = match file {
            WalFile::Segment(name) | WalFile::Partial(name) => {
                let header = read_header(path, *name)?;
                if header.system_id != self.system_id {
                    let why = format!("it is of system {}, not of {}", header.system_id, self.system_id);
                    return Err(BackupError::NotWal { path: path.to_owned(), why });
                }
                Some(header.address)
            }
            WalFile::History(_) | WalFile::BackupLabel(..) => None,
        };
        Ok(Offered { file: *file, path: path.to_owned(), first_lsn })
    }

    /// Stores a file: decides by content what to do with one that is there already.
    pub(super) fn add(&self, file: &WalFile, path: &Utf8Path) -> Result<Stored, BackupError> {
        let offered = self.offered(file, path)?;
        match &self.shelves {
            Shelves::Indexed(indexed) => {
                let stored = indexed.put(&offered)?;
                // An upgrade may have ended meanwhile. It carries over what it sees, and this it may not have seen.
                if self.format_now()? == Format::Two {
                    Objects::new(&self.store, self.folder()).put(&offered)?;
                    indexed.forget(file)?;
                }
                Ok(stored)
            }
            Shelves::Objects(objects) => objects.put(&offered),
        }
    }
}
