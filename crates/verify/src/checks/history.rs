//! What the ledger says, beside what topics and tables show: shared by the checks that judge transactions.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::rows::Keys;
use crate::{
    decode::record::Op as EventOp,
    fold::{Logged, TopicFold},
    observation::{Expectation, Fate, Observation, TableView},
};
use cdc_model::{
    event::{Finding, FindingKey, FindingKind},
    units::{Epoch, Offset, RowKey, TableName, TopicPartition, counted},
};
use cdc_workload::{
    Row,
    ledger::{Change, Entry, Ledger, Op, Outcome},
};

/// The surviving transactions in commit order, and those that must be nowhere.
pub(super) struct History<'o> {
    /// The ledger.
    pub ledger: &'o Ledger,
    /// Committed and kept, in commit order.
    pub kept: Vec<&'o Entry>,
    /// Place in `kept` by token.
    pub order: HashMap<&'o str, usize>,
    /// Committed and given up by a target, or never committed: their tokens must be nowhere.
    pub gone: HashMap<&'o str, &'o Entry>,
    /// Committed, with no commit record found, where a target cut: it cannot be told whether they are kept.
    pub undecided: Vec<&'o Entry>,
    /// The first epoch after the last cut.
    pub current: Epoch,
    /// For each table and key: places in `kept` that changed it, in order, with the change.
    pub by_key: HashMap<(&'o TableName, &'o RowKey), Vec<(usize, &'o Change)>>,
}

impl<'o> History<'o> {
    /// Reads the ledger by the expectation's cuts; `None` without a ledger.
    pub(super) fn new(expected: &'o Expectation<'o>) -> Option<History<'o>> {
        let ledger = expected.ledger?;
        let mut history = History {
            ledger,
            kept: Vec::new(),
            order: HashMap::new(),
            gone: HashMap::new(),
            undecided: Vec::new(),
            current: expected.cuts.iter().map(|c| Epoch(c.epoch.0 + 1)).max().unwrap_or_default(),
            by_key: HashMap::new(),
        };
        for entry in ledger.in_commit_order() {
            match expected.fate(ledger, entry) {
                Fate::Kept => history.keep(entry),
                Fate::GivenUp => drop(history.gone.insert(&entry.token, entry)),
                Fate::Undecided => history.undecided.push(entry),
            }
        }
        for entry in ledger.entries.iter().filter(|e| e.outcome == Outcome::Failed) {
            history.gone.insert(&entry.token, entry);
        }
        Some(history)
    }

    fn keep(&mut self, entry: &'o Entry) {
        let place = self.kept.len();
        self.kept.push(entry);
        self.order.insert(&entry.token, place);
        for change in &entry.changes {
            for key in change.key.iter().chain(&change.key_before) {
                self.by_key.entry((&change.table, key)).or_default().push((place, change));
            }
        }
    }

    /// A line for the notes when transactions cannot be judged.
    pub(super) fn undecided_note(&self) -> Option<String> {
        let first = self.undecided.first()?;
        Some(format!(
            "{} without a commit record in the ledger's order, so the target does not tell whether they are kept: {} and others",
            counted(self.undecided.len(), "committed transaction"),
            first.token
        ))
    }
}

/// The events of a drill, by key and by token.
pub(super) struct Events<'o> {
    /// Of each table: its events in the current epoch, by their key, in offset order.
    pub by_key: HashMap<&'o TableName, HashMap<RowKey, Vec<&'o Logged>>>,
    /// Of each table without a key: its events by token of the row after.
    pub by_token: HashMap<(&'o TableName, &'o str), Vec<&'o Logged>>,
    /// Of each table: deletes without a key by transaction (low half of its id).
    pub deletes: HashMap<(&'o TableName, u32), u64>,
    /// Of each table: the position from which its snapshot was read. The connector's slot exports the snapshot, so that
    /// what committed before it is in the snapshot, and in no event of its own.
    pub snapshots: HashMap<&'o TableName, u64>,
    /// All of them.
    pub total: u64,
}

/// The keys of a topic's records.
pub(super) fn keys_of(table: &TableView, fold: &TopicFold) -> Keys {
    Keys::new(table, fold.key_columns.as_deref().unwrap_or_default())
}

/// Whether an event is of the current epoch.
pub(super) fn in_epoch(expected: &Expectation<'_>, topic: &str, event: &Logged) -> bool {
    let partition = TopicPartition { topic: topic.to_owned(), partition: event.partition };
    expected.epoch_offsets.get(&partition).is_none_or(|first| event.offset >= first.0)
}

/// The logged events of a topic, in the current epoch, partition by partition in offset order.
pub(super) fn logged<'o>(
    expected: &'o Expectation<'_>,
    topic: &'o str,
    fold: &'o TopicFold,
) -> impl Iterator<Item = &'o Logged> {
    let events = fold.partitions.iter().flat_map(|p| p.log.iter().flatten());
    events.filter(move |e| in_epoch(expected, topic, e))
}

impl<'o> Events<'o> {
    /// Collects the events of the current epoch.
    pub(super) fn new(seen: &'o Observation, expected: &'o Expectation<'_>) -> Events<'o> {
        let mut events = Events {
            by_key: HashMap::new(),
            by_token: HashMap::new(),
            deletes: HashMap::new(),
            snapshots: HashMap::new(),
            total: 0,
        };
        for table in &seen.tables {
            let Some(fold) = seen.topics.get(&table.topic) else { continue };
            let keys = keys_of(table, fold);
            for event in logged(expected, &table.topic, fold) {
                events.total += 1;
                if let (true, Some(lsn)) = (event.snapshot, event.lsn) {
                    let from = events.snapshots.entry(&table.name).or_insert(lsn);
                    *from = (*from).min(lsn);
                }
                match &event.key {
                    Some(key) => {
                        // A key that cannot be read is no key of the ledger.
                        if let Some(key) = keys.of_cells(key) {
                            events.by_key.entry(&table.name).or_default().entry(key).or_default().push(event);
                        }
                    }
                    None => {
                        if let Some(token) = &event.token_after {
                            events.by_token.entry((&table.name, token)).or_default().push(event);
                        }
                        if let (EventOp::Delete, Some(tx)) = (event.op, event.tx) {
                            *events.deletes.entry((&table.name, tx as u32)).or_default() += 1;
                        }
                    }
                }
            }
        }
        events
    }
}

/// Whether each change of a kept transaction is represented in the topics: by its own event, by a snapshot's read that
/// shows it, or by something later that a later kept transaction explains.
pub(super) struct Represented<'o> {
    /// The surviving history.
    pub history: &'o History<'o>,
    /// The events.
    pub events: &'o Events<'o>,
    /// The captured tables.
    pub captured: HashSet<&'o TableName>,
    /// Captured tables without the token's column: their events cannot be told apart.
    pub tokenless: HashSet<&'o TableName>,
    /// Tokens of rows of tables without a key that a later kept transaction changed or took away, by who did.
    superseded: HashMap<(&'o TableName, &'o str), usize>,
}

impl<'o> Represented<'o> {
    /// Prepares the question.
    pub(super) fn new(
        seen: &'o Observation,
        expected: &'o Expectation<'o>,
        history: &'o History<'o>,
        events: &'o Events<'o>,
    ) -> Represented<'o> {
        let mut superseded = HashMap::new();
        for (place, entry) in history.kept.iter().enumerate() {
            for change in entry.changes.iter().filter(|c| c.key.is_none()) {
                let before = change.before.as_ref().and_then(|row| token_of(row, &expected.token_column));
                if let Some(token) = before {
                    superseded.insert((&change.table, token), place);
                }
            }
        }
        let without = |t: &&TableView| t.columns.of_name(&expected.token_column).is_none();
        Represented {
            history,
            events,
            captured: seen.tables.iter().map(|t| &t.name).collect(),
            tokenless: seen.tables.iter().filter(without).map(|t| &t.name).collect(),
            superseded,
        }
    }

    /// One change of the transaction at this place; `None` when its table is not captured.
    pub(super) fn change(&self, place: usize, change: &'o Change) -> Option<bool> {
        if !self.captured.contains(&change.table) || self.tokenless.contains(&change.table) {
            return None;
        }
        let entry = self.history.kept[place];
        Some(match (&change.key, change.op) {
            (Some(key), Op::Delete) => self.gone(place, entry, &change.table, key),
            (Some(key), Op::KeyChange) => {
                let before = change.key_before.as_ref();
                self.there(place, entry, &change.table, key)
                    && before.is_none_or(|before| self.gone(place, entry, &change.table, before))
            }
            (Some(key), Op::Insert | Op::Update) => self.there(place, entry, &change.table, key),
            (None, Op::Delete) => {
                let by_event = entry.xid.and_then(|xid| self.events.deletes.get(&(&change.table, xid as u32)));
                by_event.is_some_and(|n| *n > 0) || self.before_snapshot(entry, change) || self.unkeyed_gone(change)
            }
            (None, _) => {
                let token = entry.token.as_str();
                self.events.by_token.contains_key(&(&change.table, token))
                    || self.superseded.get(&(&change.table, token)).is_some_and(|by| *by >= place)
            }
        })
    }

    /// The transaction committed before the table's snapshot was read, on the timeline that the snapshot was read on.
    fn before_snapshot(&self, entry: &Entry, change: &Change) -> bool {
        let commit = self.history.ledger.commit(entry).filter(|_| entry.epoch >= self.history.current);
        let from = self.events.snapshots.get(&change.table);
        commit.zip(from).is_some_and(|(commit, from)| commit.lsn.0 < *from)
    }

    /// The row's token never shows, so a snapshot was taken after the delete.
    fn unkeyed_gone(&self, change: &Change) -> bool {
        let Some(before) = &change.before else { return false };
        !before.iter().filter_map(|(_, text)| text).any(|token| {
            self.history.order.contains_key(token) && self.events.by_token.contains_key(&(&change.table, token))
        })
    }

    fn of_key(&self, table: &'o TableName, key: &RowKey) -> &[&'o Logged] {
        self.events.by_key.get(table).and_then(|keys| keys.get(key)).map_or(&[], Vec::as_slice)
    }

    fn there(&self, place: usize, entry: &Entry, table: &'o TableName, key: &'o RowKey) -> bool {
        let events = self.of_key(table, key);
        let shows = |event: &&&Logged| match event.token_after.as_deref() {
            Some(token) if token == entry.token => true,
            Some(token) => self.history.order.get(token).is_some_and(|later| *later > place),
            None => false,
        };
        events.iter().any(|e| shows(&e)) || self.later_delete_shows(place, table, key)
    }

    /// A later kept transaction took the row away, and the key has no row in the topic's end.
    fn later_delete_shows(&self, place: usize, table: &'o TableName, key: &'o RowKey) -> bool {
        let takes = |c: &Change| {
            (c.op == Op::Delete && c.key.as_ref() == Some(key))
                || (c.op == Op::KeyChange && c.key_before.as_ref() == Some(key))
        };
        let changes = self.history.by_key.get(&(table, key)).map_or(&[][..], Vec::as_slice);
        let same_or_later = changes.iter().any(|(p, c)| *p >= place && takes(c));
        same_or_later && self.absent_at_end(table, key)
    }

    fn absent_at_end(&self, table: &'o TableName, key: &'o RowKey) -> bool {
        self.of_key(table, key).last().is_none_or(|last| last.op == EventOp::Delete)
    }

    fn gone(&self, place: usize, entry: &Entry, table: &'o TableName, key: &'o RowKey) -> bool {
        let events = self.of_key(table, key);
        let own = entry.xid.map(|x| x as u32);
        let by_event = events.iter().any(|e| {
            e.op == EventOp::Delete
                && (e.tx.map(|t| t as u32) == own || e.token_before.as_deref() == Some(entry.token.as_str()))
        });
        let later_row = events.iter().any(|e| {
            e.token_after.as_deref().and_then(|t| self.history.order.get(t)).is_some_and(|later| *later > place)
        });
        // The same transaction may have put a row there again.
        let own_row = events.iter().any(|e| e.token_after.as_deref() == Some(entry.token.as_str()));
        by_event || later_row || own_row || self.absent_at_end(table, key)
    }
}

/// The token in a row.
pub(super) fn token_of<'r>(row: &'r Row, column: &str) -> Option<&'r str> {
    row.text(column)
}

/// A finding about a change of a transaction.
pub(super) fn about_change(kind: FindingKind, history: &History<'_>, entry: &Entry, change: &Change) -> Finding {
    Finding {
        table: Some(change.table.clone()),
        key: change.key.clone().map(FindingKey::Columns),
        token: Some(entry.token.clone()),
        lsn: history.ledger.commit(entry).map(|c| c.lsn),
        ..Finding::new(kind)
    }
}

/// A finding about an event.
pub(super) fn about_event(kind: FindingKind, table: &TableView, fold: &TopicFold, event: &Logged) -> Finding {
    Finding {
        table: Some(table.name.clone()),
        topic: Some(table.topic.clone()),
        key: event.key.as_deref().map(|key| keys_of(table, fold).of_record(key)),
        token: event.token_after.as_deref().or(event.token_before.as_deref()).map(str::to_owned),
        partition: Some(event.partition),
        offset: Some(Offset(event.offset)),
        lsn: event.lsn.map(cdc_model::units::Lsn),
        schema_id: event.schema,
        ..Finding::new(kind)
    }
}

/// Notes about captured tables that have no token, which transactions cannot be told apart in.
pub(super) fn tokenless_notes(represented: &Represented<'_>) -> Vec<String> {
    let names: BTreeMap<String, ()> = represented.tokenless.iter().map(|t| (t.to_string(), ())).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let list: Vec<String> = names.into_keys().collect();
    vec![format!("tables without a token column, judged by `state` alone: {}", list.join(", "))]
}
