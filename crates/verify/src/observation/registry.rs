//! A registry, as far as records and rules depend on it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use cdc_model::units::SchemaId;

/// A registry, as far as records and rules depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryView {
    /// The global compatibility level; `None` is unset, which is not `NONE`.
    pub global_level: Option<String>,
    /// The global mode.
    pub global_mode: Option<String>,
    /// The subjects.
    pub subjects: BTreeMap<String, SubjectView>,
    /// Schemas that are no subject's and that records were written with: artifacts of another group than the default one,
    /// as a converter registers them that is given one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub elsewhere: BTreeMap<SchemaId, GroupVersion>,
}

/// A version of an artifact in a group of the registry that subjects do not reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupVersion {
    /// The group.
    pub group: String,
    /// The artifact.
    pub artifact: String,
    /// Its version.
    pub version: String,
    /// Its exact text.
    pub schema: String,
}

/// A subject.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectView {
    /// Its own level; `None` is unset, which is not `NONE`.
    pub level: Option<String>,
    /// Its own mode; `None` where it has none or the registry knows none.
    pub mode: Option<String>,
    /// Its versions.
    pub versions: BTreeMap<u32, VersionView>,
}

/// A version of a subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionView {
    /// Its schema id.
    pub id: SchemaId,
    /// Its exact text.
    pub schema: String,
    /// Whether it is soft-deleted.
    pub deleted: bool,
}

impl RegistryView {
    /// The text of an id.
    pub fn text(&self, id: SchemaId) -> Option<&str> {
        let of_subjects = self.subjects.values().flat_map(|s| s.versions.values()).find(|v| v.id == id);
        of_subjects.map(|v| &v.schema).or_else(|| self.elsewhere.get(&id).map(|v| &v.schema)).map(String::as_str)
    }
}

/// A schema that was offered to the registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The subject.
    pub subject: String,
    /// Whether it is compatible with the subject's versions under the recovery point's level.
    pub compatible: bool,
    /// What the registry answered: whether it would take it.
    pub accepted: Result<bool, String>,
}
