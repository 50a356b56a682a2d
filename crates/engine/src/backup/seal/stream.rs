//! Content on its way into a repository and out of it.

use std::io::{self, BufReader, Read, Write};

use age::stream::{StreamReader, StreamWriter};

/// Writes content as a repository keeps it.
pub(crate) enum Sealing<W: Write> {
    /// As it is.
    Plain(W),
    /// Encrypted: [`Sealing::finish`] writes the end, without which nobody takes it for whole.
    Age(StreamWriter<W>),
}

impl<W: Write> Sealing<W> {
    /// Ends it, and hands back what it was written to.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Sealing::Plain(to) => Ok(to),
            Sealing::Age(stream) => stream.finish(),
        }
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sealing::Plain(to) => to.write(bytes),
            Sealing::Age(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sealing::Plain(to) => to.flush(),
            Sealing::Age(stream) => stream.flush(),
        }
    }
}

/// Reads content as it was. What is damaged ends with an error that is no system's.
pub(crate) enum Opened<R> {
    /// As it is stored.
    Plain(R),
    /// Decrypted, 64 KiB at a time.
    Age(StreamReader<BufReader<R>>),
}

impl<R: Read> Read for Opened<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Opened::Plain(from) => from.read(buffer),
            Opened::Age(stream) => stream.read(buffer),
        }
    }
}
