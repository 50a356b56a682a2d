//! `history`: the records of a topic that lost them are there again.

use std::collections::BTreeMap;

use crate::observation::{Expectation, HeldRecord, Observation};
use cdc_model::{
    event::{CheckReport, Evidence, Finding, FindingKind},
    units::counted,
    vocabulary::CheckId,
};

/// Compares what each topic held before it lost its records with what it begins with now, partition by partition and record by record.
/// Offsets may be others: the first record that was held must be the first that is there, and none may stand between two of them.
pub(super) fn history(seen: &Observation, expected: &Expectation<'_>) -> CheckReport {
    let (mut findings, mut compared) = (Vec::new(), 0);
    for (topic, held) in &expected.held {
        let there = seen.held.get(topic).map(Vec::as_slice).unwrap_or_default();
        let there = by_partition(there);
        for (partition, held) in by_partition(held) {
            compared += held.len() as u64;
            let now = there.get(&partition).map(Vec::as_slice).unwrap_or_default();
            findings.extend(held.iter().enumerate().filter_map(|(nth, record)| missed(topic, nth, record, now)));
        }
    }
    let topics = counted(expected.held.len(), "topic");
    let notes = vec![format!("{records} of {topics} compared", records = counted(compared, "record"))];
    CheckId::History.report(compared, notes, findings)
}

fn by_partition(records: &[HeldRecord]) -> BTreeMap<i32, Vec<&HeldRecord>> {
    let mut partitions: BTreeMap<i32, Vec<&HeldRecord>> = BTreeMap::new();
    for record in records {
        partitions.entry(record.partition).or_default().push(record);
    }
    partitions
}

/// What is wrong with the `nth` record of a partition: it is nowhere in it, or something else is in its place.
fn missed(topic: &str, nth: usize, held: &HeldRecord, now: &[&HeldRecord]) -> Option<Finding> {
    let difference = match now.get(nth) {
        Some(there) => held.difference(there)?,
        None => "nothing",
    };
    let elsewhere = now.iter().find(|there| held.difference(there).is_none());
    let (kind, found) = match (elsewhere, now.get(nth)) {
        (Some(there), _) => (FindingKind::Different, format!("it is at offset {}", there.offset)),
        (None, Some(there)) if held.key == there.key && held.value == there.value => {
            (FindingKind::Different, format!("{difference}, at offset {}", there.offset))
        }
        (None, _) => (FindingKind::Lost, "it is not in the partition".to_owned()),
    };
    Some(Finding {
        topic: Some(topic.to_owned()),
        partition: Some(held.partition),
        offset: Some(held.offset),
        expected: Some(format!("record {} of the partition is the one that was at offset {}", nth + 1, held.offset)),
        found: Some(found),
        evidence: Some(Evidence::Record { key: held.key.clone(), value: held.value.clone() }),
        ..Finding::new(kind)
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use cdc_model::units::{Offset, Verdict};

    /// Three records of partition 0 and one of partition 1, of which the second and third have the same key.
    fn held() -> Vec<HeldRecord> {
        let record = |partition, offset: i64, key: &str| HeldRecord {
            partition,
            offset: Offset(offset),
            timestamp_ms: Some(1_000 + offset),
            key: Some(key.to_owned()),
            value: Some(format!("v{offset}")),
            headers: vec![("h".to_owned(), None), ("h".to_owned(), Some(String::new()))],
        };
        vec![record(0, 5, "a"), record(0, 7, "b"), record(0, 8, "b"), record(1, 0, "c")]
    }

    fn judged(there: Vec<HeldRecord>) -> CheckReport {
        let of = |records| BTreeMap::from([("t".to_owned(), records)]);
        let seen = Observation { held: of(there), ..Observation::default() };
        history(&seen, &Expectation { held: of(held()), ..Expectation::default() })
    }

    #[test]
    fn records_are_equal_at_other_offsets_and_before_new_ones() {
        let mut there = held();
        there.iter_mut().for_each(|record| record.offset.0 += 100);
        let later = HeldRecord { offset: Offset(200), value: None, ..there[0].clone() };
        there.insert(3, later);
        let report = judged(there);
        assert_eq!((report.verdict, report.compared), (Verdict::Passed, 4), "{report:?}");
    }

    #[rstest]
    #[case::key(|r: &mut Vec<HeldRecord>| r[1].key = None, FindingKind::Lost)]
    #[case::value(|r: &mut Vec<HeldRecord>| r[1].value = None, FindingKind::Lost)]
    #[case::headers_order(|r: &mut Vec<HeldRecord>| r[1].headers.reverse(), FindingKind::Different)]
    #[case::timestamp(|r: &mut Vec<HeldRecord>| r[1].timestamp_ms = Some(9), FindingKind::Different)]
    #[case::order(|r: &mut Vec<HeldRecord>| r.swap(1, 2), FindingKind::Different)]
    #[case::one_is_missing(|r: &mut Vec<HeldRecord>| drop(r.remove(1)), FindingKind::Lost)]
    #[case::one_came_before(|r: &mut Vec<HeldRecord>| { let new = HeldRecord { value: None, ..r[0].clone() }; r.insert(0, new) }, FindingKind::Different)]
    #[case::another_partition(|r: &mut Vec<HeldRecord>| r[3].partition = 0, FindingKind::Lost)]
    #[case::no_topic(|r: &mut Vec<HeldRecord>| r.clear(), FindingKind::Lost)]
    fn a_planted_mistake_is_found(#[case] plant: fn(&mut Vec<HeldRecord>), #[case] kind: FindingKind) {
        let mut there = held();
        plant(&mut there);
        let report = judged(there);
        assert_eq!(report.verdict, Verdict::Failed);
        assert!(report.findings.iter().any(|finding| finding.kind == kind), "{report:?}");
    }

    #[test]
    fn comparing_nothing_fails() {
        let report = history(&Observation::default(), &Expectation::default());
        assert_eq!(report.verdict, Verdict::Failed);
    }
}
