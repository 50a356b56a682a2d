//! Finds topics that hold records whose schema id does not mean, in the registry to be, what it meant when they were
//! written.

use std::collections::{BTreeMap, BTreeSet};

use super::{found::Wrong, merge::reassigned};
use crate::{
    backup::parts::registry::Dump,
    recovery::{RecoveryError, slot::Shape},
};
use cdc_model::units::{SchemaId, TopicPartition, counted};
use cdc_pipeline::client::kafka::Kafka;

/// Reads the ids in all records of these topics and compares them with what they shall mean. `broken` is the registry as it
/// was found: an id that means something else there was written for one of two schemas, and nobody can tell which.
pub(crate) async fn wrong_records(
    kafka: &Kafka,
    topics: &[String],
    wanted: &Dump,
    broken: &Dump,
) -> Result<Wrong, RecoveryError> {
    let there = kafka.topics().await?;
    let mut ranges = Vec::new();
    for topic in topics.iter().filter(|t| there.contains_key(*t)) {
        for (partition, (low, high)) in kafka.watermarks(topic).await?.into_iter().enumerate() {
            ranges.push((TopicPartition { topic: topic.clone(), partition: partition as i32 }, low, high));
        }
    }
    let kafka = kafka.clone();
    let read = tokio::task::spawn_blocking(move || {
        use rdkafka::Message;
        let mut used: BTreeMap<(String, bool, SchemaId), u64> = BTreeMap::new();
        kafka.scan(&ranges, |record| {
            for (value, bytes) in [(false, record.key()), (true, record.payload())] {
                if let Some(Shape::Avro(id)) = bytes.map(Shape::of) {
                    *used.entry((record.topic().to_owned(), value, id)).or_default() += 1;
                }
            }
        })?;
        Ok::<_, RecoveryError>(used)
    });
    let used = read.await.map_err(|e| RecoveryError::Program { program: "read".into(), detail: e.to_string() })??;
    Ok(judge(&used, wanted, broken))
}

fn judge(used: &BTreeMap<(String, bool, SchemaId), u64>, wanted: &Dump, broken: &Dump) -> Wrong {
    let moved = reassigned(wanted, broken);
    let meaning = wanted.ids();
    let (right, written) = (by_subject(wanted), by_subject(broken));
    let known: BTreeSet<&str> = right.keys().map(|(s, _)| *s).collect();
    let mut wrong = Wrong::new();
    for ((topic, value, id), records) in used {
        let subject = format!("{topic}-{}", if *value { "value" } else { "key" });
        let key = (subject.as_str(), *id);
        let ok = match (known.contains(subject.as_str()), right.get(&key), written.get(&key)) {
            // The broken registry gave this subject the same id for another schema: nobody can tell which was meant.
            (true, Some(meant), Some(other)) => meant == other,
            (true, Some(_), None) => true,
            (true, None, _) => false,
            // Where subjects are named otherwise, only the meaning of the id can be compared.
            (false, ..) => meaning.contains_key(id) && !moved.contains(id),
        };
        if !ok {
            *wrong.entry(topic.clone()).or_default().entry(*id).or_default() += records;
        }
    }
    wrong
}

/// The schema that an id means in a subject.
fn by_subject(dump: &Dump) -> BTreeMap<(&str, SchemaId), &str> {
    dump.versions.iter().map(|v| ((v.subject.as_str(), dump.record_id(v)), v.schema_sha256.as_str())).collect()
}

/// `topic: 12 records under ids 3, 4`.
pub(crate) fn described(wrong: &Wrong) -> Vec<String> {
    let line = |(topic, ids): (&String, &BTreeMap<SchemaId, u64>)| {
        let records: u64 = ids.values().sum();
        let ids: Vec<String> = ids.keys().map(ToString::to_string).collect();
        format!(
            "topic {topic}: {records} under wrong schema ids ({})",
            ids.join(", "),
            records = counted(records, "record")
        )
    };
    wrong.iter().map(line).collect()
}
