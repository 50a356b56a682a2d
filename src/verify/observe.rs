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
        names::field_adjustment,
        pg_type::PgType,
        record::Schemas,
        row::Cell,
        settings::{ConnectorSettings, Converter},
        table::{Column, Columns, Definition},
    },
    fold::TopicFold,
    observation::{
        Canary, ConnectorView, GroupVersion, Interrupted, Observation, Orphan, OrphanKind, Quiet, RegistryView, Rows,
        ServerView, TableView, Unidentified,
    },
    read::{self, Stretch, TopicPlan, Visibility},
    text::array,
};
use crate::{
    backup::{BackupError, parts::registry::capture_where},
    client::{
        ClientError, catalogue,
        cluster::{Cluster, Readers, is_postgres},
        connect::{Connect, ConnectorConfig},
        kafka::Kafka,
        limits::Bound,
        postgres::{Postgres, cause},
        registry::{GroupArtifact, Registry},
        wait::{self, Poll},
    },
    config::Config,
    debezium::{Captured, Choice, Connector, Coverage, Inheritance, Member, Relation, RelationKind, Stream},
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
        Arc::new(Schemas::new(move |id| runtime.block_on(registry.schema(id))))
    }

    async fn session(&self, database: &str) -> Result<Postgres, ClientError> {
        if database.is_empty() {
            Postgres::connect(&self.config.postgres.url, "cdc-drill verify").await
        } else {
            Postgres::connect_database(&self.config.postgres.url, database, "cdc-drill verify").await
        }
    }
}

/// The connectors to look at: those named, or every Debezium PostgreSQL connector of the worker on the configured server; and
/// those of which it is not known whether they read from that server.
pub async fn connectors(
    systems: &Systems,
    wanted: &[String],
) -> Result<(Vec<ConnectorView>, Vec<Unidentified>), VerifyError> {
    let there = systems.connect.connectors().await?;
    if let Some(missing) = wanted.iter().find(|w| !there.contains(w)) {
        let found = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        return Err(VerifyError::NoConnector { connector: missing.clone(), found });
    }
    let mut found: Vec<(&String, ConnectorConfig)> = Vec::new();
    let mut unidentified = Vec::new();
    for name in there.iter().filter(|name| wanted.is_empty() || wanted.contains(name)) {
        // Deleted since it was listed: somebody else's, or the one asked for, which is then missing.
        let Some((config, status)) = systems.connect.described(name).await? else { continue };
        unidentified.extend(not_read(name, &config, &status.kind).filter(|_| wanted.is_empty()));
        found.push((name, config));
    }
    if wanted.is_empty() {
        found.retain(|(_, config)| ConnectorSettings::is_debezium_postgres(config));
        let (own, others) = readers(systems, &found).await?;
        found.retain(|(name, _)| own.contains(*name));
        unidentified.extend(others);
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
            coverage: Coverage::default(),
            unpublished: Vec::new(),
            uncaptured: Vec::new(),
            orphans: Vec::new(),
            notes: Vec::new(),
        });
    }
    if views.is_empty() {
        return Err(VerifyError::NoConnector {
            connector: "of class io.debezium.connector.postgresql.PostgresConnector".into(),
            found: match (there.is_empty(), unidentified.is_empty()) {
                (true, _) => "none".to_owned(),
                (false, true) => there.join(", "),
                (false, false) => {
                    let why = unidentified.iter().map(|one| format!("{} ({})", one.connector, one.why));
                    format!("{}; not looked at: {}", there.join(", "), why.collect::<Vec<_>>().join(", "))
                }
            },
        });
    }
    Ok((views, unidentified))
}

/// Those that read from the configured server, and those that may. Where it does not answer and no connector names its address,
/// all that may do.
async fn readers(
    systems: &Systems,
    connectors: &[(&String, ConnectorConfig)],
) -> Result<(BTreeSet<String>, Vec<Unidentified>), VerifyError> {
    let url = &systems.config.postgres.url;
    let by_address = Cluster::new(url, None, Vec::new())?;
    if connectors.iter().all(|(_, config)| by_address.is_named_by(config)) {
        return Ok((connectors.iter().map(|(name, _)| (*name).clone()).collect(), Vec::new()));
    }
    let connectors = connectors.iter().map(|(name, config)| (name.as_str(), config));
    let Ok(session) = systems.session("").await else {
        let found = by_address.readers(connectors, &[]).await;
        return Ok(match found.names.is_empty() {
            true => (found.unknown.into_keys().collect(), Vec::new()),
            false => divided(found),
        });
    };
    let names = async |sql| {
        let rows = session.texts(sql).await?;
        Ok::<_, ClientError>(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
    };
    let cluster = Cluster::new(url, session.system_id().await.ok(), session.slots().await?)?.with_directory(
        names("select datname::text from pg_database").await?,
        names("select rolname::text from pg_roles").await?,
    );
    Ok(divided(cluster.readers(connectors, &[]).await))
}

/// A source connector to PostgreSQL of a class that verify cannot read, on whatever server.
fn not_read(name: &str, config: &ConnectorConfig, kind: &str) -> Option<Unidentified> {
    let other = kind != "sink" && is_postgres(config) && !ConnectorSettings::is_debezium_postgres(config);
    let class = config.get("connector.class").map(String::as_str).unwrap_or_default();
    other.then(|| Unidentified {
        connector: name.to_owned(),
        why: format!("its class is {class}, which verify does not read"),
        excluded: true,
    })
}

fn divided(found: Readers) -> (BTreeSet<String>, Vec<Unidentified>) {
    let Readers { names, contested, unknown, excluded } = found;
    let unidentified = |excluded| move |(connector, why)| Unidentified { connector, why, excluded };
    let others = unknown.into_iter().map(unidentified(false)).chain(excluded.into_iter().map(unidentified(true)));
    (names.into_iter().chain(contested.into_values().flatten()).collect(), others.collect())
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
    publication: bool,
    /// What the connector captures.
    coverage: Coverage,
    /// Tables whose changes should arrive and never do, and somebody waits for: see [`ConnectorView`].
    unpublished: Vec<TableName>,
    /// The other tables whose changes never arrive.
    uncaptured: Vec<TableName>,
}

impl Look {
    /// Puts what was seen of the connector into its view; hands back the snapshot and the tables.
    pub fn describe(self, view: &mut ConnectorView) -> (Option<Visibility>, Vec<TableView>) {
        view.publication = self.publication;
        view.coverage = self.coverage;
        view.unpublished = self.unpublished;
        view.uncaptured = self.uncaptured;
        (self.visible, self.tables)
    }
}

/// Reads the captured tables of a connector, all in one snapshot.
pub async fn tables(systems: &Systems, settings: &ConnectorSettings) -> Result<Look, ClientError> {
    let session = systems.session(&settings.database).await?;
    session.run("begin transaction isolation level repeatable read read only").await?;
    let visible = session.text("select pg_current_snapshot()::text").await?;
    let exported = session.text("select pg_export_snapshot()").await?.unwrap_or_default();
    let publication = catalogue::publication(&session, &settings.publication).await?;
    let relations = catalogue::relations(&session).await?;
    let coverage = Coverage::of(&settings.capture, &relations, publication.as_ref());
    let facts = facts(&session).await?;
    let names = &settings.capture.topics;
    let beside = coverage.tables.iter().filter(|t| !matches!(t.stream, Stream::Own(_)));
    let filled = filled(systems, beside.map(|t| names.topic(&t.relation.name)).collect()).await?;
    // Records of a captured table are not those of another one whose topic has the same name.
    let own = coverage.tables.iter().filter(|t| matches!(t.stream, Stream::Own(_)));
    let taken: BTreeSet<String> = own.map(|t| names.topic(&t.relation.name)).collect();
    let has_records = |t: &TableName| {
        let topic = names.topic(t);
        filled.contains_key(&topic) && !taken.contains(&topic)
    };
    let lists = &settings.capture.lists;
    let awaited = |t: &&Captured| {
        let listed = match t.relation.kind {
            // A pattern need not mean a table that cannot be published.
            RelationKind::Unlogged => lists.names(&t.relation.name),
            _ => lists.names_tables(),
        };
        listed || has_records(&t.relation.name)
    };
    let (unpublished, uncaptured): (Vec<_>, Vec<_>) = coverage.unstreamed().partition(awaited);
    let named =
        |found: Vec<&Captured>| -> Vec<TableName> { found.into_iter().map(|t| t.relation.name.clone()).collect() };
    let (unpublished, uncaptured) = (named(unpublished), named(uncaptured));
    let counter = systems.session(&settings.database).await?;
    counter.run("begin transaction isolation level repeatable read read only").await?;
    counter.run(&format!("set transaction snapshot {}", literal(&exported))).await?;
    let mut tables = Vec::new();
    for captured in &coverage.tables {
        let name = &captured.relation.name;
        let member = match &captured.stream {
            Stream::Own(member) => member.clone(),
            // A snapshot writes to its topic all the same.
            Stream::Elsewhere(_) if lists.names(name) && has_records(name) => Member::default(),
            _ => continue,
        };
        let Some(facts) = facts.get(name) else { continue };
        let table = Readable { relation: &captured.relation, facts, member };
        let columns = columns(&session, &table, settings).await?;
        // A table that cannot be read must not end the transaction that reads the others.
        session.run("savepoint before").await?;
        let rows = table.rows(&session, &columns).await;
        session.run("rollback to savepoint before").await?;
        counter.run("savepoint before").await?;
        let count = counter.value::<u64>(&table.count()).await.map_err(|e| e.to_string());
        counter.run("rollback to savepoint before").await?;
        let primary_key = facts.primary_key.iter().filter_map(|name| columns.of_name(name)).collect();
        let (rows, unstreamed) = match rows {
            Ok((rows, unstreamed)) => (Ok(rows), unstreamed),
            Err(error) => (Err(error.to_string()), Rows::default()),
        };
        tables.push(TableView {
            topic: names.topic(name),
            name: name.clone(),
            database: settings.database.clone(),
            connector: settings.name.clone(),
            primary_key,
            replica_identity: facts.replica_identity,
            columns: Arc::new(columns),
            rows,
            unstreamed,
            count,
        });
    }
    let visible = visible.as_deref().and_then(Visibility::parse);
    Ok(Look { visible, tables, publication: publication.is_some(), coverage, unpublished, uncaptured })
}

/// What reading a table needs to know of it.
struct Facts {
    oid: String,
    replica_identity: char,
    primary_key: Vec<String>,
}

/// The facts of every table of the database.
async fn facts(session: &Postgres) -> Result<BTreeMap<TableName, Facts>, ClientError> {
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

/// A captured table that is read.
struct Readable<'t> {
    relation: &'t Relation,
    facts: &'t Facts,
    member: Member,
}

impl Readable<'_> {
    /// The rows whose changes are streamed to its topic, and those whose changes are not and which a snapshot writes there.
    async fn rows(&self, session: &Postgres, columns: &Columns) -> Result<(Rows, Rows), ClientError> {
        let streamed = rows(session, &self.select(columns, &self.streamed()), columns.list.len()).await?;
        let unstreamed = match self.unstreamed() {
            Some(from) => rows(session, &self.select(columns, &from), columns.list.len()).await?,
            None => Rows::default(),
        };
        Ok((streamed, unstreamed))
    }

    fn select(&self, columns: &Columns, from: &str) -> String {
        let names: Vec<String> = columns.list.iter().map(|c| identifier(&c.name)).collect();
        format!("select {} {from}", names.join(", "))
    }

    fn count(&self) -> String {
        format!("select count(*) {}", self.streamed())
    }

    /// A row of a table that inherits from this one is that one's. Those of a partitioned table are its own.
    fn streamed(&self) -> String {
        let only = if self.relation.kind == RelationKind::Partitioned { "" } else { "only " };
        let filter = self.member.filter.as_ref().map(|f| format!(" where {f}")).unwrap_or_default();
        format!("from {only}{}{filter}", self.relation.name.quoted())
    }

    /// A snapshot reads without ONLY and without the publication's row filter.
    fn unstreamed(&self) -> Option<String> {
        let parent = self.relation.inheritance == Inheritance::Parent;
        let own = parent.then(|| format!("tableoid = {}::oid", self.facts.oid));
        let filter = self.member.filter.as_ref().map(|f| format!("coalesce({f}, false)"));
        let streamed: Vec<String> = own.into_iter().chain(filter).collect();
        let only = if parent || self.relation.kind == RelationKind::Partitioned { "" } else { "only " };
        (!streamed.is_empty())
            .then(|| format!("from {only}{} where not ({})", self.relation.name.quoted(), streamed.join(" and ")))
    }
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

/// Looks for each connector's topics that have records and are compared with no table. A table that was dropped is in no
/// publication and in no catalogue; its rows are still in its topic.
pub async fn orphans(
    systems: &Systems,
    connectors: &mut [ConnectorView],
    tables: &[TableView],
) -> Result<(), ClientError> {
    let there = systems.kafka.topics().await?;
    let taken: BTreeSet<&str> = tables.iter().map(|t| t.topic.as_str()).collect();
    // A worker that does not answer is another finding; without it more topics are unexplained.
    let worker = worker(systems).await.unwrap_or_default();
    for connector in connectors {
        let topics = there.keys().filter(|topic| !taken.contains(topic.as_str()));
        let others: Vec<&Connector> =
            worker.iter().filter(|(name, _)| *name != connector.settings.name).map(|(_, c)| c).collect();
        let without = orphaned(connector, &others, topics);
        let filled = filled(systems, without.iter().map(|o| o.topic.clone()).collect()).await?;
        let counted = without.into_iter().filter_map(|o| Some(Orphan { records: *filled.get(&o.topic)?, ..o }));
        connector.orphans = counted.collect();
    }
    Ok(())
}

/// Every connector of the worker, on whatever server.
async fn worker(systems: &Systems) -> Result<Vec<(String, Connector)>, ClientError> {
    let mut all = Vec::new();
    for name in systems.connect.connectors().await? {
        // One that was deleted since it was listed writes nothing.
        let Some((config, _)) = systems.connect.described(&name).await? else { continue };
        // A sink has no topics of its own.
        if config.get("topic.prefix").is_some_and(|prefix| !prefix.trim().is_empty()) {
            all.push((name, Connector::of(&config)));
        }
    }
    Ok(all)
}

/// Those of these topics that are of a connector's tables, by their names, and why they are compared with none. The topics of
/// other connectors may begin like this one's.
fn orphaned<'t>(
    connector: &ConnectorView,
    others: &[&Connector],
    topics: impl Iterator<Item = &'t String>,
) -> Vec<Orphan> {
    let (capture, coverage) = (&connector.settings.capture, &connector.coverage);
    let names = &capture.topics;
    let is_of = |other: &Connector, topic: &String| {
        // A prefix alone is the topic of schema changes.
        other.other_topics.contains(topic)
            || names.are_preceded_by(&other.topics, topic)
            || *topic == other.topics.prefix
    };
    let mut existing: BTreeMap<String, OrphanKind> = BTreeMap::new();
    let left = coverage.left.iter().map(|name| (name, OrphanKind::LeftOut(name.clone())));
    let elsewhere = coverage.tables.iter().map(|t| &t.relation.name);
    let elsewhere = elsewhere.map(|name| (name, OrphanKind::Elsewhere(name.clone())));
    for (name, kind) in left.chain(elsewhere) {
        existing.insert(names.topic(name), kind);
    }
    // Others say of these what is wrong, or that it is not known.
    let told = connector.unpublished.iter().chain(coverage.unknown.iter().map(|(name, _)| name));
    let told: BTreeSet<String> = told.map(|name| names.topic(name)).collect();
    let orphan = |topic: &String| {
        let gone = |table| OrphanKind::Gone { table, named: true };
        let kind = coverage.gone(capture, topic).map(gone).or_else(|| existing.get(topic).cloned());
        let kind = kind.or_else(|| {
            let of_another_use = capture.other_topics.contains(topic) || others.iter().any(|c| is_of(c, topic));
            if of_another_use || !topic.starts_with(&names.start()) {
                return None;
            }
            let table = |table| OrphanKind::Gone { table, named: false };
            Some(names.table(topic).map_or(OrphanKind::Unexplained, table))
        });
        Some(Orphan { topic: topic.clone(), kind: kind?, records: 0 })
    };
    topics.filter(|topic| !told.contains(*topic)).filter_map(orphan).collect()
}

fn literal(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "''");
    format!("E'{escaped}'")
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The columns of a table, domains resolved to their base types.
async fn columns(
    session: &Postgres,
    table: &Readable<'_>,
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
        table.facts.oid
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
            let published = &table.member.columns;
            let unpublished = !generated && !published.is_empty() && !published.contains(&name);
            let left = settings.capture.lists.column(&table.relation.name, &name) == Choice::Left;
            Column {
                ty: PgType::new(&text(1), &text(3), &text(4), typmod, element),
                name,
                generated,
                unpublished: unpublished || left,
            }
        })
        .collect();
    Ok(Columns::new(list, field_adjustment(settings)).defined(definitions))
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
    converters().any(Converter::is_avro) || (converters().any(|c| c == Converter::Worker) && seen.has_schema_ids())
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
    let (connectors, unidentified) = connectors(systems, &options.connectors).await?;
    let mut seen = Observation { connectors, unidentified, ..Observation::default() };
    for index in 0..seen.connectors.len() {
        let settings = seen.connectors[index].settings.clone();
        match tables(systems, &settings).await {
            Ok(look) => seen.tables.extend(look.describe(&mut seen.connectors[index]).1),
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
        Err(error) => {
            Err(ClientError::Hopeless { what: "a blocking task".into(), why: error.to_string(), hints: Vec::new() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debezium::Publication;
    use rstest::rstest;

    fn config(settings: &[(&str, &str)]) -> ConnectorConfig {
        let fixed = [("connector.class", "Postgres"), ("plugin.name", "pgoutput"), ("topic.prefix", "shop")];
        fixed.iter().chain(settings).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    /// What a topic is taken for, where the database has `orders` and `order_lines`: `+` a ghost, `-` a table that is gone, `=` a
    /// table that the lists leave out or whose changes go elsewhere, each with its table; `?` unexplained.
    fn orphan(settings: &[(&str, &str)], others: &[&[(&str, &str)]], topic: &str) -> Option<String> {
        let config = config(settings);
        let settings = Arc::new(ConnectorSettings::parse("shop", &config).unwrap());
        let relations = ["orders", "order_lines"].map(|name| Relation {
            name: TableName::new("public", name),
            kind: RelationKind::Table,
            partition_of: None,
            inheritance: Inheritance::None,
        });
        let publication = Publication {
            members: relations.iter().map(|r| (r.name.clone(), Member::default())).collect(),
            ..Publication::default()
        };
        let view = ConnectorView {
            coverage: Coverage::of(&settings.capture, &relations, Some(&publication)),
            settings,
            config,
            status: Err("not asked".into()),
            offsets: Vec::new(),
            publication: true,
            unpublished: Vec::new(),
            uncaptured: Vec::new(),
            orphans: Vec::new(),
            notes: Vec::new(),
        };
        let map = |pairs: &&[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let others: Vec<Connector> = others.iter().map(|pairs| Connector::of(&map(pairs))).collect();
        let found = orphaned(&view, &others.iter().collect::<Vec<_>>(), [topic.to_owned()].iter()).pop()?;
        Some(match found.kind {
            OrphanKind::Gone { table, named } => format!("{}{table}", if named { '+' } else { '-' }),
            OrphanKind::LeftOut(table) | OrphanKind::Elsewhere(table) => format!("={table}"),
            OrphanKind::Unexplained => "?".to_owned(),
        })
    }

    #[rstest]
    #[case::read("Postgres", "source", None)]
    #[case::of_another_vendor("io.confluent.connect.postgres.PostgresCdcSource", "source", Some("PostgresCdcSource"))]
    #[case::sink("org.apache.camel.kafkaconnector.PostgresqlsinkSinkConnector", "sink", None)]
    #[case::of_another_system("io.debezium.connector.mysql.MySqlConnector", "source", None)]
    fn a_connector_of_a_class_that_is_not_read_is_named(
        #[case] class: &str,
        #[case] kind: &str,
        #[case] named: Option<&str>,
    ) {
        let config = config(&[("connector.class", class)]);
        let found = not_read("cdc", &config, kind);
        assert_eq!(found.is_some(), named.is_some(), "{found:?}");
        assert!(found.is_none_or(|one| one.excluded && one.why.contains(named.unwrap_or_default())));
    }

    #[rstest]
    #[case::plain(".", "public.orders,public.items", "shop.public.items", "+public.items")]
    #[case::delimiter_in_the_name(
        "_",
        "public.orders,public.order_items",
        "shop_public_order_items",
        "+public.order_items"
    )]
    #[case::replaced_characters(
        ".",
        "public.orders,public.order items",
        "shop.public.order_items",
        "+public.order items"
    )]
    #[case::topic_of_a_table_left_out(
        ".",
        "public.orders,public.order lines",
        "shop.public.order_lines",
        "+public.order lines"
    )]
    #[case::cut(".", &format!("public.{}", "t".repeat(249)), &format!("shop.public.{}", "t".repeat(237)), &format!("+public.{}", "t".repeat(249)))]
    #[case::another_case(".", "PUBLIC.Items", "shop.public.items", "+public.items")]
    #[case::another_case_and_delimiter("_", "public.Order_Items", "shop_public_order_items", "+public.Order_Items")]
    #[case::left_out_by_another_list(".", "public.orders,other.items", "shop.other.items", "-other.items")]
    #[case::matched_by_a_pattern(".", "public.orders,public.i.*", "shop.public.items", "-public.items")]
    #[case::left_out(".", "public.orders", "shop.public.order_lines", "=public.order_lines")]
    #[case::not_to_be_divided("_", "public.orders", "shop_public_old_items", "?")]
    #[case::too_many_parts(".", "public.orders", "shop.a.b.c", "?")]
    fn a_topic_of_a_table_that_the_list_names_and_that_is_gone_is_a_ghost(
        #[case] delimiter: &str,
        #[case] list: &str,
        #[case] topic: &str,
        #[case] expected: &str,
    ) {
        let settings =
            [("topic.delimiter", delimiter), ("schema.include.list", "public"), ("table.include.list", list)];
        assert_eq!(orphan(&settings, &[], topic).as_deref(), Some(expected));
    }

    #[rstest]
    #[case::transactions("shop.transaction")]
    #[case::messages("shop.message")]
    #[case::heartbeats("shop.beat.shop")]
    #[case::schema_history("shop.history")]
    #[case::signals("shop.signals")]
    #[case::notifications("shop.notes")]
    #[case::another_prefix("web.public.items")]
    #[case::a_longer_prefix("shop.eu.public.items")]
    #[case::transactions_of_a_longer_prefix("shop.eu.transaction")]
    #[case::schema_changes_of_a_longer_prefix("shop.eu")]
    fn a_topic_of_another_use_is_none(#[case] topic: &str) {
        let settings = [
            ("table.include.list", "public.orders"),
            ("topic.heartbeat.prefix", "shop.beat"),
            ("signal.kafka.topic", "shop.signals"),
            ("notification.sink.topic.name", "shop.notes"),
            ("schema.history.internal.kafka.topic", "shop.history"),
        ];
        let others: [&[_]; 2] = [&[("topic.prefix", "shop.eu")], &[("topic.prefix", "sho")]];
        assert_eq!(orphan(&settings, &others, topic), None);
        assert_eq!(orphan(&settings, &others, "shop.public.items").as_deref(), Some("-public.items"));
    }

    #[test]
    fn signals_and_messages_are_told_by_their_defaults() {
        let settings = [("topic.delimiter", "-"), ("table.include.list", "public.orders")];
        assert_eq!(orphan(&settings, &[], "shop-signal"), None);
        assert_eq!(orphan(&settings, &[], "shop-transaction"), None);
        assert_eq!(orphan(&settings, &[], "shop.message"), None);
    }

    #[test]
    fn a_prefix_is_taken_as_it_is_written() {
        assert_eq!(orphan(&[("table.include.list", "public.items")], &[], "SHOP.public.items"), None);
    }

    #[test]
    fn a_listed_table_is_no_other_connector_s() {
        let settings = [("table.include.list", "public.items")];
        let others: [&[_]; 1] = [&[("topic.prefix", "shop.public")]];
        assert_eq!(orphan(&settings, &others, "shop.public.items").as_deref(), Some("+public.items"));
    }
}
