//! The fold of one partition.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{
    keys::{Entry, KeyMap, by_key},
    seen::{Deferred, FirstWith, Logged, Loose, PROBLEMS_MAX, Place, Problem, Truncate, Use},
};
use crate::decode::{
    record::{Event, Op, Unreadable},
    row::{Cell, Placeholder, Reservations, cells, push},
};
use cdc_model::units::{SchemaId, pairs};

/// What one partition folds to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PartitionFold {
    /// The partition.
    pub partition: i32,
    /// The offset after the last one read.
    pub next: i64,
    /// Keyed rows.
    #[serde(with = "by_key")]
    pub keyed: KeyMap<Entry>,
    /// Events without a key.
    pub loose: Vec<Loose>,
    /// TRUNCATEs.
    pub truncates: Vec<Truncate>,
    /// The offset and the time of the latest event, and how far times have stepped back before it.
    pub(super) newest: Option<(i64, i64)>,
    pub(super) back_ns: i64,
    /// Every event, where asked for.
    pub log: Option<Vec<Logged>>,
    /// The column with the token, for the log.
    pub token_column: Option<usize>,
    /// Records by schema id.
    #[serde(with = "pairs")]
    pub ids: BTreeMap<(Place, SchemaId), Use>,
    /// Records that are no events.
    pub problems: Vec<Problem>,
    /// All of them, also beyond the cap.
    pub problems_total: u64,
    /// All records.
    pub records: u64,
    /// Events by what they did.
    pub ops: BTreeMap<Op, u64>,
    /// Placeholders that took the key's earlier value.
    pub restored_values: u64,
    /// Records kept for later.
    pub deferred: VecDeque<Deferred>,
    /// The offset of the last event that does not say which transaction it is of: a read of an incremental snapshot, or a
    /// record of a transform that leaves the row only. It may be newer than what the table's snapshot sees.
    pub unplaced: Option<i64>,
    /// For each column the first row that has it.
    pub first_with: Vec<Option<FirstWith>>,
}

impl PartitionFold {
    /// An empty partition. `log` keeps every event, with the token of this column.
    pub fn new(partition: i32, log: bool, token_column: Option<usize>) -> PartitionFold {
        PartitionFold { partition, log: log.then(Vec::new), token_column, ..PartitionFold::default() }
    }

    /// Notes a record that is no event.
    pub fn problem(&mut self, offset: i64, why: Unreadable) {
        self.records += 1;
        self.problems_total += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { partition: self.partition, offset, why });
        }
    }

    /// Applies one event.
    pub fn apply(&mut self, event: &Event<'_>, offset: i64) {
        self.records += 1;
        *self.ops.entry(event.meta.op).or_default() += 1;
        for (place, id) in [(Place::Key, event.meta.key_schema), (Place::Value, event.meta.value_schema)] {
            if let Some(id) = id {
                let first = (self.partition, offset);
                self.ids.entry((place, id)).or_insert(Use { records: 0, first }).records += 1;
            }
        }
        if self.log.is_some() && event.meta.op != Op::Tombstone {
            let logged = self.logged(event, offset);
            self.log.get_or_insert_default().push(logged);
        }
        if let Some(after) = event.after
            && (self.first_with.is_empty() || self.first_with.contains(&None))
        {
            self.note_columns(after, FirstWith { offset, lsn: event.meta.lsn.or(event.meta.reached).unwrap_or(0) });
        }
        if event.meta.op != Op::Tombstone {
            self.note_time(event.meta.made_ns, offset);
            if event.meta.tx.is_none() {
                self.unplaced = self.unplaced.max(Some(offset));
            }
        }
        match (event.meta.op, event.key) {
            (Op::Truncate, _) => self.truncates.push(Truncate {
                offset,
                lsn: event.meta.lsn.unwrap_or(0),
                tx: event.meta.tx.unwrap_or(0),
                made_ns: event.meta.made_ns,
            }),
            (Op::Other, _) => {}
            (_, Some(key)) => self.keyed(event, key, offset),
            (Op::Tombstone, None) => {}
            (op, None) => self.loose.push(Loose {
                made_ns: event.meta.made_ns,
                partition: self.partition,
                offset,
                lsn: event.meta.lsn.unwrap_or(0),
                reached: event.meta.lsn.or(event.meta.reached).unwrap_or(0),
                tx: event.meta.tx.unwrap_or(0),
                op,
                before: event.before.map(Into::into),
                after: event.after.map(Into::into),
            }),
        }
    }

    pub(super) fn note_time(&mut self, made_ns: i64, offset: i64) {
        let (last, newest) = self.newest.unwrap_or((i64::MIN, 0));
        // Records that were kept for later are applied behind later ones.
        if made_ns > 0 && offset > last {
            self.back_ns = self.back_ns.max(newest - made_ns);
            self.newest = Some((offset, newest.max(made_ns)));
        }
    }

    pub(super) fn note_columns(&mut self, row: &[u8], first: FirstWith) {
        for (column, cell) in cells(row).enumerate() {
            if self.first_with.len() <= column {
                self.first_with.push(None);
            }
            if cell != Cell::Absent {
                self.first_with[column].get_or_insert(first);
            }
        }
    }

    pub(super) fn keyed(&mut self, event: &Event<'_>, key: &[u8], offset: i64) {
        // A record that was kept for later is older than what stands here already.
        if self.keyed.get(key).is_some_and(|entry| entry.offset > offset) {
            return;
        }
        let row: Box<[u8]> = match (event.meta.op, event.after) {
            (Op::Delete | Op::Tombstone, _) | (_, None) => Box::default(),
            (_, Some(after)) if event.unavailable => {
                let earlier = self.keyed.get(key).filter(|e| e.live()).map(|e| e.row.clone());
                let (row, restored) = completed(after, earlier.as_deref());
                self.restored_values += restored;
                row
            }
            (_, Some(after)) => after.into(),
        };
        let lsn = event.meta.lsn.or(event.meta.reached).unwrap_or(0);
        let made = Entry { row, offset, lsn, made_ns: event.meta.made_ns };
        match self.keyed.get_mut(key) {
            // A tombstone follows its delete and has no position of its own.
            Some(entry) if event.meta.op == Op::Tombstone && !entry.live() => entry.offset = offset,
            Some(entry) => *entry = made,
            None => drop(self.keyed.insert(key.into(), made)),
        }
    }

    pub(super) fn logged(&self, event: &Event<'_>, offset: i64) -> Logged {
        let token = |row: Option<&[u8]>| {
            let cell = cells(row?).nth(self.token_column?)?;
            cell.text().map(Box::<str>::from)
        };
        Logged {
            partition: self.partition,
            offset,
            op: event.meta.op,
            lsn: event.meta.lsn,
            tx: event.meta.tx,
            snapshot: event.meta.snapshot || event.meta.op == Op::Read,
            made_ns: event.meta.made_ns,
            key: event.key.map(Into::into),
            token_before: token(event.before),
            token_after: token(event.after),
            schema: event.meta.value_schema,
        }
    }
}

pub(super) fn unavailable(row: &[u8]) -> bool {
    cells(row).any(|cell| matches!(cell, Cell::Unavailable(_)))
}

/// Puts the key's earlier values in the place of placeholders; the row, and how many took one.
pub(super) fn completed(after: &[u8], earlier: Option<&[u8]>) -> (Box<[u8]>, u64) {
    let mut row = Vec::with_capacity(after.len());
    let mut taken = 0;
    let mut earlier = earlier.map(cells);
    for cell in cells(after) {
        let before = earlier.as_mut().and_then(Iterator::next);
        let Cell::Unavailable(placeholder) = cell else {
            push(&mut row, cell);
            continue;
        };
        match (resolved(placeholder, before), before) {
            (meant, Some(before)) if meant == before => {
                taken += 1;
                push(&mut row, restored(before));
            }
            (meant, _) => push(&mut row, meant),
        }
    }
    (row.into(), taken)
}

/// What a placeholder means behind this value: the same value again, unless that cannot have been stored out of line.
/// Then it is a value that looks like a placeholder. Without an earlier value it stays open which of the two it is.
pub(super) fn resolved<'a>(placeholder: Placeholder<'a>, before: Option<Cell<'a>>) -> Cell<'a> {
    match before {
        Some(Cell::Text(text) | Cell::Reserved(_, text)) if text.len() <= usize::from(placeholder.inline_max) => {
            Cell::Text(placeholder.literal)
        }
        Some(before @ (Cell::Text(_) | Cell::Reserved(..) | Cell::Opaque)) => before,
        _ => Cell::Unavailable(placeholder),
    }
}

/// An earlier value that stands for a placeholder.
pub(super) fn restored(before: Cell<'_>) -> Cell<'_> {
    match before {
        Cell::Text(text) => Cell::Reserved(Reservations { restored: true, ..Reservations::default() }, text),
        Cell::Reserved(reservations, text) => Cell::Reserved(Reservations { restored: true, ..reservations }, text),
        other => other,
    }
}
