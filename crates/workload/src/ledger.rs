//! The workload's own record of every transaction it tried: the pure model, shared with `verify`.
//!
//! On disk a ledger is a folder with one JSON-lines file a writer: an [`Entry`] with outcome unknown, durable before COMMIT
//! is sent, and a line with its outcome, durable before the writer's next transaction begins. The ledger never says in
//! which order transactions committed: that comes from the WAL ([`CommitOrder`]).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Row;
use cdc_model::units::{Epoch, Lsn, RowKey, TableName, Timeline, pairs};

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
    pub key: Option<RowKey>,
    /// The key before, where the change changed it.
    pub key_before: Option<RowKey>,
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
    pub timeline: Timeline,
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
    #[serde(with = "pairs")]
    pub keyed: BTreeMap<RowKey, Row>,
    /// Rows of a table without a key, with how often each stands there.
    #[serde(with = "pairs")]
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(id: u8, value: u8) -> Row {
        Row::default().with("id", Some(&id.to_string())).with("v", Some(&value.to_string()))
    }

    fn key(id: u8) -> RowKey {
        RowKey::new([("id", Some(id.to_string().as_str()))])
    }

    /// Does to a plain map what a server would do, and writes down the change; nothing where a server would refuse.
    fn change(rows: &mut BTreeMap<u8, u8>, (what, id, to): (u8, u8, u8)) -> Option<Change> {
        let there = rows.contains_key(&id);
        let (op, key_after, key_before, after) = match what % 4 {
            0 if !there => (Op::Insert, id, None, Some(row(id, to))),
            1 if there => (Op::Update, id, None, Some(row(id, to))),
            2 if there && !rows.contains_key(&to) => (Op::KeyChange, to, Some(key(id)), Some(row(to, rows[&id]))),
            3 if there => (Op::Delete, id, None, None),
            _ => return None,
        };
        match op {
            Op::Insert | Op::Update => drop(rows.insert(id, to)),
            Op::KeyChange => {
                let value = rows.remove(&id)?;
                rows.insert(to, value);
            }
            Op::Delete => drop(rows.remove(&id)),
        }
        let table = TableName::new("public", "t");
        Some(Change { table, op, key: Some(key(key_after)), key_before, before: None, after })
    }

    proptest! {
        /// Whatever order the writers' files are read in, replay in commit order gives the rows of the server.
        #[test]
        fn replay_in_commit_order_is_the_table(
            steps in prop::collection::vec(prop::collection::vec((0u8..4, 0u8..6, 0u8..6), 1..4), 1..40),
            shuffle in prop::collection::vec(any::<u32>(), 40),
            epochs in 1u32..3,
        ) {
            let mut rows = BTreeMap::new();
            let mut ledger = Ledger::default();
            let count = steps.len() as u32;
            for (at, step) in steps.into_iter().enumerate() {
                let at = at as u32;
                let epoch = Epoch(at * epochs / count);
                let changes: Vec<Change> = step.into_iter().filter_map(|s| change(&mut rows, s)).collect();
                // The same ids and positions are used again in the next epoch.
                let xid = 700 + ledger.order.get(&epoch).map_or(0, |commits| commits.len() as u32);
                let commit = Commit { timeline: Timeline::literal(1 + epoch.0), lsn: Lsn(u64::from(xid)), xid };
                ledger.order.entry(epoch).or_default().insert(xid, commit);
                ledger.entries.push(Entry {
                    token: at.to_string(),
                    writer: shuffle[at as usize] % 3,
                    sequence: u64::from(count - at),
                    epoch,
                    xid: Some(u64::from(xid)),
                    began_ms: 0,
                    ended_ms: 0,
                    outcome: Outcome::Acknowledged,
                    changes,
                });
            }
            ledger.entries.sort_by_key(|e| shuffle[e.token.parse::<usize>().unwrap_or_default()]);
            let mut tables = Tables::new();
            ledger.replay(&mut tables, |_, _| true);
            let expected: BTreeMap<RowKey, Row> = rows.iter().map(|(id, v)| (key(*id), row(*id, *v))).collect();
            let replayed = tables.remove(&TableName::new("public", "t")).unwrap_or_default();
            prop_assert_eq!(replayed.keyed, expected);
        }
    }

    #[test]
    fn an_unknown_outcome_counts_only_when_it_is_settled() {
        let entry = |outcome| Entry {
            token: "a".into(),
            writer: 0,
            sequence: 0,
            epoch: Epoch(0),
            xid: None,
            began_ms: 0,
            ended_ms: 0,
            outcome,
            changes: Vec::new(),
        };
        let mut ledger = Ledger::default();
        assert!(ledger.committed(&entry(Outcome::Acknowledged)) && !ledger.committed(&entry(Outcome::Unknown)));
        ledger.settled.insert("a".into());
        assert!(ledger.committed(&entry(Outcome::Unknown)) && !ledger.committed(&entry(Outcome::Failed)));
    }

    #[test]
    fn equal_rows_without_a_key_are_counted() {
        let table = TableName::new("public", "t");
        let same = |op, before: Option<Row>, after: Option<Row>| Change {
            table: table.clone(),
            op,
            key: None,
            key_before: None,
            before,
            after,
        };
        let mut state = TableState::default();
        state.apply(&same(Op::Insert, None, Some(row(1, 1))));
        state.apply(&same(Op::Insert, None, Some(row(1, 1))));
        assert_eq!(state.len(), 2);
        state.apply(&same(Op::Update, Some(row(1, 1)), Some(row(1, 2))));
        state.apply(&same(Op::Delete, Some(row(1, 1)), None));
        assert_eq!(state.unkeyed, BTreeMap::from([(row(1, 2), 1)]));
    }
}
