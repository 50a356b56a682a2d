//! A consumer as applications run them: it joins its group, begins where the group committed or else where its
//! `auto.offset.reset` says, reads to the ends, and leaves. It commits nothing.

use std::{collections::BTreeMap, time::Instant};

use rdkafka::{
    Message,
    consumer::{BaseConsumer, Consumer},
};
use serde::{Deserialize, Serialize};

use super::{
    ClientError,
    kafka::{Kafka, blocking, is_transient},
    limits::{asking, pacing},
};
use cdc_model::units::{Offset, TopicPartition};

/// Where a group begins that has committed nothing, or something that is not there: `auto.offset.reset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the end: what stands in the topic is never read.
    Latest,
    /// At the first record.
    Earliest,
}

impl OffsetReset {
    fn word(self) -> &'static str {
        match self {
            OffsetReset::Latest => "latest",
            OffsetReset::Earliest => "earliest",
        }
    }
}

/// What a consumer was given of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumed {
    /// The offset of the first record; none where there was none.
    pub first: Option<Offset>,
    /// How many records.
    pub records: u64,
}

impl Kafka {
    /// Reads these topics as a member of `group` until the end of every partition, by partition. Nobody may write to them
    /// meanwhile, and the group must have no other member.
    pub async fn consume_as(
        &self,
        group: &str,
        reset: OffsetReset,
        topics: &[String],
    ) -> Result<BTreeMap<TopicPartition, Consumed>, ClientError> {
        let (kafka, group, topics) = (self.clone(), group.to_owned(), topics.to_vec());
        blocking(move || kafka.consume(&group, reset, &topics)).await
    }

    fn consume(
        &self,
        group: &str,
        reset: OffsetReset,
        topics: &[String],
    ) -> Result<BTreeMap<TopicPartition, Consumed>, ClientError> {
        let wrong = |e: rdkafka::error::KafkaError| {
            ClientError::answer(
                "kafka",
                self.bootstrap(),
                format!("a consumer of group {group}"),
                "records",
                e.to_string(),
            )
        };
        let consumer: BaseConsumer = self
            .settings()
            .set("group.id", group)
            .set("auto.offset.reset", reset.word())
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "20")
            .create()
            .map_err(wrong)?;
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        consumer.subscribe(&names).map_err(wrong)?;
        let late = |what: &str, began: Instant, last: String| ClientError::TimedOut {
            what: format!("{what} group {group}"),
            seconds: began.elapsed().as_secs_f64(),
            bound: "nothing moved".to_owned(),
            last,
            hints: Vec::new(),
        };
        let began = Instant::now();
        let mut moved = began;
        let mut given: BTreeMap<TopicPartition, Consumed> = BTreeMap::new();
        // An end names the partition's number and not its topic; but each partition at rest has one end.
        let mut ends = 0;
        loop {
            match consumer.poll(pacing::RECORD_LOOK) {
                Some(Ok(message)) => {
                    moved = Instant::now();
                    let partition =
                        TopicPartition { topic: message.topic().to_owned(), partition: message.partition() };
                    let consumed = given.entry(partition).or_default();
                    consumed.first.get_or_insert(Offset(message.offset()));
                    consumed.records += 1;
                    continue;
                }
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => {
                    moved = Instant::now();
                    ends += 1;
                }
                Some(Err(e)) if is_transient(&e) => {}
                Some(Err(e)) => return Err(wrong(e)),
                None => {}
            }
            let assigned = consumer.assignment().map_err(wrong)?.elements().len();
            if assigned == 0 && began.elapsed() > asking::GROUP_JOIN.now() {
                return Err(late("partitions for", began, "nothing was assigned".into()));
            }
            if assigned > 0 && ends >= assigned {
                break;
            }
            if assigned > 0 && moved.elapsed() > asking::PARTITION_END.now() {
                return Err(late("ends of partitions for", began, format!("ends reached: {ends} of {assigned}")));
            }
        }
        for element in consumer.assignment().map_err(wrong)?.elements() {
            let partition = TopicPartition { topic: element.topic().to_owned(), partition: element.partition() };
            given.entry(partition).or_default();
        }
        Ok(given)
    }
}
