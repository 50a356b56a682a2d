//! The registry's store: set aside, never thrown away, and filled anew.

use base64::Engine;
use camino::Utf8Path;
use serde_json::json;

use super::merge::differences;
use crate::{
    backup::parts::registry::{Dump, capture, import_zip},
    client::{
        kafka::{Kafka, Record},
        limits,
        registry::Registry,
        wait,
        wait::Poll,
    },
    config::{Config, RegistryStorage},
    recovery::{RecoveryError, journal::Journal, server::Control},
};

/// Stops the registry, sets its store aside, starts it empty, imports, and reads back.
pub(super) async fn rebuild(config: &Config, wanted: &Dump, journal: &Journal) -> Result<String, RecoveryError> {
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
    let aside = set_aside(config, storage, journal).await?;
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

async fn set_aside(config: &Config, storage: &RegistryStorage, journal: &Journal) -> Result<String, RecoveryError> {
    match storage {
        RegistryStorage::H2 { path } => h2_aside(path, journal),
        RegistryStorage::Kafkasql { topics } => {
            let kafka = Kafka::of(&config.kafka)?;
            topics_aside(&kafka, topics, journal).await
        }
    }
}

/// Moves the database's files into a folder beside them.
fn h2_aside(path: &Utf8Path, journal: &Journal) -> Result<String, RecoveryError> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(RecoveryError::impossible(
            "[registry.storage] path",
            "a file's path",
            path.as_str(),
            "name the database",
        ));
    };
    let aside = folder.join(format!("aside-{}", journal.id()));
    std::fs::create_dir_all(&aside).map_err(|e| RecoveryError::io("make folder", &aside, e))?;
    let entries = folder.read_dir_utf8().map_err(|e| RecoveryError::io("list", folder, e))?;
    let own = format!("{name}.");
    for entry in entries {
        let entry = entry.map_err(|e| RecoveryError::io("list", folder, e))?;
        if entry.file_name().starts_with(&own) {
            let to = aside.join(entry.file_name());
            std::fs::rename(entry.path(), &to).map_err(|e| RecoveryError::io("move to", &to, e))?;
        }
    }
    journal.note("registry-set-aside", &aside)?;
    Ok(aside.to_string())
}

/// Copies the topics' records beside the journal, then empties the topics by making them anew.
async fn topics_aside(kafka: &Kafka, topics: &[String], journal: &Journal) -> Result<String, RecoveryError> {
    let aside = journal.path().with_extension("registry-topics.jsonl");
    let mut text = String::new();
    let specs = kafka.topic_specs(topics).await?;
    for spec in &specs {
        for record in kafka.read_all(&spec.name).await? {
            text.push_str(&line_of(&spec.name, &record));
        }
    }
    let written = std::fs::write(&aside, text).and_then(|()| std::fs::File::open(&aside)?.sync_all());
    written.map_err(|e| RecoveryError::io("write", &aside, e))?;
    journal.note("registry-set-aside", &aside)?;
    let names: Vec<String> = specs.iter().map(|s| s.name.clone()).collect();
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
