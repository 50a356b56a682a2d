//! Apicurio's export archive: read, to compare it with the dump, and made, to restore chosen ids.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Cursor, Read, Write},
};

use serde_json::{Value, json};
use zip::{ZipArchive, ZipWriter, write::SimpleFileOptions};

use super::{Dump, VersionLine, VersionState};
use crate::{
    backup::files::sha256,
    client::registry::Reference,
    units::{SchemaId, Subject, SubjectVersion},
};

/// The version of the archive's format that Apicurio 3 writes and reads.
const EXPORT_VERSION: &str = "3.0";
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

/// What an export archive holds of the default group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Every version, soft-deleted ones included.
    pub versions: Vec<ArchivedVersion>,
    /// The level of each subject that has one of its own, of subjects without versions too.
    pub levels: BTreeMap<Subject, String>,
    /// What each content refers to.
    pub references: BTreeMap<SchemaId, Vec<Reference>>,
    /// Each content's text; one that is no text is left out.
    pub texts: BTreeMap<SchemaId, String>,
}

/// Reads an export archive.
pub fn read_zip(bytes: &[u8]) -> Result<Archive, String> {
    let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(|e| e.to_string())?;
    let (mut contents, mut found) = (BTreeMap::new(), Vec::new());
    let (mut levels, mut references) = (BTreeMap::new(), BTreeMap::new());
    for i in 0..zip.len() {
        let entry = zip.by_index(i).map_err(|e| e.to_string())?;
        let name = entry.name().to_owned();
        if !name.ends_with(".json") && !name.ends_with(".data") {
            continue;
        }
        let mut text = Vec::new();
        entry.take(ENTRY_LIMIT).read_to_end(&mut text).map_err(|e| format!("{name}: {e}"))?;
        if let Some(hash) = name.strip_prefix("content/").and_then(|n| n.strip_suffix(".Content.data")) {
            contents.entry(hash.to_owned()).or_insert((None, None)).1 =
                Some((sha256(&text), String::from_utf8(text).ok()));
            continue;
        }
        let value = || serde_json::from_slice::<Value>(&text).map_err(|e| format!("{name}: {e}"));
        if let Some(hash) = name.strip_prefix("content/").and_then(|n| n.strip_suffix(".Content.json")) {
            let about = value()?;
            let id = about["contentId"].as_u64();
            contents.entry(hash.to_owned()).or_insert((None, None)).0 = id;
            references.insert(SchemaId(id.unwrap_or_default() as u32), archived_references(&about)?);
        } else if name.ends_with(".ArtifactVersion.json") {
            found.push(value()?);
        } else if name.ends_with("COMPATIBILITY.ArtifactRule.json") {
            let rule = value()?;
            if in_default_group(&rule) {
                levels.insert(Subject::new(text_of(&rule, "artifactId")), text_of(&rule, "configuration"));
            }
        }
    }
    let contents: BTreeMap<u64, (String, Option<String>)> =
        contents.into_values().filter_map(|(id, content)| id.zip(content)).collect();
    let mut versions = Vec::new();
    for value in found.iter().filter(|v| in_default_group(v)) {
        let content = value["contentId"].as_u64().unwrap_or_default();
        versions.push(ArchivedVersion {
            subject: Subject::new(text_of(value, "artifactId")),
            version: SubjectVersion(text_of(value, "version").parse().unwrap_or_default()),
            id: SchemaId(content as u32),
            global_id: value["globalId"].as_u64().unwrap_or_default(),
            soft_deleted: value["state"] == "DISABLED",
            schema_sha256: contents.get(&content).map(|(hash, _)| hash.clone()).unwrap_or_default(),
        });
    }
    versions.sort();
    let texts = contents.into_iter().filter_map(|(id, (_, text))| Some((SchemaId(id as u32), text?))).collect();
    Ok(Archive { versions, levels, references, texts })
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

fn in_default_group(value: &Value) -> bool {
    matches!(value["groupId"].as_str(), None | Some("default"))
}

fn text_of(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// Makes an archive that Apicurio 3 imports into an empty store so that it holds exactly this dump: ids of both kinds,
/// version numbers with their gaps, states, references and levels. Two things are not in the archive and are set by REST
/// afterwards: modes, and the level of a subject without versions, which Apicurio exports but refuses to import.
///
/// Two texts under one content id, or one text under two, cannot be in one registry: that is an error.
pub fn import_zip(dump: &Dump) -> Result<Vec<u8>, String> {
    let mut entries: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut put = |name: String, value: Value| entries.insert(name, value.to_string().into_bytes());
    put(
        "manifest-1970-01-01T00:00:00.000Z.Manifest.json".into(),
        json!({
            "systemVersion": dump.product_version, "systemName": "Apicurio Registry",
            "systemDescription": "", "exportVersion": EXPORT_VERSION, "exportedOn": 0, "exportedBy": "", "dbVersion": null,
        }),
    );
    if let Some(level) = &dump.global_compat {
        put("rules/COMPATIBILITY.GlobalRule.json".into(), json!({"ruleType": "COMPATIBILITY", "configuration": level}));
    }
    let with_versions: BTreeSet<&Subject> = dump.versions.iter().map(|v| &v.subject).collect();
    for subject in &with_versions {
        artifact(dump, subject, &mut put);
    }
    for state in dump.subjects.iter().filter(|s| with_versions.contains(&s.subject)) {
        if let Some(level) = &state.compat {
            put(
                format!("groups/default/artifacts/{}/rules/COMPATIBILITY.ArtifactRule.json", state.subject),
                json!({"groupId": null, "artifactId": state.subject, "type": "COMPATIBILITY", "configuration": level}),
            );
        }
    }
    contents(dump, &mut entries)?;
    write_zip(entries)
}

fn artifact(dump: &Dump, subject: &Subject, put: &mut impl FnMut(String, Value) -> Option<Vec<u8>>) {
    let folder = format!("groups/default/artifacts/{subject}");
    let versions = dump.versions_of(subject);
    let created = |v: &VersionLine| v.created_ms.unwrap_or(0);
    let (first, last) = (versions.first().map_or(0, |v| created(v)), versions.last().map_or(0, |v| created(v)));
    let schema_type = versions.first().map_or("AVRO", |v| v.schema_type.as_str());
    put(
        format!("{folder}/MetaData.Artifact.json"),
        json!({
            "groupId": null, "artifactId": subject, "artifactType": schema_type, "name": null, "description": null,
            "labels": null, "owner": "", "createdOn": first, "modifiedBy": "", "modifiedOn": last,
        }),
    );
    let numbers: Vec<String> = versions.iter().map(|v| v.version.to_string()).collect();
    put(
        format!("{folder}/branches/latest.Branch.json"),
        json!({
            "groupId": null, "artifactId": subject, "branchId": "latest", "description": null, "systemDefined": true,
            "owner": "", "createdOn": first, "modifiedBy": "", "modifiedOn": last, "versions": numbers,
        }),
    );
    for version in versions {
        put(
            format!("{folder}/versions/{}.ArtifactVersion.json", version.version),
            json!({
                "globalId": version.global_id, "groupId": null, "artifactId": subject,
                "version": version.version.to_string(), "versionOrder": version.version,
                "state": apicurio_state(version.state), "name": null, "description": null, "owner": "", "labels": null,
                "createdOn": created(version), "modifiedBy": "", "modifiedOn": created(version), "contentId": version.id,
            }),
        );
    }
}

fn apicurio_state(state: VersionState) -> &'static str {
    match state {
        VersionState::Active => "ENABLED",
        VersionState::SoftDeleted => "DISABLED",
        VersionState::Deprecated => "DEPRECATED",
        VersionState::Draft => "DRAFT",
    }
}

fn contents(dump: &Dump, entries: &mut BTreeMap<String, Vec<u8>>) -> Result<(), String> {
    let (mut by_id, mut by_hash) = (BTreeMap::new(), BTreeMap::new());
    for version in &dump.versions {
        let references = serialized_references(&version.references);
        // Apicurio finds a text that is registered again by this hash: a wrong one would give it a new id.
        let hash = sha256(format!("{}{}", version.schema, references.as_deref().unwrap_or_default()).as_bytes());
        let whose = || format!("{} v{}", version.subject, version.version);
        if let Some(other) = by_id.insert(version.id, hash.clone()).filter(|other| *other != hash) {
            return Err(format!("id {} has two schemas ({other} and that of {})", version.id, whose()));
        }
        if let Some(other) = by_hash.insert(hash.clone(), version.id).filter(|other| *other != version.id) {
            return Err(format!("the schema of {} has two ids ({other} and {})", whose(), version.id));
        }
        let about = json!({
            "contentId": version.id, "canonicalHash": null, "contentHash": hash, "artifactType": version.schema_type,
            "contentType": content_type(&version.schema_type), "serializedReferences": references,
        });
        entries.insert(format!("content/{hash}.Content.json"), about.to_string().into_bytes());
        entries.insert(format!("content/{hash}.Content.data"), version.schema.clone().into_bytes());
    }
    Ok(())
}

fn content_type(schema_type: &str) -> &'static str {
    if schema_type == "PROTOBUF" { "application/x-protobuf" } else { "application/json" }
}

/// References as Apicurio hashes and stores them: this order of keys, no spaces.
fn serialized_references(references: &[Reference]) -> Option<String> {
    if references.is_empty() {
        return None;
    }
    let list = references
        .iter()
        .map(|r| json!({"groupId": null, "artifactId": r.subject, "version": r.version.to_string(), "name": r.name}));
    Some(Value::Array(list.collect()).to_string())
}

fn write_zip(entries: BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>, String> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    // The manifest first: it tells the importer which format follows.
    let (manifest, rest): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(name, _)| name.starts_with("manifest-"));
    for (name, text) in manifest.into_iter().chain(rest) {
        zip.start_file(&name, options).map_err(|e| format!("{name}: {e}"))?;
        zip.write_all(&text).map_err(|e| format!("{name}: {e}"))?;
    }
    zip.finish().map(Cursor::into_inner).map_err(|e| e.to_string())
}

impl From<&VersionLine> for ArchivedVersion {
    fn from(line: &VersionLine) -> ArchivedVersion {
        ArchivedVersion {
            subject: line.subject.clone(),
            version: line.version,
            id: line.id,
            global_id: line.global_id,
            soft_deleted: line.state == VersionState::SoftDeleted,
            schema_sha256: line.schema_sha256.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::parts::registry::diff::tests::dump;

    #[test]
    fn a_made_archive_holds_the_dump() {
        let Archive { versions, levels, references, texts } = read_zip(&import_zip(&dump()).unwrap()).unwrap();
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
    fn references_are_hashed_as_apicurio_does() {
        // Taken from an export of 3.3.3.
        let schema = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"A"}]}"#;
        let references = serialized_references(&dump().versions[5].references).unwrap();
        assert_eq!(references, r#"[{"groupId":null,"artifactId":"base-value","version":"1","name":"A"}]"#);
        assert_eq!(
            sha256(format!("{schema}{references}").as_bytes()),
            "c1af93294f6d831f2f8eeeafd9ed544a9395d8e828909dc977471b1633def4d0"
        );
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

    #[test]
    fn rubbish_is_no_archive() {
        assert!(read_zip(b"not a zip").is_err());
    }
}
