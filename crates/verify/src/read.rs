//! Reads data topics into folds, partitions in parallel. Blocks: called from a blocking task.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use rdkafka::Message;

use super::{
    VerifyError,
    decode::record::{Decoder, Schemas},
    fold::{Deferred, PartitionFold, TopicFold},
};
use crate::decode::{settings::ConnectorSettings, table::Columns};
use cdc_model::units::{Offset, TableName, TopicPartition};
use cdc_pipeline::client::kafka::Kafka;

/// librdkafka fetches on threads of its own; more readers than this only take turns.
const READERS: usize = 2;

/// Which transactions a table's snapshot sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visibility {
    /// Every transaction below is visible.
    pub xmin: u64,
    /// No transaction from here on is visible.
    pub xmax: u64,
    /// Those in between that are not.
    pub running: Vec<u64>,
}

impl Visibility {
    /// Reads `pg_current_snapshot()`: `10:20:10,14`.
    pub fn parse(text: &str) -> Option<Visibility> {
        let mut parts = text.split(':');
        let xmin = parts.next()?.parse().ok()?;
        let xmax = parts.next()?.parse().ok()?;
        let running = parts.next()?.split(',').filter_map(|x| x.parse().ok()).collect();
        Some(Visibility { xmin, xmax, running })
    }

    /// Whether a transaction is visible. Events may carry only the low half of its id.
    pub fn sees(&self, tx: u64) -> bool {
        let low = tx & 0xffff_ffff;
        let mut full = (self.xmax & !0xffff_ffff) | low;
        if full > self.xmax && full - self.xmax > 1 << 31 {
            full = full.saturating_sub(1 << 32);
        }
        full < self.xmax && !self.running.contains(&full)
    }
}

/// One topic to read.
#[derive(Clone, Debug)]
pub struct TopicPlan {
    /// The topic.
    pub topic: String,
    /// Its connector.
    pub settings: Arc<ConnectorSettings>,
    /// Its table.
    pub name: TableName,
    /// The table's columns.
    pub columns: Arc<Columns>,
    /// Whether every event is kept.
    pub log: bool,
    /// The column with the token.
    pub token_column: Option<usize>,
    /// What the table's snapshot sees; without it every event counts.
    pub visible: Option<Visibility>,
}

/// A stretch of a partition.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// The partition.
    pub partition: TopicPartition,
    /// The first offset to read.
    pub from: Offset,
    /// The offset after the last one to read.
    pub to: Offset,
    /// Records below this offset were written before the table's snapshot was taken: they count whether their
    /// transaction is visible or not. A transaction that is not is another timeline's.
    pub settled: Offset,
}

impl TopicPlan {
    fn decoder(&self, schemas: &Arc<Schemas>) -> Decoder {
        Decoder::new(self.settings.clone(), self.columns.clone(), schemas.clone(), &self.name.schema, &self.name.name)
    }
}

/// Reads stretches into the folds of their topics; folds that are there are continued. After an error they are worth nothing.
pub fn read(
    kafka: &Kafka,
    schemas: &Arc<Schemas>,
    plans: &[TopicPlan],
    stretches: &[Stretch],
    folds: &mut BTreeMap<String, TopicFold>,
) -> Result<(), VerifyError> {
    let mut shares: Vec<Vec<&Stretch>> = vec![Vec::new(); READERS];
    let mut sorted: Vec<&Stretch> = stretches.iter().collect();
    sorted.sort_by_key(|s| std::cmp::Reverse(s.to.0 - s.from.0));
    for (i, stretch) in sorted.into_iter().enumerate() {
        shares[i % READERS].push(stretch);
    }
    let mut taken: BTreeMap<TopicPartition, PartitionFold> = BTreeMap::new();
    for (topic, fold) in folds.iter_mut() {
        for partition in fold.partitions.drain(..) {
            taken.insert(TopicPartition { topic: topic.clone(), partition: partition.partition }, partition);
        }
    }
    let taken = Mutex::new(taken);
    let learned: Mutex<Vec<(String, Decoder)>> = Mutex::new(Vec::new());
    let outcome = std::thread::scope(|scope| {
        let handles: Vec<_> = shares
            .iter()
            .filter(|share| !share.is_empty())
            .map(|share| scope.spawn(|| read_share(kafka, schemas, plans, share, &taken, &learned)))
            .collect();
        handles.into_iter().try_for_each(|handle| match handle.join() {
            Ok(result) => result,
            Err(_) => Err(VerifyError::Thread("a reader panicked".into())),
        })
    });
    let taken = taken.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    for (tp, partition) in taken {
        folds.entry(tp.topic).or_default().partitions.push(partition);
    }
    for (topic, decoder) in learned.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        folds.entry(topic).or_default().learn(&decoder);
    }
    outcome?;
    schemas.take_unanswered().map_or(Ok(()), |error| Err(error.into()))
}

/// A topic's decoder and the folds of those of its partitions that a thread reads.
struct Reading<'p> {
    plan: &'p TopicPlan,
    decoder: Decoder,
    partitions: Vec<Option<(PartitionFold, Offset)>>,
}

fn read_share(
    kafka: &Kafka,
    schemas: &Arc<Schemas>,
    plans: &[TopicPlan],
    share: &[&Stretch],
    taken: &Mutex<BTreeMap<TopicPartition, PartitionFold>>,
    learned: &Mutex<Vec<(String, Decoder)>>,
) -> Result<(), VerifyError> {
    let mut readings: BTreeMap<&str, Reading<'_>> = BTreeMap::new();
    let mut ranges = Vec::new();
    for stretch in share {
        let Some(plan) = plans.iter().find(|p| p.topic == stretch.partition.topic) else { continue };
        let reading = readings.entry(&plan.topic).or_insert_with(|| Reading {
            plan,
            decoder: plan.decoder(schemas),
            partitions: Vec::new(),
        });
        let number = stretch.partition.partition;
        let fold = taken.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&stretch.partition);
        let mut fold = fold.unwrap_or_else(|| PartitionFold::new(number, plan.log, plan.token_column));
        fold.next = fold.next.max(stretch.to.0);
        let index = number.max(0) as usize;
        if reading.partitions.len() <= index {
            reading.partitions.resize_with(index + 1, || None);
        }
        // Records kept for later go first: they stand before everything that is read now.
        let kept = std::mem::take(&mut fold.deferred);
        for record in kept {
            let record = Written {
                offset: record.offset,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                written_ms: record.written_ms,
            };
            take(&mut fold, &mut reading.decoder, plan, stretch.settled, &record);
        }
        reading.partitions[index] = Some((fold, stretch.settled));
        ranges.push((stretch.partition.clone(), stretch.from, stretch.to));
    }
    let scanned = kafka.scan(&ranges, |message| {
        let Some(reading) = readings.get_mut(message.topic()) else { return };
        let Some(Some((fold, settled))) = reading.partitions.get_mut(message.partition().max(0) as usize) else {
            return;
        };
        let record = Written {
            offset: message.offset(),
            key: message.key(),
            value: message.payload(),
            written_ms: message.timestamp().to_millis(),
        };
        take(fold, &mut reading.decoder, reading.plan, *settled, &record);
    });
    for (topic, reading) in readings {
        let mut taken = taken.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (fold, _) in reading.partitions.into_iter().flatten() {
            taken.insert(TopicPartition { topic: topic.to_owned(), partition: fold.partition }, fold);
        }
        learned.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((topic.to_owned(), reading.decoder));
    }
    scanned.map_err(VerifyError::from)
}

/// A record as it stands in its partition.
struct Written<'r> {
    offset: i64,
    key: Option<&'r [u8]>,
    value: Option<&'r [u8]>,
    written_ms: Option<i64>,
}

/// Takes one record: applies it, keeps it for later, or notes that it cannot be read.
fn take(fold: &mut PartitionFold, decoder: &mut Decoder, plan: &TopicPlan, settled: Offset, record: &Written<'_>) {
    let Written { offset, key, value, written_ms } = *record;
    match decoder.decode(key, value) {
        Err(why) => fold.problem(offset, why),
        Ok(mut event) => {
            // A record that does not tell when the connector made it was written right then.
            if let (0, Some(ms)) = (event.meta.made_ns, written_ms) {
                event.meta.made_ns = ms.saturating_mul(1_000_000);
            }
            let later =
                offset >= settled.0 && plan.visible.as_ref().zip(event.meta.tx).is_some_and(|(v, tx)| !v.sees(tx));
            // A tombstone says nothing of its transaction; it belongs to the record before it.
            let follows = value.is_none() && fold.deferred.back().is_some_and(|d| d.key.as_deref() == key);
            if later || follows {
                fold.deferred.push_back(Deferred {
                    offset,
                    key: key.map(<[u8]>::to_vec),
                    value: value.map(<[u8]>::to_vec),
                    written_ms,
                });
            } else {
                fold.apply(&event, offset);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_sees_what_was_committed() {
        let snapshot = Visibility::parse("10:20:10,14").unwrap();
        let seen: Vec<u64> = (8..23).filter(|tx| snapshot.sees(*tx)).collect();
        assert_eq!(seen, [8, 9, 11, 12, 13, 15, 16, 17, 18, 19]);
    }

    #[test]
    fn half_an_id_belongs_to_the_nearest_whole_one() {
        let snapshot = Visibility::parse("4294967300:4294967310:").unwrap();
        assert!(snapshot.sees(5) && !snapshot.sees(20), "the low halves of 4294967301 and 4294967316");
        assert!(snapshot.sees(4294967290), "before the wrap");
        assert!(snapshot.sees(4294967301) && !snapshot.sees(4294967316));
    }
}
