//! What can be put right in the registry without filling its store anew.

use super::found::SchemaPlan;
use crate::backup::parts::registry::Difference;
use cdc_model::units::Subject;

/// Whether setting levels and registering missing subjects again can be enough; reading back decides.
pub(super) fn repairable_in_place(schema: &SchemaPlan, damage: &[Difference]) -> bool {
    let contiguous = |subject: &Subject| {
        let versions = schema.wanted.versions_of(subject);
        versions.iter().enumerate().all(|(i, v)| v.version.0 == i as u32 + 1)
    };
    damage.iter().all(|d| match d {
        Difference::LevelChanged { .. } | Difference::ModeChanged { .. } => true,
        Difference::BeyondMissing { entity } | Difference::BeyondChanged { entity } => entity.is_set_in_place(),
        Difference::SubjectMissing { subject } => contiguous(subject),
        Difference::VersionMissing { subject, .. } => {
            schema.found.versions_of(subject).is_empty() && contiguous(subject)
        }
        _ => false,
    })
}
