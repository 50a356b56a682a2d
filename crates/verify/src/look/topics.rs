//! How far topics go, and what is in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use super::Systems;
use crate::{
    VerifyError,
    decode::record::Schemas,
    fold::TopicFold,
    read::{self, Stretch, TopicPlan},
};
use cdc_model::units::{Offset, TopicPartition};
use cdc_pipeline::client::ClientError;

/// First and next offsets of partitions.
pub(super) type Ends = BTreeMap<TopicPartition, (Offset, Offset)>;

/// First and next offsets of topics that exist.
pub(super) async fn ends(systems: &Systems, topics: &BTreeSet<String>) -> Result<Ends, ClientError> {
    let there = systems.kafka.topics().await?;
    let mut ends = BTreeMap::new();
    for topic in topics.iter().filter(|t| there.contains_key(*t)) {
        for (partition, marks) in systems.kafka.watermarks(topic).await?.into_iter().enumerate() {
            ends.insert(TopicPartition { topic: topic.clone(), partition: partition as i32 }, marks);
        }
    }
    Ok(ends)
}

/// The topics of these that have records, and how many.
pub(super) async fn filled(systems: &Systems, topics: BTreeSet<String>) -> Result<BTreeMap<String, u64>, ClientError> {
    let mut records: BTreeMap<String, u64> = BTreeMap::new();
    if topics.is_empty() {
        return Ok(records);
    }
    for (partition, (low, high)) in ends(systems, &topics).await? {
        *records.entry(partition.topic).or_default() += (high.0 - low.0).max(0) as u64;
    }
    records.retain(|_, count| *count > 0);
    Ok(records)
}

/// Reads these stretches into the folds, which are continued.
pub(super) async fn folded(
    systems: &Systems,
    schemas: &Arc<Schemas>,
    plans: Vec<TopicPlan>,
    stretches: Vec<Stretch>,
    mut folds: BTreeMap<String, TopicFold>,
) -> Result<BTreeMap<String, TopicFold>, VerifyError> {
    let (kafka, schemas) = (systems.kafka.clone(), schemas.clone());
    let began = Instant::now();
    let records: i64 = stretches.iter().map(|s| s.to.0 - s.from.0).sum();
    let work = tokio::task::spawn_blocking(move || {
        read::read(&kafka, &schemas, &plans, &stretches, &mut folds).map(|()| folds)
    });
    let folded = work.await.map_err(|e| VerifyError::Thread(e.to_string()))?;
    tracing::debug!(records, seconds = began.elapsed().as_secs_f64(), "folded");
    folded
}
