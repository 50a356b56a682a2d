//! Publications: what each must hold after a recovery, compared and put right before any slot is made.

use std::collections::BTreeSet;

use super::{Pipeline, Selection, discover::Source};
use crate::{
    backup::{Point, parts::postgres::Publication},
    client::postgres::Postgres,
    recovery::RecoveryError,
    units::TableName,
};

/// What a publication must be.
struct Wanted {
    name: String,
    all_tables: bool,
    tables: BTreeSet<TableName>,
    options: Vec<String>,
}

impl Pipeline {
    /// Makes each source's publication hold what the recovery point recorded (of what still exists), or, where it
    /// recorded nothing, what the connector captures. Returns how many were changed.
    pub(crate) async fn publish(&self, point: Option<&Point>) -> Result<usize, RecoveryError> {
        let mut changed = 0;
        for source in &self.sources {
            let server = self.session(source).await?;
            let wanted = wanted(&server, source, point).await?;
            changed += usize::from(correct(&server, &wanted).await?);
        }
        Ok(changed)
    }

    /// Requires that each publication holds the captured tables.
    pub(crate) async fn published(&self, step: &str) -> Result<String, RecoveryError> {
        let mut tables = 0;
        for source in &self.sources {
            let server = self.session(source).await?;
            let listed = published_tables(&server, &source.publication).await?;
            let captured = captured_tables(&server, &source.selection).await?;
            let published: BTreeSet<&TableName> = captured.iter().filter(|t| listed.contains(*t)).collect();
            if let Some(missing) = captured.iter().find(|t| !listed.contains(*t))
                && !source.selection.takes_all()
            {
                return Err(RecoveryError::unmet(
                    step,
                    format!("table {missing} in publication {} of {}", source.publication, source.database),
                    format!("{} tables in it", listed.len()),
                ));
            }
            tables += published.len();
        }
        Ok(format!("{} publications, {tables} captured tables in them", self.sources.len()))
    }

    /// A session in the source's database.
    pub(crate) async fn session(&self, source: &Source) -> Result<Postgres, RecoveryError> {
        let url = &self.config.postgres.url;
        Ok(Postgres::connect_database(url, &source.database, "cdc-drill-recovery").await?)
    }
}

/// The tables of a database that a connector captures. Partitions are published through their root.
pub(crate) async fn captured_tables(
    server: &Postgres,
    selection: &Selection,
) -> Result<BTreeSet<TableName>, RecoveryError> {
    let sql = "select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace \
               where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence = 'p' \
               and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg\\_toast%'";
    let rows = server.texts(sql).await?;
    let tables = rows.into_iter().filter_map(table_of_row);
    Ok(tables.filter(|t| selection.takes(t)).collect())
}

async fn published_tables(server: &Postgres, publication: &str) -> Result<BTreeSet<TableName>, RecoveryError> {
    let sql =
        format!("select schemaname, tablename from pg_publication_tables where pubname = {}", literal(publication));
    Ok(server.texts(&sql).await?.into_iter().filter_map(table_of_row).collect())
}

fn table_of_row(row: Vec<Option<String>>) -> Option<TableName> {
    let mut cells = row.into_iter();
    Some(TableName::new(cells.next()??, cells.next()??))
}

async fn wanted(server: &Postgres, source: &Source, point: Option<&Point>) -> Result<Wanted, RecoveryError> {
    let existing = captured_tables(server, &Selection::default()).await?;
    let saved = match point {
        Some(point) => point.publications()?,
        None => Vec::new(),
    };
    let saved: Option<Publication> = saved
        .into_iter()
        .filter(|d| d.database == source.database)
        .flat_map(|d| d.publications)
        .find(|p| p.name == source.publication);
    let captured = existing.iter().filter(|t| source.selection.takes(t)).cloned();
    Ok(match saved {
        Some(saved) => {
            let kinds = [
                ("insert", saved.insert),
                ("update", saved.update),
                ("delete", saved.delete),
                ("truncate", saved.truncate),
            ];
            let kinds: Vec<&str> = kinds.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
            let via_root = format!("publish_via_partition_root = {}", saved.via_root);
            Wanted {
                name: saved.name,
                all_tables: saved.all_tables,
                tables: saved.tables.into_iter().filter(|t| existing.contains(t)).collect(),
                options: vec![format!("publish = '{}'", kinds.join(", ")), via_root],
            }
        }
        None => Wanted {
            name: source.publication.clone(),
            all_tables: source.selection.takes_all(),
            tables: captured.collect(),
            options: Vec::new(),
        },
    })
}

/// Creates the publication, or adds what it lacks; tables it has beyond that are left to it.
async fn correct(server: &Postgres, wanted: &Wanted) -> Result<bool, RecoveryError> {
    let name = identifier(&wanted.name);
    let exists = format!("select puballtables from pg_publication where pubname = {}", literal(&wanted.name));
    let list = |tables: Vec<&TableName>| tables.into_iter().map(TableName::quoted).collect::<Vec<_>>().join(", ");
    match server.text(&exists).await?.as_deref() {
        None => {
            let options = if wanted.options.is_empty() {
                String::new()
            } else {
                format!(" with ({})", wanted.options.join(", "))
            };
            let subject = if wanted.all_tables {
                " for all tables".to_owned()
            } else if wanted.tables.is_empty() {
                String::new()
            } else {
                format!(" for table {}", list(wanted.tables.iter().collect()))
            };
            server.run(&format!("create publication {name}{subject}{options}")).await?;
            Ok(true)
        }
        // It has every table there is and will be.
        Some("t") => Ok(false),
        Some(_) => {
            let listed = published_tables(server, &wanted.name).await?;
            let lacking: Vec<&TableName> = wanted.tables.iter().filter(|t| !listed.contains(*t)).collect();
            if lacking.is_empty() {
                return Ok(false);
            }
            server.run(&format!("alter publication {name} add table {}", list(lacking))).await?;
            Ok(true)
        }
    }
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as an SQL literal.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
