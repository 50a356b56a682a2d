//! Topics with what is needed to make them again, and the positions of consumer groups.

use crate::backup::{
    BackupError,
    format::{GroupOffset, GroupState, KafkaFacts, TopicState, Watermark, layout},
    writer::PointWriter,
};
use cdc_model::units::TopicPartition;
use cdc_pipeline::{client::kafka::Kafka, config::Config};

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
    writer.json(layout::TOPICS, &topics)?;
    writer.json(layout::GROUPS, &groups)?;
    Ok(KafkaFacts {
        cluster_id: kafka.cluster_id().await?,
        data: "none".into(),
        topics: topics.len() as u64,
        groups: groups.len() as u64,
        gaps,
    })
}
