//! One connection, and one transaction on it.

use super::shape::{Cell, Shape, table, tables};
use crate::{
    Catalogue, Row, WorkloadError,
    capture::Images,
    ledger::{Change, Op},
};
use cdc_model::units::{Secret, Timeline};
use cdc_pipeline::client::{ClientError, postgres::Postgres};
use cdc_postgres::sql::{identifier, literal};

/// A connection of a writer, with what it must know of the tables.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) pg: Postgres,
    /// The timeline that the server writes on.
    pub(super) timeline: Timeline,
    shape: Shape,
    catalogue: Catalogue,
}

impl Session {
    /// Connects; a server that is still in recovery does not take writers and is an error.
    pub(super) async fn open(url: &Secret, writer: u32) -> Result<Session, WorkloadError> {
        let pg = Postgres::connect(url, &format!("cdc-drill writer {writer}")).await?;
        let timeline = pg.timeline().await?;
        let shape = Shape::read(&pg).await?;
        let catalogue = Catalogue::read(&pg, &tables()).await?;
        Ok(Session { pg, timeline, shape, catalogue })
    }

    /// Reads the tables' columns again.
    pub(super) async fn refresh(&mut self) -> Result<(), WorkloadError> {
        self.shape = Shape::read(&self.pg).await?;
        self.catalogue = Catalogue::read(&self.pg, &tables()).await?;
        Ok(())
    }
}

/// An open transaction: what it did so far, with the images that the server gave.
#[derive(Debug)]
pub(super) struct Transaction<'s> {
    session: &'s Session,
    pub(super) token: String,
    pub(super) xid: u64,
    pub(super) changes: Vec<Change>,
}

impl<'s> Transaction<'s> {
    pub(super) async fn begin(session: &'s Session, token: String) -> Result<Transaction<'s>, ClientError> {
        session.pg.run("begin").await?;
        let xid = session.pg.value("select pg_current_xact_id()").await?;
        Ok(Transaction { session, token, xid, changes: Vec::new() })
    }

    /// A statement without rows: `savepoint s`.
    pub(super) async fn run(&self, sql: &str) -> Result<(), ClientError> {
        self.session.pg.run(sql).await
    }

    pub(super) async fn insert(&mut self, name: &str, rows: &[Vec<Cell>]) -> Result<Vec<Row>, ClientError> {
        let token = literal(&self.token);
        let mut columns = String::new();
        let mut tuples = Vec::with_capacity(rows.len());
        for cells in rows {
            let mut row = self.session.shape.new_row(name, cells);
            row.retain(|(column, _)| column != "drill_token");
            row.push(("drill_token".into(), token.clone()));
            if columns.is_empty() {
                columns = row.iter().map(|(c, _)| identifier(c)).collect::<Vec<_>>().join(", ");
            }
            tuples.push(format!("({})", row.into_iter().map(|(_, l)| l).collect::<Vec<_>>().join(", ")));
        }
        let target = table(name).quoted();
        let sql = format!("insert into {target} ({columns}) values {} returning *", tuples.join(", "));
        let after = self.rows(&sql).await?;
        for row in &after {
            self.record(name, Op::Insert, None, Some(row.clone()));
        }
        Ok(after)
    }

    /// Updates the rows of a keyed table and leaves their keys alone.
    pub(super) async fn update(&mut self, name: &str, set: &[Cell], filter: &str) -> Result<Vec<Row>, ClientError> {
        let after = self.rows(&self.update_sql(name, set, filter)).await?;
        for row in &after {
            self.record(name, Op::Update, None, Some(row.clone()));
        }
        Ok(after)
    }

    /// Updates one row of a keyed table and its key with it.
    pub(super) async fn change_key(&mut self, name: &str, set: &[Cell], filter: &str) -> Result<Vec<Row>, ClientError> {
        let target = table(name);
        let before = self.rows(&format!("select * from {} where {filter} for update", target.quoted())).await?;
        let after = self.rows(&self.update_sql(name, set, filter)).await?;
        for (before, after) in before.iter().zip(&after) {
            let key_before = self.session.catalogue.key(&target, before);
            self.record(name, Op::KeyChange, None, Some(after.clone()));
            if let Some(change) = self.changes.last_mut() {
                change.key_before = key_before;
            }
        }
        Ok(after)
    }

    /// Updates rows of a table without a key: only their images before tell which they were.
    pub(super) async fn update_unkeyed(&mut self, name: &str, set: &[Cell], filter: &str) -> Result<(), ClientError> {
        let order = "order by ctid";
        let target = table(name).quoted();
        let before = self.rows(&format!("select * from {target} where {filter} {order} for update")).await?;
        let after = self.rows(&self.update_sql(name, set, filter)).await?;
        for (before, after) in before.into_iter().zip(after) {
            self.record(name, Op::Update, Some(before), Some(after));
        }
        Ok(())
    }

    pub(super) async fn delete(&mut self, name: &str, filter: &str) -> Result<Vec<Row>, ClientError> {
        let gone = self.rows(&format!("delete from {} where {filter} returning *", table(name).quoted())).await?;
        for row in &gone {
            self.record(name, Op::Delete, Some(row.clone()), None);
        }
        Ok(gone)
    }

    fn update_sql(&self, name: &str, set: &[Cell], filter: &str) -> String {
        let mut set = self.session.shape.assignments(name, set);
        set.push(("drill_token".into(), literal(&self.token)));
        let set: Vec<String> =
            set.into_iter().map(|(column, literal)| format!("{} = {literal}", identifier(&column))).collect();
        format!("update {} set {} where {filter} returning *", table(name).quoted(), set.join(", "))
    }

    /// Writes a change down. The row before stands there only where nothing else names the row.
    fn record(&mut self, name: &str, op: Op, before: Option<Row>, after: Option<Row>) {
        let table = table(name);
        let key = after.as_ref().or(before.as_ref()).and_then(|row| self.session.catalogue.key(&table, row));
        let before = before.filter(|_| key.is_none());
        self.changes.push(Change { table, op, key, key_before: None, before, after });
    }

    async fn rows(&self, sql: &str) -> Result<Vec<Row>, ClientError> {
        let what = || sql.chars().take(80).collect::<String>();
        let messages = self.session.pg.simple_query(sql).await.map_err(|e| self.session.pg.error(&what(), &e))?;
        Ok(Images::of(&messages))
    }
}
