//! Reading an object from its beginning on.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use camino::Utf8Path;
use object_store::ObjectMeta;

use super::bucket::{Object, refused};
use crate::backup::BackupError;
use cdc_model::units::counted;

/// What is asked for first: enough for what objects say of themselves, and for most of idle segments.
const FIRST: u64 = 64 << 10;
/// What is asked for then.
const NEXT: u64 = 8 << 20;

/// An object that is read.
#[derive(Debug)]
pub(crate) struct Reader(Way);

#[derive(Debug)]
enum Way {
    Local(File),
    Bucket(Parts),
}

/// An object of a bucket, read part by part: each is a request that can be repeated.
#[derive(Debug)]
struct Parts {
    object: Object,
    meta: Option<ObjectMeta>,
    /// How many bytes were asked for so far.
    asked: u64,
    part: io::Cursor<Vec<u8>>,
}

/// Opens an object for reading.
pub(crate) fn open(path: &Utf8Path) -> Result<Reader, BackupError> {
    opened(path).map_err(BackupError::io("open", path))
}

fn opened(path: &Utf8Path) -> io::Result<Reader> {
    Ok(Reader(match Object::at(path)? {
        None => Way::Local(File::open(path)?),
        Some(object) => Way::Bucket(Parts { object, meta: None, asked: 0, part: io::Cursor::default() }),
    }))
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Way::Local(file) => file.read(buffer),
            Way::Bucket(parts) => parts.read(buffer),
        }
    }
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.part.read(buffer)?;
        if n > 0 || buffer.is_empty() || self.meta.as_ref().is_some_and(|meta| self.asked >= meta.size) {
            return Ok(n);
        }
        let to = self.asked + if self.asked == 0 { FIRST } else { NEXT };
        let range = self.asked..self.meta.as_ref().map_or(to, |meta| to.min(meta.size));
        let (part, meta) = match (self.object.range(range, self.meta.as_ref()), &self.meta) {
            (Ok(read), _) => read,
            // No range of an empty object can be given.
            (Err(error), None) => match self.object.meta()? {
                meta if meta.size == 0 => (Vec::new(), meta),
                _ => return Err(error),
            },
            (Err(error), Some(_)) => return Err(error),
        };
        let expected = to.min(meta.size) - self.asked;
        if part.len() as u64 != expected {
            let found = counted(part.len(), "byte");
            let what = format!("expected {expected} from {} on, found {found}", self.asked);
            return Err(refused(io::ErrorKind::Other, what));
        }
        self.asked += expected;
        (self.part, self.meta) = (io::Cursor::new(part), Some(meta));
        self.part.read(buffer)
    }
}

/// The last bytes of an object, and no more than it has.
pub(crate) fn end_of(path: &Utf8Path, bytes: u64) -> Result<Vec<u8>, BackupError> {
    read_end(path, bytes).map_err(BackupError::io("read", path))
}

fn read_end(path: &Utf8Path, bytes: u64) -> io::Result<Vec<u8>> {
    if let Some(object) = Object::at(path)? {
        let meta = object.meta()?;
        let from = meta.size.saturating_sub(bytes);
        return match from == meta.size {
            true => Ok(Vec::new()),
            false => object.range(from..meta.size, Some(&meta)).map(|(bytes, _)| bytes),
        };
    }
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    Ok(end)
}
