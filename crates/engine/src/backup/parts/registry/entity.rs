//! What a registry holds beyond subjects, schemas and levels: artifacts of other groups, versions that are no numbers, rules of other
//! kinds, names, labels, comments and branches. Kept as Apicurio's own export has it, so that an import carries it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::native::{LATEST, content_hash, content_type, serialized_references};
use cdc_model::units::SubjectVersion;
use cdc_pipeline::client::registry::Reference;

/// The group whose artifacts are the subjects of Confluent's API.
pub const DEFAULT_GROUP: &str = "default";
/// Who made an entity, and when: another one after it was made again, and of no effect on readers and writers.
const AUTHORSHIP: [&str; 4] = ["owner", "createdOn", "modifiedBy", "modifiedOn"];

/// What a dump has of a version, and compares. The order of versions is compared as that of the branch that has them.
const DUMPED: [&str; 4] = ["globalId", "contentId", "versionOrder", "state"];

/// A hash of a content that Apicurio makes when it needs it.
const MADE_LATER: &str = "canonicalHash";

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
            let told =
                |key: &str| AUTHORSHIP.contains(&key) || key == MADE_LATER || of_subject && DUMPED.contains(&key);
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

/// The default group's artifacts whose versions come in another order than that of their numbers, so that another one is the latest.
fn disordered(all: &[Entity]) -> BTreeSet<String> {
    let mut orders: BTreeMap<&str, Vec<(u64, u32)>> = BTreeMap::new();
    for entity in all {
        if let Some((subject, version)) = entity.key.subject_version() {
            orders.entry(subject).or_default().push((entity.number("versionOrder").unwrap_or_default(), version.0));
        }
    }
    let in_order = |versions: &mut Vec<(u64, u32)>| {
        versions.sort_unstable();
        versions.is_sorted_by_key(|(_, number)| *number)
    };
    orders
        .into_iter()
        .filter_map(|(subject, mut versions)| (!in_order(&mut versions)).then(|| subject.to_owned()))
        .collect()
}

/// The numbers of a subject's versions that are published, ascending: what its branch `latest` has.
fn published<'a>(all: &'a [Entity], subject: &str) -> Vec<&'a str> {
    let own = all.iter().filter(|e| e.key.subject_version().is_some_and(|(of, _)| of == subject));
    let mut numbers: Vec<&str> =
        own.filter(|e| e.word("state") != Some("DRAFT")).map(|e| e.key.of[2].as_str()).collect();
    numbers.sort_by_key(|number| number.parse::<u32>().unwrap_or_default());
    numbers
}

/// The types of the artifacts that have versions of a content, by its id.
fn content_types(all: &[Entity]) -> BTreeMap<u64, BTreeSet<&str>> {
    let artifacts: BTreeMap<(&str, &str), &str> = all
        .iter()
        .filter(|e| e.key.kind == "Artifact")
        .filter_map(|e| Some((e.key.artifact()?, e.word("artifactType").unwrap_or("AVRO"))))
        .collect();
    let mut types: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    for version in all.iter().filter(|e| e.key.is_version()) {
        let of = version.key.artifact().and_then(|of| artifacts.get(&of)).copied().unwrap_or("AVRO");
        types.entry(version.number("contentId").unwrap_or_default()).or_default().insert(of);
    }
    types
}

/// Whether an import would make a content like this of its text and references, for each of these types.
fn is_remade(content: &Entity, references: &[Reference], types: &BTreeSet<&str>) -> bool {
    let Some(text) = &content.text else { return false };
    types.iter().all(|of| content.word("contentType") == Some(content_type(of)))
        && content.word("contentHash") == Some(content_hash(text, references).as_str())
        && content.word("serializedReferences").map(str::to_owned) == serialized_references(references)
}

/// What a dump does not have of an export's entities. `references` are those of each content, as a dump has them.
pub(super) fn beyond_subjects(all: Vec<Entity>, references: impl Fn(u64) -> Vec<Reference>) -> Vec<Entity> {
    let artifacts = |of_number: bool| -> BTreeSet<(String, String)> {
        let versions = all.iter().filter(|e| e.key.is_version() && is_number(&e.key.of[2]) == of_number);
        versions.map(|e| (e.key.of[0].clone(), e.key.of[1].clone())).collect()
    };
    let (numbered, named) = (artifacts(true), artifacts(false));
    let own = |key: &EntityKey| key.artifact().map(|(group, artifact)| (group.to_owned(), artifact.to_owned()));
    let (disordered, types) = (disordered(&all), content_types(&all));
    let has = |entity: &Entity| {
        let key = &entity.key;
        let in_order = key.of.get(1).is_none_or(|subject| !disordered.contains(subject));
        let default = key.of.first().is_some_and(|group| group == DEFAULT_GROUP);
        let plain = own(key).is_some_and(|artifact| numbered.contains(&artifact) && !named.contains(&artifact));
        match key.kind.as_str() {
            "Manifest" => true,
            "GlobalRule" => key.of[0] == "COMPATIBILITY",
            "ArtifactRule" => default && key.of[2] == "COMPATIBILITY",
            "Artifact" => default && plain && !says(&entity.value["owner"]) && !entity.is_described(),
            "ArtifactVersion" => {
                default && in_order && is_number(&key.of[2]) && !says(&entity.value["owner"]) && !entity.is_described()
            }
            "Branch" => {
                let versions = entity.value["versions"].as_array().into_iter().flatten().filter_map(Value::as_str);
                default && plain && key.of[2] == LATEST && versions.eq(published(&all, &key.of[1]))
            }
            _ => false,
        }
    };
    let foreign: BTreeSet<u64> =
        all.iter().filter(|e| e.key.is_foreign_version()).filter_map(|e| e.number("contentId")).collect();
    // Those of versions that no subject can have, and those that would be made otherwise of a dump.
    let contents: BTreeSet<u64> = all
        .iter()
        .filter(|e| e.key.kind == "Content")
        .filter_map(|e| Some((e, e.number("contentId")?)))
        .filter(|(e, id)| {
            foreign.contains(id) || types.get(id).is_some_and(|types| !is_remade(e, &references(*id), types))
        })
        .map(|(_, id)| id)
        .collect();
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
        let content = |id: u64| {
            let (text, hash) = (format!("t{id}"), content_hash(&format!("t{id}"), &[]));
            let about = json!({"contentId": id, "contentHash": hash, "contentType": "application/json"});
            Entity { text: Some(text), ..entity("Content", about) }
        };
        let branch = |artifact: &str, id: &str, own: bool| {
            let of = json!({"groupId": null, "artifactId": artifact, "branchId": id, "systemDefined": own, "versions": ["1"]});
            entity("Branch", of)
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
        let beyond: Vec<String> = beyond_subjects(export(), |_| Vec::new()).iter().map(|e| e.key.to_string()).collect();
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
