//! How many rows each published table has at a known position of the WAL, and a digest of them: what a restore to exactly that position must
//! give again. A base backup proves its pages against its own list; only this was read from the server by another way.
//!
//! The snapshot is the one that PostgreSQL exports with a temporary logical slot: it sees each transaction that committed before the slot's
//! consistent point, and none that committed from there on (`SnapBuildExportSnapshot`, PostgreSQL 15 to 18). An ordinary snapshot has no
//! such position: a commit is in the WAL before it becomes visible. Slots are of a database, so each database has a position of its own.

use serde::{Deserialize, Serialize};

use crate::backup::BackupError;
use cdc_model::units::{Lsn, TableName, counted};
use cdc_pipeline::{
    client::{ClientError, limits, postgres::Postgres, postgres::with_database},
    config::PostgresConfig,
};
use cdc_postgres::sql;

/// The fingerprints of a point: `pg/fingerprints.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprints {
    /// Those of each database that clients may connect to.
    pub databases: Vec<DatabaseFingerprints>,
}

/// The fingerprints of a database's tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseFingerprints {
    /// The database.
    pub database: String,
    /// The position of the snapshot: a restore that stops just before it has the same rows. Null where nothing was read.
    pub lsn: Option<Lsn>,
    /// Each published table, by name.
    pub tables: Vec<TableFingerprint>,
    /// Why there are none, or what was left out; empty where everything was read.
    pub left_out: Vec<String>,
}

/// How many rows a table has, and a digest of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFingerprint {
    /// The table; a partition, of a partitioned one.
    pub table: TableName,
    /// Its rows.
    pub rows: u64,
    /// The sums of two halves of each row's SHA-256, of the row as PostgreSQL prints it in UTC: the same rows in any order give the same.
    /// Made against mistakes, and not against somebody who looks for another table of the same digest.
    pub digest: String,
}

/// Takes the fingerprints of all databases, or says why not: a point is worth having without them.
pub(super) async fn capture(config: &PostgresConfig, databases: &[String], slot: &str) -> Fingerprints {
    let mut all = Vec::new();
    for database in databases {
        all.push(match of_database(config, database, slot).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "no fingerprints of the tables in {database}");
                DatabaseFingerprints {
                    database: database.clone(),
                    lsn: None,
                    tables: Vec::new(),
                    left_out: vec![error.to_string()],
                }
            }
        });
    }
    Fingerprints { databases: all }
}

async fn of_database(config: &PostgresConfig, database: &str, slot: &str) -> Result<DatabaseFingerprints, BackupError> {
    let session = Postgres::connect_database(&config.url, database, "cdc-drill fingerprints").await?;
    let none = |why: &str| DatabaseFingerprints {
        database: database.to_owned(),
        lsn: None,
        tables: Vec::new(),
        left_out: vec![why.to_owned()],
    };
    if published(&session).await?.is_empty() {
        return Ok(none("no table is published"));
    }
    let level = session.text("show wal_level").await?.unwrap_or_default();
    if level != "logical" {
        return Ok(none(&format!("wal_level is {level}: a snapshot with a known position needs logical")));
    }
    let lsn = begin_at_a_known_position(config, database, &session, slot).await?;
    let tables = published(&session).await?;
    let mut found = Vec::new();
    let mut left_out = Vec::new();
    for table in &tables {
        // As pg_dump does: a table that is rewritten later would be empty to this snapshot.
        session.run(&format!("lock table only {} in access share mode", table.quoted())).await?;
    }
    for table in tables {
        match read(&session, &table).await? {
            Some(fingerprint) => found.push(fingerprint),
            None => left_out.push(format!("{table} is not there any more")),
        }
    }
    session.run("commit").await?;
    Ok(DatabaseFingerprints { database: database.to_owned(), lsn: Some(lsn), tables: found, left_out })
}

/// Begins a transaction in a snapshot whose position is known.
async fn begin_at_a_known_position(
    config: &PostgresConfig,
    database: &str,
    session: &Postgres,
    slot: &str,
) -> Result<Lsn, BackupError> {
    let sender = Postgres::connect_walsender(&with_database(&config.url, database), "cdc-drill fingerprints").await?;
    // Until the transactions end that run now; somebody's that was forgotten must not hold the backup up.
    let patience = limits::postgres::RUNNING_TRANSACTIONS.now().as_millis();
    sender.run(&format!("set lock_timeout = {patience}")).await?;
    let name = sql::identifier(slot);
    let made =
        sender.texts(&format!("CREATE_REPLICATION_SLOT {name} TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT")).await?;
    let row = made.into_iter().next().unwrap_or_default();
    let column = |at: usize| row.get(at).cloned().flatten();
    let (Some(at), Some(snapshot)) = (column(1), column(2)) else {
        let what = "CREATE_REPLICATION_SLOT";
        let expected = "a consistent point and a snapshot";
        return Err(ClientError::answer("postgres", sender.address(), what, expected, format!("{row:?}")).into());
    };
    let lsn: Lsn = at.parse().map_err(|e: cdc_model::units::LsnError| {
        ClientError::answer("postgres", sender.address(), "CREATE_REPLICATION_SLOT", "a position", e.to_string())
    })?;
    session
        .run(&format!(
            "begin transaction isolation level repeatable read read only; set transaction snapshot {}",
            sql::literal(&snapshot)
        ))
        .await?;
    // The transaction keeps what it sees; the slot would keep WAL, and stand in the list of slots.
    sender.texts(&format!("DROP_REPLICATION_SLOT {name}")).await?;
    Ok(lsn)
}

/// The tables whose changes go to some publication, by name; of a partitioned one those of its partitions that hold rows here.
async fn published(session: &Postgres) -> Result<Vec<TableName>, ClientError> {
    let rows = session
        .texts(
            "with listed as (select distinct c.oid, c.relkind from pg_catalog.pg_publication_tables t \
             join pg_catalog.pg_namespace n on n.nspname = t.schemaname \
             join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.tablename), \
             leaves as (select oid from listed where relkind = 'r' union \
             select p.relid::oid from listed, pg_catalog.pg_partition_tree(listed.oid) p where listed.relkind = 'p' and p.isleaf) \
             select n.nspname, c.relname from leaves join pg_catalog.pg_class c on c.oid = leaves.oid and c.relkind = 'r' \
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace order by 1, 2",
        )
        .await?;
    let name = |row: Vec<Option<String>>| {
        let mut columns = row.into_iter().flatten();
        Some(TableName::new(columns.next()?, columns.next()?))
    };
    Ok(rows.into_iter().filter_map(name).collect())
}

/// The fingerprint of a table as the session sees it; none where there is no such table.
pub async fn read(session: &Postgres, table: &TableName) -> Result<Option<TableFingerprint>, ClientError> {
    let there = session.text(&format!("select to_regclass({})", sql::literal(&table.quoted()))).await?;
    if there.is_none() {
        return Ok(None);
    }
    let row = session.texts(&statement(table)).await?.into_iter().next().unwrap_or_default();
    let column = |at: usize| row.get(at).cloned().flatten();
    let rows = column(0).and_then(|rows| rows.parse().ok());
    let (Some(rows), Some(first), Some(second)) = (rows, column(1), column(2)) else {
        let expected = "a count and two sums";
        let (what, found) = (format!("fingerprint of {table}"), format!("{row:?}"));
        return Err(ClientError::answer("postgres", session.address(), &what, expected, found));
    };
    Ok(Some(TableFingerprint { table: table.clone(), rows, digest: format!("{first}.{second}") }))
}

/// Rows are hashed where they are: only three numbers leave the server. The bytes are those of the database's own encoding.
fn statement(table: &TableName) -> String {
    let half = |from: u32| format!("coalesce(sum(('x' || substr(h, {from}, 16))::bit(64)::bigint), 0)::text");
    format!(
        "select count(*)::text, {}, {} from (select encode(sha256(convert_to(cdc_drill_row::text, getdatabaseencoding())), 'hex') as h \
         from only {} as cdc_drill_row) as hashed",
        half(1),
        half(17),
        table.quoted()
    )
}

impl Fingerprints {
    /// The positions at which something was read, lowest first, each with the databases that were read there.
    pub fn positions(&self) -> Vec<(Lsn, Vec<&DatabaseFingerprints>)> {
        let mut positions: Vec<(Lsn, Vec<&DatabaseFingerprints>)> = Vec::new();
        let mut read: Vec<(Lsn, &DatabaseFingerprints)> =
            self.databases.iter().filter_map(|of| Some((of.lsn?, of))).collect();
        read.sort_by_key(|(lsn, _)| *lsn);
        for (lsn, of) in read {
            match positions.last_mut() {
                Some((at, all)) if *at == lsn => all.push(of),
                _ => positions.push((lsn, vec![of])),
            }
        }
        positions
    }

    /// `3 tables with 812 rows`.
    pub fn describe(&self) -> String {
        let tables: usize = self.databases.iter().map(|of| of.tables.len()).sum();
        let rows: u64 = self.databases.iter().flat_map(|of| &of.tables).map(|table| table.rows).sum();
        format!("{} with {}", counted(tables, "table"), counted(rows, "row"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_that_were_read_at_one_position_are_restored_once() {
        let of = |database: &str, lsn: Option<u64>| DatabaseFingerprints {
            database: database.into(),
            lsn: lsn.map(Lsn),
            tables: Vec::new(),
            left_out: Vec::new(),
        };
        let all = Fingerprints { databases: vec![of("a", Some(9)), of("b", None), of("c", Some(4)), of("d", Some(9))] };
        let names: Vec<(u64, Vec<&str>)> =
            all.positions().iter().map(|(at, of)| (at.0, of.iter().map(|of| of.database.as_str()).collect())).collect();
        assert_eq!(names, [(4, vec!["c"]), (9, vec!["a", "d"])]);
    }

    #[test]
    fn a_tables_own_column_is_not_taken_for_its_row() {
        let text = statement(&TableName::new("public", "t\"t"));
        assert!(text.contains(r#"from only "public"."t""t" as cdc_drill_row"#), "{text}");
    }
}
