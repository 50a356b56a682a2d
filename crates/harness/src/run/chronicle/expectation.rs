//! What must be there when a drill is over, by its chronicle alone. A mistake here makes a broken pipeline green, or a sound one red:
//! `tests.rs` beside this plants such mistakes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Chronicle, EpochEnd, Fact, GroupMade, Mark, Means, Recovery, Topics};
use crate::scenario::{Fault, SubjectSide};
use cdc_model::units::{Epoch, Lsn, Offset, SchemaId, Timeline, TopicPartition};
use cdc_model::vocabulary::RecordsLostBy;
use cdc_verify::{
    Expectation, PointView, RegistryView,
    observation::{Captured, Cut, NewerVersions},
};

/// The column that holds the workload's token.
pub(crate) const TOKEN_COLUMN: &str = "drill_token";

/// What is to be seen, but for the ledger, which is the caller's to add.
pub(crate) fn expectation(chronicle: &Chronicle) -> Expectation<'static> {
    let PointView { registry, specs } =
        chronicle.basis_view().map(|basis| own_part(chronicle, basis)).unwrap_or_default();
    Expectation {
        cuts: cuts(chronicle),
        captured: captured(chronicle),
        token_column: TOKEN_COLUMN.to_owned(),
        epoch_offsets: epoch_offsets(chronicle),
        newer_versions: newer_versions(chronicle, registry.as_ref()),
        written: written(chronicle, registry.as_ref()),
        registry,
        specs,
        topic_settings: chronicle.terms.topic_settings.clone(),
        groups: groups(chronicle),
        held: chronicle.held().map(|(topic, records)| (topic.to_owned(), records.to_vec())).collect(),
        cleared_histories: chronicle.histories(),
        configs: chronicle.layout.configs(),
        ..Expectation::default()
    }
}

/// The registry as the drill's basis has it, of its own subjects; none without a basis, or without a registry in it.
pub(crate) fn basis_registry(chronicle: &Chronicle) -> Option<RegistryView> {
    own_part(chronicle, chronicle.basis_view()?).registry
}

/// What the basis has of the drill's own subjects and topics. Of a topic's settings, what the scenario asks for counts, also where the
/// basis was taken of something else.
fn own_part(chronicle: &Chronicle, basis: &PointView) -> PointView {
    let mut own = basis.clone();
    let prefix = chronicle.layout.subject_prefix();
    if let Some(registry) = &mut own.registry {
        registry.subjects.retain(|name, _| name.starts_with(&prefix));
    }
    let topics: BTreeSet<String> = chronicle.layout.topics().into_iter().collect();
    own.specs.retain(|name, _| topics.contains(name));
    for spec in own.specs.values_mut() {
        spec.settings.extend(chronicle.terms.topic_settings.clone());
    }
    own
}

/// The text of each id when records were written under it: by the basis, else by the registry before the first fault that had it.
fn written(chronicle: &Chronicle, registry: Option<&RegistryView>) -> BTreeMap<SchemaId, String> {
    let mut written = BTreeMap::new();
    for view in registry.into_iter().chain(chronicle.registries_before_faults()) {
        for version in view.subjects.values().flat_map(|s| s.versions.values()) {
            written.entry(version.id).or_insert_with(|| version.schema.clone());
        }
    }
    written
}

/// Of the last recovery to a mark: the tables as captured at the mark, and as it left them.
fn captured(chronicle: &Chronicle) -> Option<Captured> {
    let last = chronicle.recoveries().rev().find_map(|recovery| match &recovery.end {
        EpochEnd::Mark { mark, timeline } => Some((mark, *timeline, recovery)),
        EpochEnd::Kept | EpochEnd::End { .. } => None,
    });
    let (mark, timeline, recovery) = last?;
    // The same position on another timeline is another state.
    let own = chronicle.timelines().get(&mark.epoch).copied();
    if timeline.is_some() && timeline != own {
        return None;
    }
    Some(Captured { at_target: mark.tables.clone()?, restored: recovery.restored.clone()? })
}

/// What became of the epochs so far: `None` where everything survives, a position where commits behind it are given up.
type Survival = BTreeMap<Epoch, Option<Lsn>>;

/// Gives an epoch up as a whole.
const GIVEN_UP: Option<Lsn> = Some(Lsn(0));

/// A stretch of epochs, each of which goes on where the one before it ended.
struct Branch {
    /// Its timeline.
    timeline: Timeline,
    /// Its first epoch.
    since: Epoch,
    /// What had survived of the epochs before it when it began.
    origin: Survival,
}

/// What the recoveries gave up. A recovery brings back what its branch had kept when it began, whatever recoveries in between have
/// decided about the same epochs: of the epoch that its mark was set in, everything up to the mark, and nothing of any later one.
fn cuts(chronicle: &Chronicle) -> Vec<Cut> {
    let mut branches = vec![Branch { timeline: chronicle.timeline, since: Epoch(0), origin: Survival::new() }];
    let mut survival = Survival::new();
    for recovery in chronicle.recoveries() {
        let ended = recovery.epoch;
        let goes_on = match &recovery.end {
            EpochEnd::Kept => {
                survival.entry(ended).or_insert(None);
                true
            }
            EpochEnd::End { timeline } => {
                survival = to_the_end(&branches, *timeline, ended).unwrap_or(survival);
                survival.entry(ended).or_insert(None);
                false
            }
            EpochEnd::Mark { mark, timeline } => {
                let elsewhere = timeline.filter(|t| branch_of(&branches, mark.epoch).is_none_or(|b| b.timeline != *t));
                let there = elsewhere.and_then(|timeline| to_the_end(&branches, timeline, ended));
                survival = match there {
                    Some(all) => all.into_iter().map(|(epoch, end)| (epoch, earlier(end, mark.lsn))).collect(),
                    None => to_the_mark(&branches, mark, ended),
                };
                false
            }
        };
        let replaced = matches!(recovery.means, Means::Command { replaced: true, .. });
        let same = branches.last().is_some_and(|branch| branch.timeline == recovery.timeline);
        if !goes_on || replaced || !same {
            let since = Epoch(ended.0 + 1);
            branches.push(Branch { timeline: recovery.timeline, since, origin: survival.clone() });
        }
    }
    survival.into_iter().map(|(epoch, lsn)| Cut { epoch, lsn, inclusive: false }).collect()
}

/// The branch that an epoch is on.
fn branch_of(branches: &[Branch], epoch: Epoch) -> Option<&Branch> {
    branches.iter().rev().find(|branch| branch.since <= epoch)
}

/// What survives a recovery to a mark, at the end of this epoch.
fn to_the_mark(branches: &[Branch], mark: &Mark, ended: Epoch) -> Survival {
    let (since, origin) = branch_of(branches, mark.epoch).map(|b| (b.since, b.origin.clone())).unwrap_or_default();
    let mut survival = origin;
    survival.extend((since.0..mark.epoch.0).map(|epoch| (Epoch(epoch), None)));
    survival.insert(mark.epoch, Some(mark.lsn));
    survival.extend((mark.epoch.0 + 1..=ended.0).map(|epoch| (Epoch(epoch), GIVEN_UP)));
    survival
}

/// What survives a recovery to the end of a timeline; `None` where no epoch is known to have been on it.
fn to_the_end(branches: &[Branch], timeline: Timeline, ended: Epoch) -> Option<Survival> {
    let at = branches.iter().rposition(|branch| branch.timeline == timeline)?;
    let next = branches.get(at + 1).map_or(ended.0 + 1, |next| next.since.0);
    let mut survival = branches[at].origin.clone();
    survival.extend((branches[at].since.0..next).map(|epoch| (Epoch(epoch), None)));
    survival.extend((next..=ended.0).map(|epoch| (Epoch(epoch), GIVEN_UP)));
    Some(survival)
}

/// The earlier of an epoch's end and a position.
fn earlier(end: Option<Lsn>, position: Lsn) -> Option<Lsn> {
    Some(end.map_or(position, |end| end.min(position)))
}

/// Where the current epoch's records begin, by the last playbook that began topics anew or marked their ends. A recovery that leaves
/// topics alone moves nothing. A command says nothing of where its records begin, and what an earlier recovery said is over with it.
fn epoch_offsets(chronicle: &Chronicle) -> BTreeMap<TopicPartition, Offset> {
    let since = chronicle.recoveries().rev().take_while(|recovery| !recovery.is_by_command());
    let mut cuts = since.filter_map(|recovery| match &recovery.means {
        Means::Playbook { cut, .. } if !cut.is_empty() => Some(cut),
        _ => None,
    });
    cuts.next().map(|cut| cut.iter().cloned().collect()).unwrap_or_default()
}

/// The committed offsets that the consumer groups must have. A group that had committed before topics were rebuilt must begin anew in
/// every partition, or it would skip the snapshot; where the records of a topic were replayed, it goes on at the same record; any other
/// keeps what it has committed.
fn groups(chronicle: &Chronicle) -> BTreeMap<String, BTreeMap<TopicPartition, Offset>> {
    let mut expected = BTreeMap::new();
    let mut lost = Vec::new();
    for fact in chronicle.facts() {
        match fact {
            Fact::RecordsHeld { .. } => lost.push(fact),
            Fact::GroupMade(GroupMade { group, committed, .. }) => {
                expected.insert(group.clone(), committed.clone());
            }
            Fact::Recovered(Recovery { topics: Topics::Rebuilt, .. }) => {
                expected.values_mut().for_each(|offsets| *offsets = beginnings(chronicle));
                lost.clear();
            }
            Fact::Recovered(Recovery { topics: Topics::Kept, .. }) => {
                for lost in std::mem::take(&mut lost) {
                    expected.values_mut().for_each(|offsets| replayed(lost, offsets));
                }
            }
            _ => {}
        }
    }
    expected
}

/// Moves committed offsets to where the records that they stand before are, when what a topic held was written again: from the
/// beginning of a new topic, or from the end of one that was emptied.
fn replayed(lost: &Fact, offsets: &mut BTreeMap<TopicPartition, Offset>) {
    let Fact::RecordsHeld { topic, by, records, ends } = lost else { return };
    for (at, offset) in offsets.iter_mut().filter(|(at, _)| at.topic == *topic) {
        let before =
            records.iter().filter(|record| record.partition == at.partition && record.offset < *offset).count();
        let base = match by {
            RecordsLostBy::Deletion => Offset(0),
            RecordsLostBy::Truncation => ends.get(at.partition as usize).copied().unwrap_or(Offset(0)),
        };
        *offset = Offset(base.0 + before as i64);
    }
}

/// The beginning of every partition of the data topics.
fn beginnings(chronicle: &Chronicle) -> BTreeMap<TopicPartition, Offset> {
    let partitions = chronicle.terms.partitions as i32;
    let of_topic = |topic: String| {
        (0..partitions).map(move |partition| (TopicPartition { topic: topic.clone(), partition }, Offset(0)))
    };
    chronicle.layout.topics().into_iter().flat_map(of_topic).collect()
}

/// Versions that may be there although the basis does not have them: those that the registry had before it was broken, and, where a
/// recovery had to accept an incompatible change, exactly one more of that subject.
fn newer_versions(chronicle: &Chronicle, registry: Option<&RegistryView>) -> NewerVersions {
    let mut these = BTreeSet::new();
    for view in chronicle.registries_before_faults() {
        for (name, subject) in &view.subjects {
            let known = registry.and_then(|r| r.subjects.get(name));
            let new = subject.versions.keys().filter(|v| known.is_none_or(|k| !k.versions.contains_key(v)));
            these.extend(new.map(|v| (name.clone(), *v)));
        }
    }
    let mut changed = BTreeSet::new();
    for fact in chronicle.facts() {
        match fact {
            Fact::FaultInjected { fault: Fault::AlterColumn(fault), .. } => {
                changed.insert(chronicle.layout.subject(&fault.table.0, SubjectSide::Value).0);
            }
            Fact::Recovered(recovery) if recovery.accepts => {
                for subject in std::mem::take(&mut changed) {
                    let known = registry.and_then(|r| r.subjects.get(&subject));
                    let last = known.and_then(|s| s.versions.keys().next_back().copied());
                    these.insert((subject, last.unwrap_or(0) + 1));
                }
            }
            _ => {}
        }
    }
    if these.is_empty() { NewerVersions::None } else { NewerVersions::These(these) }
}
