//! What findings carry of rows and keys, as data and in words.

use std::collections::HashMap;

use crate::{
    decode::row::{Cell, cells},
    observation::TableView,
};
use cdc_model::{
    event::{Cells, FINDINGS_MAX, FindingKey, FindingKind},
    units::{KeyColumns, RowKey, TableName, counted, readable},
};
use cdc_workload::Row;

/// Values longer than this are shortened in words.
const SHOWN_MAX: usize = 120;

/// The keys of a table's rows and of its topic's records, by the columns that records have as their key.
pub(super) struct Keys {
    columns: KeyColumns,
    /// Whether records may express a value of the key otherwise than the table prints it.
    formed: bool,
}

impl Keys {
    /// Of these columns.
    pub(super) fn new(table: &TableView, columns: &[usize]) -> Keys {
        let infos = || columns.iter().filter_map(|c| table.columns.list.get(*c));
        Keys { columns: KeyColumns::new(infos().map(|c| c.name.as_str())), formed: infos().any(|c| c.ty.needs_form()) }
    }

    /// The key in a packed list of the key's cells; `None` where one is neither text nor NULL.
    pub(super) fn of_cells(&self, packed: &[u8]) -> Option<RowKey> {
        let mut values = cells(packed);
        let mut complete = true;
        let key = self.columns.key(|_| match values.next() {
            Some(Cell::Null) => None,
            cell => {
                let text = cell.and_then(Cell::text);
                complete &= text.is_some();
                text
            }
        });
        complete.then_some(key)
    }

    /// The key of a row that the table printed.
    pub(super) fn of_row(&self, packed: &[u8]) -> FindingKey {
        self.of_cells(packed).map_or_else(|| FindingKey::Words(self.words(packed)), FindingKey::Columns)
    }

    /// The key of a record. Where the table may print it otherwise it is words only: asking the table for it would find no
    /// row and prove nothing.
    pub(super) fn of_record(&self, packed: &[u8]) -> FindingKey {
        match self.of_cells(packed) {
            Some(key) if !self.formed => FindingKey::Columns(key),
            _ => FindingKey::Words(self.words(packed)),
        }
    }

    fn words(&self, packed: &[u8]) -> String {
        let parts = self.columns.iter().zip(cells(packed)).map(|(name, cell)| format!("{name}={}", in_words(cell)));
        parts.collect::<Vec<_>>().join(",")
    }
}

/// A value in a finding's words.
pub(super) fn in_words(cell: Cell<'_>) -> String {
    match cell {
        Cell::Text(bytes) => readable(Some(&clip(&String::from_utf8_lossy(bytes)))).into_owned(),
        other => other.shown(),
    }
}

/// The columns of a ledger's row that `keep` chooses, as words and as data.
pub(super) fn columns_of<'r>(row: &'r Row, keep: impl Fn(&str, Option<&str>) -> bool) -> (String, Cells) {
    let kept = || row.iter().filter(|(name, value)| keep(name, *value));
    let word = |(name, value): (&'r str, Option<&'r str>)| {
        let value = value.map(clip);
        format!("{name}={}", readable(value.as_deref()))
    };
    let words = kept().map(word).collect::<Vec<_>>().join(", ");
    (words, kept().map(|(name, value)| (name.to_owned(), value.map(str::to_owned))).collect())
}

/// A long value's beginning and length.
fn clip(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{}... ({})", &text[..at], counted(text.len(), "byte")),
        None => text.to_owned(),
    }
}

/// Counts findings, so that only those carry their rows that a report can keep: a check may find millions.
#[derive(Debug, Default)]
pub(super) struct Carried(HashMap<(FindingKind, TableName), usize>);

impl Carried {
    /// Whether the next finding of this kind in this table is one that a report can keep.
    pub(super) fn next(&mut self, kind: FindingKind, table: &TableName) -> bool {
        let count = self.0.entry((kind, table.clone())).or_default();
        *count += 1;
        *count <= FINDINGS_MAX
    }
}
