//! One drill's pipeline: a PostgreSQL cluster, a connector, topics, subjects and a repository of its own.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Instant};

use camino::Utf8PathBuf;
use futures::{StreamExt, TryStreamExt, future, stream};

use super::{Context, Servers, keep_logs, sources::sources};
use crate::{
    run::{
        RunError,
        chronicle::{Layout, Source},
    },
    scenario::{ConnectorPlan, DrillPlan, Fault, Recover, Step, WorkloadPlan},
    stack::{LocalStack, OwnerLock, Part, PostgresSpec, RegistrySpec, Silent, StackSpec, WorkerSpec},
};
use cdc_engine::backup::Repository;
use cdc_model::units::{Subject, TableName, counted, near_or};
use cdc_pipeline::{
    client::{
        ClientError,
        catalogue::relations,
        connect::{Connect, snapshot_complete},
        kafka::{Kafka, TopicSpec},
        limits,
        postgres::Postgres,
        registry::Registry,
        wait::{self, Poll},
        watch::doing,
    },
    config::{Config, Tools},
};
use cdc_workload as workload;

/// How Apicurio 3.3.3 says that it left a request unanswered: soon after its start, in about one of some hundred starts,
/// Netty's encoder releases an answer's body twice, the headers go out and the body does not. Apicurio's own client, which
/// the connector registers schemas by, waits for the body without a deadline.
const RELEASED_TWICE: &str = "IllegalReferenceCountException: refCnt: 0";
/// A drill's pipeline. When it is dropped, its servers end.
#[derive(Debug)]
pub(crate) struct Pipeline {
    /// What it is called and captures.
    pub layout: Layout,
    /// How to reach and control it: the same that a person would hand to the commands.
    pub config: Config,
    /// The folder of the cluster's stack.
    pub dir: Utf8PathBuf,
    /// Where the registry that the connectors register with logs to, when a stack of this run has it.
    registry_log: Option<Utf8PathBuf>,
    /// Topics of a Connect worker that is this drill's alone.
    worker_topics: Vec<String>,
    stack: LocalStack,
    _owner: OwnerLock,
    _isolated: Option<Arc<Servers>>,
}

impl Pipeline {
    /// Starts the drill's own servers and lays schema, publication and levels.
    pub(crate) async fn start(
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
            true => {
                Part::Local(RegistrySpec { topic_prefix: format!("{name}-"), ..RegistrySpec::new(plan.stack.registry) })
            }
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
        doing("starting the drill's own servers", stack.start_all(&Silent)).await?;
        stack.write_config()?;
        let config = stack.config()?;
        let sources = sources(plan, name, &config);
        let logs = if own_registry { Some(stack.dir().join("logs")) } else { servers.logs() };
        let pipeline = Pipeline {
            layout: Layout { name: name.to_owned(), sources, own_registry },
            dir,
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
    pub(crate) async fn sql(&self) -> Result<Postgres, RunError> {
        Ok(Postgres::connect(&self.config.postgres.url, "cdc-drill run").await?)
    }

    /// The worker.
    pub(crate) fn connect(&self) -> Connect {
        Connect::of(&self.config.connect)
    }

    /// The registry.
    pub(crate) fn registry(&self) -> Registry {
        Registry::of(&self.config.registry)
    }

    /// The broker.
    pub(crate) fn kafka(&self) -> Result<Kafka, RunError> {
        Ok(Kafka::of(&self.config.kafka)?)
    }

    async fn lay_schema(&self, plan: &DrillPlan) -> Result<(), RunError> {
        let db = self.sql().await?;
        if let WorkloadPlan::Pgbench { scale, .. } = &plan.workload {
            let tools = Tools::of(&self.config);
            doing("pgbench -i", workload::pgbench::init(&tools, &self.config.postgres.url, *scale)).await?;
        }
        if let (false, Some(schema)) = (matches!(plan.workload, WorkloadPlan::Pgbench { .. }), &plan.pipeline.schema) {
            doing(format!("running {}", schema.path), db.run_file(&schema.path, &schema.text)).await?;
        }
        if plan.workload.is_bracketed() {
            workload::sql::lay(&db).await?;
        }
        let several = self.layout.sources.len() > 1;
        for source in &self.layout.sources {
            if several {
                workload::sql::lay_markers(&db, &source.markers).await?;
            }
        }
        let there: Vec<TableName> = relations(&db).await?.into_iter().map(|relation| relation.name).collect();
        for (source, own) in self.layout.sources.iter().zip(&plan.pipeline.connectors) {
            all_there(plan, own, &source.tables, &there)?;
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
        if self.layout.own_registry {
            register_foreign_subjects(&registry, plan.pipeline.foreign_subjects).await?;
        }
        Ok(())
    }

    /// Creates the connectors and waits until the first snapshots are complete and they stream; then sets the subjects' levels.
    pub(crate) async fn start_connectors(&self, plan: &DrillPlan) -> Result<(), RunError> {
        let connect = self.connect();
        for (source, own) in self.layout.sources.iter().zip(&plan.pipeline.connectors) {
            let wrong = connect.validate(&source.config).await?;
            if !wrong.is_empty() {
                return Err(RunError::Scenario {
                    scenario: plan.id.to_string(),
                    what: format!("connector {}", own.file),
                    expected: "a configuration that the worker accepts".into(),
                    found: wrong.join("; "),
                    hint: "correct the connector's file, or its settings in the scenario".into(),
                });
            }
        }
        future::try_join_all(self.layout.sources.iter().map(|source| self.start_connector(source))).await?;
        let registry = self.registry();
        for (subject, level) in plan.pipeline.subject_levels(|table| self.layout.topic(table)) {
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

    /// What stands in a schema-history topic, as text; none when there is no such topic.
    pub(crate) async fn history(&self, topic: &str) -> Result<Option<Vec<String>>, RunError> {
        let kafka = self.kafka()?;
        if !kafka.topics().await?.contains_key(topic) {
            return Ok(None);
        }
        let records = kafka.read_all(topic).await?.into_iter();
        let text = |value: Vec<u8>| String::from_utf8_lossy(&value).into_owned();
        Ok(Some(records.filter_map(|r| r.value.map(text)).collect()))
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

    /// What is seen of the topics that a connector writes to: how many records they were given, and which are not there.
    async fn topics(&self, kafka: &Kafka, source: &Source) -> Result<TopicsSeen, ClientError> {
        let there = kafka.topics().await?;
        let (own, missing): (Vec<String>, Vec<String>) =
            source.tables.iter().map(|table| source.topic(table)).partition(|topic| there.contains_key(topic));
        let mut records = 0;
        for topic in own {
            records += kafka.watermarks(&topic).await?.iter().map(|(_, high)| high.0).sum::<i64>();
        }
        Ok(TopicsSeen { records, missing })
    }

    /// Waits until the connector has finished its snapshot and streams, however long that takes while something moves: records
    /// in its topics, its slot, its state. A FAILED task ends the wait. One that waits for an answer that its registry never
    /// sends is restarted, once: its client waits without end, and says RUNNING.
    async fn streaming(&self, source: &Source) -> Result<(), RunError> {
        let db = self.sql().await?;
        let kafka = self.kafka()?;
        let what = format!("connector {} to stream", source.name);
        // Asking every topic for its end at every look would cost the broker more than the snapshot does.
        let known = std::cell::RefCell::new((Instant::now(), TopicsSeen::default()));
        let look = || async {
            let (seen, position) = self.streams(source, &db).await?;
            let due = known.borrow().0.elapsed() > limits::pacing::COUNT_LOOK;
            if due {
                let topics = self.topics(&kafka, source).await?;
                known.replace((Instant::now(), topics));
            }
            let topics = known.borrow().1.clone();
            let seen = match seen {
                Poll::NotYet(why) => Poll::NotYet(format!("{why}; {position}; {topics}")),
                other => other,
            };
            Ok::<_, ClientError>((seen, (topics.records, position)))
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
        let at = slot.map_or_else(|| "no slot".to_owned(), |_| format!("slot at {confirmed}"));
        let position = format!("{}, {at}", status.summary());
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
        if self.layout.own_registry {
            return Ok(());
        }
        let registry = &self.registry();
        let start = self.layout.topic_start();
        let own = registry.subjects(true).await?.into_iter().filter(|s| s.as_str().starts_with(&start));
        stream::iter(own.map(|subject| async move { registry.delete_subject(&subject, true).await }))
            .buffer_unordered(AT_ONCE)
            .try_for_each(|_| async { Ok(()) })
            .await?;
        Ok(())
    }

    /// Removes what stands on shared servers, and stops the drill's own. Errors here do not change a verdict: what is
    /// left over has this drill's name and disturbs no other.
    pub(crate) async fn stop(&self, context: &Context) -> Result<(), RunError> {
        // Whatever fails, the servers end and their logs are kept: they tell why.
        let cleared = self.clear_shared().await;
        let stopped = self.stack.stop_all().await;
        context.census.remove(self.stack.dir());
        let kept = keep_logs(&self.stack.dir().join("logs"), &context.logs().join(&self.layout.name));
        cleared?;
        stopped?;
        // Not before its worker is down, which would make them again.
        self.kafka()?.delete_topics(&self.worker_topics).await?;
        kept
    }

    /// Takes back what the drill made on servers that others use too.
    async fn clear_shared(&self) -> Result<(), RunError> {
        let connect = self.connect();
        for name in self.layout.connectors() {
            if connect.exists(&name).await? {
                connect.stopped(&name, limits::connectors::STOPPED).await?;
                connect.delete_offsets(&name).await?;
                connect.delete(&name).await?;
            }
        }
        let mut topics = self.layout.topics();
        topics.extend(self.layout.schema_histories());
        self.kafka()?.delete_topics(&topics).await?;
        self.clear_registry().await
    }
}

/// What is seen of a connector's topics.
#[derive(Clone, Debug, Default)]
struct TopicsSeen {
    /// How many records those that are there were given.
    records: i64,
    /// Those that are not there. One of a table without rows comes with its first one.
    missing: Vec<String>,
}

impl fmt::Display for TopicsSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in its topics", counted(self.records.unsigned_abs(), "record"))?;
        match self.missing.as_slice() {
            [] => Ok(()),
            missing => write!(f, "; not made yet: {}", missing.join(", ")),
        }
    }
}

/// Refuses a connector that is to capture a table that the schema did not make.
fn all_there(
    plan: &DrillPlan,
    connector: &ConnectorPlan,
    wanted: &[TableName],
    there: &[TableName],
) -> Result<(), RunError> {
    let missing: Vec<&TableName> = wanted.iter().filter(|table| !there.contains(table)).collect();
    let Some(first) = missing.first() else { return Ok(()) };
    let names: Vec<String> = there.iter().map(TableName::to_string).collect();
    let tables = missing.iter().map(|table| format!("`{table}`")).collect::<Vec<_>>().join(", ");
    let schema =
        plan.pipeline.schema.as_ref().map(|schema| format!(" when {} has run", schema.path)).unwrap_or_default();
    Err(RunError::Scenario {
        scenario: plan.id.to_string(),
        what: format!("captured tables of connector {}", connector.file),
        expected: format!("tables that are there{schema}"),
        found: format!("no {tables}"),
        hint: near_or(&first.to_string(), names.iter().map(String::as_str), || {
            format!("there are {}; views and foreign tables cannot be captured", names.join(", "))
        }),
    })
}

/// Subjects that are deleted at the same time.
const AT_ONCE: usize = 4;

/// A drill that damages the registry, or restores it as a whole, has one of its own: no verdict leaks into another drill.
/// A command that answers to a refused schema may do anything to the registry.
pub(crate) fn needs_own_registry(plan: &DrillPlan) -> bool {
    let refused = plan.steps.iter().any(|s| matches!(s, Step::Fault(Fault::AlterColumn(_))));
    plan.damages_registry()
        || plan.steps.iter().any(|s| matches!(s, Step::Recover(Recover::Schema(_))))
        || (refused && !plan.commands().is_empty())
}

/// Enough WAL for any drill: what a command restores over is gone, and the ledger's order of commits is read from it.
const WAL_KEEP: (&str, &str) = ("wal_keep_size", "'2GB'");

/// Whether WAL must be kept for a drill's own commands. A server that keeps it invalidates no slot.
fn keeps_wal(plan: &DrillPlan) -> bool {
    let invalidates = plan.steps.iter().any(|s| matches!(s, Step::Fault(Fault::InvalidateSlot)));
    !plan.commands().is_empty() && !invalidates
}

fn postgres_spec(drill: &DrillPlan) -> PostgresSpec {
    let plan = &drill.stack;
    let mut settings: Vec<(String, String)> = plan.postgres_settings.clone().into_iter().collect();
    if keeps_wal(drill) && !plan.postgres_settings.contains_key(WAL_KEEP.0) {
        settings.push((WAL_KEEP.0.to_owned(), WAL_KEEP.1.to_owned()));
    }
    PostgresSpec {
        wal_segment_mib: plan.wal_segment_mib,
        max_slot_wal_keep_size: plan.max_slot_wal_keep_mib.map_or_else(|| "-1".to_owned(), |mib| format!("{mib}MB")),
        settings,
        ..PostgresSpec::default()
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
