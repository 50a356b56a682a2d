//! The bytes of archived files: compared with the index, and put where recovery wants them.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use camino::Utf8Path;

use super::{Archive, IndexLine};
use crate::backup::{
    BackupError,
    files::{self, Store, is_there},
    hash::{BUFFER, Hashing, sha256_file},
};
use cdc_postgres::wal::WalFile;

/// A cluster made with `initdb --allow-group-access` lets the group read its data folder.
const GROUP_READS: u32 = 0o040;

impl Archive {
    /// Checks the stored bytes of a file against the index, and its decoded content too when `decode` is set.
    pub fn check(&self, file: &WalFile, decode: bool) -> Result<(), BackupError> {
        let path = self.path(file);
        let line = self.entry(file)?;
        self.check_stored(file, line.as_ref())?;
        if let Some(line) = line.filter(|_| decode) {
            let (found, _) = self.decode_into(file, &path, &mut io::sink())?;
            if found != line.sha256_raw {
                return Err(BackupError::checksum(format!("{path} (decoded)"), &line.sha256_raw, found));
            }
        }
        Ok(())
    }

    /// The same of the stored bytes alone, for a caller who has read the index; `line` is the file's in it.
    pub(crate) fn check_stored(&self, file: &WalFile, line: Option<&IndexLine>) -> Result<(), BackupError> {
        let path = self.path(file);
        let Some(line) = line else {
            return Err(BackupError::checksum(&path, "a line in index.jsonl", "none"));
        };
        let (found, _) = sha256_file(&path)?;
        match found == line.sha256 {
            true => Ok(()),
            false => Err(BackupError::checksum(&path, &line.sha256, found)),
        }
    }

    /// Puts the content of an archived file at `to`, its checksum verified; `false` when the archive has no such file, which is
    /// not said of one that cannot be looked at. The new file belongs to whom its folder belongs, and is for the owner alone; the
    /// group may read it where it may read the folder.
    pub fn restore(&self, file: &WalFile, to: &Utf8Path) -> Result<bool, BackupError> {
        let path = self.path(file);
        if !is_there(&path)? {
            return Ok(false);
        }
        // Without its line nothing says what the bytes should be. "Not there" would let recovery end here, silently.
        let Some(line) = self.entry(file)? else {
            return Err(BackupError::checksum(&path, "a line in index.jsonl", "none"));
        };
        let temporary = files::temporary_beside(to);
        let written = self.decode_to_file(file, &path, &temporary).and_then(|found| {
            if found == line.sha256_raw { Ok(()) } else { Err(BackupError::checksum(&path, &line.sha256_raw, found)) }
        });
        // Not synced: PostgreSQL syncs what it restores, and after a crash asks for it again.
        let placed =
            written.and_then(|()| fs::rename(&temporary, to).map_err(BackupError::io("rename into place", to)));
        if placed.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        placed.map(|()| true)
    }

    fn decode_to_file(&self, file: &WalFile, path: &Utf8Path, to: &Utf8Path) -> Result<String, BackupError> {
        let folder = to.parent().filter(|folder| !folder.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
        let mut out = Store::new(folder)?.create(to)?;
        let group = fs::metadata(folder).map_err(BackupError::io("look at", folder))?.mode() & GROUP_READS;
        if group != 0 {
            let mode = fs::Permissions::from_mode(0o600 | group);
            out.set_permissions(mode).map_err(BackupError::io("set the mode of", to))?;
        }
        self.decode_into(file, path, &mut out).map(|(hash, _)| hash)
    }

    pub(super) fn decode_into(
        &self,
        file: &WalFile,
        path: &Utf8Path,
        out: &mut impl Write,
    ) -> Result<(String, u64), BackupError> {
        let stored = BufReader::with_capacity(BUFFER, File::open(path).map_err(BackupError::io("open", path))?);
        let mut out = Hashing::new(out);
        if file.is_wal() {
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
