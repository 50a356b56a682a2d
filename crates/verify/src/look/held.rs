//! Every record of one topic.

use super::Systems;
use crate::{VerifyError, observation::HeldRecord};

/// The records of a topic, by partition and offset; none where it is not there.
pub async fn held(systems: &Systems, topic: &str) -> Result<Vec<HeldRecord>, VerifyError> {
    if !systems.kafka.topics().await?.contains_key(topic) {
        return Ok(Vec::new());
    }
    let mut records: Vec<HeldRecord> = systems.kafka.read_all(topic).await?.iter().map(HeldRecord::from).collect();
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok(records)
}
