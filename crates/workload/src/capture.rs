//! What stands in the tables, as canonical images.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
};

use futures::TryStreamExt;
use tokio_postgres::SimpleQueryMessage;

use super::{
    Row, RowShape, WorkloadError,
    ledger::{CommitOrder, Entry, Ledger, Outcome, TableState, Tables},
};
use cdc_model::units::{KeyColumns, RowKey, Secret, TableName};
use cdc_pipeline::client::postgres::Postgres;
use cdc_postgres::sql::literal;

/// The keys of tables, in key order; a table without a primary key has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// Key columns by table.
    pub keys: BTreeMap<TableName, KeyColumns>,
}

impl Catalogue {
    /// Reads the primary keys of the tables. A table that is not there is an error.
    pub async fn read(pg: &Postgres, tables: &[TableName]) -> Result<Catalogue, WorkloadError> {
        let rows = pg
            .texts(
                "select n.nspname, c.relname, a.attname \
                 from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                 left join pg_index i on i.indrelid = c.oid and i.indisprimary \
                 left join lateral unnest(i.indkey::int2[]) with ordinality as k(attnum, place) on true \
                 left join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum \
                 where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema') \
                 order by 1, 2, k.place",
            )
            .await?;
        let mut all: BTreeMap<TableName, Vec<String>> = BTreeMap::new();
        for row in rows {
            let mut cells = row.into_iter();
            let mut next = || cells.next().flatten();
            let table = TableName::new(next().unwrap_or_default(), next().unwrap_or_default());
            all.entry(table).or_default().extend(next());
        }
        let mut keys = BTreeMap::new();
        for table in tables {
            let columns = all.remove(table).ok_or_else(|| WorkloadError::Schema {
                table: table.clone(),
                address: pg.address().to_owned(),
                found: "no such table".into(),
            })?;
            keys.insert(table.clone(), KeyColumns::new(columns.iter().map(String::as_str)));
        }
        Ok(Catalogue { keys })
    }

    /// The key of a row; `None` for a table without one.
    pub fn key(&self, table: &TableName, row: &Row) -> Option<RowKey> {
        self.keys.get(table).filter(|columns| !columns.is_empty()).map(|columns| columns.key(|name| row.text(name)))
    }
}

/// Reads all rows of the tables in one repeatable-read snapshot.
pub async fn capture(url: &Secret, tables: &[TableName]) -> Result<Tables, WorkloadError> {
    let pg = Postgres::connect(url, "cdc-drill capture").await?;
    let catalogue = Catalogue::read(&pg, tables).await?;
    pg.run("begin isolation level repeatable read read only").await?;
    let mut captured = Tables::new();
    for table in tables {
        captured.insert(table.clone(), capture_table(&pg, &catalogue, table).await?);
    }
    pg.run("commit").await?;
    Ok(captured)
}

async fn capture_table(pg: &Postgres, catalogue: &Catalogue, table: &TableName) -> Result<TableState, WorkloadError> {
    let mut state = TableState::default();
    let sql = format!("select * from {}", table.quoted());
    let fail = |e: tokio_postgres::Error| WorkloadError::from(pg.error(&format!("read table {table}"), &e));
    let mut messages = pin!(pg.simple_query_raw(&sql).await.map_err(fail)?);
    let mut images = Images::default();
    while let Some(message) = messages.try_next().await.map_err(fail)? {
        let Some(row) = images.image(&message) else { continue };
        match catalogue.key(table, &row) {
            Some(key) => drop(state.keyed.insert(key, row)),
            None => *state.unkeyed.entry(row).or_default() += 1,
        }
    }
    Ok(state)
}

/// Makes images of the rows that a simple query returns.
#[derive(Default)]
pub(crate) struct Images(Option<RowShape>);

impl Images {
    /// The image of a row; `None` for a message that is none.
    fn image(&mut self, message: &SimpleQueryMessage) -> Option<Row> {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                self.0 = Some(RowShape::new(columns.iter().map(|c| c.name())));
                None
            }
            SimpleQueryMessage::Row(row) => Some(self.0.as_ref()?.row(|place| row.get(place))),
            _ => None,
        }
    }

    /// Of all rows of the messages.
    pub(crate) fn of(messages: &[SimpleQueryMessage]) -> Vec<Row> {
        let mut images = Images::default();
        messages.iter().filter_map(|message| images.image(message)).collect()
    }
}

/// The tokens of the transactions whose row in `public.audit_log` is there: those that committed.
pub async fn present_tokens(pg: &Postgres) -> Result<BTreeSet<String>, WorkloadError> {
    let rows = pg.texts("select drill_token from public.audit_log where kind = 'token'").await?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}

/// Settles unknown outcomes: a transaction committed if its token is in the database, or its commit record in the WAL of
/// its epoch. The record counts too because a restore to an earlier target takes tokens away again.
pub fn settle(entries: &[Entry], order: &CommitOrder, present: &BTreeSet<String>) -> BTreeSet<String> {
    let in_wal = |entry: &Entry| {
        let commits = order.get(&entry.epoch);
        entry.xid.zip(commits).is_some_and(|(xid, commits)| commits.contains_key(&(xid as u32)))
    };
    let unknown = entries.iter().filter(|e| e.outcome == Outcome::Unknown);
    unknown.filter(|e| present.contains(&e.token) || in_wal(e)).map(|e| e.token.clone()).collect()
}

impl Ledger {
    /// Settles the unknown outcomes of this ledger; see [`settle`].
    pub fn settle(&mut self, present: &BTreeSet<String>) {
        self.settled.extend(settle(&self.entries, &self.order, present));
    }
}

/// Leaves only the columns that `columns` names for a table: for comparing states from before and after a column came or
/// went. Tables that are not named stay as they are.
pub fn retain_columns(tables: &mut Tables, columns: &BTreeMap<TableName, BTreeSet<String>>) {
    for (table, keep) in columns {
        let Some(state) = tables.get_mut(table) else { continue };
        for row in state.keyed.values_mut() {
            *row = row.only(|column| keep.contains(column));
        }
        let mut unkeyed = BTreeMap::new();
        for (row, count) in std::mem::take(&mut state.unkeyed) {
            *unkeyed.entry(row.only(|column| keep.contains(column))).or_default() += count;
        }
        state.unkeyed = unkeyed;
    }
}

/// Commits a row in a table for markers and returns its key: a reader of the topics that sees it has seen everything
/// committed before.
pub async fn place_marker(pg: &Postgres, table: &TableName, note: &str, token: &str) -> Result<RowKey, WorkloadError> {
    let sql = format!(
        "insert into {} (note, drill_token) values ({}, {}) returning id",
        table.quoted(),
        literal(note),
        literal(token)
    );
    let id: i64 = pg.value(&sql).await?;
    Ok(RowKey::new([("id", Some(id.to_string().as_str()))]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Commit;
    use cdc_model::units::Timeline;
    use cdc_model::units::{Epoch, Lsn};

    fn entry(token: &str, epoch: u32, xid: u64, outcome: Outcome) -> Entry {
        Entry {
            token: token.into(),
            writer: 0,
            sequence: 0,
            epoch: Epoch(epoch),
            xid: Some(xid),
            began_ms: 0,
            ended_ms: 0,
            outcome,
            changes: Vec::new(),
        }
    }

    #[test]
    fn an_unknown_outcome_is_settled_by_token_or_by_its_own_epochs_commit_record() {
        let entries = [
            entry("present", 0, 700, Outcome::Unknown),
            entry("in-wal", 0, 701, Outcome::Unknown),
            entry("nowhere", 0, 702, Outcome::Unknown),
            // The same number was used again after a restore.
            entry("other-epoch", 1, 701, Outcome::Unknown),
            entry("failed", 0, 701, Outcome::Failed),
        ];
        let commit = Commit { timeline: Timeline::literal(1), lsn: Lsn(1), xid: 701 };
        let order = CommitOrder::from([(Epoch(0), BTreeMap::from([(701, commit)]))]);
        let settled = settle(&entries, &order, &BTreeSet::from(["present".to_owned()]));
        assert_eq!(settled, BTreeSet::from(["present".to_owned(), "in-wal".to_owned()]));
    }

    #[test]
    fn rows_that_become_equal_without_a_column_are_counted_together() {
        let table = TableName::new("public", "t");
        let row = |a, b| Row::default().with("a", Some(a)).with("b", Some(b));
        let mut tables = Tables::new();
        let state = tables.entry(table.clone()).or_default();
        state.unkeyed.insert(row("1", "x"), 2);
        state.unkeyed.insert(row("1", "y"), 1);
        retain_columns(&mut tables, &BTreeMap::from([(table.clone(), BTreeSet::from(["a".to_owned()]))]));
        assert_eq!(tables[&table].unkeyed, BTreeMap::from([(Row::default().with("a", Some("1")), 3)]));
    }
}
