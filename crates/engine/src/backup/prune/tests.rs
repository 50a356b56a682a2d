//! Decisions about what is kept, and their carrying out, cut at every step.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use rstest::rstest;

use super::{
    act::{Act, act},
    carry_out::{acts, wal_going},
    command::estimate,
    decide::{Decision, decide},
    room::Room,
    stock::{PointStock, Stock, WalStock},
    *,
};
use crate::backup::{
    Activity, BackupError, Format, Kind, PointSelector, Repository,
    check::{CheckOptions, check},
    fixture::{self, NEEDED, POINT, SYSTEM, size},
    pruned::{PruneReason, Pruned},
    storage,
    topics::{self, Gap, GapReason, TopicArchive},
};
use cdc_model::units::{Exit, Failure, PointId, SystemId, Timeline};
use cdc_postgres::wal::{SegmentName, WalFile};

const DAY: i64 = 24;

fn start() -> Timestamp {
    "2026-11-01T02:00:00Z".parse().unwrap()
}

/// A point of some day, with everything in it, of 100 bytes; its WAL begins at the segment ten times the day.
fn point(day: i64) -> PointStock {
    let begin = start() + SignedDuration::from_hours(DAY * day);
    PointStock {
        id: PointId::new(format!("day-{day:02}")),
        folder: "/p".into(),
        manifest: format!("{day:064x}"),
        number: day as u64,
        pipeline: (Some(SYSTEM), Some("k".into())),
        kind: Kind::Full,
        begin: Some(begin),
        begin_text: begin.to_string(),
        bytes: 100,
        is_usable: true,
        is_good: false,
        records: BTreeSet::new(),
        is_consistent: true,
        start: Some((SYSTEM, 10 * day as u64)),
        adds_to: None,
        base: Some((300, 90)),
    }
}

fn segments(timeline: u32, numbers: impl Iterator<Item = u64>) -> Vec<WalStock> {
    let stock = |number: u64| {
        let file = WalFile::Segment(SegmentName::new(Timeline::literal(timeline), number, size()));
        WalStock { file, path: file.to_string().into(), bytes: 10, is_salvaged: false, number: Some(number) }
    };
    numbers.map(stock).collect()
}

fn stock(points: Vec<PointStock>, wal: Vec<WalStock>) -> Stock {
    let bytes = points.iter().map(|point| point.bytes).sum::<u64>() + wal.iter().map(|file| file.bytes).sum::<u64>();
    Stock { points, wal: [(SYSTEM, wal)].into(), bytes, ..Stock::default() }
}

fn plenty(stock: &Stock) -> Room {
    Room { used: stock.bytes, budget: 1 << 40, free: 1 << 40, for_wal: 0, expected: 0 }
}

fn gone(stock: &Stock, decision: &Decision) -> Vec<(i64, PruneReason)> {
    decision.going.iter().map(|(at, why)| (stock.points[*at].number as i64, *why)).collect()
}

/// What retention removes of points of the days 1 to 10.
fn outdated(keep: Keep, change: impl Fn(&mut PointStock)) -> Vec<i64> {
    let mut points: Vec<PointStock> = (1..=10).map(point).collect();
    points.iter_mut().for_each(change);
    let stock = stock(points, segments(1, 5..=105));
    let decision = decide(&stock, keep, plenty(&stock), start() + SignedDuration::from_hours(DAY * 10));
    gone(&stock, &decision)
        .into_iter()
        .map(|(day, why)| (day, why == PruneReason::Retention))
        .map(|(day, _)| day)
        .collect()
}

#[rstest]
#[case::the_newest_by_count(Keep::Count(3), &[1, 2, 3, 4, 5, 6, 7])]
#[case::all_by_count(Keep::Count(20), &[])]
#[case::one_before_the_days_reaches_into_them(Keep::Days(3), &[1, 2, 3, 4, 5])]
#[case::all_by_days(Keep::Days(9), &[])]
fn retention_keeps_what_it_says(#[case] keep: Keep, #[case] expected: &[i64]) {
    assert_eq!(outdated(keep, |_| {}), expected);
}

#[test]
fn the_last_good_point_stays_whatever_its_age() {
    let good = |days: &'static [u64]| move |point: &mut PointStock| point.is_good = days.contains(&point.number);
    assert_eq!(outdated(Keep::Count(1), good(&[2, 4])), [1, 2, 3, 5, 6, 7, 8, 9]);
    // A good one that a recovery does not start from unasked does not stand for one that it does.
    let odd = |point: &mut PointStock| {
        point.is_good = [2, 4].contains(&point.number);
        point.is_consistent = point.number != 4;
    };
    assert_eq!(outdated(Keep::Count(1), odd), [1, 3, 5, 6, 7, 8, 9]);
    let partial = |point: &mut PointStock| {
        point.is_good = [2, 4].contains(&point.number);
        point.kind = if point.number == 4 { Kind::Selected } else { Kind::Full };
    };
    assert_eq!(outdated(Keep::Count(1), partial), [1, 3, 5, 6, 7, 8, 9]);
}

#[test]
fn a_point_that_cannot_be_used_stands_for_no_other() {
    let newest_unusable = |point: &mut PointStock| point.is_usable = point.number != 10;
    assert_eq!(outdated(Keep::Count(1), newest_unusable), [1, 2, 3, 4, 5, 6, 7, 8]);
    let (_folder, repository) = repository();
    std::fs::remove_file(repository.points_folder().join(KEPT).join("kafka/topics.json")).unwrap();
    let stays = |report: &PruneReport| -> Vec<String> {
        report.points.iter().filter(|p| p.goes.is_none()).map(|p| p.point.to_string()).collect()
    };
    let report = prune(&repository, &PruneOptions { dry_run: true, ..one() }).unwrap();
    assert_eq!(stays(&report), ["20261123T020000Z-8b21", KEPT]);
    assert!(report.notes.iter().any(|note| note.contains(KEPT)), "{:?}", report.notes);
    // WAL that the second one needs and the third one does not.
    let file = WalFile::Segment(fixture::segment(4));
    std::fs::remove_file(repository.archive(SYSTEM).find(&file).unwrap().unwrap().path).unwrap();
    let report = prune(&repository, &PruneOptions { dry_run: true, ..one() }).unwrap();
    assert!(report.notes.iter().any(|note| note.contains("8b21")), "{:?}", report.notes);
}

#[test]
fn points_without_the_database_do_not_count_and_pin_no_wal() {
    let state_only = |point: &mut PointStock| {
        if point.number >= 9 {
            (point.kind, point.start) = (Kind::StateOnly, None);
        }
    };
    assert_eq!(outdated(Keep::Count(2), state_only), [1, 2, 3, 4, 5, 6]);
    let mut points: Vec<PointStock> = [1, 5].map(point).into();
    points[0].start = None;
    let mut stock = stock(points, segments(1, 5..=60));
    let decision = decide(&stock, Keep::Count(9), plenty(&stock), start());
    assert_eq!((decision.going.len(), wal_going(&stock, &decision).len()), (0, 0), "WAL goes with points");
    stock.pruned.keep_from(SYSTEM, fixture::segment(5));
    let decision = decide(&stock, Keep::Count(9), plenty(&stock), start());
    assert_eq!(decision.going, BTreeMap::new());
    assert_eq!(decision.floors, [(SYSTEM, 50)].into());
    assert_eq!(wal_going(&stock, &decision).len(), 45);
}

#[test]
fn a_clock_that_runs_ahead_and_backups_that_stopped_remove_nothing() {
    let points: Vec<PointStock> = (1..=4).map(point).collect();
    let stock = stock(points, Vec::new());
    for years in [1, 100] {
        let later = start() + SignedDuration::from_hours(DAY * 365 * years);
        assert_eq!(decide(&stock, Keep::Days(7), plenty(&stock), later).going, BTreeMap::new());
    }
}

#[test]
fn pipelines_are_decided_apart() {
    let mut points: Vec<PointStock> = (1..=4).map(point).collect();
    points[0].pipeline.1 = Some("another".into());
    (points[1].pipeline, points[1].start) = ((Some(SystemId(9)), Some("k".into())), Some((SystemId(9), 7)));
    let stock = stock(points, segments(1, 5..=45));
    let decision = decide(&stock, Keep::Count(1), plenty(&stock), start());
    assert_eq!(gone(&stock, &decision), [(3, PruneReason::Retention)]);
    assert_eq!(decision.floors, [(SYSTEM, 10)].into(), "of the other cluster no point goes");
}

#[test]
fn wal_of_a_cluster_without_points_stays() {
    let stock = stock(Vec::new(), segments(1, 5..=45));
    let room = Room { budget: 100, ..plenty(&stock) };
    let decision = decide(&stock, Keep::Count(1), room, start());
    assert_eq!(wal_going(&stock, &decision), []);
    assert!(decision.is_short());
}

/// Ten points of 100 bytes with ten segments of 10 bytes each: 2060 bytes in all.
fn ten(budget: u64, expected: u64) -> (Vec<i64>, Decision) {
    let stock = stock((1..=10).map(point).collect(), segments(1, 10..=115));
    assert_eq!(stock.bytes, 2060);
    let room = Room { budget, expected, ..plenty(&stock) };
    let decision = decide(&stock, Keep::Days(30), room, start());
    assert!(decision.going.values().all(|why| *why == PruneReason::Budget));
    (gone(&stock, &decision).into_iter().map(|(day, _)| day).collect(), decision)
}

#[test]
fn the_budget_thins_out_the_oldest_first_and_keeps_room_for_wal() {
    assert_eq!(ten(10_000, 100).0, [0; 0]);
    // A quarter is for WAL at most.
    let (gone, decision) = ten(2400, 0);
    assert_eq!((decision.room.for_wal, gone), (600, vec![1, 2]));
    assert_eq!(decision.room.used, 1660);
    let (gone, decision) = ten(2400, 200);
    assert_eq!(gone, [1, 2, 3]);
    assert!(!decision.is_short());
}

#[test]
fn nothing_is_given_up_in_vain() {
    let (gone, decision) = ten(2800, 5000);
    assert_eq!(gone, [0; 0], "all of them would not be enough");
    assert!(decision.is_short());
    let (gone, decision) = ten(100, 5000);
    assert_eq!(gone.len(), 9, "room for WAL comes first");
    assert!(decision.is_short());
}

#[test]
fn a_disk_that_is_full_counts_as_a_budget() {
    let stock = stock((1..=10).map(point).collect(), segments(1, 10..=115));
    let room = Room { free: 0, expected: 100, ..plenty(&stock) };
    let decision = decide(&stock, Keep::Days(30), room, start());
    assert_eq!(decision.room.for_wal, 515);
    assert!(!decision.is_short() && decision.going.len() == 4, "{decision:?}");
    assert!(decision.room.free >= 615, "{:?}", decision.room);
}

#[test]
fn a_point_is_estimated_by_the_last_one_and_by_what_the_cluster_grew() {
    let points: Vec<PointStock> = (1..=2).map(point).collect();
    // 300 bytes of the cluster became 90 of 100.
    assert_eq!(estimate(&points, true, Some((SYSTEM, 300))), 110);
    assert_eq!(estimate(&points, true, Some((SYSTEM, 600))), 200);
    assert_eq!(estimate(&points, true, Some((SYSTEM, 30))), 110, "it may be compressed worse");
    assert_eq!(estimate(&points, true, None), 110, "the server does not answer");
    assert_eq!(estimate(&points, true, Some((SystemId(9), 600))), 200, "the first of a cluster: a third of it");
    assert_eq!(estimate(&points, false, None), 0, "the first one without the database");
    let without = PointStock { base: None, start: None, bytes: 20, ..point(3) };
    assert_eq!(estimate(&[points.clone(), vec![without]].concat(), false, None), 22);
    let increment = PointStock { base: None, adds_to: Some(1), bytes: 5, ..point(3) };
    assert_eq!(estimate(&[points, vec![increment]].concat(), true, None), 110, "the next one may be a full one");
}

/// Points of the days 1 to 10, of which 4, 5 and 6 add to 3, 4 and 5, and 8, 9 and 10 to 7, 8 and 9.
fn incremental() -> Vec<PointStock> {
    let mut points: Vec<PointStock> = (1..=10).map(point).collect();
    for at in [3, 4, 5, 7, 8, 9] {
        (points[at].adds_to, points[at].base) = (Some(at - 1), None);
    }
    points
}

#[test]
fn what_a_kept_point_adds_to_stays() {
    let count = |count: u32| {
        let stock = stock(incremental(), segments(1, 5..=105));
        let decision = decide(&stock, Keep::Count(count), plenty(&stock), start());
        gone(&stock, &decision).into_iter().map(|(day, _)| day).collect::<Vec<i64>>()
    };
    assert_eq!(count(1), [1, 2, 3, 4, 5, 6]);
    assert_eq!(count(5), [1, 2], "6 stays, and with it all that it adds to");
    let stock = stock(incremental(), Vec::new());
    assert_eq!((stock.below(9), stock.above(3)), (vec![8, 7, 6], vec![4, 5]));
}

#[test]
fn what_adds_to_a_point_that_is_given_up_goes_with_it() {
    let stock = stock(incremental(), segments(1, 10..=115));
    let thinned = |expected: u64| {
        let room = Room { budget: 2700, expected, ..plenty(&stock) };
        let decision = decide(&stock, Keep::Days(30), room, start());
        gone(&stock, &decision).into_iter().map(|(day, _)| day).collect::<Vec<i64>>()
    };
    assert_eq!(thinned(180), [1, 2]);
    assert_eq!(thinned(400), [1, 2, 3, 4, 5, 6], "3 is of no use to 4 once it is gone");
}

#[derive(Clone, Debug)]
struct Case {
    stock: Stock,
    keep: Keep,
    room: Room,
}

fn cases() -> impl Strategy<Value = Case> {
    let kind = prop_oneof![Just(Kind::Full), Just(Kind::Full), Just(Kind::StateOnly), Just(Kind::Selected)];
    let one = (kind, any::<bool>(), any::<(bool, bool)>(), 0u64..3, 0u64..40, 1u64..500, any::<bool>());
    let points = prop::collection::vec(one, 0..12).prop_map(|all| {
        let made = all.into_iter().enumerate().map(
            |(at, (kind, is_good, (is_consistent, is_usable), system, start, bytes, known))| {
                let has_database = kind == Kind::Full || (kind == Kind::Selected && is_good);
                PointStock {
                    kind,
                    is_usable,
                    is_good,
                    is_consistent,
                    bytes,
                    pipeline: (Some(SystemId(system)), known.then(|| "k".into())),
                    start: has_database.then_some((SystemId(system), start)),
                    ..point(at as i64 + 1)
                }
            },
        );
        made.collect::<Vec<PointStock>>()
    });
    // Each may add to one of the same cluster before it.
    let points = (points, prop::collection::vec(0usize..6, 12)).prop_map(|(mut points, back)| {
        for at in 1..points.len() {
            let below = at.checked_sub(back[at]).filter(|below| *below < at);
            points[at].adds_to =
                below.filter(|below| points[*below].start.map(|s| s.0) == points[at].start.map(|s| s.0));
        }
        points
    });
    let wal = prop::collection::btree_map(
        (0u64..3).prop_map(SystemId),
        (1u32..4, 0u64..10, 10u64..60).prop_map(|(timelines, from, to)| {
            (1..=timelines).flat_map(|timeline| segments(timeline, from..=to)).collect::<Vec<_>>()
        }),
        0..3,
    );
    let keep = prop_oneof![(1u32..12).prop_map(Keep::Count), (1u32..12).prop_map(Keep::Days)];
    (points, wal, keep, 0u64..6000, 0u64..6000, 0u64..1000).prop_map(|(points, wal, keep, budget, free, expected)| {
        let bytes = points.iter().map(|point| point.bytes).sum::<u64>()
            + wal.values().flatten().map(|file| file.bytes).sum::<u64>();
        let stock = Stock { points, wal, bytes, ..Stock::default() };
        let room = Room { used: bytes, budget, free, for_wal: 0, expected };
        Case { stock, keep, room }
    })
}

proptest! {
    #[test]
    fn what_must_stay_stays(case in cases(), hours in 0i64..400) {
        let Case { stock, keep, room } = case;
        let decision = decide(&stock, keep, room, start() + SignedDuration::from_hours(hours));
        let pipelines: BTreeSet<_> = stock.points.iter().map(|point| &point.pipeline).collect();
        for pipeline in pipelines {
            let of = stock.points.iter().enumerate().filter(|(_, point)| point.pipeline == *pipeline);
            let newest = |rank: &dyn Fn(&PointStock) -> bool| {
                of.clone().filter(|(_, point)| point.is_usable && rank(point)).map(|(at, _)| at).next_back()
            };
            let full = |point: &PointStock| point.kind == Kind::Full;
            let last_good = newest(&|point| point.is_good && full(point)).or(newest(&|point| point.is_good));
            let last = [last_good, newest(&full), newest(&|_| true)];
            for at in last.into_iter().flatten() {
                prop_assert!(!decision.going.contains_key(&at), "{:?}", stock.points[at]);
            }
        }
        // What a point that stays adds to.
        for at in (0..stock.points.len()).filter(|at| !decision.going.contains_key(at)) {
            let missing = stock.below(at).into_iter().find(|below| decision.going.contains_key(below));
            prop_assert!(missing.is_none(), "point {at} adds to {missing:?}");
        }
        // Every segment on every timeline from the start of each point that stays.
        let going: Vec<(SystemId, &WalStock)> = wal_going(&stock, &decision);
        for (at, point) in stock.points.iter().enumerate().filter(|(at, _)| !decision.going.contains_key(at)) {
            let Some((system, start)) = point.start else { continue };
            let needed = going.iter().find(|(id, file)| *id == system && file.number >= Some(start));
            prop_assert!(needed.is_none(), "point {at} needs {needed:?}");
        }
        for (system, _) in &going {
            prop_assert!(decision.floors.contains_key(system));
        }
        // Sizes add up, and what is short is refused.
        let freed: u64 = decision.going.keys().map(|at| stock.points[*at].bytes).sum::<u64>()
            + going.iter().map(|(_, file)| file.bytes).sum::<u64>();
        prop_assert_eq!(decision.room.used, stock.bytes - freed);
        if !decision.is_short() {
            prop_assert!(decision.room.used + decision.room.for_wal + room.expected <= room.budget);
            prop_assert!(decision.room.for_wal + room.expected <= decision.room.free);
        }
    }

    #[test]
    fn who_decides_again_removes_nothing_more(case in cases()) {
        let Case { stock, keep, room } = case;
        let now = start() + SignedDuration::from_hours(DAY * 20);
        let first = decide(&stock, keep, Room { expected: 0, ..room }, now);
        let wal = stock.wal.iter().map(|(id, files)| {
            (*id, files.iter().filter(|file| !first.takes(*id, file)).cloned().collect())
        });
        let points = stock.points.iter().enumerate().filter(|(at, _)| !first.going.contains_key(at));
        let mut kept: Vec<PointStock> = points.map(|(_, point)| point.clone()).collect();
        for at in 0..kept.len() {
            let below = kept[at].adds_to.map(|below| stock.points[below].id.clone());
            kept[at].adds_to = below.and_then(|below| kept.iter().position(|point| point.id == below));
        }
        let left = Stock {
            points: kept,
            wal: wal.collect(),
            bytes: first.room.used,
            ..Stock::default()
        };
        let again = decide(&left, keep, Room { for_wal: 0, ..first.room }, now);
        prop_assert!(again.going.is_empty(), "{:?} then {:?}", first.going, again.going);
        prop_assert!(wal_going(&left, &again).is_empty());
    }
}

const KEPT: &str = "20261124T020000Z-0c33";
const DEEP: CheckOptions = CheckOptions { deep: true, tools: None, archiving: None };

/// Three points, of which the second begins where the first does, and the third two segments later.
fn repository() -> (tempfile::TempDir, Repository) {
    let (folder, repository) = fixture::repository();
    let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    for number in NEEDED.end() + 2..=9 {
        fixture::archive(&repository, &root, Timeline::FIRST, number);
    }
    std::fs::write(root.join("000000010000000000000003.00000028.backup"), "START WAL LOCATION: 0/300028\n").unwrap();
    let label = root.join("000000010000000000000003.00000028.backup");
    repository.archive(SYSTEM).add_segment(&label, crate::backup::wal::SegmentState::Complete).unwrap();
    fixture::later(&repository, "20261123T020000Z-8b21", |_| {});
    fixture::later(&repository, KEPT, fixture::from_segment_5);
    repository.note_latest(&repository.newest().unwrap().point).unwrap();
    (folder, repository)
}

fn one() -> PruneOptions {
    PruneOptions { keep: Keep::Count(1), budget: 1 << 40, dry_run: false }
}

fn is_whole(repository: &Repository, what: &str) {
    let report = check(repository, &DEEP).unwrap();
    assert_eq!(report.exit(), Exit::Passed, "{what}: {:?}", report.defects);
    assert!(report.points.iter().all(|point| point.usable), "{what}");
    let reach = report.reachable.iter().find(|reach| reach.point.as_str() == KEPT).unwrap();
    assert_eq!((reach.to, &reach.hole), (size().start(10), &None), "{what}");
}

#[test]
fn what_is_outdated_goes_with_the_wal_that_nobody_needs() {
    let (_folder, repository) = repository();
    let before = fixture::tree(repository.path());
    let dry = prune(&repository, &PruneOptions { dry_run: true, ..one() }).unwrap();
    assert_eq!(
        fixture::tree(repository.path()).iter().filter(|name| !name.starts_with("locks/")).collect::<Vec<_>>(),
        before.iter().filter(|name| !name.starts_with("locks/")).collect::<Vec<_>>(),
    );
    let report = prune(&repository, &one()).unwrap();
    assert_eq!(
        PruneReport { dry_run: true, ..report.clone() },
        PruneReport { room: report.room, bytes: report.bytes, ..dry }
    );
    let goes: Vec<bool> = report.points.iter().map(|point| point.goes.is_some()).collect();
    assert_eq!((goes, report.wal_files), (vec![true, true, false], 4), "segments 2 to 4 and a label");
    assert_eq!(repository.point(&PointSelector::Latest).unwrap().id().as_str(), KEPT);
    is_whole(&repository, "afterwards");
    let left = fixture::tree(repository.path());
    assert!(!left.iter().any(|name| name.contains(POINT) || name.contains("8b21")), "{left:?}");
    assert_eq!(repository.next_in_chain().unwrap().number, 4);
    let again = prune(&repository, &one()).unwrap();
    assert_eq!((again.bytes, again.wal_files), (0, 0));
    // What is archived again is no defect, and goes again.
    let root = Utf8PathBuf::from_path_buf(_folder.path().to_owned()).unwrap();
    fixture::archive(&repository, &root, Timeline::FIRST, 3);
    is_whole(&repository, "with WAL that was archived again");
    assert_eq!(prune(&repository, &one()).unwrap().wal_files, 1);
}

/// The same with records of a topic, of which two backups go, and points of which the second adds to the first; in a bucket, if that is asked
/// for.
fn with_all(in_a_bucket: bool) -> (tempfile::TempDir, Repository) {
    let (folder, repository) = repository();
    let archive = TopicArchive::of(repository.store(), Some("c"), "t");
    for (nth, id) in ["20261121T020000Z-0001", "20261122T020000Z-0002", "20261125T020000Z-0003"].into_iter().enumerate()
    {
        let previous = archive.newest().unwrap().map(|newest| newest.link());
        let from = 3 + 3 * nth as i64;
        let mut part = topics::tests::partition(&archive, 0, &[(from, from + 3)]);
        part.gaps = vec![Gap { from: 0, to: from, why: GapReason::Removed }];
        topics::tests::publish(&archive, id, previous, vec![part]);
    }
    match in_a_bucket {
        true => {
            let there = Repository::open(&fixture::in_a_bucket(repository.path())).unwrap();
            (folder, there)
        }
        false => (folder, repository),
    }
}

#[rstest]
fn a_removal_that_is_killed_anywhere_harms_nothing_and_goes_on(#[values(false, true)] in_a_bucket: bool) {
    let (_folder, whole) = with_all(in_a_bucket);
    prune(&whole, &one()).unwrap();
    let expected = names(&whole);
    let segments = expected.iter().filter(|name| name.contains("/t/objects/")).count();
    assert_eq!(segments, 1, "of the three backups of a topic one is left: {expected:?}");
    let mut steps = 1;
    let mut done = 0;
    while done <= steps {
        let (folder, repository) = with_all(in_a_bucket);
        let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        let lock = repository.lock(Activity::Maintain, "backup prune").unwrap();
        let stock = super::stock::Stock::of(&repository).unwrap();
        let now = Timestamp::now();
        let decision = decide(&stock, Keep::Count(1), plenty(&stock), now);
        let all: Vec<Act> = acts(&stock, &decision, now).unwrap();
        steps = all.len();
        for step in &all[..done.min(steps)] {
            act(&repository, &lock, step).unwrap();
        }
        drop(lock);
        let what = format!("after {done} of {steps} steps");
        is_whole(&repository, &what);
        // No point that was announced to go is one, and WAL is archived meanwhile.
        let points: Vec<String> = repository.points().unwrap().into_iter().map(|point| point.point.0).collect();
        let there = if done == 0 { 3 } else { 1 };
        assert_eq!((points.len(), points.last().map(String::as_str)), (there, Some(KEPT)), "{what}");
        fixture::archive(&repository, &root, Timeline::FIRST, 10);
        prune(&repository, &one()).unwrap();
        let left = names(&repository);
        assert_eq!(
            left.iter().filter(|name| !name.contains("00000A")).collect::<Vec<_>>(),
            expected.iter().collect::<Vec<_>>(),
            "{what}"
        );
        done += 1;
    }
    assert!(steps > 30, "{steps}");
}

/// The files of a repository; manifests have random parts in their names.
fn names(repository: &Repository) -> Vec<String> {
    let root = repository.path();
    let below = storage::files_below(root).unwrap().into_iter();
    let mut files: Vec<String> = below.map(|(path, _)| path.strip_prefix(root).unwrap().to_string()).collect();
    files.sort();
    let files = files.into_iter().filter(|name| !name.starts_with("locks/"));
    files.map(|name| if name.contains("/manifest-") { "manifest".to_owned() } else { name }).collect()
}

#[test]
fn a_half_removed_point_is_no_point_even_without_what_announced_it() {
    let (_folder, repository) = repository();
    let lock = repository.lock(Activity::Maintain, "backup prune").unwrap();
    let stock = super::stock::Stock::of(&repository).unwrap();
    let decision = decide(&stock, Keep::Count(1), plenty(&stock), Timestamp::now());
    let all = acts(&stock, &decision, Timestamp::now()).unwrap();
    for step in &all[..2] {
        act(&repository, &lock, step).unwrap();
    }
    fixture::flip(&Pruned::path(repository.path()));
    let found: Vec<bool> = repository.finished().unwrap().iter().map(Result::is_ok).collect();
    assert_eq!(found, [false, true, true]);
    drop(lock);
    let error = prune(&repository, &one()).unwrap_err();
    assert_eq!(error.exit(), Exit::ChecksumMismatch, "nothing goes while it is not known what went");
}

#[test]
fn what_is_lost_after_a_removal_is_missed() {
    let (folder, repository) = repository();
    let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    let second = Timeline::literal(2);
    let history = root.join("00000002.history");
    std::fs::write(&history, "1\t0/480000\tno recovery target specified\n").unwrap();
    repository.archive(SYSTEM).add_segment(&history, crate::backup::wal::SegmentState::Complete).unwrap();
    for number in 4..=7 {
        fixture::archive(&repository, &root, second, number);
    }
    fixture::later(&repository, "20261125T020000Z-0d44", fixture::from_segment_5);
    let report = prune(&repository, &PruneOptions { keep: Keep::Count(2), ..one() }).unwrap();
    assert_eq!(report.wal_files, 5, "segment 4 of timeline 2 too");
    is_whole(&repository, "afterwards");
    let lost = |path: &Utf8Path, named: &str| {
        let aside = root.join("aside");
        std::fs::rename(path, &aside).unwrap();
        let defects = check(&repository, &DEEP).unwrap().defects;
        assert_eq!(defects.iter().map(|defect| defect.path.as_str()).collect::<Vec<_>>(), [named], "{defects:?}");
        std::fs::rename(&aside, path).unwrap();
    };
    // The first of a timeline that was kept, and that no point names.
    let first = WalFile::Segment(SegmentName::new(second, 5, size()));
    let archive = repository.archive(SYSTEM);
    let place = archive.place(&first);
    lost(&archive.find(&first).unwrap().unwrap().path, place.strip_prefix(repository.path()).unwrap().as_str());
    lost(&repository.points_folder().join(KEPT), &format!("points/{KEPT}"));
    is_whole(&repository, "with everything in its place");
}

#[test]
fn what_recoveries_salvaged_goes_with_the_wal_around_it() {
    let (_folder, repository) = repository();
    let salvage = repository.salvaged(SYSTEM);
    std::fs::create_dir_all(&salvage).unwrap();
    for number in [4, 5] {
        std::fs::write(salvage.join(fixture::segment(number).to_string()), "the last segment of an old server")
            .unwrap();
    }
    assert_eq!(prune(&repository, &one()).unwrap().wal_files, 5);
    assert_eq!(fixture::tree(&salvage), [fixture::segment(5).to_string()]);
    is_whole(&repository, "with a salvaged segment");
}

#[test]
fn good_points_are_those_that_passed_a_deep_check() {
    let (_folder, repository) = repository();
    assert!(prune(&repository, &PruneOptions { dry_run: true, ..one() }).unwrap().points.iter().all(|p| !p.good));
    check(&repository, &DEEP).unwrap();
    fixture::later(&repository, "20261125T020000Z-0d44", fixture::from_segment_5);
    let report = prune(&repository, &one()).unwrap();
    let stays: Vec<(&str, bool)> =
        report.points.iter().filter(|p| p.goes.is_none()).map(|p| (p.point.as_str(), p.good)).collect();
    assert_eq!(stays, [(KEPT, true), ("20261125T020000Z-0d44", false)]);
}

#[test]
fn a_damaged_point_stays_and_is_named() {
    let (_folder, repository) = repository();
    let first = repository.points_folder().join(POINT);
    fixture::flip(&fixture::manifest_of(&repository, &first));
    let report = prune(&repository, &one()).unwrap();
    assert!(report.notes.iter().any(|note| note.contains(POINT) && note.contains("damaged")), "{:?}", report.notes);
    assert!(first.join("pg/base.tar.zst").exists());
    assert!(!repository.points_folder().join("20261123T020000Z-8b21").exists());
}

#[rstest]
#[case(Activity::Create)]
#[case(Activity::Recover)]
#[case(Activity::Maintain)]
fn it_is_refused_beside_those_who_need_points(#[case] other: Activity) {
    let (_folder, repository) = repository();
    let before = names(&repository);
    let _at_work = repository.lock(other, "somebody").unwrap();
    assert_eq!(prune(&repository, &one()).unwrap_err().exit(), Exit::LockHeld);
    assert_eq!(names(&repository), before);
}

#[test]
fn format_1_is_refused_with_the_way_out() {
    let (_folder, repository) = fixture::repository_of(Format::One);
    let error = prune(&repository, &one()).unwrap_err();
    assert!(matches!(error, BackupError::OldFormat { .. }), "{error}");
    assert_eq!(error.exit(), Exit::PlanImpossible);
    assert!(error.hints()[0].to_string().contains("backup upgrade"));
}

#[test]
fn a_budget_that_cannot_be_met_ends_with_35_and_leaves_the_last_point() {
    let (_folder, repository) = repository();
    let report = prune(&repository, &PruneOptions { keep: Keep::Days(7), budget: 100, dry_run: false }).unwrap();
    assert_eq!(report.exit(), Exit::BudgetExceeded);
    assert!(report.points.iter().filter(|point| point.goes == Some(PruneReason::Budget)).count() == 2);
    is_whole(&repository, "over the budget");
}
