//! Making a consumer group.

use std::collections::BTreeMap;

use super::Done;
use crate::{
    run::{
        Known, RunError,
        chronicle::{Fact, GroupMade},
        rig::Rig,
    },
    scenario::{self, GroupReset},
};
use cdc_model::units::{Offset, TopicPartition, counted};

/// Makes a group with committed offsets and no member, as a consumer that is down leaves it. What one that is started again is given
/// is seen when the drill is over.
pub(super) async fn take(rig: &Rig, known: Known<'_>, wanted: &scenario::ConsumerGroup) -> Result<Done, RunError> {
    let kafka = rig.pipeline.kafka()?;
    let group = known.layout().group(&wanted.name);
    let mut committed: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
    for topic in known.layout().topics() {
        for (partition, (low, high)) in kafka.watermarks(&topic).await?.into_iter().enumerate() {
            let at = match wanted.reset {
                GroupReset::Latest => high,
                GroupReset::Earliest => low,
            };
            committed.insert(TopicPartition { topic: topic.clone(), partition: partition as i32 }, at);
        }
    }
    let offsets: Vec<(TopicPartition, Offset)> = committed.clone().into_iter().collect();
    kafka.commit_group_offsets(&group, &offsets).await?;
    let records: i64 = committed.values().map(|offset| offset.0).sum();
    let words = format!(
        "group {group} committed {}, {records} in",
        counted(committed.len(), "partition"),
        records = counted(records, "record")
    );
    Ok(Done::one(Fact::GroupMade(GroupMade { group, reset: wanted.reset, committed }), words))
}
