//! The two decisions about an incompatible change.

use super::levels::put_level;
use crate::{
    backup::parts::registry::{Difference, capture, diff},
    recovery::{
        RecoveryError,
        memory::Memory,
        repair::Repair,
        step::Done,
        unfinished::{LOWERED, LOWEST, PUT_BACK},
    },
};
use cdc_model::{
    moment::{self, HALF_WAY},
    units::{Subject, counted},
};
use cdc_pipeline::client::{limits, registry::Registry, wait, wait::Poll};

/// Under which name the record has how many versions each refusing subject had.
const VERSIONS_BEFORE: &str = "versions-before";

/// Takes the change back at the source, in one transaction a database.
pub(super) async fn undo(repair: &mut Repair) -> Result<Done, RecoveryError> {
    let Some(schema) = &*repair.schema else { return Ok(Done::Nothing("no change is refused")) };
    // A statement is not repeatable: where an earlier run may have made them, only what is left is a reason.
    let left = match repair.began_before("undo-change") {
        true => Some(super::undo::derive(repair, &schema.found).await?),
        false => None,
    };
    for source in &repair.pipeline.sources {
        if left.as_ref().is_some_and(|left| left.iter().all(|u| u.database != source.database)) {
            continue;
        }
        let derived = schema.undo.iter().filter(|u| u.database == source.database).map(|u| u.sql.clone());
        let statements: Vec<String> =
            if repair.request.undo.is_empty() { derived.collect() } else { repair.request.undo.clone() };
        if statements.is_empty() {
            continue;
        }
        let server = repair.pipeline.session(source).await?;
        server.run(&format!("begin; {}; commit", statements.join("; "))).await?;
        moment::pass(HALF_WAY).await?;
    }
    Ok(Done::Acted)
}

/// Requires that no captured column differs from its registered schema.
pub(super) async fn undone(repair: &mut Repair) -> Result<String, RecoveryError> {
    let Some(schema) = &*repair.schema else { return Ok("nothing to undo".into()) };
    let left = super::undo::derive(repair, &schema.found).await?;
    match left.first() {
        None => Ok(format!("{} taken back", counted(schema.undo.len().max(repair.request.undo.len()), "change"))),
        Some(first) => Err(RecoveryError::unmet(
            "undo-change",
            "columns as registered",
            format!("table {}: {}", first.table, first.what),
        )),
    }
}

/// Requires that the registry is what it was when the recovery began.
pub(super) async fn registry_unchanged(repair: &mut Repair) -> Result<String, RecoveryError> {
    let Some(schema) = &*repair.schema else { return Ok("no registry was looked at".into()) };
    let registry = Registry::of(&repair.pipeline.config.registry);
    let changed = diff(&schema.found, &capture(&registry).await?);
    match changed.first() {
        None => Ok("subjects, versions, ids and levels as before".into()),
        Some(first) => Err(RecoveryError::unmet(
            "registry-equals",
            "the registry as it was before the recovery",
            format!("{}, first: {first}", counted(changed.len(), "difference")),
        )),
    }
}

/// Lowers the level of each refusing subject until its new version is registered, and puts it back whatever happens. What a
/// kill leaves lowered, the next recovery puts back.
pub(super) async fn let_through(repair: &mut Repair) -> Result<Done, RecoveryError> {
    let memory = repair.memory("accept-change")?;
    let registry = Registry::of(&repair.pipeline.config.registry);
    let subjects = repair.schema.as_ref().map(|s| s.refused.clone()).unwrap_or_default();
    let mut saved = Vec::new();
    for subject in &subjects {
        saved.push((subject.clone(), registry.subject_level(subject).await?));
    }
    memory.note(LOWERED, &saved)?;
    moment::pass("noted").await?;
    let outcome = register_next(repair, &registry, &subjects, &memory).await;
    for (subject, level) in &saved {
        put_level(&registry, subject, level.as_deref()).await?;
    }
    moment::pass("put-back").await?;
    memory.note(PUT_BACK, &saved)?;
    outcome.map(|()| Done::Acted)
}

async fn register_next(
    repair: &Repair,
    registry: &Registry,
    subjects: &[Subject],
    memory: &Memory,
) -> Result<(), RecoveryError> {
    let mut now = Vec::new();
    for subject in subjects {
        now.push(registry.versions(subject, true).await?.len());
    }
    // An earlier run may have let the version in already.
    let before = match memory.learned::<Vec<usize>>(VERSIONS_BEFORE)? {
        Some(before) => before,
        None => {
            memory.note(VERSIONS_BEFORE, &now)?;
            now.clone()
        }
    };
    for (subject, (now, before)) in subjects.iter().zip(now.iter().zip(&before)) {
        if now <= before {
            registry.set_subject_level(subject, LOWEST).await?;
        }
    }
    moment::pass("lowered").await?;
    for source in &repair.pipeline.sources {
        repair.pipeline.connect.restart(&source.name).await?;
    }
    wait::until("the refused schema to be registered", limits::registries::REGISTERED, || async {
        for (subject, before) in subjects.iter().zip(&before) {
            if registry.versions(subject, true).await?.len() <= *before {
                return Ok(Poll::NotYet(format!("{subject} has {before}", before = counted(*before, "version"))));
            }
        }
        Ok::<_, RecoveryError>(Poll::Ready(()))
    })
    .await?;
    Ok(moment::pass("registered").await?)
}

/// Requires that the registry has exactly one new version of each refusing subject, and its levels as before.
pub(super) async fn let_in(repair: &mut Repair) -> Result<String, RecoveryError> {
    let Some(schema) = &*repair.schema else { return Ok("no registry was looked at".into()) };
    let registry = Registry::of(&repair.pipeline.config.registry);
    let changed = diff(&schema.found, &capture(&registry).await?);
    let mut added = Vec::new();
    let mut named = Vec::new();
    for difference in &changed {
        match difference {
            Difference::VersionExtra { subject, version, id } if schema.refused.contains(subject) => {
                added.push(subject.clone());
                named.push(format!("{subject} version {version} (id {id})"));
            }
            other => {
                let found = other.to_string();
                return Err(RecoveryError::unmet(
                    "accept-change",
                    "nothing but the new version in the registry",
                    found,
                ));
            }
        }
    }
    if added != schema.refused {
        let found = if named.is_empty() { "none".into() } else { named.join(", ") };
        return Err(RecoveryError::unmet("accept-change", "exactly one new version of each refusing subject", found));
    }
    repair.findings.push(format!("accepted: {}", named.join(", ")));
    Ok(format!("{} registered; levels as before", named.join(", ")))
}
