//! Artifacts of Apicurio that are made again by its API. A content stays in the store when its last version is deleted, and keeps its id: no
//! import brings versions of it, and whoever registers the same text again is given that id.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{backup::parts::registry::Entity, recovery::RecoveryError};
use cdc_pipeline::client::{connect::encode, registry::Registry};

/// Group and name.
type Artifact = (String, String);

/// Artifacts with all that belongs to them, as an archive would have it.
#[derive(Debug, Default)]
pub(super) struct Recreated {
    entities: Vec<Entity>,
    artifacts: BTreeSet<Artifact>,
}

fn artifact_of(entity: &Entity) -> Option<Artifact> {
    entity.key.artifact().map(|(group, artifact)| (group.to_owned(), artifact.to_owned()))
}

/// Divides what is missing into what an import brings, and artifacts of which a content is there already. What speaks against making these
/// again, in words.
pub(super) fn divide(all: Vec<Entity>, held: &BTreeSet<u64>) -> (Vec<Entity>, Recreated, Vec<String>) {
    let of_held = |e: &&Entity| e.key.is_version() && e.number("contentId").is_some_and(|id| held.contains(&id));
    let artifacts: BTreeSet<Artifact> = all.iter().filter(of_held).filter_map(artifact_of).collect();
    let is_own = |e: &Entity| artifact_of(e).is_some_and(|of| artifacts.contains(&of));
    let globals: BTreeSet<u64> =
        all.iter().filter(|e| e.key.is_version() && is_own(e)).filter_map(|e| e.number("globalId")).collect();
    let own = |e: &Entity| match e.key.kind.as_str() {
        "Comment" => e.key.of[0].parse().is_ok_and(|id| globals.contains(&id)),
        _ => is_own(e),
    };
    let is_content = |e: &Entity| e.key.kind == "Content";
    let entities: Vec<Entity> = all.iter().filter(|e| own(e) || is_content(e)).cloned().collect();
    let imported = all
        .into_iter()
        .filter(|e| !own(e))
        .filter(|e| !(is_content(e) && e.number("contentId").is_some_and(|id| held.contains(&id))));
    let imported = imported.collect();
    let recreated = Recreated { entities, artifacts };
    let wrong = recreated.objections();
    (imported, recreated, wrong)
}

impl Recreated {
    fn versions(&self) -> Vec<&Entity> {
        let own = |e: &&Entity| e.key.is_version() && artifact_of(e).is_some_and(|of| self.artifacts.contains(&of));
        let mut versions: Vec<&Entity> = self.entities.iter().filter(own).collect();
        versions.sort_by_key(|e| e.number("globalId"));
        versions
    }

    /// Versions are counted as they come: one that had another place than its turn would have another number by Confluent's API.
    fn objections(&self) -> Vec<String> {
        let mut orders: BTreeMap<Artifact, Vec<u64>> = BTreeMap::new();
        let mut wrong = Vec::new();
        for version in self.versions() {
            let Some(artifact) = artifact_of(version) else { continue };
            orders.entry(artifact).or_default().push(version.number("versionOrder").unwrap_or_default());
            if version.word("state") == Some("DRAFT") {
                wrong.push(format!("{} is a draft, and its content is still there under its id", version.key));
            }
        }
        for ((group, artifact), orders) in orders {
            if !orders.iter().copied().eq(1..=orders.len() as u64) {
                wrong.push(format!(
                    "versions of {group}/{artifact} do not follow one another: they would be counted anew"
                ));
            }
        }
        wrong
    }

    /// Makes the artifacts again, each version after what it refers to. One that is refused, by a rule say, leaves none of them behind.
    pub(super) async fn make(&self, registry: &Registry) -> Result<(), RecoveryError> {
        let mut made = BTreeSet::new();
        let done = self.make_each(registry, &mut made).await;
        if done.is_err() {
            for (group, artifact) in made {
                let path = format!("/groups/{}/artifacts/{}", encode(&group), encode(&artifact));
                registry.native(Method::DELETE, &path, None).await?;
            }
        }
        done
    }

    async fn make_each(&self, registry: &Registry, made: &mut BTreeSet<Artifact>) -> Result<(), RecoveryError> {
        let versions = self.versions();
        for version in &versions {
            let Some(artifact) = artifact_of(version) else { continue };
            let (group, name) = (encode(&artifact.0), encode(&artifact.1));
            let body = self.version(version);
            match made.contains(&artifact) {
                true => {
                    let path = format!("/groups/{group}/artifacts/{name}/versions");
                    registry.native(Method::POST, &path, Some(body)).await?;
                }
                false => {
                    let body = self.artifact(&artifact, body);
                    registry.native(Method::POST, &format!("/groups/{group}/artifacts"), Some(body)).await?;
                    made.insert(artifact);
                }
            }
        }
        for version in versions {
            let path = version_path(version);
            if let Some(state) = version.word("state").filter(|state| *state != "ENABLED") {
                registry.native(Method::PUT, &format!("{path}/state"), Some(json!({ "state": state }))).await?;
            }
            let global = version.number("globalId").map(|id| id.to_string());
            let comments =
                self.entities.iter().filter(|e| e.key.kind == "Comment" && Some(&e.key.of[0]) == global.as_ref());
            for comment in comments {
                let body = json!({"value": comment.value["value"]});
                registry.native(Method::POST, &format!("{path}/comments"), Some(body)).await?;
            }
        }
        let branches = self.entities.iter().filter(|e| e.key.kind == "Branch" && e.value["systemDefined"] != true);
        for branch in branches {
            let (group, artifact) = (encode(&branch.key.of[0]), encode(&branch.key.of[1]));
            let mut body = described(branch, &["description"]);
            body["branchId"] = branch.value["branchId"].clone();
            body["versions"] = branch.value["versions"].clone();
            registry
                .native(Method::POST, &format!("/groups/{group}/artifacts/{artifact}/branches"), Some(body))
                .await?;
        }
        Ok(())
    }

    fn artifact(&self, (group, name): &Artifact, first: Value) -> Value {
        let own = |e: &&Entity| e.key.kind == "Artifact" && e.key.artifact() == Some((group, name));
        let entity = self.entities.iter().find(own);
        let mut body =
            entity.map_or_else(|| json!({}), |e| described(e, &["name", "description", "labels", "artifactType"]));
        body["artifactId"] = name.clone().into();
        body["firstVersion"] = first;
        body
    }

    fn version(&self, version: &Entity) -> Value {
        let id = version.number("contentId");
        let content = self.entities.iter().find(|e| e.key.kind == "Content" && e.number("contentId") == id);
        let mut body = described(version, &["version", "name", "description", "labels"]);
        if let Some(content) = content {
            let references: Value = content
                .word("serializedReferences")
                .and_then(|text| serde_json::from_str(text).ok())
                .unwrap_or_default();
            body["content"] = json!({"content": content.text, "contentType": content.value["contentType"]});
            if !references.is_null() {
                body["content"]["references"] = references;
            }
        }
        body
    }
}

/// Those of these fields that are given.
fn described(entity: &Entity, fields: &[&str]) -> Value {
    let mut body = json!({});
    for field in fields.iter().filter(|field| !entity.value[**field].is_null()) {
        body[*field] = entity.value[*field].clone();
    }
    body
}

fn version_path(version: &Entity) -> String {
    let of: Vec<String> = version.key.of.iter().map(|part| encode(part)).collect();
    format!("/groups/{}/artifacts/{}/versions/{}", of[0], of[1], of[2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::parts::registry::EntityKey;

    fn entity(kind: &str, of: &[&str], value: Value) -> Entity {
        let key = EntityKey { kind: kind.into(), of: of.iter().map(|o| (*o).to_owned()).collect() };
        Entity { key, value, text: None }
    }

    fn version(artifact: &str, number: &str, id: u64, order: u64) -> Entity {
        let value =
            json!({"version": number, "globalId": id, "contentId": id, "versionOrder": order, "state": "ENABLED"});
        entity("ArtifactVersion", &["default", artifact, number], value)
    }

    fn content(id: u64) -> Entity {
        entity("Content", &[&id.to_string()], json!({"contentId": id, "contentType": "application/json"}))
    }

    #[test]
    fn artifacts_of_contents_that_are_there_are_made_again_and_the_others_imported() {
        let all = vec![
            version("a", "1", 1, 1),
            version("a", "2", 2, 2),
            version("b", "1", 3, 1),
            entity("Comment", &["1", "7"], json!({"value": "c"})),
            entity("Comment", &["3", "8"], json!({"value": "c"})),
            content(1),
            content(2),
            content(3),
        ];
        let (imported, recreated, wrong) = divide(all, &BTreeSet::from([1]));
        assert!(wrong.is_empty(), "{wrong:?}");
        let names: Vec<String> = imported.iter().map(|e| e.key.to_string()).collect();
        assert_eq!(names, ["ArtifactVersion default/b/1", "Comment 3/8", "Content 2", "Content 3"]);
        assert_eq!(recreated.versions().len(), 2);
    }

    #[test]
    fn versions_that_would_be_counted_anew_are_refused() {
        let all = |order| vec![version("a", "1", 1, 1), version("a", "3", 2, order), content(1), content(2)];
        assert!(divide(all(2), &BTreeSet::from([1])).2.is_empty());
        assert!(divide(all(3), &BTreeSet::from([1])).2[0].contains("do not follow one another"));
        assert!(divide(all(3), &BTreeSet::new()).2.is_empty(), "an import keeps them");
    }
}
