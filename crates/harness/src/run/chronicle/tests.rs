//! Plants mistakes in what is expected. Each case is a story in which a plausible but wrong computation would make a broken pipeline
//! green, or a sound one red; what must be expected instead stands beside it, in a short form that the helpers below print.

use std::collections::BTreeMap;

use indoc::indoc;
use rstest::rstest;

use super::*;
use crate::scenario::{Fault, Library, Recover};
use cdc_model::{
    event::FindingKind,
    units::{Epoch, Lsn, Offset, PointId, SchemaId, TableName, Timeline, TopicPartition},
    vocabulary::CheckId,
};
use cdc_verify::{
    Expectation, PointView, RegistryView,
    observation::{Fate, NewerVersions, SubjectView, VersionView},
};
use cdc_workload::{
    Row,
    ledger::{Commit, Entry, Ledger, Outcome, TableState, Tables},
};

// ---------------------------------------------------------------------------------------------------------------------
// Stories

/// A drill named `d` with one connector, the tables `public.a` and `public.b`, and two partitions a topic.
struct Story(Chronicle);

fn story() -> Story {
    let source = Source {
        name: "d".into(),
        config: BTreeMap::from([("topic.prefix".to_owned(), "d".to_owned())]),
        tables: vec![TableName::new("public", "a"), TableName::new("public", "b")],
        markers: TableName::new("public", "b"),
    };
    let layout = Layout { name: "d".into(), sources: vec![source], own_registry: false };
    let terms = Terms { checks: CheckId::ALL.into(), partitions: 2, ..Terms::default() };
    Story(Chronicle::new(terms, layout, Timeline::literal(1)))
}

fn asked(text: &str) -> Recover {
    serde_json::from_str(text).unwrap()
}

/// The playbooks and commands, as a scenario asks for them.
fn coordinated() -> Recover {
    asked(r#"{"coordinated": {"target": "latest"}}"#)
}
fn purge() -> Recover {
    asked(r#"{"slot": {"topics": "purge"}}"#)
}
fn compensate() -> Recover {
    asked(r#"{"slot": {"topics": "compensate"}}"#)
}
fn schema(on_conflict: &str) -> Recover {
    asked(&format!(r#"{{"schema": {{"on-conflict": "{on_conflict}"}}}}"#))
}
fn runbook() -> Recover {
    asked(r#"{"exec": {"command": "true"}}"#)
}

/// A playbook that was based on no point and touched no topics.
fn bare() -> Means {
    Means::Playbook { point: None, cut: Vec::new(), aside: None }
}
fn based_on(point: &str) -> Means {
    Means::Playbook { point: Some(PointId::new(point)), cut: Vec::new(), aside: None }
}
/// A playbook after which both partitions of `a`'s topic go on from these offsets.
fn cut_at(first: i64, second: i64) -> Means {
    let at = |partition, offset| (TopicPartition { topic: "d.public.a".into(), partition }, Offset(offset));
    Means::Playbook { point: None, cut: vec![at(0, first), at(1, second)], aside: None }
}
fn command(replaced: bool) -> Means {
    Means::Command { wal: "/kept".into(), replaced }
}

impl Story {
    fn fact(mut self, fact: Fact) -> Story {
        self.0.extend([fact]);
        self
    }

    fn mark_with(self, name: &str, lsn: u64, tables: Option<Tables>) -> Story {
        let (epoch, restore_point) = (self.0.epoch(), format!("d_{name}"));
        let time = jiff::Timestamp::UNIX_EPOCH;
        self.fact(Fact::Marked(Mark { name: name.into(), restore_point, lsn: Lsn(lsn), time, epoch, tables }))
    }

    fn mark(self, name: &str, lsn: u64) -> Story {
        self.mark_with(name, lsn, None)
    }

    fn backup(self, name: &str, point: &str) -> Story {
        self.fact(Fact::PointTaken { name: name.into(), point: PointId::new(point) })
    }

    fn command_backup(self, name: &str, seen: PointView) -> Story {
        self.fact(Fact::CommandBackup { name: name.into(), seen })
    }

    fn read(self, point: &str, view: PointView) -> Story {
        self.fact(Fact::PointRead { point: PointId::new(point), view })
    }

    fn fault(self, fault: &str) -> Story {
        let fault: Fault = serde_json::from_str(fault).unwrap();
        self.fact(Fact::FaultInjected { connector: "d".into(), fault })
    }

    fn registry(self, view: RegistryView) -> Story {
        self.fact(Fact::RegistryBeforeFault(view))
    }

    /// A group that has committed these offsets in both partitions of `a`'s topic.
    fn group(self, name: &str, first: i64, second: i64) -> Story {
        let at = |partition, offset| (TopicPartition { topic: "d.public.a".into(), partition }, Offset(offset));
        let committed = BTreeMap::from([at(0, first), at(1, second)]);
        let reset = crate::scenario::GroupReset::Latest;
        self.fact(Fact::GroupMade(GroupMade { group: format!("d-{name}"), reset, committed }))
    }

    /// A recovery that ends on this timeline.
    fn recovered(self, wanted: &Recover, end: EpochEnd, timeline: u32, means: Means) -> Story {
        let recovery = Recovery::asked(wanted, end, self.0.epoch(), Timeline::literal(timeline), means);
        self.fact(Fact::Recovered(recovery))
    }

    /// A repair, or a recovery to the end of the WAL, that keeps everything.
    fn kept(self, wanted: &Recover, timeline: u32, means: Means) -> Story {
        self.recovered(wanted, EpochEnd::Kept, timeline, means)
    }

    /// A coordinated recovery to a mark.
    fn back_to(self, mark: &str, timeline: u32) -> Story {
        let mark = self.0.mark(mark).unwrap().clone();
        self.recovered(&coordinated(), EpochEnd::Mark { mark, timeline: None }, timeline, bare())
    }

    /// The same, with the timeline on which the mark's position is meant.
    fn back_to_on(self, mark: &str, on: u32, timeline: u32) -> Story {
        let mark = self.0.mark(mark).unwrap().clone();
        self.recovered(&coordinated(), EpochEnd::Mark { mark, timeline: Some(Timeline::literal(on)) }, timeline, bare())
    }

    /// A coordinated recovery to the end of a timeline.
    fn goes_to_end_of(self, on: u32, timeline: u32) -> Story {
        self.recovered(&coordinated(), EpochEnd::End { timeline: Timeline::literal(on) }, timeline, bare())
    }

    fn expected(&self) -> Expectation<'static> {
        expectation(&self.0)
    }
}

fn rows(values: &[&str]) -> Tables {
    let row = |v: &&str| -> (Row, u64) { ([("v", Some(*v))].into_iter().collect(), 1) };
    let state = TableState { unkeyed: values.iter().map(row).collect(), ..TableState::default() };
    BTreeMap::from([(TableName::new("public", "a"), state)])
}

/// A registry from `subject version id text`, one a line.
fn registry(versions: &str) -> RegistryView {
    let mut view = RegistryView { global_level: Some("BACKWARD".into()), ..RegistryView::default() };
    for line in versions.lines() {
        let [subject, version, id, schema] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let version_view = VersionView { id: SchemaId(id.parse().unwrap()), schema: schema.into(), deleted: false };
        let subject: &mut SubjectView = view.subjects.entry(subject.into()).or_default();
        subject.versions.insert(version.parse().unwrap(), version_view);
    }
    view
}

/// A point with this registry, and topics of one setting each, from `topic setting value`, one a line.
fn point(versions: &str, topics: &str) -> PointView {
    let spec = |line: &str| {
        let [topic, setting, value] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let json = serde_json::json!({
            "name": topic, "partitions": 2, "replication": 1, "settings": { setting: value },
        });
        (topic.to_owned(), serde_json::from_value(json).unwrap())
    };
    PointView { registry: Some(registry(versions)), specs: topics.lines().map(spec).collect() }
}

const A1: &str = "d.public.a-value 1 11 a1";
const A1_A2: &str = "d.public.a-value 1 11 a1\nd.public.a-value 2 12 a2";

// ---------------------------------------------------------------------------------------------------------------------
// Expectations in short

/// `0@100 1@end 2@0`: of epoch 0 what is before position 100, of epoch 1 everything, of epoch 2 nothing.
fn cuts(expected: &Expectation<'_>) -> String {
    let word = |cut: &cdc_verify::observation::Cut| match cut.lsn {
        None => format!("{}@end", cut.epoch.0),
        Some(lsn) => format!("{}@{}", cut.epoch.0, lsn.0),
    };
    expected.cuts.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn offsets<'o>(offsets: impl IntoIterator<Item = (&'o TopicPartition, &'o Offset)>) -> String {
    offsets.into_iter().map(|(at, offset)| format!("{at}={offset}")).collect::<Vec<_>>().join(" ")
}

fn written(expected: &Expectation<'_>) -> String {
    expected.written.iter().map(|(id, text)| format!("{id}={text}")).collect::<Vec<_>>().join(" ")
}

fn newer(expected: &Expectation<'_>) -> String {
    match &expected.newer_versions {
        NewerVersions::None => "none".into(),
        NewerVersions::Any => "any".into(),
        NewerVersions::These(these) => {
            these.iter().map(|(subject, version)| format!("{subject}/{version}")).collect::<Vec<_>>().join(" ")
        }
    }
}

fn subjects(expected: &Expectation<'_>) -> String {
    let Some(view) = &expected.registry else { return "not compared".into() };
    let versions = |(name, subject): (&String, &SubjectView)| format!("{name}:{}", subject.versions.len());
    view.subjects.iter().map(versions).collect::<Vec<_>>().join(" ")
}

// ---------------------------------------------------------------------------------------------------------------------
// What is given up

#[rstest]
// A cut behind the mark would take a ghost for a row that survives.
#[case::behind_the_mark_is_given_up(story().mark("m", 100).back_to("m", 2), "0@100")]
// A repair gives nothing up: a cut would take a lost row for one that is given up.
#[case::a_repair_keeps_everything(story().kept(&purge(), 1, bare()), "0@end")]
#[case::the_end_of_wal_keeps_everything(story().kept(&coordinated(), 2, bare()), "0@end")]
// A recovery that a control leaves out must be expected as if it had been done, or nothing would be red.
#[case::left_out_is_expected_all_the_same(
    { let s = story().mark("m", 100); let mark = s.0.mark("m").unwrap().clone();
      s.recovered(&coordinated(), EpochEnd::Mark { mark, timeline: None }, 1, Means::LeftOut) }, "0@100")]
// It begins an epoch all the same, and what the next one goes back to has that cut behind it.
#[case::left_out_twice(
    { let left_out = |s: Story, mark: &str| { let mark = s.0.mark(mark).unwrap().clone();
        s.recovered(&coordinated(), EpochEnd::Mark { mark, timeline: None }, 1, Means::LeftOut) };
      left_out(left_out(story().mark("m", 100), "m").mark("n", 200), "n") }, "0@100 1@200")]
// The epochs between mark and recovery are no part of the mark's epoch.
#[case::later_epochs_are_given_up_whole(
    story().mark("m", 100).kept(&purge(), 1, bare()).kept(&purge(), 1, bare()).back_to("m", 2), "0@100 1@0 2@0")]
// Positions of another timeline begin lower: the second mark's must not cut the first epoch.
#[case::each_epoch_has_its_own_cut(
    story().mark("m", 100).back_to("m", 2).mark("n", 70).back_to("n", 3), "0@100 1@70")]
#[case::an_epoch_that_was_kept_stays_so(
    story().kept(&purge(), 1, bare()).mark("m", 100).back_to("m", 2), "0@end 1@100")]
#[case::a_repair_after_a_cut_brings_nothing_back(
    story().mark("m", 100).back_to("m", 2).kept(&purge(), 2, bare()), "0@100 1@end")]
// The second recovery reaches back over the first one's epoch, and past its mark.
#[case::a_later_recovery_decides_anew(
    story().mark("first", 100).mark("second", 200).back_to("first", 2).back_to_on("second", 1, 3), "0@200 1@0")]
#[case::and_may_keep_less(
    story().mark("first", 100).mark("second", 200).back_to("second", 2).back_to("first", 3), "0@100 1@0")]
// Twice to the same mark: both attempts between are gone.
#[case::the_same_mark_again(
    story().mark("m", 100).back_to("m", 2).back_to("m", 3), "0@100 1@0")]
// Epoch 1 branched off at 100. Going back to it brings back that, and not what the recovery in between had kept of epoch 0.
#[case::a_branch_brings_its_own_past(
    story().mark("first", 100).mark("second", 200).back_to("first", 2).mark("third", 150).back_to_on("second", 1, 3).back_to_on("third", 2, 4),
    "0@100 1@150 2@0")]
// Epoch 1 goes on where epoch 0 ended, so that a mark in it has all of epoch 0 behind it, whatever was cut since.
#[case::what_led_to_a_mark_is_whole_again(
    story().mark("early", 100).kept(&purge(), 1, bare()).mark("late", 300).back_to("early", 2).back_to_on("late", 1, 3),
    "0@end 1@300 2@0")]
// To the end of the first timeline: what the recovery in between had given up is back, and what came after it is gone.
#[case::the_end_of_an_earlier_timeline(
    story().mark("m", 100).back_to("m", 2).goes_to_end_of(1, 3), "0@end 1@0")]
// A recovery that kept everything has left the first timeline all the same: what came after it is no part of that.
#[case::the_end_of_a_timeline_that_was_left_with_everything(
    story().kept(&coordinated(), 2, bare()).goes_to_end_of(1, 3), "0@end 1@0")]
#[case::the_end_of_the_current_timeline(
    story().mark("m", 100).back_to("m", 2).goes_to_end_of(2, 3), "0@100 1@end")]
#[case::the_end_of_a_timeline_over_several_epochs(
    story().mark("m", 100).kept(&purge(), 1, bare()).back_to("m", 2).kept(&purge(), 2, bare()).goes_to_end_of(1, 3),
    "0@end 1@end 2@0 3@0")]
// The mark's position, meant on the timeline that began before it: all of the old one that survived, and as much of the new one.
#[case::a_position_on_another_timeline(
    story().mark("first", 100).mark("second", 200).back_to("first", 2).back_to_on("second", 2, 3), "0@100 1@200")]
// A position that lies before the branch is on the old timeline all the same; the branch has no commit before it.
#[case::a_position_before_the_branch(
    story().mark("first", 100).mark("second", 200).back_to("second", 2).back_to_on("first", 2, 3), "0@100 1@100")]
// A data folder that a command puts in place begins a timeline of the same number: another branch.
#[case::a_replaced_folder_is_another_branch(
    { let s = story().mark("m", 100).kept(&runbook(), 1, command(true)).mark("n", 90); s.back_to("n", 2) }, "0@end 1@90")]
fn what_recoveries_give_up(#[case] story: Story, #[case] expected: &str) {
    assert_eq!(cuts(&story.expected()), expected);
}

/// A transaction of this epoch, with its commit record at this position.
fn committed(epoch: u32, lsn: u64) -> (Entry, Ledger) {
    let entry = Entry {
        token: "t".into(),
        writer: 0,
        sequence: 0,
        epoch: Epoch(epoch),
        xid: Some(7),
        began_ms: 0,
        ended_ms: 0,
        outcome: Outcome::Acknowledged,
        changes: Vec::new(),
    };
    let commit = Commit { timeline: Timeline::literal(1), lsn: Lsn(lsn), xid: 7 };
    let order = BTreeMap::from([(Epoch(epoch), BTreeMap::from([(7, commit)]))]);
    (entry.clone(), Ledger { entries: vec![entry], order, ..Ledger::default() })
}

#[rstest]
// The restore point's record is at the mark: a commit that begins there is behind it.
#[case::before_the_mark(story().mark("m", 100).back_to("m", 2), 0, 99, Fate::Kept)]
#[case::at_the_mark(story().mark("m", 100).back_to("m", 2), 0, 100, Fate::GivenUp)]
// The current epoch is cut by nothing, however low its positions are.
#[case::after_the_recovery(story().mark("m", 100).back_to("m", 2), 1, 101, Fate::Kept)]
#[case::between_mark_and_recovery(story().mark("m", 100).kept(&purge(), 1, bare()).back_to("m", 2), 1, 50, Fate::GivenUp)]
#[case::brought_back(
    story().mark("first", 100).mark("second", 200).back_to("first", 2).back_to_on("second", 1, 3), 0, 150, Fate::Kept)]
#[case::left_on_the_way(
    story().mark("first", 100).mark("second", 200).back_to("first", 2).back_to_on("second", 1, 3), 1, 150, Fate::GivenUp)]
#[case::of_the_end_of_an_earlier_timeline(
    story().mark("m", 100).back_to("m", 2).goes_to_end_of(1, 3), 1, 150, Fate::GivenUp)]
fn what_becomes_of_a_transaction(#[case] story: Story, #[case] epoch: u32, #[case] lsn: u64, #[case] expected: Fate) {
    let (entry, ledger) = committed(epoch, lsn);
    assert_eq!(story.expected().fate(&ledger, &entry), expected);
}

// ---------------------------------------------------------------------------------------------------------------------
// Where records of this epoch begin, and where groups stand

#[rstest]
#[case::nothing_recovered(story(), "")]
// A compensated topic keeps its records: those of before are no duplicates of the snapshot's.
#[case::where_the_playbook_says(story().kept(&compensate(), 1, cut_at(40, 50)), "d.public.a-0=40 d.public.a-1=50")]
// The last recovery counts, or records of the epochs between would be judged as of now.
#[case::by_the_last_one(
    story().kept(&compensate(), 1, cut_at(40, 50)).kept(&compensate(), 1, cut_at(60, 70)),
    "d.public.a-0=60 d.public.a-1=70")]
// A rebuilt topic begins at zero, whatever an earlier recovery kept in the one before it.
#[case::a_rebuilt_topic_begins_anew(
    story().kept(&compensate(), 1, cut_at(40, 50)).kept(&purge(), 1, cut_at(0, 0)),
    "d.public.a-0=0 d.public.a-1=0")]
// The schema playbook touches no topic: it must not take the beginning of the epoch's records away.
#[case::a_repair_of_the_registry_moves_nothing(
    story().kept(&compensate(), 1, cut_at(40, 50)).kept(&schema("reject"), 1, bare()),
    "d.public.a-0=40 d.public.a-1=50")]
// A command may have emptied the topics: offsets of before would hide its records from the checks.
#[case::a_command_ends_what_was_known(
    story().kept(&compensate(), 1, cut_at(40, 50)).kept(&runbook(), 1, command(false)), "")]
#[case::a_playbook_after_a_command_counts(
    story().kept(&runbook(), 1, command(false)).kept(&compensate(), 1, cut_at(5, 6)),
    "d.public.a-0=5 d.public.a-1=6")]
fn where_the_epochs_records_begin(#[case] story: Story, #[case] expected: &str) {
    assert_eq!(offsets(&story.expected().epoch_offsets), expected);
}

const BEGINNING: &str = "d.public.a-0=0 d.public.a-1=0 d.public.b-0=0 d.public.b-1=0";

#[rstest]
// A group that keeps its old offsets skips the snapshot of a rebuilt topic.
#[case::a_rebuilt_topic_is_read_from_its_beginning(story().group("g", 40, 50).kept(&purge(), 1, cut_at(0, 0)), BEGINNING)]
#[case::also_after_a_recovery_of_the_database(story().group("g", 40, 50).kept(&coordinated(), 2, cut_at(0, 0)), BEGINNING)]
#[case::also_where_a_control_leaves_it_out(story().group("g", 40, 50).kept(&purge(), 1, Means::LeftOut), BEGINNING)]
#[case::also_after_a_command(story().group("g", 40, 50).kept(&runbook(), 1, command(false)), BEGINNING)]
// Topics that keep their records keep the positions in them: a group sent back to zero would get everything twice.
#[case::a_compensated_topic_is_read_on(
    story().group("g", 40, 50).kept(&compensate(), 1, cut_at(60, 60)), "d.public.a-0=40 d.public.a-1=50")]
#[case::a_repaired_registry_concerns_no_group(
    story().group("g", 40, 50).kept(&schema("reject"), 1, bare()), "d.public.a-0=40 d.public.a-1=50")]
// Nothing took the offsets away that a group committed in the new topics.
#[case::a_group_of_the_new_epoch_keeps_its_offsets(
    story().kept(&purge(), 1, cut_at(0, 0)).group("g", 4, 5), "d.public.a-0=4 d.public.a-1=5")]
#[case::a_later_rebuild_counts(
    story().group("g", 40, 50).kept(&compensate(), 1, cut_at(60, 60)).kept(&purge(), 1, cut_at(0, 0)), BEGINNING)]
// Made again, it has what it committed last.
#[case::made_again(
    story().group("g", 40, 50).kept(&purge(), 1, cut_at(0, 0)).group("g", 7, 8), "d.public.a-0=7 d.public.a-1=8")]
fn where_groups_stand(#[case] story: Story, #[case] expected: &str) {
    let groups = story.expected().groups;
    assert_eq!(groups.keys().collect::<Vec<_>>(), ["d-g"]);
    assert_eq!(offsets(&groups["d-g"]), expected);
}

// ---------------------------------------------------------------------------------------------------------------------
// Tables that no ledger knows

/// `at the mark -> restored`.
fn captured_rows(expected: &Expectation<'_>) -> String {
    let words = |tables: &Tables| {
        tables.values().flat_map(|t| t.unkeyed.keys()).filter_map(|r| r.text("v")).collect::<String>()
    };
    match &expected.captured {
        None => "none".into(),
        Some(captured) => {
            let restored = captured.restored.as_ref().map_or_else(|why| format!("({why})"), words);
            format!("{} -> {restored}", words(&captured.at_target))
        }
    }
}

/// A recovery to a mark that leaves these rows.
fn restoring(story: Story, mark: &str, on: Option<u32>, restored: Option<Result<Tables, String>>) -> Story {
    let mark = story.0.mark(mark).unwrap().clone();
    let (end, epoch) = (EpochEnd::Mark { mark, timeline: on.map(Timeline::literal) }, story.0.epoch());
    let recovery =
        Recovery { restored, ..Recovery::asked(&coordinated(), end, epoch, Timeline::literal(epoch.0 + 2), bare()) };
    story.fact(Fact::Recovered(recovery))
}

#[rstest]
#[case::at_the_mark_and_after_it(
    restoring(story().mark_with("m", 1, Some(rows(&["x"]))), "m", None, Some(Ok(rows(&["y"])))), "x -> y")]
// What cannot be read is a finding, not a table that need not be compared.
#[case::an_error_is_kept(
    restoring(story().mark_with("m", 1, Some(rows(&["x"]))), "m", None, Some(Err("gone".into()))), "x -> (gone)")]
// Two marks: the one that was recovered to counts, not the last.
#[case::of_the_mark_that_was_meant(
    restoring(story().mark_with("m", 1, Some(rows(&["x"]))).mark_with("n", 2, Some(rows(&["z"]))), "m", None, Some(Ok(rows(&["x"])))),
    "x -> x")]
#[case::of_the_last_recovery(
    { let s = restoring(story().mark_with("m", 1, Some(rows(&["x"]))), "m", None, Some(Ok(rows(&["x"]))));
      restoring(s.mark_with("n", 2, Some(rows(&["y"]))), "n", None, Some(Ok(rows(&["y"])))) }, "y -> y")]
// A repair behind it restores no rows; the recovery before it is still to be compared.
#[case::a_repair_behind_it_changes_nothing(
    restoring(story().mark_with("m", 1, Some(rows(&["x"]))), "m", None, Some(Ok(rows(&["x"])))).kept(&purge(), 2, bare()), "x -> x")]
// While writers go on nobody knows what the tables have to be.
#[case::with_writers_nothing_is_claimed(
    restoring(story().mark_with("m", 1, Some(rows(&["x"]))), "m", None, None), "none")]
#[case::with_a_ledger_nothing_is_captured(restoring(story().mark("m", 1), "m", None, None), "none")]
// The same position on another timeline is another state than the one that was captured.
#[case::a_position_on_another_timeline_was_not_captured(
    { let s = restoring(story().mark_with("m", 1, Some(rows(&["x"]))), "m", None, Some(Ok(rows(&["x"]))));
      restoring(s, "m", Some(2), Some(Ok(rows(&["z"])))) }, "none")]
#[case::on_its_own_timeline_it_was(
    restoring(story().mark_with("m", 1, Some(rows(&["x"]))), "m", Some(1), Some(Ok(rows(&["x"])))), "x -> x")]
fn tables_without_a_ledger(#[case] story: Story, #[case] expected: &str) {
    assert_eq!(captured_rows(&story.expected()), expected);
}

// ---------------------------------------------------------------------------------------------------------------------
// Registry and topics as the backup has them

#[rstest]
#[case::without_a_backup_nothing_is_compared(story(), "not compared")]
#[case::the_last_point_where_no_recovery_used_one(
    story().backup("p", "p1").read("p1", point(A1, "")), "d.public.a-value:1")]
// The point that the recovery was based on, and not a later one that already has the damage.
#[case::the_point_that_was_used(
    story().backup("p", "p1").backup("q", "p2").kept(&coordinated(), 2, based_on("p1")).read("p1", point(A1, "")).read("p2", point(A1_A2, "")),
    "d.public.a-value:1")]
#[case::not_one_that_was_taken_after_it(
    story().backup("p", "p1").kept(&coordinated(), 2, based_on("p1")).backup("q", "p2").read("p1", point(A1, "")).read("p2", point(A1_A2, "")),
    "d.public.a-value:1")]
#[case::of_the_last_recovery_that_used_one(
    story().backup("p", "p1").kept(&coordinated(), 2, based_on("p1")).backup("q", "p2").kept(&schema("reject"), 2, based_on("p2")).read("p1", point(A1, "")).read("p2", point(A1_A2, "")),
    "d.public.a-value:2")]
// A slot's repair uses no point: what the recovery before it was based on still counts.
#[case::a_recovery_without_a_point_changes_nothing(
    story().backup("p", "p1").kept(&coordinated(), 2, based_on("p1")).kept(&purge(), 2, bare()).read("p1", point(A1, "")),
    "d.public.a-value:1")]
// A command restores from the command's backup, as the harness saw it then.
#[case::a_commands_backup(
    story().command_backup("b", point(A1, "")).kept(&runbook(), 1, command(true)), "d.public.a-value:1")]
#[case::a_commands_backup_and_not_an_older_point(
    story().backup("p", "p1").kept(&coordinated(), 2, based_on("p1")).command_backup("b", point(A1_A2, "")).kept(&runbook(), 2, command(true)).read("p1", point(A1, "")),
    "d.public.a-value:2")]
#[case::a_playbook_after_a_command_has_its_own_point(
    story().backup("p", "p1").command_backup("b", point(A1_A2, "")).kept(&coordinated(), 2, based_on("p1")).read("p1", point(A1, "")),
    "d.public.a-value:1")]
#[case::the_backup_that_a_left_out_recovery_would_have_used(
    story().backup("p", "p1").kept(&coordinated(), 1, Means::LeftOut).read("p1", point(A1, "")), "d.public.a-value:1")]
// On a shared registry other drills come and go: their subjects are nobody's loss here.
#[case::subjects_of_other_drills_are_left_out(
    story().backup("p", "p1").read("p1", point("d.public.a-value 1 11 a1\nd2.public.a-value 1 13 x\ne.public.a-value 1 14 y", "")),
    "d.public.a-value:1")]
fn the_registry_of_the_backup(#[case] story: Story, #[case] expected: &str) {
    assert_eq!(subjects(&story.expected()), expected);
}

#[test]
fn on_a_registry_of_its_own_every_subject_counts() {
    let mut story = story().backup("p", "p1").read("p1", point("other-value 1 1 o\nd.public.a-value 1 11 a1", ""));
    story.0.layout.own_registry = true;
    assert_eq!(subjects(&story.expected()), "d.public.a-value:1 other-value:1", "foreign subjects must come back too");
}

#[test]
fn a_drill_with_two_connectors_has_the_subjects_of_both() {
    let mut story = story()
        .backup("p", "p1")
        .read("p1", point("d_x.public.a-value 1 1 o\nd_y.public.b-value 1 2 o\nd2_x.public.a-value 1 3 o", ""));
    let two = ["d_x", "d_y"].map(|name| Source { name: name.into(), ..story.0.layout.sources[0].clone() });
    story.0.layout.sources = two.into();
    assert_eq!(subjects(&story.expected()), "d_x.public.a-value:1 d_y.public.b-value:1");
    assert_eq!(
        story.expected().configs.keys().collect::<Vec<_>>(),
        ["d_x", "d_y"],
        "both must be configured as before"
    );
}

#[test]
fn topics_are_as_the_backup_has_them_with_what_the_scenario_asks_for() {
    let topics = "d.public.a retention.ms 5\nd.public.b retention.ms 6\ne.public.a retention.ms 7";
    let mut story = story().backup("p", "p1").read("p1", point(A1, topics));
    story.0.terms.topic_settings = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
    let specs = story.expected().specs;
    let settings: Vec<String> =
        specs.values().map(|s| format!("{} {:?} {}", s.name, s.settings, s.partitions)).collect();
    let asked = r#"{"retention.ms": "-1"} 2"#;
    assert_eq!(settings, [format!("d.public.a {asked}"), format!("d.public.b {asked}")]);
    // Also without a backup, or with one that has no topics.
    assert_eq!(story.expected().topic_settings, story.0.terms.topic_settings);
}

#[rstest]
#[case::by_the_backup(story().backup("p", "p1").read("p1", point(A1, "")), "11=a1")]
// Records of before the fault have ids that the backup never saw.
#[case::by_the_registry_before_the_fault(
    story().backup("p", "p1").registry(registry(A1_A2)).read("p1", point(A1, "")), "11=a1 12=a2")]
// Refilled after a loss, the same id has another text: records were written under the first.
#[case::the_first_text_of_an_id_counts(
    story().backup("p", "p1").registry(registry(A1_A2)).registry(registry("d.public.a-value 1 12 other")).read("p1", point(A1, "")),
    "11=a1 12=a2")]
#[case::the_backups_text_before_any_other(
    story().backup("p", "p1").registry(registry("d.public.a-value 1 11 other")).read("p1", point(A1, "")), "11=a1")]
#[case::also_without_a_backup(story().registry(registry(A1)), "11=a1")]
fn the_text_under_which_records_were_written(#[case] story: Story, #[case] expected: &str) {
    assert_eq!(written(&story.expected()), expected);
}

const ALTER: &str = r#"{"alter-column": {"table": "a", "column": "c", "change": "int-to-text"}}"#;

#[rstest]
#[case::none_at_first(story().backup("p", "p1").read("p1", point(A1, "")), "none")]
// Registered between backup and fault: restoring must not take it away, and its presence is no finding.
#[case::what_was_there_before_the_fault(
    story().backup("p", "p1").registry(registry(A1_A2)).read("p1", point(A1, "")), "d.public.a-value/2")]
// A version that the backup has is never newer, or its loss would be allowed.
#[case::what_the_backup_has_is_not_newer(
    story().backup("p", "p1").registry(registry(A1)).read("p1", point(A1, "")), "none")]
// A refused schema that the recovery rejects must not be registered.
#[case::a_rejected_change_adds_none(
    story().backup("p", "p1").fault(ALTER).kept(&schema("reject"), 1, bare()).read("p1", point(A1, "")), "none")]
#[case::an_accepted_change_adds_exactly_one(
    story().backup("p", "p1").fault(ALTER).kept(&schema("accept"), 1, bare()).read("p1", point(A1_A2, "")), "d.public.a-value/3")]
// One more than the subject has, not than how many versions it has: numbers have gaps.
#[case::numbers_have_gaps(
    story().backup("p", "p1").fault(ALTER).kept(&schema("accept"), 1, bare()).read("p1", point("d.public.a-value 5 11 a1", "")),
    "d.public.a-value/6")]
#[case::of_a_subject_that_the_backup_lacks(
    story().backup("p", "p1").fault(ALTER).kept(&schema("accept"), 1, bare()).read("p1", point("d.public.b-value 3 11 b", "")),
    "d.public.a-value/1")]
// Another fault is no change of a schema.
#[case::accepting_without_a_change_adds_none(
    story().backup("p", "p1").fault(r#""drop-slot""#).kept(&schema("accept"), 1, bare()).read("p1", point(A1, "")), "none")]
// A change that came after the recovery was accepted by nobody.
#[case::a_later_change_is_not_accepted(
    story().backup("p", "p1").kept(&schema("accept"), 1, bare()).fault(ALTER).read("p1", point(A1, "")), "none")]
// The recovery of the database behind the one that rejected is not the one that accepts.
#[case::only_the_schema_playbook_accepts(
    story().backup("p", "p1").fault(ALTER).kept(&schema("reject"), 1, bare()).kept(&coordinated(), 2, bare()).read("p1", point(A1, "")),
    "none")]
fn versions_that_may_be_newer(#[case] story: Story, #[case] expected: &str) {
    assert_eq!(newer(&story.expected()), expected);
}

// ---------------------------------------------------------------------------------------------------------------------
// Schema histories, timelines and WAL

fn history(story: Story, records: &[&str]) -> Story {
    let records = records.iter().map(|r| (*r).to_owned()).collect();
    story.fact(Fact::HistoryBefore { topic: "h".into(), records })
}

#[rstest]
#[case::not_cleared_without_a_recovery(story(), None)]
#[case::cleared_of_what_stood_there(history(story(), &["one"]), Some(vec!["one"]))]
// A topic that was empty, or absent, must be there all the same.
#[case::an_empty_history_must_be_there(history(story(), &[]), Some(vec![]))]
// The second recovery clears what the connector wrote since the first.
#[case::of_the_last_recovery(history(history(story(), &["one"]), &["two"]), Some(vec!["two"]))]
fn schema_histories(#[case] story: Story, #[case] expected: Option<Vec<&str>>) {
    let histories = story.expected().cleared_histories;
    assert_eq!(histories.get("h").map(|records| records.iter().map(String::as_str).collect()), expected);
}

/// `1:archive,server 2:..`: each epoch's timeline and the sources of its WAL.
fn wal(story: &Story) -> String {
    let source = |source: WalSource<'_>| match source {
        WalSource::Kept(folder) | WalSource::Aside(folder) => folder.to_string(),
        WalSource::Archive => "archive".to_owned(),
        WalSource::Server => "server".to_owned(),
    };
    let epoch = |(epoch, timeline): (Epoch, Timeline)| {
        let sources: Vec<String> = story.0.wal_of(epoch).into_iter().map(source).collect();
        format!("{timeline}:{}", sources.join(","))
    };
    story.0.timelines().into_iter().map(epoch).collect::<Vec<_>>().join(" ")
}

fn aside() -> Means {
    Means::Playbook { point: None, cut: Vec::new(), aside: Some("/aside".into()) }
}

#[rstest]
#[case::one_epoch(story(), "1:archive,server")]
// The end of the old server's WAL may be in the folder that was set aside alone.
#[case::a_folder_that_was_set_aside(story().kept(&coordinated(), 2, aside()), "1:archive,/aside,server 2:archive,/aside,server")]
#[case::a_slot_leaves_the_timeline(story().kept(&purge(), 1, bare()), "1:archive,server 1:archive,server")]
// What a command restored over was kept: first, as the archive may have another server's segments of the same names.
#[case::a_command_that_restores(
    story().kept(&runbook(), 2, command(true)), "1:/kept,archive,server 2:archive,server")]
// A base backup that goes on as if nothing had been is on timeline 1 again: the archive's is the earlier epoch's.
#[case::the_same_number_again(story().kept(&runbook(), 1, command(true)), "1:/kept,archive,server 1:server")]
#[case::a_command_that_replaces_nothing(story().kept(&runbook(), 1, command(false)), "1:/kept,archive,server 1:archive,server")]
#[case::a_number_of_its_own_after_that(
    story().kept(&purge(), 1, bare()).kept(&runbook(), 2, command(true)),
    "1:/kept,archive,server 1:/kept,archive,server 2:archive,server")]
fn where_the_wal_of_an_epoch_lies(#[case] story: Story, #[case] expected: &str) {
    assert_eq!(wal(&story), expected);
}

// ---------------------------------------------------------------------------------------------------------------------
// Questions of steps

#[test]
fn names_that_are_given_twice_mean_the_last() {
    let story = story().mark("m", 1).backup("p", "p1").kept(&purge(), 1, bare()).mark("m", 9).backup("p", "p2");
    let mark = story.0.mark("m").unwrap();
    assert_eq!((mark.lsn, mark.epoch), (Lsn(9), Epoch(1)));
    assert_eq!(story.0.point("p").unwrap().as_str(), "p2");
    assert!(story.0.mark("n").is_none() && story.0.point("q").is_none());
}

#[test]
fn a_refusal_ends_no_epoch() {
    let refused = Fact::Refused { exit: cdc_model::units::Exit::Refused, why: "no".into() };
    let story = story().kept(&purge(), 1, bare()).fact(refused);
    assert_eq!(story.0.epoch(), Epoch(1));
    assert_eq!(story.0.refusal(), Some((cdc_model::units::Exit::Refused, "no")));
    assert_eq!(cuts(&story.expected()), "0@end");
}

#[test]
fn a_chronicle_is_the_same_when_it_is_read_again() {
    let story = restoring(story().mark_with("m", 1, Some(rows(&["x"]))), "m", Some(1), Some(Err("gone".into())))
        .backup("p", "p1")
        .command_backup("b", point(A1, "d.public.a retention.ms 5"))
        .group("g", 4, 5)
        .registry(registry(A1_A2))
        .fault(ALTER)
        .kept(&schema("accept"), 1, cut_at(1, 2))
        .kept(&runbook(), 2, command(true))
        .goes_to_end_of(1, 3);
    let story = history(story, &["ddl"]);
    let json = serde_json::to_string(&story.0).unwrap();
    assert_eq!(serde_json::from_str::<Chronicle>(&json).unwrap(), story.0);
}

#[test]
fn terms_are_the_plans() {
    let text = indoc! {"
        version: 1
        id: s
        title: T
        workload: { rows: 10 }
        pipeline: { schema: fixtures/sql/shop.sql, connector: fixtures/connectors/shop.json, partitions: 5, topic-settings: { retention.ms: '7' } }
        variants:
          v:
            steps: [{ load: { transactions: 1 } }, { fault: drop-slot }, { recover: { slot: { topics: purge } } }]
            checks: [loss, state]
            objectives: { rto: 90s, downtime: { connectors: 60s }, rpo: { transactions: 3 } }
            controls:
              - { without: recovery, red: { check: loss, kind: lost }, silent: true }
              - { id: refuses, without: recovery, refuses: 41 }
    "};
    let plan = Library::here().parsed("s.yaml".into(), text).unwrap().plan(None);
    let [main, red, refused] = &plan.drills[..] else { panic!("{:?}", plan.drills.len()) };
    let terms = Terms::from(main);
    assert_eq!(terms.checks, [CheckId::Loss, CheckId::State]);
    assert_eq!((terms.partitions, terms.topic_settings["retention.ms"].as_str()), (5, "7"));
    assert_eq!((terms.objectives.rto_seconds, terms.objectives.rpo_transactions), (Some(90.0), Some(3)));
    assert_eq!(terms.objectives.downtime.and_then(|limits| limits.connectors_seconds), Some(60.0));
    assert!(terms.control.is_none());
    let control = Terms::from(red).control.unwrap();
    assert_eq!(
        (control.plan.check.as_str(), control.plan.kind, control.plan.silent),
        ("loss", FindingKind::Lost, true)
    );
    assert_eq!(control.refuses, None);
    assert_eq!(Terms::from(refused).control.unwrap().refuses, Some(41));
}

// ---------------------------------------------------------------------------------------------------------------------
// Names and questions

#[test]
fn a_layout_names_what_is_the_drills() {
    let mut story = story();
    assert_eq!((story.0.layout.group("g"), story.0.layout.schema_histories()), ("d-g".to_owned(), vec![]));
    let setting = ("schema.history.internal.kafka.topic".to_owned(), "d-history".to_owned());
    story.0.layout.sources[0].config.extend([setting]);
    assert_eq!(story.0.layout.schema_histories(), ["d-history"]);
}

#[test]
fn a_chronicle_answers_with_what_happened_last_or_longest() {
    let repair = |story: Story, seconds: f64| {
        let epoch = story.0.epoch();
        let recovery =
            Recovery { seconds, ..Recovery::asked(&purge(), EpochEnd::Kept, epoch, Timeline::FIRST, bare()) };
        story.fact(Fact::Recovered(recovery))
    };
    let none = story();
    assert_eq!((none.0.slowest_seconds(), none.0.command_backup(), none.0.faults().count()), (0.0, None, 0));
    let fault = Fact::FaultInjected { connector: "d".into(), fault: Fault::KillPostgres };
    let story = repair(repair(repair(story().fact(fault), 3.0), 7.5), 2.0)
        .command_backup("first", point(A1, ""))
        .command_backup("second", point(A1, ""))
        .group("g", 1, 2)
        .group("g", 3, 4);
    assert_eq!(story.0.slowest_seconds(), 7.5);
    assert_eq!(story.0.command_backup(), Some("second"));
    assert_eq!(story.0.faults().collect::<Vec<_>>(), [("d", &Fault::KillPostgres)]);
    let groups = story.0.groups();
    assert_eq!(groups.keys().collect::<Vec<_>>(), [&"d-g"]);
    assert_eq!(offsets(&groups["d-g"].committed), "d.public.a-0=3 d.public.a-1=4");
}
