//! The tables of a database and its publications, as a connector meets them.

use std::collections::BTreeMap;

use super::{ClientError, postgres::Postgres};
use crate::debezium::{Inheritance, Member, Operation, Operations, Publication, Relation, RelationKind};
use cdc_model::units::TableName;
use cdc_postgres::sql::literal;

/// The tables that a snapshot may read: those that JDBC calls `TABLE` or `PARTITIONED TABLE`.
const RELATIONS: &str = "select n.nspname, c.relname, c.relkind::text, c.relpersistence::text, \
    exists (select from pg_inherits i join pg_class child on child.oid = i.inhrelid \
            where i.inhparent = c.oid and not child.relispartition)::text, r.nspname, p.relname \
    from pg_class c join pg_namespace n on n.oid = c.relnamespace \
    left join (pg_inherits h join pg_class p on p.oid = h.inhparent join pg_namespace r on r.oid = p.relnamespace) \
    on h.inhrelid = c.oid and c.relispartition \
    where c.relkind in ('r', 'p') and c.relpersistence <> 't' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema' \
    order by 1, 2";

/// The tables of the session's database, by name.
pub async fn relations(session: &Postgres) -> Result<Vec<Relation>, ClientError> {
    let rows = session.texts(RELATIONS).await?;
    Ok(rows.into_iter().map(relation).collect())
}

fn relation(row: Vec<Option<String>>) -> Relation {
    let mut cells = row.into_iter();
    let mut next = || cells.next().flatten();
    let name = TableName::new(next().unwrap_or_default(), next().unwrap_or_default());
    let partitioned = next().as_deref() == Some("p");
    let unlogged = next().as_deref() == Some("u");
    let parent = next().as_deref() == Some("true");
    Relation {
        name,
        kind: match (partitioned, unlogged) {
            (true, _) => RelationKind::Partitioned,
            (_, true) => RelationKind::Unlogged,
            _ => RelationKind::Table,
        },
        inheritance: if parent && !partitioned { Inheritance::Parent } else { Inheritance::None },
        partition_of: next().and_then(|schema| Some(TableName::new(schema, next()?))),
    }
}

/// A publication of the session's database, with its tables as the server resolves them; `None` where there is none of the name.
pub async fn publication(session: &Postgres, name: &str) -> Result<Option<Publication>, ClientError> {
    let name = literal(name);
    let sql = format!(
        "select puballtables::text, pubinsert::text, pubupdate::text, pubdelete::text, pubtruncate::text, pubviaroot::text \
         from pg_publication where pubname = {name}"
    );
    let Some(flags) = session.texts(&sql).await?.into_iter().next() else { return Ok(None) };
    let on = |at: usize| flags.get(at).and_then(Option::as_deref) == Some("true");
    let sql = format!(
        "select schemaname, tablename, rowfilter, to_json(attnames)::text from pg_publication_tables where pubname = {name}"
    );
    let mut members = BTreeMap::new();
    for row in session.texts(&sql).await? {
        let mut cells = row.into_iter();
        let mut next = || cells.next().flatten();
        let table = TableName::new(next().unwrap_or_default(), next().unwrap_or_default());
        let filter = next();
        let columns = next().and_then(|names| serde_json::from_str(&names).ok()).unwrap_or_default();
        members.insert(table, Member { filter, columns });
    }
    // A partition is published with every table above it.
    let sql = format!(
        "select n.nspname, c.relname from pg_publication p, pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where p.pubname = {name} and c.relkind = 'p' and (p.puballtables or exists (\
           select from pg_partition_ancestors(c.oid) above join pg_class a on a.oid = above.relid \
           where exists (select from pg_publication_rel r where r.prpubid = p.oid and r.prrelid = a.oid) \
           or exists (select from pg_publication_namespace s where s.pnpubid = p.oid and s.pnnspid = a.relnamespace)))"
    );
    let table = |row: Vec<Option<String>>| {
        let mut cells = row.into_iter().map(Option::unwrap_or_default);
        Some(TableName::new(cells.next()?, cells.next()?))
    };
    let partitioned = session.texts(&sql).await?.into_iter().filter_map(table).collect();
    let operations = Operations::all_where(|operation| match operation {
        Operation::Insert => on(1),
        Operation::Update => on(2),
        Operation::Delete => on(3),
        Operation::Truncate => on(4),
    });
    Ok(Some(Publication { all_tables: on(0), operations, via_root: on(5), members, partitioned }))
}
