//! What a recovery must keep to.

use super::{
    problems::{Problems, Resolved},
    workload::WorkloadKind,
};
use crate::scenario::{
    model::{DowntimeObjective, Objectives, Recover, Variant},
    plan::ObjectivesPlan,
};

/// Resolves the objectives of a variant.
pub(super) fn resolve(variant: &Variant, workload: WorkloadKind, problems: &mut Problems) -> Resolved<ObjectivesPlan> {
    let Objectives { rto, reference_rto, downtime, reference_downtime, rpo } = &variant.objectives;
    let recovers = variant.recoveries().next().is_some();
    let hint = "add a `recover` step or leave them out";
    let sensible = problems.require(
        recovers || variant.objectives == Objectives::default(),
        "objectives without a recovery",
        hint,
    );
    let limits = problems.at("downtime", |p| self::downtime(variant, *downtime, p));
    let measured = problems.at("reference-downtime", |p| self::downtime(variant, *reference_downtime, p));
    let counted = problems.at("rpo", |p| {
        p.require(
            rpo.is_none() || workload != WorkloadKind::Pgbench,
            "an `rpo` for pgbench, which keeps no ledger of what was acknowledged",
            "leave `rpo` out, or bring the statements as `workload: { sql: ... }`",
        )
    });
    sensible.and(limits).and(measured).and(counted).map(|()| ObjectivesPlan {
        rto: rto.map(|d| d.0),
        reference_rto: reference_rto.map(|d| d.0),
        downtime: *downtime,
        reference_downtime: *reference_downtime,
        rpo_transactions: rpo.as_ref().map(|r| r.transactions),
        rpo: None,
    })
}

/// A limit on what no recovery measures would never be missed.
fn downtime(variant: &Variant, limits: Option<DowntimeObjective>, problems: &mut Problems) -> Resolved<()> {
    let Some(limits) = limits else { return Ok(()) };
    let hint = "name `database`, `connectors` or both";
    let some = problems.require(limits != DowntimeObjective::default(), "a downtime of nothing", hint);
    let stops = variant.recoveries().any(|recover| matches!(recover, Recover::Coordinated(_)));
    let database = problems.at("database", |p| {
        p.require(
            limits.database.is_none() || stops,
            "a downtime of the database, which no recovery stops",
            "only a coordinated recovery stops it",
        )
    });
    let known = variant.recoveries().any(|recover| !matches!(recover, Recover::Exec(_)));
    let connectors = problems.at("connectors", |p| {
        p.require(
            limits.connectors.is_none() || known,
            "a downtime of the connectors, which is not known of a command",
            "leave it out, or limit `rto`",
        )
    });
    some.and(database).and(connectors)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::scenario::parse::as_json;

    const NONE: &str = "signals";
    const SLOT: &str = "{ recover: { slot: {} } }";
    const COMMAND: &str = "{ recover: { exec: { command: sh x.sh } } }";
    const COORDINATED: &str = "{ recover: { coordinated: { target: latest } } }";

    fn found(recover: &str, objectives: &str, workload: WorkloadKind) -> Vec<String> {
        let text = format!("steps: [ {recover} ]\nchecks: [state]\nobjectives: {objectives}\n");
        let variant: Variant = serde_json::from_value(as_json(&text)).unwrap();
        let mut problems = Problems::default();
        assert_eq!(resolve(&variant, workload, &mut problems).is_ok(), problems.is_empty());
        problems.into_found().iter().map(ToString::to_string).collect()
    }

    #[rstest]
    #[case::none(NONE, "{}")]
    #[case::rto(SLOT, "{ rto: 60s, rpo: { transactions: 2 } }")]
    #[case::database(COORDINATED, "{ downtime: { database: 5s } }")]
    #[case::connectors(SLOT, "{ reference-downtime: { connectors: 5s } }")]
    fn an_objective_of_what_is_measured_is_no_problem(#[case] recover: &str, #[case] objectives: &str) {
        assert_eq!(found(recover, objectives, WorkloadKind::Shop), Vec::<String>::new());
    }

    #[rstest]
    #[case::nothing_recovers(NONE, "{ reference-rto: 5s }", ": objectives without a recovery")]
    #[case::of_nothing(SLOT, "{ downtime: {} }", "downtime: a downtime of nothing")]
    #[case::database(SLOT, "{ downtime: { database: 5s } }", "downtime.database: a downtime of the database")]
    #[case::connectors(
        COMMAND,
        "{ reference-downtime: { connectors: 5s } }",
        "reference-downtime.connectors: a downtime of the connectors"
    )]
    fn an_objective_of_what_nobody_measures_is_reported(
        #[case] recover: &str,
        #[case] objectives: &str,
        #[case] expected: &str,
    ) {
        let found = found(recover, objectives, WorkloadKind::Shop);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}");
    }

    #[test]
    fn pgbench_keeps_no_ledger_to_count_by() {
        let found = found(SLOT, "{ rpo: { transactions: 0 } }", WorkloadKind::Pgbench);
        assert!(found.len() == 1 && found[0].starts_with("rpo: an `rpo` for pgbench"), "{found:?}");
    }
}
