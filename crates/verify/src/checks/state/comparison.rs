//! The comparison of one table with its topic: what rows with and without a key have in common.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use super::outcome::Outcome;
use crate::{
    checks::rows::{Carried, Keys, in_words},
    decode::{
        compare::{Match, compare},
        masked::{applies, masked},
        pg_type::PgType,
        record::Op,
        repr::{Loss, Repr, Side, canonical, cut},
        row::{Cell, push},
        table::Column,
    },
    fold::TopicFold,
    observation::{ConnectorView, Expectation, Observation, TableView},
};
use cdc_model::{
    event::{Cells, Evidence, Finding, FindingKey, FindingKind},
    units::{RowKey, counted},
};
use cdc_pipeline::debezium::{Masking, Operation};
use cdc_workload::Row;

/// Which records may mean one of several values.
pub(super) const REDEFINED: &str =
    "records without a schema, written before a column was last redefined (or naming no transaction)";

/// A value that a key's last event does not have.
pub(super) struct Gap {
    pub(super) column: usize,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) lsn: u64,
    /// The cells of the row's key, packed.
    pub(super) key: Box<[u8]>,
    pub(super) value: Option<Box<str>>,
}

pub(super) struct Comparison<'o> {
    pub(super) expected: &'o Expectation<'o>,
    pub(super) table: &'o TableView,
    pub(super) fold: &'o TopicFold,
    pub(super) rows: u64,
    pub(super) values: u64,
    pub(super) absent: BTreeMap<usize, u64>,
    /// Where a value is absent that a streamed change should have.
    pub(super) gaps: Vec<Gap>,
    pub(super) not_comparable: BTreeMap<(usize, &'static str), u64>,
    /// Values that are equal as far as their expression goes.
    pub(super) within: BTreeMap<(usize, Loss), u64>,
    /// Values that may be equal or not: how many, and the first.
    pub(super) open: BTreeMap<(usize, &'static str), (u64, Finding)>,
    /// Rows of the signalling table that are in no record.
    pub(super) unread_signals: u64,
    pub(super) findings: Vec<Finding>,
    pub(super) undecided: Vec<Finding>,
    pub(super) carried: Carried,
    pub(super) notes: Vec<String>,
    pub(super) history: Option<HashMap<&'o RowKey, Vec<&'o Row>>>,
    /// The table's.
    pub(super) connector: Option<&'o ConnectorView>,
    /// What the connector writes of each column, where that is not its value.
    pub(super) maskings: Vec<Option<Masking>>,
}

impl<'o> Comparison<'o> {
    pub(super) fn new(
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

    pub(super) fn about(&self, kind: FindingKind) -> Finding {
        Finding { table: Some(self.table.name.clone()), topic: Some(self.table.topic.clone()), ..Finding::new(kind) }
    }

    pub(super) fn reprs(&self, column: usize) -> &'o [Repr] {
        self.fold.reprs.get(column).map_or(&[], Vec::as_slice)
    }

    /// The packed key of a table's row, in the form of the topic's keys.
    pub(super) fn key_of(&self, key_columns: &[usize], row: &[Cell<'_>], out: &mut Vec<u8>) {
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
    pub(super) fn own_key(&self, key_columns: &[usize], row: &[Cell<'_>]) -> Vec<u8> {
        let mut key = Vec::new();
        for column in key_columns {
            push(&mut key, row.get(*column).copied().unwrap_or(Cell::Absent));
        }
        key
    }

    /// The key of a table's row in a finding.
    pub(super) fn row_key(&self, key_columns: &[usize], row: &[Cell<'_>]) -> FindingKey {
        Keys::new(self.table, key_columns).of_row(&self.own_key(key_columns, row))
    }

    /// What a finding carries of a row on both sides; nothing where a report has enough of its kind.
    pub(super) fn evidence(
        &mut self,
        kind: FindingKind,
        expected: Option<Cells>,
        found: Option<Cells>,
    ) -> Option<Evidence> {
        self.carried.next(kind, &self.table.name).then_some(Evidence::Row { expected, found })
    }

    /// The values of these columns. A column for which the row has no value is left out.
    pub(super) fn cells_of(&self, row: &[Cell<'_>], columns: impl Iterator<Item = usize>) -> Cells {
        let value = |index: usize| match row.get(index)? {
            Cell::Null => Some(None),
            cell => cell.text().map(|text| Some(text.to_owned())),
        };
        columns.filter_map(|i| Some((self.table.columns.list.get(i)?.name.clone(), value(i)?))).collect()
    }

    /// What the ways in which a column has been expressed leave out of its values.
    pub(super) fn losses(&self, column: usize) -> BTreeSet<Option<Loss>> {
        let Some(info) = self.table.columns.list.get(column) else { return BTreeSet::new() };
        self.reprs(column).iter().map(|repr| Loss::of(repr, &info.ty)).collect()
    }

    pub(super) fn token_of(&self, row: &[Cell<'_>]) -> Option<String> {
        let column = self.table.columns.of_name(&self.expected.token_column)?;
        row.get(column)?.text().map(str::to_owned)
    }

    pub(super) fn shown_row(&self, row: &[Cell<'_>]) -> String {
        let cells = self.table.columns.list.iter().zip(row).map(|(c, cell)| format!("{}={}", c.name, in_words(*cell)));
        cells.collect::<Vec<_>>().join(", ")
    }

    /// A value that only a placeholder stands for is lost; a row that the ledger knows as an earlier state is stale.
    pub(super) fn kind_of(&mut self, key: &FindingKey, event: &[Cell<'_>], different: &[usize]) -> FindingKind {
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

    pub(super) fn matches(&self, index: usize, table: Cell<'_>, event: Cell<'_>) -> Match {
        let Some(column) = self.table.columns.list.get(index) else { return Match::Absent };
        let placeholder = self.placeholder();
        let found = compare(table, event, self.reprs(index), &column.ty, placeholder);
        match self.maskings.get(index).copied().flatten() {
            Some(masking) => masked(masking, found, table, event, &column.ty, placeholder),
            None => found,
        }
    }

    /// The connector's for unchanged values.
    pub(super) fn placeholder(&self) -> &'o [u8] {
        self.connector.map_or(&[][..], |c| c.settings.placeholder.as_slice())
    }

    pub(super) fn copied(&mut self, count: u64) {
        if count > 0 {
            self.notes.push(format!(
                "{}: a snapshot brought {count}, and no change of theirs arrives",
                self.table.name,
                count = counted(count, "row")
            ));
        }
    }

    pub(super) fn truncate_captured(&self) -> bool {
        self.connector.is_none_or(|c| {
            c.settings.writes_truncates() && !c.coverage.unpublished_operations.has(Operation::Truncate)
        })
    }

    /// Whether records lack no column by a list of the connector's, which may have been another when they were written.
    pub(super) fn has_all_columns(&self) -> bool {
        self.connector.is_none_or(|c| c.settings.column_filter.is_none())
    }

    pub(super) fn finish(mut self, outcome: &mut Outcome) {
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
            self.notes.push(format!(
                "{name}.{} ({}): {count} not compared: {why}",
                info.name,
                info.ty.name,
                count = counted(*count, "value")
            ));
        }
        for ((index, loss), count) in &self.within {
            if let Some(info) = column(index) {
                self.notes.push(format!(
                    "{name}.{} ({}): {count} compared {}",
                    info.name,
                    info.ty.name,
                    loss.words(),
                    count = counted(*count, "value")
                ));
            }
        }
        for ((_, why), (count, first)) in std::mem::take(&mut self.open) {
            self.undecided.push(Finding {
                found: Some(format!("{count} may be others: {why}", count = counted(count, "value"))),
                ..first
            });
        }
        for ((index, why), count) in &self.not_comparable {
            if let Some(info) = column(index) {
                self.notes.push(format!(
                    "{name}.{} ({}): {count} not comparable: {why}",
                    info.name,
                    info.ty.name,
                    count = counted(*count, "value")
                ));
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
                "{name}: {} in no record: it is the connector's signalling table, which no snapshot reads",
                counted(self.unread_signals, "row")
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
                found: Some(format!("{loose} without one beside those with one", loose = counted(loose, "record"))),
                ..self.about(FindingKind::NotComparable)
            });
        }
        let other = self.fold.count(Op::Other);
        if other > 0 {
            self.notes.push(format!("{name}: {other} of other kinds, not folded", other = counted(other, "record")));
        }
        if self.fold.partitions.iter().any(|p| p.restored_values > 0) {
            let count: u64 = self.fold.partitions.iter().map(|p| p.restored_values).sum();
            self.notes.push(format!(
                "{name}: {count} of unchanged values took the key's earlier value",
                count = counted(count, "placeholder")
            ));
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
pub(super) fn table_form<'t>(text: &'t str, reprs: &[Repr], ty: &PgType) -> (Option<Loss>, Cow<'t, str>) {
    let full = canonical(text, Side::Table, ty);
    match reprs.last().and_then(|repr| Loss::of(repr, ty)) {
        Some(loss) => (Some(loss), Cow::Owned(cut(&full, loss, ty).into_owned())),
        None => (None, full),
    }
}
