//! The workload's own record of every transaction it tried: the pure model, shared with `verify`.
//!
//! On disk a ledger is a folder with one JSON-lines file a writer, one [`Entry`] a line, each line durable before the
//! writer's next transaction begins. The ledger never says in which order transactions committed: that comes from the
//! WAL ([`CommitOrder`]).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::units::{Epoch, Lsn, TableName};

/// A row as PostgreSQL prints it: column to text, `None` for NULL. Sessions that make images speak UTC, ISO dates, hex
/// bytea and full float precision.
pub type Row = BTreeMap<String, Option<String>>;

/// A row's key, printed as `id=42` or `order_id=7,line=2`, columns in the key's order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(pub String);

impl Key {
    /// Prints the key of a row.
    pub fn of(columns: &[String], row: &Row) -> Key {
        let part = |c: &String| format!("{c}={}", row.get(c).and_then(Option::as_deref).unwrap_or("NULL"));
        Key(columns.iter().map(part).collect::<Vec<_>>().join(","))
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What became of a transaction, as far as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// COMMIT was answered.
    Acknowledged,
    /// It was rolled back, on purpose or by an error, before COMMIT was sent.
    Failed,
    /// COMMIT was sent and no answer came: settled later by looking for its token.
    Unknown,
}

/// One transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Unique over runs, drills and timelines; stands in every row that the transaction wrote.
    pub token: String,
    /// The writer.
    pub writer: u32,
    /// The writer's count of transactions.
    pub sequence: u64,
    /// The stretch between recoveries in which it was tried.
    pub epoch: Epoch,
    /// `pg_current_xact_id()`, 64 bits with the xid epoch, on the timeline of its time.
    pub xid: Option<u64>,
    /// Milliseconds since the Unix epoch when it began.
    pub began_ms: i64,
    /// Milliseconds since the Unix epoch when its outcome was known.
    pub ended_ms: i64,
    /// What became of it.
    pub outcome: Outcome,
    /// What it did, in order; changes undone by a savepoint are not among them.
    pub changes: Vec<Change>,
}

/// One row change of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The table.
    pub table: TableName,
    /// What was done.
    pub op: Op,
    /// The key after the change (before it, for a delete); `None` for a table without a key.
    pub key: Option<Key>,
    /// The key before, where the change changed it.
    pub key_before: Option<Key>,
    /// The row before; always there for a table without a key, where it is the only way to name the row.
    pub before: Option<Row>,
    /// The row after, as RETURNING gave it; `None` for a delete.
    pub after: Option<Row>,
}

/// The kinds of row changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// A new row.
    Insert,
    /// A changed row with the same key.
    Update,
    /// A row with another key than before: to a log of changes, a delete and a create.
    KeyChange,
    /// A deleted row.
    Delete,
}

/// The commit of a transaction as the WAL has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Commit {
    /// The timeline that the record stands on.
    pub timeline: u32,
    /// Where the commit record begins.
    pub lsn: Lsn,
    /// The low 32 bits of the transaction's id.
    pub xid: u32,
}

/// Commit records by epoch: the same xid and LSN name different transactions on different timelines, so a commit is
/// found by the epoch that its transaction was tried in.
pub type CommitOrder = BTreeMap<Epoch, BTreeMap<u32, Commit>>;

/// The rows of one table, by key; a table without a key is a multiset of images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableState {
    /// Rows of a keyed table.
    pub keyed: BTreeMap<Key, Row>,
    /// Rows of a table without a key, with how often each stands there.
    pub unkeyed: BTreeMap<Row, u64>,
}

/// The state of several tables.
pub type Tables = BTreeMap<TableName, TableState>;

impl TableState {
    /// How many rows.
    pub fn len(&self) -> u64 {
        self.keyed.len() as u64 + self.unkeyed.values().sum::<u64>()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Applies one change.
    pub fn apply(&mut self, change: &Change) {
        if change.key.is_none() {
            if let Some(before) = &change.before
                && let Some(count) = self.unkeyed.get_mut(before)
            {
                *count -= 1;
                if *count == 0 {
                    self.unkeyed.remove(before);
                }
            }
            if let Some(after) = &change.after {
                *self.unkeyed.entry(after.clone()).or_default() += 1;
            }
            return;
        }
        if let Some(gone) = change.key_before.as_ref().or(change.key.as_ref().filter(|_| change.after.is_none())) {
            self.keyed.remove(gone);
        }
        if let (Some(key), Some(after)) = (&change.key, &change.after) {
            self.keyed.insert(key.clone(), after.clone());
        }
    }
}

/// Everything the workload did, with what is known of the order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// All transactions tried, in no order.
    pub entries: Vec<Entry>,
    /// Where each committed.
    pub order: CommitOrder,
    /// Tokens of unknown outcome that were found in the database, and so committed.
    pub settled: BTreeSet<String>,
}

impl Ledger {
    /// Whether the transaction is known to have committed.
    pub fn committed(&self, entry: &Entry) -> bool {
        match entry.outcome {
            Outcome::Acknowledged => true,
            Outcome::Failed => false,
            Outcome::Unknown => self.settled.contains(&entry.token),
        }
    }

    /// Where the transaction committed, if the WAL says.
    pub fn commit(&self, entry: &Entry) -> Option<Commit> {
        self.order.get(&entry.epoch)?.get(&(entry.xid? as u32)).copied()
    }

    /// The committed transactions in commit order: by epoch, then by the position of the commit record. One whose commit
    /// record was not found sorts last in its epoch.
    pub fn in_commit_order(&self) -> Vec<&Entry> {
        let mut entries: Vec<&Entry> = self.entries.iter().filter(|e| self.committed(e)).collect();
        entries.sort_by_key(|e| (e.epoch, self.commit(e).map_or(Lsn(u64::MAX), |c| c.lsn), e.writer, e.sequence));
        entries
    }

    /// Replays committed transactions that `keep` accepts, in commit order, onto `tables`.
    pub fn replay(&self, tables: &mut Tables, keep: impl Fn(&Entry, Option<Commit>) -> bool) {
        for entry in self.in_commit_order() {
            if !keep(entry, self.commit(entry)) {
                continue;
            }
            for change in &entry.changes {
                tables.entry(change.table.clone()).or_default().apply(change);
            }
        }
    }
}
