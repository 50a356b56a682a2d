//! Checksums of bytes, of files, and of what passes through.

use std::io::{self, Read, Write};

use camino::Utf8Path;
use sha2::{Digest, Sha256};

use super::{BackupError, storage};

/// Large enough that hashing and copying are not dominated by system calls.
pub(crate) const BUFFER: usize = 256 * 1024;

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}

/// SHA-256 of bytes, in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 and length of a file or an object.
pub(crate) fn sha256_file(path: &Utf8Path) -> Result<(String, u64), BackupError> {
    let mut reader = Hashing::new(storage::open(path)?);
    // `io::copy` would take 8 KiB at a time.
    let mut buffer = vec![0; BUFFER];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(reader.finish()),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(BackupError::io("read", path)(e)),
        }
    }
}

/// Hashes and counts what passes through, reading or writing.
pub(crate) struct Hashing<T> {
    inner: T,
    hash: Sha256,
    count: u64,
}

impl<T> Hashing<T> {
    pub(crate) fn new(inner: T) -> Self {
        Hashing { inner, hash: Sha256::new(), count: 0 }
    }

    /// The hash in hexadecimal and the number of bytes.
    pub(crate) fn finish(self) -> (String, u64) {
        let (_, hash, count) = self.into_parts();
        (hash, count)
    }

    /// What was wrapped, the hash in hexadecimal and the number of bytes.
    pub(crate) fn into_parts(self) -> (T, String, u64) {
        (self.inner, hex(&self.hash.finalize()), self.count)
    }

    pub(crate) fn get_ref(&self) -> &T {
        &self.inner
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(&buffer[..n]);
        self.count += n as u64;
        Ok(n)
    }
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.count += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
