//! Apicurio's export archive, read: to compare it with the dump, and for what a dump does not have.

use std::{
    collections::BTreeMap,
    io::{Cursor, Read},
};

use serde_json::Value;
use zip::ZipArchive;

use super::{
    Entity, EntityKey,
    entity::{DEFAULT_GROUP, beyond_subjects, is_number},
};
use crate::backup::hash::sha256;
use cdc_model::units::{SchemaId, Subject, SubjectVersion};
use cdc_pipeline::client::registry::Reference;

/// An archive is read into memory: Apicurio itself refuses entries above 10 MiB.
const ENTRY_LIMIT: u64 = 64 << 20;

/// A version as it stands in an export archive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArchivedVersion {
    /// The subject.
    pub subject: Subject,
    /// The version.
    pub version: SubjectVersion,
    /// The content id.
    pub id: SchemaId,
    /// The version's own id.
    pub global_id: u64,
    /// Whether it is soft-deleted.
    pub soft_deleted: bool,
    /// SHA-256 of its text.
    pub schema_sha256: String,
}

/// What an export archive holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archive {
    /// Every version of a subject, soft-deleted ones included.
    pub versions: Vec<ArchivedVersion>,
    /// The level of each subject that has one of its own, of subjects without versions too.
    pub levels: BTreeMap<Subject, String>,
    /// What each content refers to.
    pub references: BTreeMap<SchemaId, Vec<Reference>>,
    /// Each content's text; one that is no text is left out.
    pub texts: BTreeMap<SchemaId, String>,
    /// What is neither a subject's version nor a level.
    pub beyond: Vec<Entity>,
    /// What cannot be carried into another registry, in words.
    pub caps: Vec<String>,
}

/// Reads an export archive.
pub fn read_zip(bytes: &[u8]) -> Result<Archive, String> {
    let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(|e| e.to_string())?;
    let (mut entities, mut contents) = (Vec::new(), BTreeMap::new());
    for i in 0..zip.len() {
        let entry = zip.by_index(i).map_err(|e| e.to_string())?;
        let name = entry.name().to_owned();
        if !name.ends_with(".json") && !name.ends_with(".data") {
            continue;
        }
        let mut text = Vec::new();
        entry.take(ENTRY_LIMIT).read_to_end(&mut text).map_err(|e| format!("{name}: {e}"))?;
        if let Some(about) = name.strip_suffix(".Content.data") {
            contents.insert(format!("{about}.Content.json"), text);
            continue;
        }
        let value: Value = serde_json::from_slice(&text).map_err(|e| format!("{name}: {e}"))?;
        let kind = name.rsplit('.').nth(1).unwrap_or_default();
        entities.push((name.clone(), Entity { key: EntityKey::of(kind, &name, &value), value, text: None }));
    }
    let mut archive = Archive::default();
    let (mut hashes, mut all) = (BTreeMap::new(), Vec::new());
    for (name, mut entity) in entities {
        if entity.key.kind == "Content" {
            let id = SchemaId(entity.number("contentId").unwrap_or_default() as u32);
            archive.references.insert(id, archived_references(&entity.value)?);
            let Some(bytes) = contents.remove(&name) else { continue };
            hashes.insert(id, sha256(&bytes));
            entity.text = String::from_utf8(bytes).ok();
            archive.texts.extend(entity.text.clone().map(|text| (id, text)));
        }
        all.push(entity);
    }
    for entity in all.iter().filter(|e| e.key.of.first().is_some_and(|group| group == DEFAULT_GROUP)) {
        let subject = || Subject::new(&entity.key.of[1]);
        match entity.key.kind.as_str() {
            "ArtifactVersion" if is_number(&entity.key.of[2]) => {
                let id = SchemaId(entity.number("contentId").unwrap_or_default() as u32);
                archive.versions.push(ArchivedVersion {
                    subject: subject(),
                    version: SubjectVersion(entity.key.of[2].parse().unwrap_or_default()),
                    id,
                    global_id: entity.number("globalId").unwrap_or_default(),
                    soft_deleted: entity.value["state"] == "DISABLED",
                    schema_sha256: hashes.get(&id).cloned().unwrap_or_default(),
                });
            }
            "ArtifactRule" if entity.key.of[2] == "COMPATIBILITY" => {
                archive.levels.insert(subject(), text_of(&entity.value, "configuration"));
            }
            _ => {}
        }
    }
    archive.versions.sort();
    let references = |id: u64| u32::try_from(id).ok().and_then(|id| archive.references.get(&SchemaId(id)).cloned());
    archive.beyond = beyond_subjects(all, |id| references(id).unwrap_or_default());
    let unreadable = archive.beyond.iter().filter(|e| e.key.kind == "Content" && e.text.is_none());
    archive.caps = unreadable.map(|e| format!("{}: its content is no text", e.key)).collect();
    Ok(archive)
}

fn archived_references(content: &Value) -> Result<Vec<Reference>, String> {
    let Some(list) = content["serializedReferences"].as_str() else { return Ok(Vec::new()) };
    let list: Value = serde_json::from_str(list).map_err(|e| format!("references `{list}`: {e}"))?;
    Ok(references_of(&list))
}

/// References as Apicurio lists them, in its answers and in its archive.
pub(super) fn references_of(list: &Value) -> Vec<Reference> {
    let reference = |r: &Value| {
        Some(Reference {
            name: r["name"].as_str()?.to_owned(),
            subject: Subject::new(r["artifactId"].as_str()?),
            version: SubjectVersion(r["version"].as_str()?.parse().ok()?),
        })
    };
    list.as_array().into_iter().flatten().filter_map(reference).collect()
}

/// A text of an entity; empty where it has none.
pub(super) fn text_of(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rubbish_is_no_archive() {
        assert!(read_zip(b"not a zip").is_err());
    }
}
