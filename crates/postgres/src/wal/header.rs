//! The headers of WAL pages.

use super::{SegmentName, SegmentSize};
use cdc_model::units::{Lsn, SystemId, Timeline, counted};

/// Bytes in a page of WAL, as PostgreSQL is built by default.
pub const PAGE: usize = 8192;

/// What the first page of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The cluster.
    pub system_id: SystemId,
    /// The size of the cluster's segments.
    pub size: SegmentSize,
    /// The LSN of the page.
    pub address: Lsn,
    /// The timeline the page was written on; in the first segment of a new timeline it is still the old one.
    pub timeline: Timeline,
}

/// The `XLOG_PAGE_MAGIC` of PostgreSQL 18.
const MAGIC: u16 = 0xD118;
/// `XLP_LONG_HEADER`: every first page of a segment has one.
const LONG_HEADER_FLAG: u16 = 0x0002;

impl SegmentHeader {
    /// `XLogLongPageHeaderData`: magic, info, timeline, page address, remaining length (padded to 24), system id, segment size,
    /// block size.
    pub const LENGTH: usize = 40;

    /// Reads the header from the first bytes of a segment.
    pub fn parse(bytes: &[u8; Self::LENGTH]) -> Result<SegmentHeader, String> {
        let (magic, info) = (number(bytes, 0, 2) as u16, number(bytes, 2, 2) as u16);
        if !is_magic(magic) || info & LONG_HEADER_FLAG == 0 {
            return Err(format!("no WAL page header (magic {magic:04X}, info {info:04X})"));
        }
        let size = number(bytes, 32, 4);
        let size = SegmentSize::new(size).ok_or_else(|| format!("impossible segment size {size}"))?;
        let timeline = Timeline::new(number(bytes, 4, 4) as u32).ok_or("a WAL page header of timeline 0")?;
        let address = Lsn(number(bytes, 8, 8));
        Ok(SegmentHeader { system_id: SystemId(number(bytes, 24, 8)), size, address, timeline })
    }

    /// The header as a server of this machine's byte order writes it, at the beginning of a page of [`PAGE`] bytes.
    pub fn to_bytes(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[0..2].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[2..4].copy_from_slice(&LONG_HEADER_FLAG.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.timeline.get().to_le_bytes());
        bytes[8..16].copy_from_slice(&self.address.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.system_id.0.to_le_bytes());
        bytes[32..36].copy_from_slice(&(self.size.bytes() as u32).to_le_bytes());
        bytes[36..40].copy_from_slice(&(PAGE as u32).to_le_bytes());
        bytes
    }

    /// Requires that a file of this many bytes, which begins with this header, is the segment of its name. A recycled segment,
    /// renamed for later use, is not: it still carries the address that it was written for.
    pub fn check(&self, name: SegmentName, length: u64) -> Result<(), String> {
        if name.start(self.size) != Some(self.address) {
            return Err(format!("it begins at {}, its name {name} says otherwise", self.address));
        }
        if self.timeline > name.timeline {
            return Err(format!("it is of timeline {}, its name {name} says otherwise", self.timeline));
        }
        match length == self.size.bytes() {
            true => Ok(()),
            false => Err(format!("expected {}, found {length}", counted(self.size.bytes(), "byte"))),
        }
    }
}

/// The address in the header of a page and the timeline that it was written on, if the bytes begin with one.
pub fn page_place(page: &[u8]) -> Option<(Timeline, Lsn)> {
    let header: &[u8; 16] = page.first_chunk()?;
    let timeline = Timeline::new(number(header, 4, 4) as u32)?;
    is_magic(number(header, 0, 2) as u16).then(|| (timeline, Lsn(number(header, 8, 8))))
}

/// The records' bytes in a part of a segment, without the headers of its pages. `from` is where the part begins in the segment.
pub fn payload(part: &[u8], from: u64) -> Vec<u8> {
    // `SizeOfXLogShortPHD`, padded; the first page of a segment has the long one.
    const SHORT: u64 = 24;
    let page = PAGE as u64;
    let of_records = |at: u64| {
        let header = if at < page { SegmentHeader::LENGTH as u64 } else { SHORT };
        at % page >= header
    };
    (from..).zip(part).filter(|(at, _)| of_records(*at)).map(|(_, byte)| *byte).collect()
}

/// `XLOG_PAGE_MAGIC` is 0xD1xx since PostgreSQL 10.
fn is_magic(magic: u16) -> bool {
    magic >> 8 == 0xD1
}

/// A number in the byte order of the machine that wrote it (x86-64 and arm64: little-endian).
fn number(bytes: &[u8], from: usize, length: usize) -> u64 {
    bytes[from..from + length].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_pages_are_no_part_of_records() {
        let segment: Vec<u8> = (0..3 * PAGE).map(|at| u8::from(at % PAGE < 24 || at < 40)).collect();
        assert_eq!(payload(&segment, 0).len(), 3 * PAGE - 40 - 24 - 24);
        assert!(payload(&segment, 0).iter().all(|byte| *byte == 0));
        assert_eq!(payload(&segment[PAGE - 10..PAGE + 34], PAGE as u64 - 10), vec![0; 20]);
    }

    #[test]
    fn a_header_is_checked_against_the_name() {
        let size = SegmentSize::new(1 << 20).unwrap();
        let written =
            SegmentHeader { system_id: SystemId(42), size, address: Lsn(7 << 20), timeline: Timeline::literal(3) };
        let header = SegmentHeader::parse(&written.to_bytes()).unwrap();
        assert_eq!(header, written);
        let check = |timeline: u32, number, length| {
            header.check(SegmentName::new(Timeline::literal(timeline), number, size), length)
        };
        assert_eq!(check(3, 7, 1 << 20), Ok(()));
        assert_eq!(check(4, 7, 1 << 20), Ok(()), "first segment of a new timeline");
        assert!(check(3, 8, 1 << 20).unwrap_err().contains("its name"), "other segment");
        assert!(check(2, 7, 1 << 20).unwrap_err().contains("of timeline 3"), "older timeline");
        assert!(check(3, 7, (1 << 20) - 1).unwrap_err().contains("bytes"));
        assert!(SegmentHeader::parse(&[0; 40]).unwrap_err().contains("no WAL page header"));
    }

    #[test]
    fn a_page_without_the_magic_number_has_no_address() {
        let mut page = vec![0u8; PAGE];
        assert_eq!(page_place(&page), None);
        page[0..2].copy_from_slice(&0xD118u16.to_le_bytes());
        page[4..8].copy_from_slice(&3u32.to_le_bytes());
        page[8..16].copy_from_slice(&0x500_2000u64.to_le_bytes());
        assert_eq!(page_place(&page), Some((Timeline::literal(3), Lsn(0x500_2000))));
        assert_eq!(page_place(&page[..15]), None, "a page that was cut off");
    }
}
