//! Who has read the topics that a recovery empties: a snapshot has no deletes, so whatever they keep and the tables no longer have
//! stays with them.

use super::{
    Pipeline,
    found::{GroupOffsets, Sink},
};

/// Why readers may keep rows that the tables do not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outdated {
    /// They may have read changes that the target gives up.
    GivenUp,
    /// The tables stay as they are, or go on to the end of the WAL; deletes may not have reached the readers.
    Unread,
}

impl Pipeline {
    /// The finding on those who read `groups`' topics before they are emptied; none where nobody is known to have read them.
    pub(crate) fn downstream_finding(&self, groups: &[GroupOffsets], why: Outdated) -> Option<String> {
        finding(&self.sinks, groups, &self.found.groups, why)
    }
}

/// `groups` have offsets on the topics that are emptied, `all` on any topic of the cluster's connectors.
fn finding(sinks: &[Sink], groups: &[GroupOffsets], all: &[GroupOffsets], why: Outdated) -> Option<String> {
    let has = |groups: &[GroupOffsets], name: &str| groups.iter().any(|group| group.name == name);
    // A sink may keep its positions in its own target, and have no offsets here.
    let reads = |sink: &&Sink| has(groups, &sink.group) || !has(all, &sink.group);
    let sinks: Vec<&Sink> = sinks.iter().filter(reads).collect();
    let named = sinks.iter().map(|sink| format!("sink connector {} (group {})", sink.name, sink.group));
    let of_no_sink = groups.iter().filter(|group| sinks.iter().all(|sink| sink.group != group.name));
    let readers: Vec<String> = named.chain(of_no_sink.map(|group| format!("consumer group {}", group.name))).collect();
    if readers.is_empty() {
        return None;
    }
    let readers = readers.join(", ");
    Some(match why {
        Outdated::GivenUp => format!(
            "{readers} may have read changes that are given up: the new topics have no deletes for rows and keys that only these changes made, \
             nor for what was deleted and not read yet; compare what they keep with the restored tables"
        ),
        Outdated::Unread => format!(
            "{readers} may keep rows and keys whose deletes had not reached them: the new topics have no deletes for them; compare what \
             they keep with the tables"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::{Offset, TopicPartition};
    use cdc_pipeline::client::connect::{ConnectorConfig, ConnectorStatus, StateOf};

    fn sink(name: &str, group: &str) -> Sink {
        let status = ConnectorStatus {
            name: name.into(),
            connector: StateOf { state: "RUNNING".into(), trace: None },
            tasks: Vec::new(),
            kind: "sink".into(),
        };
        Sink { name: name.into(), config: ConnectorConfig::new(), status, group: group.into(), topics: Vec::new() }
    }

    fn group(name: &str) -> GroupOffsets {
        GroupOffsets {
            name: name.into(),
            offsets: vec![(TopicPartition { topic: "t".into(), partition: 0 }, Offset(5))],
        }
    }

    #[test]
    fn each_sink_and_each_group_is_named_once() {
        let groups = [group("billing"), group("connect-jdbc"), group("search")];
        let text = finding(&[sink("jdbc", "connect-jdbc")], &groups, &groups, Outdated::GivenUp).unwrap();
        let named = "sink connector jdbc (group connect-jdbc), consumer group billing, consumer group search may have read changes that are given up";
        assert!(text.starts_with(named), "{text}");
        let text = finding(&[], &groups[..1], &groups, Outdated::Unread).unwrap();
        assert!(text.starts_with("consumer group billing may keep rows") && !text.contains("given up"), "{text}");
    }

    #[test]
    fn only_readers_of_topics_that_are_emptied_are_named() {
        let (groups, all) = ([group("billing")], [group("billing"), group("connect-other")]);
        let sinks = [sink("other", "connect-other"), sink("own", "connect-own")];
        let text = finding(&sinks, &groups, &all, Outdated::Unread).unwrap();
        assert!(
            !text.contains("other") && text.contains("sink connector own") && text.contains("group billing"),
            "{text}"
        );
        assert_eq!(finding(&[], &[], &all, Outdated::GivenUp), None);
    }
}
