//! Reading a registry that has Confluent's API alone.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use super::{CONFLUENT, Dump, Entity, EntityKey, LEVEL_IN_FULL, SubjectState, VersionLine, VersionState};
use crate::backup::{BackupError, hash::sha256};
use cdc_model::units::{SchemaId, Subject, SubjectVersion, counted};
use cdc_pipeline::client::registry::{Registered, Registry};

/// Questions that are asked at the same time.
const AT_ONCE: usize = 8;
/// How the subject of another context than the default one begins.
const CONTEXT: &str = ":.";

/// What is asked of one subject.
struct Asked {
    state: SubjectState,
    level: Option<Value>,
    versions: Vec<VersionLine>,
}

/// Reads what the registry holds of the wanted subjects, soft-deleted ones included. Levels and modes of subjects without versions cannot be
/// listed.
pub(super) async fn capture(registry: &Registry, wanted: impl Fn(&Subject) -> bool) -> Result<Dump, BackupError> {
    let info = registry.info().await?;
    let global = registry.level_in_full(None).await?;
    let subjects: Vec<Subject> = registry.subjects(true).await?.into_iter().filter(|s| wanted(s)).collect();
    // Schema ids are counted in each context by itself: one id may mean two schemas.
    let caps_hit = subjects
        .iter()
        .filter(|subject| subject.as_str().starts_with(CONTEXT))
        .map(|subject| format!("subject {subject} is in a context of its own, with schema ids of its own"))
        .collect();
    let asked = subjects.into_iter().map(|subject| subject_of(registry, subject));
    let asked: Vec<Asked> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
    let mut dump = Dump {
        flavour: CONFLUENT.into(),
        product_version: info["version"].as_str().unwrap_or("unknown").to_owned(),
        id_kind: "schemaId".into(),
        global_compat: global.as_ref().and_then(level_of),
        global_mode: Some(registry.global_mode().await?),
        subjects: Vec::new(),
        versions: Vec::new(),
        caps_hit,
        beyond: Vec::new(),
    };
    dump.beyond.extend(global.and_then(|value| in_full(None, value)));
    for Asked { state, level, versions } in asked {
        dump.beyond.extend(level.and_then(|value| in_full(Some(&state.subject), value)));
        // Deleted for good since it was listed.
        if !versions.is_empty() {
            dump.subjects.push(state);
        }
        dump.versions.extend(versions);
    }
    dump.subjects.sort_by(|a, b| a.subject.cmp(&b.subject));
    dump.versions.sort_by(|a, b| (a.id, &a.subject, a.version).cmp(&(b.id, &b.subject, b.version)));
    for (order, version) in (1..).zip(&mut dump.versions) {
        version.order = order;
    }
    Ok(dump)
}

/// Whether each id resolves to the text that its versions have: the second witness, where a registry has no export.
pub(super) async fn agreement(registry: &Registry, dump: &Dump) -> Result<Result<String, String>, BackupError> {
    let ids: BTreeSet<SchemaId> = dump.versions.iter().map(|v| v.id).collect();
    let asked = ids.into_iter().map(|id| async move { Ok::<_, BackupError>((id, registry.schema(id).await?)) });
    let texts: BTreeMap<SchemaId, Option<String>> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
    for version in &dump.versions {
        if texts.get(&version.id).and_then(Option::as_deref) != Some(version.schema.as_str()) {
            let (subject, number, id) = (&version.subject, version.version, version.id);
            return Ok(Err(format!("id {id} does not resolve to the schema of {subject} v{number}")));
        }
    }
    Ok(Ok(format!("{}, each by subject and by id", counted(dump.versions.len(), "version"))))
}

async fn subject_of(registry: &Registry, subject: Subject) -> Result<Asked, BackupError> {
    let level = registry.level_in_full(Some(&subject)).await?;
    let state = SubjectState {
        compat: level.as_ref().and_then(level_of),
        mode: registry.subject_mode(&subject).await?,
        subject: subject.clone(),
    };
    let in_use: BTreeSet<SubjectVersion> = registry.versions(&subject, false).await?.into_iter().collect();
    let mut versions = Vec::new();
    for number in registry.versions(&subject, true).await? {
        // Deleted for good since it was listed.
        let Some(registered) = registry.version(&subject, number, true).await? else { continue };
        versions.push(line(&state, registered, in_use.contains(&number)));
    }
    Ok(Asked { state, level, versions })
}

fn line(state: &SubjectState, registered: Registered, in_use: bool) -> VersionLine {
    let Registered { subject, version, id, schema, schema_type, references, metadata, rule_set } = registered;
    VersionLine {
        subject,
        version,
        id,
        global_id: u64::from(id.0),
        schema_type,
        schema_sha256: sha256(schema.as_bytes()),
        schema,
        references,
        state: if in_use { VersionState::Active } else { VersionState::SoftDeleted },
        metadata,
        rule_set,
        subject_compat: state.compat.clone(),
        subject_mode: state.mode.clone(),
        order: 0,
        created_ms: None,
    }
}

fn level_of(value: &Value) -> Option<String> {
    value["compatibilityLevel"].as_str().map(str::to_owned)
}

/// A level that has more than a level.
fn in_full(subject: Option<&Subject>, value: Value) -> Option<Entity> {
    let more = value.as_object()?.iter().any(|(key, value)| key != "compatibilityLevel" && !value.is_null());
    let of = subject.map(|subject| subject.as_str().to_owned()).into_iter().collect();
    more.then(|| Entity { key: EntityKey { kind: LEVEL_IN_FULL.to_owned(), of }, value, text: None })
}
