//! The registry's store: set aside, never thrown away, and filled anew.

use base64::Engine;
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};

use super::merge::differences;
use crate::{
    backup::{
        Store, is_there,
        parts::registry::{Dump, capture, import_zip},
    },
    recovery::{RecoveryError, memory::Memory, server::Control},
};
use cdc_model::moment;
use cdc_model::units::counted;
use cdc_pipeline::{
    client::{
        kafka::{Kafka, Outgoing, Record, TopicSpec},
        limits,
        registry::Registry,
        wait,
        wait::Poll,
    },
    config::{Config, RegistryStorage},
};

/// Under which names the record has where the store is now, and the topics that it is in.
const SET_ASIDE: &str = "registry-set-aside";
const STORE_TOPICS: &str = "registry-topics";
/// Whether the store is again in its place.
const PUT_BACK: &str = "registry-put-back";

/// Stops the registry, sets its store aside, starts it empty, imports, and reads back.
pub(super) async fn rebuild(config: &Config, wanted: &Dump, memory: &Memory) -> Result<String, RecoveryError> {
    let registry = Registry::of(&config.registry);
    let control = Control::of(config, "registry")?;
    let storage = storage_of(config)?;
    let zip = archive_of(wanted)?;
    control.stop().await?;
    moment::pass("stopped").await?;
    memory.note(PUT_BACK, &false)?;
    let aside = set_aside(config, storage, memory).await?;
    moment::pass("set-aside").await?;
    let Err(why) = fill(&registry, &control, zip, wanted).await else {
        return Ok(format!("the store was set aside ({aside}) and filled anew"));
    };
    // A registry with half of its content, or none, is worse than the damaged one.
    let outcome = match put_back(config, storage, &aside, &control).await {
        Ok(()) => {
            // What is registered from now on belongs to it: the next run looks at it anew, and sets it aside anew.
            memory.note(SET_ASIDE, &None::<Utf8PathBuf>)?;
            memory.note(STORE_TOPICS, &None::<Vec<TopicSpec>>)?;
            memory.note(PUT_BACK, &true)?;
            "the store is again the one that was set aside".to_owned()
        }
        Err(again) => format!("the store as it was is in {aside}, and could not be put back: {again}"),
    };
    Err(RecoveryError::unmet("repair-registry", "a registry filled anew", format!("{why}; {outcome}")))
}

/// Starts the registry on its empty store, imports, and reads back.
async fn fill(registry: &Registry, control: &Control, zip: Vec<u8>, wanted: &Dump) -> Result<(), RecoveryError> {
    start(registry, control).await?;
    let left = registry.subjects(true).await?;
    if let Some(subject) = left.first() {
        let found = format!("{}, {subject} among them", counted(left.len(), "subject"));
        return Err(RecoveryError::unmet("repair-registry", "an empty registry", found));
    }
    moment::pass("import").await?;
    registry.import(zip).await?;
    moment::pass("imported").await?;
    super::levels::put(registry, wanted).await?;
    let found = differences(wanted, &capture(registry).await?);
    let Some(first) = found.first() else { return Ok(()) };
    let found = format!("{}, first: {first}", counted(found.len(), "difference"));
    Err(RecoveryError::unmet("repair-registry", "the content to be, read back", found))
}

async fn start(registry: &Registry, control: &Control) -> Result<(), RecoveryError> {
    control.start().await?;
    wait::until("the registry to answer", limits::registries::START, || async {
        registry.info().await.map(Poll::Ready)
    })
    .await?;
    Ok(())
}

/// Brings the store that was set aside back into its place, and starts the registry on it.
async fn put_back(
    config: &Config,
    storage: &RegistryStorage,
    aside: &str,
    control: &Control,
) -> Result<(), RecoveryError> {
    control.stop().await?;
    let aside = Utf8Path::new(aside);
    match storage {
        RegistryStorage::H2 { path } => h2_back(path, aside)?,
        RegistryStorage::Kafkasql { topics } => topics_back(&Kafka::of(&config.kafka)?, topics, aside).await?,
    }
    start(&Registry::of(&config.registry), control).await
}

/// The archive that an empty registry is filled from; refused where no registry can hold the content, or no archive carry it.
pub(super) fn archive_of(wanted: &Dump) -> Result<Vec<u8>, RecoveryError> {
    import_zip(wanted).map_err(|why| {
        RecoveryError::impossible(
            "content of the registry",
            "one text an id, one id a text, and all of it text",
            why,
            "choose another recovery point",
        )
    })
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
    Ok(memory.learned::<Option<Utf8PathBuf>>(SET_ASIDE)?.flatten())
}

/// Whether the registry runs on the store that was set aside, as filling it anew failed.
pub(crate) fn is_put_back(memory: &Memory) -> Result<bool, RecoveryError> {
    Ok(memory.learned(PUT_BACK)?.unwrap_or(false))
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
    let aside = folder.join(format!("aside-{}", memory.id()));
    memory.note(SET_ASIDE, &aside)?;
    Store::new(folder)?.folder(&aside)?;
    let entries = folder.read_dir_utf8().map_err(|e| RecoveryError::io("list", folder, e))?;
    let own = format!("{name}.");
    for entry in entries {
        let entry = entry.map_err(|e| RecoveryError::io("list", folder, e))?;
        if !entry.file_name().starts_with(&own) {
            continue;
        }
        let to = aside.join(entry.file_name());
        // A run that was cut has set the store aside as it was: what is in its place now is half an import, and never the store
        // to put back.
        match is_there(&to)? {
            true => std::fs::remove_file(entry.path()).map_err(|e| RecoveryError::io("remove", entry.path(), e))?,
            false => std::fs::rename(entry.path(), &to).map_err(|e| RecoveryError::io("move to", &to, e))?,
        }
    }
    Ok(aside.to_string())
}

/// What is in the place is an import that was not finished.
fn h2_back(path: &Utf8Path, aside: &Utf8Path) -> Result<(), RecoveryError> {
    let folder = path.parent().unwrap_or(path);
    let own = format!("{}.", path.file_name().unwrap_or_default());
    let entries = |of: &Utf8Path| -> Result<Vec<Utf8PathBuf>, RecoveryError> {
        let list = of.read_dir_utf8().and_then(|list| list.collect::<Result<Vec<_>, _>>());
        let list = list.map_err(|e| RecoveryError::io("list", of, e))?;
        Ok(list.into_iter().map(|e| e.into_path()).collect())
    };
    for unfinished in entries(folder)?.iter().filter(|e| e.file_name().is_some_and(|name| name.starts_with(&own))) {
        std::fs::remove_file(unfinished).map_err(|e| RecoveryError::io("remove", unfinished, e))?;
    }
    for kept in entries(aside)? {
        let to = folder.join(kept.file_name().unwrap_or_default());
        std::fs::rename(&kept, &to).map_err(|e| RecoveryError::io("move to", &to, e))?;
    }
    std::fs::remove_dir(aside).map_err(|e| RecoveryError::io("remove", aside, e))
}

/// Writes the records that were set aside into the topics, in their order.
async fn topics_back(kafka: &Kafka, topics: &[String], aside: &Utf8Path) -> Result<(), RecoveryError> {
    let text = std::fs::read_to_string(aside).map_err(|e| RecoveryError::io("read", aside, e))?;
    let records: Vec<Outgoing> = text.lines().map(record_of).collect::<Option<_>>().ok_or_else(|| {
        RecoveryError::unmet("repair-registry", format!("records of the registry's topics in {aside}"), "another text")
    })?;
    let specs = kafka.topic_specs(topics).await?;
    kafka.delete_topics(topics).await?;
    kafka.create_topics(&specs).await?;
    Ok(kafka.produce_all(records).await?)
}

/// Copies the topics' records into the recovery's record, then empties the topics by making them anew.
async fn topics_aside(kafka: &Kafka, topics: &[String], memory: &Memory) -> Result<String, RecoveryError> {
    let mut text = String::new();
    // A run that was cut between deleting and making them leaves topics missing, whose records are aside already.
    let specs = match memory.learned::<Option<Vec<TopicSpec>>>(STORE_TOPICS)?.flatten() {
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
    let aside = match store_aside(memory)? {
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

/// The record of a line of [`line_of`].
fn record_of(line: &str) -> Option<Outgoing> {
    let line: Value = serde_json::from_str(line).ok()?;
    let bytes = |value: &Value| match value.as_str() {
        Some(text) => base64::engine::general_purpose::STANDARD.decode(text).ok().map(Some),
        None => Some(None),
    };
    let header = |pair: &Value| Some((pair[0].as_str()?.to_owned(), bytes(&pair[1])?));
    Some(Outgoing {
        topic: line["topic"].as_str()?.to_owned(),
        partition: line["partition"].as_i64().map(|p| p as i32),
        key: bytes(&line["key"])?,
        value: bytes(&line["value"])?,
        headers: line["headers"].as_array()?.iter().map(header).collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::memory::tests::begun;
    use cdc_model::units::Offset;

    #[test]
    fn what_is_set_aside_is_the_store_as_it_was_however_often_a_run_is_cut() {
        let (_record, memory) = begun();
        let home = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(home.path()).unwrap();
        let (store, stranger) = (folder.join("db.mv.db"), folder.join("other"));
        std::fs::write(&store, "as it was").unwrap();
        std::fs::write(&stranger, "").unwrap();
        let aside = h2_aside(&folder.join("db"), &memory).unwrap();
        assert!(!store.exists() && stranger.exists());
        // The run was cut while the registry was filled anew.
        std::fs::write(&store, "half an import").unwrap();
        let memory = Memory::open(memory.folder()).unwrap();
        assert_eq!(h2_aside(&folder.join("db"), &memory).unwrap(), aside);
        assert!(!store.exists());
        assert_eq!(std::fs::read_to_string(Utf8Path::new(&aside).join("db.mv.db")).unwrap(), "as it was");
        let memory = Memory::open(memory.folder()).unwrap();
        assert_eq!(store_aside(&memory).unwrap().unwrap(), aside, "`finish` names all that is set aside");
        assert_eq!(folder.read_dir_utf8().unwrap().count(), 2, "the stranger and what is set aside");
        h2_back(&folder.join("db"), Utf8Path::new(&aside)).unwrap();
        assert_eq!(std::fs::read_to_string(&store).unwrap(), "as it was");
    }

    #[test]
    fn a_record_comes_back_as_it_was_set_aside() {
        let record = Record {
            partition: 2,
            offset: Offset(7),
            timestamp_ms: Some(1),
            key: Some(b"\x00key".to_vec()),
            value: None,
            headers: vec![("mt".into(), Some(b"ArtifactVersion".to_vec())), ("none".into(), None)],
        };
        let line = line_of("kafkasql-journal", &record);
        let again = record_of(line.trim_end()).unwrap();
        let expected = Outgoing {
            topic: "kafkasql-journal".into(),
            partition: Some(2),
            key: record.key.clone(),
            value: None,
            headers: record.headers.clone(),
        };
        assert_eq!(again, expected);
        assert_eq!(record_of("{}"), None);
    }
}
