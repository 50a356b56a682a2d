//! What is broken on purpose.

use super::{
    problems::{Problems, Resolved},
    surroundings::Surroundings,
};
use crate::scenario::model::{DeleteAll, Fault, FlipHeapBytes, SetLevel};
use cdc_model::vocabulary::RegistryStorageKind;

/// Docker takes no smaller limit.
const SMALLEST_SERVER_MIB: u32 = 6;

/// Whether the fault can land on such a pipeline.
pub(super) fn resolve(fault: &Fault, around: &Surroundings, problems: &mut Problems) -> Resolved<()> {
    let several = match around.several && fault.damages_registry() {
        true => Err(one_connector("damage to the registry", problems)),
        false => Ok(()),
    };
    several.and(possible(fault, around, problems))
}

/// What drills with several connectors leave to those with one.
pub(super) fn one_connector(what: &str, problems: &mut Problems) -> super::problems::Reported {
    problems.report(
        format!("{what} with several `connectors`"),
        "what a registry lost is proved on the records of one connector; give the variant a single `connector`",
    )
}

fn possible(fault: &Fault, around: &Surroundings, problems: &mut Problems) -> Resolved<()> {
    let tables = &around.tables;
    match fault {
        Fault::DeleteAll(DeleteAll { table }) => problems.at("table", |p| tables.captured(table, p)),
        Fault::FlipHeapBytes(FlipHeapBytes { table, pages }) => {
            let captured = problems.at("table", |p| tables.captured(table, p));
            captured.and(problems.at("pages", |p| p.require(*pages > 0, "no pages", "give at least 1")))
        }
        Fault::StarvePostgres(starve) => {
            let hint = format!("give at least {SMALLEST_SERVER_MIB}: an engine refuses less");
            let enough = starve.mib >= SMALLEST_SERVER_MIB;
            problems.at("mib", |p| p.require(enough, "too little memory for any process", hint))
        }
        Fault::InvalidateSlot => problems.require(
            around.limits_slots,
            "slots of this stack keep WAL without limit, so none is ever invalidated",
            "set `stack: { postgres: { max-slot-wal-keep-mib: ... } }`",
        ),
        Fault::AlterColumn(alter) => {
            let captured = problems.at("table", |p| tables.captured(&alter.table, p));
            let hint = "name the column that is changed or added";
            let named = !alter.column.trim().is_empty();
            captured.and(problems.at("column", |p| p.require(named, "no column", hint)))
        }
        Fault::LoseRecords(lost) => problems.at("table", |p| tables.captured(&lost.table, p)),
        Fault::RegistryDeleteSubject(subject) => problems.at("table", |p| tables.captured(&subject.table, p)),
        Fault::RegistrySetLevel(SetLevel { table: Some(table), .. }) => {
            problems.at("table", |p| tables.captured(table, p))
        }
        Fault::RegistryLoseStorage(_) => problems.require(
            around.registry != RegistryStorageKind::Kafkasql,
            "a registry on kafkasql keeps its schemas in topics of the shared broker",
            "use `stack: { registry: { storage: h2 } }`, whose file can be lost alone",
        ),
        Fault::RegistrySetLevel(SetLevel { table: None, .. })
        | Fault::KillPostgres
        | Fault::PausePostgres
        | Fault::DisconnectPostgres
        | Fault::DropSlot => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::scenario::{
        parse::as_json,
        resolve::{tables::KnownTables, workload::WorkloadKind},
    };
    use cdc_model::units::TableName;

    fn around(several: bool, registry: RegistryStorageKind, limits_slots: bool) -> Surroundings {
        let tables = KnownTables(vec![TableName::new("public", "orders")]);
        Surroundings { tables, several, workload: WorkloadKind::Shop, registry, limits_slots }
    }

    fn found(fault: &str, around: &Surroundings) -> Vec<String> {
        let fault: Fault = serde_json::from_value(as_json(fault)).unwrap();
        let mut problems = Problems::default();
        let resolved = resolve(&fault, around, &mut problems);
        assert_eq!(resolved.is_ok(), problems.is_empty());
        problems.into_found().into_iter().map(|problem| problem.message).collect()
    }

    const H2: RegistryStorageKind = RegistryStorageKind::H2;

    #[rstest]
    #[case("kill-postgres")]
    #[case("drop-slot")]
    #[case("{ delete-all: { table: orders } }")]
    #[case("{ registry-set-level: { level: NONE } }")]
    #[case("{ starve-postgres: { mib: 6 } }")]
    fn a_fault_that_can_land_is_no_problem(#[case] fault: &str) {
        assert!(found(fault, &around(false, H2, false)).is_empty());
    }

    #[rstest]
    #[case::table("{ delete-all: { table: order } }", &["table `public.order` is not captured"])]
    #[case::pages("{ flip-heap-bytes: { table: parts, pages: 0 } }", &["table `public.parts` is not captured", "no pages"])]
    #[case::memory("{ starve-postgres: { mib: 5 } }", &["too little memory for any process"])]
    #[case::column("{ alter-column: { table: orders, column: ' ', change: set-not-null } }", &["no column"])]
    #[case::subject("{ registry-delete-subject: { table: parts } }", &["table `public.parts` is not captured"])]
    #[case::level("{ registry-set-level: { level: FULL, table: parts } }", &["table `public.parts` is not captured"])]
    #[case::slot("invalidate-slot", &["slots of this stack keep WAL without limit, so none is ever invalidated"])]
    fn a_fault_that_cannot_land_is_reported(#[case] fault: &str, #[case] expected: &[&str]) {
        assert_eq!(found(fault, &around(false, H2, false)), expected);
    }

    #[test]
    fn the_stack_decides_what_can_be_lost() {
        assert!(found("invalidate-slot", &around(false, H2, true)).is_empty());
        let lost = "{ registry-lose-storage: { refill: true } }";
        assert!(found(lost, &around(false, H2, true)).is_empty());
        assert!(found(lost, &around(false, RegistryStorageKind::Kafkasql, true))[0].contains("on kafkasql"));
        assert!(found(lost, &around(true, H2, true))[0].contains("several `connectors`"));
    }
}
