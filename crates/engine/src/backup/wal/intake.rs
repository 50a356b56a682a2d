//! How files come into the archive: durably, once, and never over other content.

use std::{
    fs::{self, File},
    io::Write,
};

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    Archive, IndexLine,
    archive::Shelves,
    held::{Held, copy},
    objects::Objects,
    read_header,
};
use crate::backup::{BackupError, files::is_there, format::Format, hash::Hashing};
use cdc_model::units::{IfThere, Lsn};
use cdc_pipeline::config::RepositoryConfig;
use cdc_postgres::wal::{WalFile, WalNameError};

/// Archiving must keep up with the server on a busy machine; level 1 already shrinks an idle segment to nothing.
const WAL_ZSTD_LEVEL: i32 = 1;

/// Whether a salvaged segment is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentState {
    /// The server had finished it: it goes into the archive under its own name.
    Complete,
    /// The last one, which the server was still writing: it is kept as `<name>.partial`, which recovery does not ask for.
    Partial,
}

/// What happened to a file offered to the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    New,
    AlreadyThere,
}

/// A file that is offered to the archive.
#[derive(Clone, Debug)]
pub(super) struct Offered {
    pub(super) file: WalFile,
    pub(super) path: Utf8PathBuf,
    /// The first LSN of a segment.
    pub(super) first_lsn: Option<Lsn>,
}

impl Offered {
    /// The index line of the file; `content` and `stored` are hash and size of its content and of what is stored.
    pub(super) fn line(&self, content: (String, u64), stored: (String, u64)) -> IndexLine {
        let ((sha256_raw, size_raw), (sha256, size)) = (content, stored);
        let archived_at = jiff::Timestamp::now().to_string();
        IndexLine {
            seg: self.file.to_string(),
            size_raw,
            size,
            sha256_raw,
            sha256,
            first_lsn: self.first_lsn,
            archived_at,
        }
    }

    pub(super) fn conflict(&self, held: &Held, archived: String, offered: String) -> BackupError {
        BackupError::WalConflict { name: self.file.to_string(), path: held.path.clone(), archived, offered }
    }
}

/// Writes the content as it is stored, WAL compressed; the content's hash and size. `target` is the file for messages.
pub(super) fn compress(
    offered: &Offered,
    out: &mut impl Write,
    target: &Utf8Path,
) -> Result<(String, u64), BackupError> {
    let path = &offered.path;
    let mut source = Hashing::new(File::open(path).map_err(BackupError::io("open", path))?);
    if offered.file.is_wal() {
        let mut encoder = zstd::Encoder::new(out, WAL_ZSTD_LEVEL).map_err(BackupError::io("compress", path))?;
        encoder.include_checksum(true).map_err(BackupError::io("compress", path))?;
        copy(&mut source, &mut encoder, target, false)?;
        encoder.finish().map_err(BackupError::io("write", target))?;
    } else {
        copy(&mut source, out, target, false)?;
    }
    Ok(source.finish())
}

impl Archive {
    /// Takes in what an `archive_command` that cannot run this program left in the repository's spool, and says how many files
    /// that were. A file leaves the spool when it is durable here, so there is no moment at which it is in neither. One that
    /// contradicts what is here stays, as a refused one stays in `pg_wal`; so does another cluster's.
    pub fn drain(&self) -> Result<usize, BackupError> {
        let spool = RepositoryConfig { path: self.store.root().to_owned() }.spool();
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
        // Two that drain at once would see one another's files vanish.
        let lock = self.store.root().join("locks").join(".spool");
        let held = self.store.append(&lock)?;
        held.lock().map_err(BackupError::io("lock", &lock))?;
        let mut taken = 0;
        files.sort_by(|a, b| a.1.cmp(&b.1));
        for (file, path) in files {
            if !is_there(&path)? {
                continue;
            }
            match self.add(&file, &path) {
                Ok(_) => fs::remove_file(&path).map_err(BackupError::io("remove", &path))?,
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
        let scratch = tempfile::Builder::new().prefix(".adopt-").tempdir_in(self.store.root());
        let scratch = scratch.map_err(BackupError::io("make folder in", self.store.root()))?;
        let folder = Utf8Path::from_path(scratch.path()).unwrap_or(Utf8Path::new("."));
        let plain = folder.join(held.file.to_string());
        held.decode_to(&plain)?;
        self.add(&held.file, &plain).map(drop)
    }

    /// Stores a file: decides by content what to do with one that is there already.
    pub(super) fn add(&self, file: &WalFile, path: &Utf8Path) -> Result<Stored, BackupError> {
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
        let offered = Offered { file: *file, path: path.to_owned(), first_lsn };
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
