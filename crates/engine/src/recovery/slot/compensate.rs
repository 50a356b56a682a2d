//! Deletes and tombstones for keys that the topics still show and the tables no longer have.
//!
//! Done after the new snapshot: whatever is in a table then has a record behind the epoch's cut. What has none is gone, and
//! must be said so. The table is locked against writers while that is decided and written, so that no new row of the same
//! key can come between.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::recovery::{
    RecoveryError,
    pipeline::{Source, captured_tables},
    repair::Repair,
    slot::record::{Codec, Shape},
    step::Done,
};
use cdc_model::{
    moment::{self, HALF_WAY},
    units::{Offset, TableName, TopicPartition},
};
use cdc_pipeline::client::{
    connect::ConnectorConfig,
    kafka::{Kafka, Outgoing},
    postgres::Postgres,
    registry::Registry,
};
use cdc_postgres::sql::{identifier, literal};

/// Key columns that have one text form, the same in a record and in the table.
const COMPARABLE: [&str; 7] = ["smallint", "integer", "bigint", "text", "character varying", "uuid", "boolean"];
/// Keys asked for in one statement.
const KEYS_AT_ONCE: usize = 1000;

/// A captured table with its key.
struct Keyed {
    table: TableName,
    topic: String,
    /// Name and type of each key column, in key order.
    columns: Vec<(String, String)>,
}

/// Partition, key and value of a record from before the cut.
type Old = (i32, Vec<u8>, Vec<u8>);

/// A key whose latest record shows a row and was written before the cut.
struct Candidate {
    partition: i32,
    key: Vec<u8>,
    value: Vec<u8>,
    columns: Vec<String>,
}

/// Requires that every captured table has a key that can be compared, before anything is touched.
pub(crate) async fn refuse_unkeyed(repair: &Repair) -> Result<(), RecoveryError> {
    for source in &repair.pipeline.sources {
        let server = repair.pipeline.session(source).await?;
        keyed_tables(&server, source).await?;
    }
    Ok(())
}

/// Writes what is missing in the topics.
pub(super) async fn compensate(repair: &mut Repair) -> Result<Done, RecoveryError> {
    let registry = Registry::of(&repair.pipeline.config.registry);
    let cut: BTreeMap<TopicPartition, Offset> = repair.cut.iter().cloned().collect();
    let mut written = 0;
    for source in &repair.pipeline.sources {
        let server = repair.pipeline.session(source).await?;
        for keyed in keyed_tables(&server, source).await? {
            written += one_table(&repair.pipeline.kafka, &registry, &server, &keyed, &cut).await?;
            moment::pass(HALF_WAY).await?;
        }
    }
    repair.compensated = written;
    Ok(if written == 0 { Done::Nothing("every key in the topics is in its table") } else { Done::Acted })
}

async fn one_table(
    kafka: &Kafka,
    registry: &Registry,
    server: &Postgres,
    keyed: &Keyed,
    cut: &BTreeMap<TopicPartition, Offset>,
) -> Result<u64, RecoveryError> {
    let mut codec = Codec::new(registry.clone());
    let candidates = candidates(kafka, &mut codec, keyed, cut).await?;
    if candidates.is_empty() {
        return Ok(0);
    }
    server.run("begin").await?;
    let outcome = async {
        server.run(&format!("lock table {} in share mode", keyed.table.quoted())).await?;
        let there = present(server, keyed, &candidates).await?;
        let mut records = Vec::new();
        for gone in candidates.iter().filter(|c| !there.contains(&c.columns)) {
            let record = |value| Outgoing {
                topic: keyed.topic.clone(),
                partition: Some(gone.partition),
                key: Some(gone.key.clone()),
                value,
                headers: Vec::new(),
            };
            if let Some(delete) = codec.delete_event(&gone.value).await? {
                records.push(record(Some(delete)));
            }
            records.push(record(None));
        }
        let keys = candidates.iter().filter(|c| !there.contains(&c.columns)).count() as u64;
        kafka.produce_all(records).await?;
        Ok(keys)
    }
    .await;
    // Nothing was changed in the table; ending the transaction lets go of the lock.
    server.run("rollback").await?;
    outcome
}

/// The latest record of each key, of those that show a row and are older than the cut.
async fn candidates(
    kafka: &Kafka,
    codec: &mut Codec,
    keyed: &Keyed,
    cut: &BTreeMap<TopicPartition, Offset>,
) -> Result<Vec<Candidate>, RecoveryError> {
    let marks = kafka.watermarks(&keyed.topic).await?;
    let at = |p: usize| TopicPartition { topic: keyed.topic.clone(), partition: p as i32 };
    let ranges: Vec<_> = marks.into_iter().enumerate().map(|(p, (low, high))| (at(p), low, high)).collect();
    let (kafka, cut) = (kafka.clone(), cut.clone());
    let topic = keyed.topic.clone();
    let read = tokio::task::spawn_blocking(move || {
        use rdkafka::Message;
        // By the key's payload: the same key may have been written under two schema ids.
        let mut latest: HashMap<Vec<u8>, Option<Old>> = HashMap::new();
        kafka.scan(&ranges, |record| {
            let Some(key) = record.key() else { return };
            let tp = TopicPartition { topic: topic.clone(), partition: record.partition() };
            let old = cut.get(&tp).is_some_and(|at| record.offset() < at.0);
            let state = record.payload().filter(|_| old).map(|v| (record.partition(), key.to_vec(), v.to_vec()));
            latest.insert(Shape::payload(key).to_vec(), state);
        })?;
        Ok::<_, RecoveryError>(latest)
    });
    let latest = read.await.map_err(|e| RecoveryError::Program { program: "read".into(), detail: e.to_string() })??;
    let names: Vec<&str> = keyed.columns.iter().map(|(n, _)| n.as_str()).collect();
    let mut found = Vec::new();
    for (partition, key, value) in latest.into_values().flatten() {
        if codec.is_delete(&value).await? {
            continue;
        }
        let columns = codec.key_columns(&key, &names).await?;
        found.push(Candidate { partition, key, value, columns });
    }
    Ok(found)
}

/// Which of the candidates' keys are in the table.
async fn present(
    server: &Postgres,
    keyed: &Keyed,
    candidates: &[Candidate],
) -> Result<BTreeSet<Vec<String>>, RecoveryError> {
    let names: Vec<String> = keyed.columns.iter().map(|(n, _)| identifier(n)).collect();
    let texts: Vec<String> = names.iter().map(|n| format!("{n}::text")).collect();
    let mut there = BTreeSet::new();
    for some in candidates.chunks(KEYS_AT_ONCE) {
        let rows = some.iter().map(|c| {
            let cells = c.columns.iter().zip(&keyed.columns).map(|(v, (_, t))| format!("{}::{t}", literal(v)));
            format!("({})", cells.collect::<Vec<_>>().join(", "))
        });
        let sql = format!(
            "select {} from {} where ({}) in (values {})",
            texts.join(", "),
            keyed.table.quoted(),
            names.join(", "),
            rows.collect::<Vec<_>>().join(", ")
        );
        for row in server.texts(&sql).await? {
            there.insert(row.into_iter().flatten().collect());
        }
    }
    Ok(there)
}

/// Whether the connector may give a key column another name: what writes Avro, or is told to, writes only names that Avro allows.
fn is_adjusted(config: &ConnectorConfig, column: &str) -> bool {
    let mode = config.get("field.name.adjustment.mode").map_or("none", |mode| mode.trim());
    let json = config.get("key.converter").is_some_and(|class| class.ends_with("JsonConverter"));
    if mode == "none" && json {
        return false;
    }
    let stays = |c: char| c.is_ascii_alphanumeric() || (c == '_' && mode != "avro_unicode");
    !column.starts_with(|c: char| c.is_ascii_alphabetic() || (c == '_' && stays(c))) || !column.chars().all(stays)
}

async fn keyed_tables(server: &Postgres, source: &Source) -> Result<Vec<Keyed>, RecoveryError> {
    if let Some(why) = source.capture.renames_topics.first() {
        return Err(RecoveryError::impossible(
            format!("connector {}", source.name),
            "one whose records go to the topics of its tables",
            format!("perhaps other topics, by {why}"),
            "its topics can only be made right by --topics purge",
        ));
    }
    let mut keyed = Vec::new();
    for table in captured_tables(server, &source.capture).await? {
        let sql = format!(
            "select a.attname, format_type(a.atttypid, null) from pg_index i, unnest(i.indkey) with ordinality k(n, o), pg_attribute a \
             where i.indrelid = {}::regclass and i.indisprimary and a.attrelid = i.indrelid and a.attnum = k.n order by k.o",
            literal(&table.quoted())
        );
        let rows = server.texts(&sql).await?;
        let columns: Vec<(String, String)> = rows
            .into_iter()
            .filter_map(|r| r.into_iter().flatten().collect::<Vec<_>>().try_into().ok())
            .map(|[n, t]: [String; 2]| (n, t))
            .collect();
        let refuse = |found: String| {
            RecoveryError::impossible(
                format!("table {table}"),
                format!("a primary key of {}", COMPARABLE.join(", ")),
                found,
                "its topic can only be made right by --topics purge",
            )
        };
        if columns.is_empty() {
            return Err(refuse("no primary key".into()));
        }
        if let Some((name, kind)) = columns.iter().find(|(_, t)| !COMPARABLE.contains(&t.as_str())) {
            return Err(refuse(format!("key column {name} of type {kind}")));
        }
        if let Some((name, _)) = columns.iter().find(|(name, _)| is_adjusted(&source.config, name)) {
            return Err(refuse(format!("key column {name}, which has another name in records")));
        }
        let topic = source.capture.topics.topic(&table);
        if source.topics.contains(&topic) {
            keyed.push(Keyed { table, topic, columns });
        }
    }
    Ok(keyed)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain("order_id2", "none", "AvroConverter", false)]
    #[case::space("O rder", "none", "AvroConverter", true)]
    #[case::digit("2nd", "avro", "JsonConverter", true)]
    #[case::underscore("order_id", "avro_unicode", "JsonConverter", true)]
    #[case::first_underscore("_id", "avro", "JsonConverter", false)]
    #[case::json("2nd O rder", "none", "JsonConverter", false)]
    fn a_key_column_that_has_another_name_in_records(
        #[case] column: &str,
        #[case] mode: &str,
        #[case] converter: &str,
        #[case] adjusted: bool,
    ) {
        let config = [("field.name.adjustment.mode", mode), ("key.converter", converter)];
        let config = config.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        assert_eq!(is_adjusted(&config, column), adjusted);
    }
}
