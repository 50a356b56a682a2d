//! Consumer groups: members, and what they have committed.

use std::collections::BTreeSet;

use rdkafka::{
    Offset as RdOffset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
};
use serde::{Deserialize, Serialize};

use super::connection::{Kafka, blocking};
use crate::client::{
    ClientError,
    consumer_groups::{self, Described},
    limits::asking,
};
use cdc_model::units::{Offset, TopicPartition};

/// A consumer group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its id.
    pub name: String,
    /// `Stable`, `Empty`, `PreparingRebalance`, `Dead`.
    pub state: String,
    /// `client-id@host` of each member.
    pub members: Vec<String>,
    /// The topics that its members subscribed to or were assigned.
    pub topics: BTreeSet<String>,
    /// Why its members cannot be told, where that is so: there may be some.
    pub untold: Option<Untold>,
}

/// Why the members of a group cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Untold {
    /// The broker did not say; why.
    Failed(String),
    /// It follows a protocol that the client cannot ask about: that of Kafka Streams, or of share groups.
    Protocol,
}

impl std::fmt::Display for Untold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Untold::Failed(why) => write!(f, "its members are not told: {why}"),
            Untold::Protocol => f.write_str("neither of the classic nor of the consumer protocol"),
        }
    }
}

impl Group {
    /// The older question has no answer about a group of another protocol: a state as of a group that is not there.
    fn is_of_another_protocol(&self) -> bool {
        self.members.is_empty() && self.state != "Empty" && !self.name.is_empty()
    }

    /// Takes over what the newer question is answered.
    fn complete(&mut self, described: Option<Described>) {
        match described {
            Some(Described::Consumer { state, members, topics }) => {
                (self.state, self.members, self.topics) = (state, members, topics);
            }
            Some(Described::Unknown(why)) => self.untold = Some(Untold::Failed(why)),
            Some(Described::Other) => self.untold = Some(Untold::Protocol),
            None => self.untold = Some(Untold::Failed("no answer about it".into())),
        }
    }
}

impl Kafka {
    /// All groups with their members, by name: those of the classic and those of the consumer protocol.
    pub async fn groups(&self) -> Result<Vec<Group>, ClientError> {
        let mut groups = self
            .ask("groups", |c| {
                let list = c.fetch_group_list(None, asking::BROKER.now())?;
                Ok(list.groups().iter().map(classic).collect::<Vec<Group>>())
            })
            .await?;
        let others: Vec<String> =
            groups.iter().filter(|g| g.is_of_another_protocol()).map(|g| g.name.clone()).collect();
        let (admin, bootstrap) = (self.admin.clone(), self.bootstrap.clone());
        let mut described = blocking(move || {
            consumer_groups::describe(&admin, &others, asking::BROKER.now())
                .map_err(|why| ClientError::answer("kafka", &bootstrap, "describe groups", "their members", why))
        })
        .await?;
        for group in groups.iter_mut().filter(|g| g.is_of_another_protocol()) {
            group.complete(described.remove(&group.name));
        }
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(groups)
    }

    /// The offsets a group has committed on these partitions; partitions without one are left out.
    pub async fn group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, Offset)>, ClientError> {
        let mut list = TopicPartitionList::new();
        for tp in partitions {
            list.add_partition(&tp.topic, tp.partition);
        }
        self.as_group(group, "offsets", "offsets", move |consumer| {
            let committed = consumer.committed_offsets(list, asking::BROKER.now())?;
            let found = committed.elements().into_iter().filter_map(|e| match e.offset() {
                RdOffset::Offset(o) => {
                    Some((TopicPartition { topic: e.topic().to_owned(), partition: e.partition() }, Offset(o)))
                }
                _ => None,
            });
            Ok(found.collect())
        })
        .await
    }

    /// Commits offsets for a group that has no active member.
    pub async fn commit_group_offsets(
        &self,
        group: &str,
        offsets: &[(TopicPartition, Offset)],
    ) -> Result<(), ClientError> {
        let mut list = TopicPartitionList::new();
        for (tp, offset) in offsets {
            list.add_partition_offset(&tp.topic, tp.partition, RdOffset::Offset(offset.0))
                .map_err(|e| self.error("commit offsets", e))?;
        }
        self.as_group(group, "commit offsets", "committed", move |consumer| consumer.commit(&list, CommitMode::Sync))
            .await
    }

    /// Asks as a consumer of a group, which does not join it.
    async fn as_group<T: Send + 'static>(
        &self,
        group: &str,
        what: &'static str,
        expected: &'static str,
        question: impl FnOnce(&BaseConsumer) -> Result<T, rdkafka::error::KafkaError> + Send + 'static,
    ) -> Result<T, ClientError> {
        let (config, bootstrap) = (self.base.clone().set("group.id", group).clone(), self.bootstrap.clone());
        let what = format!("{what} of group {group}");
        blocking(move || {
            let consumer: Result<BaseConsumer, _> = config.create();
            consumer
                .and_then(|consumer| question(&consumer))
                .map_err(|e| ClientError::answer("kafka", &bootstrap, what, expected, e.to_string()))
        })
        .await
    }
}

/// A group as the older question shows it.
fn classic(group: &rdkafka::groups::GroupInfo) -> Group {
    let topics_of = |member: &rdkafka::groups::GroupMemberInfo| {
        let assigned = member.assignment().map(|b| topics_in(b, true)).unwrap_or_default();
        let subscribed = member.metadata().map(|b| topics_in(b, false)).unwrap_or_default();
        assigned.into_iter().chain(subscribed)
    };
    Group {
        name: group.name().to_owned(),
        state: group.state().to_owned(),
        members: group.members().iter().map(|m| format!("{}@{}", m.client_id(), m.client_host())).collect(),
        topics: group.members().iter().flat_map(topics_of).collect(),
        untold: None,
    }
}

/// The topic names in a member's assignment (each followed by its partitions) or subscription, in the consumer protocol:
/// version, then an array of names. Bytes of another protocol yield nothing.
fn topics_in(bytes: &[u8], with_partitions: bool) -> Vec<String> {
    fn take<'a>(rest: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
        let (head, tail) = rest.split_at_checked(n)?;
        *rest = tail;
        Some(head)
    }
    fn count(rest: &mut &[u8]) -> Option<usize> {
        let four = take(rest, 4)?;
        usize::try_from(i32::from_be_bytes(four.try_into().ok()?)).ok()
    }
    fn name(rest: &mut &[u8]) -> Option<String> {
        let length = take(rest, 2)?;
        let length = usize::try_from(i16::from_be_bytes(length.try_into().ok()?)).ok()?;
        String::from_utf8(take(rest, length)?.to_vec()).ok()
    }
    let mut rest = bytes;
    let mut names = Vec::new();
    let Some(topics) = take(&mut rest, 2).and_then(|_| count(&mut rest)) else { return names };
    for _ in 0..topics {
        let Some(topic) = name(&mut rest) else { break };
        names.push(topic);
        if with_partitions && count(&mut rest).and_then(|n| take(&mut rest, n.checked_mul(4)?)).is_none() {
            break;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_the_older_question_does_not_know_is_what_the_newer_one_says() {
        let group = |state: &str| Group {
            name: "g".into(),
            state: state.into(),
            members: Vec::new(),
            topics: BTreeSet::new(),
            untold: None,
        };
        assert!(!group("Empty").is_of_another_protocol(), "a classic group without members");
        assert!(group("Dead").is_of_another_protocol());
        let mut seen = group("Dead");
        seen.complete(Some(Described::Consumer {
            state: "Stable".into(),
            members: vec!["app@/10.0.0.1".into()],
            topics: BTreeSet::from(["shop.public.orders".to_owned()]),
        }));
        assert_eq!((seen.state.as_str(), seen.members.len(), seen.topics.len()), ("Stable", 1, 1));
        assert_eq!(seen.untold, None);
        for silent in [None, Some(Described::Other), Some(Described::Unknown("not authorized".into()))] {
            let mut seen = group("Dead");
            seen.complete(silent);
            assert!(seen.untold.is_some(), "silence is not an empty group");
        }
    }

    #[test]
    fn topics_of_a_member_are_read_from_its_protocol_bytes() {
        let mut subscription = vec![0, 1, 0, 0, 0, 2];
        for topic in ["a", "bc"] {
            subscription.extend((topic.len() as i16).to_be_bytes());
            subscription.extend(topic.as_bytes());
        }
        subscription.extend([0, 0, 0, 0]);
        assert_eq!(topics_in(&subscription, false), ["a", "bc"]);
        let assignment = [0, 1, 0, 0, 0, 2, 0, 1, b'a', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b'b', 0, 0, 0, 0];
        assert_eq!(topics_in(&assignment, true), ["a", "b"]);
        assert!(topics_in(b"{\"json\":1}", true).is_empty());
        assert!(topics_in(&[0], true).is_empty());
    }
}
