//! Checksums of bytes, of files, and of what passes through.

use std::io::{self, Read, Write};

use aws_lc_rs::digest;
use camino::Utf8Path;

use super::{BackupError, storage};
use cdc_model::units::hex;

/// Large enough that hashing and copying are not dominated by system calls.
pub(crate) const BUFFER: usize = 256 * 1024;

/// A SHA-256 that is being made. Everything that is stored goes through it, and pure Rust is slow at it where a processor has no
/// instructions for it.
#[derive(Clone)]
pub(crate) struct Sha256(digest::Context);

impl Sha256 {
    pub(crate) fn new() -> Sha256 {
        Sha256(digest::Context::new(&digest::SHA256))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// In hexadecimal.
    pub(crate) fn finish(self) -> String {
        hex(self.0.finish().as_ref())
    }
}

/// SHA-256 of bytes, in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
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
        (self.inner, self.hash.finish(), self.count)
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
