//! A file as the archive holds it: where it is, and what says what its bytes should be.

use std::{
    fs,
    io::{self, BufReader, Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use camino::{Utf8Path, Utf8PathBuf};

use super::{IndexLine, frame::Frame};
use crate::backup::{
    BackupError,
    error::has_a_system_said,
    files::{self, Store},
    format::stamp::Stamp,
    hash::{BUFFER, Hashing, sha256, sha256_file},
    seal::Seal,
    storage,
};
use cdc_model::units::{IfThere, SystemId, Timeline, counted};
use cdc_postgres::wal::{SegmentFacts, SegmentHeader, TimelineHistory, WalFile};

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
    /// How its content is kept.
    pub(super) seal: Seal,
}

/// What says what the bytes of an archived file should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sum {
    /// Its line in the index of its timeline.
    Line(IndexLine),
    /// Nothing, as the index has no line of it.
    Unknown,
    /// Its name.
    Name {
        /// Of an encrypted object: the salted hash and the size of its content.
        content: Option<Stamp>,
        /// Hash and size of its bytes.
        stored: Stamp,
    },
}

impl Held {
    /// Compares the stored bytes with their checksum.
    pub(crate) fn check_stored(&self) -> Result<(), BackupError> {
        self.check_size()?;
        let expected = match &self.sum {
            Sum::Line(line) => &line.sha256,
            Sum::Name { stored, .. } => &stored.digits,
            Sum::Unknown => return Err(self.unknown()),
        };
        let (found, _) = sha256_file(&self.path)?;
        match found.starts_with(expected) {
            true => Ok(()),
            false => Err(BackupError::checksum(&self.path, expected, found)),
        }
    }

    /// Compares how many bytes are stored with how many were.
    pub(crate) fn check_size(&self) -> Result<(), BackupError> {
        let expected = match &self.sum {
            Sum::Line(line) => line.size,
            Sum::Name { stored, .. } => stored.size,
            Sum::Unknown => return Err(self.unknown()),
        };
        let bytes = |size: u64| counted(size, "byte");
        match expected == self.size {
            true => Ok(()),
            false => Err(BackupError::checksum(&self.path, bytes(expected), bytes(self.size))),
        }
    }

    /// Compares the stored bytes with their checksum; what has none has to decompress.
    pub(crate) fn check_if_known(&self) -> Result<(), BackupError> {
        match self.sum {
            Sum::Unknown => self.decode_into(&mut io::sink()).map(drop),
            Sum::Line(_) | Sum::Name { .. } => self.check_stored(),
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

    /// Looks at the file by itself: its size, what it says that it is, and with `deep` all of its bytes and that the segment in it
    /// is this cluster's. An encrypted one says nothing to whoever has no identity: its bytes are hashed in any case.
    pub(crate) fn inspect(&self, system_id: SystemId, deep: bool) -> Result<(), BackupError> {
        self.check_size()?;
        if self.seal.is_on() {
            self.check_stored()?;
        }
        if self.file.is_wal() && (deep || !self.seal.is_on()) {
            self.frame()?;
        }
        if deep {
            self.check_stored()?;
            let content = self.inspect_content(system_id)?;
            self.expect(&content, &format!("{} (decoded)", self.path))?;
        }
        Ok(())
    }

    /// The hash of the content, which has to be what the file's name says.
    pub(super) fn inspect_content(&self, system_id: SystemId) -> Result<String, BackupError> {
        let mut begin = Range { from: 0, to: SegmentHeader::LENGTH as u64, at: 0, bytes: Vec::new() };
        let (hash, length) = self.decode_into(&mut begin)?;
        if let WalFile::Segment(name) | WalFile::Partial(name) = self.file {
            let header =
                begin.bytes.first_chunk().ok_or_else(|| format!("{} make no segment", counted(length, "byte")));
            let header = header.and_then(SegmentHeader::parse);
            let checked = header.and_then(|header| {
                header.check(name, length)?;
                match header.system_id == system_id {
                    true => Ok(()),
                    false => Err(format!("it is of system {}, not of {system_id}", header.system_id)),
                }
            });
            checked.map_err(|why| BackupError::malformed(&self.path, why))?;
        }
        if let WalFile::History(timeline) = self.file {
            let text = String::from_utf8_lossy(&self.range(0, u64::MAX)?).into_owned();
            TimelineHistory::parse(timeline, &text).map_err(|why| BackupError::malformed(&self.path, why))?;
        }
        Ok(hash)
    }

    /// Some of the content.
    pub(crate) fn range(&self, from: u64, to: u64) -> Result<Vec<u8>, BackupError> {
        let mut range = Range { from, to, at: 0, bytes: Vec::new() };
        self.decode_into(&mut range)?;
        Ok(range.bytes)
    }

    /// The hash of the content when it was archived, or its first digits; of an encrypted one a salted hash.
    pub(crate) fn content(&self) -> Result<String, BackupError> {
        match &self.sum {
            Sum::Line(line) => Ok(line.sha256_raw.clone()),
            Sum::Unknown => Err(self.unknown()),
            Sum::Name { content: Some(content), .. } => Ok(content.digits.clone()),
            Sum::Name { .. } if self.file.is_wal() => Ok(self.frame()?.sha256_raw),
            Sum::Name { stored, .. } => Ok(stored.digits.clone()),
        }
    }

    /// Whether its content is encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        self.seal.is_on()
    }

    /// Whether the content has this hash.
    pub(super) fn is_content(&self, sha256: &str) -> Result<bool, BackupError> {
        if self.seal.is_on() {
            return Ok(match self.seal.tag(&self.file.to_string(), sha256) {
                Some(tag) => tag == self.content()?,
                // Without the salt: what it says of itself inside. Of other files all bytes are in one that was decrypted whole.
                None => !self.file.is_wal() || self.frame()?.sha256_raw == sha256,
            });
        }
        Ok(sha256.starts_with(&self.content()?))
    }

    /// The history of a timeline from a file that has to be what is archived.
    pub(crate) fn as_history(&self, timeline: Timeline, file: &Utf8Path) -> Result<TimelineHistory, BackupError> {
        let bytes = fs::read(file).map_err(BackupError::io("read", file))?;
        let found = sha256(&bytes);
        if !self.is_content(&found)? {
            return Err(BackupError::checksum(file, format!("what is archived in {}", self.path), "another content"));
        }
        let text = String::from_utf8(bytes).map_err(|e| BackupError::malformed(file, e))?;
        TimelineHistory::parse(timeline, &text).map_err(|why| BackupError::malformed(file, why))
    }

    /// What tells the content from others, whoever stores it again: its hash, salted where it is encrypted.
    pub(crate) fn fingerprint(&self) -> Result<String, BackupError> {
        match self.seal.is_on() {
            true => self.content(),
            false => Ok(sha256_file(&self.path)?.0),
        }
    }

    /// The size of the content.
    pub(super) fn content_size(&self) -> Result<u64, BackupError> {
        match &self.sum {
            Sum::Line(line) => Ok(line.size_raw),
            Sum::Unknown => Err(self.unknown()),
            Sum::Name { content: Some(content), .. } => Ok(content.size),
            Sum::Name { .. } if self.file.is_wal() => Ok(self.frame()?.size_raw),
            Sum::Name { .. } => Ok(self.size),
        }
    }

    /// What was noted of a segment's records when it was archived; none where nothing was.
    pub(crate) fn facts(&self) -> Result<Option<SegmentFacts>, BackupError> {
        match &self.sum {
            Sum::Name { .. } if self.file.is_wal() => Ok(self.frame()?.facts),
            Sum::Name { .. } | Sum::Line(_) | Sum::Unknown => Ok(None),
        }
    }

    fn expect(&self, found: &str, what: &str) -> Result<(), BackupError> {
        match self.is_content(found)? {
            true => Ok(()),
            false => Err(BackupError::checksum(what, self.content()?, found)),
        }
    }

    fn frame(&self) -> Result<Frame, BackupError> {
        let mut object = BufReader::new(self.seal.reader(&self.path, storage::open(&self.path)?)?);
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
            Sum::Line(_) | Sum::Name { .. } => self.expect(&found, self.path.as_str()),
        }
    }

    fn decode_to_file(&self, to: &Utf8Path) -> Result<String, BackupError> {
        let folder = to.parent().filter(|folder| !folder.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
        let mut out = Store::new(folder)?.create(to)?;
        Held::share_like_folder(to, to)?;
        self.decode_into(&mut out).map(|(hash, _)| hash)
    }

    /// Lets the group read a file that is for the owner alone, where it may read the folder that `to` is in.
    pub(super) fn share_like_folder(file: &Utf8Path, to: &Utf8Path) -> Result<(), BackupError> {
        let folder = to.parent().filter(|folder| !folder.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
        let group = fs::metadata(folder).map_err(BackupError::io("look at", folder))?.mode() & GROUP_READS;
        let mode = fs::Permissions::from_mode(0o600 | group);
        fs::set_permissions(file, mode).map_err(BackupError::io("set the mode of", file))
    }

    /// Writes the content; its hash and length.
    pub(super) fn decode_into(&self, out: &mut impl Write) -> Result<(String, u64), BackupError> {
        let path = &self.path;
        let stored = BufReader::with_capacity(BUFFER, self.seal.reader(path, storage::open(path)?)?);
        let mut out = Hashing::new(out);
        if self.file.is_wal() {
            let mut decoder = zstd::Decoder::with_buffer(stored).map_err(BackupError::io("decode", path))?;
            copy(&mut decoder, &mut out, path, true)?;
        } else {
            copy(&mut { stored }, &mut out, path, self.seal.is_on())?;
        }
        Ok(out.finish())
    }
}

/// The size of a file; none where there is no file.
pub(super) fn size_if_there(path: &Utf8Path) -> Result<Option<u64>, BackupError> {
    let meta = fs::metadata(path).if_there().map_err(BackupError::io("look at", path))?;
    Ok(meta.map(|meta| meta.len()))
}

/// Keeps some of what is written.
#[derive(Debug)]
struct Range {
    from: u64,
    to: u64,
    at: u64,
    bytes: Vec<u8>,
}

impl Write for Range {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let within = |position: u64| (position.saturating_sub(self.at) as usize).min(bytes.len());
        self.bytes.extend(&bytes[within(self.from)..within(self.to).max(within(self.from))]);
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies in large pieces. When decoding, an error of the reader means damaged content unless it came from the disk or the bucket.
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
            Err(e) if decoding && !has_a_system_said(&e) => {
                return Err(BackupError::checksum(path, "zstd data", e));
            }
            Err(e) => return Err(BackupError::io("read", path)(e)),
        }
    }
}
