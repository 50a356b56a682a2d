//! Compatibility levels and modes, exactly as recorded: unset is not NONE.

use crate::{
    backup::parts::registry::{Dump, capture},
    recovery::RecoveryError,
};
use cdc_model::{
    moment::{self, HALF_WAY},
    units::Subject,
};
use cdc_pipeline::client::registry::Registry;

/// Sets or unsets a subject's own level.
pub(in crate::recovery) async fn put_level(
    registry: &Registry,
    subject: &Subject,
    level: Option<&str>,
) -> Result<(), RecoveryError> {
    match level {
        Some(level) => Ok(registry.set_subject_level(subject, level).await?),
        None => Ok(registry.unset_subject_level(subject).await?),
    }
}

/// Puts every level and mode that differs from the wanted one back.
pub(super) async fn put(registry: &Registry, wanted: &Dump) -> Result<(), RecoveryError> {
    let now = capture(registry).await?;
    if wanted.global_compat != now.global_compat {
        match &wanted.global_compat {
            Some(level) => registry.set_global_level(level).await?,
            None => registry.unset_global_level().await?,
        }
    }
    if let Some(mode) = wanted.global_mode.as_ref().filter(|m| now.global_mode.as_ref() != Some(m)) {
        registry.set_global_mode(mode).await?;
    }
    let subjects = wanted.subjects.iter().chain(&now.subjects).map(|s| &s.subject);
    for subject in subjects.collect::<std::collections::BTreeSet<_>>() {
        if wanted.level(subject) != now.level(subject) {
            put_level(registry, subject, wanted.level(subject)).await?;
            moment::pass(HALF_WAY).await?;
        }
        let mode = |d: &Dump| d.subjects.iter().find(|s| s.subject == *subject).and_then(|s| s.mode.clone());
        if mode(wanted) != mode(&now) {
            registry.set_subject_mode(subject, mode(wanted).as_deref()).await?;
        }
    }
    super::beyond::put(registry, wanted, &now).await
}
