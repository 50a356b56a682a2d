//! What is asked of the cluster by SQL.

use crate::backup::{BackupError, DatabasePublications, DatabaseSequences, Publication, Setting};
use cdc_pipeline::{
    client::{ClientError, postgres::Postgres},
    config::PostgresConfig,
};

const PUBLICATIONS: &str = "select coalesce(json_agg(json_build_object(
    'name', p.pubname, 'all_tables', p.puballtables, 'insert', p.pubinsert, 'update', p.pubupdate,
    'delete', p.pubdelete, 'truncate', p.pubtruncate, 'via_root', p.pubviaroot,
    'tables', coalesce((select json_agg(quote_ident(t.schemaname) || '.' || t.tablename order by t.schemaname, t.tablename)
        from (select schemaname, tablename from pg_publication_tables where pubname = p.pubname order by 1, 2) t), '[]'::json),
    'named', json_build_object(
        'tables', coalesce((select json_agg(json_build_object('name', quote_ident(n.nspname) || '.' || c.relname,
            'filter', pg_get_expr(m.prqual, m.prrelid), 'columns', (select json_agg(a.attname order by a.attnum)
                from pg_attribute a where a.attrelid = m.prrelid and a.attnum = any(m.prattrs::int2[])))
            order by n.nspname, c.relname)
            from pg_publication_rel m join pg_class c on c.oid = m.prrelid join pg_namespace n on n.oid = c.relnamespace
            where m.prpubid = p.oid), '[]'::json),
        'schemas', coalesce((select json_agg(n.nspname order by n.nspname)
            from pg_publication_namespace m join pg_namespace n on n.oid = m.pnnspid where m.pnpubid = p.oid), '[]'::json)))
    order by p.pubname), '[]'::json)::text from pg_publication p";

const SEQUENCES: &str = "select coalesce(json_agg(json_build_object(
    'name', quote_ident(schemaname) || '.' || sequencename, 'last_value', last_value, 'increment', increment_by)
    order by schemaname, sequencename), '[]'::json)::text from pg_sequences";

/// Values that come from no file and no command line restore themselves; connection strings and passphrases are secret.
const SETTINGS: &str = "select coalesce(json_agg(json_build_object(
    'name', name, 'setting', setting, 'unit', unit, 'source', source, 'sourcefile', sourcefile) order by name), '[]'::json)::text
    from pg_settings where source not in ('default', 'override', 'client', 'session', 'database', 'user', 'database user')
    and name not in ('primary_conninfo', 'ssl_passphrase_command')";

/// The databases that clients may connect to, by name.
pub(super) async fn databases(pg: &Postgres) -> Result<Vec<String>, BackupError> {
    let rows = pg.texts("select datname from pg_database where datallowconn and not datistemplate order by 1").await?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}

/// The publications of the session's database, by name.
pub async fn publications(session: &Postgres) -> Result<Vec<Publication>, BackupError> {
    json(session, PUBLICATIONS).await
}

/// Publications and sequences of every database.
pub(super) async fn per_database(
    config: &PostgresConfig,
    databases: &[String],
) -> Result<(Vec<DatabasePublications>, Vec<DatabaseSequences>), BackupError> {
    let (mut published, mut sequences) = (Vec::new(), Vec::new());
    for database in databases {
        let pg = Postgres::connect_database(&config.url, database, "cdc-drill backup").await?;
        let found = publications(&pg).await?;
        published.push(DatabasePublications { database: database.clone(), publications: found });
        sequences.push(DatabaseSequences { database: database.clone(), sequences: json(&pg, SEQUENCES).await? });
    }
    Ok((published, sequences))
}

pub(super) async fn settings(pg: &Postgres) -> Result<Vec<Setting>, BackupError> {
    json(pg, SETTINGS).await
}

async fn json<T: serde::de::DeserializeOwned>(pg: &Postgres, sql: &str) -> Result<T, BackupError> {
    let text: String = pg.value(sql).await?;
    serde_json::from_str(&text).map_err(|e| {
        let what = sql.lines().next().unwrap_or_default();
        ClientError::answer("postgres", pg.address(), what, "a known shape", e.to_string()).into()
    })
}
