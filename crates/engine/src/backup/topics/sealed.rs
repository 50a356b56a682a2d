//! What of a backup's manifest is encrypted in an encrypted repository: what records and groups are about. The rest, which segments there
//! are and what offsets they hold, is needed by whoever adds to a backup, checks and prunes without an identity.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use camino::Utf8Path;
use serde_json::{Map, Value};

use super::manifest::{Schemas, TopicBackup};
use crate::backup::{BackupError, seal::Seal};
use cdc_pipeline::client::kafka::TopicSpec;

/// The fields that are encrypted together.
const SEALED_FIELDS: [&str; 4] = ["spec", "groups", "schemas", "notes"];
/// Where they are then: a list, of this backup and of those before it that its writer could not read.
const SEALED: &str = "sealed";

/// A manifest as it is stored.
pub(crate) fn to_json(manifest: &TopicBackup, seal: &Seal, path: &Utf8Path) -> Result<Value, BackupError> {
    let mut value = serde_json::to_value(manifest).map_err(|e| BackupError::malformed(path, e))?;
    let Some(object) = value.as_object_mut().filter(|_| seal.is_on()) else { return Ok(value) };
    let fields: Map<String, Value> =
        SEALED_FIELDS.into_iter().filter_map(|field| Some((field.to_owned(), object.remove(field)?))).collect();
    let content = serde_json::to_vec(&fields).map_err(|e| BackupError::malformed(path, e))?;
    let own = STANDARD.encode(seal.seal(path, &content)?);
    let all = std::iter::once(own).chain(manifest.unread.iter().cloned());
    object.insert(SEALED.to_owned(), all.map(Value::String).collect());
    Ok(value)
}

/// Reads it. Whoever has no identity gets nothing of what is encrypted but what has to be handed on.
pub(crate) fn from_json(mut value: Value, seal: &Seal, path: &Utf8Path) -> Result<TopicBackup, BackupError> {
    let malformed = |e: &dyn std::fmt::Display| BackupError::malformed(path, e);
    let sealed = value.as_object_mut().filter(|_| seal.is_on()).and_then(|object| object.remove(SEALED));
    let Some(sealed) = sealed else { return serde_json::from_value(value).map_err(|e| malformed(&e)) };
    let sealed: Vec<String> = serde_json::from_value(sealed).map_err(|e| malformed(&e))?;
    let Some(object) = value.as_object_mut() else { return Err(malformed(&"it is no JSON object")) };
    let topic = object.get("topic").and_then(Value::as_str).unwrap_or_default().to_owned();
    let partitions = object.get("partitions").and_then(Value::as_array).map(Vec::len).unwrap_or_default();
    let mut open = |field: &str, unknown: &dyn Fn() -> serde_json::Result<Value>| {
        let unknown = unknown().map_err(|e| malformed(&e))?;
        object.entry(field).or_insert(unknown);
        Ok::<_, BackupError>(())
    };
    let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
    let spec = || {
        let spec = TopicSpec { name: topic.clone(), partitions, replication: 1, settings: BTreeMap::new() };
        serde_json::to_value(spec)
    };
    if !seal.unlock_if_named()? {
        open("spec", &spec)?;
        open("groups", &|| Ok(Value::Array(Vec::new())))?;
        open("schemas", &|| serde_json::to_value(Schemas::default()))?;
        open("notes", &|| Ok(Value::Array(Vec::new())))?;
        let mut manifest: TopicBackup = serde_json::from_value(value).map_err(|e| malformed(&e))?;
        manifest.unread = sealed;
        return Ok(manifest);
    }
    let mut each = Vec::new();
    for text in &sealed {
        let stored = STANDARD.decode(text).map_err(|e| malformed(&e))?;
        let fields: Map<String, Value> =
            serde_json::from_slice(&seal.open(path, stored)?).map_err(|e| malformed(&e))?;
        each.push(fields);
    }
    let mut each = each.into_iter();
    object.extend(each.next().unwrap_or_default());
    let mut manifest: TopicBackup = serde_json::from_value(value).map_err(|e| malformed(&e))?;
    // Of schemas that were met by backups before it, whose writers could not read what the ones before them knew.
    for mut fields in each {
        let earlier = fields.remove("schemas").map(serde_json::from_value::<Schemas>);
        let earlier = earlier.transpose().map_err(|e| malformed(&e))?.unwrap_or_default();
        manifest.schemas.beyond |= earlier.beyond;
        for (id, meaning) in earlier.ids {
            manifest.schemas.ids.entry(id).or_insert(meaning);
        }
        let headers = earlier.headers.into_iter().filter(|header| !manifest.schemas.headers.contains(header));
        let headers: Vec<String> = headers.collect();
        manifest.schemas.headers.extend(headers);
    }
    Ok(manifest)
}
