//! Writing a copy of records: to their own partitions, in their order, with their timestamps, each at an offset that is known
//! beforehand.

use std::collections::VecDeque;

use rdkafka::{
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer, future_producer::DeliveryFuture},
};

use super::connection::Kafka;
use crate::client::{ClientError, limits::asking};
use cdc_model::units::{Offset, TopicPartition};

/// Bytes on their way to the brokers at the same time.
const BYTES_AT_ONCE: usize = 16 << 20;
/// What a record takes besides its content, at most.
const OVERHEAD: usize = 1 << 10;
/// The least that librdkafka takes for the largest message.
const MESSAGE_MAX: usize = 1_000_000;

/// A record to write.
#[derive(Clone, Copy, Debug)]
pub struct Copied<'r> {
    /// Milliseconds since the Unix epoch; -1 is none.
    pub timestamp_ms: i64,
    /// The key; `None` is null.
    pub key: Option<&'r [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'r [u8]>,
    /// Headers in order.
    pub headers: &'r [(String, Option<Vec<u8>>)],
}

impl Copied<'_> {
    fn bytes(&self) -> usize {
        let of = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let headers: usize = self.headers.iter().map(|(key, value)| key.len() + of(value.as_deref()) + 8).sum();
        of(self.key) + of(self.value) + headers + OVERHEAD
    }
}

/// Writes to one topic. Records that were not waited for with [`Copier::finish`] may be lost.
pub struct Copier {
    kafka: Kafka,
    producer: FutureProducer,
    topic: String,
    waiting: VecDeque<(DeliveryFuture, i32, Offset, usize)>,
    bytes: usize,
}

impl std::fmt::Debug for Copier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copier").field("topic", &self.topic).field("waiting", &self.waiting.len()).finish()
    }
}

impl Kafka {
    /// Begins to write copies of records to a topic; `largest` is the size of the largest of them, in bytes.
    pub fn copier(&self, topic: &str, largest: usize) -> Result<Copier, ClientError> {
        let mut config = self.base.clone();
        config
            .set("message.timeout.ms", asking::OUTAGE.now().as_millis().to_string())
            .set("message.max.bytes", largest.saturating_add(OVERHEAD).max(MESSAGE_MAX).to_string())
            .set("linger.ms", "20")
            .set("acks", "all")
            .set("enable.idempotence", "true")
            // A record that cannot be written ends the copy: none behind it may be there then.
            .set("enable.gapless.guarantee", "true");
        let producer: FutureProducer = config.create().map_err(|e| self.error("produce", e))?;
        Ok(Copier { kafka: self.clone(), producer, topic: topic.to_owned(), waiting: VecDeque::new(), bytes: 0 })
    }
}

impl Copier {
    /// Writes a record that must get the offset `at`; fails when it, or one before it, gets another: then somebody else writes to the
    /// topic.
    pub async fn write(&mut self, partition: i32, at: Offset, record: Copied<'_>) -> Result<(), ClientError> {
        let bytes = record.bytes();
        while self.bytes + bytes > BYTES_AT_ONCE && !self.waiting.is_empty() {
            self.wait_for_one().await?;
        }
        let mut out: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&self.topic);
        out.partition = Some(partition);
        out.timestamp = Some(record.timestamp_ms);
        out.key = record.key;
        out.payload = record.value;
        if !record.headers.is_empty() {
            let with = |all: OwnedHeaders, (key, value): &(String, Option<Vec<u8>>)| {
                all.insert(Header { key, value: value.as_deref() })
            };
            out.headers = Some(record.headers.iter().fold(OwnedHeaders::new(), with));
        }
        let queued = self.producer.send_result(out);
        let queued = queued.map_err(|(e, _)| self.kafka.error(&format!("produce to {}", self.topic), e))?;
        self.waiting.push_back((queued, partition, at, bytes));
        self.bytes += bytes;
        Ok(())
    }

    async fn wait_for_one(&mut self) -> Result<(), ClientError> {
        let Some((delivery, partition, at, bytes)) = self.waiting.pop_front() else { return Ok(()) };
        self.bytes -= bytes;
        let tp = TopicPartition { topic: self.topic.clone(), partition };
        let what = || format!("produce to {tp}");
        match delivery.await {
            Ok(Ok(delivered)) if delivered.offset == at.0 => Ok(()),
            Ok(Ok(delivered)) => {
                let found = format!("offset {}: another producer writes to it", delivered.offset);
                Err(ClientError::answer("kafka", self.kafka.bootstrap(), what(), format!("offset {at}"), found)
                    .for_good())
            }
            Ok(Err((e, _))) => Err(self.kafka.error(&what(), e)),
            Err(_) => Err(ClientError::unreachable("kafka", self.kafka.bootstrap(), what())),
        }
    }

    /// Waits until every record so far is stored.
    pub async fn wait(&mut self) -> Result<(), ClientError> {
        while !self.waiting.is_empty() {
            self.wait_for_one().await?;
        }
        Ok(())
    }

    /// Waits until every record is stored.
    pub async fn finish(mut self) -> Result<(), ClientError> {
        self.wait().await
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        // What is still queued goes nowhere: the caller gave up, and the next run compares what is there.
        self.producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    }
}
