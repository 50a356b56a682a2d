//! The connectors: configuration, state and positions, by REST and as the raw records behind them.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::Value;

use crate::backup::{
    BackupError,
    format::{
        ConnectFacts, RawRecord, SavedConnector, SavedTask, SchemaHistory, SchemaHistoryTopic, encode_name, layout,
    },
    writer::PointWriter,
};
use cdc_pipeline::{
    client::{
        ClientError,
        connect::Connect,
        kafka::{Kafka, Record},
    },
    config::Config,
};

/// The setting by which a connector names its schema history topic. PostgreSQL connectors have none.
pub(crate) const SCHEMA_HISTORY_TOPIC: &str = "schema.history.internal.kafka.topic";

/// A record as a point has it.
fn raw_record(topic: &str, record: &Record) -> RawRecord {
    let encode = |bytes: &Vec<u8>| BASE64.encode(bytes);
    RawRecord {
        topic: topic.to_owned(),
        kpart: record.partition,
        koffset: record.offset.0,
        ts: record.timestamp_ms,
        raw_key_b64: record.key.as_ref().map(encode),
        raw_value_b64: record.value.as_ref().map(encode),
        headers: record.headers.iter().map(|(k, v)| (k.clone(), v.as_ref().map(encode))).collect(),
        connector: None,
        partition: None,
        offset: None,
    }
}

/// An offset's key is `["<connector>", {partition}]`, its value the position; other shapes keep only their bytes.
fn raw_offset(topic: &str, record: &Record) -> RawRecord {
    let mut raw = raw_record(topic, record);
    let parse = |bytes: &Option<Vec<u8>>| bytes.as_deref().and_then(|b| serde_json::from_slice::<Value>(b).ok());
    if let Some(key) = parse(&record.key) {
        raw.connector = key[0].as_str().map(str::to_owned);
        raw.partition = key.get(1).cloned();
    }
    raw.offset = parse(&record.value);
    raw
}

/// Captures the connectors.
pub(crate) async fn capture(config: &Config, writer: &mut PointWriter) -> Result<ConnectFacts, BackupError> {
    let connect = Connect::of(&config.connect);
    let root = connect.root().await?;
    let connectors = connectors(&connect).await?;
    writer.json(layout::CONNECTORS, &connectors)?;
    let kafka = Kafka::of(&config.kafka)?;
    let there = kafka.topics().await?;
    let topic = &config.connect.offsets_topic;
    let (offset_records, offset_records_absent) = if there.contains_key(topic) {
        let records = kafka.read_all(topic).await?;
        let lines: Vec<RawRecord> = records.iter().map(|r| raw_offset(topic, r)).collect();
        writer.json_lines(layout::OFFSETS, &lines)?;
        (Some(lines.len() as u64), None)
    } else {
        (None, Some(format!("the broker has no topic {topic}")))
    };
    let schema_history = schema_history(&kafka, &there, &connectors, writer).await?;
    Ok(ConnectFacts {
        cluster_id: root["kafka_cluster_id"].as_str().map(str::to_owned),
        version: root["version"].as_str().map(str::to_owned),
        connectors: connectors.len() as u64,
        offset_records,
        offset_records_absent,
        offsets_max_lsn: connectors.iter().flat_map(SavedConnector::stored_lsns).max(),
        schema_history,
    })
}

async fn connectors(connect: &Connect) -> Result<Vec<SavedConnector>, BackupError> {
    let mut saved = Vec::new();
    for name in connect.connectors().await? {
        match connector(connect, &name).await {
            Ok(connector) => saved.push(connector),
            // Deleted since it was listed.
            Err(e) if e.status() == Some(404) && !connect.exists(&name).await? => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(saved)
}

async fn connector(connect: &Connect, name: &str) -> Result<SavedConnector, ClientError> {
    let config = connect.config(name).await?;
    let (kind, state, tasks) = match connect.status(name).await {
        Ok(status) => {
            let tasks = status.tasks.into_iter().map(|t| SavedTask { id: t.id, state: t.state }).collect();
            (status.kind, status.connector.state, tasks)
        }
        // A connector just created has no state yet.
        Err(e) if e.status() == Some(404) => ("unknown".to_owned(), "UNASSIGNED".to_owned(), Vec::new()),
        Err(e) => return Err(e),
    };
    let read = async { Ok::<_, ClientError>((connect.topics(name).await?, connect.offsets(name).await?)) };
    let (topics, offsets, unread) = match read.await {
        Ok((topics, offsets)) => (topics, offsets, None),
        // Its raw offsets are in the point as everybody's.
        Err(error) if error.is_unaddressable() => {
            tracing::warn!("the topics and positions of connector {name} are left out: {error}");
            (Vec::new(), Vec::new(), Some(error.to_string()))
        }
        Err(error) => return Err(error),
    };
    Ok(SavedConnector { name: name.to_owned(), kind, state, tasks, config, topics, offsets, unread })
}

async fn schema_history(
    kafka: &Kafka,
    there: &std::collections::BTreeMap<String, i32>,
    connectors: &[SavedConnector],
    writer: &mut PointWriter,
) -> Result<SchemaHistory, BackupError> {
    let mut topics: Vec<SchemaHistoryTopic> = Vec::new();
    for connector in connectors {
        let Some(topic) = connector.config.get(SCHEMA_HISTORY_TOPIC).filter(|t| !t.is_empty()) else { continue };
        let mut entry = SchemaHistoryTopic {
            connector: connector.name.clone(),
            topic: topic.clone(),
            present: false,
            reason: None,
            records: 0,
            file: None,
        };
        let path = layout::schema_history(&encode_name(topic));
        if let Some(same) = topics.iter().find(|t| t.topic == *topic) {
            // Two connectors may share one: it is captured once.
            entry = SchemaHistoryTopic { connector: connector.name.clone(), ..same.clone() };
        } else if there.contains_key(topic) {
            let records = kafka.read_all(topic).await?;
            let lines: Vec<RawRecord> = records.iter().map(|r| raw_record(topic, r)).collect();
            writer.json_lines(&path, &lines)?;
            entry.present = true;
            entry.records = lines.len() as u64;
            entry.file = Some(path);
        } else {
            entry.reason = Some("the broker has no such topic".into());
        }
        topics.push(entry);
    }
    let present = topics.iter().any(|t| t.present);
    let reason = match (present, topics.is_empty()) {
        (true, _) => None,
        (false, true) => Some(format!(
            "no connector names a schema history topic ({SCHEMA_HISTORY_TOPIC}); PostgreSQL connectors have none"
        )),
        (false, false) => Some("the broker has none of the topics that connectors name".to_owned()),
    };
    Ok(SchemaHistory { present, reason, topics })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::Offset;

    fn record(key: &[u8], value: Option<&[u8]>) -> Record {
        Record {
            partition: 3,
            offset: Offset(9),
            timestamp_ms: Some(5),
            key: Some(key.to_vec()),
            value: value.map(<[u8]>::to_vec),
            headers: vec![("h".into(), None)],
        }
    }

    #[test]
    fn an_offset_keeps_its_bytes_and_says_whose_it_is() {
        let raw = raw_offset("o", &record(br#"["shop",{"server":"s"}]"#, Some(br#"{"lsn":  12}"#)));
        assert_eq!(raw.connector.as_deref(), Some("shop"));
        assert_eq!(raw.offset.as_ref().unwrap()["lsn"], 12);
        assert_eq!(BASE64.decode(raw.raw_value_b64.unwrap()).unwrap(), br#"{"lsn":  12}"#);
        let tombstone = raw_offset("o", &record(b"not json", None));
        assert_eq!((tombstone.connector, tombstone.raw_value_b64), (None, None));
        assert_eq!(tombstone.headers, [("h".to_owned(), None)]);
    }
}
