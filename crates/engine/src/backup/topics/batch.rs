//! Kafka's record batches, version 2, as brokers store them: what a segment of an archived topic consists of. Each has a CRC-32C, so that
//! damage is located to a batch, and Kafka's own tools read them.

use serde::{Deserialize, Serialize};

use cdc_model::units::counted;

/// The bytes before those that the length counts: base offset and length.
const BEFORE_LENGTH: usize = 12;
/// The header: everything before the first record.
const HEADER: usize = 61;
/// Where the checksum stands, and where that begins which it covers.
const CRC_AT: usize = 17;
const COVERED_FROM: usize = 21;
const MAGIC: u8 = 2;
const APPENDED: i16 = 0b1000;

/// When a record was written, in milliseconds since the Unix epoch, and by whose clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Timestamp {
    /// By its producer's.
    Created(i64),
    /// By its broker's.
    Appended(i64),
    /// Not known.
    Absent,
}

impl Timestamp {
    /// The number that stands in a batch.
    pub(crate) fn number(self) -> i64 {
        match self {
            Timestamp::Created(ms) | Timestamp::Appended(ms) => ms,
            Timestamp::Absent => -1,
        }
    }

    /// When, where that is known.
    pub(crate) fn known(self) -> Option<i64> {
        (self.number() >= 0).then(|| self.number())
    }

    fn attributes(self) -> i16 {
        if matches!(self, Timestamp::Appended(_)) { APPENDED } else { 0 }
    }
}

/// A record of a partition.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) offset: i64,
    pub(crate) timestamp: Timestamp,
    /// `None` is null.
    pub(crate) key: Option<Vec<u8>>,
    /// `None` is null: a tombstone.
    pub(crate) value: Option<Vec<u8>>,
    /// In order; a key may stand several times.
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let size = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(Vec::len);
        f.debug_struct("Record")
            .field("offset", &self.offset)
            .field("timestamp", &self.timestamp)
            .field("key_bytes", &size(&self.key))
            .field("value_bytes", &size(&self.value))
            .field("headers", &self.headers.len())
            .finish()
    }
}

impl Record {
    /// About how many bytes it takes.
    pub(crate) fn size(&self) -> usize {
        let of = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(|(key, value)| key.len() + of(value) + 4).sum();
        of(&self.key) + of(&self.value) + headers + 16
    }

    /// Whether one batch can hold both: it has one kind of timestamp, and one time where its broker's clock gave it.
    fn fits_behind(&self, first: &Record) -> bool {
        let same_clock = match (first.timestamp, self.timestamp) {
            (Timestamp::Appended(a), Timestamp::Appended(b)) => a == b,
            (Timestamp::Appended(_), _) | (_, Timestamp::Appended(_)) => false,
            _ => true,
        };
        same_clock && i32::try_from(self.offset - first.offset).is_ok()
    }
}

/// Appends records, which are in the order of their offsets, as batches; returns how many.
pub(crate) fn encode(records: &[Record], out: &mut Vec<u8>) -> usize {
    let (mut rest, mut batches) = (records, 0);
    while let Some(first) = rest.first() {
        let length = rest.iter().take_while(|record| record.fits_behind(first)).count();
        let (batch, behind) = rest.split_at(length);
        encode_one(first, batch, out);
        (rest, batches) = (behind, batches + 1);
    }
    batches
}

fn encode_one(first: &Record, records: &[Record], out: &mut Vec<u8>) {
    let begin = out.len();
    let last = records.last().unwrap_or(first);
    let latest = records.iter().map(|record| record.timestamp.number()).max().unwrap_or(-1);
    out.extend(first.offset.to_be_bytes());
    out.extend([0; 4]);
    out.extend((-1_i32).to_be_bytes());
    out.push(MAGIC);
    out.extend([0; 4]);
    out.extend(first.timestamp.attributes().to_be_bytes());
    out.extend(((last.offset - first.offset) as i32).to_be_bytes());
    out.extend(first.timestamp.number().to_be_bytes());
    out.extend(latest.to_be_bytes());
    // No producer's id, epoch and sequence.
    out.extend([0xFF; 14]);
    out.extend((records.len() as i32).to_be_bytes());
    let mut body = Vec::new();
    for record in records {
        body.clear();
        // Attributes: none are in use.
        body.push(0);
        varint(record.timestamp.number().wrapping_sub(first.timestamp.number()), &mut body);
        varint(record.offset - first.offset, &mut body);
        bytes(record.key.as_deref(), &mut body);
        bytes(record.value.as_deref(), &mut body);
        varint(record.headers.len() as i64, &mut body);
        for (key, value) in &record.headers {
            bytes(Some(key.as_bytes()), &mut body);
            bytes(value.as_deref(), &mut body);
        }
        varint(body.len() as i64, out);
        out.extend(&body);
    }
    let length = (out.len() - begin - BEFORE_LENGTH) as i32;
    out[begin + 8..begin + BEFORE_LENGTH].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&out[begin + COVERED_FROM..]);
    out[begin + CRC_AT..begin + COVERED_FROM].copy_from_slice(&crc.to_be_bytes());
}

fn bytes(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes {
        None => varint(-1, out),
        Some(bytes) => {
            varint(bytes.len() as i64, out);
            out.extend(bytes);
        }
    }
}

/// Zigzag, seven bits a byte.
fn varint(number: i64, out: &mut Vec<u8>) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A batch that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// The batch's first offset, as far as it can be read.
    pub(crate) offset: Option<i64>,
    /// What was expected and found.
    pub(crate) what: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.offset {
            Some(offset) => write!(f, "batch at offset {offset}: {}", self.what),
            None => write!(f, "a batch: {}", self.what),
        }
    }
}

/// Reads batches, which must fill the bytes: their records, in order.
pub(crate) fn decode(all: &[u8]) -> Result<Vec<Record>, Damage> {
    let (mut records, mut rest) = (Vec::new(), all);
    while !rest.is_empty() {
        let offset = rest.first_chunk().map(|bytes| i64::from_be_bytes(*bytes));
        let damage = |what: String| Damage { offset, what };
        let cut_short = || damage(format!("what is left is too short for a batch: {}", counted(rest.len(), "byte")));
        let length = rest.get(8..BEFORE_LENGTH).and_then(|four| four.try_into().ok()).map(i32::from_be_bytes);
        let length = length.and_then(|length| usize::try_from(length).ok()).ok_or_else(cut_short)?;
        let (batch, behind) = rest.split_at_checked(BEFORE_LENGTH + length).ok_or_else(cut_short)?;
        if batch.len() < HEADER {
            return Err(cut_short());
        }
        if batch[16] != MAGIC {
            return Err(damage(format!("expected version {MAGIC}, found {}", batch[16])));
        }
        let expected = u32::from_be_bytes([batch[17], batch[18], batch[19], batch[20]]);
        let found = crc32c::crc32c(&batch[COVERED_FROM..]);
        if expected != found {
            return Err(damage(format!("checksum: expected {expected:08x}, found {found:08x}")));
        }
        let decoded = one(batch).ok_or_else(|| damage("its records have no meaning".to_owned()))?;
        // The first offset stands before what the checksum covers.
        let previous = records.last().map(|record: &Record| record.offset);
        if decoded.first().map(|record| record.offset) <= previous {
            return Err(damage(format!("it stands behind offset {}", previous.unwrap_or_default())));
        }
        records.extend(decoded);
        rest = behind;
    }
    Ok(records)
}

/// The records of a batch with a valid checksum.
fn one(batch: &[u8]) -> Option<Vec<Record>> {
    let mut header = Cursor(batch);
    let base: i64 = i64::from_be_bytes(header.array()?);
    header.take(13)?;
    let attributes = i16::from_be_bytes(header.array()?);
    header.take(4)?;
    let first_time = i64::from_be_bytes(header.array()?);
    header.take(22)?;
    let count = i32::from_be_bytes(header.array()?);
    let mut rest = header;
    let mut records: Vec<Record> = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(rest.varint()?).ok()?;
        let mut body = Cursor(rest.take(length)?);
        body.take(1)?;
        let time = first_time.wrapping_add(body.varint()?);
        let offset = base.checked_add(body.varint()?)?;
        let (key, value) = (body.bytes()?, body.bytes()?);
        let mut headers = Vec::new();
        for _ in 0..body.varint()? {
            headers.push((String::from_utf8(body.bytes()??).ok()?, body.bytes()?));
        }
        let timestamp = match time {
            -1 => Timestamp::Absent,
            time if attributes & APPENDED != 0 => Timestamp::Appended(time),
            time => Timestamp::Created(time),
        };
        let in_order = records.last().is_none_or(|before| before.offset < offset);
        if !body.0.is_empty() || !in_order {
            return None;
        }
        records.push(Record { offset, timestamp, key, value, headers });
    }
    (rest.0.is_empty() && !records.is_empty()).then_some(records)
}

struct Cursor<'b>(&'b [u8]);

impl<'b> Cursor<'b> {
    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn varint(&mut self) -> Option<i64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some((number >> 1) as i64 ^ -((number & 1) as i64));
            }
        }
        None
    }

    /// Bytes with their length before them; the inner `None` is null.
    #[allow(clippy::option_option, reason = "the outer one is damage, the inner one is null")]
    fn bytes(&mut self) -> Option<Option<Vec<u8>>> {
        match self.varint()? {
            -1 => Some(None),
            length => Some(Some(self.take(usize::try_from(length).ok()?)?.to_vec())),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content() -> impl Strategy<Value = Option<Vec<u8>>> {
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40))
    }

    fn timestamp() -> impl Strategy<Value = Timestamp> {
        prop_oneof![
            any::<i64>().prop_filter("absent", |ms| *ms != -1).prop_map(Timestamp::Created),
            (0..3_i64).prop_map(Timestamp::Appended),
            Just(Timestamp::Absent),
        ]
    }

    /// Records in the order of their offsets, with holes.
    pub(crate) fn records() -> impl Strategy<Value = Vec<Record>> {
        let headers = proptest::collection::vec((".{0,6}", content()), 0..4);
        let one = (prop_oneof![1..3_i64, Just(1 << 33)], timestamp(), content(), content(), headers);
        proptest::collection::vec(one, 1..40).prop_map(|all| {
            let mut offset = -1;
            let numbered = all.into_iter().map(|(step, timestamp, key, value, headers)| {
                offset += step;
                Record { offset, timestamp, key, value, headers }
            });
            numbered.collect()
        })
    }

    proptest! {
        #[test]
        fn every_record_comes_back(records in records()) {
            let mut bytes = Vec::new();
            encode(&records, &mut bytes);
            prop_assert_eq!(decode(&bytes).unwrap(), records);
        }

        #[test]
        fn any_changed_bit_but_of_the_leaders_epoch_is_noticed(
            records in records(), at in any::<prop::sample::Index>(), bit in 0..8_u8
        ) {
            let mut bytes = Vec::new();
            encode(&records[..1], &mut bytes);
            let at = at.index(bytes.len());
            // The first offset is not covered by Kafka's checksum: the object's own covers it. The leader's epoch means nothing.
            prop_assume!(at >= 8 && !(12..16).contains(&at));
            bytes[at] ^= 1 << bit;
            prop_assert!(decode(&bytes).is_err(), "byte {}", at);
        }

        #[test]
        fn arbitrary_bytes_end_in_an_error_and_nothing_else(bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
            prop_assert!(decode(&bytes).is_err());
        }
    }

    /// A batch of one record as Kafka's documentation lays it out, byte by byte.
    #[test]
    fn a_batch_is_what_kafka_defines() {
        let record = Record {
            offset: 5,
            timestamp: Timestamp::Created(1_000),
            key: Some(b"k".to_vec()),
            value: None,
            headers: vec![("h".into(), Some(vec![]))],
        };
        let mut bytes = Vec::new();
        assert_eq!(encode(&[record], &mut bytes), 1);
        assert_eq!(&bytes[..8], 5_i64.to_be_bytes());
        assert_eq!(i32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize, bytes.len() - 12);
        assert_eq!(bytes[16], 2);
        let body = [0, 0, 0, 2, b'k', 1, 2, 2, b'h', 0];
        assert_eq!(bytes[HEADER], (body.len() * 2) as u8);
        assert_eq!(&bytes[HEADER + 1..], body);
    }

    #[test]
    fn null_and_empty_are_not_the_same() {
        let record = |value: Option<&[u8]>| Record {
            offset: 0,
            timestamp: Timestamp::Absent,
            key: Some(vec![]),
            value: value.map(<[u8]>::to_vec),
            headers: vec![("a".into(), None), ("a".into(), Some(vec![]))],
        };
        for value in [None, Some(b"".as_slice())] {
            let mut bytes = Vec::new();
            encode(&[record(value)], &mut bytes);
            assert_eq!(decode(&bytes).unwrap(), [record(value)]);
        }
    }
}
