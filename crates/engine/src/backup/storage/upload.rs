//! Writing an object whose size nobody knows yet.

use std::{
    fmt,
    io::{self, Write},
};

use object_store::{MultipartUpload, PutPayload};

use super::bucket::{Object, wait};

/// What is sent at once. Servers take 10 000 parts of an object.
const PART: usize = 16 << 20;
/// The size of parts beyond the first of them, for objects that would have too many.
const LARGE_PART: usize = 128 << 20;
const SMALL_PARTS: usize = 2_000;

/// An object that is being written. It exists, with everything in it, when it is finished; dropped before, it never does.
pub(super) struct Upload {
    object: Object,
    buffer: Vec<u8>,
    begun: Option<Box<dyn MultipartUpload>>,
    parts: usize,
}

/// What is begun knows the credentials.
impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.object)
    }
}

impl Upload {
    pub(super) fn new(object: Object) -> Upload {
        Upload { object, buffer: Vec::new(), begun: None, parts: 0 }
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        if self.begun.is_none() {
            return self.object.write(&self.buffer);
        }
        self.send()?;
        let Some(mut upload) = self.begun.take() else { return Ok(()) };
        wait(async move { upload.complete().await.map(drop) })
    }

    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut upload = match self.begun.take() {
            Some(upload) => upload,
            None => self.object.begin_upload()?,
        };
        let part = upload.put_part(PutPayload::from(std::mem::take(&mut self.buffer)));
        self.begun = Some(upload);
        self.parts += 1;
        wait(part)
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        let full = if self.parts < SMALL_PARTS { PART } else { LARGE_PART };
        if self.buffer.len() >= full {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(mut upload) = self.begun.take()
            && let Err(error) = wait(async move { upload.abort().await })
        {
            tracing::warn!(object = ?self.object, %error, "parts of an object that was given up are left in the bucket");
        }
    }
}
