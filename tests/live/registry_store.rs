//! A registry that holds more than subjects, and loses all of it.

use std::{
    collections::BTreeSet,
    io::{Cursor, Read},
    os::unix::fs::PermissionsExt,
};

use camino::Utf8PathBuf;
use cdc_model::units::Subject;
use cdc_pipeline::{
    client::{registry::Registry, wait},
    config::RegistryStorage,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    attach::expect,
    sandbox::{DEADLINE, Stack, cdc_drill_with},
};

/// What an export holds, whatever its entries are called.
pub(super) async fn everything(registry: &Registry) -> BTreeSet<String> {
    let mut zip = zip::ZipArchive::new(Cursor::new(registry.export().await.unwrap())).unwrap();
    let mut all = BTreeSet::new();
    for at in 0..zip.len() {
        let mut entry = zip.by_index(at).unwrap();
        let (kind, mut text) = (entry.name().rsplit('.').nth(1).unwrap_or_default().to_owned(), String::new());
        entry.read_to_string(&mut text).unwrap();
        // Who made it and when, and a hash for finding texts that differ in spaces: Apicurio makes them when it needs them.
        let text = match serde_json::from_str::<Value>(&text) {
            Ok(Value::Object(mut fields)) => {
                let mut own = vec!["createdOn", "modifiedOn"];
                own.extend(
                    fields
                        .contains_key("contentHash")
                        .then_some(["canonicalHash", "artifactType"])
                        .into_iter()
                        .flatten(),
                );
                fields.retain(|key, _| !own.contains(&key.as_str()));
                Value::Object(fields).to_string()
            }
            _ => text,
        };
        if kind != "Manifest" {
            all.insert(format!("{kind} {text}"));
        }
    }
    all
}

/// A group, versions that are no numbers or not in the order of theirs, references across groups, drafts of one text, contents that are neither
/// Avro nor JSON, states, rules of all kinds, a comment, a branch, labels, and a subject that is not ASCII.
pub(super) async fn filled(registry: &Registry) {
    let content = |name: &str| {
        let schema = json!({"type": "record", "name": name, "fields": []}).to_string();
        json!({"content": schema, "contentType": "application/json"})
    };
    let rule = |kind: &str, config: &str| json!({"ruleType": kind, "config": config});
    let first = json!({"version": "1.0.0", "name": "first", "labels": {"q": "w"}, "content": content("Invoice")});
    let numbered = json!({"version": "1", "description": "the first", "content": content("Thing")});
    let avro = |artifact: &str, version: Value| json!({"artifactId": artifact, "artifactType": "AVRO", "firstVersion": version});
    let draft = || json!({"version": "1", "isDraft": true, "content": content("Draft")});
    let with_reference = json!({"version": "1", "content": {
        "content": json!({"type": "record", "name": "Crossing", "fields": [{"name": "i", "type": "Invoice"}]}).to_string(),
        "contentType": "application/json",
        "references": [{"groupId": "apps", "artifactId": "invoice", "version": "1.0.0", "name": "Invoice"}],
    }});
    let yaml = json!({"artifactId": "api", "artifactType": "OPENAPI", "firstVersion": {"version": "1", "content": {
        "content": "openapi: 3.0.0\ninfo:\n  title: t\n  version: \"1\"\npaths: {}\n", "contentType": "application/x-yaml",
    }}});
    for (path, body) in [
        ("/groups", json!({"groupId": "apps", "description": "of applications", "labels": {"a": "b"}})),
        (
            "/groups/apps/artifacts",
            json!({"artifactId": "invoice", "artifactType": "AVRO", "name": "Invoice", "firstVersion": first}),
        ),
        (
            "/groups/default/artifacts",
            json!({"artifactId": "odd", "artifactType": "AVRO", "firstVersion": {"version": "v1.2", "content": content("Odd")}}),
        ),
        (
            "/groups/default/artifacts",
            json!({"artifactId": "thing-value", "artifactType": "AVRO", "labels": {"team": "t"}, "firstVersion": numbered}),
        ),
        ("/groups/default/artifacts/thing-value/versions/1/comments", json!({"value": "looked at"})),
        ("/groups/default/artifacts/thing-value/branches", json!({"branchId": "prod", "versions": ["1"]})),
        ("/groups/default/artifacts/thing-value/rules", rule("VALIDITY", "FULL")),
        ("/groups/apps/rules", rule("COMPATIBILITY", "FORWARD")),
        ("/admin/rules", rule("INTEGRITY", "NONE")),
        ("/groups/default/artifacts", avro("crossing-value", with_reference)),
        ("/groups/default/artifacts", yaml),
        ("/groups/default/artifacts", avro("draft-a", draft())),
        ("/groups/default/artifacts", avro("draft-b", draft())),
        ("/groups/default/artifacts", avro("order-value", json!({"version": "10", "content": content("Ten")}))),
        ("/groups/default/artifacts/order-value/versions", json!({"version": "9", "content": content("Nine")})),
        ("/groups/default/artifacts/order-value/versions", json!({"version": "11", "content": content("Eleven")})),
    ] {
        registry.native(Method::POST, path, Some(body)).await.unwrap();
    }
    for (version, state) in [("10", "DEPRECATED"), ("9", "DISABLED")] {
        let path = format!("/groups/default/artifacts/order-value/versions/{version}/state");
        registry.native(Method::PUT, &path, Some(json!({ "state": state }))).await.unwrap();
    }
    let plain = |name: &str| json!({"type": "record", "name": name, "fields": []}).to_string();
    registry.register(&Subject::new("ünï-value"), &plain("Uni"), &[]).await.unwrap();
    registry.register(&Subject::new("../../a b-value"), &plain("Slash"), &[]).await.unwrap();
}

async fn lost(stack: &Stack, registry: &Registry) {
    let Some(RegistryStorage::H2 { path }) = &stack.config().registry.storage else { panic!("an H2 store") };
    expect(0, &format!("stack stop registry --dir {}", stack.dir), "");
    std::fs::remove_file(format!("{path}.mv.db")).unwrap();
    expect(0, &format!("stack start registry --dir {}", stack.dir), "");
    wait::until("the registry to answer", DEADLINE, || async { registry.info().await.map(wait::Poll::Ready) })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_is_filled_anew_with_all_it_held() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let stack = Stack::up(Utf8PathBuf::from_path_buf(folder.path().join("stack")).unwrap(), "--registry h2");
    stack.pipeline("shop").await;
    let registry = Registry::of(&stack.config().registry);
    filled(&registry).await;
    let before = everything(&registry).await;
    let file = stack.file();
    expect(0, &format!("backup create --config {file}"), "");

    // A rule alone is set in place.
    registry.native(Method::DELETE, "/admin/rules/INTEGRITY", None).await.unwrap();
    let run = format!("recover run schema --yes --config {file}");
    expect(0, &run, "GlobalRule INTEGRITY: missing");
    assert_eq!(everything(&registry).await, before);

    lost(&stack, &registry).await;
    let marker = Subject::new("marker-value");
    registry.register(&marker, r#"{"type":"record","name":"Marker","fields":[]}"#, &[]).await.unwrap();
    // What cannot be filled is put back as it was found.
    let said = cdc_drill_with(&run, &[("CDC_DRILL_INTERRUPT", "repair-registry:import:fail")]);
    assert_eq!(said.exit, 11, "{}", said.err);
    assert!(said.err.contains("the store is again the one that was set aside"), "{}", said.err);
    assert_eq!(registry.subjects(true).await.unwrap(), std::slice::from_ref(&marker));
    // Until the next run it is the registry that everybody uses.
    let later = Subject::new("later-value");
    registry.register(&later, r#"{"type":"record","name":"Later","fields":[]}"#, &[]).await.unwrap();
    let said = expect(0, &run, "ArtifactVersion apps/invoice/1.0.0: missing");
    // An empty registry begins to count anew: their ids mean other schemas.
    for lost in [&marker, &later] {
        assert!(
            said.err.contains(&format!("{lost} version 1 (id")),
            "{lost} is given up without a word:\n{}",
            said.err
        );
    }
    let after = everything(&registry).await;
    let missing: Vec<&String> = before.difference(&after).collect();
    assert!(missing.is_empty(), "{missing:#?}\nnow:\n{after:#?}");
}
