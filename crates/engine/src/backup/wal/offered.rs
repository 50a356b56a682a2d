//! A file that is offered to the archive, and how it is compressed.

use std::{
    fs::File,
    io::{self, Seek, Write},
};

use camino::{Utf8Path, Utf8PathBuf};
use tempfile::{SpooledTempFile, spooled_tempfile, spooled_tempfile_in};

use super::{
    IndexLine,
    held::{Held, copy},
};
use crate::backup::{BackupError, hash::Hashing, storage::is_in_a_bucket};
use cdc_model::units::Lsn;
use cdc_postgres::wal::WalFile;

/// Archiving must keep up with the server on a busy machine; level 1 already shrinks an idle segment to nothing.
const WAL_ZSTD_LEVEL: i32 = 1;

/// Segments of the usual size, and of four times that, are compressed without another file.
const IN_MEMORY: usize = 64 << 20;

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

    /// What an object has is not what was offered, by the hash of that.
    pub(super) fn conflict(&self, held: &Held, archived: String, offered: String) -> BackupError {
        let offered = held.seal.tag(&self.file.to_string(), &offered).unwrap_or(offered);
        BackupError::WalConflict { name: self.file.to_string(), path: held.path.clone(), archived, offered }
    }
}

/// Compresses the content in one reading, in memory or, where it is larger than that, in a file without a name below `folder`, or in the
/// place for temporary files where nothing may be in `folder` as it is; what is read from the beginning, and the content's hash and size.
pub(super) fn pack(
    offered: &Offered,
    folder: &Utf8Path,
    elsewhere: bool,
) -> Result<(SpooledTempFile, (String, u64)), BackupError> {
    let mut packed = match elsewhere || is_in_a_bucket(folder) {
        true => spooled_tempfile(IN_MEMORY),
        false => spooled_tempfile_in(IN_MEMORY, folder),
    };
    let content = compress(offered, &mut packed, folder)?;
    packed.rewind().map_err(BackupError::io("read what is compressed of", &offered.path))?;
    Ok((packed, content))
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
