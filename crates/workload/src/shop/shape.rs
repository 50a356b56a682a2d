//! The tables as they are now: a drill may have changed a column under the workload's feet.

use std::collections::BTreeMap;

use crate::WorkloadError;
use cdc_model::units::TableName;
use cdc_pipeline::client::postgres::Postgres;

/// The tables that the workload writes, parents first. The `markers` table is not among them: it is written by whoever
/// waits for quiet, and stands in no ledger.
pub const TABLES: [&str; 7] = ["customers", "products", "orders", "order_lines", "shipments", "documents", "audit_log"];

/// The tables that the workload writes, in schema `public`.
pub fn tables() -> Vec<TableName> {
    TABLES.iter().map(|name| table(name)).collect()
}

pub(crate) fn table(name: &str) -> TableName {
    TableName::new("public", name)
}

/// A column and the SQL literal to put into it.
pub(crate) type Cell = (&'static str, String);

#[derive(Clone, Debug)]
struct Column {
    name: String,
    nullable: bool,
    /// NOT NULL, and nothing fills it by itself.
    required: bool,
    kind: String,
}

/// The columns of the workload's tables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shape {
    tables: BTreeMap<String, Vec<Column>>,
}

impl Shape {
    pub(crate) async fn read(pg: &Postgres) -> Result<Shape, WorkloadError> {
        let rows = pg
            .texts(
                "select c.relname, a.attname, not a.attnotnull, \
                 a.attnotnull and not a.atthasdef and a.attidentity = '', format_type(a.atttypid, null) \
                 from pg_attribute a join pg_class c on c.oid = a.attrelid \
                 where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped \
                 order by c.relname, a.attnum",
            )
            .await?;
        let mut shape = Shape::default();
        for row in rows {
            let cell = |i: usize| row.get(i).cloned().flatten().unwrap_or_default();
            let column = Column { name: cell(1), nullable: cell(2) == "t", required: cell(3) == "t", kind: cell(4) };
            shape.tables.entry(cell(0)).or_default().push(column);
        }
        for name in TABLES {
            let found = match shape.tables.get(name) {
                None => "no such table",
                Some(columns) if !columns.iter().any(|c| c.name == "drill_token") => "no column drill_token",
                Some(_) => continue,
            };
            let address = pg.address().to_owned();
            return Err(WorkloadError::Schema { table: table(name), address, found: found.into() });
        }
        Ok(shape)
    }

    /// The assignments that fit the table: columns that are gone are left out, NULL gives way where it is not allowed.
    pub(crate) fn assignments(&self, table: &str, cells: &[Cell]) -> Vec<(String, String)> {
        let columns = self.tables.get(table).map(Vec::as_slice).unwrap_or_default();
        let fits = cells.iter().filter_map(|(name, literal)| {
            let column = columns.iter().find(|c| c.name == *name)?;
            let literal = if literal == "null" && !column.nullable { filler(&column.kind) } else { literal.clone() };
            Some(((*name).to_owned(), literal))
        });
        fits.collect()
    }

    /// The values of a new row that fit the table: as [`Shape::assignments`], and columns that somebody added and that
    /// nothing fills get a value.
    pub(crate) fn new_row(&self, table: &str, cells: &[Cell]) -> Vec<(String, String)> {
        let mut row = self.assignments(table, cells);
        let columns = self.tables.get(table).map(Vec::as_slice).unwrap_or_default();
        for column in columns.iter().filter(|c| c.required) {
            if !row.iter().any(|(name, _)| *name == column.name) {
                row.push((column.name.clone(), filler(&column.kind)));
            }
        }
        row
    }
}

/// A literal that a column of this type takes.
fn filler(kind: &str) -> String {
    match kind {
        "date" => "'2026-01-01'".into(),
        k if k.starts_with("timestamp") => "'2026-01-01 00:00:00'".into(),
        "uuid" => "'00000000-0000-0000-0000-000000000000'".into(),
        "bytea" => "'\\x00'".into(),
        k if k.ends_with("[]") => "'{}'".into(),
        _ => "'0'".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_table_still_takes_rows() {
        let column = |name: &str, nullable, required, kind: &str| Column {
            name: name.into(),
            nullable,
            required,
            kind: kind.into(),
        };
        let columns = vec![
            column("id", false, true, "bigint"),
            column("channel", false, true, "text"),
            column("added", false, true, "integer"),
            column("number", false, false, "bigint"),
        ];
        let shape = Shape { tables: BTreeMap::from([("orders".to_owned(), columns)]) };
        let row = shape.new_row("orders", &[("id", "'7'".into()), ("channel", "null".into()), ("gone", "'x'".into())]);
        let row: Vec<(&str, &str)> = row.iter().map(|(c, l)| (c.as_str(), l.as_str())).collect();
        assert_eq!(row, [("id", "'7'"), ("channel", "'0'"), ("added", "'0'")]);
    }
}
