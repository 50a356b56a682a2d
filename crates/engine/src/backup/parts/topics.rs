//! Topics with what is needed to make them again, and the positions of consumer groups.

use std::collections::BTreeSet;

use crate::backup::{
    BackupError, Repository,
    format::{GroupOffset, GroupState, KafkaFacts, TopicRecords, TopicState, Watermark, layout},
    topics::{Copied, connectors_topics, copy_topics},
    writer::PointWriter,
};
use cdc_model::units::{SchemaId, TopicPartition};
use cdc_pipeline::{
    client::kafka::Kafka,
    config::{Config, TopicsBackup},
};

/// Captures topics and groups, and the records of the connectors' topics where the configuration asks for them; with the schema ids that
/// the registry knew of records that were copied for the first time.
pub(crate) async fn capture(
    config: &Config,
    repository: &Repository,
    writer: &mut PointWriter,
) -> Result<(KafkaFacts, BTreeSet<SchemaId>), BackupError> {
    let kafka = Kafka::of(&config.kafka)?;
    let names: Vec<String> = kafka.topics().await?.into_keys().collect();
    let (mut topics, mut partitions, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
    let mut ids = kafka.topic_ids(&names).await?;
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
        topics.push(TopicState { id: ids.remove(&spec.name), spec, watermarks });
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
    // Behind the groups: what they have committed is in the archive.
    let copied: Vec<Copied> = match config.backup.topics {
        TopicsBackup::Settings => Vec::new(),
        TopicsBackup::Data => {
            let names = connectors_topics(config).await?;
            copy_topics(config, repository, &names, &|_| ()).await?
        }
    };
    let resolved = copied.iter().flat_map(|copied| copied.resolved.iter().copied()).collect();
    let records =
        copied.into_iter().map(|copied| TopicRecords { topic: copied.backup.topic, backup: copied.backup.backup });
    let facts = KafkaFacts {
        cluster_id: kafka.cluster_id().await?,
        data: match config.backup.topics {
            TopicsBackup::Settings => "none".into(),
            TopicsBackup::Data => "archived".into(),
        },
        records: records.collect(),
        topics: topics.len() as u64,
        groups: groups.len() as u64,
        gaps,
    };
    Ok((facts, resolved))
}
