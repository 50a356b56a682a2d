//! Topics with what is needed to make them again, and the positions of consumer groups.

use serde::{Deserialize, Serialize};

use crate::{
    backup::{BackupError, KafkaFacts, writer::PointWriter},
    client::kafka::{Kafka, TopicSpec},
    config::Config,
    units::{Offset, TopicPartition},
};

/// A topic as captured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicState {
    /// What is needed to make it again.
    pub spec: TopicSpec,
    /// The first and next offset of each partition.
    pub watermarks: Vec<Watermark>,
}

/// The extent of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// The partition.
    pub partition: i32,
    /// The first offset that is still there.
    pub low: Offset,
    /// The offset the next record gets.
    pub high: Offset,
}

/// A consumer group as captured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupState {
    /// Its id.
    pub name: String,
    /// `Stable`, `Empty`, ...
    pub state: String,
    /// `client-id@host` of each member.
    pub members: Vec<String>,
    /// The offsets it has committed.
    pub offsets: Vec<GroupOffset>,
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset the group will read.
    pub offset: Offset,
}

/// Captures topics and groups.
pub(crate) async fn capture(config: &Config, writer: &mut PointWriter) -> Result<KafkaFacts, BackupError> {
    let kafka = Kafka::of(&config.kafka)?;
    let names: Vec<String> = kafka.topics().await?.into_keys().collect();
    let (mut topics, mut partitions, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
    for spec in kafka.topic_specs(&names).await? {
        let mut watermarks = Vec::new();
        match kafka.watermarks(&spec.name).await {
            Ok(marks) => {
                for (partition, (low, high)) in (0..).zip(marks) {
                    partitions.push(TopicPartition { topic: spec.name.clone(), partition });
                    watermarks.push(Watermark { partition, low, high });
                }
            }
            // A topic deleted since it was listed, or a partition without a leader: the point says so.
            Err(error) => gaps.push(format!("watermarks of {}: {error}", spec.name)),
        }
        topics.push(TopicState { spec, watermarks });
    }
    let mut groups = Vec::new();
    for group in kafka.groups().await? {
        let offsets = match kafka.group_offsets(&group.name, &partitions).await {
            Ok(offsets) => offsets,
            Err(error) => {
                gaps.push(format!("offsets of group {}: {error}", group.name));
                Vec::new()
            }
        };
        let offsets =
            offsets.into_iter().map(|(tp, offset)| GroupOffset { topic: tp.topic, partition: tp.partition, offset });
        groups.push(GroupState {
            name: group.name,
            state: group.state,
            members: group.members,
            offsets: offsets.collect(),
        });
    }
    writer.json("kafka/topics.json", &topics)?;
    writer.json("kafka/groups.json", &groups)?;
    Ok(KafkaFacts {
        cluster_id: kafka.cluster_id().await?,
        data: "none".into(),
        topics: topics.len() as u64,
        groups: groups.len() as u64,
        gaps,
    })
}
