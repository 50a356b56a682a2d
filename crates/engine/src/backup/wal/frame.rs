//! What an archived WAL object says about itself.

use std::io::Read;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use crate::backup::{BackupError, format::frame::FrameKind};
use cdc_model::units::Lsn;

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
