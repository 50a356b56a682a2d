//! The header of a segment's file.

use std::{
    fs::File,
    io::{ErrorKind, Read},
};

use camino::Utf8Path;

use crate::backup::BackupError;
use cdc_model::units::counted;
use cdc_postgres::wal::{SegmentHeader, SegmentName};

/// Reads the header of a segment that goes by `name`, and requires that it belongs to the name and the file's length.
pub fn read_header(path: &Utf8Path, name: SegmentName) -> Result<SegmentHeader, BackupError> {
    let not_wal = |why: String| BackupError::NotWal { path: path.to_owned(), why };
    let mut bytes = [0u8; SegmentHeader::LENGTH];
    let mut file = File::open(path).map_err(BackupError::io("open", path))?;
    let length = file.metadata().map_err(BackupError::io("look at", path))?.len();
    file.read_exact(&mut bytes).map_err(|e| match e.kind() {
        ErrorKind::UnexpectedEof => {
            not_wal(format!("too short for a page header: {length}", length = counted(length, "byte")))
        }
        _ => BackupError::io("read", path)(e),
    })?;
    let header = SegmentHeader::parse(&bytes).map_err(not_wal)?;
    header.check(name, length).map_err(not_wal)?;
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::fixture::segment_bytes;
    use cdc_model::units::{SystemId, Timeline};
    use cdc_postgres::wal::SegmentSize;

    #[test]
    fn a_file_is_the_segment_of_its_name_or_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = camino::Utf8PathBuf::from_path_buf(folder.path().join("x")).unwrap();
        let size = SegmentSize::new(1 << 20).unwrap();
        let name = SegmentName::new(Timeline::literal(3), 7, size);
        let bytes = segment_bytes(SystemId(42), size, name, 1);
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read_header(&path, name).unwrap().system_id, SystemId(42));
        assert!(read_header(&path, SegmentName::new(Timeline::literal(3), 8, size)).is_err(), "other segment");
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(read_header(&path, name).unwrap_err().to_string().contains("bytes"));
        std::fs::write(&path, &bytes[..39]).unwrap();
        assert!(read_header(&path, name).unwrap_err().to_string().contains("too short for a page header: 39 bytes"));
        std::fs::write(&path, vec![0; 1 << 20]).unwrap();
        assert!(read_header(&path, name).unwrap_err().to_string().contains("no WAL page header"));
    }
}
