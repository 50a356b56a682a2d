//! Data topics, the offsets of groups on them, connector offsets and schema history.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Pipeline,
    found::{GroupOffsets, Sink},
};
use crate::recovery::RecoveryError;
use cdc_model::{
    moment::{self, HALF_WAY},
    units::{Offset, TopicPartition, counted},
};
use cdc_pipeline::client::{kafka::TopicSpec, limits, wait, wait::Poll};

impl Pipeline {
    /// Requires that nobody reads the topics, and that those who fill them again can.
    pub(crate) async fn may_be_emptied(&self, step: &str) -> Result<String, RecoveryError> {
        let unread = self.unread(step).await?;
        Ok(format!("{unread}; {}", self.can_log_in(step).await?))
    }

    /// The first and next offset of every partition, asked again while a new topic has no leader.
    pub(crate) async fn marks(&self, topic: &str) -> Result<Vec<(Offset, Offset)>, RecoveryError> {
        let what = format!("the leaders of topic {topic}");
        let look = || async { self.kafka.watermarks(topic).await.map(Poll::Ready) };
        Ok(wait::until(&what, limits::postgres::LEADERS, look).await?)
    }

    /// Deletes the data topics; the client waits until they are gone. The first goes alone: where the broker deletes none, all are
    /// still there.
    pub async fn delete_topics(&self) -> Result<(), RecoveryError> {
        for names in one_and_the_rest(&self.topic_names()) {
            self.kafka.delete_topics(names).await?;
            moment::pass(HALF_WAY).await?;
        }
        Ok(())
    }

    /// Requires that no data topic is there.
    pub(crate) async fn topics_gone(&self, step: &str) -> Result<String, RecoveryError> {
        let there = self.kafka.topics().await?;
        match self.topics.iter().find(|t| there.contains_key(&t.name)) {
            None => Ok(format!("{} gone", counted(self.topics.len(), "topic"))),
            Some(topic) => Err(RecoveryError::undone(step, format!("topic {} gone", topic.name), "it is there again")),
        }
    }

    /// Creates those data topics that are not there, the first alone as well. Returns how many were missing.
    pub(crate) async fn create_topics(&self) -> Result<usize, RecoveryError> {
        let there = self.kafka.topics().await?;
        let missing: Vec<TopicSpec> = self.topics.iter().filter(|t| !there.contains_key(&t.name)).cloned().collect();
        for specs in one_and_the_rest(&missing) {
            self.kafka.create_topics(specs).await?;
            moment::pass(HALF_WAY).await?;
        }
        Ok(missing.len())
    }

    /// Requires that the data topics have their former settings and, when `empty`, hold nothing.
    pub(crate) async fn topics_as_before(&self, step: &str, empty: bool) -> Result<String, RecoveryError> {
        let now = self.kafka.topic_specs(&self.topic_names()).await?;
        let now: BTreeMap<&str, &TopicSpec> = now.iter().map(|t| (t.name.as_str(), t)).collect();
        for wanted in &self.topics {
            let found = now.get(wanted.name.as_str());
            if found != Some(&wanted) {
                return Err(RecoveryError::undone(
                    step,
                    format!("topic {} with {}", wanted.name, described(wanted)),
                    found.map_or("no such topic".to_owned(), |t| described(t)),
                ));
            }
        }
        if empty {
            for topic in &self.topics {
                let written: i64 = self.marks(&topic.name).await?.iter().map(|(_, high)| high.0).sum();
                if written != 0 {
                    return Err(RecoveryError::unmet(
                        step,
                        format!("topic {} empty", topic.name),
                        format!("{written}: a producer is still alive", written = counted(written, "record")),
                    ));
                }
            }
        }
        let partitions: i32 = self.topics.iter().map(|t| t.partitions).sum();
        Ok(format!(
            "{} with {} and their settings",
            counted(self.topics.len(), "topic"),
            counted(partitions, "partition")
        ))
    }

    /// Commits offset 0 for every partition that a group had an offset on: with no offset, a group that begins at the
    /// end would skip the snapshot. The same for a sink that ran and had not committed yet. Says whether there was one.
    pub(crate) async fn reset_groups(&self) -> Result<bool, RecoveryError> {
        let groups = self.groups_that_begin_anew().await?;
        for (group, partitions) in &groups {
            let zero: Vec<(TopicPartition, Offset)> = partitions.iter().map(|p| (p.clone(), Offset(0))).collect();
            self.kafka.commit_group_offsets(group, &zero).await?;
            moment::pass(HALF_WAY).await?;
        }
        Ok(!groups.is_empty())
    }

    async fn groups_that_begin_anew(&self) -> Result<BTreeMap<String, Vec<TopicPartition>>, RecoveryError> {
        let there = self.kafka.topics().await?;
        let topics: Vec<&TopicSpec> = self.topics.iter().filter(|t| there.contains_key(&t.name)).collect();
        Ok(begin_anew(&self.groups, &self.sinks, &topics))
    }

    /// Requires that each group stands at 0 on every partition.
    pub(crate) async fn groups_at_zero(&self, step: &str) -> Result<String, RecoveryError> {
        let groups = self.groups_that_begin_anew().await?;
        for (group, wanted) in &groups {
            let found = self.kafka.group_offsets(group, wanted).await?;
            if let Some((at, offset)) = found.iter().find(|(_, o)| o.0 != 0) {
                return Err(RecoveryError::unmet(step, format!("group {group} at 0 on {at}"), offset.to_string()));
            }
            if found.len() != wanted.len() {
                return Err(RecoveryError::unmet(
                    step,
                    format!("group {group} with an offset on {}", counted(wanted.len(), "partition")),
                    format!("offsets on {}", found.len()),
                ));
            }
        }
        Ok(format!("{} at offset 0", counted(groups.len(), "group")))
    }

    /// Forgets the stored offsets of the sources.
    pub async fn delete_offsets(&self) -> Result<(), RecoveryError> {
        for source in &self.sources {
            self.connect.delete_offsets(&source.name).await?;
            moment::pass(HALF_WAY).await?;
        }
        Ok(())
    }

    /// Requires that no source has a stored offset.
    pub(crate) async fn offsets_gone(&self, step: &str) -> Result<String, RecoveryError> {
        for source in &self.sources {
            let stored = self.connect.offsets(&source.name).await?;
            if stored.iter().any(|o| o.offset.is_some()) {
                return Err(RecoveryError::unmet(
                    step,
                    format!("no stored offset of connector {}", source.name),
                    format!("{} stored", stored.len()),
                ));
            }
        }
        Ok(format!("offsets of {} read back as []", counted(self.sources.len(), "connector")))
    }

    /// The schema history topics that the sources name.
    pub(crate) fn schema_histories(&self) -> Vec<String> {
        let named: BTreeSet<String> = self.sources.iter().filter_map(|s| s.schema_history.clone()).collect();
        named.into_iter().collect()
    }

    /// Empties the schema history topics that were found: deleted and created again with their settings.
    pub(crate) async fn clear_schema_history(&self) -> Result<usize, RecoveryError> {
        let named = self.schema_histories();
        let specs: Vec<TopicSpec> = self.found.histories.iter().filter(|t| named.contains(&t.name)).cloned().collect();
        let there = self.kafka.topics().await?;
        let names: Vec<String> = specs.iter().map(|s| &s.name).filter(|n| there.contains_key(*n)).cloned().collect();
        self.kafka.delete_topics(&names).await?;
        moment::pass("deleted").await?;
        self.kafka.create_topics(&specs).await?;
        Ok(specs.len())
    }

    /// Requires that the schema history topics hold nothing.
    pub(crate) async fn schema_history_empty(&self, step: &str) -> Result<String, RecoveryError> {
        let there = self.kafka.topics().await?;
        let histories = self.schema_histories();
        for topic in histories.iter().filter(|t| there.contains_key(*t)) {
            let marks = self.marks(topic).await?;
            if let Some((low, high)) = marks.iter().find(|(low, high)| low < high) {
                let found = format!("records from {low} to {high}");
                return Err(RecoveryError::unmet(step, format!("schema history {topic} empty"), found));
            }
        }
        Ok(match histories.len() {
            0 => "no connector names a schema history topic".into(),
            n => format!("{n} schema history topics empty"),
        })
    }

    /// The next offset of every partition of the data topics: where the new epoch begins.
    pub(crate) async fn ends(&self) -> Result<Vec<(TopicPartition, Offset)>, RecoveryError> {
        let there = self.kafka.topics().await?;
        let mut ends = Vec::new();
        for topic in self.topics.iter().filter(|t| there.contains_key(&t.name)) {
            for (partition, (_, high)) in self.marks(&topic.name).await?.into_iter().enumerate() {
                ends.push((TopicPartition { topic: topic.name.clone(), partition: partition as i32 }, high));
            }
        }
        Ok(ends)
    }
}

/// Every partition of the topics on which a group had an offset, or which a sink had begun to read, by group: keys may now fall into
/// partitions that it had not committed on.
fn begin_anew(groups: &[GroupOffsets], sinks: &[Sink], topics: &[&TopicSpec]) -> BTreeMap<String, Vec<TopicPartition>> {
    let mut read: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for group in groups {
        read.entry(&group.name).or_default().extend(group.offsets.iter().map(|(p, _)| p.topic.as_str()));
    }
    for sink in sinks.iter().filter(|sink| sink.has_read()) {
        read.entry(&sink.group).or_default().extend(sink.topics.iter().map(String::as_str));
    }
    let partitions = |topic: &&TopicSpec| {
        let name = topic.name.clone();
        (0..topic.partitions).map(move |partition| TopicPartition { topic: name.clone(), partition })
    };
    let of_group = read.into_iter().map(|(group, read)| {
        let topics = topics.iter().filter(|topic| read.contains(topic.name.as_str()));
        (group.to_owned(), topics.flat_map(partitions).collect::<Vec<_>>())
    });
    of_group.filter(|(_, partitions)| !partitions.is_empty()).collect()
}

/// The first item, and all others. No part is empty.
fn one_and_the_rest<T>(items: &[T]) -> impl Iterator<Item = &[T]> {
    let (one, rest) = items.split_at(items.len().min(1));
    [one, rest].into_iter().filter(|part| !part.is_empty())
}

fn described(topic: &TopicSpec) -> String {
    let settings: Vec<String> = topic.settings.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let settings = if settings.is_empty() { "no settings of its own".to_owned() } else { settings.join(" ") };
    format!("{}, {}, {settings}", counted(topic.partitions, "partition"), counted(topic.replication, "replica"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_pipeline::client::connect::{ConnectorConfig, ConnectorStatus, StateOf, TaskState};

    #[test]
    fn the_first_goes_alone_and_none_is_left_out() {
        let parts =
            |count: u8| one_and_the_rest(&(0..count).collect::<Vec<_>>()).map(<[u8]>::to_vec).collect::<Vec<_>>();
        assert_eq!(parts(3), [vec![0], vec![1, 2]]);
        assert_eq!(parts(1), [vec![0]]);
        assert!(parts(0).is_empty());
    }

    #[test]
    fn a_sink_that_ran_begins_anew_though_it_had_not_committed_and_one_at_rest_does_not() {
        let topic =
            |name: &str| TopicSpec { name: name.into(), partitions: 2, replication: 1, settings: BTreeMap::new() };
        let sink = |name: &str, state: &str, task: Option<&str>| {
            let tasks = task.map(|state| TaskState { id: 0, state: state.into(), trace: None });
            let status = ConnectorStatus {
                name: name.into(),
                connector: StateOf { state: state.into(), trace: None },
                tasks: tasks.into_iter().collect(),
                kind: "sink".into(),
            };
            let group = format!("connect-{name}");
            Sink { name: name.into(), config: ConnectorConfig::new(), status, group, topics: vec!["a".into()] }
        };
        let sinks = [
            sink("fresh", "RUNNING", Some("RUNNING")),
            sink("failed", "RUNNING", Some("FAILED")),
            sink("paused", "PAUSED", Some("PAUSED")),
            sink("stopped", "STOPPED", None),
        ];
        let at = |topic: &str| (TopicPartition { topic: topic.into(), partition: 1 }, Offset(7));
        let group = |name: &str, topic: &str| GroupOffsets { name: name.into(), offsets: vec![at(topic)] };
        let groups = [group("billing", "b"), group("connect-stopped", "a"), group("elsewhere", "c")];
        let (a, b) = (topic("a"), topic("b"));
        let found = begin_anew(&groups, &sinks, &[&a, &b]);
        let found: Vec<String> = found
            .into_iter()
            .map(|(g, p)| format!("{g}: {}", p.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")))
            .collect();
        assert_eq!(
            found,
            ["billing: b-0 b-1", "connect-fresh: a-0 a-1", "connect-paused: a-0 a-1", "connect-stopped: a-0 a-1"]
        );
    }
}
