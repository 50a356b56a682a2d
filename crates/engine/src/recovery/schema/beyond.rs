//! What a registry holds beyond subjects and levels, as far as it can be set in place: rules of other kinds and of groups, and the
//! names, descriptions and labels of subjects and versions.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    backup::parts::registry::{Dump, Entity},
    recovery::RecoveryError,
};
use cdc_pipeline::client::{connect::encode, registry::Registry};

/// Sets what differs from the wanted.
pub(in crate::recovery) async fn put(registry: &Registry, wanted: &Dump, now: &Dump) -> Result<(), RecoveryError> {
    for entity in wanted.beyond.iter().filter(|e| e.key.is_set_in_place()) {
        let there = now.beyond.iter().find(|e| e.key == entity.key);
        if there.is_some_and(|there| there.value == entity.value) {
            continue;
        }
        let (method, path, body) = match entity.key.is_rule() {
            true => rule(entity, there.is_some()),
            false => description(entity),
        };
        registry.native(method, &path, Some(body)).await?;
    }
    Ok(())
}

/// The request that sets a rule: a global one, a group's or an artifact's.
fn rule(rule: &Entity, is_there: bool) -> (Method, String, Value) {
    let of: Vec<String> = rule.key.of.iter().map(|part| encode(part)).collect();
    let (kind, owner) = of.split_last().map_or(("", &of[..]), |(kind, owner)| (kind.as_str(), owner));
    let rules = match owner {
        [group, artifact] => format!("/groups/{group}/artifacts/{artifact}/rules"),
        [group] => format!("/groups/{group}/rules"),
        _ => "/admin/rules".to_owned(),
    };
    let body = json!({"ruleType": kind, "config": rule.value["configuration"]});
    match is_there {
        true => (Method::PUT, format!("{rules}/{kind}"), body),
        false => (Method::POST, rules, body),
    }
}

/// The request that sets name, description and labels.
fn description(entity: &Entity) -> (Method, String, Value) {
    let of: Vec<String> = entity.key.of.iter().map(|part| encode(part)).collect();
    let artifact = format!("/groups/{}/artifacts/{}", of[0], of[1]);
    let path = of.get(2).map_or(artifact.clone(), |version| format!("{artifact}/versions/{version}"));
    let mut body = json!({});
    for key in ["name", "description", "labels"] {
        if !entity.value[key].is_null() {
            body[key] = entity.value[key].clone();
        }
    }
    (Method::PUT, path, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::parts::registry::EntityKey;

    fn entity(kind: &str, of: &[&str], value: Value) -> Entity {
        let key = EntityKey { kind: kind.into(), of: of.iter().map(|o| (*o).to_owned()).collect() };
        Entity { key, value, text: None }
    }

    #[test]
    fn each_has_its_request() {
        let full = json!({"configuration": "FULL"});
        let (method, path, body) = rule(&entity("GlobalRule", &["VALIDITY"], full.clone()), false);
        assert_eq!((method, path.as_str()), (Method::POST, "/admin/rules"));
        assert_eq!(body, json!({"ruleType": "VALIDITY", "config": "FULL"}));
        let (method, path, _) = rule(&entity("GroupRule", &["apps", "VALIDITY"], full.clone()), true);
        assert_eq!((method, path.as_str()), (Method::PUT, "/groups/apps/rules/VALIDITY"));
        let (_, path, _) = rule(&entity("ArtifactRule", &["default", "a/b", "VALIDITY"], full), false);
        assert_eq!(path, "/groups/default/artifacts/a%2Fb/rules");
        let named = json!({"name": "n", "description": null, "labels": {"a": "b"}, "owner": "x"});
        let (_, path, body) = description(&entity("ArtifactVersion", &["default", "a", "2"], named));
        assert_eq!(
            (path.as_str(), body),
            ("/groups/default/artifacts/a/versions/2", json!({"name": "n", "labels": {"a": "b"}}))
        );
    }
}
