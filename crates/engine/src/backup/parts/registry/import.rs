//! The archive that Apicurio imports, made of a dump, to restore chosen ids.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Cursor, Write},
};

use serde_json::{Value, json};
use zip::{ZipWriter, write::SimpleFileOptions};

use super::{
    Dump, Entity, EntityKey, VersionLine, VersionState,
    export::text_of,
    native::{LATEST, content_hash, content_type, serialized_references},
};
use cdc_model::units::{SchemaId, Subject};

/// The version of the archive's format that Apicurio 3 writes and reads.
const EXPORT_VERSION: &str = "3.0";

/// Makes an archive that Apicurio 3 imports into an empty store so that it holds exactly this dump: ids of both kinds,
/// version numbers with their gaps, states, references and levels, and what is beyond subjects. Two things are not in the archive and
/// are set by REST afterwards: modes, and the level of a subject without versions, which Apicurio exports but refuses to import.
///
/// Two texts under one content id, or one text under two, cannot be in one registry: that is an error, and so is what the dump is
/// known not to hold.
pub fn import_zip(dump: &Dump) -> Result<Vec<u8>, String> {
    write_zip(dump, entities(dump)?.into_values().collect())
}

/// The entities of the archive that would be made of a dump.
pub(crate) fn native_entities(dump: &Dump) -> Result<Vec<Entity>, String> {
    Ok(entities(dump)?.into_values().collect())
}

fn entities(dump: &Dump) -> Result<BTreeMap<EntityKey, Entity>, String> {
    if let Some(cap) = dump.caps_hit.first() {
        return Err(cap.clone());
    }
    let mut entities: BTreeMap<EntityKey, Entity> = BTreeMap::new();
    let mut put = |kind: &str, value: Value| {
        let key = EntityKey::of(kind, kind, &value);
        entities.insert(key.clone(), Entity { key, value, text: None });
    };
    if let Some(level) = &dump.global_compat {
        put("GlobalRule", json!({"ruleType": "COMPATIBILITY", "configuration": level}));
    }
    let with_versions: BTreeSet<&Subject> = dump.versions.iter().map(|v| &v.subject).collect();
    for subject in &with_versions {
        artifact(dump, subject, &mut put);
    }
    for state in dump.subjects.iter().filter(|s| with_versions.contains(&s.subject)) {
        if let Some(level) = &state.compat {
            let of =
                json!({"groupId": null, "artifactId": state.subject, "type": "COMPATIBILITY", "configuration": level});
            put("ArtifactRule", of);
        }
    }
    for entity in &dump.beyond {
        carry(entity, &mut entities);
    }
    contents(dump, &mut entities)?;
    Ok(entities)
}

fn artifact(dump: &Dump, subject: &Subject, put: &mut impl FnMut(&str, Value)) {
    let versions = dump.versions_of(subject);
    let created = |v: &VersionLine| v.created_ms.unwrap_or(0);
    let (first, last) = (versions.first().map_or(0, |v| created(v)), versions.last().map_or(0, |v| created(v)));
    let schema_type = versions.first().map_or("AVRO", |v| v.schema_type.as_str());
    put(
        "Artifact",
        json!({
            "groupId": null, "artifactId": subject, "artifactType": schema_type, "name": null, "description": null,
            "labels": null, "owner": "", "createdOn": first, "modifiedBy": "", "modifiedOn": last,
        }),
    );
    let published = versions.iter().filter(|v| v.state != VersionState::Draft);
    let numbers: Vec<String> = published.map(|v| v.version.to_string()).collect();
    if !numbers.is_empty() {
        put(
            "Branch",
            json!({
                "groupId": null, "artifactId": subject, "branchId": LATEST, "description": null, "systemDefined": true,
                "owner": "", "createdOn": first, "modifiedBy": "", "modifiedOn": last, "versions": numbers,
            }),
        );
    }
    for version in versions {
        put(
            "ArtifactVersion",
            json!({
                "globalId": version.global_id, "groupId": null, "artifactId": subject,
                "version": version.version.to_string(), "versionOrder": version.version,
                "state": apicurio_state(version.state), "name": null, "description": null, "owner": "", "labels": null,
                "createdOn": created(version), "modifiedBy": "", "modifiedOn": created(version), "contentId": version.id,
            }),
        );
    }
}

/// Adds what is beyond subjects. Where the dump has the version itself, it decides on ids and state; a branch keeps its own order.
fn carry(entity: &Entity, entities: &mut BTreeMap<EntityKey, Entity>) {
    let mut carried = entity.clone();
    if let Some(own) = entities.get(&entity.key) {
        match entity.key.kind.as_str() {
            "ArtifactVersion" => {
                for decided in ["globalId", "contentId", "state"] {
                    carried.value[decided] = own.value[decided].clone();
                }
            }
            "Branch" => {
                let listed = |e: &Entity| e.value["versions"].as_array().cloned().unwrap_or_default();
                let mut versions = listed(entity);
                versions.extend(listed(own).into_iter().filter(|v| !listed(entity).contains(v)));
                carried.value["versions"] = Value::Array(versions);
            }
            _ => {}
        }
    }
    entities.insert(carried.key.clone(), carried);
}

/// Apicurio's word for a state.
pub(crate) fn apicurio_state(state: VersionState) -> &'static str {
    match state {
        VersionState::Active => "ENABLED",
        VersionState::SoftDeleted => "DISABLED",
        VersionState::Deprecated => "DEPRECATED",
        VersionState::Draft => "DRAFT",
    }
}

fn contents(dump: &Dump, entities: &mut BTreeMap<EntityKey, Entity>) -> Result<(), String> {
    let (mut by_id, mut by_hash) = (BTreeMap::new(), BTreeMap::new());
    let mut claim = |id: SchemaId, hash: &str, whose: &dyn Fn() -> String| {
        if let Some(other) = by_id.insert(id, hash.to_owned()).filter(|other| other != hash) {
            return Err(format!("id {id} has two schemas ({other} and that of {})", whose()));
        }
        if let Some(other) = by_hash.insert(hash.to_owned(), id).filter(|other| *other != id) {
            return Err(format!("the schema of {} has two ids ({other} and {id})", whose()));
        }
        Ok(())
    };
    let mut kept = BTreeMap::new();
    for content in dump.beyond.iter().filter(|e| e.key.kind == "Content") {
        let id = SchemaId(content.number("contentId").unwrap_or_default() as u32);
        kept.insert(id, content.text.as_deref());
        claim(id, content.word("contentHash").unwrap_or_default(), &|| content.key.to_string())?;
    }
    for version in &dump.versions {
        match kept.get(&version.id) {
            Some(text) if *text == Some(version.schema.as_str()) => continue,
            Some(_) => {
                let (id, subject, number) = (version.id, &version.subject, version.version);
                return Err(format!("id {id} has two schemas (that of Content {id} and that of {subject} v{number})"));
            }
            None => {}
        }
        let references = serialized_references(&version.references);
        let hash = content_hash(&version.schema, &version.references);
        claim(version.id, &hash, &|| format!("{} v{}", version.subject, version.version))?;
        let about = json!({
            "contentId": version.id, "canonicalHash": null, "contentHash": hash, "artifactType": version.schema_type,
            "contentType": content_type(&version.schema_type), "serializedReferences": references,
        });
        let key = EntityKey::of("Content", "Content", &about);
        let made = Entity { key: key.clone(), value: about, text: Some(version.schema.clone()) };
        entities.entry(key).or_insert(made);
    }
    Ok(())
}

/// The importer reads an entity's kind from the end of its entry's name, and nothing else from it: names of subjects stay out of it,
/// which may hold what a path must not (a registry under `LC_ALL=C` answers 500 to one that is not ASCII).
pub(crate) fn write_zip(dump: &Dump, entities: Vec<Entity>) -> Result<Vec<u8>, String> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let mut write = |name: &str, text: &[u8]| {
        zip.start_file(name, SimpleFileOptions::default()).map_err(|e| format!("{name}: {e}"))?;
        zip.write_all(text).map_err(|e| format!("{name}: {e}"))
    };
    let manifest = json!({
        "systemVersion": dump.product_version, "systemName": "Apicurio Registry", "systemDescription": "",
        "exportVersion": EXPORT_VERSION, "exportedOn": 0, "exportedBy": "", "dbVersion": null,
    });
    // First: it names the format of what follows.
    write("manifest-1970-01-01T00:00:00.000Z.Manifest.json", manifest.to_string().as_bytes())?;
    for (number, entity) in (1..).zip(entities) {
        let kind = &entity.key.kind;
        match entity.text {
            Some(text) => {
                let hash = text_of(&entity.value, "contentHash");
                write(&format!("content/{hash}.{kind}.json"), entity.value.to_string().as_bytes())?;
                write(&format!("content/{hash}.{kind}.data"), text.as_bytes())?;
            }
            None => write(&format!("{number:07}.{kind}.json"), entity.value.to_string().as_bytes())?,
        }
    }
    zip.finish().map(Cursor::into_inner).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::parts::registry::{Archive, ArchivedVersion, diff::tests::dump, read_zip};

    #[test]
    fn a_made_archive_holds_the_dump() {
        let Archive { versions, levels, references, texts, .. } = read_zip(&import_zip(&dump()).unwrap()).unwrap();
        assert!(dump().versions.iter().all(|v| texts[&v.id] == v.schema));
        assert!(dump().versions.iter().all(|v| references[&v.id] == v.references));
        assert!(references.values().any(|r| !r.is_empty()));
        let mut expected: Vec<ArchivedVersion> = dump().versions.iter().map(ArchivedVersion::from).collect();
        expected.sort();
        assert_eq!(versions, expected);
        let levels: Vec<(String, String)> = levels.into_iter().map(|(s, l)| (s.0, l)).collect();
        let expected = [("base-value", "FULL"), ("gap-value", "NONE")];
        assert_eq!(levels, expected.map(|(s, l)| (s.to_owned(), l.to_owned())));
    }

    #[test]
    fn the_same_dump_makes_the_same_entries() {
        assert_eq!(read_zip(&import_zip(&dump()).unwrap()), read_zip(&import_zip(&dump()).unwrap()));
    }

    #[test]
    fn impossible_ids_are_refused() {
        let mut two_texts = dump();
        two_texts.versions[2].id = SchemaId(4711);
        assert!(import_zip(&two_texts).unwrap_err().contains("4711 has two schemas"));
        let mut two_ids = dump();
        two_ids.versions[1].id = SchemaId(1);
        assert!(import_zip(&two_ids).unwrap_err().contains("two ids"));
    }

    /// What an archive says, but for who made it and when, and a hash that Apicurio makes when it needs it.
    fn essence(zip: &[u8]) -> BTreeMap<String, (Value, Option<Vec<u8>>)> {
        let mut archive = zip::ZipArchive::new(Cursor::new(zip)).unwrap();
        let (mut entities, mut texts) = (Vec::new(), BTreeMap::new());
        for at in 0..archive.len() {
            let mut entry = archive.by_index(at).unwrap();
            let name = entry.name().to_owned();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            match name.strip_suffix(".data") {
                Some(about) => _ = texts.insert(about.to_owned(), bytes),
                None => entities.push((name, bytes)),
            }
        }
        let mut all = BTreeMap::new();
        for (name, bytes) in entities {
            let kind = name.rsplit('.').nth(1).unwrap().to_owned();
            let mut value: Value = serde_json::from_slice(&bytes).unwrap();
            let key = EntityKey::of(&kind, &name, &value).to_string();
            let fields = value.as_object_mut().unwrap();
            let made = ["createdOn", "modifiedOn", "canonicalHash", "artifactType"];
            fields.retain(|key, _| !made.contains(&key.as_str()) || key == "artifactType" && kind == "Artifact");
            let text = texts.remove(name.trim_end_matches(".json"));
            if kind != "Manifest" {
                all.insert(key, (value, text));
            }
        }
        all
    }

    /// The dump of an archive, as the registry's answers would give it.
    fn dumped(zip: &[u8]) -> Dump {
        let all = essence(zip);
        let archive = read_zip(zip).unwrap();
        let of = |kind: &str, names: &[&str]| all.get(&format!("{kind} {}", names.join("/"))).map(|(value, _)| value);
        let mut dump = Dump { versions: Vec::new(), subjects: Vec::new(), ..dump() };
        for version in &archive.versions {
            let (subject, number) = (version.subject.as_str(), version.version.to_string());
            let value = of("ArtifactVersion", &["default", subject, &number]).unwrap();
            let artifact = of("Artifact", &["default", subject]).unwrap();
            let mut line = crate::backup::parts::registry::diff::tests::line(
                subject,
                version.version.0,
                version.id.0,
                version.global_id,
                &archive.texts[&version.id],
            );
            line.references.clone_from(&archive.references[&version.id]);
            line.schema_type = text_of(artifact, "artifactType");
            line.state = match value["state"].as_str().unwrap() {
                "DISABLED" => VersionState::SoftDeleted,
                "DEPRECATED" => VersionState::Deprecated,
                "DRAFT" => VersionState::Draft,
                _ => VersionState::Active,
            };
            dump.versions.push(line);
        }
        for (subject, level) in &archive.levels {
            let (subject, compat) = (subject.clone(), Some(level.clone()));
            dump.subjects.push(crate::backup::parts::registry::SubjectState { subject, compat, mode: None });
        }
        dump.beyond = archive.beyond;
        dump
    }

    /// An export of 3.3.3: groups, references across groups, contents that are neither Avro nor JSON, Protobuf with imports, drafts with the
    /// same text, versions whose order is not that of their numbers, states, names, labels, comments, branches, rules of all levels.
    #[test]
    fn what_a_registry_exports_it_is_given_again() {
        let exported: &[u8] = include_bytes!("../../../../../../fixtures/registry/apicurio-3.3.3.zip");
        let dump = dumped(exported);
        let (mut before, again) = (essence(exported), essence(&import_zip(&dump).unwrap()));
        // Contents that no version has any more.
        let used: BTreeSet<u64> =
            before.values().filter_map(|(value, _)| value.get("globalId").and(value["contentId"].as_u64())).collect();
        before.retain(|key, (value, _)| {
            !key.starts_with("Content ") || value["contentId"].as_u64().is_some_and(|id| used.contains(&id))
        });
        for (key, value) in &before {
            assert_eq!(again.get(key), Some(value), "{key}");
        }
        let more: Vec<&String> = again.keys().filter(|key| !before.contains_key(*key)).collect();
        assert!(more.is_empty(), "{more:?}");
        assert!(before.len() > 40, "{}", before.len());
    }
}
