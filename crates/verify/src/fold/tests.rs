//! The fold's own rules.

use rstest::rstest;

use super::{
    loose::{ImageColumns, Range},
    order::{Clock, Position},
    partition::PartitionFold,
    seen::{Place, Use},
    topic::TopicFold,
};
use crate::decode::{
    record::{Event, Meta, Op, Unreadable},
    row::{Cell, push},
};
use cdc_model::units::SchemaId;

fn at(partition: i32, offset: i64, lsn: u64, made_ns: i64) -> Position {
    Position { partition, offset, lsn, made_ns }
}

/// Times are known apart from the precision of the coarser one on, and beyond what the clock stepped back.
#[rstest]
#[case::a_nanosecond_apart(0, 5_001_002, 5_001_001, Some(true))]
#[case::a_millisecond_apart(0, 6_000_000, 5_000_000, Some(true))]
#[case::less_than_a_millisecond(0, 5_999_999, 5_000_000, None)]
#[case::a_microsecond_apart(0, 5_002_000, 5_001_000, Some(true))]
#[case::less_than_a_microsecond(0, 5_001_999, 5_001_000, None)]
#[case::as_far_as_it_stepped_back(1000, 5_002_000, 5_001_000, None)]
#[case::further(999, 5_002_000, 5_001_000, Some(true))]
#[case::one_unknown(0, 5_002_000, 0, None)]
fn times_order_events(#[case] back_ns: i64, #[case] a: i64, #[case] b: i64, #[case] after: Option<bool>) {
    let clock = Clock { back_ns };
    assert_eq!(clock.by_time(a, b), after);
    assert_eq!(clock.by_time(b, a), after.map(|after| !after));
}

#[rstest]
#[case::the_offset_in_a_partition(at(0, 2, 10, 1), at(0, 1, 20, 2_000_001), Some(true))]
#[case::the_position_without_times(at(0, 1, 20, 0), at(1, 2, 10, 0), Some(true))]
#[case::the_time_without_positions(at(0, 1, 0, 3_000_000), at(1, 2, 10, 1_000_000), Some(true))]
#[case::neither(at(0, 1, 10, 0), at(1, 2, 10, 0), None)]
#[case::against_one_another(at(0, 1, 10, 3_000_000), at(1, 2, 20, 1_000_000), None)]
fn events_are_ordered_by(#[case] a: Position, #[case] b: Position, #[case] after: Option<bool>) {
    assert_eq!(Clock::default().after(a, b), after);
    assert_eq!(Clock::default().after(b, a), after.map(|after| !after));
}

fn event(op: Op, made_ns: i64) -> Event<'static> {
    let meta = Meta { op, made_ns, key_schema: Some(SchemaId(7)), ..Meta::NONE };
    Event { meta, key: None, before: None, after: None, unavailable: false }
}

#[test]
fn a_partition_counts_operations_ids_and_how_far_times_stepped_back() {
    let mut fold = PartitionFold::new(3, false, None);
    for (offset, op, made_ns) in [(10, Op::Other, 50), (11, Op::Other, 20), (12, Op::Create, 40), (9, Op::Other, 90)] {
        fold.apply(&event(op, made_ns), offset);
    }
    assert_eq!(fold.ops, [(Op::Other, 3), (Op::Create, 1)].into());
    assert_eq!((fold.records, fold.back_ns), (4, 30), "an earlier record says nothing of the clock");
    assert_eq!(fold.ids[&(Place::Key, SchemaId(7))], Use { records: 4, first: (3, 10) });
    fold.problem(13, Unreadable { schema: None, wrong_schema: false, expected: "a".into(), found: "b".into() });
    assert_eq!((fold.records, fold.problems_total), (5, 1));
}

#[rstest]
#[case::read_of_an_initial_snapshot(Op::Read, true, true)]
#[case::read_that_does_not_name_its_snapshot(Op::Read, false, true)]
#[case::other_event_that_names_its_snapshot(Op::Create, true, true)]
#[case::streamed(Op::Create, false, false)]
fn an_event_is_logged_as_of_a_snapshot(#[case] op: Op, #[case] snapshot: bool, #[case] logged: bool) {
    let mut fold = PartitionFold::new(0, true, None);
    fold.apply(&Event { meta: Meta { snapshot, ..event(op, 0).meta }, ..event(op, 0) }, 0);
    assert_eq!(fold.log.iter().flatten().map(|e| e.snapshot).collect::<Vec<_>>(), [logged]);
}

/// Equal images of events without a position may be of one change or of two. Reads are exempt where several snapshots
/// are told apart: each counts what it has read.
#[rstest]
#[case::inserts(&[(Op::Create, "a"), (Op::Create, "a")], &["a"])]
#[case::inserts_before_a_snapshot(&[(Op::Create, "a"), (Op::Create, "a"), (Op::Read, "b")], &["a"])]
#[case::reads_of_the_first_snapshot(&[(Op::Read, "a"), (Op::Read, "a"), (Op::Create, "b")], &["a"])]
#[case::reads_of_a_later_snapshot(&[(Op::Create, "b"), (Op::Read, "a"), (Op::Read, "a")], &[])]
#[case::different_inserts(&[(Op::Create, "a"), (Op::Create, "b")], &[])]
fn images_that_may_have_been_delivered_again(#[case] events: &[(Op, &str)], #[case] expected: &[&str]) {
    let packed = |text: &str| {
        let mut row = Vec::new();
        push(&mut row, Cell::Text(text.as_bytes()));
        row
    };
    let mut partition = PartitionFold::new(0, false, None);
    for ((op, text), offset) in events.iter().zip(0..) {
        partition.apply(&Event { after: Some(&packed(text)), ..event(*op, 0) }, offset);
    }
    let fold = TopicFold { partitions: vec![partition], ..TopicFold::default() };
    let found = fold.loose(&ImageColumns { keep: &[true], certain: &|_, _| true }).either;
    let one = |text: &&str| (packed(text).into_boxed_slice(), Range { fewer: 1, more: 0 });
    assert_eq!(found, expected.iter().map(one).collect());
}
