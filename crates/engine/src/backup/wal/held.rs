//! A file as the archive holds it: where it is, and what says what its bytes should be.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use camino::{Utf8Path, Utf8PathBuf};

use super::{IndexLine, frame::Frame};
use crate::backup::{
    BackupError,
    files::{self, Store},
    hash::{BUFFER, Hashing, sha256_file},
};
use cdc_postgres::wal::WalFile;

/// A cluster made with `initdb --allow-group-access` lets the group read its data folder.
const GROUP_READS: u32 = 0o040;

/// An archived file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What it is.
    pub file: WalFile,
    /// Where it is.
    pub path: Utf8PathBuf,
    /// The size of what is stored.
    pub size: u64,
    pub(super) sum: Sum,
}

/// What says what the bytes of an archived file should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sum {
    /// Its line in the index of its timeline.
    Line(IndexLine),
    /// Nothing, as the index has no line of it.
    Unknown,
    /// The first digits of the stored bytes' hash, in its name.
    Name(String),
}

impl Held {
    /// Compares the stored bytes with their checksum.
    pub(crate) fn check_stored(&self) -> Result<(), BackupError> {
        let expected = match &self.sum {
            Sum::Line(line) => &line.sha256,
            Sum::Name(digits) => digits,
            Sum::Unknown => return Err(self.unknown()),
        };
        let (found, _) = sha256_file(&self.path)?;
        match found.starts_with(expected) {
            true => Ok(()),
            false => Err(BackupError::checksum(&self.path, expected, found)),
        }
    }

    /// Compares the stored bytes with their checksum; what has none has to decompress.
    pub(crate) fn check_if_known(&self) -> Result<(), BackupError> {
        match self.sum {
            Sum::Unknown => self.decode_into(&mut io::sink()).map(drop),
            Sum::Line(_) | Sum::Name(_) => self.check_stored(),
        }
    }

    /// Compares the stored bytes with their checksum, and with `decode` what they decompress to as well.
    pub(crate) fn check(&self, decode: bool) -> Result<(), BackupError> {
        self.check_stored()?;
        if decode {
            let (found, _) = self.decode_into(&mut io::sink())?;
            self.expect(&found, &format!("{} (decoded)", self.path))?;
        }
        Ok(())
    }

    /// The hash of the content when it was archived, or its first digits.
    pub(super) fn content(&self) -> Result<String, BackupError> {
        match &self.sum {
            Sum::Line(line) => Ok(line.sha256_raw.clone()),
            Sum::Unknown => Err(self.unknown()),
            Sum::Name(_) if self.file.is_wal() => Ok(self.frame()?.sha256_raw),
            Sum::Name(digits) => Ok(digits.clone()),
        }
    }

    /// The size of the content.
    pub(super) fn content_size(&self) -> Result<u64, BackupError> {
        match &self.sum {
            Sum::Line(line) => Ok(line.size_raw),
            Sum::Unknown => Err(self.unknown()),
            Sum::Name(_) if self.file.is_wal() => Ok(self.frame()?.size_raw),
            Sum::Name(_) => Ok(self.size),
        }
    }

    fn expect(&self, found: &str, what: &str) -> Result<(), BackupError> {
        let expected = self.content()?;
        match found.starts_with(&expected) {
            true => Ok(()),
            false => Err(BackupError::checksum(what, expected, found)),
        }
    }

    fn frame(&self) -> Result<Frame, BackupError> {
        let mut object = BufReader::new(File::open(&self.path).map_err(BackupError::io("open", &self.path))?);
        let frame = Frame::read(&self.path, &mut object)?;
        match frame.seg == self.file.to_string() {
            true => Ok(frame),
            false => Err(BackupError::malformed(&self.path, format!("it describes itself as {}", frame.seg))),
        }
    }

    /// Without its line nothing says what the bytes should be. "Not there" would let recovery end here, silently.
    fn unknown(&self) -> BackupError {
        BackupError::checksum(&self.path, "a line in index.jsonl", "none")
    }

    /// Puts the content at `to`, its checksum verified. The new file belongs to whom its folder belongs, and is for the
    /// owner alone; the group may read it where it may read the folder.
    pub(super) fn restore(&self, to: &Utf8Path) -> Result<(), BackupError> {
        if self.sum == Sum::Unknown {
            return Err(self.unknown());
        }
        let temporary = files::temporary_beside(to);
        let written = self.decode_to_file(&temporary).and_then(|found| self.expect(&found, self.path.as_str()));
        // Not synced: PostgreSQL syncs what it restores, and after a crash asks for it again.
        let placed =
            written.and_then(|()| fs::rename(&temporary, to).map_err(BackupError::io("rename into place", to)));
        if placed.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        placed
    }

    /// Writes the content to a new file, and compares it with its checksum where there is one.
    pub(super) fn decode_to(&self, to: &Utf8Path) -> Result<(), BackupError> {
        let found = self.decode_to_file(to)?;
        match self.sum {
            Sum::Unknown => Ok(()),
            Sum::Line(_) | Sum::Name(_) => self.expect(&found, self.path.as_str()),
        }
    }

    fn decode_to_file(&self, to: &Utf8Path) -> Result<String, BackupError> {
        let folder = to.parent().filter(|folder| !folder.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
        let mut out = Store::new(folder)?.create(to)?;
        let group = fs::metadata(folder).map_err(BackupError::io("look at", folder))?.mode() & GROUP_READS;
        if group != 0 {
            let mode = fs::Permissions::from_mode(0o600 | group);
            out.set_permissions(mode).map_err(BackupError::io("set the mode of", to))?;
        }
        self.decode_into(&mut out).map(|(hash, _)| hash)
    }

    /// Writes the content; its hash and length.
    pub(super) fn decode_into(&self, out: &mut impl Write) -> Result<(String, u64), BackupError> {
        let path = &self.path;
        let stored = BufReader::with_capacity(BUFFER, File::open(path).map_err(BackupError::io("open", path))?);
        let mut out = Hashing::new(out);
        if self.file.is_wal() {
            let mut decoder = zstd::Decoder::with_buffer(stored).map_err(BackupError::io("decode", path))?;
            copy(&mut decoder, &mut out, path, true)?;
        } else {
            copy(&mut { stored }, &mut out, path, false)?;
        }
        Ok(out.finish())
    }
}

/// Copies in large pieces. When decoding, an error of the reader means damaged content unless it came from the disk.
pub(super) fn copy(
    from: &mut impl Read,
    to: &mut impl Write,
    path: &Utf8Path,
    decoding: bool,
) -> Result<(), BackupError> {
    let mut buffer = vec![0u8; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => to.write_all(&buffer[..n]).map_err(BackupError::io("write what is read from", path))?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if decoding && e.raw_os_error().is_none() => {
                return Err(BackupError::checksum(path, "zstd data", e));
            }
            Err(e) => return Err(BackupError::io("read", path)(e)),
        }
    }
}
