//! The neutral form of a registry's content: no product's own words, exact schema texts, both kinds of ids.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ArchivedVersion, Entity, read_zip};
use crate::backup::hash::sha256;
use cdc_model::units::{SchemaId, Subject, SubjectVersion};
use cdc_pipeline::client::registry::Reference;

/// The flavour of a registry that has Confluent's API alone.
pub(crate) const CONFLUENT: &str = "confluent";
/// The kind of what such a registry has besides a level: an alias, whether schemas are normalized, default metadata and rules.
pub(crate) const LEVEL_IN_FULL: &str = "Config";

/// The content of a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    /// `apicurio` or `confluent`.
    pub flavour: String,
    /// The registry's version.
    pub product_version: String,
    /// Which id stands in records: `contentId`, `globalId`, or `schemaId` of a registry that knows one alone. [`VersionLine::id`] is never the
    /// global id.
    pub id_kind: String,
    /// The global compatibility level; `None` is unset, which is not `NONE`.
    pub global_compat: Option<String>,
    /// The global mode.
    pub global_mode: Option<String>,
    /// Every subject, also one that has only a level and no version, by name.
    pub subjects: Vec<SubjectState>,
    /// Every version, in the order of registration.
    pub versions: Vec<VersionLine>,
    /// What cannot be carried into another registry, in words.
    pub caps_hit: Vec<String>,
    /// What is neither a subject's version nor a level, by the registry's own export. Empty in a dump of some subjects only.
    #[serde(default)]
    pub beyond: Vec<Entity>,
}

/// The settings of a subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectState {
    /// The subject.
    pub subject: Subject,
    /// Its own level; `None` is unset.
    pub compat: Option<String>,
    /// Its own mode, where it differs from the global one.
    pub mode: Option<String>,
}

/// One version of a subject: a line of `registry/dump.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionLine {
    /// The subject.
    pub subject: Subject,
    /// The version.
    pub version: SubjectVersion,
    /// The content id: shared by all versions with the same text and references.
    pub id: SchemaId,
    /// The id of this version alone.
    pub global_id: u64,
    /// `AVRO`, `JSON`, `PROTOBUF`.
    pub schema_type: String,
    /// SHA-256 of the schema's text.
    pub schema_sha256: String,
    /// The text as it was registered, byte for byte.
    pub schema: String,
    /// What it refers to.
    pub references: Vec<Reference>,
    /// Whether it is in use.
    pub state: VersionState,
    /// Metadata that Confluent's API attaches; Apicurio has none.
    pub metadata: Option<serde_json::Value>,
    /// Rules that Confluent's API attaches; Apicurio has none.
    pub rule_set: Option<serde_json::Value>,
    /// The subject's own level.
    pub subject_compat: Option<String>,
    /// The subject's own mode.
    pub subject_mode: Option<String>,
    /// The place of this version in the order of registration, from 1.
    pub order: u64,
    /// When it was registered, milliseconds since the Unix epoch.
    pub created_ms: Option<i64>,
}

/// Whether a version is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionState {
    /// In use.
    Active,
    /// Deleted softly: hidden, its id still resolves.
    SoftDeleted,
    /// In use, with a warning.
    Deprecated,
    /// Not yet published.
    Draft,
}

/// `registry/registry.json`: what does not belong to a version.
#[derive(Serialize, Deserialize)]
struct Head {
    flavour: String,
    version: String,
    id_kind: String,
    global_compat: Option<String>,
    global_mode: Option<String>,
    subjects: Vec<SubjectState>,
    caps_hit: Vec<String>,
    /// Of a registry without an export of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    beyond: Vec<Entity>,
}

impl Dump {
    /// The version that was registered first, and when: a registry keeps it through a refill, and no other has it.
    pub(crate) fn birth(&self) -> Option<String> {
        let first = self.versions.iter().min_by_key(|version| version.global_id)?;
        Some(format!("{} version {} at {}", first.subject, first.version, first.created_ms?))
    }

    /// Reads the files of a point, and checks each text against its checksum. A registry with Confluent's API alone has no export.
    pub(crate) fn from_files(
        registry_json: &[u8],
        dump_jsonl: &[u8],
        native_zip: Option<&[u8]>,
    ) -> Result<Dump, String> {
        let export = native_zip.map(|zip| read_zip(zip).map_err(|e| format!("native.zip: {e}"))).transpose()?;
        let head: Head = serde_json::from_slice(registry_json).map_err(|e| format!("registry.json: {e}"))?;
        if export.is_none() && head.flavour != CONFLUENT {
            return Err(format!("native.zip: expected the export of {}, found none", head.flavour));
        }
        let mut versions = Vec::new();
        for (i, line) in dump_jsonl.split(|b| *b == b'\n').enumerate().filter(|(_, l)| !l.is_empty()) {
            let wrong = |what: String| format!("dump.jsonl line {}: {what}", i + 1);
            let version: VersionLine = serde_json::from_slice(line).map_err(|e| wrong(e.to_string()))?;
            if sha256(version.schema.as_bytes()) != version.schema_sha256 {
                return Err(wrong(format!("the schema of {} is not the one written", version.subject)));
            }
            versions.push(version);
        }
        Ok(Dump {
            flavour: head.flavour,
            product_version: head.version,
            id_kind: head.id_kind,
            global_compat: head.global_compat,
            global_mode: head.global_mode,
            subjects: head.subjects,
            versions,
            // Of an export not those of the head: an earlier version counted what the export has.
            caps_hit: export.as_ref().map_or(head.caps_hit, |export| export.caps.clone()),
            beyond: export.map_or(head.beyond, |export| export.beyond),
        })
    }

    /// The content of `registry/registry.json`.
    pub(crate) fn head(&self) -> impl Serialize + use<> {
        Head {
            flavour: self.flavour.clone(),
            version: self.product_version.clone(),
            id_kind: self.id_kind.clone(),
            global_compat: self.global_compat.clone(),
            global_mode: self.global_mode.clone(),
            subjects: self.subjects.clone(),
            caps_hit: self.caps_hit.clone(),
            beyond: if self.is_confluent() { self.beyond.clone() } else { Vec::new() },
        }
    }

    /// Whether it is of a registry with Confluent's API alone.
    pub(crate) fn is_confluent(&self) -> bool {
        self.flavour == CONFLUENT
    }

    /// One version.
    pub fn version(&self, subject: &Subject, version: SubjectVersion) -> Option<&VersionLine> {
        self.versions.iter().find(|v| v.subject == *subject && v.version == version)
    }

    /// The versions of a subject, ascending.
    pub(crate) fn versions_of(&self, subject: &Subject) -> Vec<&VersionLine> {
        let mut versions: Vec<&VersionLine> = self.versions.iter().filter(|v| v.subject == *subject).collect();
        versions.sort_by_key(|v| v.version);
        versions
    }

    /// A subject's own level; `None` is unset.
    pub fn level(&self, subject: &Subject) -> Option<&str> {
        self.subjects.iter().find(|s| s.subject == *subject).and_then(|s| s.compat.as_deref())
    }

    /// Each id as it stands in records, with the checksum of the schema it resolves to.
    pub fn ids(&self) -> BTreeMap<SchemaId, &str> {
        self.versions.iter().map(|v| (self.record_id(v), v.schema_sha256.as_str())).collect()
    }

    /// The id of a version as it stands in records.
    pub fn record_id(&self, version: &VersionLine) -> SchemaId {
        if self.id_kind == "globalId" { SchemaId(version.global_id as u32) } else { version.id }
    }
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
