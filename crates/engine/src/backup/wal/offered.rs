//! A file that is offered to the archive, and how it is compressed.

use std::{
    fs::File,
    io::{self, Write},
};

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    IndexLine,
    held::{Held, copy},
};
use crate::backup::{BackupError, hash::Hashing};
use cdc_model::units::Lsn;
use cdc_postgres::wal::WalFile;

/// Archiving must keep up with the server on a busy machine; level 1 already shrinks an idle segment to nothing.
const WAL_ZSTD_LEVEL: i32 = 1;

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

/// The hash of what is stored when the content of a file is compressed once more.
pub(super) fn compress_again(held: &Held) -> Result<String, BackupError> {
    let mut stored = Hashing::new(io::sink());
    if held.file.is_wal() {
        let failed = |e| BackupError::io("compress", &held.path)(e);
        let mut encoder = zstd::Encoder::new(&mut stored, WAL_ZSTD_LEVEL).map_err(failed)?;
        encoder.include_checksum(true).map_err(failed)?;
        held.decode_into(&mut encoder)?;
        encoder.finish().map_err(failed)?;
    } else {
        held.decode_into(&mut stored)?;
    }
    Ok(stored.finish().0)
}
