//! The tables that a drill adds to somebody else's schema.

use std::collections::BTreeSet;

use crate::WorkloadError;
use cdc_model::units::{RowKey, TableName};
use cdc_pipeline::client::postgres::Postgres;

/// The table with two rows of each transaction, by name in schema `public`.
pub const TRANSACTIONS: &str = "drill_transactions";
/// The table with marker rows, by name in schema `public`.
pub const MARKERS: &str = "markers";

/// The columns of the key, in its order.
const KEY: [&str; 2] = ["drill_token", "part"];

/// The rows that bracket a transaction's own statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Begin,
    End,
}

impl Part {
    pub(super) fn word(self) -> &'static str {
        match self {
            Part::Begin => "begin",
            Part::End => "end",
        }
    }
}

/// The table with the transactions' rows.
pub(super) fn transactions() -> TableName {
    TableName::new("public", TRANSACTIONS)
}

/// The tables that [`lay`] makes.
pub fn tables() -> Vec<TableName> {
    vec![transactions(), TableName::new("public", MARKERS)]
}

/// The key of a transaction's row.
pub(super) fn key(row: &crate::Row) -> RowKey {
    RowKey::new(KEY.map(|name| (name, row.text(name))))
}

/// Makes the tables, before the publication. A schema may bring its own `public.markers`, with at least the columns of
/// `fixtures/sql/pgbench.sql`; one that brings another table of either name is an error.
pub async fn lay(pg: &Postgres) -> Result<(), WorkloadError> {
    lay_markers(pg, &TableName::new("public", MARKERS)).await?;
    pg.run(
        "create table if not exists public.drill_transactions ( \
             drill_token text not null, \
             part        text not null, \
             name        text not null, \
             writer      integer not null, \
             primary key (drill_token, part))",
    )
    .await?;
    has(pg, transactions(), "drill_token, part, name, writer").await
}

/// Makes a table for marker rows in schema `public`, where there is none.
pub async fn lay_markers(pg: &Postgres, table: &TableName) -> Result<(), WorkloadError> {
    pg.run(&format!(
        "create schema if not exists public; \
         create table if not exists {} ( \
             id          bigint generated always as identity primary key, \
             note        text not null, \
             placed_at   timestamptz not null default now(), \
             drill_token text not null)",
        table.quoted()
    ))
    .await?;
    has(pg, table.clone(), "id, note, drill_token").await
}

async fn has(pg: &Postgres, table: TableName, expected: &'static str) -> Result<(), WorkloadError> {
    let rows = pg
        .texts(&format!(
            "select attname from pg_attribute where attrelid = '{}'::regclass and attnum > 0 and not attisdropped",
            table.quoted()
        ))
        .await?;
    let there: BTreeSet<String> = rows.into_iter().flatten().flatten().collect();
    if !expected.split(", ").all(|column| there.contains(column)) {
        let found = there.into_iter().collect::<Vec<_>>().join(", ");
        return Err(WorkloadError::Taken { table, address: pg.address().to_owned(), expected, found });
    }
    Ok(())
}

/// The tokens of the transactions whose last row is there: those that committed.
pub async fn present_tokens(pg: &Postgres) -> Result<BTreeSet<String>, WorkloadError> {
    let rows = pg.texts("select drill_token from public.drill_transactions where part = 'end'").await?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}
