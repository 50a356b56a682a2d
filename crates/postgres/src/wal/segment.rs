//! Names and sizes of WAL files.

use std::{fmt, str::FromStr};

use cdc_model::units::{Lsn, Timeline};

/// The size of a cluster's WAL segments: a power of two from 1 MiB to 1 GiB, chosen at `initdb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct SegmentSize(u32);

impl SegmentSize {
    /// Takes a number of bytes that PostgreSQL accepts.
    pub fn new(bytes: u64) -> Option<SegmentSize> {
        let fits = bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&bytes);
        fits.then_some(SegmentSize(bytes as u32))
    }

    /// The number of bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.0)
    }

    /// How many segments have the same middle eight digits in their name.
    fn per_log(self) -> u64 {
        (1u64 << 32) / self.bytes()
    }

    /// The number of the segment that holds the byte at `lsn`.
    pub fn segment_of(self, lsn: Lsn) -> u64 {
        lsn.0 / self.bytes()
    }

    /// The number of the segment that holds the last byte before `lsn`: where a record that ends at `lsn` ends.
    pub fn segment_before(self, lsn: Lsn) -> u64 {
        lsn.0.saturating_sub(1) / self.bytes()
    }

    /// The first byte of a segment.
    pub fn start(self, segment: u64) -> Lsn {
        Lsn(segment * self.bytes())
    }
}

impl TryFrom<u64> for SegmentSize {
    type Error = String;
    fn try_from(bytes: u64) -> Result<Self, String> {
        SegmentSize::new(bytes).ok_or_else(|| format!("{bytes} is not a WAL segment size"))
    }
}

impl From<SegmentSize> for u64 {
    fn from(size: SegmentSize) -> u64 {
        size.bytes()
    }
}

/// The 24 hexadecimal digits of a segment's name: timeline and two halves of its number. Which LSN that is depends on
/// the segment size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// The timeline.
    pub timeline: Timeline,
    log: u32,
    segment: u32,
}

impl SegmentName {
    /// Names the segment with this number.
    pub fn new(timeline: Timeline, number: u64, size: SegmentSize) -> SegmentName {
        SegmentName { timeline, log: (number / size.per_log()) as u32, segment: (number % size.per_log()) as u32 }
    }

    /// Names the segment that holds the byte at `lsn`.
    pub fn of(timeline: Timeline, lsn: Lsn, size: SegmentSize) -> SegmentName {
        SegmentName::new(timeline, size.segment_of(lsn), size)
    }

    /// The segment's number; `None` when no segment of that size has this name.
    pub fn number(self, size: SegmentSize) -> Option<u64> {
        let (log, segment) = (u64::from(self.log), u64::from(self.segment));
        (segment < size.per_log()).then_some(log * size.per_log() + segment)
    }

    /// The first byte of the segment.
    pub fn start(self, size: SegmentSize) -> Option<Lsn> {
        self.number(size).map(|n| size.start(n))
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:08X}{:08X}", timeline_digits(self.timeline), self.log, self.segment)
    }
}

/// A file that PostgreSQL archives or asks for, known by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WalFile {
    /// A whole segment.
    Segment(SegmentName),
    /// The last, incomplete segment of a timeline that ended at a promotion.
    Partial(SegmentName),
    /// The history of a timeline.
    History(Timeline),
    /// The record of a base backup, named after its first segment and the offset in it.
    BackupLabel(SegmentName, u32),
}

/// The eight digits that stand for a timeline in names of files.
pub fn timeline_digits(timeline: Timeline) -> String {
    format!("{:08X}", timeline.get())
}

/// The timeline that such digits name.
pub fn timeline_of(digits: &str) -> Option<Timeline> {
    eight(digits).and_then(Timeline::new)
}

/// A number of eight hexadecimal digits. PostgreSQL writes upper case only; anything else would be found under no name it asks for.
fn eight(text: &str) -> Option<u32> {
    let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'A'..=b'F');
    (text.len() == 8 && text.bytes().all(is_digit)).then(|| u32::from_str_radix(text, 16).ok())?
}

/// Text that names no WAL file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of a WAL segment, .partial, .history or .backup file")]
pub struct WalNameError(pub String);

impl WalFile {
    /// The timeline whose folder the file is kept in.
    pub fn timeline(&self) -> Timeline {
        match self {
            WalFile::Segment(s) | WalFile::Partial(s) | WalFile::BackupLabel(s, _) => s.timeline,
            WalFile::History(timeline) => *timeline,
        }
    }

    /// Whether the file holds WAL, and therefore a header and compressible pages.
    pub fn is_wal(&self) -> bool {
        matches!(self, WalFile::Segment(_) | WalFile::Partial(_))
    }
}

impl fmt::Display for WalFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WalFile::Segment(s) => write!(f, "{s}"),
            WalFile::Partial(s) => write!(f, "{s}.partial"),
            WalFile::History(t) => write!(f, "{}.history", timeline_digits(*t)),
            WalFile::BackupLabel(s, offset) => write!(f, "{s}.{offset:08X}.backup"),
        }
    }
}

impl FromStr for WalFile {
    type Err = WalNameError;

    fn from_str(name: &str) -> Result<Self, WalNameError> {
        let bad = || WalNameError(name.to_owned());
        let digits = |s: &str| eight(s).ok_or_else(bad);
        let timeline = |s: &str| timeline_of(s).ok_or_else(bad);
        if !name.is_ascii() {
            return Err(bad());
        }
        let (stem, ending) = name.split_once('.').map_or((name, None), |(s, e)| (s, Some(e)));
        if stem.len() == 8 && ending == Some("history") {
            return Ok(WalFile::History(timeline(stem)?));
        }
        if stem.len() != 24 {
            return Err(bad());
        }
        let segment =
            SegmentName { timeline: timeline(&stem[..8])?, log: digits(&stem[8..16])?, segment: digits(&stem[16..])? };
        match ending {
            None => Ok(WalFile::Segment(segment)),
            Some("partial") => Ok(WalFile::Partial(segment)),
            Some(rest) => match rest.split_once('.') {
                Some((offset, "backup")) => Ok(WalFile::BackupLabel(segment, digits(offset)?)),
                _ => Err(bad()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn sizes() -> impl Strategy<Value = SegmentSize> {
        (20u32..=30).prop_map(|shift| SegmentSize::new(1 << shift).unwrap())
    }

    proptest! {
        #[test]
        fn a_name_and_an_lsn_say_the_same(size in sizes(), timeline in 1u32.., lsn in any::<u64>()) {
            let name = SegmentName::of(Timeline::literal(timeline), Lsn(lsn), size);
            let start = name.start(size).unwrap();
            prop_assert!(start.0 <= lsn && lsn - start.0 < size.bytes());
            prop_assert_eq!(name.to_string().parse(), Ok(WalFile::Segment(name)));
        }

        #[test]
        fn names_sort_as_lsns_do(size in sizes(), a in 0u64..1 << 40, step in 1u64..1000) {
            let (first, second) = (SegmentName::new(Timeline::FIRST, a, size), SegmentName::new(Timeline::FIRST, a + step, size));
            prop_assert!(first < second);
            prop_assert!(first.to_string() < second.to_string());
        }

        #[test]
        fn every_printed_name_is_read_back(t in 1u32.., log in any::<u32>(), segment in any::<u32>(), offset in any::<u32>()) {
            let t = Timeline::literal(t);
            let name = SegmentName { timeline: t, log, segment };
            for file in [WalFile::Segment(name), WalFile::Partial(name), WalFile::History(t), WalFile::BackupLabel(name, offset)] {
                prop_assert_eq!(file.to_string().parse(), Ok(file));
            }
        }
    }

    #[rstest]
    #[case(16 << 20, "0/3000650", "000000010000000000000003")]
    #[case(1 << 20, "0/3000650", "000000010000000000000030")]
    #[case(1 << 20, "1/FFFFFFFF", "000000010000000100000FFF")]
    #[case(1 << 30, "16/B374D848", "000000010000001600000002")]
    #[case(16 << 20, "16/B374D848", "0000000100000016000000B3")]
    fn known_names(#[case] size: u64, #[case] lsn: &str, #[case] name: &str) {
        let size = SegmentSize::new(size).unwrap();
        assert_eq!(SegmentName::of(Timeline::FIRST, lsn.parse().unwrap(), size).to_string(), name);
    }

    #[test]
    fn a_name_beyond_the_size_has_no_number() {
        let Ok(WalFile::Segment(name)) = "000000010000000000000FFF".parse() else { panic!() };
        assert!(name.number(SegmentSize::new(1 << 20).unwrap()).is_some());
        assert_eq!(name.number(SegmentSize::new(16 << 20).unwrap()), None);
    }

    #[rstest]
    #[case("")]
    #[case("00000001000000000000000")]
    #[case("00000001000000000000000g")]
    #[case("00000001000000000000000a")]
    #[case("../../../etc/passwd")]
    #[case("000000010000000000000001.part")]
    #[case("000000010000000000000001.zst")]
    #[case("00000001.histor")]
    #[case("00000000.history")]
    #[case("000000000000000000000001")]
    #[case("RECOVERYXLOG")]
    #[case("ää00000100000000000000")]
    fn other_names_are_refused(#[case] name: &str) {
        assert_eq!(name.parse::<WalFile>(), Err(WalNameError(name.to_owned())));
    }

    #[rstest]
    #[case(0)]
    #[case(1 << 19)]
    #[case(1 << 31)]
    #[case((1 << 24) + 1)]
    fn impossible_sizes_are_refused(#[case] bytes: u64) {
        assert_eq!(SegmentSize::new(bytes), None);
    }
}
