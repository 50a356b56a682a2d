//! Records: writing them, and reading partitions to a fixed end.

use std::time::Instant;

use rdkafka::{
    ClientConfig, Message, Offset as RdOffset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::{BorrowedMessage, Header, Headers, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use serde::{Deserialize, Serialize};

use super::connection::{Kafka, blocking, is_transient};
use crate::client::{
    ClientError,
    limits::{Bound, asking, pacing},
};
use cdc_model::units::{Offset, TopicPartition};

/// A record, copied out of the client's buffers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where it stands.
    pub partition: i32,
    /// At which offset.
    pub offset: Offset,
    /// Milliseconds since the Unix epoch, as stored.
    pub timestamp_ms: Option<i64>,
    /// The key; `None` is null.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Records on their way to a broker at the same time.
const RECORDS_AT_ONCE: usize = 10_000;

/// A record to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to.
    pub topic: String,
    /// Which partition; by the key's hash when absent.
    pub partition: Option<i32>,
    /// The key; `None` is null.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    fn copied(message: &BorrowedMessage<'_>) -> Record {
        let headers =
            message.headers().map(|h| h.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect());
        Record {
            partition: message.partition(),
            offset: Offset(message.offset()),
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        }
    }
}

impl Kafka {
    /// Writes one record and waits until it is stored. `key` and `value` of `None` are null.
    pub async fn produce(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<Offset, ClientError> {
        let mut config = self.base.clone();
        config.set("message.timeout.ms", asking::BROKER.now().as_millis().to_string()).set("linger.ms", "0");
        let producer: FutureProducer = config.create().map_err(|e| self.error("produce", e))?;
        let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic);
        record.partition = partition;
        record.key = key;
        record.payload = value;
        let sent = producer.send(record, asking::BROKER.now()).await;
        sent.map(|d| Offset(d.offset)).map_err(|(e, _)| self.error(&format!("produce to {topic}"), e))
    }

    /// Writes records, in this order within a partition, and waits until all are stored.
    pub async fn produce_all(&self, records: Vec<Outgoing>) -> Result<(), ClientError> {
        let mut config = self.base.clone();
        config
            .set("message.timeout.ms", asking::BROKER.now().as_millis().to_string())
            .set("linger.ms", "5")
            .set("enable.idempotence", "true");
        let producer: FutureProducer = config.create().map_err(|e| self.error("produce", e))?;
        // librdkafka refuses records beyond its queue's limit (100,000): the next ones wait for those before.
        for some in records.chunks(RECORDS_AT_ONCE) {
            self.produced(&producer, some).await?;
        }
        Ok(())
    }

    async fn produced(&self, producer: &FutureProducer, records: &[Outgoing]) -> Result<(), ClientError> {
        let mut sent = Vec::new();
        for outgoing in records {
            let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&outgoing.topic);
            record.partition = outgoing.partition;
            record.key = outgoing.key.as_deref();
            record.payload = outgoing.value.as_deref();
            if !outgoing.headers.is_empty() {
                let with = |all: OwnedHeaders, (key, value): &(String, Option<Vec<u8>>)| {
                    all.insert(Header { key, value: value.as_deref() })
                };
                record.headers = Some(outgoing.headers.iter().fold(OwnedHeaders::new(), with));
            }
            let queued = producer.send_result(record);
            let queued = queued.map_err(|(e, _)| self.error(&format!("produce to {}", outgoing.topic), e))?;
            sent.push((queued, outgoing));
        }
        for (delivery, outgoing) in sent {
            let what = || format!("produce to {}", outgoing.topic);
            match delivery.await {
                Ok(Ok(_)) => {}
                Ok(Err((e, _))) => return Err(self.error(&what(), e)),
                Err(_) => return Err(ClientError::unreachable("kafka", &self.bootstrap, what())),
            }
        }
        Ok(())
    }

    /// Reads the partitions of a topic from their first offset to the end each had when the reading began, and copies
    /// every record. For small topics; see [`Kafka::scan`] for data topics.
    pub async fn read_all(&self, topic: &str) -> Result<Vec<Record>, ClientError> {
        let marks = self.watermarks(topic).await?;
        let ranges = marks
            .iter()
            .enumerate()
            .map(|(p, (low, high))| (TopicPartition { topic: topic.to_owned(), partition: p as i32 }, *low, *high));
        let ranges: Vec<_> = ranges.collect();
        let kafka = self.clone();
        blocking(move || {
            let mut records = Vec::new();
            kafka.scan(&ranges, |message| records.push(Record::copied(message)))?;
            Ok(records)
        })
        .await
    }

    /// Hands every record of these partition ranges (first offset, end offset exclusive) to `see`, in offset order
    /// within a partition. Blocks the calling thread: call it from a blocking task. Compacted and transactional topics
    /// have holes: a range is done when its last record or the end of its partition has been reached.
    pub fn scan(
        &self,
        ranges: &[(TopicPartition, Offset, Offset)],
        see: impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<(), ClientError> {
        self.scan_while(ranges, asking::RECORDS.into(), see)
    }

    fn scan_while(
        &self,
        ranges: &[(TopicPartition, Offset, Offset)],
        silence: Bound,
        mut see: impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<(), ClientError> {
        let wrong = |e| self.error("read", e);
        let wanted: Vec<_> = ranges.iter().filter(|(_, from, to)| from < to).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let consumer: BaseConsumer = reader(&self.base).create().map_err(wrong)?;
        let mut open: Vec<Range<'_>> =
            wanted.into_iter().map(|(tp, from, to)| Range { tp, next: from.0, end: to.0 }).collect();
        self.scan_open(&consumer, &mut open, false, silence, &mut see)?;
        // What is left ends in holes, or comes slowly. An end of partition names the partition's number and not its topic,
        // so only with one topic at a time does it tell whose end it is.
        while let Some(topic) = open.first().map(|r| r.tp.topic.clone()) {
            let (mut one, rest) = open.into_iter().partition(|r| r.tp.topic == topic);
            open = rest;
            self.scan_open(&consumer, &mut one, true, silence, &mut see)?;
        }
        Ok(())
    }

    /// Reads on in the open ranges and removes those that are done. Where `ends` may be believed, returns when all are
    /// done; else also when nothing has come for a while.
    fn scan_open(
        &self,
        consumer: &BaseConsumer,
        open: &mut Vec<Range<'_>>,
        ends: bool,
        silence: Bound,
        see: &mut impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<(), ClientError> {
        let wrong = |e| self.error("read", e);
        let mut list = TopicPartitionList::new();
        for range in open.iter() {
            let at = RdOffset::Offset(range.next);
            list.add_partition_offset(&range.tp.topic, range.tp.partition, at).map_err(wrong)?;
        }
        consumer.assign(&list).map_err(wrong)?;
        let mut moved = Instant::now();
        while !open.is_empty() {
            match consumer.poll(pacing::RECORD_LOOK) {
                None if !ends && moved.elapsed() > pacing::RECORD_QUIET => return Ok(()),
                None => {}
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) if ends => {
                    open.retain(|r| r.tp.partition != partition);
                }
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => {}
                Some(Err(e)) if is_transient(&e) => {}
                Some(Err(e)) => return Err(wrong(e)),
                Some(Ok(message)) => {
                    moved = Instant::now();
                    // Few are open at a time: as many as topics have partitions.
                    let here = |r: &Range<'_>| r.tp.partition == message.partition() && r.tp.topic == message.topic();
                    let Some(index) = open.iter().position(here) else { continue };
                    let range = &mut open[index];
                    let offset = message.offset();
                    if (range.next..range.end).contains(&offset) {
                        see(&message);
                    }
                    // What the caller does with a record, and waits for meanwhile, is no silence of the broker.
                    moved = Instant::now();
                    range.next = range.next.max(offset + 1);
                    if range.next >= range.end {
                        open.swap_remove(index);
                    }
                }
            }
            if moved.elapsed() > silence.now() {
                let left: Vec<String> = open.iter().map(|r| format!("{}-{}", r.tp.topic, r.tp.partition)).collect();
                return Err(ClientError::TimedOut {
                    what: format!("records of {}", left.join(", ")),
                    seconds: moved.elapsed().as_secs_f64(),
                    bound: format!("nothing moved; limit: {silence}"),
                    last: "no record arrived although the end was not reached".into(),
                    hints: Vec::new(),
                });
            }
        }
        Ok(())
    }
}

/// A stretch of a partition that is being read.
struct Range<'r> {
    tp: &'r TopicPartition,
    /// The first offset that was not seen.
    next: i64,
    /// The offset after the last one that is wanted.
    end: i64,
}

/// Large fetches, no checksums (loopback or TCP already has them), no stored position.
pub(super) fn reader(base: &ClientConfig) -> ClientConfig {
    let mut config = base.clone();
    config
        .set("group.id", "cdc-drill-reader")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "20")
        .set("fetch.message.max.bytes", "2097152")
        .set("fetch.max.bytes", "16777216")
        .set("queued.min.messages", "100000")
        .set("queued.max.messages.kbytes", "32768");
    config
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A broker with one record in each of two partitions of the topic `t`.
    fn two_records() -> (rdkafka::mocking::MockCluster<'static, rdkafka::producer::DefaultProducerContext>, Kafka) {
        use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
        let cluster = rdkafka::mocking::MockCluster::new(1).unwrap();
        cluster.create_topic("t", 2, 1).unwrap();
        let kafka = Kafka::connect(&cluster.bootstrap_servers()).unwrap();
        let producer: BaseProducer = kafka.base.clone().create().unwrap();
        for partition in [0, 1] {
            producer
                .send(BaseRecord::<str, str>::to("t").partition(partition).payload("row"))
                .map_err(|(e, _)| e)
                .unwrap();
        }
        producer.flush(Duration::from_secs(20)).unwrap();
        (cluster, kafka)
    }

    #[test]
    fn what_the_reader_does_with_a_record_is_no_silence_of_the_broker() {
        let (_cluster, kafka) = two_records();
        let whole = |partition| (TopicPartition { topic: "t".into(), partition }, Offset(0), Offset(1));
        let silence = Duration::from_millis(400);
        let mut seen = 0;
        let slowly = |_: &BorrowedMessage<'_>| {
            seen += 1;
            // A registry that lets the reader wait for a schema.
            std::thread::park_timeout(2 * silence);
        };
        kafka.scan_while(&[whole(0), whole(1)], silence.into(), slowly).unwrap();
        assert_eq!(seen, 2);
    }
}
