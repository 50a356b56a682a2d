//! Up to where a topic is replayed.

use std::collections::BTreeMap;

use super::batch::Record;

/// Up to where. In each partition everything before the first record that is beyond it; what stands behind that one stays out too, so
/// that the order of a partition is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Until {
    /// Everything.
    #[default]
    End,
    /// Records up to this time by their timestamps, inclusive, in milliseconds since the Unix epoch.
    Time(i64),
    /// Records before this offset, in every partition.
    Offset(i64),
    /// Records before these offsets, by partition; all of the others.
    Offsets(BTreeMap<i32, i64>),
}

/// A text that is no [`Until`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a time (2026-11-22T02:00:00Z), an offset (1200) or partitions with offsets (0:1200,1:900), found {0:?}"
)]
pub struct NotUntil(String);

impl std::str::FromStr for Until {
    type Err = NotUntil;

    fn from_str(text: &str) -> Result<Until, NotUntil> {
        let wrong = || NotUntil(text.to_owned());
        if let Ok(offset) = text.parse::<i64>() {
            return if offset < 0 { Err(wrong()) } else { Ok(Until::Offset(offset)) };
        }
        if let Ok(time) = text.parse::<jiff::Timestamp>() {
            return Ok(Until::Time(time.as_millisecond()));
        }
        let mut offsets = BTreeMap::new();
        for pair in text.split(',') {
            let (partition, offset) = pair.split_once(':').ok_or_else(wrong)?;
            let partition: u16 = partition.trim().parse().map_err(|_| wrong())?;
            let offset: u32 = offset.trim().parse().map_err(|_| wrong())?;
            if offsets.insert(i32::from(partition), i64::from(offset)).is_some() {
                return Err(wrong());
            }
        }
        Ok(Until::Offsets(offsets))
    }
}

impl Until {
    fn takes(&self, partition: i32, record: &Record) -> bool {
        match self {
            Until::End => true,
            Until::Time(time) => record.timestamp.known().is_none_or(|ms| ms <= *time),
            Until::Offset(offset) => record.offset < *offset,
            Until::Offsets(offsets) => offsets.get(&partition).is_none_or(|offset| record.offset < *offset),
        }
    }
}

/// Goes through the records of a partition and says which are replayed.
#[derive(Clone, Debug)]
pub(crate) struct Cut<'u> {
    until: &'u Until,
    partition: i32,
    closed: bool,
    /// Records that would be taken by themselves and stand behind one that is not.
    pub(crate) behind: u64,
    /// Records that are left out, those included.
    pub(crate) left_out: u64,
}

impl<'u> Cut<'u> {
    pub(crate) fn new(until: &'u Until, partition: i32) -> Cut<'u> {
        Cut { until, partition, closed: false, behind: 0, left_out: 0 }
    }

    pub(crate) fn takes(&mut self, record: &Record) -> bool {
        let takes = self.until.takes(self.partition, record);
        self.behind += u64::from(self.closed && takes);
        self.closed |= !takes;
        self.left_out += u64::from(self.closed);
        !self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::topics::{batch::Timestamp, segment::tests::record};
    use rstest::rstest;

    #[rstest]
    #[case("1200", Some(Until::Offset(1200)))]
    #[case("1970-01-01T00:00:01Z", Some(Until::Time(1_000)))]
    #[case("0:5,2:7", Some(Until::Offsets([(0, 5), (2, 7)].into())))]
    #[case("-1", None)]
    #[case("0:5,0:6", None)]
    #[case("0:5,", None)]
    #[case("yesterday", None)]
    #[case("", None)]
    fn texts_are_times_or_offsets(#[case] text: &str, #[case] expected: Option<Until>) {
        assert_eq!(text.parse::<Until>().ok(), expected);
    }

    /// The offsets of six records, of which the third is later than those around it, that are taken.
    #[rstest]
    #[case(Until::End, 0, "0 2 4 6 8 10", 0)]
    #[case(Until::Offset(4), 0, "0 2", 0)]
    #[case(Until::Offset(0), 0, "", 0)]
    #[case(Until::Offset(99), 0, "0 2 4 6 8 10", 0)]
    #[case(Until::Offsets([(1, 4)].into()), 0, "0 2 4 6 8 10", 0)]
    #[case(Until::Offsets([(1, 4)].into()), 1, "0 2", 0)]
    #[case::inclusive(Until::Time(1_002), 0, "0 2", 0)]
    #[case::what_stands_behind_a_later_one(Until::Time(1_008), 0, "0 2", 2)]
    fn a_partition_is_cut_once(
        #[case] until: Until,
        #[case] partition: i32,
        #[case] expected: &str,
        #[case] behind: u64,
    ) {
        let mut records: Vec<Record> = (0..6).map(|n| record(n * 2, "x")).collect();
        records[2].timestamp = Timestamp::Created(5_000);
        let mut cut = Cut::new(&until, partition);
        let taken: Vec<String> = records.iter().filter(|r| cut.takes(r)).map(|r| r.offset.to_string()).collect();
        assert_eq!(taken.join(" "), expected);
        assert_eq!((cut.behind, cut.left_out), (behind, 6 - taken.len() as u64));
    }

    #[test]
    fn a_record_without_a_time_is_not_beyond_one() {
        let mut timeless = record(0, "x");
        timeless.timestamp = Timestamp::Absent;
        assert!(Cut::new(&Until::Time(0), 0).takes(&timeless));
    }
}
