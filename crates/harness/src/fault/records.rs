//! A topic's records, lost with the topic or without it.

use super::{FaultError, Target};
use cdc_model::{
    event::Landed,
    units::{Offset, TopicPartition, counted},
    vocabulary::RecordsLostBy,
};
use cdc_pipeline::client::ClientError;

const FAULT: &str = "lose-records";

/// A topic that lost its records.
#[derive(Debug)]
pub(super) struct RecordsLost {
    topic: String,
    by: RecordsLostBy,
    /// The topic's id before.
    id: Option<String>,
    /// The next offset of each partition before.
    ends: Vec<Offset>,
    records: i64,
}

impl RecordsLost {
    pub(super) async fn inject(target: &Target, topic: &str, by: RecordsLostBy) -> Result<RecordsLost, FaultError> {
        let records = Self::held(target, topic, by).await.map_err(FaultError::client(FAULT))?;
        if records.records == 0 {
            let hint = "load before this step, and wait with `quiesce` until it is delivered";
            return Err(FaultError::unfit(FAULT, format!("topic {topic}"), "records", "none", hint));
        }
        records.lose(target).await.map_err(FaultError::client(FAULT))?;
        Ok(records)
    }

    async fn held(target: &Target, topic: &str, by: RecordsLostBy) -> Result<RecordsLost, ClientError> {
        let kafka = target.kafka()?;
        let marks = kafka.watermarks(topic).await?;
        Ok(RecordsLost {
            topic: topic.to_owned(),
            by,
            id: kafka.topic_ids(&[topic.to_owned()]).await?.remove(topic),
            records: marks.iter().map(|(low, high)| high.0 - low.0).sum(),
            ends: marks.into_iter().map(|(_, high)| high).collect(),
        })
    }

    async fn lose(&self, target: &Target) -> Result<(), ClientError> {
        let kafka = target.kafka()?;
        match self.by {
            RecordsLostBy::Deletion => kafka.delete_topics(std::slice::from_ref(&self.topic)).await,
            RecordsLostBy::Truncation => {
                let partition = |number| TopicPartition { topic: self.topic.clone(), partition: number };
                let before: Vec<_> = (0..).map(partition).zip(self.ends.iter().copied()).collect();
                kafka.delete_records(&before).await
            }
        }
    }

    pub(super) async fn look(&self, target: &Target) -> Result<(Landed, String), FaultError> {
        let (landed, seen) = self.seen(target).await.map_err(FaultError::client(FAULT))?;
        let held = counted(self.records as u64, "record");
        Ok((
            if landed { Landed::Confirmed } else { Landed::Mismatch },
            format!("topic {} held {held}; {seen}", self.topic),
        ))
    }

    /// Whether everything that was there is gone. What came since is not the fault's failure.
    async fn seen(&self, target: &Target) -> Result<(bool, String), ClientError> {
        let kafka = target.kafka()?;
        if !kafka.topics().await?.contains_key(&self.topic) {
            return Ok((self.by == RecordsLostBy::Deletion, "it is not there".to_owned()));
        }
        let id = kafka.topic_ids(std::slice::from_ref(&self.topic)).await?.remove(&self.topic);
        if id != self.id {
            return Ok((self.by == RecordsLostBy::Deletion, "another one of its name is there".to_owned()));
        }
        let marks = kafka.watermarks(&self.topic).await?;
        let begins = |(low, end): (&(Offset, Offset), &Offset)| low.0 >= *end;
        let emptied = marks.len() == self.ends.len() && marks.iter().zip(&self.ends).all(begins);
        let shown: Vec<String> = marks.iter().map(|(low, high)| format!("{low} to {high}")).collect();
        Ok((
            emptied && self.by == RecordsLostBy::Truncation,
            format!("its partitions have offsets {}", shown.join(", ")),
        ))
    }
}
