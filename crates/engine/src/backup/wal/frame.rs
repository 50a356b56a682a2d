//! What an archived WAL object says about itself.

use std::io::Read;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use crate::backup::{BackupError, format::frame::FrameKind};
use cdc_model::units::Lsn;
use cdc_postgres::wal::{SegmentFacts, WalFile};

/// How many restore points are noted at most: a frame is read for each segment that a recovery looks through.
const SHORT: std::ops::RangeInclusive<usize> = 0..=64;

/// Of which size segments are read for it at most: this is in memory, beside a server that has little of that left.
const LARGEST: u64 = 64 << 20;

const KIND: FrameKind = FrameKind { magic: 0x184D_2A5C, length_max: 1 << 20 };

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
    /// What its records say that a recovery may be aimed at; absent where that was not read. A hint, and no proof of anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) facts: Option<SegmentFacts>,
}

/// What a segment's records say of transactions and restore points; none for what is no whole segment of a version that is known.
pub(super) fn facts_of(file: &WalFile, path: &Utf8Path) -> Result<Option<SegmentFacts>, BackupError> {
    let WalFile::Segment(name) = file else { return Ok(None) };
    let length = std::fs::metadata(path).map_err(BackupError::io("look at", path))?.len();
    if length > LARGEST {
        return Ok(None);
    }
    let bytes = std::fs::read(path).map_err(BackupError::io("read", path))?;
    match SegmentFacts::of(&bytes) {
        Ok(facts) if SHORT.contains(&facts.restore_points.len()) => Ok(Some(facts)),
        Ok(facts) => {
            tracing::debug!(%name, restore_points = facts.restore_points.len(), "not noted");
            Ok(None)
        }
        Err(why) => {
            tracing::debug!(%name, why, "what is in it is not noted");
            Ok(None)
        }
    }
}

impl Frame {
    pub(super) fn to_bytes(&self, path: &Utf8Path) -> Result<Vec<u8>, BackupError> {
        KIND.to_bytes(path, self)
    }

    /// Reads the frame that an object begins with.
    pub(super) fn read(path: &Utf8Path, object: &mut impl Read) -> Result<Frame, BackupError> {
        KIND.read(path, object)
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
            facts: None,
        };
        let mut bytes = frame.to_bytes(path).unwrap();
        let mut encoder = zstd::Encoder::new(&mut bytes, 1).unwrap();
        encoder.write_all(b"abc").unwrap();
        encoder.finish().unwrap();
        assert_eq!(Frame::read(path, &mut bytes.as_slice()).unwrap(), frame);
        assert_eq!(zstd::decode_all(bytes.as_slice()).unwrap(), b"abc");
        let older = r#"{"seg":"000000010000000000000007","size_raw":3,"sha256_raw":"ab","first_lsn":"0/700000"}"#;
        assert_eq!(serde_json::to_string(&frame).unwrap(), older, "as it always was");
        assert_eq!(serde_json::from_str::<Frame>(older).unwrap(), frame);
        assert!(Frame::read(path, &mut &bytes[..20]).unwrap_err().to_string().contains("ends"));
        assert!(Frame::read(path, &mut b"\x28\xb5\x2f\xfdabcd".as_slice()).unwrap_err().to_string().contains("begin"));
    }
}
