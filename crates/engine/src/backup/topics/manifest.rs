//! What a backup of a topic's records consists of, and whether it is complete.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::segment::Named;
use cdc_model::units::{Offset, SchemaId, counted};
use cdc_pipeline::client::kafka::TopicSpec;

/// The layout of this file.
pub(crate) const FORMAT: u32 = 1;

/// A backup of a topic's records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicBackup {
    /// The layout of this file: 1.
    pub format: u32,
    /// Its id, which begins with the time at which it began.
    pub backup: String,
    /// The backup of the topic before it.
    pub previous: Option<PreviousBackup>,
    /// The topic.
    pub topic: String,
    /// The topic's id, in base64: one that was deleted and made again has another. Brokers before 2.8 give none.
    pub topic_id: Option<String>,
    /// The Kafka cluster's id.
    pub cluster_id: Option<String>,
    /// When the first record was asked for, RFC 3339.
    pub begin: String,
    /// When everything was written.
    pub end: String,
    /// Partitions, replicas and settings.
    pub spec: TopicSpec,
    /// What it holds of each partition, by number.
    pub partitions: Vec<PartitionBackup>,
    /// What consumer groups had committed for the topic.
    pub groups: Vec<CommittedGroup>,
    /// The schema ids that stand in its records.
    pub schemas: Schemas,
    /// What could not be looked at or is not as it may be expected.
    pub notes: Vec<String>,
    /// Of an encrypted repository what was said of earlier backups and could not be read: whoever takes the next one hands it on.
    #[serde(skip)]
    pub(crate) unread: Vec<String>,
}

impl TopicBackup {
    /// How many records it holds.
    pub fn records(&self) -> u64 {
        self.partitions.iter().flat_map(|partition| &partition.segments).map(|segment| segment.records).sum()
    }

    /// The bytes of its segments as they are stored.
    pub fn bytes(&self) -> u64 {
        self.partitions.iter().flat_map(|partition| &partition.segments).map(SegmentOf::stored).sum()
    }
}

/// The backup before a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousBackup {
    /// Its id.
    pub backup: String,
    /// The hash of its manifest.
    pub manifest: String,
}

/// What a backup holds of a partition: everything from offset 0 to `end` is in a segment or in a gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionBackup {
    /// Its number.
    pub partition: i32,
    /// Where the log began.
    pub log_start: i64,
    /// Where the backup ends, exclusive: the last stable offset when it began.
    pub end: i64,
    /// The offset after the last record then. What lies between belonged to, or followed, a transaction that was open.
    pub high_watermark: i64,
    /// Its segments, in order.
    pub segments: Vec<SegmentOf>,
    /// What is in no segment, in order.
    pub gaps: Vec<Gap>,
}

/// A segment of a partition. Offsets of its range at which it has no record had none that could be read: of compacted records, of aborted
/// ones, or of the markers of transactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentOf {
    /// Its file: first offset, hash and size.
    pub name: String,
    /// Its first offset.
    pub from: i64,
    /// Its end, exclusive.
    pub to: i64,
    /// How many records it holds.
    pub records: u64,
    /// The size of its content.
    pub raw: u64,
    /// The earliest timestamp in it, in milliseconds since the Unix epoch.
    pub earliest: Option<i64>,
    /// The latest.
    pub latest: Option<i64>,
}

impl SegmentOf {
    /// Its size as it is stored.
    pub fn stored(&self) -> u64 {
        Named::parse(&self.name).map_or(0, |named| named.stamp.size)
    }
}

/// A range of offsets that is in no segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Its first offset.
    pub from: i64,
    /// Its end, exclusive.
    pub to: i64,
    /// Why.
    pub why: GapReason,
}

/// Why a range of offsets is in no segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapReason {
    /// The log began behind it: retention, or a request to delete records, had removed it before it was read.
    Removed,
    /// The log reached over it and had no record there: of compacted or aborted records, or markers of transactions.
    NoRecords,
}

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let why = match self.why {
            GapReason::Removed => "removed before they were read",
            GapReason::NoRecords => "no committed record there",
        };
        write!(f, "offsets {} to {}: {why}", self.from, self.to - 1)
    }
}

/// What a group had committed for a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedGroup {
    /// Its name.
    pub group: String,
    /// The next offset that it reads, by partition.
    pub offsets: BTreeMap<i32, Offset>,
}

/// The schema ids that stand in a topic's records, as serialisers of Confluent's format write them: a zero byte and four bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schemas {
    /// Each id, with what it meant to the registry.
    pub ids: BTreeMap<SchemaId, SchemaMeaning>,
    /// Whether ids were met beyond those that are named: more than any registry has.
    pub beyond: bool,
    /// Headers of records that name a schema; nobody has compared what they name with a registry.
    pub headers: Vec<String>,
}

/// What a schema id meant to the registry when the backup was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SchemaMeaning {
    /// The checksum of the schema's text.
    Schema(String),
    /// The registry knew no such id: bytes that only look like one, or a schema that was lost before.
    Unknown,
    /// The registry was not asked, or did not answer.
    NotAsked,
}

/// What is wrong with the ranges of a partition: they must follow one another from 0 to its end.
pub(crate) fn discontinuities(partition: &PartitionBackup) -> Vec<String> {
    let segments = partition.segments.iter().map(|s| (s.from, s.to, s.name.as_str()));
    let gaps = partition.gaps.iter().map(|gap| (gap.from, gap.to, "a gap"));
    let mut ranges: Vec<(i64, i64, &str)> = segments.chain(gaps).collect();
    ranges.sort_unstable();
    let (mut next, mut wrong) = (0, Vec::new());
    for (from, to, what) in ranges {
        if from > next {
            wrong.push(format!("offsets {next} to {} are in no segment and no recorded gap", from - 1));
        } else if from < next {
            wrong.push(format!("offset {from} is twice: {what} begins before offset {next}"));
        }
        if to <= from {
            wrong.push(format!("{what}: it begins at offset {from} and its end is {to}"));
        }
        next = next.max(to);
    }
    if next != partition.end {
        wrong.push(format!("expected the end {}, found {next}", partition.end));
    }
    for segment in &partition.segments {
        let named = Named::parse(&segment.name);
        if named.is_none_or(|named| named.from != segment.from) {
            wrong.push(format!("{} is no name of a segment that begins at offset {}", segment.name, segment.from));
        }
        if segment.records as i128 > i128::from(segment.to) - i128::from(segment.from) {
            let records = counted(segment.records, "record");
            wrong.push(format!("{records} in offsets {} to {}", segment.from, segment.to - 1));
        }
    }
    wrong
}

/// What an earlier backup has of a partition that a later one goes on with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Continued {
    pub(crate) segments: Vec<SegmentOf>,
    pub(crate) gaps: Vec<Gap>,
    /// Where reading begins.
    pub(crate) from: i64,
}

/// Goes on with a partition, of which segments up to the first that is not `usable` are taken over, where the log begins at `log_start`
/// now. What lies between is a gap.
pub(crate) fn go_on(earlier: &PartitionBackup, usable: impl Fn(&SegmentOf) -> bool, log_start: i64) -> Continued {
    let unusable = earlier.segments.iter().find(|segment| !usable(segment)).map(|segment| segment.from);
    let known = unusable.unwrap_or(earlier.end);
    let segments = earlier.segments.iter().filter(|segment| segment.to <= known).cloned().collect();
    let gaps = earlier.gaps.iter().filter(|gap| gap.to <= known).cloned().collect();
    let mut continued = Continued { segments, gaps, from: known };
    continued.begin_at(log_start);
    continued
}

impl Continued {
    /// Passes over what the log does not have any more.
    pub(crate) fn begin_at(&mut self, log_start: i64) {
        if log_start > self.from {
            self.gaps.push(Gap { from: self.from, to: log_start, why: GapReason::Removed });
            self.from = log_start;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::format::stamp::Stamp;
    use proptest::prelude::*;
    use rstest::rstest;

    fn segment(from: i64, to: i64) -> SegmentOf {
        let name = Named { from, stamp: Stamp::of(&"0".repeat(64), 7), is_encrypted: false }.to_string();
        SegmentOf { name, from, to, records: 1, raw: 1, earliest: None, latest: None }
    }

    fn gap(from: i64, to: i64) -> Gap {
        Gap { from, to, why: GapReason::Removed }
    }

    fn partition(segments: &[(i64, i64)], gaps: &[(i64, i64)], end: i64) -> PartitionBackup {
        PartitionBackup {
            partition: 0,
            log_start: 0,
            end,
            high_watermark: end,
            segments: segments.iter().map(|(from, to)| segment(*from, *to)).collect(),
            gaps: gaps.iter().map(|(from, to)| gap(*from, *to)).collect(),
        }
    }

    #[rstest]
    #[case::nothing(&[], &[], 0, "")]
    #[case::one(&[(0, 9)], &[], 9, "")]
    #[case::with_gaps(&[(3, 9), (10, 12)], &[(0, 3), (9, 10)], 12, "")]
    #[case::a_lost_segment(&[(0, 4), (9, 12)], &[], 12, "offsets 4 to 8 are in no segment")]
    #[case::a_lost_first_one(&[(4, 12)], &[], 12, "offsets 0 to 3 are in no segment")]
    #[case::a_lost_last_one(&[(0, 4)], &[], 12, "expected the end 12, found 4")]
    #[case::twice(&[(0, 6), (4, 12)], &[], 12, "offset 4 is twice")]
    #[case::a_segment_in_a_gap(&[(0, 12)], &[(4, 6)], 12, "offset 4 is twice")]
    #[case::beyond_the_end(&[(0, 14)], &[], 12, "expected the end 12, found 14")]
    #[case::an_empty_one(&[(0, 12), (12, 12)], &[], 12, "begins at offset 12 and its end is 12")]
    fn ranges_follow_one_another(
        #[case] segments: &[(i64, i64)],
        #[case] gaps: &[(i64, i64)],
        #[case] end: i64,
        #[case] expected: &str,
    ) {
        let wrong = discontinuities(&partition(segments, gaps, end)).join("; ");
        assert_eq!(wrong.is_empty(), expected.is_empty(), "{wrong}");
        assert!(wrong.contains(expected), "{wrong}");
    }

    #[test]
    fn more_records_than_offsets_are_noticed() {
        let mut wrong = partition(&[(0, 3)], &[], 3);
        wrong.segments[0].records = 4;
        assert_eq!(discontinuities(&wrong).len(), 1);
        wrong.segments[0].records = 3;
        wrong.segments[0].name = "x".into();
        assert_eq!(discontinuities(&wrong).len(), 1);
    }

    #[test]
    fn a_later_backup_goes_on_where_the_earlier_one_ended() {
        let earlier = partition(&[(2, 5), (5, 9)], &[(0, 2)], 9);
        let all = |_: &SegmentOf| true;
        let continued = go_on(&earlier, all, 4);
        assert_eq!((continued.segments.len(), continued.gaps.len(), continued.from), (2, 1, 9));
        let removed = go_on(&earlier, all, 12);
        assert_eq!((removed.gaps.last(), removed.from), (Some(&gap(9, 12)), 12));
    }

    #[test]
    fn what_is_lost_of_the_archive_is_read_again_where_the_topic_has_it() {
        let earlier = partition(&[(2, 5), (5, 9), (9, 11)], &[(0, 2), (11, 13)], 13);
        let lost = |s: &SegmentOf| s.from != 5;
        let continued = go_on(&earlier, lost, 0);
        assert_eq!((continued.segments, continued.gaps, continued.from), (vec![segment(2, 5)], vec![gap(0, 2)], 5));
        let gone = go_on(&earlier, lost, 7);
        assert_eq!((gone.gaps, gone.from), (vec![gap(0, 2), gap(5, 7)], 7));
    }

    proptest! {
        #[test]
        fn what_goes_on_is_continuous_again(
            cuts in proptest::collection::btree_set(1..1_000_i64, 1..20), lost in any::<Option<prop::sample::Index>>(),
            start in 0..1_200_i64, gaps in proptest::collection::vec(any::<bool>(), 20)
        ) {
            let mut earlier = partition(&[], &[], *cuts.last().unwrap());
            let mut from = 0;
            for (to, is_gap) in cuts.iter().zip(gaps) {
                match is_gap {
                    true => earlier.gaps.push(gap(from, *to)),
                    false => earlier.segments.push(segment(from, *to)),
                }
                from = *to;
            }
            prop_assert!(discontinuities(&earlier).is_empty());
            let lost = lost.filter(|_| !earlier.segments.is_empty()).map(|i| i.get(&earlier.segments).from);
            let continued = go_on(&earlier, |s| Some(s.from) != lost, start);
            prop_assert!(continued.from >= start.min(earlier.end));
            let now = PartitionBackup {
                end: continued.from, segments: continued.segments, gaps: continued.gaps, ..earlier
            };
            prop_assert_eq!(discontinuities(&now), Vec::<String>::new());
        }
    }
}
