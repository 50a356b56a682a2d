//! Reading a stretch of one partition, for copies that must not lose a record: with checksums, in bounded memory, and with an
//! answer where the stretch went on being removed while it was read.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};

use rdkafka::{
    ClientConfig, ClientContext, Message, Offset as RdOffset, Statistics, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    message::BorrowedMessage,
    types::RDKafkaErrorCode,
};

use super::{
    connection::{Kafka, is_transient},
    records::reader,
};
use crate::client::{
    ClientError,
    limits::{asking, pacing},
};
use cdc_model::units::{Offset, TopicPartition};

/// How far a partition reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first offset of the log.
    pub start: Offset,
    /// The last stable offset: everything before it belongs to transactions that are decided.
    pub stable: Offset,
    /// The offset after the last record, of open transactions too.
    pub end: Offset,
}

/// How the reading of a stretch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StretchEnd {
    /// Its end was reached.
    Reached,
    /// The caller had enough.
    Stopped,
    /// The log begins behind this offset now: what stood there was removed before it was read.
    Removed(Offset),
}

/// Follows the position of the fetches: it moves over records of aborted transactions, of which the reader sees nothing.
struct Position(Arc<AtomicI64>);

impl ClientContext for Position {
    fn stats(&self, statistics: Statistics) {
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        let next = partitions.map(|partition| partition.next_offset).max().unwrap_or_default();
        self.0.store(next, Ordering::Relaxed);
    }
}

impl ConsumerContext for Position {}

impl Kafka {
    /// How far each partition of a topic reaches.
    pub async fn extents(&self, topic: &str) -> Result<Vec<Extent>, ClientError> {
        // librdkafka asks with its own isolation level, by default up to the last stable offset.
        let stable = self.watermarks(topic).await?;
        let mut uncommitted = self.clone();
        let mut config = self.base.clone();
        config.set("isolation.level", "read_uncommitted");
        let consumer = config.create::<BaseConsumer>().map_err(|e| self.error("read", e))?;
        uncommitted.inquirer = Arc::new(consumer);
        let ends = uncommitted.watermarks(topic).await?;
        let extents = stable.into_iter().zip(ends);
        Ok(extents.map(|((start, stable), (_, end))| Extent { start, stable, end }).collect())
    }

    /// Hands every committed record of a stretch (`to` exclusive) to `see`, in the order of offsets. Offsets may be missing from it:
    /// those of removed, compacted and aborted records and of transactions' markers. Blocks the calling thread.
    pub fn read_stretch(
        &self,
        of: &TopicPartition,
        from: Offset,
        to: Offset,
        mut see: impl FnMut(&BorrowedMessage<'_>) -> ControlFlow<()>,
    ) -> Result<StretchEnd, ClientError> {
        if from >= to {
            return Ok(StretchEnd::Reached);
        }
        let wrong = |e| self.error("read", e);
        let fetched = Arc::new(AtomicI64::new(from.0));
        let consumer: BaseConsumer<Position> =
            checking_reader(&self.base).create_with_context(Position(fetched.clone())).map_err(wrong)?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&of.topic, of.partition, RdOffset::Offset(from.0)).map_err(wrong)?;
        consumer.assign(&list).map_err(wrong)?;
        let (mut next, mut moved, mut position) = (from.0, Instant::now(), from.0);
        loop {
            match consumer.poll(pacing::RECORD_LOOK) {
                None => {}
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(StretchEnd::Reached),
                Some(Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
                ))) => return Ok(StretchEnd::Removed(Offset(next))),
                Some(Err(e)) if is_transient(&e) => {}
                Some(Err(e)) => return Err(wrong(e)),
                Some(Ok(message)) if message.offset() >= to.0 => return Ok(StretchEnd::Reached),
                Some(Ok(message)) => {
                    if see(&message).is_break() {
                        return Ok(StretchEnd::Stopped);
                    }
                    next = message.offset() + 1;
                    if next >= to.0 {
                        return Ok(StretchEnd::Reached);
                    }
                    // What the caller does with a record is no silence of the broker.
                    moved = Instant::now();
                }
            }
            let now_fetched = fetched.load(Ordering::Relaxed);
            if now_fetched != position {
                (position, moved) = (now_fetched, Instant::now());
            }
            if moved.elapsed() > asking::RECORDS.now() {
                return Err(ClientError::TimedOut {
                    what: format!("records of {of}"),
                    seconds: moved.elapsed().as_secs_f64(),
                    bound: format!("nothing moved; limit: {} s", asking::RECORDS.now().as_secs()),
                    last: format!("no record arrived from offset {next} on, although the end {to} was not reached"),
                    hints: Vec::new(),
                });
            }
        }
    }
}

/// A copy outlives the broker's own disk: what the broker hands out is checked.
fn checking_reader(base: &ClientConfig) -> ClientConfig {
    let mut config = reader(base);
    config
        .set("check.crcs", "true")
        .set("statistics.interval.ms", "1000")
        .set("fetch.max.bytes", "8388608")
        .set("queued.max.messages.kbytes", "16384");
    config
}
