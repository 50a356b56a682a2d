//! Every table with its topic, and what is said of that.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    comparison::Comparison,
    notes::{connector_notes, ghosts},
    outcome::Outcome,
};
use crate::{
    fold::TopicFold,
    observation::{ConnectorView, Expectation, Observation, TableView},
};
use cdc_model::{
    event::{About, CheckReport, Finding, FindingKind},
    units::{Offset, TableName, Verdict, counted},
    vocabulary::CheckId,
};

/// Compares every captured table with its topic.
pub fn state(seen: &Observation, expected: &Expectation<'_>) -> CheckReport {
    reported(seen, compared(seen, expected))
}

/// The rows that are in a topic and not in its table, all of them; and how many rows were compared.
pub(crate) fn ghost_rows(seen: &Observation, expected: &Expectation<'_>) -> (Vec<Finding>, u64) {
    let outcome = compared(seen, expected);
    let ghosts = outcome.findings.into_iter().filter(|finding| finding.kind == FindingKind::Ghost).collect();
    (ghosts, outcome.rows)
}

fn compared(seen: &Observation, expected: &Expectation<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let shared = seen.shared_topics();
    for table in &seen.tables {
        match shared.get(table.topic.as_str()) {
            Some(tables) => outcome.findings.push(shared_topic(table, tables)),
            None => compare_table(seen, expected, table, &mut outcome),
        }
    }
    for connector in &seen.connectors {
        connector_notes(connector, &mut outcome.notes);
        outcome.findings.extend(connector.orphans.iter().filter_map(ghosts));
        let none = seen.tables.iter().all(|t| t.connector != connector.settings.name);
        if none && connector.coverage.unknown.is_empty() {
            outcome.findings.push(Finding {
                subject: Some(About::Connector(connector.settings.name.clone())),
                expected: Some("at least one captured table".into()),
                found: Some(match &seen.server {
                    Some(Err(why)) => format!("no session with its server: {why}"),
                    _ => "the publication and the connector's lists leave none".into(),
                }),
                ..Finding::new(FindingKind::Vacuous)
            });
        }
    }
    outcome
}

fn reported(seen: &Observation, mut outcome: Outcome) -> CheckReport {
    outcome
        .notes
        .insert(0, format!("{} and {} compared", counted(outcome.rows, "row"), counted(outcome.values, "value")));
    // What was compared is equal; whether it is all there is to compare is not known.
    let unknown: Vec<String> = seen.connectors.iter().filter_map(unknown).collect();
    outcome.notes.splice(0..0, unknown.iter().cloned());
    let undecided = outcome.findings.is_empty() && !(outcome.undecided.is_empty() && unknown.is_empty());
    if undecided && outcome.undecided.is_empty() {
        let report = CheckId::State.inconclusive(String::new());
        return CheckReport { compared: outcome.rows, notes: outcome.notes, ..report };
    }
    outcome.findings.append(&mut outcome.undecided);
    let report = CheckId::State.report(outcome.rows, outcome.notes, outcome.findings).with_more(outcome.unshown);
    // Nothing is known to be wrong, and not all is known to be right.
    if undecided { CheckReport { verdict: Verdict::Inconclusive, ..report } } else { report }
}

/// The tables of which nobody can say whether the connector takes them, by the expressions that nobody understands.
fn unknown(connector: &ConnectorView) -> Option<String> {
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (table, unknown) in &connector.coverage.unknown {
        tables.entry(unknown.to_string()).or_default().push(table.to_string());
    }
    let shown = tables.iter().map(|(why, tables)| format!("{why}: not known whether it takes {}", tables.join(", ")));
    let shown: Vec<String> = shown.collect();
    (!shown.is_empty()).then(|| format!("connector {}: {}", connector.settings.name, shown.join("; ")))
}

/// The names of several tables are adjusted to that of one topic: there, their records cannot be told apart.
fn shared_topic(table: &TableView, tables: &BTreeSet<(&str, &TableName)>) -> Finding {
    let databases: BTreeSet<&str> = tables.iter().map(|(database, _)| *database).collect();
    let shown = |(database, name): &(&str, &TableName)| match databases.len() {
        1 => name.to_string(),
        _ => format!("{name} of database {database}"),
    };
    Finding {
        table: Some(table.name.clone()),
        topic: Some(table.topic.clone()),
        expected: Some("a topic of its own for each table".into()),
        found: Some(format!("{} write to it", tables.iter().map(shown).collect::<Vec<_>>().join(" and "))),
        ..Finding::new(FindingKind::NotComparable)
    }
}

fn compare_table(seen: &Observation, expected: &Expectation<'_>, table: &TableView, outcome: &mut Outcome) {
    let about =
        |kind| Finding { table: Some(table.name.clone()), topic: Some(table.topic.clone()), ..Finding::new(kind) };
    let rows = match &table.rows {
        Ok(rows) => rows,
        Err(why) => {
            outcome.findings.push(Finding {
                expected: Some("a readable table".into()),
                found: Some(why.clone()),
                ..about(FindingKind::Unreadable)
            });
            return;
        }
    };
    match &table.count {
        Ok(count) if *count == rows.len() => {}
        Ok(count) => outcome.findings.push(Finding {
            expected: Some(format!(
                "{count}, as a second connection counts them in the same snapshot",
                count = counted(*count, "row")
            )),
            found: Some(format!("{} read", counted(rows.len(), "row"))),
            ..about(FindingKind::Unreadable)
        }),
        Err(why) => outcome.findings.push(Finding {
            expected: Some("a count from a second connection".into()),
            found: Some(why.clone()),
            ..about(FindingKind::Unreadable)
        }),
    }
    let empty = TopicFold::default();
    let fold = match seen.topics.get(&table.topic) {
        Some(fold) => fold,
        None if rows.is_empty() => {
            outcome.notes.push(format!("{}: no rows, and no topic {} yet", table.name, table.topic));
            return;
        }
        None => &empty,
    };
    if let Some(why) = &fold.unreadable {
        outcome.findings.push(Finding {
            expected: Some("a readable topic".into()),
            found: Some(why.clone()),
            ..about(FindingKind::Unreadable)
        });
        return;
    }
    unreadable_records(table, fold, &mut outcome.findings);
    outcome.unshown += fold.unshown_problems();
    let mut comparison = Comparison::new(seen, expected, table, fold);
    if fold.records() > 0 && fold.is_loose() {
        comparison.loose();
    } else {
        comparison.keyed();
    }
    comparison.finish(outcome);
}

/// A record that cannot be read hides a change.
fn unreadable_records(table: &TableView, fold: &TopicFold, findings: &mut Vec<Finding>) {
    for problem in fold.partitions.iter().flat_map(|p| &p.problems) {
        findings.push(Finding {
            table: Some(table.name.clone()),
            topic: Some(table.topic.clone()),
            partition: Some(problem.partition),
            offset: Some(Offset(problem.offset)),
            schema_id: problem.why.schema,
            expected: Some(problem.why.expected.clone()),
            found: Some(problem.why.found.clone()),
            ..Finding::new(FindingKind::Unreadable)
        });
    }
}
