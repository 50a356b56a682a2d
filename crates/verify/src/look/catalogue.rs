//! What the catalogue says of the captured tables and their columns.

use std::collections::BTreeMap;

use crate::{
    decode::{
        names::field_adjustment,
        pg_type::PgType,
        settings::ConnectorSettings,
        table::{Column, Columns, Definition},
    },
    text::array,
};
use cdc_model::units::TableName;
use cdc_pipeline::{
    client::{ClientError, postgres::Postgres},
    debezium::{Choice, Member},
};

/// What reading a table needs to know of it.
pub(super) struct Facts {
    /// Its oid.
    pub oid: String,
    /// `d`, `f`, `i` or `n`.
    pub replica_identity: char,
    /// The columns of its primary key.
    pub primary_key: Vec<String>,
}

/// The facts of every table of the database.
pub(super) async fn facts(session: &Postgres) -> Result<BTreeMap<TableName, Facts>, ClientError> {
    let sql = "select n.nspname, c.relname, c.oid::text, c.relreplident, \
        (select array_agg(a.attname order by k.n)::text from pg_index i, unnest(i.indkey) with ordinality k(num, n), pg_attribute a \
         where i.indrelid = c.oid and i.indisprimary and a.attrelid = c.oid and a.attnum = k.num) \
        from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p')";
    let rows = session.texts(sql).await?;
    let fact = |row: Vec<Option<String>>| {
        let mut cells = row.into_iter();
        let mut next = || cells.next().flatten();
        let name = TableName::new(next().unwrap_or_default(), next().unwrap_or_default());
        let facts = Facts {
            oid: next().unwrap_or_default(),
            replica_identity: next().and_then(|t| t.chars().next()).unwrap_or('d'),
            primary_key: next().and_then(|t| array::elements(&t)).into_iter().flatten().flatten().collect(),
        };
        (name, facts)
    };
    Ok(rows.into_iter().map(fact).collect())
}

/// The columns of a table, domains resolved to their base types.
pub(super) async fn columns(
    session: &Postgres,
    (name, facts): (&TableName, &Facts),
    member: &Member,
    settings: &ConnectorSettings,
) -> Result<Columns, ClientError> {
    let sql = format!(
        "select a.attname, format_type(a.atttypid, a.atttypmod), a.attgenerated, base.typname, base.typtype, base.typmod, \
         element.typname, element.typtype, format_type(element.oid, base.typmod), a.xmin::text, \
         (a.xmin = (select s.xmin from pg_attribute s where s.attrelid = a.attrelid and s.attnum = -1))::text, \
         (select bool_or(pg_relation_filenode(r) <> r) from (select a.attrelid as r union \
           select relid::oid from pg_partition_tree(a.attrelid) where isleaf) relations)::text \
         from pg_attribute a cross join lateral (\
           with recursive b(oid, typmod, depth) as (select a.atttypid, a.atttypmod, 0 union all \
             select t.typbasetype, case when b.typmod = -1 then t.typtypmod else b.typmod end, b.depth + 1 \
             from b join pg_type t on t.oid = b.oid and t.typtype = 'd') \
           select t.typname, t.typtype, b.typmod, case when t.typcategory = 'A' and t.typsubscript = 'array_subscript_handler'::regproc then t.typelem else 0 end as elem \
           from b join pg_type t on t.oid = b.oid order by b.depth desc limit 1) base \
         left join pg_type element on element.oid = base.elem and base.elem <> 0 \
         where a.attrelid = {} and a.attnum > 0 and not a.attisdropped order by a.attnum",
        facts.oid
    );
    let rows = session.texts(&sql).await?;
    // The columns that every table has from its beginning tell which transaction made it; a table's first file is named after it.
    let definitions = rows.iter().map(|row| {
        let text = |i: usize| row.get(i).cloned().flatten().unwrap_or_default();
        Definition {
            xid: text(9).parse().unwrap_or_default(),
            original: text(10) == "true",
            rewritten: text(11) == "true",
        }
    });
    let definitions = definitions.collect();
    let list = rows
        .into_iter()
        .map(|row| {
            let text = |i: usize| row.get(i).cloned().flatten().unwrap_or_default();
            let typmod: i32 = text(5).parse().unwrap_or(-1);
            let element = row.get(6).is_some_and(Option::is_some);
            let element = element.then(|| PgType::new(&text(8), &text(6), &text(7), typmod, None));
            let column = text(0);
            let generated = !text(2).is_empty();
            let published = &member.columns;
            let unpublished = !generated && !published.is_empty() && !published.contains(&column);
            let left = settings.capture.lists.column(name, &column) == Choice::Left;
            Column {
                ty: PgType::new(&text(1), &text(3), &text(4), typmod, element),
                name: column,
                generated,
                unpublished: unpublished || left,
            }
        })
        .collect();
    Ok(Columns::new(list, field_adjustment(settings)).defined(definitions))
}
