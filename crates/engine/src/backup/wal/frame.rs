//! What an archived WAL object says about itself: a skippable frame before the compressed content. `zstd -d` passes over
//! it, and whoever wants to know what an object holds reads a few hundred bytes.

use std::io::{self, Read};

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use crate::backup::BackupError;
use cdc_model::units::{Lsn, counted};

/// One of the sixteen magic numbers of skippable frames (RFC 8878, section 3.1.2).
const MAGIC: u32 = 0x184D_2A5C;
/// More than this is no frame of this program's.
const LENGTH_MAX: u32 = 1 << 20;

/// What the compressed content is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Frame {
    /// The file's name as PostgreSQL knows it.
    pub(super) seg: String,
    /// Its size.
    pub(super) size_raw: u64,
    /// The checksum of its content.
    pub(super) sha256_raw: String,
    /// Its first LSN.
    pub(super) first_lsn: Lsn,
}

impl Frame {
    pub(super) fn to_bytes(&self, path: &Utf8Path) -> Result<Vec<u8>, BackupError> {
        let json = serde_json::to_vec(self).map_err(|e| BackupError::malformed(path, e))?;
        let length = u32::try_from(json.len()).unwrap_or(u32::MAX);
        let mut bytes = [MAGIC.to_le_bytes(), length.to_le_bytes()].concat();
        bytes.extend(json);
        Ok(bytes)
    }

    /// Reads the frame that an object begins with.
    pub(super) fn read(path: &Utf8Path, object: &mut impl Read) -> Result<Frame, BackupError> {
        let failed = |e: io::Error| match e.kind() {
            io::ErrorKind::UnexpectedEof => BackupError::malformed(path, "it ends within its first frame"),
            _ => BackupError::io("read", path)(e),
        };
        let mut word = [0; 4];
        object.read_exact(&mut word).map_err(failed)?;
        if u32::from_le_bytes(word) != MAGIC {
            return Err(BackupError::malformed(path, "it does not begin with a frame that describes it"));
        }
        object.read_exact(&mut word).map_err(failed)?;
        let length = u32::from_le_bytes(word);
        if length > LENGTH_MAX {
            return Err(BackupError::malformed(path, format!("its first frame claims {}", counted(length, "byte"))));
        }
        let mut json = vec![0; length as usize];
        object.read_exact(&mut json).map_err(failed)?;
        serde_json::from_slice(&json).map_err(|e| BackupError::malformed(path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn decoders_pass_over_a_frame() {
        let path = Utf8Path::new("x.zst");
        let frame = Frame {
            seg: "000000010000000000000007".into(),
            size_raw: 3,
            sha256_raw: "ab".into(),
            first_lsn: Lsn(7 << 20),
        };
        let mut bytes = frame.to_bytes(path).unwrap();
        let mut encoder = zstd::Encoder::new(&mut bytes, 1).unwrap();
        encoder.write_all(b"abc").unwrap();
        encoder.finish().unwrap();
        assert_eq!(Frame::read(path, &mut bytes.as_slice()).unwrap(), frame);
        assert_eq!(zstd::decode_all(bytes.as_slice()).unwrap(), b"abc");
        assert!(Frame::read(path, &mut &bytes[..20]).unwrap_err().to_string().contains("ends"));
        assert!(Frame::read(path, &mut b"\x28\xb5\x2f\xfdabcd".as_slice()).unwrap_err().to_string().contains("begin"));
    }
}
