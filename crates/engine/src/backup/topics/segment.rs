//! Segments: the objects that an archived topic consists of. A skippable frame describes what follows: blocks, each a zstd frame of its
//! own, so that a damaged one leaves the others readable. Together they decompress to record batches as Kafka's tools read them.

use std::io::Read;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use super::batch::{self, Record};
use crate::backup::{
    BackupError,
    format::{frame::FrameKind, stamp::Stamp},
    hash::sha256,
};
use cdc_model::units::counted;

const KIND: FrameKind = FrameKind { magic: 0x184D_2A5D, length_max: 16 << 20 };
/// The bytes of records in a block: large enough to compress well, small enough that little is lost with one.
const BLOCK: usize = 1 << 20;
/// The bytes of records in a segment.
pub(crate) const SEGMENT: u64 = 32 << 20;
const END: &str = ".zst";
const ENCRYPTED: &str = ".age";
const LEVEL: i32 = 3;

/// What a segment holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// Every record that could be read from this offset on …
    pub(crate) from: i64,
    /// … up to this one, exclusive.
    pub(crate) to: i64,
    pub(crate) records: u64,
    /// The size of its content.
    pub(crate) raw: u64,
    pub(crate) blocks: Vec<Block>,
}

/// A compressed stretch of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Block {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) records: u64,
    /// How many record batches it consists of.
    pub(crate) batches: u64,
    /// Its size.
    pub(crate) raw: u64,
    /// Its size as it is stored.
    pub(crate) stored: u64,
    /// The checksum of its stored bytes.
    pub(crate) sha256: String,
}

/// What the name of a segment says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Named {
    pub(crate) from: i64,
    pub(crate) stamp: Stamp,
    pub(crate) is_encrypted: bool,
}

impl Named {
    pub(crate) fn parse(name: &str) -> Option<Named> {
        let (rest, is_encrypted) = match name.strip_suffix(ENCRYPTED) {
            Some(rest) => (rest, true),
            None => (name, false),
        };
        let (from, stamp) = Stamp::split_from(rest.strip_suffix(END)?)?;
        let named = Named { from: from.parse().ok()?, stamp, is_encrypted };
        (named.from >= 0 && named.to_string() == name).then_some(named)
    }

    /// The name of what is stored of a segment.
    pub(crate) fn of(from: i64, stored: &[u8], is_encrypted: bool) -> Named {
        Named { from, stamp: Stamp::of(&sha256(stored), stored.len() as u64), is_encrypted }
    }

    /// Whether stored bytes are those that the name stands for; otherwise what they are.
    pub(crate) fn compare(&self, stored: &[u8]) -> Result<(), (String, String)> {
        let (expected, found) = (&self.stamp, Stamp::of(&sha256(stored), stored.len() as u64));
        match (found.size == expected.size, found.digits == expected.digits) {
            (true, true) => Ok(()),
            (false, _) => Err((counted(expected.size, "byte"), counted(found.size, "byte"))),
            (true, false) => Err((expected.digits.clone(), found.digits)),
        }
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let encrypted = if self.is_encrypted { ENCRYPTED } else { "" };
        write!(f, "{:020}-{}{END}{encrypted}", self.from, self.stamp)
    }
}

/// A segment that is complete.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) description: Description,
    pub(crate) bytes: Vec<u8>,
    pub(crate) earliest: Option<i64>,
    pub(crate) latest: Option<i64>,
}

/// A segment that grows, in memory.
#[derive(Debug)]
pub(crate) struct Builder {
    description: Description,
    compressed: Vec<u8>,
    pending: Vec<Record>,
    pending_bytes: usize,
    earliest: Option<i64>,
    latest: Option<i64>,
}

impl Builder {
    pub(crate) fn new(topic: &str, partition: i32, from: i64) -> Builder {
        let description =
            Description { topic: topic.to_owned(), partition, from, to: from, records: 0, raw: 0, blocks: Vec::new() };
        Builder {
            description,
            compressed: Vec::new(),
            pending: Vec::new(),
            pending_bytes: 0,
            earliest: None,
            latest: None,
        }
    }

    /// Adds a record behind those that are there.
    pub(crate) fn push(&mut self, record: Record) -> Result<(), String> {
        if record.offset < self.description.to {
            return Err(format!("record at offset {} behind offset {}", record.offset, self.description.to));
        }
        self.description.to = record.offset + 1;
        if let Some(ms) = record.timestamp.known() {
            self.earliest = Some(self.earliest.map_or(ms, |earliest| earliest.min(ms)));
            self.latest = Some(self.latest.map_or(ms, |latest| latest.max(ms)));
        }
        self.pending_bytes += record.size();
        self.pending.push(record);
        if self.pending_bytes >= BLOCK { self.close_block() } else { Ok(()) }
    }

    fn close_block(&mut self) -> Result<(), String> {
        let (Some(first), Some(last)) = (self.pending.first(), self.pending.last()) else { return Ok(()) };
        let mut raw = Vec::with_capacity(self.pending_bytes + self.pending_bytes / 8);
        let batches = batch::encode(&self.pending, &mut raw);
        let stored = zstd::bulk::compress(&raw, LEVEL).map_err(|e| e.to_string())?;
        self.description.blocks.push(Block {
            first: first.offset,
            last: last.offset,
            records: self.pending.len() as u64,
            batches: batches as u64,
            raw: raw.len() as u64,
            stored: stored.len() as u64,
            sha256: sha256(&stored),
        });
        self.description.records += self.pending.len() as u64;
        self.description.raw += raw.len() as u64;
        self.compressed.extend(stored);
        self.pending.clear();
        self.pending_bytes = 0;
        Ok(())
    }

    pub(crate) fn is_full(&self) -> bool {
        self.description.raw + self.pending_bytes as u64 >= SEGMENT
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.description.blocks.is_empty()
    }

    /// The offset after the last record.
    pub(crate) fn next(&self) -> i64 {
        self.description.to
    }

    /// Ends it at an offset that is not before its last record.
    pub(crate) fn finish(mut self, to: i64) -> Result<Segment, String> {
        self.close_block()?;
        self.description.to = self.description.to.max(to);
        let head = KIND.to_bytes("segment".into(), &self.description).map_err(|e| e.to_string())?;
        let mut bytes = self.compressed;
        bytes.splice(0..0, head);
        Ok(Segment { description: self.description, bytes, earliest: self.earliest, latest: self.latest })
    }
}

/// Reads the description that a segment begins with.
pub(crate) fn describe(path: &Utf8Path, object: &mut impl Read) -> Result<Description, BackupError> {
    KIND.read(path, object)
}

/// A block that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DamagedBlock {
    /// Its first and its last offset.
    pub(crate) offsets: (i64, i64),
    /// What was expected and found.
    pub(crate) what: String,
}

impl std::fmt::Display for DamagedBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (first, last) = self.offsets;
        write!(f, "block of offsets {first} to {last}: {}", self.what)
    }
}

/// The bytes of a segment, read from disk.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) description: Description,
    bytes: Vec<u8>,
    blocks_from: usize,
    next_block: usize,
    at: usize,
}

impl Stored {
    /// Takes the bytes of a segment, whose description must be readable.
    pub(crate) fn new(path: &Utf8Path, bytes: Vec<u8>) -> Result<Stored, BackupError> {
        let mut rest = bytes.as_slice();
        let description = describe(path, &mut rest)?;
        let at = bytes.len() - rest.len();
        Ok(Stored { description, bytes, blocks_from: at, next_block: 0, at })
    }

    /// The records of the next block; none after the last.
    pub(crate) fn next(&mut self) -> Option<Result<Vec<Record>, DamagedBlock>> {
        let block = self.description.blocks.get(self.next_block)?.clone();
        self.next_block += 1;
        let from = self.at;
        self.at = usize::try_from(block.stored).ok().and_then(|length| from.checked_add(length)).unwrap_or(usize::MAX);
        let stored = self.bytes.get(from..self.at.min(self.bytes.len()));
        Some(block_of(&self.description, &block, stored.unwrap_or_default()))
    }

    /// What is wrong with its blocks, and with what they say together.
    pub(crate) fn damage(mut self) -> Vec<DamagedBlock> {
        (self.next_block, self.at) = (0, self.blocks_from);
        let whole = (self.description.from, self.description.to - 1);
        let mut found: Vec<DamagedBlock> = Vec::new();
        let (mut records, mut previous) = (0, None);
        while let Some(block) = self.next() {
            match block {
                Ok(block) => {
                    let first = block.first().map(|record| record.offset);
                    if first <= previous {
                        let what = format!("it stands behind offset {}", previous.unwrap_or_default());
                        found.push(DamagedBlock { offsets: whole, what });
                    }
                    previous = block.last().map(|record| record.offset);
                    records += block.len() as u64;
                }
                Err(damaged) => found.push(damaged),
            }
        }
        let stored: u64 = self.description.blocks.iter().map(|block| block.stored).sum();
        if self.bytes.len() as u64 != self.blocks_from as u64 + stored {
            let what = format!("expected {}, found {}", counted(stored, "byte"), self.bytes.len() - self.blocks_from);
            found.push(DamagedBlock { offsets: whole, what });
        }
        if found.is_empty() && records != self.description.records {
            let what = format!("expected {}, found {records}", counted(self.description.records, "record"));
            found.push(DamagedBlock { offsets: whole, what });
        }
        found
    }
}

fn block_of(description: &Description, block: &Block, stored: &[u8]) -> Result<Vec<Record>, DamagedBlock> {
    let damaged = |what: String| DamagedBlock { offsets: (block.first, block.last), what };
    let found = sha256(stored);
    if found != block.sha256 {
        return Err(damaged(format!("checksum: expected {}, found {found}", block.sha256)));
    }
    let room = usize::try_from(block.raw).map_err(|e| damaged(e.to_string()))?;
    let raw = zstd::bulk::decompress(stored, room).map_err(|e| damaged(e.to_string()))?;
    let records = batch::decode(&raw).map_err(|e| damaged(e.to_string()))?;
    let ends = (records.first().map(|record| record.offset), records.last().map(|record| record.offset));
    let expected = (Some(block.first), Some(block.last));
    let within = block.first >= description.from && block.last < description.to;
    if ends != expected || records.len() as u64 != block.records || !within {
        return Err(damaged(format!("expected {}, found {}", counted(block.records, "record"), records.len())));
    }
    Ok(records)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::backup::topics::batch::{Timestamp, tests::records};
    use proptest::prelude::*;

    impl Segment {
        fn name(&self) -> Named {
            Named::of(self.description.from, &self.bytes, false)
        }
    }

    impl Stored {
        fn compare(&self, named: &Named) -> Result<(), (String, String)> {
            named.compare(&self.bytes)
        }
    }

    pub(crate) fn record(offset: i64, value: &str) -> Record {
        Record {
            offset,
            timestamp: Timestamp::Created(1_000 + offset),
            key: Some(format!("k{offset}").into_bytes()),
            value: Some(value.as_bytes().to_vec()),
            headers: Vec::new(),
        }
    }

    fn segment(records: &[Record], to: i64) -> Segment {
        let mut builder = Builder::new("t", 0, 0);
        for record in records {
            builder.push(record.clone()).unwrap();
        }
        builder.finish(to).unwrap()
    }

    fn stored(bytes: Vec<u8>) -> Result<Stored, BackupError> {
        Stored::new("segment".into(), bytes)
    }

    /// Three blocks.
    fn large() -> (Vec<Record>, Segment) {
        let mut random = 1_u64;
        let mut noise = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            format!("{random:x}").repeat(4_000)
        };
        let records: Vec<Record> = (0..40).map(|offset| record(offset * 2, &noise())).collect();
        let segment = segment(&records, 90);
        assert!(segment.description.blocks.len() >= 2);
        (records, segment)
    }

    proptest! {
        #[test]
        fn a_segment_gives_back_its_records(records in records()) {
            let to = records.last().unwrap().offset + 7;
            let segment = segment(&records, to);
            let named = segment.name();
            prop_assert_eq!(Named::parse(&named.to_string()), Some(named.clone()));
            let mut again = stored(segment.bytes.clone()).unwrap();
            prop_assert!(again.compare(&named).is_ok());
            let mut read = Vec::new();
            while let Some(block) = again.next() {
                read.extend(block.unwrap());
            }
            prop_assert_eq!(read, records);
            prop_assert!(again.damage().is_empty());
        }
    }

    #[test]
    fn it_decompresses_to_batches_with_any_tool() {
        let (records, segment) = large();
        let raw = zstd::decode_all(segment.bytes.as_slice()).unwrap();
        assert_eq!(batch::decode(&raw).unwrap(), records);
        assert_eq!(raw.len() as u64, segment.description.raw);
    }

    #[test]
    fn damage_is_located_to_a_block_and_the_others_are_read() {
        let (records, segment) = large();
        let named = segment.name();
        let first = &segment.description.blocks[0];
        let mut bytes = segment.bytes.clone();
        let at = Stored::new("segment".into(), bytes.clone()).unwrap().blocks_from;
        bytes[at + first.stored as usize / 2] ^= 1;
        assert!(stored(bytes.clone()).unwrap().compare(&named).is_err());
        let found = stored(bytes.clone()).unwrap().damage();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].offsets, (first.first, first.last));
        let mut again = stored(bytes).unwrap();
        assert!(again.next().unwrap().is_err());
        let mut read = Vec::new();
        while let Some(block) = again.next() {
            read.extend(block.unwrap());
        }
        assert_eq!(read, records[first.records as usize..]);
    }

    #[test]
    fn every_changed_byte_changes_what_the_name_says_and_a_cut_is_found() {
        let segment = segment(&[record(0, "a"), record(5, "b")], 9);
        let named = segment.name();
        for at in 0..segment.bytes.len() {
            let mut bytes = segment.bytes.clone();
            bytes[at] ^= 1;
            assert!(stored(bytes).fails_or(|stored| stored.compare(&named).is_err()), "byte {at}");
            let cut = stored(segment.bytes[..at].to_vec());
            assert!(cut.fails_or(|stored| !stored.damage().is_empty()), "cut at {at}");
        }
        let mut longer = segment.bytes.clone();
        longer.push(0);
        assert_eq!(stored(longer).unwrap().damage().len(), 1);
    }

    trait FailsOr<T> {
        fn fails_or(self, test: impl FnOnce(T) -> bool) -> bool;
    }

    impl<T, E> FailsOr<T> for Result<T, E> {
        fn fails_or(self, test: impl FnOnce(T) -> bool) -> bool {
            self.map_or(true, test)
        }
    }

    #[test]
    fn names_of_other_files_are_none() {
        let name = segment(&[record(0, "a")], 1).name().to_string();
        assert!(Named::parse(&name).is_some());
        for other in ["", "x.zst", &name[1..], &name.to_uppercase(), &format!("{name}.tmp"), &name.replace('-', "_")] {
            assert_eq!(Named::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_record_out_of_order_is_not_taken() {
        let mut builder = Builder::new("t", 0, 5);
        assert!(builder.push(record(4, "a")).is_err());
        builder.push(record(5, "a")).unwrap();
        assert!(builder.push(record(5, "a")).is_err());
        assert_eq!(builder.next(), 6);
    }
}
