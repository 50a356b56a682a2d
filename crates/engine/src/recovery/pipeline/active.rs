//! Consumer groups with members: who reads topics that are about to be deleted.

use std::collections::{BTreeMap, BTreeSet};

use super::found::{GroupOffsets, Sink};
use crate::recovery::RecoveryError;
use cdc_model::units::TopicPartition;
use cdc_pipeline::client::kafka::{Group, Kafka, TopicSpec, Untold};

/// A group that reads data topics now.
#[derive(Clone, Debug)]
pub(super) struct ActiveGroup {
    pub(super) name: String,
    state: String,
    members: Vec<String>,
    topics: BTreeSet<String>,
    /// Why it cannot be told whether it has members.
    pub(super) untold: Option<Untold>,
}

impl ActiveGroup {
    /// A group that has members, or of which nobody can tell, with the topics it has to do with.
    fn of(group: Group, committed: Vec<TopicPartition>) -> Option<ActiveGroup> {
        let Group { name, state, members, mut topics, untold } = group;
        topics.extend(committed.into_iter().map(|p| p.topic));
        (!members.is_empty() || untold.is_some()).then_some(ActiveGroup { name, state, members, topics, untold })
    }

    /// Who is in it, as far as that is known.
    pub(super) fn seen(&self) -> String {
        match &self.untold {
            Some(why) => why.to_string(),
            None => format!("{} ({})", self.members.join(", "), self.state),
        }
    }

    pub(super) fn in_the_way(&self, step: &str) -> RecoveryError {
        RecoveryError::unmet(step, format!("no active member of consumer group {}", self.name), self.seen())
    }
}

/// The first of these groups that reads one of the topics, and the names of those of which that cannot be told. A group with
/// offsets on them counts as a reader where the broker would not say more. One of a protocol that cannot be asked about may be
/// at rest as well, and to refuse it would be to refuse its owner every recovery.
pub(super) fn readers<'g>(active: &'g [ActiveGroup], topics: &[TopicSpec]) -> (Option<&'g ActiveGroup>, Vec<String>) {
    let (mut reader, mut unsure) = (None, Vec::new());
    for group in active.iter().filter(|_| !topics.is_empty()) {
        let reads = topics.iter().any(|t| group.topics.contains(&t.name));
        match &group.untold {
            None | Some(Untold::Failed(_)) if reads => reader = reader.or(Some(group)),
            None => {}
            Some(why) => unsure.push(format!("{} ({why})", group.name)),
        }
    }
    (reader, unsure)
}

/// The groups with offsets on the topics, and those with members, of which a sink's own tasks are none; `stopped` says whether the sinks
/// are stopped.
pub(super) async fn groups_on(
    kafka: &Kafka,
    topics: &[TopicSpec],
    there: &BTreeMap<String, i32>,
    sinks: &[Sink],
    stopped: bool,
) -> Result<(Vec<GroupOffsets>, Vec<ActiveGroup>), RecoveryError> {
    let all = topics.iter().filter(|t| there.contains_key(&t.name));
    let partitions: Vec<TopicPartition> = all
        .flat_map(|t| (0..t.partitions).map(|partition| TopicPartition { topic: t.name.clone(), partition }))
        .collect();
    let groups: Vec<_> = kafka.groups().await?.into_iter().filter(|g| !g.name.is_empty()).collect();
    let found = groups.into_iter().map(|group| {
        let partitions = &partitions;
        async move {
            let offsets = kafka.group_offsets(&group.name, partitions).await?;
            Ok::<_, RecoveryError>((group, offsets))
        }
    });
    let (mut on_data, mut active) = (Vec::new(), Vec::new());
    for (mut group, offsets) in futures::future::try_join_all(found).await? {
        let partitions: Vec<TopicPartition> = offsets.iter().map(|(partition, _)| partition.clone()).collect();
        if !offsets.is_empty() {
            on_data.push(GroupOffsets { name: group.name.clone(), offsets });
        }
        if let Some(sink) = sinks.iter().find(|s| group.name == s.group) {
            if group.untold.is_some() {
                continue;
            }
            group.members = sink.strangers(&group, stopped);
        }
        active.extend(ActiveGroup::of(group, partitions));
    }
    Ok((on_data, active))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_nobody_can_tell_of_is_named_and_one_that_reads_is_refused() {
        let topics = [TopicSpec { name: "t".into(), partitions: 1, replication: 1, settings: BTreeMap::new() }];
        let group = |name: &str, on: &str, untold: Option<Untold>| ActiveGroup {
            name: name.into(),
            state: "Stable".into(),
            members: Vec::new(),
            topics: BTreeSet::from([on.to_owned()]),
            untold,
        };
        let failed = || Some(Untold::Failed("not authorized".into()));
        let found = |groups: &[ActiveGroup]| {
            let (reader, unsure) = readers(groups, &topics);
            (reader.map(|g| g.name.clone()), unsure.len())
        };
        assert_eq!(found(&[group("elsewhere", "u", None), group("app", "t", None)]), (Some("app".into()), 0));
        assert_eq!(found(&[group("silent", "t", failed())]), (Some("silent".into()), 0));
        assert_eq!(found(&[group("silent", "u", failed())]), (None, 1));
        assert_eq!(found(&[group("streams", "t", Some(Untold::Protocol))]), (None, 1));
        assert!(readers(&[group("share", "u", Some(Untold::Protocol))], &[]).1.is_empty(), "no topic, no reader");
    }
}
