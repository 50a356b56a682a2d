//! The servers.

use super::problems::{Problems, Resolved};
use crate::scenario::{model::StackPart, plan::StackPlan};
use cdc_model::vocabulary::RegistryStorageKind;

/// PostgreSQL's own default.
const WAL_SEGMENT_MIB_DEFAULT: u32 = 16;
/// The largest that `initdb` takes.
const WAL_SEGMENT_MIB_MAX: u32 = 1024;

/// The scenario's stack with the variant's laid over it.
pub(super) fn overlaid(base: &StackPart, over: &StackPart) -> StackPart {
    let mut all = base.clone();
    all.registry.storage = over.registry.storage.or(all.registry.storage);
    all.postgres.wal_segment_mib = over.postgres.wal_segment_mib.or(all.postgres.wal_segment_mib);
    all.postgres.max_slot_wal_keep_mib = over.postgres.max_slot_wal_keep_mib.or(all.postgres.max_slot_wal_keep_mib);
    all.postgres.settings.extend(over.postgres.settings.clone());
    if !over.connect.plugins.is_empty() {
        all.connect.plugins.clone_from(&over.connect.plugins);
    }
    all
}

/// Where the registry of a stack keeps its schemas.
pub(super) fn registry(part: &StackPart) -> RegistryStorageKind {
    part.registry.storage.unwrap_or(RegistryStorageKind::H2)
}

/// Resolves an overlaid stack.
pub(super) fn resolve(part: &StackPart, of_variant: bool, problems: &mut Problems) -> Resolved<StackPlan> {
    problems.part("stack", of_variant, |p| {
        let (segment, kept) = p.at("postgres", |p| {
            let segment = p.at("wal-segment-mib", |p| segment(part.postgres.wal_segment_mib, p));
            let kept = p.at("max-slot-wal-keep-mib", |p| kept(part.postgres.max_slot_wal_keep_mib, p));
            (segment, kept)
        });
        Ok(StackPlan {
            registry: registry(part),
            wal_segment_mib: segment?,
            max_slot_wal_keep_mib: kept?,
            postgres_settings: part.postgres.settings.clone(),
            plugins: part.connect.plugins.clone(),
        })
    })
}

fn segment(wanted: Option<u32>, problems: &mut Problems) -> Resolved<u32> {
    let mib = wanted.unwrap_or(WAL_SEGMENT_MIB_DEFAULT);
    let hint = "PostgreSQL takes powers of two from 1 to 1024";
    let fits = mib.is_power_of_two() && mib <= WAL_SEGMENT_MIB_MAX;
    problems.require(fits, format!("a WAL segment of {mib} MiB"), hint).map(|()| mib)
}

fn kept(wanted: Option<u32>, problems: &mut Problems) -> Resolved<Option<u32>> {
    let hint = "give at least 1";
    problems.require(wanted != Some(0), "a slot that may keep no WAL at all", hint).map(|()| wanted)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::scenario::model::PostgresPart;

    fn part(wal_segment_mib: Option<u32>, max_slot_wal_keep_mib: Option<u32>) -> StackPart {
        let postgres = PostgresPart { wal_segment_mib, max_slot_wal_keep_mib, ..PostgresPart::default() };
        StackPart { postgres, ..StackPart::default() }
    }

    #[test]
    fn a_stack_that_says_nothing_has_the_defaults() {
        let mut problems = Problems::default();
        let plan = resolve(&StackPart::default(), false, &mut problems).unwrap();
        assert_eq!(
            (plan.registry, plan.wal_segment_mib, plan.max_slot_wal_keep_mib),
            (RegistryStorageKind::H2, 16, None)
        );
    }

    #[rstest]
    #[case::no_power_of_two(part(Some(3), None), &["stack.postgres.wal-segment-mib: a WAL segment of 3 MiB"])]
    #[case::none(part(Some(0), None), &["stack.postgres.wal-segment-mib: a WAL segment of 0 MiB"])]
    #[case::too_large(part(Some(2048), None), &["stack.postgres.wal-segment-mib: a WAL segment of 2048 MiB"])]
    #[case::both(
        part(Some(5), Some(0)),
        &["stack.postgres.wal-segment-mib: a WAL segment of 5 MiB", "stack.postgres.max-slot-wal-keep-mib: a slot that may keep no WAL"]
    )]
    fn a_size_that_no_server_takes_is_reported(#[case] part: StackPart, #[case] expected: &[&str]) {
        let mut problems = Problems::default();
        assert!(resolve(&part, false, &mut problems).is_err());
        let found: Vec<String> = problems.into_found().iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        assert!(found.iter().zip(expected).all(|(found, part)| found.starts_with(part)), "{found:?}");
    }

    #[test]
    fn a_variant_wins_field_by_field() {
        let both = overlaid(&part(Some(1), Some(64)), &part(Some(4), None));
        assert_eq!((both.postgres.wal_segment_mib, both.postgres.max_slot_wal_keep_mib), (Some(4), Some(64)));
    }
}
