//! That archived WAL is of the server that a point was taken of: the point's own restore point is in it.

use crate::backup::{BackupError, PostgresFacts, wal::Archive};
use cdc_model::units::{Lsn, counted};
use cdc_postgres::wal::{SegmentName, SegmentSize, WalFile, payload};

/// More bytes than a restore point's record has, page headers included.
const RECORD: u64 = 256;

fn size_of(pg: &PostgresFacts) -> Result<SegmentSize, BackupError> {
    let impossible = || BackupError::malformed("segment_bytes".into(), counted(pg.segment_bytes, "byte"));
    SegmentSize::new(pg.segment_bytes).ok_or_else(impossible)
}

/// The segment in which the record of the restore point ends.
pub(super) fn segment_of(pg: &PostgresFacts) -> Result<WalFile, BackupError> {
    let size = size_of(pg)?;
    let last = Lsn(pg.restore_point_lsn.0.saturating_sub(1));
    Ok(WalFile::Segment(SegmentName::of(pg.timeline, last, size)))
}

/// Whether the archive has the record of a point's restore point where the manifest says. The record, `xl_restore_point`, holds
/// the name as text (PostgreSQL, `access/xlog_internal.h`).
pub(super) fn has_restore_point(archive: &Archive, pg: &PostgresFacts) -> Result<bool, BackupError> {
    let size = size_of(pg)?;
    let end = pg.restore_point_lsn.0;
    let mut bytes = Vec::new();
    let mut from = end.saturating_sub(RECORD);
    while from < end {
        let segment = SegmentName::of(pg.timeline, Lsn(from), size);
        let begin = size.start(size.segment_of(Lsn(from))).0;
        let to = (begin + size.bytes()).min(end);
        if let Some(held) = archive.find(&WalFile::Segment(segment))? {
            bytes.extend(payload(&held.range(from - begin, to - begin)?, from - begin));
        }
        from = to;
    }
    let name = pg.restore_point.as_bytes();
    Ok(bytes.windows(name.len()).any(|window| window == name))
}
