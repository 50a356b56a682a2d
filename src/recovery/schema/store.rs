//! The registry's store: set aside, never thrown away, and filled anew.

use base64::Engine;
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;

use super::merge::differences;
use crate::{
    backup::{
        Store, is_there,
        parts::registry::{Dump, capture, import_zip},
    },
    client::{
        kafka::{Kafka, Record, TopicSpec},
        limits,
        registry::Registry,
        wait,
        wait::Poll,
    },
    config::{Config, RegistryStorage},
    recovery::{RecoveryError, memory::Memory, server::Control},
};

/// Under which names the record has where the store is now, and the topics that it is in.
const SET_ASIDE: &str = "registry-set-aside";
const STORE_TOPICS: &str = "registry-topics";

/// Stops the registry, sets its store aside, starts it empty, imports, and reads back.
pub(super) async fn rebuild(config: &Config, wanted: &Dump, memory: &Memory) -> Result<String, RecoveryError> {
    let registry = Registry::of(&config.registry);
    let control = Control::of(config, "registry")?;
    let storage = storage_of(config)?;
    // Made before anything is stopped: it refuses content that no registry can hold.
    let zip = import_zip(wanted).map_err(|why| {
        RecoveryError::impossible(
            "content of the registry",
            "one text an id, one id a text",
            why,
            "choose another recovery point",
        )
    })?;
    control.stop().await?;
    let aside = set_aside(config, storage, memory).await?;
    control.start().await?;
    wait::until("the registry to answer", limits::registries::START, || async {
        registry.info().await.map(Poll::Ready)
    })
    .await?;
    let left = registry.subjects(true).await?;
    if let Some(subject) = left.first() {
        let found = format!("{} subjects, {subject} among them", left.len());
        return Err(RecoveryError::unmet("repair-registry", "an empty registry", found));
    }
    registry.import(zip).await?;
    super::levels::put(&registry, wanted).await?;
    let found = differences(wanted, &capture(&registry).await?);
    match found.first() {
        None => Ok(format!("the store was set aside ({aside}) and filled anew")),
        Some(first) => Err(RecoveryError::unmet(
            "repair-registry",
            "the content to be, read back",
            format!("{} differences, first: {first}", found.len()),
        )),
    }
}

/// Where the registry keeps its content, as the configuration says.
pub(super) fn storage_of(config: &Config) -> Result<&RegistryStorage, RecoveryError> {
    config.registry.storage.as_ref().ok_or_else(|| {
        RecoveryError::impossible(
            "[registry.storage]",
            "where the registry keeps its content: ids can only be restored into an empty store",
            "nothing",
            "name the H2 path or the topics in the configuration",
        )
    })
}

/// Where the registry's store was set aside, or is about to be.
pub(crate) fn store_aside(memory: &Memory) -> Result<Option<Utf8PathBuf>, RecoveryError> {
    memory.learned(SET_ASIDE)
}

async fn set_aside(config: &Config, storage: &RegistryStorage, memory: &Memory) -> Result<String, RecoveryError> {
    match storage {
        RegistryStorage::H2 { path } => h2_aside(path, memory),
        RegistryStorage::Kafkasql { topics } => {
            let kafka = Kafka::of(&config.kafka)?;
            topics_aside(&kafka, topics, memory).await
        }
    }
}

/// Moves the database's files into a folder beside them.
fn h2_aside(path: &Utf8Path, memory: &Memory) -> Result<String, RecoveryError> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(RecoveryError::impossible(
            "[registry.storage] path",
            "a file's path",
            path.as_str(),
            "name the database",
        ));
    };
    // What a run that was cut has set aside is the store as it was; what is in its place now is half an import.
    let name_of = |round: u32| match round {
        1 => folder.join(format!("aside-{}", memory.id())),
        _ => folder.join(format!("aside-{}-{round}", memory.id())),
    };
    let mut round = 1;
    while is_there(&name_of(round))? {
        round += 1;
    }
    let aside = name_of(round);
    memory.note(SET_ASIDE, &aside)?;
    Store::new(folder)?.folder(&aside)?;
    let entries = folder.read_dir_utf8().map_err(|e| RecoveryError::io("list", folder, e))?;
    let own = format!("{name}.");
    for entry in entries {
        let entry = entry.map_err(|e| RecoveryError::io("list", folder, e))?;
        if entry.file_name().starts_with(&own) {
            let to = aside.join(entry.file_name());
            std::fs::rename(entry.path(), &to).map_err(|e| RecoveryError::io("move to", &to, e))?;
        }
    }
    Ok(aside.to_string())
}

/// Copies the topics' records into the recovery's record, then empties the topics by making them anew.
async fn topics_aside(kafka: &Kafka, topics: &[String], memory: &Memory) -> Result<String, RecoveryError> {
    let mut text = String::new();
    // A run that was cut between deleting and making them leaves topics missing, whose records are aside already.
    let specs = match memory.learned::<Vec<TopicSpec>>(STORE_TOPICS)? {
        Some(specs) => specs,
        None => kafka.topic_specs(topics).await?,
    };
    memory.note(STORE_TOPICS, &specs)?;
    let there = kafka.topics().await?;
    for spec in specs.iter().filter(|spec| there.contains_key(&spec.name)) {
        for record in kafka.read_all(&spec.name).await? {
            text.push_str(&line_of(&spec.name, &record));
        }
    }
    let aside = match memory.learned::<Utf8PathBuf>(SET_ASIDE)? {
        Some(first) => first,
        None => memory.write("registry-topics.jsonl", text.as_bytes())?,
    };
    memory.note(SET_ASIDE, &aside)?;
    let names: Vec<String> = specs.iter().map(|s| &s.name).filter(|n| there.contains_key(*n)).cloned().collect();
    kafka.delete_topics(&names).await?;
    kafka.create_topics(&specs).await?;
    Ok(aside.to_string())
}

fn line_of(topic: &str, record: &Record) -> String {
    let base64 = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|b| base64::engine::general_purpose::STANDARD.encode(b));
    let line = json!({
        "topic": topic, "partition": record.partition, "offset": record.offset, "timestamp_ms": record.timestamp_ms,
        "key": base64(&record.key), "value": base64(&record.value),
        "headers": record.headers.iter().map(|(k, v)| (k, base64(v))).collect::<Vec<_>>(),
    });
    format!("{line}\n")
}
