//! What an object says about itself: a skippable frame of JSON before its compressed content (RFC 8878, section 3.1.2). `zstd -d`
//! passes over it, and whoever wants to know what an object holds reads a few hundred bytes.

use std::io::{self, Read};

use camino::Utf8Path;
use serde::{Serialize, de::DeserializeOwned};

use crate::backup::BackupError;
use cdc_model::units::counted;

/// One of the sixteen magic numbers of such frames, for one kind of objects, and what is no frame of theirs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameKind {
    pub(crate) magic: u32,
    pub(crate) length_max: u32,
}

impl FrameKind {
    pub(crate) fn to_bytes<T: Serialize>(self, path: &Utf8Path, value: &T) -> Result<Vec<u8>, BackupError> {
        let json = serde_json::to_vec(value).map_err(|e| BackupError::malformed(path, e))?;
        let length = u32::try_from(json.len()).unwrap_or(u32::MAX);
        let mut bytes = [self.magic.to_le_bytes(), length.to_le_bytes()].concat();
        bytes.extend(json);
        Ok(bytes)
    }

    /// Reads the frame that an object begins with.
    pub(crate) fn read<T: DeserializeOwned>(self, path: &Utf8Path, object: &mut impl Read) -> Result<T, BackupError> {
        let failed = |e: io::Error| match e.kind() {
            io::ErrorKind::UnexpectedEof => BackupError::malformed(path, "it ends within its first frame"),
            _ => BackupError::io("read", path)(e),
        };
        let mut word = [0; 4];
        object.read_exact(&mut word).map_err(failed)?;
        if u32::from_le_bytes(word) != self.magic {
            return Err(BackupError::malformed(path, "it does not begin with a frame that describes it"));
        }
        object.read_exact(&mut word).map_err(failed)?;
        let length = u32::from_le_bytes(word);
        if length > self.length_max {
            return Err(BackupError::malformed(path, format!("its first frame claims {}", counted(length, "byte"))));
        }
        // Not as much at once as a damaged length claims.
        let mut json = Vec::new();
        object.take(u64::from(length)).read_to_end(&mut json).map_err(failed)?;
        if json.len() as u64 != u64::from(length) {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_slice(&json).map_err(|e| BackupError::malformed(path, e))
    }
}
