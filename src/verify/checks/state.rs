//! `state`: the latest event of each key in each topic equals the table's row, both ways.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
};

use super::{
    added::Added,
    rows::{Carried, Keys, in_words},
};
use crate::{
    debezium::{Inheritance, Masking, Operation, Stream},
    event::{About, Cells, CheckReport, Evidence, Finding, FindingKey, FindingKind},
    units::{Lsn, Offset, RowKey, TableName, Verdict},
    verify::{
        decode::{
            compare::{Match, NOT_UNDERSTOOD, certain, compare},
            limits::{inexpressible, null_instead},
            masked::{applies, left_out, masked},
            pg_type::PgType,
            record::Op,
            repr::{Loss, Repr, Side, canonical, cut},
            row::{Cell, Reservations, cells, push},
            table::Column,
        },
        fold::{Entry, ImageColumns, Images, LooseFold, Range, Standing, TopicFold},
        observation::{ConnectorView, Expectation, Observation, Orphan, OrphanKind, TableView},
    },
    vocabulary::CheckId,
    workload::Row,
};

/// Which records may mean one of several values.
const REDEFINED: &str =
    "records without a schema, written before a column was last redefined (or naming no transaction)";

/// Compares every captured table with its topic.
pub fn state(seen: &Observation, expected: &Expectation<'_>) -> CheckReport {
    reported(seen, compared(seen, expected))
}

/// The rows that are in a topic and not in its table, all of them; and how many rows were compared.
pub(super) fn ghost_rows(seen: &Observation, expected: &Expectation<'_>) -> (Vec<Finding>, u64) {
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
    outcome.notes.insert(0, format!("{} rows and {} values compared", outcome.rows, outcome.values));
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

#[derive(Default)]
struct Outcome {
    rows: u64,
    values: u64,
    notes: Vec<String>,
    findings: Vec<Finding>,
    /// Findings that nobody kept, and that count all the same.
    unshown: u64,
    /// What may be a difference and may be none.
    undecided: Vec<Finding>,
}

fn connector_notes(connector: &ConnectorView, notes: &mut Vec<String>) {
    let name = &connector.settings.name;
    for mask in &connector.settings.masks {
        notes.push(format!("connector {name} changes values on their way: {mask}; differences there are its own"));
    }
    for filter in connector.settings.column_filter.iter().chain(&connector.settings.row_filter) {
        notes.push(format!("connector {name} leaves data out: {filter}"));
    }
    if connector.settings.unwrap.as_ref().is_some_and(|u| u.drops_deletes) {
        notes.push(format!("connector {name} drops deletes: a deleted row stays in its topic for ever"));
    }
    coverage_notes(connector, notes);
    if !connector.uncaptured.is_empty() {
        let tables: Vec<String> = connector.uncaptured.iter().map(ToString::to_string).collect();
        let publication = &connector.settings.publication;
        notes.push(format!(
            "neither in publication {publication} nor in a topic, and not compared: {}",
            tables.join(", ")
        ));
    }
    for orphan in connector.orphans.iter().filter(|orphan| ghosts(orphan).is_none()) {
        let Orphan { topic, records, kind } = orphan;
        let why = match kind {
            OrphanKind::Elsewhere(table) => format!("changes of {table} go to other topics"),
            OrphanKind::LeftOut(table) => {
                format!("the connector's lists leave {table} out: its changes do not arrive")
            }
            OrphanKind::Gone { table, .. } => format!("there is no table {table}"),
            OrphanKind::Unexplained => "its name does not tell of which table they are".to_owned(),
        };
        notes.push(format!("topic {topic} has {records} records and {why}: not compared"));
    }
    notes.extend(connector.notes.iter().cloned());
}

/// What the publication does not send, of that what the connector would write.
fn coverage_notes(connector: &ConnectorView, notes: &mut Vec<String>) {
    let publication = &connector.settings.publication;
    let coverage = &connector.coverage;
    if !coverage.unpublished_operations.is_empty() {
        notes.push(format!(
            "publication {publication} does not publish {}: such changes never arrive, and are found when they have been made",
            coverage.unpublished_operations
        ));
    }
    for entry in &coverage.unmatched {
        notes.push(format!("{entry} matches no table, or none that the connector's other lists take"));
    }
    for table in &coverage.tables {
        let name = &table.relation.name;
        if let Stream::Own(member) = &table.stream
            && let Some(filter) = &member.filter
        {
            notes.push(format!(
                "{name} is published where {filter}: other rows come with snapshots alone, and none of their changes arrives"
            ));
        }
        if table.stream == Stream::Elsewhere(Vec::new()) {
            notes.push(format!("{name} is partitioned and has no partitions, and so no rows to compare"));
        }
        if table.relation.inheritance == Inheritance::Parent {
            notes.push(format!(
                "other tables inherit from {name}: snapshots write their rows to its topic too, and none of their changes arrives there"
            ));
        }
        if !table.snapshot {
            notes.push(format!("{name} is not in snapshot.include.collection.list: snapshots leave it out"));
        }
    }
}

/// A table that the connector's list names is gone, and its rows are in the topic.
fn ghosts(orphan: &Orphan) -> Option<Finding> {
    let OrphanKind::Gone { table, named: true } = &orphan.kind else { return None };
    Some(Finding {
        table: Some(table.clone()),
        topic: Some(orphan.topic.clone()),
        expected: Some("a table that the connector's list names, or no records".into()),
        found: Some(format!("no such table, and {} records", orphan.records)),
        ..Finding::new(FindingKind::Ghost)
    })
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
            expected: Some(format!("{count} rows, as a second connection counts them in the same snapshot")),
            found: Some(format!("{} rows read", rows.len())),
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

/// A value that a key's last event does not have.
struct Gap {
    column: usize,
    partition: i32,
    offset: i64,
    lsn: u64,
    /// The cells of the row's key, packed.
    key: Box<[u8]>,
    value: Option<Box<str>>,
}

struct Comparison<'o> {
    expected: &'o Expectation<'o>,
    table: &'o TableView,
    fold: &'o TopicFold,
    rows: u64,
    values: u64,
    absent: BTreeMap<usize, u64>,
    /// Where a value is absent that a streamed change should have.
    gaps: Vec<Gap>,
    not_comparable: BTreeMap<(usize, &'static str), u64>,
    /// Values that are equal as far as their expression goes.
    within: BTreeMap<(usize, Loss), u64>,
    /// Values that may be equal or not: how many, and the first.
    open: BTreeMap<(usize, &'static str), (u64, Finding)>,
    /// Rows of the signalling table that are in no record.
    unread_signals: u64,
    findings: Vec<Finding>,
    undecided: Vec<Finding>,
    carried: Carried,
    notes: Vec<String>,
    history: Option<HashMap<&'o RowKey, Vec<&'o Row>>>,
    /// The table's.
    connector: Option<&'o ConnectorView>,
    /// What the connector writes of each column, where that is not its value.
    maskings: Vec<Option<Masking>>,
}

impl<'o> Comparison<'o> {
    fn new(
        seen: &'o Observation,
        expected: &'o Expectation<'o>,
        table: &'o TableView,
        fold: &'o TopicFold,
    ) -> Comparison<'o> {
        let connector = seen.connectors.iter().find(|c| c.settings.name == table.connector);
        let masking = |column: &Column| {
            let masking = connector?.settings.capture.masks.column(&table.name, &column.name);
            masking.filter(|masking| applies(*masking, &column.ty))
        };
        Comparison {
            maskings: table.columns.list.iter().map(masking).collect(),
            connector,
            expected,
            table,
            fold,
            rows: 0,
            values: 0,
            absent: BTreeMap::new(),
            gaps: Vec::new(),
            not_comparable: BTreeMap::new(),
            within: BTreeMap::new(),
            open: BTreeMap::new(),
            unread_signals: 0,
            findings: Vec::new(),
            undecided: Vec::new(),
            carried: Carried::default(),
            notes: Vec::new(),
            history: None,
        }
    }

    fn about(&self, kind: FindingKind) -> Finding {
        Finding { table: Some(self.table.name.clone()), topic: Some(self.table.topic.clone()), ..Finding::new(kind) }
    }

    fn reprs(&self, column: usize) -> &'o [Repr] {
        self.fold.reprs.get(column).map_or(&[], Vec::as_slice)
    }

    /// The packed key of a table's row, in the form of the topic's keys.
    fn key_of(&self, key_columns: &[usize], row: &[Cell<'_>], out: &mut Vec<u8>) {
        out.clear();
        for column in key_columns {
            let cell = row.get(*column).copied().unwrap_or(Cell::Absent);
            match (cell.text(), self.table.columns.list.get(*column)) {
                (Some(text), Some(info)) if info.ty.needs_form() => {
                    let (_, formed) = table_form(text, self.reprs(*column), &info.ty);
                    push(out, Cell::Text(formed.as_bytes()));
                }
                _ => push(out, cell),
            }
        }
    }

    /// The packed key of a table's row, as the table prints it.
    fn own_key(&self, key_columns: &[usize], row: &[Cell<'_>]) -> Vec<u8> {
        let mut key = Vec::new();
        for column in key_columns {
            push(&mut key, row.get(*column).copied().unwrap_or(Cell::Absent));
        }
        key
    }

    /// The key of a table's row in a finding.
    fn row_key(&self, key_columns: &[usize], row: &[Cell<'_>]) -> FindingKey {
        Keys::new(self.table, key_columns).of_row(&self.own_key(key_columns, row))
    }

    /// What a finding carries of a row on both sides; nothing where a report has enough of its kind.
    fn evidence(&mut self, kind: FindingKind, expected: Option<Cells>, found: Option<Cells>) -> Option<Evidence> {
        self.carried.next(kind, &self.table.name).then_some(Evidence::Row { expected, found })
    }

    /// The values of these columns. A column for which the row has no value is left out.
    fn cells_of(&self, row: &[Cell<'_>], columns: impl Iterator<Item = usize>) -> Cells {
        let value = |index: usize| match row.get(index)? {
            Cell::Null => Some(None),
            cell => cell.text().map(|text| Some(text.to_owned())),
        };
        columns.filter_map(|i| Some((self.table.columns.list.get(i)?.name.clone(), value(i)?))).collect()
    }

    fn keyed(&mut self) {
        let key_columns = self.fold.key_columns.clone().unwrap_or_else(|| self.table.primary_key.clone());
        let Ok(rows) = &self.table.rows else { return };
        let (mut key, mut row) = (Vec::new(), Vec::new());
        let mut matched = 0u64;
        if !self.readable_keys(&key_columns) {
            self.rows += rows.len();
            return;
        }
        let mut duplicate_keys = self.must_look_for_duplicates(&key_columns).then(HashSet::<Vec<u8>>::new);
        for packed in rows.packed() {
            row.clear();
            row.extend(cells(packed));
            self.rows += 1;
            self.key_of(&key_columns, &row, &mut key);
            if let Some(seen) = &mut duplicate_keys
                && !seen.insert(key.clone())
            {
                self.findings.push(Finding {
                    key: Some(self.row_key(&key_columns, &row)),
                    expected: Some("one row a key".into()),
                    found: Some("several rows of the table have this record key; the topic keeps one".into()),
                    ..self.about(FindingKind::NotComparable)
                });
            }
            match self.fold.standing(&key) {
                Standing::Live(partition, entry) => {
                    matched += 1;
                    self.row(&key_columns, &row, packed, partition, &entry);
                }
                Standing::Gone => self.missing(&key_columns, &key, &row),
                Standing::Unordered => matched += 1,
            }
        }
        self.gaps(&key_columns);
        self.ghosts(&key_columns, matched);
        self.unordered();
    }

    /// Whether the table is the connector's own, into which signals are written: no snapshot of the connector reads it.
    fn is_signals(&self) -> bool {
        let setting = self.connector.and_then(|c| c.config.get("signal.data.collection"));
        let name = format!("{}.{}", self.table.name.schema, self.table.name.name);
        setting.is_some_and(|tables| tables.split(',').any(|t| t.trim() == name))
    }

    /// Keys that were expressed in ways that do not go together, or that may mean other rows, find the wrong rows or none. `false`
    /// where they find none: different keys have become one.
    fn readable_keys(&mut self, key_columns: &[usize]) -> bool {
        let mixed: Vec<usize> = key_columns.iter().copied().filter(|column| self.losses(*column).len() > 1).collect();
        let found = if self.fold.key_not_understood {
            let names = self.table.names(key_columns).join(", ");
            format!("keys whose {names} is expressed in a way that is not understood")
        } else if !mixed.is_empty() {
            format!(
                "keys whose {} is expressed sometimes with less than at other times",
                self.table.names(&mixed).join(", ")
            )
        } else if self.fold.key_redefined {
            format!(
                "keys without a schema, written before {} was last redefined (or naming no transaction)",
                self.table.names(key_columns).join(", ")
            )
        } else {
            return true;
        };
        let finding = Finding {
            expected: Some("keys of one form".into()),
            found: Some(found),
            ..self.about(FindingKind::NotComparable)
        };
        self.undecided.push(finding);
        !self.fold.key_not_understood
    }

    /// What the ways in which a column has been expressed leave out of its values.
    fn losses(&self, column: usize) -> BTreeSet<Option<Loss>> {
        let Some(info) = self.table.columns.list.get(column) else { return BTreeSet::new() };
        self.reprs(column).iter().map(|repr| Loss::of(repr, &info.ty)).collect()
    }

    /// Whether the table itself does not keep the record's key unique, so that this must be looked at. Where a key's
    /// expression has no room for all of a value, different rows may have one key.
    fn must_look_for_duplicates(&self, key_columns: &[usize]) -> bool {
        if key_columns.iter().any(|column| self.losses(*column).iter().any(Option::is_some)) {
            return true;
        }
        let mut key = key_columns.to_vec();
        let mut primary = self.table.primary_key.clone();
        key.sort_unstable();
        primary.sort_unstable();
        primary.is_empty() || !primary.iter().all(|c| key.contains(c))
    }

    fn missing(&mut self, key_columns: &[usize], key: &[u8], row: &[Cell<'_>]) {
        let last = self.fold.partitions.iter().find_map(|p| p.keyed.get(key).map(|e| (p.partition, e)));
        if last.is_none() && self.is_signals() {
            self.unread_signals += 1;
            return;
        }
        let cells = self.cells_of(row, 0..row.len());
        let evidence = self.evidence(FindingKind::Lost, Some(cells), None);
        let finding = Finding {
            key: Some(self.row_key(key_columns, row)),
            evidence,
            token: self.token_of(row),
            partition: last.map(|(p, _)| p),
            offset: last.map(|(_, e)| Offset(e.offset)),
            expected: Some(self.shown_row(row)),
            found: Some(match last {
                Some(_) => "the key's last event takes the row away".into(),
                None => "no event of this key".into(),
            }),
            ..self.about(FindingKind::Lost)
        };
        self.findings.push(finding);
    }

    fn token_of(&self, row: &[Cell<'_>]) -> Option<String> {
        let column = self.table.columns.of_name(&self.expected.token_column)?;
        row.get(column)?.text().map(str::to_owned)
    }

    fn shown_row(&self, row: &[Cell<'_>]) -> String {
        let cells = self.table.columns.list.iter().zip(row).map(|(c, cell)| format!("{}={}", c.name, in_words(*cell)));
        cells.collect::<Vec<_>>().join(", ")
    }

    fn row(&mut self, key_columns: &[usize], row: &[Cell<'_>], packed: &[u8], partition: i32, entry: &Entry) {
        if packed == &*entry.row {
            self.values += row.len() as u64;
            return;
        }
        let (mut different, mut open) = (Vec::new(), Vec::new());
        let event: Vec<Cell<'_>> = cells(&entry.row).collect();
        for (index, cell) in row.iter().enumerate() {
            let other = event.get(index).copied().unwrap_or(Cell::Absent);
            match self.matches(index, *cell, other) {
                Match::Equal => self.values += 1,
                Match::Absent => {
                    *self.absent.entry(index).or_default() += 1;
                    self.gap(index, *cell, key_columns, row, partition, entry);
                }
                Match::Within(loss) => {
                    self.values += 1;
                    *self.within.entry((index, loss)).or_default() += 1;
                }
                Match::NotComparable(why) => *self.not_comparable.entry((index, why)).or_default() += 1,
                Match::Undecided(why) => open.push((index, why)),
                Match::Different => different.push(index),
            }
        }
        for (index, why) in open {
            self.open(index, why, key_columns, row, (partition, entry.offset));
        }
        if different.is_empty() {
            return;
        }
        let key = self.row_key(key_columns, row);
        let kind = self.kind_of(&key, &event, &different);
        let shown = |cells: &[Cell<'_>]| {
            let parts = different.iter().filter_map(|i| {
                let column = self.table.columns.list.get(*i)?;
                Some(format!("{}={}", column.name, in_words(cells.get(*i).copied().unwrap_or(Cell::Absent))))
            });
            parts.collect::<Vec<_>>().join(", ")
        };
        let (expected, found) = (shown(row), shown(&event));
        let differing = |side: &[Cell<'_>]| Some(self.cells_of(side, different.iter().copied()));
        let (expected_cells, found_cells) = (differing(row), differing(&event));
        let evidence = self.evidence(kind, expected_cells, found_cells);
        let finding = Finding {
            key: Some(key),
            evidence,
            token: self.token_of(row),
            partition: Some(partition),
            offset: Some(Offset(entry.offset)),
            lsn: (entry.lsn > 0).then_some(Lsn(entry.lsn)),
            expected: Some(expected),
            found: Some(found),
            ..self.about(kind)
        };
        self.findings.push(finding);
    }

    /// Counts a value that may be equal or not, and keeps the first of its column.
    fn open(
        &mut self,
        column: usize,
        why: &'static str,
        key_columns: &[usize],
        row: &[Cell<'_>],
        (partition, offset): (i32, i64),
    ) {
        if let Some((count, _)) = self.open.get_mut(&(column, why)) {
            *count += 1;
            return;
        }
        let name = self.table.columns.list.get(column).map(|c| c.name.clone()).unwrap_or_default();
        let cell = row.get(column).copied().unwrap_or(Cell::Absent);
        let finding = Finding {
            key: Some(self.row_key(key_columns, row)),
            partition: Some(partition),
            offset: Some(Offset(offset)),
            expected: Some(format!("{name}={}", in_words(cell))),
            ..self.about(FindingKind::NotComparable)
        };
        self.open.insert((column, why), (1, finding));
    }

    fn gap(
        &mut self,
        column: usize,
        cell: Cell<'_>,
        key_columns: &[usize],
        row: &[Cell<'_>],
        partition: i32,
        entry: &Entry,
    ) {
        let streamed = self.table.columns.list.get(column).is_some_and(|c| !c.generated && !c.unpublished);
        if streamed && self.has_all_columns() && !self.reprs(column).is_empty() {
            let key = self.own_key(key_columns, row).into();
            self.gaps.push(Gap {
                column,
                partition,
                offset: entry.offset,
                lsn: entry.lsn,
                key,
                value: cell.text().map(Box::from),
            });
        }
    }

    /// Records written before a column was added do not have it. One that stands behind a record that has it was made without.
    fn gaps(&mut self, key_columns: &[usize]) {
        let gaps = std::mem::take(&mut self.gaps);
        let keys = Keys::new(self.table, key_columns);
        for gap in gaps {
            let partition = self.fold.partitions.iter().find(|p| p.partition == gap.partition);
            let first = partition.and_then(|p| p.first_with.get(gap.column).copied().flatten());
            let Some(first) = first.filter(|first| first.precedes(gap.offset, gap.lsn)) else { continue };
            let name = self.table.columns.list.get(gap.column).map(|c| c.name.clone()).unwrap_or_default();
            if let Some(count) = self.absent.get_mut(&gap.column) {
                *count -= 1;
            }
            let value = gap.value.as_deref();
            let shown = in_words(value.map_or(Cell::Null, |text| Cell::Text(text.as_bytes())));
            let wanted = Cells::from([(name.clone(), value.map(str::to_owned))]);
            let evidence = self.evidence(FindingKind::Different, Some(wanted), Some(Cells::new()));
            let finding = Finding {
                key: Some(keys.of_row(&gap.key)),
                evidence,
                partition: Some(gap.partition),
                offset: Some(Offset(gap.offset)),
                expected: Some(format!("{name}={shown}")),
                found: Some(format!("no {name}, which records have from offset {} on", first.offset)),
                ..self.about(FindingKind::Different)
            };
            self.findings.push(finding);
        }
        self.absent.retain(|_, count| *count > 0);
    }

    /// A value that only a placeholder stands for is lost; a row that the ledger knows as an earlier state is stale.
    fn kind_of(&mut self, key: &FindingKey, event: &[Cell<'_>], different: &[usize]) -> FindingKind {
        if different.iter().all(|i| matches!(event.get(*i), Some(Cell::Unavailable(_)))) {
            return FindingKind::Lost;
        }
        let FindingKey::Columns(key) = key else { return FindingKind::Different };
        let table = self.table;
        let history = self.history.take().unwrap_or_else(|| history_of(self.expected, table));
        let images = history.get(key).map_or(&[][..], Vec::as_slice);
        let earlier = images.iter().any(|image| {
            table.columns.list.iter().enumerate().all(|(index, column)| {
                let Some(text) = image.get(&column.name) else { return true };
                let cell = text.map_or(Cell::Null, |t| Cell::Text(t.as_bytes()));
                let other = event.get(index).copied().unwrap_or(Cell::Absent);
                self.matches(index, cell, other) != Match::Different
            })
        });
        self.history = Some(history);
        if earlier { FindingKind::Stale } else { FindingKind::Different }
    }

    fn matches(&self, index: usize, table: Cell<'_>, event: Cell<'_>) -> Match {
        let Some(column) = self.table.columns.list.get(index) else { return Match::Absent };
        let placeholder = self.placeholder();
        let found = compare(table, event, self.reprs(index), &column.ty, placeholder);
        match self.maskings.get(index).copied().flatten() {
            Some(masking) => masked(masking, found, table, event, &column.ty, placeholder),
            None => found,
        }
    }

    /// The connector's for unchanged values.
    fn placeholder(&self) -> &'o [u8] {
        self.connector.map_or(&[][..], |c| c.settings.placeholder.as_slice())
    }

    /// Keys whose last event cannot be ordered against another one, or a TRUNCATE, in another partition.
    fn unordered(&mut self) {
        let unordered = self.fold.standings().filter(|(_, standing)| *standing == Standing::Unordered).count();
        if unordered > 0 {
            self.findings.push(Finding {
                expected: Some(
                    "events of different partitions whose times or positions in the WAL tell which came later".into(),
                ),
                found: Some(format!(
                    "{unordered} keys whose last events, or whose last event and a TRUNCATE, nothing orders"
                )),
                ..self.about(FindingKind::NotComparable)
            });
        }
    }

    fn ghosts(&mut self, key_columns: &[usize], matched: u64) {
        let standing = self.fold.standings().count() as u64;
        if standing == matched {
            return;
        }
        let Ok(rows) = &self.table.rows else { return };
        let mut there: HashSet<Vec<u8>> = HashSet::new();
        let mut key = Vec::new();
        for packed in rows.packed() {
            let row: Vec<Cell<'_>> = cells(packed).collect();
            self.key_of(key_columns, &row, &mut key);
            there.insert(key.clone());
        }
        let copies = self.copies(key_columns, &there);
        let keys = Keys::new(self.table, key_columns);
        let fold = self.fold;
        let ghosts: Vec<Finding> = fold
            .standings()
            .filter(|(key, _)| !there.contains(*key) && !copies.contains(*key))
            .filter_map(|(key, standing)| match standing {
                Standing::Live(partition, entry) => Some((partition, key, entry)),
                Standing::Gone | Standing::Unordered => None,
            })
            .map(|(partition, key, entry)| {
                let row: Vec<Cell<'_>> = cells(&entry.row).collect();
                let found = self.cells_of(&row, 0..row.len());
                Finding {
                    key: Some(keys.of_record(key)),
                    evidence: self.evidence(FindingKind::Ghost, None, Some(found)),
                    token: self.token_of(&row),
                    partition: Some(partition),
                    offset: Some(Offset(entry.offset)),
                    lsn: (entry.lsn > 0).then_some(Lsn(entry.lsn)),
                    expected: Some("no row of this key in the table".into()),
                    found: Some(self.shown_row(&row)),
                    ..self.about(FindingKind::Ghost)
                }
            })
            .collect();
        if !ghosts.is_empty() && !self.truncate_captured() {
            self.notes.push(format!(
                "{}: not comparable if it was truncated: TRUNCATE is not captured (skipped.operations, the publication, or ExtractNewRecordState, which drops it), and leaves its rows in the topic",
                self.table.name
            ));
        }
        self.findings.extend(ghosts);
    }

    /// The keys of rows that snapshots alone write, compared where the topic has them.
    fn copies(&mut self, key_columns: &[usize], there: &HashSet<Vec<u8>>) -> HashSet<Vec<u8>> {
        let mut copies = HashSet::new();
        let (mut key, table, fold) = (Vec::new(), self.table, self.fold);
        for packed in table.unstreamed.packed() {
            let row: Vec<Cell<'_>> = cells(packed).collect();
            self.key_of(key_columns, &row, &mut key);
            if there.contains(&key) {
                continue;
            }
            if let Standing::Live(partition, entry) = fold.standing(&key) {
                self.row(key_columns, &row, packed, partition, &entry);
                copies.insert(key.clone());
            }
        }
        self.copied(copies.len() as u64);
        copies
    }

    fn copied(&mut self, count: u64) {
        if count > 0 {
            self.notes.push(format!(
                "{}: {count} rows are there by a snapshot, and no change of theirs arrives",
                self.table.name
            ));
        }
    }

    fn truncate_captured(&self) -> bool {
        self.connector.is_none_or(|c| {
            c.settings.writes_truncates() && !c.coverage.unpublished_operations.has(Operation::Truncate)
        })
    }

    /// A table without a key: images and how often each is there.
    fn loose(&mut self) {
        let Ok(rows) = &self.table.rows else { return };
        let mut keep = self.kept_columns();
        self.leave_out_inexpressible(&mut keep);
        let mut folded = self.fold.loose(&ImageColumns {
            keep: &keep,
            certain: &|index, text| {
                let info = self.table.columns.list.get(index);
                info.zip(std::str::from_utf8(text).ok()).is_some_and(|(info, text)| certain(text, &info.ty))
            },
        });
        if folded.blind > 0 || (folded.unnamed > 0 && folded.images.values().any(|c| *c != 0)) {
            self.notes.push(format!("{}: its events do not tell rows before or operations", self.table.name));
        }
        // A record that tells no operation counts as a new row; so does one of an update that tells no row before.
        let untold = folded.blind + folded.unnamed;
        let blind = untold > 0;
        let mut open = 0u64;
        let mut missing: Vec<Vec<u8>> = Vec::new();
        let mut there: HashSet<Vec<u8>> = HashSet::new();
        for packed in rows.packed() {
            self.rows += 1;
            let image = self.image(packed, &keep);
            self.values += keep.iter().filter(|k| **k).count() as u64;
            if folded.restated > 0 {
                there.insert(image.clone());
            }
            match folded.images.get_mut(image.as_slice()) {
                Some(count) if *count > 0 => {
                    *count -= 1;
                    open += u64::from(folded.redefined.get(image.as_slice()) == Some(&true));
                }
                _ => missing.push(image),
            }
        }
        let added = self.added(&folded, &keep);
        missing.retain(|image| {
            let Some(taken) = added.take(image, &mut folded.images) else { return true };
            open += u64::from(folded.redefined.get(taken.image.as_slice()) == Some(&true));
            for column in taken.absent {
                *self.absent.entry(*column).or_default() += 1;
                self.values -= 1;
            }
            false
        });
        added.take_away(&mut folded.images);
        let mut copied = 0;
        for packed in self.table.unstreamed.packed() {
            let image = self.image(packed, &keep);
            if let Some(count) = folded.images.get_mut(image.as_slice()).filter(|count| **count > 0) {
                *count -= 1;
                copied += 1;
            } else if added.take(&image, &mut folded.images).is_some() {
                copied += 1;
            }
        }
        self.copied(copied);
        for (index, kept) in keep.iter().enumerate() {
            if !kept && !self.not_comparable.keys().any(|(column, _)| *column == index) {
                self.absent.insert(index, rows.len());
            }
            if let Some(loss) = self.losses(index).into_iter().flatten().next().filter(|_| *kept && !rows.is_empty()) {
                self.within.insert((index, loss), rows.len());
            }
        }
        if open > 0 {
            self.undecided.push(Finding {
                expected: Some("records that tell the scale or unit of their values".into()),
                found: Some(format!(
                    "{open} rows are in {REDEFINED}, and equal only if read with one of several scales"
                )),
                ..self.about(FindingKind::NotComparable)
            });
        }
        if (!missing.is_empty() || folded.images.values().any(|c| *c != 0))
            && let Some(found) = self.unreadable_images(&keep, &folded)
        {
            self.undecided.push(Finding {
                expected: Some("rows of one form".into()),
                found: Some(found),
                ..self.about(FindingKind::NotComparable)
            });
            return;
        }
        if blind && (!missing.is_empty() || folded.images.values().any(|c| *c != 0)) {
            self.findings.push(Finding {
                expected: Some("rows before updates and deletes (REPLICA IDENTITY FULL and the envelope)".into()),
                found: Some(format!("{} events of a table without a key do not tell which row they changed", untold)),
                ..self.about(FindingKind::NotComparable)
            });
            return;
        }
        if folded.unordered > 0 && (!missing.is_empty() || folded.images.values().any(|c| *c != 0)) {
            self.findings.push(Finding {
                expected: Some(
                    "events whose times or positions in the WAL tell whether they came before a TRUNCATE".into(),
                ),
                found: Some(format!(
                    "{} events that nothing orders against a TRUNCATE in another partition",
                    folded.unordered
                )),
                ..self.about(FindingKind::NotComparable)
            });
            return;
        }
        if folded.read_again {
            let again = added.read_again(rows.packed().map(|packed| self.image(packed, &keep)), &mut folded.images);
            if again > 0 {
                self.undecided.push(Finding {
                    expected: Some("records that have all columns".into()),
                    found: Some(format!(
                        "{again} images too many without columns that were added later, and rows that a snapshot may have read again with them"
                    )),
                    ..self.about(FindingKind::NotComparable)
                });
            }
        }
        if !added.is_nested() && (!missing.is_empty() || folded.images.values().any(|c| *c != 0)) {
            self.undecided.push(Finding {
                expected: Some("records that lack no columns but those that were added later".into()),
                found: Some("records that lack some columns, and others that have these and lack other ones".into()),
                ..self.about(FindingKind::NotComparable)
            });
            return;
        }
        // A later snapshot reads existing rows again; without a key, only positions show that two records are of one row.
        let twice = folded
            .images
            .extract_if(|image, count| *count > 0 && there.contains(&**image))
            .map(|(_, count)| count)
            .sum::<i64>();
        if twice > 0 {
            self.findings.push(Finding {
                expected: Some("records that tell of which row of a table without a key they are".into()),
                found: Some(format!(
                    "{twice} images more than the table has of equal rows, and {} records that may restate rows of a snapshot",
                    folded.restated
                )),
                ..self.about(FindingKind::NotComparable)
            });
        }
        let again = delivered_again(&mut folded.either, &mut missing, &mut folded.images);
        if again > 0 {
            self.undecided.push(Finding {
                expected: Some("one delivery of each change, or deliveries that something tells apart".into()),
                found: Some(format!(
                    "{again} images more or fewer than the table has of equal rows; their changes may have been delivered again: \
                     equal ones stand beside them at their position in the WAL, as rows of one COPY do, or they have no position"
                )),
                ..self.about(FindingKind::NotComparable)
            });
        }
        for image in missing {
            let row: Vec<Cell<'_>> = cells(&image).collect();
            self.findings.push(Finding {
                token: self.token_of(&row),
                expected: Some(self.shown_row(&row)),
                found: Some("no such image is left in the topic".into()),
                ..self.about(FindingKind::Lost)
            });
        }
        // In order, so that the same observation gives the same report.
        let mut left: Vec<_> = folded.images.iter().filter(|(_, c)| **c != 0).collect();
        left.sort_unstable();
        for (image, count) in left {
            let row: Vec<Cell<'_>> = cells(image).collect();
            self.findings.push(Finding {
                token: self.token_of(&row),
                expected: Some("no such row (any more) in the table".into()),
                found: Some(format!("{count} too many of {}", self.shown_row(&row))),
                ..self.about(FindingKind::Ghost)
            });
        }
        if folded.redelivered > 0 {
            self.notes.push(format!(
                "{}: {} events were delivered again and left out by their position",
                self.table.name, folded.redelivered
            ));
        }
    }

    /// Generated columns come with snapshots and not with streamed changes; columns that are in no event are not there.
    fn kept_columns(&self) -> Vec<bool> {
        let seen = |index: usize| !self.reprs(index).is_empty();
        let columns = self.table.columns.list.iter().enumerate();
        columns.map(|(index, column)| !column.generated && !column.unpublished && seen(index)).collect()
    }

    /// Whether records lack no column by a list of the connector's, which may have been another when they were written.
    fn has_all_columns(&self) -> bool {
        self.connector.is_none_or(|c| c.settings.column_filter.is_none())
    }

    /// The columns that were added behind some of the records that are left.
    fn added(&self, folded: &LooseFold, keep: &[bool]) -> Added {
        let late = if self.has_all_columns() { folded.late.clone() } else { HashSet::new() };
        Added::behind(&folded.images, late, keep)
    }

    /// Why images that do not go together may be the same rows all the same.
    fn unreadable_images(&self, keep: &[bool], folded: &LooseFold) -> Option<String> {
        let kept = |column: &usize| keep.get(*column).copied().unwrap_or(false);
        let mixed: Vec<usize> = (0..keep.len()).filter(kept).filter(|column| self.losses(*column).len() > 1).collect();
        if !mixed.is_empty() {
            let names = self.table.names(&mixed).join(", ");
            return Some(format!("records whose {names} is expressed sometimes with less than at other times"));
        }
        let unknown = |column: &usize| kept(column) && self.maskings.get(*column) == Some(&Some(Masking::Unknown));
        let unknown: Vec<usize> = (0..keep.len()).filter(unknown).collect();
        if !unknown.is_empty() {
            let names = self.table.names(&unknown).join(", ");
            return Some(format!(
                "records whose {names} the connector may mask or truncate (column.mask, column.truncate)"
            ));
        }
        let left = folded.images.iter().filter(|(_, count)| **count != 0);
        let redefined = left.map(|(image, _)| image).any(|image| folded.redefined.contains_key(image));
        redefined.then(|| REDEFINED.to_owned())
    }

    /// Rows without a key are compared as wholes: a column in which one value has no expression cannot be part of them.
    fn leave_out_inexpressible(&mut self, keep: &mut [bool]) {
        let Ok(rows) = &self.table.rows else { return };
        let mut reasons: BTreeMap<usize, &'static str> = BTreeMap::new();
        for packed in rows.packed() {
            for (index, cell) in cells(packed).enumerate().filter(|(index, _)| keep.get(*index) == Some(&true)) {
                let (Some(text), Some(info)) = (cell.text(), self.table.columns.list.get(index)) else { continue };
                let why = inexpressible(text, self.reprs(index), &info.ty).or_else(|| null_instead(text, &info.ty));
                if let Some(why) = why {
                    reasons.entry(index).or_insert(why);
                }
            }
        }
        for (index, _) in keep.iter().enumerate().filter(|(_, kept)| **kept) {
            let opaque = self.reprs(index).iter().any(|repr| matches!(repr, Repr::Opaque(_)));
            if opaque || self.fold.not_understood.contains(&index) {
                reasons.insert(index, NOT_UNDERSTOOD);
            }
        }
        for (index, info) in
            self.table.columns.list.iter().enumerate().filter(|(index, _)| keep.get(*index) == Some(&true))
        {
            let Some(masking) = self.maskings.get(index).copied().flatten() else { continue };
            let values = rows.packed().filter_map(|packed| cells(packed).nth(index)?.text());
            if let Some(why) = left_out(masking, &info.ty, self.placeholder(), values) {
                reasons.insert(index, why);
            }
        }
        for (index, why) in reasons {
            keep[index] = false;
            self.not_comparable.insert((index, why), rows.len());
            let column = &self.table.columns.list[index];
            if why == NOT_UNDERSTOOD && column.ty.is_known() {
                self.undecided.push(Finding {
                    expected: Some(format!("values of {} in an expression that is understood", column.name)),
                    found: Some(format!("others, in {} rows that may be other ones", rows.len())),
                    ..self.about(FindingKind::NotComparable)
                });
            }
        }
    }

    /// A table's row as an image of the topic.
    fn image(&self, packed: &[u8], keep: &[bool]) -> Vec<u8> {
        let mut out = Vec::with_capacity(packed.len());
        for (index, cell) in cells(packed).enumerate() {
            let info = self.table.columns.list.get(index);
            match (cell.text(), info) {
                _ if !keep.get(index).copied().unwrap_or(false) => push(&mut out, Cell::Absent),
                (Some(text), Some(info)) if info.ty.needs_form() => {
                    let (loss, formed) = table_form(text, self.reprs(index), &info.ty);
                    push(
                        &mut out,
                        match loss {
                            Some(_) => {
                                Cell::Reserved(Reservations { loss, ..Reservations::default() }, formed.as_bytes())
                            }
                            None => Cell::Text(formed.as_bytes()),
                        },
                    );
                }
                _ => push(&mut out, cell),
            }
        }
        out
    }

    fn finish(mut self, outcome: &mut Outcome) {
        let name = &self.table.name;
        let column = |index: &usize| self.table.columns.list.get(*index);
        for (index, count) in &self.absent {
            let Some(info) = column(index) else { continue };
            let why = if info.generated {
                "generated, and so absent from streamed changes"
            } else if info.unpublished {
                "not in the publication's column list"
            } else if self.reprs(*index).is_empty() {
                "in no record: the connector leaves out the column, does not know its type, or has written none since it was added or renamed"
            } else {
                "absent from records written before it was added"
            };
            self.notes.push(format!("{name}.{} ({}): {count} values not compared: {why}", info.name, info.ty.name));
        }
        for ((index, loss), count) in &self.within {
            if let Some(info) = column(index) {
                self.notes.push(format!(
                    "{name}.{} ({}): {count} values compared {}",
                    info.name,
                    info.ty.name,
                    loss.words()
                ));
            }
        }
        for ((_, why), (count, first)) in std::mem::take(&mut self.open) {
            self.undecided.push(Finding { found: Some(format!("{count} values may be others: {why}")), ..first });
        }
        for ((index, why), count) in &self.not_comparable {
            if let Some(info) = column(index) {
                self.notes
                    .push(format!("{name}.{} ({}): {count} values not comparable: {why}", info.name, info.ty.name));
            }
        }
        let (shared, fields): (Vec<&str>, Vec<&str>) =
            self.fold.extra_fields.iter().map(String::as_str).partition(|f| !self.table.columns.sharing(f).is_empty());
        for field in shared {
            self.findings.push(Finding {
                expected: Some("a field for each column".into()),
                found: Some(format!(
                    "field {field} may be that of any of the columns {}: their names are adjusted to the same",
                    self.table.columns.sharing(field).join(", ")
                )),
                ..self.about(FindingKind::NotComparable)
            });
        }
        if !fields.is_empty() {
            self.notes.push(format!("{name}: fields of records that are no columns (any more): {}", fields.join(", ")));
        }
        if self.unread_signals > 0 {
            self.notes.push(format!(
                "{name}: {} rows are in no record: it is the connector's signalling table, which no snapshot reads",
                self.unread_signals
            ));
        }
        if self.fold.keys_in_several_partitions() {
            self.notes.push(format!(
                "{name}: keys stand in several partitions of {}, as after a change of their number; the later event counts",
                self.table.topic
            ));
        }
        if self.fold.key_changed {
            self.findings.push(Finding {
                expected: Some("records of one key".into()),
                found: Some("record keys of different columns in one topic".into()),
                ..self.about(FindingKind::NotComparable)
            });
        }
        let loose: usize = self.fold.partitions.iter().map(|p| p.loose.len()).sum();
        if loose > 0 && !self.fold.is_loose() {
            self.findings.push(Finding {
                expected: Some("records that all have a key".into()),
                found: Some(format!("{loose} records without one beside those with one")),
                ..self.about(FindingKind::NotComparable)
            });
        }
        let other = self.fold.count(Op::Other);
        if other > 0 {
            self.notes.push(format!("{name}: {other} records of other kinds, not folded"));
        }
        if self.fold.partitions.iter().any(|p| p.restored_values > 0) {
            let count: u64 = self.fold.partitions.iter().map(|p| p.restored_values).sum();
            self.notes.push(format!("{name}: {count} placeholders of unchanged values took the key's earlier value"));
        }
        if self.rows > 0 && self.values == 0 && self.findings.is_empty() && self.undecided.is_empty() {
            self.findings.push(Finding {
                expected: Some("values to compare".into()),
                found: Some("no value of any row could be compared".into()),
                ..self.about(FindingKind::Vacuous)
            });
        }
        outcome.rows += self.rows;
        outcome.values += self.values;
        outcome.notes.append(&mut self.notes);
        outcome.findings.append(&mut self.findings);
        outcome.undecided.append(&mut self.undecided);
    }
}

/// Takes out the rows and images that are over by changes which may be other ones delivered again; how many.
fn delivered_again(either: &mut HashMap<Box<[u8]>, Range>, missing: &mut Vec<Vec<u8>>, left: &mut Images) -> i64 {
    let mut again = 0;
    for (image, count) in left.iter_mut() {
        let Some(range) = either.get_mut(image) else { continue };
        let open = (*count).clamp(-range.more, range.fewer);
        range.more += open.min(0);
        *count -= open;
        again += open.abs();
    }
    missing.retain(|image| match either.get_mut(image.as_slice()) {
        Some(range) if range.more > 0 => {
            range.more -= 1;
            again += 1;
            false
        }
        _ => true,
    });
    again
}

/// The images of each key that the ledger knows.
fn history_of<'o>(expected: &'o Expectation<'_>, table: &TableView) -> HashMap<&'o RowKey, Vec<&'o Row>> {
    let mut history: HashMap<&RowKey, Vec<&Row>> = HashMap::new();
    let entries = expected.ledger.map_or(&[][..], |l| l.entries.as_slice());
    for change in entries.iter().flat_map(|e| &e.changes).filter(|c| c.table == table.name) {
        if let (Some(key), Some(after)) = (&change.key, &change.after) {
            history.entry(key).or_default().push(after);
        }
    }
    if let Some(base) = expected.base.get(&table.name) {
        for (key, row) in &base.keyed {
            history.entry(key).or_default().push(row);
        }
    }
    history
}

/// A table's text in the form of the topic's texts, and what that leaves out. Where a column has been expressed in several
/// ways the last counts.
fn table_form<'t>(text: &'t str, reprs: &[Repr], ty: &PgType) -> (Option<Loss>, Cow<'t, str>) {
    let full = canonical(text, Side::Table, ty);
    match reprs.last().and_then(|repr| Loss::of(repr, ty)) {
        Some(loss) => (Some(loss), Cow::Owned(cut(&full, loss, ty).into_owned())),
        None => (None, full),
    }
}
