//! What happens, step by step.

use super::{
    command, faults,
    problems::{Problems, Resolved, all},
    recover,
    situation::Situation,
    surroundings::Surroundings,
    workload::WorkloadKind,
};
use crate::scenario::{
    model::{Backup, Load, Prove, Step},
    plan::{BackupPlan, StepPlan},
    words::TableRef,
};
use cdc_model::vocabulary::Must;

/// Resolves the steps, and says what they leave.
pub(super) fn resolve(
    steps: &[Step],
    around: &Surroundings,
    problems: &mut Problems,
) -> (Resolved<Vec<StepPlan>>, Situation) {
    let mut situation = Situation::default();
    let hint = "a drill without steps shows nothing; begin with load, backup, load";
    let some = problems.require(!steps.is_empty(), "no steps", hint);
    let resolved = all(steps.iter().enumerate().map(|(index, step)| {
        let resolved = problems.at(index, |p| {
            p.at(step.word(), |p| {
                let possible = possible(step, &situation, p);
                possible.and(one(step, around, &situation, p))
            })
        });
        situation.advance(step);
        resolved
    }));
    (some.and(resolved), situation)
}

/// Whether a step can work with what an earlier step did to the servers.
fn possible(step: &Step, situation: &Situation, problems: &mut Problems) -> Resolved<()> {
    let needs_server = matches!(step, Step::Load(_) | Step::Backup(_) | Step::Mark(_) | Step::Sql(_) | Step::Quiesce);
    let server = problems.require(
        !(needs_server && situation.is_server_down()),
        "the server was killed by an earlier step",
        "recover first, or move this step before `kill-postgres`",
    );
    let connector = problems.require(
        !(matches!(step, Step::Quiesce) && situation.is_connector_stopped()),
        "nothing reaches the topics while the connector is stopped",
        "put `start-connector` before it",
    );
    server.and(connector)
}

fn one(step: &Step, around: &Surroundings, situation: &Situation, problems: &mut Problems) -> Resolved<StepPlan> {
    Ok(match step {
        Step::Load(own) => {
            load(own, around, problems)?;
            Step::Load(own.clone())
        }
        Step::Backup(own) => Step::Backup(backup(own, situation, problems)?),
        Step::BackUpRecords(table) => {
            around.tables.captured(table, problems)?;
            Step::BackUpRecords(table.clone())
        }
        Step::Mark(name) => {
            mark(name, situation, problems)?;
            Step::Mark(name.clone())
        }
        Step::Fault(own) => {
            problems.at(own.word(), |p| faults::resolve(own, around, p))?;
            Step::Fault(own.clone())
        }
        Step::Prove(own) => {
            prove(own, around, situation, problems)?;
            Step::Prove(own.clone())
        }
        Step::Signals => Step::Signals,
        Step::Recover(own) => {
            problems.at(own.playbook(), |p| recover::resolve(own, around, situation, p))?;
            Step::Recover(own.clone())
        }
        Step::Sql(statement) => {
            problems.require(!statement.trim().is_empty(), "an empty statement", "give one SQL statement")?;
            Step::Sql(statement.clone())
        }
        Step::Quiesce => Step::Quiesce,
        Step::StopConnector => Step::StopConnector,
        Step::StartConnector => Step::StartConnector,
        Step::RestartConnector => Step::RestartConnector,
        Step::ConsumerGroup(group) => {
            problems.at("name", |p| p.name("consumer group", &group.name))?;
            Step::ConsumerGroup(group.clone())
        }
        Step::DeleteSchemaVersion(version) => {
            problems.at("table", |p| around.tables.captured(&version.table, p))?;
            Step::DeleteSchemaVersion(version.clone())
        }
    })
}

fn load(load: &Load, around: &Surroundings, problems: &mut Problems) -> Resolved<()> {
    let some = problems.at("transactions", |p| {
        p.require(load.transactions > 0, "no transactions", "give at least 1, or leave the step out")
    });
    let tables = problems.at("tables", |p| tables(load.tables.as_deref(), around, p));
    let must = problems.at("must", |p| {
        all(load.must.iter().enumerate().map(|(index, must)| p.at(index, |p| promised(*must, around.workload, p))))
    });
    some.and(tables).and(must).map(drop)
}

fn tables(listed: Option<&[TableRef]>, around: &Surroundings, problems: &mut Problems) -> Resolved<()> {
    let Some(listed) = listed else { return Ok(()) };
    let hint = "name at least one table, or leave `tables` out to write all";
    let some = problems.require(!listed.is_empty(), "an empty table list", hint);
    let captured =
        all(listed.iter().enumerate().map(|(index, table)| problems.at(index, |p| around.tables.captured(table, p))));
    let restricts = match around.workload {
        WorkloadKind::Shop => Ok(()),
        WorkloadKind::Pgbench => Err("pgbench's script decides which tables are written"),
        WorkloadKind::Sql => Err("the statements of `sql` decide which tables are written"),
        WorkloadKind::Command => Err("the command decides which tables are written"),
    };
    let restricts = restricts.map_err(|hint| problems.report("a restriction to tables", hint));
    some.and(captured).and(restricts)
}

/// Whether the writers can see to it. What statements or a command do is not known before they have run.
fn promised(must: Must, workload: WorkloadKind, problems: &mut Problems) -> Resolved<()> {
    let (kind, hint) = match workload {
        WorkloadKind::Shop => return Ok(()),
        WorkloadKind::Pgbench => ("pgbench", "its script decides what occurs"),
        WorkloadKind::Sql if must == Must::RollBack => return Ok(()),
        WorkloadKind::Sql => ("sql", "its statements decide what occurs; only `roll-back` is the writers' own"),
        WorkloadKind::Command => ("command", "the command decides what occurs"),
    };
    Err(problems.report(format!("`{}` cannot be promised by a workload of `{kind}`", must.word()), hint))
}

fn backup(backup: &Backup, situation: &Situation, problems: &mut Problems) -> Resolved<BackupPlan> {
    let plan = match (&backup.name, &backup.exec) {
        (None, None) => Err(problems.report("a backup without a name", "give `name: nightly`")),
        (Some(name), None) => backup_name(name, situation, problems)
            .map(|()| BackupPlan::Engine { name: name.clone(), only: backup.only }),
        (None, Some(exec)) => problems.at("exec", |p| {
            let name = backup_name(&exec.name, situation, p);
            let command = command::resolve(&exec.command, exec.timeout, p);
            name.and(command).map(|()| BackupPlan::Command(exec.clone()))
        }),
        (Some(_), Some(_)) => {
            Err(problems.report("`name` beside `exec`", "the name of such a backup stands in `exec`"))
        }
    };
    let whole = problems.at("only", |p| {
        let beside = backup.exec.is_some() && backup.only.is_some();
        let hint = "what a command saves is its own business; leave `only` out";
        p.require(!beside, "`only` beside `exec`", hint)
    });
    whole.and(plan)
}

fn backup_name(name: &str, situation: &Situation, problems: &mut Problems) -> Resolved<()> {
    problems.at("name", |p| {
        let valid = p.name("backup", name);
        let first = !situation.has_backup(name);
        valid.and(p.require(first, format!("a second backup `{name}`"), "give each backup its own name"))
    })
}

fn mark(name: &str, situation: &Situation, problems: &mut Problems) -> Resolved<()> {
    let valid = problems.name("mark", name);
    let hint = "`target: latest` means the end of the WAL; take another name";
    let free = problems.require(name != "latest", "a mark named `latest`", hint);
    let first = problems.require(
        situation.marks().all(|mark| mark != name),
        format!("a second mark `{name}`"),
        "PostgreSQL stops at the first of two restore points with one name; give each its own",
    );
    valid.and(free).and(first)
}

fn prove(prove: &Prove, around: &Surroundings, situation: &Situation, problems: &mut Problems) -> Resolved<()> {
    problems.at(prove.word(), |p| match prove {
        Prove::SchemaRefused(table) => around.tables.captured(table, p),
        Prove::RecordsUnderOtherIds(count) => p.require(*count > 0, "0 records", "give at least 1"),
        Prove::DeliveredBeyond(mark) | Prove::WalBeyond(mark) => recover::marked(mark, situation, p),
        Prove::SlotMissing => p.require(
            situation.is_slot_dropped(),
            "no slot was dropped before this step, so none is missed",
            "put `fault: drop-slot` before it",
        ),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::scenario::{parse::as_json, resolve::tables::KnownTables};
    use cdc_model::vocabulary::{BackupPart, RegistryStorageKind};

    fn found(text: &str, workload: WorkloadKind) -> Vec<String> {
        let written: Vec<Step> = serde_json::from_value(as_json(text)).unwrap();
        let (registry, tables) = (RegistryStorageKind::H2, KnownTables::default());
        let around = Surroundings { tables, several: false, workload, registry, limits_slots: false };
        let mut problems = Problems::default();
        let (steps, _) = resolve(&written, &around, &mut problems);
        match steps {
            Ok(steps) => assert!(problems.is_empty() && steps.len() == written.len()),
            Err(_) => assert!(!problems.is_empty()),
        }
        problems.into_found().iter().map(ToString::to_string).collect()
    }

    #[rstest]
    #[case::nothing("[]", "no steps")]
    #[case::dead("[ { fault: kill-postgres }, quiesce ]", "[1].quiesce: the server was killed by an earlier step")]
    #[case::stopped("[ stop-connector, quiesce ]", "[1].quiesce: nothing reaches the topics")]
    #[case::empty_load("[ { load: { transactions: 0 } } ]", "[0].load.transactions: no transactions")]
    #[case::no_tables("[ { load: { transactions: 1, tables: [] } } ]", "[0].load.tables: an empty table list")]
    #[case::unnamed("[ { backup: {} } ]", "[0].backup: a backup without a name")]
    #[case::named_twice(
        "[ { backup: { name: a, exec: { name: b, command: x } } } ]",
        "[0].backup: `name` beside `exec`"
    )]
    #[case::part_of_a_command(
        "[ { backup: { only: topics, exec: { name: b, command: x } } } ]",
        "[0].backup.only: `only` beside"
    )]
    #[case::second_backup(
        "[ { backup: { name: a } }, { backup: { name: a } } ]",
        "[1].backup.name: a second backup `a`"
    )]
    #[case::latest("[ { mark: latest } ]", "[0].mark: a mark named `latest`")]
    #[case::second_mark("[ { mark: m }, { mark: m } ]", "[1].mark: a second mark `m`")]
    #[case::no_records("[ { prove: { records-under-other-ids: 0 } } ]", "[0].prove.records-under-other-ids: 0 records")]
    #[case::beyond_no_mark("[ { prove: { wal-beyond: m } } ]", "[0].prove.wal-beyond: no mark `m` before this step")]
    #[case::no_slot("[ { prove: slot-missing } ]", "[0].prove.slot-missing: no slot was dropped before this step")]
    #[case::another_fault_of_the_slot(
        "[ stop-connector, { prove: slot-missing }, { fault: drop-slot } ]",
        "[1].prove.slot-missing: no slot was dropped before this step"
    )]
    #[case::no_sql("[ { sql: ' ' } ]", "[0].sql: an empty statement")]
    #[case::group(
        "[ { consumer-group: { name: Some Group } } ]",
        "[0].consumer-group.name: `Some Group` cannot be the name"
    )]
    fn a_step_that_cannot_work_is_reported(#[case] steps: &str, #[case] expected: &str) {
        let found = found(steps, WorkloadKind::Shop);
        assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
    }

    #[rstest]
    #[case(WorkloadKind::Shop, 0)]
    #[case(WorkloadKind::Pgbench, 3)]
    #[case(WorkloadKind::Sql, 2)]
    #[case(WorkloadKind::Command, 3)]
    fn a_load_promises_what_its_writers_can_see_to(#[case] workload: WorkloadKind, #[case] problems: usize) {
        let load = "[ { load: { transactions: 5, must: [roll-back, update], tables: [orders] } } ]";
        assert_eq!(found(load, workload).len(), problems);
    }

    #[test]
    fn a_backup_resolves_to_who_takes_it() {
        let text = "[ { backup: { name: a, only: topics } }, { backup: { exec: { name: b, command: x } } } ]";
        let written: Vec<Step> = serde_json::from_value(as_json(text)).unwrap();
        let (registry, tables) = (RegistryStorageKind::H2, KnownTables::default());
        let around =
            Surroundings { tables, several: false, workload: WorkloadKind::Shop, registry, limits_slots: false };
        let steps = resolve(&written, &around, &mut Problems::default()).0.unwrap();
        let only = Some(BackupPart::Topics);
        assert_eq!(steps[0], Step::Backup(BackupPlan::Engine { name: "a".into(), only }));
        assert!(matches!(&steps[1], Step::Backup(BackupPlan::Command(command)) if command.name == "b"));
    }
}
