//! How files come into the archive: durably, once, and never over other content.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
};

use camino::Utf8Path;

use super::{Archive, IndexLine, content::copy, read_header};
use crate::backup::{
    BackupError,
    files::{self, is_there},
    hash::{Hashing, sha256_file},
};
use cdc_model::units::{IfThere, Lsn, Timeline};
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
    pub(crate) fn add_segment(&self, path: &Utf8Path, state: SegmentState) -> Result<IndexLine, BackupError> {
        let name = path.file_name().unwrap_or_default();
        let file: WalFile = name
            .parse()
            .map_err(|e: WalNameError| BackupError::NotWal { path: path.to_owned(), why: e.to_string() })?;
        let file = match (file, state) {
            (WalFile::Segment(segment), SegmentState::Partial) => WalFile::Partial(segment),
            (file, _) => file,
        };
        self.add(&file, path)?;
        self.entry(&file)?.ok_or_else(|| BackupError::checksum(self.path(&file), "a line in index.jsonl", "none"))
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
        let target = self.path(file);
        if is_there(&target)? {
            return self.add_again(file, path, &target, first_lsn);
        }
        self.store.folder(&self.timeline_folder(file.timeline()))?;
        let temporary = files::temporary_beside(&target);
        let line = self.encode(file, path, &temporary, first_lsn);
        let stored = line.and_then(|line| {
            // A link, unlike a rename, fails when another archiver was faster; its content is then compared with ours.
            match fs::hard_link(&temporary, &target) {
                Ok(()) => Ok(Some(line)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(None),
                Err(e) => Err(BackupError::io("link into place", &target)(e)),
            }
        });
        let _ = fs::remove_file(&temporary);
        match stored? {
            Some(line) => {
                files::sync_folder(&self.timeline_folder(file.timeline()))?;
                self.append(file.timeline(), &line)?;
                Ok(Stored::New)
            }
            None => self.add_again(file, path, &target, first_lsn),
        }
    }

    /// The file is there already: the server offers it again after a crash between its archiving and its note of it.
    fn add_again(
        &self,
        file: &WalFile,
        path: &Utf8Path,
        target: &Utf8Path,
        first_lsn: Option<Lsn>,
    ) -> Result<Stored, BackupError> {
        let (offered, size_raw) = sha256_file(path)?;
        let (archived, _) = self.decode_into(file, target, &mut io::sink())?;
        if offered != archived {
            return Err(BackupError::WalConflict {
                name: file.to_string(),
                path: target.to_owned(),
                archived,
                offered,
            });
        }
        if self.entry(file)?.is_none() {
            let (sha256, size) = sha256_file(target)?;
            let line = line_of(file, size_raw, size, offered, sha256, first_lsn);
            self.append(file.timeline(), &line)?;
        }
        Ok(Stored::AlreadyThere)
    }

    fn encode(
        &self,
        file: &WalFile,
        path: &Utf8Path,
        temporary: &Utf8Path,
        first_lsn: Option<Lsn>,
    ) -> Result<IndexLine, BackupError> {
        let mut source = Hashing::new(File::open(path).map_err(BackupError::io("open", path))?);
        let mut stored = Hashing::new(self.store.create(temporary)?);
        if file.is_wal() {
            let mut encoder =
                zstd::Encoder::new(&mut stored, WAL_ZSTD_LEVEL).map_err(BackupError::io("compress", path))?;
            encoder.include_checksum(true).map_err(BackupError::io("compress", path))?;
            copy(&mut source, &mut encoder, temporary, false)?;
            encoder.finish().map_err(BackupError::io("write", temporary))?;
        } else {
            copy(&mut source, &mut stored, temporary, false)?;
        }
        stored.get_ref().sync_all().map_err(BackupError::io("sync", temporary))?;
        let ((sha256_raw, size_raw), (sha256, size)) = (source.finish(), stored.finish());
        Ok(line_of(file, size_raw, size, sha256_raw, sha256, first_lsn))
    }

    /// Adds a line to the index, durably; the lock is the kernel's and ends with this process.
    fn append(&self, timeline: Timeline, line: &IndexLine) -> Result<(), BackupError> {
        let path = self.index_path(timeline);
        let mut text = serde_json::to_vec(line).map_err(|e| BackupError::malformed(&path, e))?;
        text.push(b'\n');
        let mut file = self.store.append(&path)?;
        file.lock().map_err(BackupError::io("lock", &path))?;
        let result = complete_last_line(&mut file).and_then(|()| file.write_all(&text)).and_then(|()| file.sync_all());
        result.map_err(BackupError::io("append to", &path))
    }
}

/// A crash may have left half a line; what follows must not be glued to it.
fn complete_last_line(file: &mut File) -> io::Result<()> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(());
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0u8];
    file.read_exact(&mut last)?;
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

fn line_of(
    file: &WalFile,
    size_raw: u64,
    size: u64,
    sha256_raw: String,
    sha256: String,
    first_lsn: Option<Lsn>,
) -> IndexLine {
    let archived_at = jiff::Timestamp::now().to_string();
    IndexLine { seg: file.to_string(), size_raw, size, sha256_raw, sha256, first_lsn, archived_at }
}
