//! Reads a stack into an [`Observation`]: the only file of `verify` that does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use futures::StreamExt;
use rdkafka::Message;

use super::{
    VerifyError,
    decode::{
        names::{field_adjustment, topic_name, topic_start},
        pg_type::PgType,
        record::Schemas,
        row::Cell,
        settings::{ConnectorSettings, Converter},
        table::{Column, Columns, Definition},
    },
    fold::TopicFold,
    observation::{
        Canary, ConnectorView, GroupVersion, Interrupted, Observation, Orphan, Quiet, RegistryView, Rows, ServerView,
        TableView,
    },
    read::{self, Stretch, TopicPlan, Visibility},
    text::array,
};
use crate::{
    backup::{BackupError, parts::registry::capture_where},
    client::{
        ClientError,
        cluster::Cluster,
        connect::{Connect, ConnectorConfig},
        kafka::Kafka,
        limits::Bound,
        postgres::{Postgres, cause},
        registry::{GroupArtifact, Registry},
        wait::{self, Poll},
    },
    config::Config,
    units::{Lsn, Offset, SchemaId, TableName, TopicPartition},
};

/// The systems of one pipeline.
#[derive(Clone, Debug)]
pub struct Systems {
    /// The configuration.
    pub config: Config,
    /// The broker.
    pub kafka: Kafka,
    /// The Connect worker.
    pub connect: Connect,
    /// The registry.
    pub registry: Registry,
}

impl Systems {
    /// Names the systems; nothing is asked yet.
    pub fn new(config: &Config) -> Result<Systems, VerifyError> {
        Ok(Systems {
            kafka: Kafka::of(&config.kafka)?,
            connect: Connect::of(&config.connect),
            registry: Registry::of(&config.registry),
            config: config.clone(),
        })
    }

    /// Schemas by id, as the registry has them now. Called from threads that may block.
    pub fn schemas(&self) -> Arc<Schemas> {
        let (registry, runtime) = (self.registry.clone(), tokio::runtime::Handle::current());
        Arc::new(Schemas::new(move |id| runtime.block_on(registry.schema(id)).map_err(|e| e.to_string())))
    }

    async fn session(&self, database: &str) -> Result<Postgres, ClientError> {
        if database.is_empty() {
            Postgres::connect(&self.config.postgres.url, "cdc-drill verify").await
        } else {
            Postgres::connect_database(&self.config.postgres.url, database, "cdc-drill verify").await
        }
    }
}

/// The connectors to look at: those named, or every Debezium PostgreSQL connector of the worker on the configured server.
pub async fn connectors(systems: &Systems, wanted: &[String]) -> Result<Vec<ConnectorView>, VerifyError> {
    let there = systems.connect.connectors().await?;
    if let Some(missing) = wanted.iter().find(|w| !there.contains(w)) {
        let found = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        return Err(VerifyError::NoConnector { connector: missing.clone(), found });
    }
    let mut found: Vec<(&String, ConnectorConfig)> = Vec::new();
    for name in there.iter().filter(|name| wanted.is_empty() || wanted.contains(name)) {
        // Deleted since it was listed: somebody else's, or the one asked for, which is then missing.
        let Some((config, _)) = systems.connect.described(name).await? else { continue };
        found.push((name, config));
    }
    if wanted.is_empty() {
        found.retain(|(_, config)| ConnectorSettings::is_debezium_postgres(config));
        let own = readers(systems, &found).await?;
        found.retain(|(name, _)| own.contains(*name));
    }
    let mut views = Vec::new();
    for (name, config) in found {
        let settings = Arc::new(ConnectorSettings::parse(name, &config)?);
        views.push(ConnectorView {
            settings,
            config,
            status: Err("not asked".into()),
            offsets: Vec::new(),
            publication: false,
            unpublished: Vec::new(),
            uncaptured: Vec::new(),
            orphans: Vec::new(),
            notes: Vec::new(),
        });
    }
    if views.is_empty() {
        return Err(VerifyError::NoConnector {
            connector: "of class io.debezium.connector.postgresql.PostgresConnector".into(),
            found: if there.is_empty() { "none".to_owned() } else { there.join(", ") },
        });
    }
    Ok(views)
}

/// Those that read from the configured server. Where it does not answer, those whose server may be this one.
async fn readers(
    systems: &Systems,
    connectors: &[(&String, ConnectorConfig)],
) -> Result<BTreeSet<String>, VerifyError> {
    let url = &systems.config.postgres.url;
    let by_address = Cluster::new(url, None, Vec::new())?;
    if connectors.iter().all(|(_, config)| by_address.is_named_by(config)) {
        return Ok(connectors.iter().map(|(name, _)| (*name).clone()).collect());
    }
    let connectors = connectors.iter().map(|(name, config)| (name.as_str(), config));
    let Ok(session) = systems.session("").await else {
        let found = by_address.readers(connectors, &[]).await;
        return Ok(found.names.into_iter().chain(found.unknown.into_keys()).collect());
    };
    let cluster = Cluster::new(url, session.system_id().await.ok(), session.slots().await?)?;
    let found = cluster.readers(connectors, &[]).await;
    Ok(found.names.into_iter().chain(found.contested.into_iter().flat_map(|(_, names)| names)).collect())
}

/// Fills in what the worker says of a connector now.
pub async fn status(systems: &Systems, view: &mut ConnectorView) {
    let name = view.settings.name.clone();
    view.status = systems.connect.status(&name).await.map_err(|e| e.to_string());
    match systems.connect.offsets(&name).await {
        Ok(offsets) => view.offsets = offsets,
        Err(error) => view.notes.push(format!("offsets of connector {name} cannot be read: {error}")),
    }
}

/// The server's end of WAL, its timeline and slots.
pub async fn server(systems: &Systems) -> (Result<ServerView, String>, Vec<crate::client::postgres::Slot>) {
    let looked = async {
        let session = systems.session("").await?;
        // Slots first: what they confirm while writers go on lies behind the end that is read after them.
        let slots = session.slots().await?;
        let timeline = session.timeline().await?;
        let lsn = session.value("select pg_current_wal_lsn()::text").await?;
        Ok::<_, ClientError>((ServerView { lsn, timeline }, slots))
    };
    match looked.await {
        Ok((view, slots)) => (Ok(view), slots),
        Err(error) => (Err(error.to_string()), Vec::new()),
    }
}

/// The tables of one connector in one snapshot of its database.
#[derive(Debug)]
pub struct Look {
    /// What the snapshot sees.
    pub visible: Option<Visibility>,
    /// The captured tables and their rows.
    pub tables: Vec<TableView>,
    /// Whether the publication exists.
    pub publication: bool,
    /// Tables that the connector's lists choose, its publication lacks, and somebody waits for: see [`ConnectorView`].
    pub unpublished: Vec<TableName>,
    /// The other tables that the lists choose and the publication lacks.
    pub uncaptured: Vec<TableName>,
}

/// Reads the captured tables of a connector, all in one snapshot.
pub async fn tables(systems: &Systems, settings: &ConnectorSettings) -> Result<Look, ClientError> {
    let session = systems.session(&settings.database).await?;
    session.run("begin transaction isolation level repeatable read read only").await?;
    let visible = session.text("select pg_current_snapshot()::text").await?;
    let exported = session.text("select pg_export_snapshot()").await?.unwrap_or_default();
    let publication = session
        .text(&format!("select 1 from pg_publication where pubname = {}", literal(&settings.publication)))
        .await?
        .is_some();
    let mut captured = captured(&session, settings, publication).await?;
    let partitions = partitions(&session, settings, &captured).await?;
    let lacking = lacking(&session, settings, publication).await?;
    let beside = partitions.iter().map(|c| &c.name).chain(&lacking);
    let filled = filled(systems, beside.map(|t| topic_name(settings, &t.schema, &t.name)).collect()).await?;
    // Records of a captured table are not those of another one whose topic has the same name.
    let taken: BTreeSet<String> = captured.iter().map(|c| topic_name(settings, &c.name.schema, &c.name.name)).collect();
    let has_records = |t: &TableName| {
        let topic = topic_name(settings, &t.schema, &t.name);
        filled.contains_key(&topic) && !taken.contains(&topic)
    };
    captured.extend(partitions.into_iter().filter(|c| has_records(&c.name)));
    let awaited = |t: &TableName| !settings.tables.table_include.is_empty() || has_records(t);
    let (unpublished, uncaptured) = lacking.into_iter().partition(awaited);
    let counter = systems.session(&settings.database).await?;
    counter.run("begin transaction isolation level repeatable read read only").await?;
    counter.run(&format!("set transaction snapshot {}", literal(&exported))).await?;
    let mut tables = Vec::new();
    for table in captured {
        let columns = columns(&session, &table, settings).await?;
        let select = select(&table, &columns);
        // A table that cannot be read must not end the transaction that reads the others.
        session.run("savepoint before").await?;
        let rows = rows(&session, &select, columns.list.len()).await;
        session.run("rollback to savepoint before").await?;
        counter.run("savepoint before").await?;
        let count = counter.value::<u64>(&count(&table)).await.map_err(|e| e.to_string());
        counter.run("rollback to savepoint before").await?;
        let primary = table.primary_key.iter().filter_map(|name| columns.of_name(name)).collect();
        tables.push(TableView {
            topic: topic_name(settings, &table.name.schema, &table.name.name),
            name: table.name,
            database: settings.database.clone(),
            connector: settings.name.clone(),
            primary_key: primary,
            replica_identity: table.replica_identity,
            columns: Arc::new(columns),
            rows: rows.map_err(|e| e.to_string()),
            count,
        });
    }
    Ok(Look { visible: visible.as_deref().and_then(Visibility::parse), tables, publication, unpublished, uncaptured })
}

/// A table as the catalogue has it.
struct Captured {
    oid: String,
    name: TableName,
    replica_identity: char,
    row_filter: Option<String>,
    published_columns: Option<Vec<String>>,
    primary_key: Vec<String>,
}

/// Tables of the publication that pass the connector's lists; without a publication, all that pass them.
async fn captured(
    session: &Postgres,
    settings: &ConnectorSettings,
    publication: bool,
) -> Result<Vec<Captured>, ClientError> {
    let (from, published) = if publication {
        let from = format!(
            "from pg_publication_tables p join pg_namespace n on n.nspname = p.schemaname \
             join pg_class c on c.relnamespace = n.oid and c.relname = p.tablename where p.pubname = {}",
            literal(&settings.publication)
        );
        (from, ["p.rowfilter", "p.attnames::text"])
    } else {
        let from = "from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'r' \
                    and n.nspname not in ('pg_catalog', 'information_schema') and c.relpersistence = 'p'";
        (from.to_owned(), ["null", "null"])
    };
    relations(session, &from, published, settings).await
}

/// The relations `c` in namespaces `n` of a FROM clause that pass the connector's lists; `published` are expressions of what the
/// publication filters and which columns it has.
async fn relations(
    session: &Postgres,
    from: &str,
    published: [&str; 2],
    settings: &ConnectorSettings,
) -> Result<Vec<Captured>, ClientError> {
    let [filter, columns] = published;
    let key = "(select array_agg(a.attname order by k.n)::text from pg_index i, unnest(i.indkey) with ordinality k(num, n), pg_attribute a \
               where i.indrelid = c.oid and i.indisprimary and a.attrelid = c.oid and a.attnum = k.num)";
    let sql = format!(
        "select c.oid::text, n.nspname, c.relname, c.relreplident, {filter}, {columns}, {key} {from} and {} order by 2, 3",
        chosen(settings)
    );
    let rows = session.texts(&sql).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let mut cells = row.into_iter();
            let mut next = || cells.next().flatten();
            let names = |text: Option<String>| {
                text.and_then(|t| array::elements(&t)).map(|e| e.into_iter().flatten().collect::<Vec<_>>())
            };
            Captured {
                oid: next().unwrap_or_default(),
                name: TableName::new(next().unwrap_or_default(), next().unwrap_or_default()),
                replica_identity: next().and_then(|t| t.chars().next()).unwrap_or('d'),
                row_filter: next(),
                published_columns: names(next()),
                primary_key: names(next()).unwrap_or_default(),
            }
        })
        .collect())
}

/// Partitioned tables and partitions that the connector's list has by name and whose changes go to other topics than their own,
/// according to `publish_via_partition_root`. A snapshot writes to their topics all the same.
async fn partitions(
    session: &Postgres,
    settings: &ConnectorSettings,
    captured: &[Captured],
) -> Result<Vec<Captured>, ClientError> {
    let named: Vec<String> = named(settings).map(|name| literal(&name)).collect();
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let condition = format!(
        "from pg_class c join pg_namespace n on n.oid = c.relnamespace where (c.relkind = 'p' or c.relispartition) \
         and lower(n.nspname || '.' || c.relname) in ({})",
        named.join(", ")
    );
    let found = self::relations(session, &condition, ["null", "null"], settings).await?;
    Ok(found.into_iter().filter(|c| captured.iter().all(|other| other.name != c.name)).collect())
}

/// The connector's list of tables as far as it has them by their names, in lower case: it matches whatever the case.
fn named(settings: &ConnectorSettings) -> impl Iterator<Item = String> {
    settings.tables.table_include.iter().map(|pattern| pattern.replace("\\.", ".").to_lowercase())
}

/// The topics of these that have records, and how many.
async fn filled(systems: &Systems, topics: BTreeSet<String>) -> Result<BTreeMap<String, u64>, ClientError> {
    let mut records: BTreeMap<String, u64> = BTreeMap::new();
    if topics.is_empty() {
        return Ok(records);
    }
    for (partition, (low, high)) in ends(systems, &topics).await? {
        *records.entry(partition.topic).or_default() += (high.0 - low.0).max(0) as u64;
    }
    records.retain(|_, count| *count > 0);
    Ok(records)
}

/// Tables that the connector's lists choose and the publication lacks: their changes never arrive.
async fn lacking(
    session: &Postgres,
    settings: &ConnectorSettings,
    publication: bool,
) -> Result<Vec<TableName>, ClientError> {
    if !publication {
        return Ok(Vec::new());
    }
    let name = literal(&settings.publication);
    let sql = format!(
        "with recursive published as (\
           select p.schemaname, p.tablename, c.oid from pg_publication_tables p join pg_namespace n on n.nspname = p.schemaname \
           join pg_class c on c.relnamespace = n.oid and c.relname = p.tablename where p.pubname = {name} \
           union select null, null, i.inhrelid from published p join pg_inherits i on i.inhparent = p.oid) \
         select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where c.relkind = 'r' and c.relpersistence = 'p' and n.nspname not in ('pg_catalog', 'information_schema') \
         and not exists (select from published where oid = c.oid) and {} order by 1, 2",
        chosen(settings)
    );
    let rows = session.texts(&sql).await?;
    Ok(rows
        .into_iter()
        .map(|mut row| {
            let table = row.pop().flatten().unwrap_or_default();
            TableName::new(row.pop().flatten().unwrap_or_default(), table)
        })
        .collect())
}

/// Looks for each connector's topics that have records and are compared with no table. A table that was dropped is in no
/// publication and in no catalogue; its rows are still in its topic.
pub async fn orphans(
    systems: &Systems,
    connectors: &mut [ConnectorView],
    tables: &[TableView],
) -> Result<(), ClientError> {
    let there = systems.kafka.topics().await?;
    let taken: BTreeSet<&str> = tables.iter().map(|t| t.topic.as_str()).collect();
    for connector in connectors {
        let settings = &connector.settings;
        let start = topic_start(settings);
        let history = connector.config.get("schema.history.internal.kafka.topic");
        let mut without: BTreeMap<String, TableName> = there
            .keys()
            .filter(|topic| !taken.contains(topic.as_str()) && Some(*topic) != history)
            .filter_map(|topic| {
                let (schema, table) = topic.strip_prefix(start.as_str())?.split_once(settings.delimiter.as_str())?;
                let whole = !schema.is_empty() && !table.contains(settings.delimiter.as_str());
                whole.then(|| (topic.clone(), TableName::new(schema, table)))
            })
            .collect();
        if without.is_empty() {
            continue;
        }
        let there = relations_there(&systems.session(&settings.database).await?, settings, without.values()).await?;
        without.retain(|_, table| there.contains_key(table) && !connector.unpublished.contains(table));
        let filled = filled(systems, without.keys().cloned().collect()).await?;
        let listed: BTreeSet<String> = named(settings).collect();
        let found = without.into_iter().filter_map(|(topic, table)| {
            let named = listed.contains(&format!("{}.{}", table.schema, table.name).to_lowercase());
            let exists = there.get(&table).copied().unwrap_or_default();
            Some(Orphan { named, exists, records: *filled.get(&topic)?, table, topic })
        });
        connector.orphans = found.collect();
    }
    Ok(())
}

/// Those of the names that the connector's lists choose, and whether a relation of the database has them.
async fn relations_there(
    session: &Postgres,
    settings: &ConnectorSettings,
    names: impl Iterator<Item = &TableName>,
) -> Result<BTreeMap<TableName, bool>, ClientError> {
    let names: Vec<String> = names.map(|t| format!("({}, {})", literal(&t.schema), literal(&t.name))).collect();
    let sql = format!(
        "select n.nspname, c.relname, \
         exists (select from pg_class r join pg_namespace m on m.oid = r.relnamespace where m.nspname = s and r.relname = t)::text \
         from (values {}) as given(s, t), lateral (select s as nspname) n, lateral (select t as relname) c where {}",
        names.join(", "),
        chosen(settings)
    );
    let rows = session.texts(&sql).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let mut cells = row.into_iter().map(Option::unwrap_or_default);
            let mut next = || cells.next().unwrap_or_default();
            (TableName::new(next(), next()), next() == "true")
        })
        .collect())
}

/// The connector's lists as a condition: its regular expressions match whole names, whatever the case.
fn chosen(settings: &ConnectorSettings) -> String {
    let matches = |subject: &str, patterns: &[String]| {
        let all: Vec<String> =
            patterns.iter().map(|p| format!("{subject} ~* {}", literal(&format!("^(?:{p})$")))).collect();
        format!("({})", all.join(" or "))
    };
    let (schema, table) = ("n.nspname", "(n.nspname || '.' || c.relname)");
    let mut conditions = vec!["true".to_owned()];
    let lists = &settings.tables;
    for (subject, patterns, take) in [
        (schema, &lists.schema_include, true),
        (schema, &lists.schema_exclude, false),
        (table, &lists.table_include, true),
        (table, &lists.table_exclude, false),
    ] {
        if !patterns.is_empty() {
            conditions.push(format!("{}{}", if take { "" } else { "not " }, matches(subject, patterns)));
        }
    }
    conditions.join(" and ")
}

fn literal(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "''");
    format!("E'{escaped}'")
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The columns of a table, domains resolved to their base types.
async fn columns(session: &Postgres, table: &Captured, settings: &ConnectorSettings) -> Result<Columns, ClientError> {
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
        table.oid
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
            let name = text(0);
            let generated = !text(2).is_empty();
            let unpublished = !generated && table.published_columns.as_ref().is_some_and(|p| !p.contains(&name));
            Column { ty: PgType::new(&text(1), &text(3), &text(4), typmod, element), name, generated, unpublished }
        })
        .collect();
    Ok(Columns::new(list, field_adjustment(settings)).defined(definitions))
}

fn filter(table: &Captured) -> String {
    table.row_filter.as_ref().map(|f| format!(" where {f}")).unwrap_or_default()
}

fn select(table: &Captured, columns: &Columns) -> String {
    let names: Vec<String> = columns.list.iter().map(|c| identifier(&c.name)).collect();
    format!("select {} from {}{}", names.join(", "), table.name.quoted(), filter(table))
}

fn count(table: &Captured) -> String {
    format!("select count(*) from {}{}", table.name.quoted(), filter(table))
}

/// Reads a query's rows by COPY, whose text is each type's own output.
async fn rows(session: &Postgres, select: &str, columns: usize) -> Result<Rows, ClientError> {
    let sql = format!("copy ({select}) to stdout");
    let wrong = |e: tokio_postgres::Error| session.error(select, &e);
    let stream = session.copy_out(&sql).await.map_err(wrong)?;
    let mut stream = std::pin::pin!(stream);
    let mut rows = Rows::default();
    let mut rest: Vec<u8> = Vec::new();
    let mut buffer = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|e| ClientError::answer("postgres", session.address(), select, "rows", cause(&e)))?;
        rest.extend_from_slice(&chunk);
        let mut start = 0;
        while let Some(length) = rest[start..].iter().position(|b| *b == b'\n') {
            line(&rest[start..start + length], columns, &mut buffer, &mut rows);
            start += length + 1;
        }
        rest.drain(..start);
    }
    Ok(rows)
}

/// One line of COPY's text format.
fn line(line: &[u8], columns: usize, buffer: &mut Vec<u8>, rows: &mut Rows) {
    buffer.clear();
    let mut cells: Vec<Option<(usize, usize)>> = Vec::with_capacity(columns);
    if columns > 0 {
        for field in line.split(|b| *b == b'\t') {
            if field == b"\\N" {
                cells.push(None);
                continue;
            }
            let start = buffer.len();
            unescape(field, buffer);
            cells.push(Some((start, buffer.len())));
        }
    }
    rows.add(cells.iter().map(|cell| match cell {
        Some((start, end)) => Cell::Text(&buffer[*start..*end]),
        None => Cell::Null,
    }));
}

fn unescape(field: &[u8], out: &mut Vec<u8>) {
    if !field.contains(&b'\\') {
        out.extend_from_slice(field);
        return;
    }
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        out.push(match (byte, byte == &b'\\') {
            (_, true) => match bytes.next() {
                Some(b'b') => 8,
                Some(b'f') => 12,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'v') => 11,
                Some(other) => *other,
                None => b'\\',
            },
            (other, false) => *other,
        });
    }
}

/// First and next offsets of topics that exist.
pub async fn ends(
    systems: &Systems,
    topics: &BTreeSet<String>,
) -> Result<BTreeMap<TopicPartition, (Offset, Offset)>, ClientError> {
    let there = systems.kafka.topics().await?;
    let mut ends = BTreeMap::new();
    for topic in topics.iter().filter(|t| there.contains_key(*t)) {
        for (partition, marks) in systems.kafka.watermarks(topic).await?.into_iter().enumerate() {
            ends.insert(TopicPartition { topic: topic.clone(), partition: partition as i32 }, marks);
        }
    }
    Ok(ends)
}

/// Whether records depend on the registry: a connector writes Avro, or leaves it to its worker and has written ids.
pub fn uses_registry(seen: &Observation) -> bool {
    let converters = || seen.connectors.iter().flat_map(|c| [c.settings.key, c.settings.value]);
    converters().any(|c| c == Converter::Avro)
        || (converters().any(|c| c == Converter::Worker) && seen.has_schema_ids())
}

/// The registry's subjects that begin with `prefix`, soft-deleted versions included; all when it is empty.
pub async fn registry(systems: &Systems, prefix: &str) -> Result<RegistryView, BackupError> {
    registry_behind(systems, prefix, &Observation::default()).await
}

/// The same, and the schemas of the registry's other groups that records were written with.
pub(super) async fn registry_behind(
    systems: &Systems,
    prefix: &str,
    seen: &Observation,
) -> Result<RegistryView, BackupError> {
    let dump = capture_where(&systems.registry, |subject| subject.as_str().starts_with(prefix)).await?;
    let mut view = RegistryView::from(&dump);
    let used = seen.topics.values().flat_map(|fold| &fold.partitions).flat_map(|p| p.ids.keys().map(|(_, id)| *id));
    let strange: BTreeSet<SchemaId> = used.filter(|id| view.text(*id).is_none()).collect();
    for id in strange {
        let Some(found) = systems.registry.in_another_group(id, &dump.id_kind).await? else { continue };
        let Some(schema) = systems.registry.schema(id).await? else { continue };
        let GroupArtifact { group, artifact, version } = found;
        view.elsewhere.insert(id, GroupVersion { group, artifact, version, schema });
    }
    Ok(view)
}

/// What to look at, for a drill.
#[derive(Clone, Debug, Default)]
pub struct LookOptions {
    /// The connectors; empty for every Debezium PostgreSQL connector of the worker.
    pub connectors: Vec<String>,
    /// The column with the token; every event is kept with it.
    pub token_column: String,
    /// Consumer groups whose offsets on the data topics are wanted.
    pub groups: Vec<String>,
    /// How the subjects begin that are wanted; empty for all.
    pub subject_prefix: String,
}

/// Looks at everything once: tables, topics to their ends, positions, settings, the registry. Writers must be at rest;
/// what cannot be read is part of what is seen.
pub async fn pipeline(systems: &Systems, options: &LookOptions) -> Result<Observation, VerifyError> {
    let mut seen =
        Observation { connectors: connectors(systems, &options.connectors).await?, ..Observation::default() };
    for index in 0..seen.connectors.len() {
        let settings = seen.connectors[index].settings.clone();
        match tables(systems, &settings).await {
            Ok(look) => {
                seen.connectors[index].publication = look.publication;
                seen.connectors[index].unpublished = look.unpublished;
                seen.connectors[index].uncaptured = look.uncaptured;
                seen.tables.extend(look.tables);
            }
            Err(error) => seen.server = Some(Err(error.to_string())),
        }
        status(systems, &mut seen.connectors[index]).await;
    }
    if !matches!(seen.server, Some(Err(_))) {
        orphans(systems, &mut seen.connectors, &seen.tables).await?;
    }
    let (server, slots) = server(systems).await;
    seen.slots = slots;
    if !matches!(seen.server, Some(Err(_))) {
        seen.server = Some(server);
    }
    let topics: BTreeSet<String> = seen.tables.iter().map(|t| t.topic.clone()).collect();
    seen.ends = ends(systems, &topics).await?;
    seen.topics = folds(systems, &seen, options).await?;
    let names: Vec<String> = topics.into_iter().collect();
    seen.specs = systems.kafka.topic_specs(&names).await?.into_iter().map(|s| (s.name.clone(), s)).collect();
    let partitions: Vec<TopicPartition> = seen.ends.keys().cloned().collect();
    for group in &options.groups {
        let offsets = systems.kafka.group_offsets(group, &partitions).await?;
        seen.groups.insert(group.clone(), offsets.into_iter().collect());
    }
    if uses_registry(&seen) {
        seen.registry = Some(registry_behind(systems, &options.subject_prefix, &seen).await.map_err(|e| e.to_string()));
    }
    Ok(seen)
}

async fn folds(
    systems: &Systems,
    seen: &Observation,
    options: &LookOptions,
) -> Result<BTreeMap<String, TopicFold>, VerifyError> {
    let mut plans = Vec::new();
    let shared = seen.shared_topics();
    for table in seen.tables.iter().filter(|t| !shared.contains_key(t.topic.as_str())) {
        let Some(connector) = seen.connectors.iter().find(|c| c.settings.name == table.connector) else { continue };
        plans.push(TopicPlan {
            topic: table.topic.clone(),
            settings: connector.settings.clone(),
            name: table.name.clone(),
            columns: table.columns.clone(),
            log: true,
            token_column: table.columns.of_name(&options.token_column),
            visible: None,
        });
    }
    let stretches: Vec<Stretch> = seen
        .ends
        .iter()
        .map(|(partition, (low, high))| Stretch { partition: partition.clone(), from: *low, to: *high, settled: *high })
        .collect();
    let (kafka, schemas) = (systems.kafka.clone(), systems.schemas());
    let work = tokio::task::spawn_blocking(move || {
        let mut folds = BTreeMap::new();
        read::read(&kafka, &schemas, &plans, &stretches, &mut folds).map(|()| folds)
    });
    work.await.map_err(|e| VerifyError::Thread(e.to_string()))?
}

/// A row written to see when it arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Its table.
    pub table: TableName,
    /// The table's topic.
    pub topic: String,
    /// Its token, which stands in one of its text columns.
    pub token: String,
    /// The server's end of WAL just before the marker was written. With all writers at rest, a stored offset that is
    /// not before it is past everything that they did.
    pub lsn: Lsn,
    /// The ends of the topic's partitions before the marker was written; a partition not named is read from its start.
    pub from: BTreeMap<TopicPartition, Offset>,
}

impl Marker {
    /// Notes where things stand; write the marker's row after this.
    pub async fn prepare(
        systems: &Systems,
        table: TableName,
        topic: String,
        token: String,
    ) -> Result<Marker, ClientError> {
        let session = systems.session("").await?;
        let lsn = session.value("select pg_current_wal_insert_lsn()::text").await?;
        let before = ends(systems, &BTreeSet::from([topic.clone()])).await?;
        let from = before.into_iter().map(|(partition, (_, high))| (partition, high)).collect();
        Ok(Marker { table, topic, token, lsn, from })
    }
}

/// Waits until the marker is read from its topic and the connector's stored offset is past what was before it. A FAILED
/// task or a lost slot ends the wait at once; else it ends when nothing moves for `standstill`.
pub async fn quiesce(
    systems: &Systems,
    connector: &Arc<ConnectorSettings>,
    marker: &Marker,
    standstill: impl Into<Bound>,
) -> Quiet {
    let arrived = std::cell::Cell::new(false);
    let reached = wait::while_moving("the marker", standstill, || async {
        let (dead, motion) = motion(systems, connector, &marker.topic).await?;
        if let Some(dead) = dead {
            return Ok::<_, ClientError>((Poll::Hopeless(dead), motion));
        }
        if !arrived.get() {
            arrived.set(contains(systems, marker).await?);
        }
        let stored = systems.connect.offsets(&connector.name).await?;
        let number = |field: &str| stored.iter().filter_map(|o| o.offset.as_ref()?.get(field)?.as_u64()).max();
        let stored = number("lsn").or_else(|| number("lsn_proc")).map(Lsn);
        match (arrived.get(), stored) {
            (true, Some(lsn)) if lsn >= marker.lsn => Ok((Poll::Ready(()), motion)),
            (arrived, stored) => {
                let shown = stored.map_or("none".to_owned(), |l| l.to_string());
                let read = if arrived { "read" } else { "not read" };
                let seen = format!("marker {read} from {}, stored offset {shown} of {}", marker.topic, marker.lsn);
                Ok((Poll::NotYet(seen), Motion { stored, ..motion }))
            }
        }
    });
    let reached = match reached.await {
        Ok(()) => Ok(()),
        Err(ClientError::Hopeless { why, .. }) => Err(Interrupted { dead: true, seen: why }),
        Err(error) => Err(Interrupted { dead: false, seen: error.to_string() }),
    };
    Quiet {
        topic: marker.topic.clone(),
        table: marker.table.clone(),
        token: marker.token.clone(),
        lsn: marker.lsn,
        reached,
    }
}

/// Waits until the marker is read from its topic: a canary. The wait ends when nothing moves for `standstill`.
pub async fn arrival(
    systems: &Systems,
    connector: &Arc<ConnectorSettings>,
    marker: &Marker,
    standstill: impl Into<Bound>,
) -> Canary {
    let began = Instant::now();
    let reached = wait::while_moving("the canary", standstill, || async {
        let (dead, motion) = motion(systems, connector, &marker.topic).await?;
        let seen = match (contains(systems, marker).await?, dead) {
            (true, _) => Poll::Ready(()),
            (false, Some(dead)) => Poll::Hopeless(dead),
            (false, None) => Poll::NotYet(format!("not in {}", marker.topic)),
        };
        Ok::<_, ClientError>((seen, motion))
    });
    let arrived_ms = reached.await.map(|()| began.elapsed().as_millis() as u64).map_err(|e| e.to_string());
    Canary { table: marker.table.clone(), topic: marker.topic.clone(), token: marker.token.clone(), arrived_ms }
}

/// How far a connector has come. While any of it changes, what is waited for may still come.
#[derive(Debug, Default, PartialEq, Eq)]
struct Motion {
    /// The end of the topic's partitions, summed up.
    records: i64,
    /// What the server has sent to the connector, and what that has confirmed.
    sent: Option<Lsn>,
    confirmed: Option<Lsn>,
    /// The stored offset.
    stored: Option<Lsn>,
}

/// What makes waiting useless, and how far the connector has come.
async fn motion(
    systems: &Systems,
    connector: &Arc<ConnectorSettings>,
    topic: &str,
) -> Result<(Option<String>, Motion), ClientError> {
    let ends = ends(systems, &BTreeSet::from([topic.to_owned()])).await?;
    let records = ends.values().map(|(_, high)| high.0).sum();
    let mut motion = Motion { records, ..Motion::default() };
    if let Ok(status) = systems.connect.status(&connector.name).await
        && let Some(failure) = status.failure()
    {
        return Ok((Some(failure), motion));
    }
    let asked = async {
        let session = systems.session("").await?;
        let slot = session.slots().await?.into_iter().find(|s| s.name == connector.slot);
        let sent = match slot.as_ref().and_then(|s| s.active_pid) {
            Some(pid) => session.text(&format!("select sent_lsn from pg_stat_replication where pid = {pid}")).await?,
            None => None,
        };
        Ok::<_, ClientError>((slot, sent.and_then(|lsn| lsn.parse().ok())))
    };
    // A server that restarts comes back; the standstill ends the wait for one that does not.
    let Ok((slot, sent)) = asked.await else { return Ok((None, motion)) };
    let Some(slot) = slot else { return Ok((Some(format!("slot {} is missing", connector.slot)), motion)) };
    (motion.confirmed, motion.sent) = (slot.confirmed_flush_lsn, sent);
    Ok((slot.invalidated().map(|reason| format!("slot {} is lost: {reason}", connector.slot)), motion))
}

/// Whether the marker's token stands in a record behind the offsets of before. Both converters write text as it is.
async fn contains(systems: &Systems, marker: &Marker) -> Result<bool, ClientError> {
    let now = ends(systems, &BTreeSet::from([marker.topic.clone()])).await?;
    let ranges: Vec<_> = now
        .into_iter()
        .map(|(partition, (low, high))| {
            let from = marker.from.get(&partition).copied().filter(|f| *f <= high).unwrap_or(low);
            (partition, from.max(low), high)
        })
        .collect();
    let (kafka, token) = (systems.kafka.clone(), marker.token.clone().into_bytes());
    let work = tokio::task::spawn_blocking(move || {
        let mut found = false;
        kafka.scan(&ranges, |message| {
            found |= message.payload().is_some_and(|v| v.windows(token.len().max(1)).any(|w| w == token));
        })?;
        Ok(found)
    });
    match work.await {
        Ok(result) => result,
        Err(error) => Err(ClientError::Hopeless { what: "a blocking task".into(), why: error.to_string() }),
    }
}
