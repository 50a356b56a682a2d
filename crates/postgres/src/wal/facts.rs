//! What a segment's records say of the ends of transactions and of restore points, read from its bytes.
//!
//! PostgreSQL's own program reads the same and more, in fifty times the time: an `archive_command` reads each segment. What is found
//! here is a hint of where to look and proves nothing. So whatever is unusual (a version that is not known, a record that does not
//! follow on the one before it or lacks its checksum, the rest of a crash) makes a segment one of which nothing is known.

use serde::{Deserialize, Serialize};

use super::{PAGE, SegmentHeader};
use cdc_model::units::{Lsn, counted};

/// What a segment holds that a recovery may be aimed at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentFacts {
    /// Its commits; none where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commits: Option<Commits>,
    /// The lowest and the highest id of the transactions that ended in it, by commit or rollback, subtransactions included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xids: Option<(u32, u32)>,
    /// Its restore points, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restore_points: Vec<RestorePoint>,
    /// Whether its last record goes on in the next segment, and may be one that belongs here.
    #[serde(default, skip_serializing_if = "is_false")]
    pub open: bool,
}

/// The commits whose records start in a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commits {
    /// How many.
    pub count: u64,
    /// The first in the order of the WAL.
    pub first: CommitPlace,
    /// The last in the order of the WAL.
    pub last: CommitPlace,
    /// The earliest time of one; times do not follow the order of the WAL exactly.
    pub earliest: jiff::Timestamp,
    /// The latest time of one.
    pub latest: jiff::Timestamp,
}

/// A commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitPlace {
    /// Where its record starts.
    pub at: Lsn,
    /// When, by the server's clock.
    pub time: jiff::Timestamp,
    /// Its transaction.
    pub xid: u32,
}

/// A restore point (`pg_create_restore_point`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePoint {
    /// Its name.
    pub name: String,
    /// Where its record starts.
    pub at: Lsn,
    /// When it was set, by the server's clock.
    pub time: jiff::Timestamp,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The magic numbers of the versions whose records are known: 15, 16, 17 and 18.
const KNOWN: [u16; 4] = [0xD110, 0xD113, 0xD116, 0xD118];
/// Of them the one whose items of dropped statistics have identifiers of 64 bits.
const WIDE_STATISTICS: u16 = 0xD118;

/// `SizeOfXLogShortPHD`, padded.
const SHORT_HEADER: usize = 24;
/// `SizeOfXLogRecord`, and where its checksum stands in it.
const RECORD: usize = 24;
const CHECKSUM: usize = 20;
/// Records begin at multiples of this.
const ALIGNMENT: usize = 8;

/// Flags of a page: it begins with the rest of a record; that record was given up and is overwritten.
const CONTINUED: u16 = 0x01;
const OVERWRITTEN: u16 = 0x08;

/// Resource managers and their records. The upper four bits of `xl_info` are the manager's own.
const XLOG: u8 = 0;
const TRANSACTION: u8 = 1;
const RESTORE_POINT: u8 = 0x70;
const SWITCH: u8 = 0x40;
const OPERATION: u8 = 0x70;
const COMMIT: u8 = 0x00;
const ABORT: u8 = 0x20;
const COMMIT_PREPARED: u8 = 0x30;
const ABORT_PREPARED: u8 = 0x40;
/// A record of a transaction's end that has more than a time (`XLOG_XACT_HAS_INFO`).
const HAS_INFO: u8 = 0x80;

/// Parts of such a record, by their bits and in their order.
const DATABASE: u32 = 1 << 0;
const SUBTRANSACTIONS: u32 = 1 << 1;
const FILES: u32 = 1 << 2;
const STATISTICS: u32 = 1 << 8;
const INVALIDATIONS: u32 = 1 << 3;
const PREPARED: u32 = 1 << 4;

/// Identifiers of the parts of a record before its data.
const DATA_SHORT: u8 = 255;
const DATA_LONG: u8 = 254;
const ORIGIN: u8 = 253;
const TOP_TRANSACTION: u8 = 252;

/// 2000-01-01, which times are counted from, in microseconds since 1970.
const EPOCH: i64 = 946_684_800_000_000;

impl SegmentFacts {
    /// Reads a segment; an error where nothing is known of it, which says why.
    pub fn of(segment: &[u8]) -> Result<SegmentFacts, String> {
        let mut reader = Reader::new(segment)?;
        let mut facts = SegmentFacts::default();
        while let Some(next) = reader.next()? {
            match next {
                Next::Cut { may_belong } => facts.open = may_belong,
                Next::Record(record) => facts.take(&record, reader.magic)?,
            }
        }
        Ok(facts)
    }

    fn take(&mut self, record: &WalRecord, magic: u16) -> Result<(), String> {
        let data = record.data()?;
        let mut fields = Fields { bytes: data, at: record.at };
        if record.manager == XLOG {
            let time = fields.time()?;
            let name = fields.bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            let name = String::from_utf8(name.to_vec()).map_err(|_| fields.wrong("a name that is no UTF-8"))?;
            self.restore_points.push(RestorePoint { name, at: record.at, time });
            return Ok(());
        }
        let operation = record.info & OPERATION;
        let commits = matches!(operation, COMMIT | COMMIT_PREPARED);
        let time = fields.time()?;
        let parts = if record.info & HAS_INFO == 0 { 0 } else { fields.number()? };
        let mut xids = Vec::new();
        if parts & DATABASE != 0 {
            fields.skip(8)?;
        }
        if parts & SUBTRANSACTIONS != 0 {
            for _ in 0..fields.number()? {
                xids.push(fields.number()?);
            }
        }
        for (part, size) in [
            (FILES, 12),
            (STATISTICS, if magic == WIDE_STATISTICS { 16 } else { 12 }),
            (if commits { INVALIDATIONS } else { 0 }, 16),
        ] {
            if parts & part != 0 {
                let count = fields.number()? as usize;
                fields.skip(count.checked_mul(size).ok_or_else(|| fields.wrong("an impossible count"))?)?;
            }
        }
        // The record of a prepared transaction is written by another session.
        let xid = if parts & PREPARED != 0 { fields.number()? } else { record.xid };
        xids.push(xid);
        for xid in xids.into_iter().filter(|xid| *xid != 0) {
            self.xids = Some(self.xids.map_or((xid, xid), |(low, high)| (low.min(xid), high.max(xid))));
        }
        if commits {
            let place = CommitPlace { at: record.at, time, xid };
            let all = self.commits.get_or_insert(Commits {
                count: 0,
                first: place,
                last: place,
                earliest: time,
                latest: time,
            });
            (all.count, all.last) = (all.count + 1, place);
            (all.earliest, all.latest) = (all.earliest.min(time), all.latest.max(time));
        }
        Ok(())
    }
}

/// What comes next in a segment, of what matters.
enum Next {
    Record(WalRecord),
    /// The last record, which goes on in the next segment.
    Cut {
        may_belong: bool,
    },
}

/// A record, its bytes put together and their checksum compared.
struct WalRecord {
    at: Lsn,
    xid: u32,
    manager: u8,
    info: u8,
    bytes: Vec<u8>,
}

impl WalRecord {
    /// Its data, which stand at its end; before them are how long they are and what else there is.
    fn data(&self) -> Result<&[u8], String> {
        let mut fields = Fields { bytes: &self.bytes[RECORD..], at: self.at };
        let length = loop {
            match fields.bytes(1)?[0] {
                DATA_SHORT => break usize::from(fields.bytes(1)?[0]),
                DATA_LONG => break fields.number()? as usize,
                ORIGIN => fields.skip(2)?,
                TOP_TRANSACTION => fields.skip(4)?,
                block => return Err(fields.wrong(&format!("a block reference {block}"))),
            }
        };
        match fields.bytes.len() == length {
            true => Ok(fields.bytes),
            false => Err(fields.wrong("data of another length")),
        }
    }
}

/// Goes through the bytes of a part of a record.
struct Fields<'a> {
    bytes: &'a [u8],
    at: Lsn,
}

impl<'a> Fields<'a> {
    fn wrong(&self, what: &str) -> String {
        format!("record at {}: {what}", self.at)
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or_else(|| self.wrong("it ends too early"))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn skip(&mut self, count: usize) -> Result<(), String> {
        self.bytes(count).map(drop)
    }

    fn number(&mut self) -> Result<u32, String> {
        let bytes = self.bytes(4)?;
        Ok(word(bytes, 0))
    }

    fn time(&mut self) -> Result<jiff::Timestamp, String> {
        let bytes = self.bytes(8)?;
        let since = i64::from_le_bytes(*bytes.first_chunk().ok_or_else(|| self.wrong("no time"))?);
        let since = since.checked_add(EPOCH).ok_or_else(|| self.wrong("an impossible time"))?;
        jiff::Timestamp::from_microsecond(since).map_err(|error| self.wrong(&error.to_string()))
    }
}

/// Goes from record to record. Positions count from the segment's beginning.
struct Reader<'a> {
    segment: &'a [u8],
    start: Lsn,
    magic: u16,
    at: usize,
    /// Where the record before starts; 0/0 where it is not in this segment.
    before: Lsn,
    ended: bool,
}

impl<'a> Reader<'a> {
    fn new(segment: &'a [u8]) -> Result<Reader<'a>, String> {
        let first = segment.first_chunk().ok_or("no header")?;
        let header = SegmentHeader::parse(first)?;
        let magic = half(segment, 0);
        if !KNOWN.contains(&magic) {
            return Err(format!("WAL of magic number {magic:04X}, which is not known"));
        }
        let page = word(segment, 36) as usize;
        if page != PAGE || segment.len() as u64 != header.size.bytes() {
            return Err(format!("{} in pages of {page}", counted(segment.len(), "byte")));
        }
        let length = SegmentHeader::LENGTH;
        let mut reader = Reader { segment, start: header.address, magic, at: length, before: Lsn(0), ended: false };
        let rest = reader.rest_of(0)?;
        // The rest of a record that begins in a segment before this one, which may go beyond it.
        match reader.through(length, rest as usize, |_| ())? {
            Some(end) => reader.at = aligned(end),
            None => reader.ended = true,
        }
        Ok(reader)
    }

    fn next(&mut self) -> Result<Option<Next>, String> {
        while !self.ended && self.at < self.segment.len() {
            if self.at.is_multiple_of(PAGE) {
                if !self.is_page(self.at) {
                    // Nothing was written beyond: no segment that a server finished ends so.
                    return Err(format!("no page at {}", self.lsn(self.at)));
                }
                if self.rest_of(self.at)? != 0 {
                    return Err(format!("page at {}: the rest of a record where one begins", self.lsn(self.at)));
                }
                self.at += SHORT_HEADER;
            }
            let (begin, at) = (self.at, self.lsn(self.at));
            let length = word(self.segment, begin) as usize;
            if length < RECORD {
                return Err(format!("record at {at}: {}", counted(length, "byte")));
            }
            let mut header = Vec::with_capacity(RECORD);
            if self.through_record(begin, RECORD, length, |part| header.extend_from_slice(part))?.is_none() {
                self.ended = true;
                return Ok(Some(Next::Cut { may_belong: true }));
            }
            let (xid, info, manager) = (word(&header, 4), header[16], header[17]);
            let before = u64::from(word(&header, 8)) | u64::from(word(&header, 12)) << 32;
            if self.before != Lsn(0) && self.before != Lsn(before) {
                return Err(format!(
                    "record at {at}: expected the one before it at {}, found {}",
                    self.before,
                    Lsn(before)
                ));
            }
            self.before = at;
            let belongs = match manager {
                XLOG => info & 0xF0 == RESTORE_POINT,
                TRANSACTION => matches!(info & OPERATION, COMMIT | ABORT | COMMIT_PREPARED | ABORT_PREPARED),
                _ => false,
            };
            let mut bytes = Vec::new();
            let end = self.through_record(begin, length, length, |part| {
                if belongs {
                    bytes.extend_from_slice(part);
                }
            })?;
            let Some(end) = end else {
                self.ended = true;
                return Ok(Some(Next::Cut { may_belong: belongs }));
            };
            self.at = aligned(end);
            // What follows on it is not used.
            self.ended = manager == XLOG && info & 0xF0 == SWITCH;
            if belongs {
                let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[RECORD..]), &bytes[..CHECKSUM]);
                if sum != word(&bytes, CHECKSUM) {
                    return Err(format!("record at {at}: its checksum is {sum:08X}"));
                }
                return Ok(Some(Next::Record(WalRecord { at, xid, manager, info, bytes })));
            }
        }
        Ok(None)
    }

    fn lsn(&self, at: usize) -> Lsn {
        Lsn(self.start.0 + at as u64)
    }

    /// Whether a page of this segment begins here.
    fn is_page(&self, at: usize) -> bool {
        let address = u64::from(word(self.segment, at + 8)) | u64::from(word(self.segment, at + 12)) << 32;
        half(self.segment, at) == self.magic && Lsn(address) == self.lsn(at)
    }

    /// How many bytes of a record from before go on in a page.
    fn rest_of(&self, page: usize) -> Result<u32, String> {
        let info = half(self.segment, page + 2);
        if info & OVERWRITTEN != 0 {
            return Err(format!("page at {}: a record was given up there", self.lsn(page)));
        }
        Ok(if info & CONTINUED == 0 { 0 } else { word(self.segment, page + 16) })
    }

    /// Shows so many bytes of a record, of which this many are left at `from`, without the headers of pages; where they end, or none
    /// where that is in another segment.
    fn through_record(
        &self,
        from: usize,
        count: usize,
        left: usize,
        mut see: impl FnMut(&'a [u8]),
    ) -> Result<Option<usize>, String> {
        let (mut at, mut to_see, mut left) = (from, count, left);
        while to_see > 0 {
            if at == self.segment.len() {
                return Ok(None);
            }
            if at % PAGE == 0 {
                if !self.is_page(at) || self.rest_of(at)? as usize != left {
                    return Err(format!("page at {}: expected {} of a record", self.lsn(at), counted(left, "byte")));
                }
                at += SHORT_HEADER;
            }
            let part = to_see.min(PAGE - at % PAGE);
            see(&self.segment[at..at + part]);
            (at, to_see, left) = (at + part, to_see - part, left - part);
        }
        Ok(Some(at))
    }

    fn through(&self, from: usize, count: usize, see: impl FnMut(&'a [u8])) -> Result<Option<usize>, String> {
        self.through_record(from, count, count, see)
    }
}

fn aligned(at: usize) -> usize {
    at.next_multiple_of(ALIGNMENT)
}

fn half(bytes: &[u8], from: usize) -> u16 {
    u16::from_le_bytes([bytes[from], bytes[from + 1]])
}

fn word(bytes: &[u8], from: usize) -> u32 {
    u32::from_le_bytes([bytes[from], bytes[from + 1], bytes[from + 2], bytes[from + 3]])
}

#[cfg(test)]
mod tests;
