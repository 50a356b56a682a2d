//! What a registry holds beyond subjects, schemas and levels: artifacts of other groups, versions that are no numbers, rules of other
//! kinds, names, labels, comments and branches. Kept as Apicurio's own export has it, so that an import carries it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use cdc_model::units::SubjectVersion;

/// The group whose artifacts are the subjects of Confluent's API.
pub const DEFAULT_GROUP: &str = "default";
/// Who made an entity, and when: another one after it was made again, and of no effect on readers and writers.
const AUTHORSHIP: [&str; 4] = ["owner", "createdOn", "modifiedBy", "modifiedOn"];

/// What a dump has of a version, and compares.
const DUMPED: [&str; 4] = ["globalId", "contentId", "versionOrder", "state"];

/// The identity of an entity of an export.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EntityKey {
    /// As the export names it: `ArtifactVersion`, `GroupRule`, `Comment` ...
    pub kind: String,
    /// What identifies it among its kind: group, artifact and version, say.
    pub of: Vec<String>,
}

/// An entity of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    /// Its identity.
    pub key: EntityKey,
    /// All that the export says of it.
    pub value: Value,
    /// A content's text.
    pub text: Option<String>,
}

impl EntityKey {
    /// The identity of an entity, by the kind of its entry in the archive and its value.
    pub(super) fn of(kind: &str, entry: &str, value: &Value) -> EntityKey {
        let group = || value["groupId"].as_str().unwrap_or(DEFAULT_GROUP).to_owned();
        let word = |key: &str| match &value[key] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let of = match kind {
            "Group" => vec![group()],
            "GroupRule" => vec![group(), word("type")],
            "Artifact" => vec![group(), word("artifactId")],
            "ArtifactRule" => vec![group(), word("artifactId"), word("type")],
            "ArtifactVersion" => vec![group(), word("artifactId"), word("version")],
            "Branch" => vec![group(), word("artifactId"), word("branchId")],
            "Comment" => vec![word("globalId"), word("commentId")],
            "GlobalRule" => vec![word("ruleType")],
            "Content" => vec![word("contentId")],
            // Of a later format: carried as it is.
            _ => vec![entry.to_owned()],
        };
        EntityKey { kind: kind.to_owned(), of }
    }

    /// Group and artifact, of what belongs to one.
    pub fn artifact(&self) -> Option<(&str, &str)> {
        let belongs = matches!(self.kind.as_str(), "Artifact" | "ArtifactRule" | "ArtifactVersion" | "Branch");
        match self.of.as_slice() {
            [group, artifact, ..] if belongs => Some((group, artifact)),
            _ => None,
        }
    }

    /// Whether it is a version of an artifact, to which ids in records lead.
    pub(crate) fn is_version(&self) -> bool {
        self.kind == "ArtifactVersion"
    }

    /// Subject and version, where it is one that a subject has.
    pub(crate) fn subject_version(&self) -> Option<(&str, SubjectVersion)> {
        match self.of.as_slice() {
            [group, subject, version] if self.is_version() && group == DEFAULT_GROUP => {
                Some((subject, SubjectVersion(version.parse().ok()?)))
            }
            _ => None,
        }
    }

    /// Whether it is a version that no subject can have.
    pub(crate) fn is_foreign_version(&self) -> bool {
        self.is_version() && self.subject_version().is_none()
    }

    /// Whether it is a rule.
    pub(crate) fn is_rule(&self) -> bool {
        self.kind.ends_with("Rule")
    }

    /// Whether it can be set without filling the store anew: rules, and what a subject or its version is described with.
    pub(crate) fn is_set_in_place(&self) -> bool {
        let of_subject = self.kind == "Artifact" && self.of[0] == DEFAULT_GROUP;
        of_subject || self.subject_version().is_some() || self.is_rule()
    }
}

impl fmt::Display for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.of.join("/"))
    }
}

impl Entity {
    /// A number of its value.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.value[key].as_u64()
    }

    /// A text of its value.
    pub fn word(&self, key: &str) -> Option<&str> {
        self.value[key].as_str()
    }

    /// Its value without who made it and when, and of a subject's version without what a dump has of it.
    fn essence(&self) -> Value {
        let of_subject = self.key.subject_version().is_some();
        let mut value = self.value.clone();
        if let Some(fields) = value.as_object_mut() {
            let told = |key: &str| AUTHORSHIP.contains(&key) || of_subject && DUMPED.contains(&key);
            fields.retain(|key, _| !told(key));
        }
        value
    }

    /// Whether name, description or labels were given to it.
    fn is_described(&self) -> bool {
        ["name", "description", "labels"].iter().any(|key| says(&self.value[*key]))
    }

    /// Whether an artifact or a version that a dump has lacks nothing in it but who made it.
    fn is_authorship(&self) -> bool {
        self.key.is_set_in_place() && !self.key.is_rule() && !self.is_described()
    }
}

/// Whether a value is given and not empty.
fn says(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    }
}

/// Whether Confluent's API, and so a dump, can name a version.
pub(super) fn is_number(version: &str) -> bool {
    version.parse::<u32>().is_ok()
}

/// What a dump does not have of an export's entities.
pub(super) fn beyond_subjects(all: Vec<Entity>) -> Vec<Entity> {
    let artifacts = |of_number: bool| -> BTreeSet<(String, String)> {
        let versions = all.iter().filter(|e| e.key.is_version() && is_number(&e.key.of[2]) == of_number);
        versions.map(|e| (e.key.of[0].clone(), e.key.of[1].clone())).collect()
    };
    let (numbered, named) = (artifacts(true), artifacts(false));
    let own = |key: &EntityKey| key.artifact().map(|(group, artifact)| (group.to_owned(), artifact.to_owned()));
    let has = |entity: &Entity| {
        let key = &entity.key;
        let default = key.of.first().is_some_and(|group| group == DEFAULT_GROUP);
        let plain = own(key).is_some_and(|artifact| numbered.contains(&artifact) && !named.contains(&artifact));
        match key.kind.as_str() {
            "Manifest" => true,
            "GlobalRule" => key.of[0] == "COMPATIBILITY",
            "ArtifactRule" => default && key.of[2] == "COMPATIBILITY",
            "Artifact" => default && plain && !says(&entity.value["owner"]) && !entity.is_described(),
            "ArtifactVersion" => {
                default && is_number(&key.of[2]) && !says(&entity.value["owner"]) && !entity.is_described()
            }
            "Branch" => default && plain && entity.value["systemDefined"] == true,
            _ => false,
        }
    };
    let contents: BTreeSet<u64> =
        all.iter().filter(|e| e.key.is_foreign_version()).filter_map(|e| e.number("contentId")).collect();
    let (has, mut beyond): (Vec<bool>, Vec<Entity>) = (all.iter().map(has).collect(), Vec::new());
    for (entity, has) in all.into_iter().zip(has) {
        let unused =
            entity.key.kind == "Content" && !entity.number("contentId").is_some_and(|id| contents.contains(&id));
        if !has && !unused {
            beyond.push(entity);
        }
    }
    beyond.sort_by(|a, b| a.key.cmp(&b.key));
    beyond
}

/// The entities that `now` lacks, or has with another content than `before`. Who made them and when is not compared.
pub(super) fn lost(before: &[Entity], now: &[Entity]) -> Vec<(EntityKey, bool)> {
    let now: BTreeMap<&EntityKey, &Entity> = now.iter().map(|e| (&e.key, e)).collect();
    let found = before.iter().filter_map(|entity| match now.get(&entity.key) {
        None => (!entity.is_authorship()).then(|| (entity.key.clone(), false)),
        Some(other) => {
            let changed = other.essence() != entity.essence() || other.text != entity.text;
            changed.then(|| (entity.key.clone(), true))
        }
    });
    found.collect()
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in super::super) fn entity(kind: &str, value: Value) -> Entity {
        Entity { key: EntityKey::of(kind, "x", &value), value, text: None }
    }

    /// A subject without and one with a label, an artifact of another group, a version that is no number, a comment, rules.
    fn export() -> Vec<Entity> {
        let version = |group: Value, artifact: &str, version: &str, id: u64| {
            entity(
                "ArtifactVersion",
                json!({"groupId": group, "artifactId": artifact, "version": version, "globalId": id, "contentId": id}),
            )
        };
        let content = |id: u64| entity("Content", json!({"contentId": id, "contentHash": format!("h{id}")}));
        let branch = |artifact: &str, id: &str, own: bool| {
            entity("Branch", json!({"groupId": null, "artifactId": artifact, "branchId": id, "systemDefined": own}))
        };
        vec![
            entity("Artifact", json!({"groupId": null, "artifactId": "plain-value", "owner": "", "labels": {}})),
            entity("Artifact", json!({"groupId": null, "artifactId": "labelled-value", "labels": {"team": "t"}})),
            entity("Artifact", json!({"groupId": "apps", "artifactId": "invoice"})),
            version(Value::Null, "plain-value", "1", 1),
            version(Value::Null, "labelled-value", "1", 2),
            version(Value::Null, "odd", "1.0.0", 3),
            version(json!("apps"), "invoice", "1", 4),
            branch("plain-value", "latest", true),
            branch("plain-value", "prod", false),
            content(1),
            content(3),
            content(4),
            entity("Comment", json!({"globalId": 1, "commentId": "7"})),
            entity("GlobalRule", json!({"ruleType": "COMPATIBILITY"})),
            entity("GlobalRule", json!({"ruleType": "VALIDITY"})),
            entity("Surprise", json!({})),
        ]
    }

    #[test]
    fn what_a_dump_has_is_not_kept_twice() {
        let beyond: Vec<String> = beyond_subjects(export()).iter().map(|e| e.key.to_string()).collect();
        let expected = [
            "Artifact apps/invoice",
            "Artifact default/labelled-value",
            "ArtifactVersion apps/invoice/1",
            "ArtifactVersion default/odd/1.0.0",
            "Branch default/plain-value/prod",
            "Comment 1/7",
            "Content 3",
            "Content 4",
            "GlobalRule VALIDITY",
            "Surprise x",
        ];
        assert_eq!(beyond, expected);
    }

    #[test]
    fn an_author_is_no_loss_and_a_label_is() {
        let of = |value: Value| entity("Artifact", value);
        let owned = of(json!({"groupId": null, "artifactId": "a", "owner": "me", "createdOn": 1}));
        assert_eq!(lost(std::slice::from_ref(&owned), &[]), []);
        let again = of(json!({"groupId": null, "artifactId": "a", "owner": "you", "createdOn": 2}));
        assert_eq!(lost(&[owned], &[again]), []);
        let labelled = of(json!({"groupId": null, "artifactId": "a", "labels": {"x": "y"}}));
        let other = of(json!({"groupId": null, "artifactId": "a", "labels": {"x": "z"}}));
        assert_eq!(lost(std::slice::from_ref(&labelled), &[other]), [(labelled.key.clone(), true)]);
        assert_eq!(lost(std::slice::from_ref(&labelled), &[]), [(labelled.key.clone(), false)]);
        let foreign = of(json!({"groupId": "apps", "artifactId": "a"}));
        assert_eq!(lost(std::slice::from_ref(&foreign), &[]).len(), 1, "its versions lead to it");
    }
}
