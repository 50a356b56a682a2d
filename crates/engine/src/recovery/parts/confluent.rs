//! A registry with Confluent's API alone: versions are registered under their ids and numbers in mode IMPORT, soft-deleted where they were,
//! and then levels and modes are what they were.

use std::collections::{BTreeMap, BTreeSet};

use super::content::unresolved;
use crate::{
    backup::parts::registry::{Difference, Dump, LEVEL_IN_FULL, VersionLine, VersionState},
    recovery::RecoveryError,
};
use cdc_model::units::{SchemaId, Subject, SubjectVersion};
use cdc_pipeline::client::registry::{Registered, Registry};

/// The mode in which nothing can be registered, whatever the mode of a subject is.
const CLOSED: &str = "READONLY_OVERRIDE";

/// What cannot be put back.
pub(super) fn objections(wanted: &Dump, everything: &Dump, found: &[Difference]) -> Vec<String> {
    let mut wrong: Vec<String> = wanted.caps_hit.clone();
    let possible = |difference: &&Difference| {
        !matches!(
            difference,
            Difference::LevelChanged { .. }
                | Difference::ModeChanged { .. }
                | Difference::SubjectMissing { .. }
                | Difference::VersionMissing { .. }
                | Difference::StateChanged { .. }
                | Difference::BeyondMissing { .. }
                | Difference::BeyondChanged { .. }
        )
    };
    wrong.extend(found.iter().filter(possible).map(ToString::to_string));
    if everything.global_mode.as_deref() == Some(CLOSED) && !found.is_empty() {
        wrong.push(format!("the registry is in mode {CLOSED}"));
    }
    let held: BTreeMap<SchemaId, &str> = everything.versions.iter().map(|v| (v.id, v.schema.as_str())).collect();
    for version in missing(wanted, everything) {
        if held.get(&version.id).is_some_and(|text| *text != version.schema) {
            wrong
                .push(format!("id {} of {} v{} is another schema's now", version.id, version.subject, version.version));
        }
    }
    wrong.extend(unresolved(wanted, everything));
    wrong
}

/// What must be registered: versions that are not there, and those that are soft-deleted and shall be in use.
fn missing<'w>(wanted: &'w Dump, now: &Dump) -> Vec<&'w VersionLine> {
    let lacks = |line: &&VersionLine| {
        now.version(&line.subject, line.version)
            .is_none_or(|there| there.state == VersionState::SoftDeleted && line.state != VersionState::SoftDeleted)
    };
    after_references(wanted).into_iter().filter(lacks).collect()
}

/// Versions in an order in which each comes after what it refers to.
fn after_references(dump: &Dump) -> Vec<&VersionLine> {
    let mut left: Vec<&VersionLine> = dump.versions.iter().collect();
    left.sort_by_key(|line| line.order);
    let mut done: BTreeSet<(&Subject, SubjectVersion)> = BTreeSet::new();
    let mut ordered = Vec::new();
    while !left.is_empty() {
        let is_ready = |line: &&VersionLine| {
            line.references
                .iter()
                .all(|to| done.contains(&(&to.subject, to.version)) || dump.version(&to.subject, to.version).is_none())
        };
        let (mut ready, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(is_ready);
        // No registry takes references in a circle.
        if ready.is_empty() {
            ordered.extend(rest);
            break;
        }
        done.extend(ready.iter().map(|line| (&line.subject, line.version)));
        ordered.append(&mut ready);
        left = rest;
    }
    ordered
}

/// Registers what is missing and soft-deletes what was. Subjects stay in mode IMPORT, which is put back as a difference of modes: so it is
/// after a run that was cut.
pub(super) async fn register(registry: &Registry, wanted: &Dump, now: &Dump) -> Result<(), RecoveryError> {
    let missing = missing(wanted, now);
    let subjects: BTreeSet<&Subject> = missing.iter().map(|line| &line.subject).collect();
    for subject in &subjects {
        registry.begin_import(subject).await?;
    }
    for line in &missing {
        let id = registry.register_as(&as_registered(line)).await?;
        let there = registry.version(&line.subject, line.version, true).await?;
        if id != line.id || there.is_none_or(|there| there.id != line.id) {
            take_back(registry, &subjects, now).await?;
            return Err(RecoveryError::impossible(
                "the registry",
                format!("one that registers {} v{} as id {}, in mode IMPORT", line.subject, line.version, line.id),
                format!("id {id}: it takes the mode and ignores ids and numbers, as Apicurio does by this API"),
                "what was registered was removed again; Apicurio wants `[registry] flavour = \"apicurio\"` and its own address",
            ));
        }
    }
    // Those that refer to others go first.
    for line in after_references(wanted).into_iter().rev().filter(|line| line.state == VersionState::SoftDeleted) {
        let there = now.version(&line.subject, line.version);
        if there.is_none_or(|there| there.state != VersionState::SoftDeleted) {
            registry.delete_version(&line.subject, line.version, false).await?;
        }
    }
    Ok(())
}

/// Removes the versions that were not there, and puts the modes of subjects back.
async fn take_back(registry: &Registry, subjects: &BTreeSet<&Subject>, now: &Dump) -> Result<(), RecoveryError> {
    for subject in subjects.iter().rev() {
        if now.versions.iter().all(|line| line.subject != **subject) {
            registry.delete_subject(subject, true).await?;
            continue;
        }
        for version in registry.versions(subject, false).await? {
            if now.version(subject, version).is_none() {
                registry.delete_version(subject, version, true).await?;
            }
        }
    }
    for subject in subjects {
        let mode = now.subjects.iter().find(|state| state.subject == **subject).and_then(|state| state.mode.as_deref());
        registry.set_subject_mode(subject, mode).await?;
    }
    Ok(())
}

fn as_registered(line: &VersionLine) -> Registered {
    Registered {
        subject: line.subject.clone(),
        version: line.version,
        id: line.id,
        schema: line.schema.clone(),
        schema_type: line.schema_type.clone(),
        references: line.references.clone(),
        metadata: line.metadata.clone(),
        rule_set: line.rule_set.clone(),
    }
}

/// Sets levels that have more than a level.
pub(super) async fn put_levels(registry: &Registry, wanted: &Dump, now: &Dump) -> Result<(), RecoveryError> {
    for entity in wanted.beyond.iter().filter(|e| e.key.kind == LEVEL_IN_FULL) {
        if now.beyond.iter().any(|there| there == entity) {
            continue;
        }
        let subject = entity.key.of.first().map(Subject::new);
        registry.set_level_in_full(subject.as_ref(), &entity.value).await?;
    }
    Ok(())
}
