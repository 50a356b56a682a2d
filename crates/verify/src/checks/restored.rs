//! `restored-to-target`: the tables equal the ledger replayed to the target, nothing more and nothing less; and what a
//! recovery lost and gave up.

use std::collections::{BTreeSet, HashMap};

use super::{
    history::{History, token_of},
    rows::{Carried, columns_of},
};
use crate::observation::{Captured, Expectation, Observation, TableView};
use cdc_model::{
    event::{Amount, CheckReport, Evidence, Finding, FindingKey, FindingKind, Rpo},
    units::{RowKey, TableName, counted},
    vocabulary::CheckId,
};
use cdc_workload::{
    Row,
    ledger::{Entry, Op, Outcome, TableState, Tables},
};

/// Compares the tables with the ledger replayed to the target, and tables whose rows no ledger knows, as the recovery left
/// them, with the same as they were captured at the target.
pub(super) fn restored_to_target(seen: &Observation, expected: &Expectation<'_>) -> CheckReport {
    let history = History::new(expected);
    if history.is_none() && expected.captured.is_none() {
        return CheckId::RestoredToTarget
            .inconclusive("neither a ledger nor tables captured at the target were given".into());
    }
    if let Some(note) = history.as_ref().and_then(History::undecided_note) {
        return CheckId::RestoredToTarget.inconclusive(note);
    }
    let mut outcome = Comparison {
        history: history.as_ref(),
        expected,
        compared: 0,
        findings: Vec::new(),
        carried: Carried::default(),
    };
    let mut known: BTreeSet<TableName> = BTreeSet::new();
    if let Some(captured) = &expected.captured {
        outcome.captured(captured);
        known.extend(captured.at_target.keys().cloned());
    }
    let replayed = history.as_ref().map(|history| replayed(expected, history)).unwrap_or_default();
    for (name, state) in replayed.iter().filter(|(name, _)| !known.contains(*name)) {
        match seen.tables.iter().find(|t| t.name == *name) {
            Some(table) => outcome.table(table, state),
            None => outcome.missing(name, state),
        }
    }
    known.extend(replayed.into_keys());
    let mut notes = vec![format!("{} compared with the target", counted(outcome.compared, "row"))];
    let left: Vec<String> =
        seen.tables.iter().filter(|t| !known.contains(&t.name)).map(|t| t.name.to_string()).collect();
    if !left.is_empty() {
        notes.push(format!("neither in the ledger nor captured at the target, and not compared: {}", left.join(", ")));
    }
    CheckId::RestoredToTarget.report(outcome.compared, notes, outcome.findings)
}

fn replayed(expected: &Expectation<'_>, history: &History<'_>) -> Tables {
    let mut tables = expected.base.clone();
    for entry in &history.kept {
        for change in &entry.changes {
            tables.entry(change.table.clone()).or_default().apply(change);
        }
    }
    tables
}

struct Comparison<'o> {
    history: Option<&'o History<'o>>,
    expected: &'o Expectation<'o>,
    compared: u64,
    findings: Vec<Finding>,
    carried: Carried,
}

impl Comparison<'_> {
    fn captured(&mut self, captured: &Captured) {
        for (name, wanted) in &captured.at_target {
            match &captured.restored {
                Ok(restored) => match restored.get(name) {
                    Some(found) => self.rows(name, wanted, found),
                    None => self.missing(name, wanted),
                },
                Err(why) => self.unreadable(name, "a readable table".into(), why.clone()),
            }
        }
    }

    fn missing(&mut self, name: &TableName, wanted: &TableState) {
        let expected = format!("a table with {}", counted(wanted.len(), "row"));
        self.unreadable(name, expected, "no such table among the captured ones".into());
    }

    fn unreadable(&mut self, name: &TableName, expected: String, found: String) {
        self.findings.push(Finding {
            table: Some(name.clone()),
            expected: Some(expected),
            found: Some(found),
            ..Finding::new(FindingKind::Unreadable)
        });
    }

    fn table(&mut self, table: &TableView, wanted: &TableState) {
        let rows = match &table.rows {
            Ok(rows) => rows,
            Err(why) => return self.unreadable(&table.name, "a readable table".into(), why.clone()),
        };
        if table.count.as_ref().ok() != Some(&rows.len()) {
            let expected = match &table.count {
                Ok(count) => format!("{} by a second connection", counted(*count, "row")),
                Err(why) => format!("a count by a second connection, which found {why}"),
            };
            self.unreadable(&table.name, expected, format!("{} read", counted(rows.len(), "row")));
        }
        if let Some(found) = table.state() {
            self.rows(&table.name, wanted, &found);
        }
    }

    fn rows(&mut self, table: &TableName, wanted: &TableState, found: &TableState) {
        self.compared += found.len().max(wanted.len());
        for (key, row) in &wanted.keyed {
            match found.keyed.get(key) {
                Some(other) if same_row(row, other) => {}
                Some(other) => self.different(table, key, row, other),
                None => self.push(table, FindingKind::Lost, Some(key), Some(row), None),
            }
        }
        for (key, row) in found.keyed.iter().filter(|(k, _)| !wanted.keyed.contains_key(*k)) {
            self.push(table, FindingKind::Ghost, Some(key), None, Some(row));
        }
        self.images(table, wanted, found);
    }

    fn images(&mut self, table: &TableName, wanted: &TableState, found: &TableState) {
        let images: BTreeSet<&Row> = wanted.unkeyed.keys().chain(found.unkeyed.keys()).collect();
        for image in images {
            let was = wanted.unkeyed.get(image).copied().unwrap_or(0);
            let is = found.unkeyed.get(image).copied().unwrap_or(0);
            for _ in is..was {
                self.push(table, FindingKind::Lost, None, Some(image), None);
            }
            for _ in was..is {
                self.push(table, FindingKind::Ghost, None, None, Some(image));
            }
        }
    }

    /// Another state of a row: one of a transaction that must be nowhere, an earlier one, or neither.
    fn different(&mut self, table: &TableName, key: &RowKey, wanted: &Row, found: &Row) {
        let token = token_of(found, &self.expected.token_column);
        let gone = self.history.is_some_and(|h| token.is_some_and(|t| h.gone.contains_key(t)));
        let earlier =
            self.history.is_some_and(|h| {
                let changes = h.by_key.get(&(table, key)).map_or(&[][..], Vec::as_slice);
                changes.iter().any(|(_, c)| c.after.as_ref().is_some_and(|after| same_row(after, found)))
            }) || self.expected.base.get(table).and_then(|t| t.keyed.get(key)).is_some_and(|row| same_row(row, found));
        let kind = match (gone, earlier) {
            (true, _) => FindingKind::Ghost,
            (_, true) => FindingKind::Stale,
            _ => FindingKind::Different,
        };
        self.push(table, kind, Some(key), Some(wanted), Some(found));
    }

    fn push(
        &mut self,
        table: &TableName,
        kind: FindingKind,
        key: Option<&RowKey>,
        wanted: Option<&Row>,
        found: Option<&Row>,
    ) {
        let token = wanted.or(found).and_then(|row| token_of(row, &self.expected.token_column));
        // Of two states of a row the columns that the other has otherwise.
        let side = |row: Option<&Row>, other: Option<&Row>| {
            let differs = |name: &str, value: Option<&str>| other.is_none_or(|other| other.get(name) != Some(value));
            let (words, cells) = row.map(|row| columns_of(row, differs)).unzip();
            (words.unwrap_or_else(|| "no such row".to_owned()), cells)
        };
        let ((expected, expected_cells), (shown, found_cells)) = (side(wanted, found), side(found, wanted));
        let carried = self.carried.next(kind, table);
        self.findings.push(Finding {
            table: Some(table.clone()),
            key: key.cloned().map(FindingKey::Columns),
            token: token.map(str::to_owned),
            expected: Some(expected),
            found: Some(shown),
            evidence: carried.then_some(Evidence::Row { expected: expected_cells, found: found_cells }),
            ..Finding::new(kind)
        });
    }
}

/// Rows are equal in every column that both have; a row of the ledger may be of before a column was added or dropped.
fn same_row(a: &Row, b: &Row) -> bool {
    let mut common = a.iter().filter_map(|(name, value)| b.get(name).map(|other| value == other)).peekable();
    common.peek().is_some() && common.all(|same| same)
}

/// What a recovery lost, and what its target gave up, judged by the tables.
pub fn rpo(seen: &Observation, expected: &Expectation<'_>) -> Rpo {
    let Some(history) = History::new(expected) else { return Rpo::default() };
    let tables: HashMap<&TableName, (&TableView, TableState)> =
        seen.tables.iter().filter_map(|t| Some((&t.name, (t, t.state()?)))).collect();
    let lost: Vec<(&Entry, u64)> = history
        .kept
        .iter()
        .enumerate()
        .filter(|(_, e)| e.outcome == Outcome::Acknowledged)
        .filter_map(|(place, entry)| {
            let rows = missing_rows(&history, &tables, expected, place, entry);
            (rows > 0).then_some((*entry, rows))
        })
        .collect();
    let given_up: Vec<(&Entry, u64)> = history
        .gone
        .values()
        .filter(|e| e.outcome == Outcome::Acknowledged)
        .map(|e| (*e, e.changes.len() as u64))
        .collect();
    Rpo { lost: amount(&lost), given_up: amount(&given_up) }
}

fn amount(entries: &[(&Entry, u64)]) -> Amount {
    let ended = || entries.iter().map(|(e, _)| e.ended_ms);
    let span = ended().max().zip(ended().min()).map_or(0, |(last, first)| last - first);
    Amount {
        transactions: entries.len() as u64,
        rows: entries.iter().map(|(_, rows)| rows).sum(),
        seconds: span as f64 / 1000.0,
    }
}

/// How many changes of a kept transaction the tables do not show. A row shows the last change made to it and all before.
fn missing_rows(
    history: &History<'_>,
    tables: &HashMap<&TableName, (&TableView, TableState)>,
    expected: &Expectation<'_>,
    place: usize,
    entry: &Entry,
) -> u64 {
    let missing = |change: &&cdc_workload::ledger::Change| {
        let Some((table, state)) = tables.get(&change.table) else { return true };
        if table.columns.of_name(&expected.token_column).is_none() {
            return false;
        }
        let Some(key) = &change.key else {
            let shows = |row: &Row| token_of(row, &expected.token_column) == Some(entry.token.as_str());
            let superseded = history.kept[place..].iter().flat_map(|e| &e.changes).any(|later| {
                later.table == change.table
                    && later.key.is_none()
                    && later.before == change.after
                    && change.after.is_some()
            });
            return change.op != Op::Delete && !superseded && !state.unkeyed.keys().any(shows);
        };
        let last = history.by_key.get(&(&change.table, key)).and_then(|c| c.last());
        match state.keyed.get(key) {
            Some(row) => {
                let shown = token_of(row, &expected.token_column).and_then(|t| history.order.get(t)).copied();
                shown.is_none_or(|shown| shown < place)
            }
            // No row: right when the last kept change of the key took it away.
            None => !last.is_some_and(|(_, c)| {
                (c.op == Op::Delete && c.key.as_ref() == Some(key)) || c.key_before.as_ref() == Some(key)
            }),
        }
    };
    entry.changes.iter().filter(missing).count() as u64
}
