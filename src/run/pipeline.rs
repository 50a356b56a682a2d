//! One drill's pipeline: a PostgreSQL cluster, a connector, topics, subjects and a repository of its own.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use camino::Utf8PathBuf;
use futures::{StreamExt, TryStreamExt, future, stream};

use super::{Context, RunError, exec, shared::Servers};
use crate::{
    backup::Repository,
    client::{
        ClientError,
        connect::{Connect, ConnectorConfig, snapshot_complete},
        kafka::{Kafka, TopicSpec},
        limits,
        postgres::Postgres,
        registry::Registry,
        wait::{self, Poll},
    },
    config::{Config, Tools},
    debezium::{Choice, Lists},
    scenario::{ConnectorPlan, DrillPlan, Fault, Recover, RegistryStorageKind, Step, WorkloadPlan},
    stack::{
        Silent,
        local::{
            LocalStack, OwnerLock, Part, PostgresSpec, RegistrySpec, RegistryStorageKind as StorageKind, StackSpec,
            WorkerSpec,
        },
        use_schema_resolver,
    },
    units::{Subject, TableName},
    workload,
};

/// How Apicurio 3.3.3 says that it left a request unanswered: soon after its start, in about one of some hundred starts,
/// Netty's encoder releases an answer's body twice, the headers go out and the body does not. Apicurio's own client, which
/// the connector registers schemas by, waits for the body without a deadline.
const RELEASED_TWICE: &str = "IllegalReferenceCountException: refCnt: 0";
/// The setting by which a historized connector names its schema-history topic.
const SCHEMA_HISTORY: &str = "schema.history.internal.kafka.topic";

/// A drill's pipeline. When it is dropped, its servers end.
#[derive(Debug)]
pub struct Pipeline {
    /// The drill's name; the only connector has it too.
    pub name: String,
    /// How to reach and control it: the same that a person would hand to the commands.
    pub config: Config,
    /// The captured tables of all connectors.
    pub tables: Vec<TableName>,
    /// The source connectors; at least one.
    pub sources: Vec<Source>,
    /// The folder of the cluster's stack.
    pub dir: Utf8PathBuf,
    /// Whether the registry is this drill's alone.
    pub own_registry: bool,
    /// Where the registry that the connectors register with logs to, when a stack of this run has it.
    registry_log: Option<Utf8PathBuf>,
    /// Topics of a Connect worker that is this drill's alone.
    worker_topics: Vec<String>,
    stack: LocalStack,
    _owner: OwnerLock,
    _isolated: Option<Arc<Servers>>,
}

/// A source connector of a drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Topic prefix, connector, slot and publication all have this name.
    pub name: String,
    /// Its configuration as created.
    pub config: ConnectorConfig,
    /// The tables that it captures.
    pub tables: Vec<TableName>,
    /// The one of them that marker rows are written to.
    pub markers: TableName,
    /// Its file as the scenario names it, for messages.
    file: Utf8PathBuf,
}

impl Source {
    /// The topic of a table that it captures.
    pub fn topic(&self, table: &TableName) -> String {
        format!("{}.{}.{}", self.name, table.schema, table.name)
    }

    /// The schema-history topic that it names, if it names one.
    fn schema_history(&self) -> Option<&String> {
        self.config.get(SCHEMA_HISTORY)
    }
}

impl Pipeline {
    /// Starts the drill's own servers and lays schema, publication and levels.
    pub async fn start(
        plan: &DrillPlan,
        name: &str,
        context: &Context,
        servers: Arc<Servers>,
        isolated: bool,
    ) -> Result<Pipeline, RunError> {
        // A level for all subjects is set below: not in somebody's registry.
        let own_registry = needs_own_registry(plan) || isolated || servers.are_attached();
        let registry = match own_registry {
            false => Part::External(servers.registry.clone()),
            true => Part::Local(RegistrySpec {
                topic_prefix: format!("{name}-"),
                ..RegistrySpec::new(match plan.stack.registry {
                    RegistryStorageKind::H2 => StorageKind::H2,
                    RegistryStorageKind::Kafkasql => StorageKind::Kafkasql,
                })
            }),
        };
        // On the shared broker: its topics and its group have the drill's name.
        let worker = match plan.stack.plugins.is_empty() {
            true => WorkerSpec::default(),
            false => WorkerSpec { group: format!("{name}-connect"), plugins: plan.stack.plugins.clone() },
        };
        let spec = StackSpec {
            postgres: Some(postgres_spec(plan)),
            kafka: Part::External(servers.kafka.clone()),
            connect: match plan.stack.plugins.is_empty() {
                true => Part::External(servers.connect.clone()),
                false => Part::Local(()),
            },
            worker: worker.clone(),
            registry,
            ..StackSpec::default()
        };
        let dir = context.work.join(name);
        let mut stack = LocalStack::create(&dir, spec, &*context.backend)?;
        let owner = stack.own()?;
        context.census.add(stack.folder());
        // Before the first segment is archived: a refused one is offered again only after a minute.
        Repository::init(&stack.config()?.repository.path)?;
        stack.start_all(&Silent).await?;
        stack.write_config()?;
        let config = stack.config()?;
        let sources = sources(plan, name, &config);
        let logs = if own_registry { Some(stack.dir().join("logs")) } else { servers.logs() };
        let pipeline = Pipeline {
            name: name.to_owned(),
            tables: sources.iter().flat_map(|s| s.tables.clone()).collect(),
            sources,
            dir,
            own_registry,
            registry_log: logs.map(|logs| logs.join("registry.log")),
            config,
            worker_topics: if plan.stack.plugins.is_empty() { Vec::new() } else { worker.topics().to_vec() },
            stack,
            _owner: owner,
            _isolated: isolated.then_some(servers),
        };
        pipeline.lay_schema(plan).await?;
        pipeline.lay_registry(plan).await?;
        Ok(pipeline)
    }

    /// A session on the captured database.
    pub async fn sql(&self) -> Result<Postgres, RunError> {
        Ok(Postgres::connect(&self.config.postgres.url, "cdc-drill run").await?)
    }

    /// The worker.
    pub fn connect(&self) -> Connect {
        Connect::of(&self.config.connect)
    }

    /// The registry.
    pub fn registry(&self) -> Registry {
        Registry::of(&self.config.registry)
    }

    /// The broker.
    pub fn kafka(&self) -> Result<Kafka, RunError> {
        Ok(Kafka::of(&self.config.kafka)?)
    }

    /// The connector that captures a table; the first, where none is known to.
    pub fn source_of(&self, table: &TableName) -> &Source {
        self.sources.iter().find(|s| s.tables.contains(table)).unwrap_or(&self.sources[0])
    }

    /// The names of all connectors.
    pub fn connectors(&self) -> Vec<String> {
        self.sources.iter().map(|s| s.name.clone()).collect()
    }

    /// The topic of a captured table.
    pub fn topic(&self, table: &TableName) -> String {
        self.source_of(table).topic(table)
    }

    /// The data topics.
    pub fn topics(&self) -> Vec<String> {
        self.tables.iter().map(|t| self.topic(t)).collect()
    }

    /// How the subjects begin that are this drill's business: on a shared registry those of its own topics, else all.
    pub fn subject_prefix(&self) -> String {
        if self.own_registry { String::new() } else { self.topic_start() }
    }

    /// How all its topics begin, and no other drill's.
    fn topic_start(&self) -> String {
        match self.sources.as_slice() {
            [only] => format!("{}.", only.name),
            _ => format!("{}_", self.name),
        }
    }

    async fn lay_schema(&self, plan: &DrillPlan) -> Result<(), RunError> {
        let db = self.sql().await?;
        if let WorkloadPlan::Pgbench { scale, .. } = &plan.workload {
            workload::pgbench::init(&Tools::of(&self.config), &self.config.postgres.url, *scale).await?;
        }
        if let (false, Some(schema)) = (matches!(plan.workload, WorkloadPlan::Pgbench { .. }), &plan.pipeline.schema) {
            db.run(&schema.text).await?;
        }
        if plan.workload.is_bracketed() {
            workload::sql::lay(&db).await?;
        }
        let several = self.sources.len() > 1;
        for source in &self.sources {
            if several {
                workload::sql::lay_markers(&db, &source.markers).await?;
            }
            let tables: Vec<String> = source.tables.iter().map(TableName::quoted).collect();
            db.run(&format!("create publication \"{}\" for table {}", source.name, tables.join(", "))).await?;
        }
        Ok(())
    }

    async fn lay_registry(&self, plan: &DrillPlan) -> Result<(), RunError> {
        let registry = self.registry();
        // Drills that share a registry begin at the same time, and setting a level that is being set is a conflict.
        let level = plan.pipeline.level.word();
        if registry.global_level().await?.as_deref() != Some(level)
            && let Err(error) = registry.set_global_level(level).await
            && (error.status() != Some(409) || registry.global_level().await?.as_deref() != Some(level))
        {
            return Err(error.into());
        }
        if self.own_registry {
            register_foreign_subjects(&registry, plan.pipeline.foreign_subjects).await?;
        }
        Ok(())
    }

    /// Creates the connectors and waits until the first snapshots are complete and they stream; then sets the subjects' levels.
    pub async fn start_connectors(&self, plan: &DrillPlan) -> Result<(), RunError> {
        let connect = self.connect();
        for source in &self.sources {
            let wrong = connect.validate(&source.config).await?;
            if !wrong.is_empty() {
                return Err(RunError::Scenario {
                    scenario: plan.id.to_string(),
                    what: format!("connector {}", source.file),
                    expected: "a configuration that the worker accepts".into(),
                    found: wrong.join("; "),
                    hint: "correct the connector's file, or its settings in the scenario".into(),
                });
            }
        }
        future::try_join_all(self.sources.iter().map(|source| self.start_connector(source))).await?;
        let registry = self.registry();
        for (subject, level) in plan.pipeline.subject_levels(|table| self.topic(table)) {
            registry.set_subject_level(&Subject::new(subject), level.word()).await?;
        }
        Ok(())
    }

    async fn start_connector(&self, source: &Source) -> Result<(), RunError> {
        let connect = self.connect();
        self.lay_schema_history(source).await?;
        // A connector whose mode takes no snapshot got its topics' first contents in a former life.
        let mode = source.config.get("snapshot.mode").map(String::as_str);
        if mode.is_some_and(|m| m == "no_data" || m == "never") {
            let mut first = source.config.clone();
            first.insert("snapshot.mode".to_owned(), "initial".to_owned());
            connect.create(&source.name, &first, "RUNNING").await?;
            self.streaming(source).await?;
            connect.put_config(&source.name, &source.config).await?;
        } else {
            connect.create(&source.name, &source.config, "RUNNING").await?;
        }
        self.streaming(source).await
    }

    /// The schema-history topics that the connectors name.
    pub fn schema_histories(&self) -> Vec<String> {
        self.sources.iter().filter_map(Source::schema_history).cloned().collect()
    }

    /// Makes the schema-history topic with records in it, as a historized connector would have left them.
    async fn lay_schema_history(&self, source: &Source) -> Result<(), RunError> {
        let Some(topic) = source.schema_history() else { return Ok(()) };
        let kafka = self.kafka()?;
        let settings = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
        kafka.create_topics(&[TopicSpec { name: topic.clone(), partitions: 1, replication: 1, settings }]).await?;
        for table in &source.tables {
            let ddl = format!(r#"{{"source":{{"server":"{}"}},"ddl":"CREATE TABLE {table}"}}"#, source.name);
            kafka.produce(topic, Some(0), None, Some(ddl.as_bytes())).await?;
        }
        Ok(())
    }

    /// Waits until the connector has finished its snapshot and streams, however long that takes while something moves: records
    /// in its topics, its slot, its state. A FAILED task ends the wait. One that waits for an answer that its registry never
    /// sends is restarted, once: its client waits without end, and says RUNNING.
    async fn streaming(&self, source: &Source) -> Result<(), RunError> {
        let db = self.sql().await?;
        let kafka = self.kafka()?;
        let what = format!("connector {} to stream", source.name);
        // Asking every topic for its end at every look would cost the broker more than the snapshot does.
        let counted = std::cell::Cell::new((Instant::now(), 0));
        let look = || async {
            let (seen, position) = self.streams(source, &db).await?;
            if counted.get().0.elapsed() > limits::pacing::COUNT_LOOK {
                counted.set((Instant::now(), records(&kafka, source).await?));
            }
            let records = counted.get().1;
            let seen = match seen {
                Poll::NotYet(why) => Poll::NotYet(format!("{why}; {records} records in its topics")),
                other => other,
            };
            Ok::<_, ClientError>((seen, (records, position)))
        };
        let mut waited = wait::while_moving(&what, limits::connectors::UNANSWERED, look).await;
        if let Err(ClientError::TimedOut { .. }) = waited {
            if self.registry_left_unanswered() {
                tracing::warn!(connector = source.name, log = ?self.registry_log, "restarted: {RELEASED_TWICE}");
                self.connect().restart(&source.name).await?;
            }
            waited = wait::while_moving(&what, limits::connectors::DRILL_STALLED, look).await;
        }
        Ok(waited?)
    }

    /// A connector that streams has a stored offset without a snapshot mark, and an active slot. What else changes on the way
    /// there, as text: its state and its slot's position.
    async fn streams(&self, source: &Source, db: &Postgres) -> Result<(Poll<()>, String), ClientError> {
        let (connect, name) = (self.connect(), &source.name);
        let status = connect.status(name).await?;
        let slots = db.slots().await?;
        let slot = slots.iter().find(|s| s.name.as_str() == name);
        let confirmed = slot.and_then(|s| s.confirmed_flush_lsn).unwrap_or_default();
        let position = format!("{}, slot {} at {confirmed}", status.summary(), slot.is_some());
        if let Some(failure) = status.failure() {
            return Ok((Poll::Hopeless(failure), position));
        }
        if !status.all_running() {
            return Ok((Poll::NotYet(status.summary()), position));
        }
        let offsets = connect.offsets(name).await?;
        let seen = match (offsets.first().and_then(|o| o.offset.as_ref()), slot) {
            (None, _) => Poll::NotYet("no stored offset".into()),
            (Some(offset), _) if !snapshot_complete(offset) => Poll::NotYet("the snapshot is not complete".into()),
            (Some(_), Some(slot)) if slot.active => Poll::Ready(()),
            (Some(_), Some(_)) => Poll::NotYet("the slot is not active".into()),
            (Some(_), None) => Poll::NotYet("there is no slot".into()),
        };
        Ok((seen, position))
    }

    /// Whether the registry's log tells of an answer that it made and did not send.
    fn registry_left_unanswered(&self) -> bool {
        let log = self.registry_log.as_ref().and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        String::from_utf8_lossy(&log).contains(RELEASED_TWICE)
    }

    /// Deletes this drill's subjects for good: every drill reads the whole registry several times.
    async fn clear_registry(&self) -> Result<(), RunError> {
        if self.own_registry {
            return Ok(());
        }
        let registry = &self.registry();
        let start = self.topic_start();
        let own = registry.subjects(true).await?.into_iter().filter(|s| s.as_str().starts_with(&start));
        stream::iter(own.map(|subject| async move { registry.delete_subject(&subject, true).await }))
            .buffer_unordered(AT_ONCE)
            .try_for_each(|_| async { Ok(()) })
            .await?;
        Ok(())
    }

    /// Removes what stands on shared servers, and stops the drill's own. Errors here do not change a verdict: what is
    /// left over has this drill's name and disturbs no other.
    pub async fn stop(&self, context: &Context) -> Result<(), RunError> {
        // Whatever fails, the servers end and their logs are kept: they tell why.
        let cleared = self.clear_shared().await;
        let stopped = self.stack.stop_all().await;
        context.census.remove(self.stack.dir());
        let kept = super::engine::keep_logs(&self.stack.dir().join("logs"), &context.logs.join(&self.name));
        cleared?;
        stopped?;
        // Not before its worker is down, which would make them again.
        self.kafka()?.delete_topics(&self.worker_topics).await?;
        kept
    }

    /// Takes back what the drill made on servers that others use too.
    async fn clear_shared(&self) -> Result<(), RunError> {
        let connect = self.connect();
        for name in self.connectors() {
            if connect.exists(&name).await? {
                connect.stopped(&name, limits::connectors::STOPPED).await?;
                connect.delete_offsets(&name).await?;
                connect.delete(&name).await?;
            }
        }
        let mut topics = self.topics();
        topics.extend(self.schema_histories());
        self.kafka()?.delete_topics(&topics).await?;
        self.clear_registry().await
    }
}

/// How many records the connector's topics were given, as far as they are there.
async fn records(kafka: &Kafka, source: &Source) -> Result<i64, ClientError> {
    let there = kafka.topics().await?;
    let own = source.tables.iter().map(|table| source.topic(table)).filter(|topic| there.contains_key(topic));
    let mut records = 0;
    for topic in own {
        records += kafka.watermarks(&topic).await?.iter().map(|(_, high)| high.0).sum::<i64>();
    }
    Ok(records)
}

/// Subjects that are deleted at the same time.
const AT_ONCE: usize = 4;

/// A drill that damages the registry, or restores it as a whole, has one of its own: no verdict leaks into another drill.
/// A command that answers to a refused schema may do anything to the registry.
pub(super) fn needs_own_registry(plan: &DrillPlan) -> bool {
    let refused = plan.steps.iter().any(|s| matches!(s, Step::Fault(Fault::AlterColumn(_))));
    plan.damages_registry()
        || plan.steps.iter().any(|s| matches!(s, Step::Recover(Recover::Schema(_))))
        || (refused && !plan.commands().is_empty())
}

fn postgres_spec(drill: &DrillPlan) -> PostgresSpec {
    let plan = &drill.stack;
    let mut settings: Vec<(String, String)> = plan.postgres_settings.clone().into_iter().collect();
    if exec::keeps_wal(drill) && !plan.postgres_settings.contains_key(exec::WAL_KEEP.0) {
        settings.push((exec::WAL_KEEP.0.to_owned(), exec::WAL_KEEP.1.to_owned()));
    }
    PostgresSpec {
        wal_segment_mib: plan.wal_segment_mib,
        max_slot_wal_keep_size: plan.max_slot_wal_keep_mib.map_or_else(|| "-1".to_owned(), |mib| format!("{mib}MB")),
        settings,
        ..PostgresSpec::default()
    }
}

/// The scenario's connectors, on this drill's cluster and under this drill's name.
fn sources(plan: &DrillPlan, drill: &str, config: &Config) -> Vec<Source> {
    let connectors = &plan.pipeline.connectors;
    let captured = |table: &TableName| connectors.iter().any(|c| c.tables.contains(table));
    let source = |(at, connector): (usize, &ConnectorPlan)| {
        // A slot's name has no hyphens.
        let short = connector.name.as_deref().map(|name| name.replace('-', "_"));
        let name = short.as_ref().map_or_else(|| drill.to_owned(), |short| format!("{drill}_{short}"));
        // A scenario with its own SQL knows nothing of the tables that the drill needs for itself: the first connector has them.
        let mut own = match at == 0 && plan.workload.is_bracketed() {
            true => workload::sql::tables(),
            false => Vec::new(),
        };
        own.retain(|table| !captured(table));
        let mut markers = TableName::new("public", workload::sql::MARKERS);
        let has_markers = connector.tables.contains(&markers) || own.contains(&markers);
        // Only what a connector captures tells how far it has come: each of several needs markers of its own.
        if let (Some(short), false) = (&short, has_markers) {
            markers = TableName::new("public", format!("{}_{short}", workload::sql::MARKERS));
            own.push(markers.clone());
        }
        let mut settings = connector_config(plan, connector, &name, config);
        include(&mut settings, &own);
        let tables = connector.tables.iter().cloned().chain(own).collect();
        Source { name, config: settings, tables, markers, file: connector.file.clone() }
    };
    connectors.iter().enumerate().map(source).collect()
}

/// A connector's settings with the drill's names and servers in them.
fn connector_config(plan: &DrillPlan, own: &ConnectorPlan, name: &str, config: &Config) -> ConnectorConfig {
    let url = crate::client::postgres::address(&config.postgres.url).ok();
    let host = url.as_ref().and_then(|u| u.get_hosts().first()).map(|h| match h {
        tokio_postgres::config::Host::Tcp(host) => host.clone(),
        tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
    });
    let port = url.as_ref().and_then(|u| u.get_ports().first()).map(ToString::to_string);
    let password = url.as_ref().and_then(|u| u.get_password()).map(|p| String::from_utf8_lossy(p).into_owned());
    let values: BTreeMap<&str, String> = BTreeMap::from([
        ("name", name.to_owned()),
        ("prefix", name.to_owned()),
        ("slot", name.to_owned()),
        ("publication", name.to_owned()),
        ("host", host.unwrap_or_default()),
        ("port", port.unwrap_or_default()),
        ("user", url.as_ref().and_then(|u| u.get_user()).unwrap_or_default().to_owned()),
        ("password", password.unwrap_or_default()),
        ("database", url.as_ref().and_then(|u| u.get_dbname()).unwrap_or_default().to_owned()),
        ("registry", config.registry.url.clone()),
        ("bootstrap", config.kafka.bootstrap.clone()),
        ("partitions", plan.pipeline.partitions.to_string()),
    ]);
    let filled = |text: &String| values.iter().fold(text.clone(), |t, (k, v)| t.replace(&format!("{{{k}}}"), v));
    let mut connector: ConnectorConfig = own.settings.iter().map(|(k, v)| (k.clone(), filled(v))).collect();
    // Whatever the file says: a drill's names and servers are its own.
    for (key, value) in [
        ("name", "name"),
        ("topic.prefix", "prefix"),
        ("slot.name", "slot"),
        ("publication.name", "publication"),
        ("database.hostname", "host"),
        ("database.port", "port"),
        ("database.user", "user"),
        ("database.password", "password"),
        ("database.dbname", "database"),
    ] {
        connector.insert(key.to_owned(), values[value].clone());
    }
    use_schema_resolver(&mut connector, &config.connect);
    connector
}

/// Lets the connector capture the drill's own tables too, where its lists of tables and schemas would leave them out. What a list
/// that excludes leaves out stays out.
fn include(connector: &mut ConnectorConfig, own: &[TableName]) {
    for table in own {
        for (setting, name) in
            [("schema.include.list", table.schema.clone()), ("table.include.list", table.to_string())]
        {
            let alone: ConnectorConfig =
                connector.get_key_value(setting).into_iter().map(|(k, v)| (k.clone(), v.clone())).collect();
            let taken = Lists::of(&alone).table(table) == Choice::Taken;
            if let (false, Some(list)) = (taken, connector.get_mut(setting)) {
                list.push_str(&format!(",{name}"));
            }
        }
    }
}

/// Registers subjects of other people: one is deleted for good, which leaves a hole in the ids, and two share a schema and
/// so an id.
async fn register_foreign_subjects(registry: &Registry, count: u32) -> Result<(), RunError> {
    let schema = |n: u32| {
        format!(
            r#"{{"type":"record","name":"Foreign{n}","namespace":"other.people","fields":[{{"name":"f{n}","type":"string"}}]}}"#
        )
    };
    for n in 0..count {
        registry.register(&Subject::new(format!("other-{n}-value")), &schema(n), &[]).await?;
    }
    if count > 0 {
        registry.register(&Subject::new("other-shared-value"), &schema(0), &[]).await?;
    }
    if count > 1 {
        registry.delete_subject(&Subject::new(format!("other-{}-value", count - 1)), true).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drills_own_tables_join_the_lists_that_are_there() {
        let mut connector = ConnectorConfig::from_iter([
            ("table.include.list".to_owned(), r"clinic.visits, public\.markers".to_owned()),
            ("schema.include.list".to_owned(), "clinic".to_owned()),
        ]);
        include(&mut connector, &workload::sql::tables());
        assert_eq!(connector["table.include.list"], r"clinic.visits, public\.markers,public.drill_transactions");
        assert_eq!(connector["schema.include.list"], "clinic,public");
        let mut without = ConnectorConfig::new();
        include(&mut without, &workload::sql::tables());
        assert!(without.is_empty(), "a list that is not there captures everything: {without:?}");
    }
}
