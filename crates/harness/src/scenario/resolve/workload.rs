//! What writes to the source database.

use std::collections::BTreeSet;

use camino::Utf8Path;

use super::{
    command,
    fixture::{self, Fixtures},
    problems::{Problems, Resolved, all},
};
use crate::scenario::{
    model::{Pgbench, Sql, SqlTransaction, WorkloadCommand, WorkloadPart},
    plan::{Fixture, TransactionPlan, WorkloadPlan, timeout_of},
    template::{Template, transaction_control},
};

/// Enough for transactions to interleave on a machine with two cores.
const WRITERS_DEFAULT: u32 = 4;
/// What a drill begins with when the file names no size: seconds to snapshot.
const ROWS_DEFAULT: u64 = 1000;

/// The kinds of workload, which differ in what a scenario can ask of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkloadKind {
    Shop,
    Pgbench,
    Sql,
    Command,
}

/// The kind of an overlaid workload.
pub(super) fn kind(part: &WorkloadPart) -> WorkloadKind {
    match (&part.command, &part.sql, &part.pgbench) {
        (Some(_), ..) => WorkloadKind::Command,
        (None, Some(_), _) => WorkloadKind::Sql,
        (None, None, Some(_)) => WorkloadKind::Pgbench,
        (None, None, None) => WorkloadKind::Shop,
    }
}

/// The scenario's workload with the variant's laid over it: naming one kind drops the others. `writers` alone names the shop
/// where the scenario has pgbench, and is just a number where it has SQL.
pub(super) fn overlaid(base: &WorkloadPart, over: &WorkloadPart) -> WorkloadPart {
    let own = over.sql.is_some() || over.command.is_some();
    let no_pgbench = over.rows.is_some() || over.writers.is_some() || own;
    let pgbench = over.pgbench.clone().or_else(|| base.pgbench.clone().filter(|_| !no_pgbench));
    let inherits = over.rows.is_none() && over.pgbench.is_none() && !own;
    let sql = over.sql.clone().or_else(|| base.sql.clone().filter(|_| inherits));
    let command = over.command.clone().or_else(|| base.command.clone().filter(|_| inherits));
    let bare = pgbench.is_none() && sql.is_none() && command.is_none();
    WorkloadPart {
        seed: over.seed.or(base.seed),
        rows: over.rows.or(base.rows).filter(|_| bare),
        writers: over.writers.or(base.writers).filter(|_| pgbench.is_none()),
        pgbench,
        sql,
        command,
    }
}

/// Resolves the scenario's workload `base` with the variant's `over` laid over it, which is `part`.
pub(super) fn resolve(
    base: &WorkloadPart,
    over: &WorkloadPart,
    part: &WorkloadPart,
    fixtures: &Fixtures<'_>,
    problems: &mut Problems,
) -> Resolved<WorkloadPlan> {
    problems.part("workload", *over != WorkloadPart::default(), |p| {
        let one_kind = one_kind(base, p).and(one_kind(over, p));
        let rows = p.at("rows", |p| {
            let rows = part.rows.unwrap_or(ROWS_DEFAULT);
            p.require(rows > 0, "no rows", "give at least 1; a check that compares nothing fails").map(|()| rows)
        });
        let writers = p.at("writers", |p| {
            let writers = part.writers.unwrap_or(WRITERS_DEFAULT);
            p.require(writers > 0, "no writers", "give at least 1").map(|()| writers)
        });
        // Each kind that is written is looked at, also where another stands beside it.
        let pgbench = part.pgbench.as_ref().map(|own| p.at("pgbench", |p| pgbench(own, p)));
        let sql = part.sql.as_ref().map(|own| p.at("sql", |p| sql(own, writers, fixtures, p)));
        let command = part.command.as_ref().map(|own| p.at("command", |p| program(own, writers, fixtures, p)));
        one_kind?;
        match pgbench.or(sql).or(command) {
            Some(own) => own,
            None => Ok(WorkloadPlan::Shop { rows: rows?, writers: writers? }),
        }
    })
}

/// A part, of the scenario or of a variant, writes one kind of workload.
fn one_kind(part: &WorkloadPart, problems: &mut Problems) -> Resolved<()> {
    let mut sound = Ok(());
    if part.pgbench.is_some() && (part.rows.is_some() || part.writers.is_some()) {
        let hint = "pgbench has `scale` and `clients` instead";
        sound = sound.and(problems.at("pgbench", |p| Err(p.report("pgbench beside `rows` or `writers`", hint))));
    }
    if part.command.is_some() && (part.pgbench.is_some() || part.rows.is_some() || part.sql.is_some()) {
        let hint = "a workload is of one kind; keep one of them";
        sound = sound.and(problems.at("command", |p| Err(p.report("`command` beside another kind", hint))));
    }
    let beside = [(part.pgbench.is_some(), "pgbench"), (part.rows.is_some(), "rows")];
    for (_, word) in beside.iter().filter(|(there, _)| part.sql.is_some() && *there) {
        let hint = "a workload is of one kind; with `sql`, rows that are there first come from its `seed-file`";
        sound = sound.and(problems.at("sql", |p| Err(p.report(format!("`sql` beside `{word}`"), hint))));
    }
    sound
}

fn pgbench(own: &Pgbench, problems: &mut Problems) -> Resolved<WorkloadPlan> {
    let scale = problems.at("scale", |p| p.require(own.scale > 0, "a scale of 0", "give at least 1"));
    let clients = problems.at("clients", |p| p.require(own.clients > 0, "no clients", "give at least 1"));
    scale.and(clients).map(|()| WorkloadPlan::Pgbench { scale: own.scale, clients: own.clients })
}

fn sql(own: &Sql, writers: Resolved<u32>, fixtures: &Fixtures<'_>, problems: &mut Problems) -> Resolved<WorkloadPlan> {
    let seed = seed_file(own.seed_file.as_deref(), fixtures, problems);
    let transactions = problems.at("transactions", |p| {
        let hint = "give at least one, with a name and its statements";
        let some = p.require(!own.transactions.is_empty(), "no transactions", hint);
        let mut names = BTreeSet::new();
        let resolved = all(own.transactions.iter().enumerate().map(|(index, transaction)| {
            p.at(index, |p| {
                let resolved = self::transaction(transaction, p);
                let twice = format!("a second transaction `{}`", transaction.name);
                let first = names.insert(transaction.name.as_str());
                p.at("name", |p| p.require(first, twice, "give each its own name")).and(resolved)
            })
        }));
        some.and(resolved)
    });
    Ok(WorkloadPlan::Sql { seed: seed?, transactions: transactions?, writers: writers? })
}

fn transaction(own: &SqlTransaction, problems: &mut Problems) -> Resolved<TransactionPlan> {
    let name = problems.at("name", |p| p.name("transaction", &own.name));
    let weight = problems
        .at("weight", |p| p.require(own.weight > 0, "a weight of 0", "give at least 1, or leave the transaction out"));
    let statements = problems.at("statements", |p| {
        let some = p.require(!own.statements.is_empty(), "no statements", "give at least one SQL statement");
        let resolved = all(own.statements.iter().enumerate().map(|(index, text)| p.at(index, |p| statement(text, p))));
        some.and(resolved)
    });
    name.and(weight)?;
    Ok(TransactionPlan { name: own.name.clone(), weight: own.weight, statements: statements? })
}

fn statement(text: &str, problems: &mut Problems) -> Resolved<Template> {
    let some = problems.require(!text.trim().is_empty(), "an empty statement", "give one SQL statement");
    let control = match transaction_control(text) {
        None => Ok(()),
        Some(word) => Err(problems.report(
            format!("`{word}` within a transaction of the workload"),
            "the writers begin and end each transaction themselves; leave it out",
        )),
    };
    let template = Template::parse(text).map_err(|error| problems.report(error.message, error.hint));
    some.and(control).and(template)
}

fn program(
    own: &WorkloadCommand,
    writers: Resolved<u32>,
    fixtures: &Fixtures<'_>,
    problems: &mut Problems,
) -> Resolved<WorkloadPlan> {
    let seed = seed_file(own.seed_file.as_deref(), fixtures, problems);
    command::resolve(&own.command, own.timeout, problems)?;
    let (command, timeout) = (own.command.clone(), timeout_of(own.timeout));
    Ok(WorkloadPlan::Command { seed: seed?, command, timeout, writers: writers? })
}

fn seed_file(path: Option<&Utf8Path>, fixtures: &Fixtures<'_>, problems: &mut Problems) -> Resolved<Option<Fixture>> {
    path.map(|path| problems.at("seed-file", |p| fixture::resolve("seed", path, fixtures, p))).transpose()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::scenario::parse::as_json;

    fn written(text: &str) -> WorkloadPart {
        serde_json::from_value(as_json(text)).unwrap()
    }

    fn looked_at(base: &str, over: &str) -> (Option<WorkloadPlan>, Vec<String>) {
        let (base, over) = (written(base), written(over));
        let fixture =
            |path: &Utf8Path| (path == "seed.sql").then(|| Fixture { path: path.to_owned(), text: "select 1".into() });
        let mut problems = Problems::default();
        let plan = resolve(&base, &over, &overlaid(&base, &over), &fixture, &mut problems);
        (plan.ok(), problems.into_found().iter().map(ToString::to_string).collect())
    }

    #[rstest]
    #[case::nothing("{}", "{}", WorkloadPlan::Shop { rows: 1000, writers: 4 })]
    #[case::field_by_field("{ rows: 5, writers: 2 }", "{ rows: 7 }", WorkloadPlan::Shop { rows: 7, writers: 2 })]
    #[case::another_kind("{ rows: 5 }", "{ pgbench: { scale: 1, clients: 2 } }", WorkloadPlan::Pgbench { scale: 1, clients: 2 })]
    #[case::back("{ pgbench: { scale: 1, clients: 2 } }", "{ writers: 3 }", WorkloadPlan::Shop { rows: 1000, writers: 3 })]
    fn a_workload_is_of_one_kind(#[case] base: &str, #[case] over: &str, #[case] plan: WorkloadPlan) {
        assert_eq!(looked_at(base, over), (Some(plan), Vec::new()));
    }

    #[rstest]
    #[case::no_rows("{ rows: 0 }", "workload.rows: no rows")]
    #[case::no_writers("{ writers: 0 }", "workload.writers: no writers")]
    #[case::no_scale("{ pgbench: { scale: 0, clients: 1 } }", "workload.pgbench.scale: a scale of 0")]
    #[case::no_clients("{ pgbench: { scale: 1, clients: 0 } }", "workload.pgbench.clients: no clients")]
    #[case::two_kinds("{ rows: 1, pgbench: { scale: 1, clients: 1 } }", "workload.pgbench: pgbench beside `rows`")]
    #[case::command_and_rows("{ rows: 1, command: { command: x } }", "workload.command: `command` beside another kind")]
    #[case::no_seed("{ command: { command: x, seed-file: no.sql } }", "workload.command.seed-file: seed file `no.sql`")]
    #[case::no_transactions("{ sql: { transactions: [] } }", "workload.sql.transactions: no transactions")]
    #[case::no_statement(
        "{ sql: { seed-file: seed.sql, transactions: [ { name: a, statements: [' '] } ] } }",
        "workload.sql.transactions[0].statements[0]: an empty statement"
    )]
    #[case::a_commit(
        "{ sql: { transactions: [ { name: a, statements: ['select 1; commit'] } ] } }",
        "workload.sql.transactions[0].statements[0]: `commit` within a transaction"
    )]
    fn a_mistake_is_reported_where_it_stands(#[case] base: &str, #[case] expected: &str) {
        let (plan, found) = looked_at(base, "{}");
        assert_eq!((plan, found.len()), (None, 1), "{found:?}");
        assert!(found[0].starts_with(expected), "{found:?}");
    }
}
