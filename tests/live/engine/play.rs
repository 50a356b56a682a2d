//! A pipeline on which drills of the engine run one after the other: two connectors, one of which is paused and one of which has a
//! snapshot mode that takes none; two sinks, one of which is paused; topics, groups and subjects with settings of their own.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Seek, SeekFrom},
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use camino::Utf8PathBuf;
use cdc_harness::{
    fault::{Fault, Target},
    stack::{ConnectorRequest, debezium_config, file_sink_config},
};
use cdc_model::{
    event::Landed,
    units::{Offset, Secret, SlotName, Subject, TableName, TopicPartition},
    vocabulary::ColumnChange,
};
use cdc_pipeline::{
    client::{
        connect::Connect,
        kafka::{Kafka, TopicSpec},
        postgres::Postgres,
        registry::Registry,
        wait,
    },
    config::Config,
};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};

use super::{
    plan::{Broken, Storage},
    state::{Places, State},
};
use crate::{
    PROGRAM,
    sandbox::{DEADLINE, Stack},
};

pub(super) const DATABASES: [&str; 2] = ["shop", "extra"];
/// By database.
pub(super) const TABLES: [(&str, &str); 3] = [("shop", "orders"), ("shop", "items"), ("extra", "orders")];
pub(super) const CONNECTORS: [&str; 2] = ["shop", "extra"];
/// The last one is that of the paused sink, which has no consumer; that of the running one goes on by itself.
pub(super) const GROUPS: [&str; 3] = ["audit", "billing", "connect-idle"];
/// Sinks on the topic of orders, with their states.
const SINKS: [(&str, &str); 2] = [("files", "RUNNING"), ("idle", "PAUSED")];
const ORDERS: &str = "shop.public.orders";
const HISTORY: &str = "shop.history";
/// More than the connectors have schemas: registered again first, these would have other ids.
const FOREIGN_SUBJECTS: u32 = 24;
/// Added to each table for every drill, and between two runs.
const ROWS: i64 = 10;

/// A stack with its pipeline, and what its tables must hold.
pub(super) struct Play {
    stack: Stack,
    /// What the running sink writes.
    written: Written,
    pub(super) registry: Storage,
    pub(super) places: Places,
    /// The committed ids of each table that nobody deleted.
    pub(super) rows: BTreeMap<String, BTreeSet<i64>>,
    next: i64,
    drills: u32,
    // Removed when the stack is down.
    _folder: tempfile::TempDir,
}

/// The rows that the running sink was given, as its file has them.
#[derive(Debug)]
struct Written {
    file: Utf8PathBuf,
    /// So far it was read.
    at: u64,
    ever: BTreeSet<i64>,
    /// Since the fault.
    since: BTreeSet<i64>,
}

impl Written {
    /// Reads on. Records are no text, but each note is: `row 7`.
    fn read(&mut self) {
        let Ok(mut file) = std::fs::File::open(&self.file) else { return };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.at)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        // No note has a line break: one that is half written is left for the next time.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.at += whole as u64;
        let mark = b"row ";
        for at in 0..whole.saturating_sub(mark.len()) {
            if bytes[at..].starts_with(mark) {
                let digits: String = bytes[at + mark.len()..]
                    .iter()
                    .take_while(|b| b.is_ascii_digit())
                    .map(|b| char::from(*b))
                    .collect();
                self.since.extend(digits.parse::<i64>());
            }
        }
        self.ever.extend(&self.since);
    }
}

/// How a command ended.
pub(super) struct Ended {
    /// Its exit code; none when a signal ended it.
    pub(super) exit: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl Ended {
    pub(super) fn how(&self) -> String {
        match (self.exit, self.signal) {
            (Some(exit), _) => {
                format!("exit {exit}: {}", self.err.lines().rev().take(6).collect::<Vec<_>>().join(" | "))
            }
            (None, signal) => format!("signal {signal:?}"),
        }
    }
}

impl Play {
    /// Brings up the stack and its pipeline.
    pub(super) async fn up(registry: Storage) -> Play {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755)).unwrap();
        let temporary = root.join("tmp");
        std::fs::create_dir(&temporary).unwrap();
        // The data folder's owner writes there too.
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o1777)).unwrap();
        let stack = Stack::up(root.join("stack"), &format!("--registry {}", registry.word()));
        let pgdata = stack.config().postgres.pgdata.clone();
        let places = Places {
            repository: stack.config().repository.path.clone(),
            registry: stack.dir.join("registry"),
            pgdata,
            temporary,
        };
        let sinks = root.join("sinks");
        std::fs::create_dir(&sinks).unwrap();
        std::fs::set_permissions(&sinks, std::fs::Permissions::from_mode(0o777)).unwrap();
        let file = sinks.join("files");
        let written = Written { file, at: 0, ever: BTreeSet::new(), since: BTreeSet::new() };
        let rows = TABLES.iter().map(|(database, table)| (format!("{database}.{table}"), BTreeSet::new())).collect();
        let mut play = Play { stack, written, registry, places, rows, next: 1, drills: 0, _folder: folder };
        play.pipeline().await;
        play
    }

    pub(super) fn config(&self) -> &Config {
        self.stack.config()
    }

    pub(super) async fn state(&self) -> State {
        State::read(self.config(), &self.places).await
    }

    fn kafka(&self) -> Kafka {
        Kafka::of(&self.config().kafka).unwrap()
    }

    fn connect(&self) -> Connect {
        Connect::of(&self.config().connect)
    }

    async fn pipeline(&mut self) {
        let registry = Registry::of(&self.config().registry);
        registry.set_global_level("BACKWARD").await.unwrap();
        for n in 0..FOREIGN_SUBJECTS {
            let schema =
                format!(r#"{{"type":"record","name":"Foreign{n}","fields":[{{"name":"a","type":"string"}}]}}"#);
            registry.register(&Subject::new(format!("foreign-{n}")), &schema, &[]).await.unwrap();
        }
        let topic = |name: &str, partitions: i32, settings: &[(&str, &str)]| TopicSpec {
            name: name.into(),
            partitions,
            replication: 1,
            settings: settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        };
        let topics = [
            topic(ORDERS, 3, &[("retention.ms", "86400000")]),
            topic("shop.public.items", 2, &[("max.message.bytes", "2000000")]),
            topic("extra.public.orders", 1, &[]),
            topic(HISTORY, 1, &[("retention.ms", "-1")]),
        ];
        self.kafka().create_topics(&topics).await.unwrap();
        for database in DATABASES {
            self.sql("postgres").await.run(&format!("create database {database}")).await.unwrap();
        }
        for (database, table) in TABLES {
            let sql = format!("create table {table} (id bigint primary key, note text, score int)");
            self.sql(database).await.run(&sql).await.unwrap();
        }
        self.insert().await.unwrap();
        for name in CONNECTORS {
            let tables = TABLES.iter().filter(|(database, _)| *database == name);
            let tables = tables.map(|(_, table)| TableName::new("public", *table)).collect();
            let request = ConnectorRequest { name: name.into(), database: name.into(), tables };
            let mut config = debezium_config(self.config(), &request).unwrap();
            if name == "shop" {
                config.insert("schema.history.internal.kafka.topic".into(), HISTORY.into());
            }
            self.connect().put_config(name, &config).await.unwrap();
        }
        self.delivered().await;
        for (name, state) in SINKS {
            let file = self.written.file.with_file_name(name);
            let mut config = file_sink_config(self.config(), &[ORDERS.to_owned()], &file).unwrap();
            // It reads on when the registry is lost, too.
            config.retain(|key, _| !key.contains(".converter."));
            for side in ["key", "value"] {
                config.insert(format!("{side}.converter"), "org.apache.kafka.connect.storage.StringConverter".into());
            }
            self.connect().create(name, &config, state).await.unwrap();
        }
        self.connect().running("files", DEADLINE).await.unwrap();
        // What a second look would not see again.
        let mut config = self.connect().config("shop").await.unwrap();
        config.insert("snapshot.mode".into(), "no_data".into());
        self.connect().put_config("shop", &config).await.unwrap();
        self.connect().running("shop", DEADLINE).await.unwrap();
        self.insert().await.unwrap();
        self.delivered().await;
        self.connect().paused("extra", DEADLINE).await.unwrap();
        for (subject, level) in [("shop.public.orders-value", "FULL"), ("shop.public.items-value", "NONE")] {
            registry.set_subject_level(&Subject::new(subject), level).await.unwrap();
        }
    }

    async fn sql(&self, database: &str) -> Postgres {
        self.stack.sql(database).await
    }

    /// Adds rows to every table, in one transaction a table; they are acknowledged, or there was no server.
    pub(super) async fn insert(&mut self) -> Result<(), String> {
        let (from, to) = (self.next, self.next + ROWS - 1);
        self.next += ROWS;
        for (database, table) in TABLES {
            let url = &self.config().postgres.url;
            let sql = Postgres::connect_database(url, database, "test").await.map_err(|e| e.to_string())?;
            let required = format!(
                "select quote_ident(attname) from pg_attribute where attrelid = '{table}'::regclass and attnum > 0 \
                 and not attisdropped and attnotnull and not atthasdef and attname <> 'id'"
            );
            let required: Vec<String> = sql.texts(&required).await.unwrap().into_iter().flatten().flatten().collect();
            let columns: String = required.iter().map(|column| format!(", {column}")).collect();
            let values = ", 0".repeat(required.len());
            let insert = format!(
                "insert into {table} (id, note, score{columns}) select g, 'row ' || g, g % 7{values} from generate_series({from}, {to}) g"
            );
            sql.run(&insert).await.map_err(|e| e.to_string())?;
            self.rows.get_mut(&format!("{database}.{table}")).unwrap().extend(from..=to);
        }
        Ok(())
    }

    /// Waits until both connectors have sent the last row of each table.
    async fn delivered(&self) {
        let kafka = self.kafka();
        for (database, table) in TABLES {
            if self.connect().status(database).await.unwrap().at_rest().is_some() {
                continue;
            }
            let topic = format!("{database}.public.{table}");
            let last = format!("row {}", self.next - 1);
            wait::until(&format!("`{last}` in {topic}"), DEADLINE, || async {
                let records = kafka.read_all(&topic).await?;
                let there = records.iter().any(|record| {
                    record.value.as_ref().is_some_and(|value| value.windows(last.len()).any(|w| w == last.as_bytes()))
                });
                let failure = self.connect().status(database).await?.failure();
                Ok::<_, cdc_pipeline::client::ClientError>(match (there, failure) {
                    (true, _) => wait::Poll::Ready(()),
                    (false, Some(failure)) => wait::Poll::Hopeless(failure),
                    (false, None) => wait::Poll::NotYet(format!("{} records", records.len())),
                })
            })
            .await
            .unwrap();
        }
    }

    /// Groups stand somewhere, topics have settings that no recovery point has, and something is broken. Says why where that did not
    /// come about; otherwise the restore point before the fault, and what was there before it.
    pub(super) async fn prepare(&mut self, fault: Broken) -> Result<(String, State), String> {
        self.drills += 1;
        let mark = format!("before-{}", self.drills);
        self.insert().await?;
        self.delivered().await;
        let at = |topic: &str, partition: i32, at: i64| (TopicPartition { topic: topic.into(), partition }, Offset(at));
        let kafka = self.kafka();
        let committed = |e: cdc_pipeline::client::ClientError| e.to_string();
        kafka.commit_group_offsets("billing", &[at(ORDERS, 0, 1), at(ORDERS, 1, 1)]).await.map_err(committed)?;
        kafka.commit_group_offsets("connect-idle", &[at(ORDERS, 0, 1), at(ORDERS, 2, 1)]).await.map_err(committed)?;
        kafka.commit_group_offsets("audit", &[at("shop.public.items", 0, 1)]).await.map_err(committed)?;
        kafka
            .produce_all(vec![cdc_pipeline::client::kafka::Outgoing {
                topic: HISTORY.into(),
                partition: Some(0),
                key: None,
                value: Some(b"{}".to_vec()),
                headers: Vec::new(),
            }])
            .await
            .map_err(committed)?;
        let backup = self.run("backup create", &[]);
        if backup.exit != Some(0) {
            return Err(format!("backup create: {}", backup.how()));
        }
        self.retain(86_400_000 + i64::from(self.drills)).await?;
        self.sql("shop").await.run(&format!("select pg_create_restore_point('{mark}')")).await.map_err(committed)?;
        self.sink_has_all().await?;
        let healthy = self.state().await;
        self.written.since.clear();
        self.break_it(fault).await?;
        Ok((mark, healthy))
    }

    /// Sets how long the topic of orders keeps its records.
    async fn retain(&self, ms: i64) -> Result<(), String> {
        let admin: AdminClient<_> = rdkafka::ClientConfig::new()
            .set("bootstrap.servers", &self.config().kafka.bootstrap)
            .create()
            .map_err(|e: rdkafka::error::KafkaError| e.to_string())?;
        let value = ms.to_string();
        let change = AlterConfig::new(ResourceSpecifier::Topic(ORDERS)).set("retention.ms", &value);
        let answers = admin.alter_configs([&change], &AdminOptions::new()).await.map_err(|e| e.to_string())?;
        for answer in answers {
            answer.map_err(|(_, code)| format!("retention.ms of {ORDERS}: {code}"))?;
        }
        let kafka = self.kafka();
        wait::until("the new setting", DEADLINE, || async {
            let spec = kafka.topic_specs(&[ORDERS.to_owned()]).await?.remove(0);
            Ok::<_, cdc_pipeline::client::ClientError>(match spec.settings.get("retention.ms") == Some(&value) {
                true => wait::Poll::Ready(()),
                false => wait::Poll::NotYet(format!("{:?}", spec.settings)),
            })
        })
        .await
        .map_err(|e| e.to_string())
    }

    fn target(&self) -> Target {
        let mut config = self.config().clone();
        let url = config.postgres.url.expose().to_owned();
        let (server, _) = url.rsplit_once('/').unwrap();
        config.postgres.url = Secret::new(format!("{server}/shop"));
        Target {
            config,
            connector: "shop".into(),
            prefix: "shop".into(),
            slot: SlotName::new("shop"),
            tables: vec![TableName::new("public", "orders"), TableName::new("public", "items")],
        }
    }

    async fn break_it(&mut self, fault: Broken) -> Result<(), String> {
        let orders = TableName::new("public", "orders");
        let faults = match fault {
            Broken::Nothing => Vec::new(),
            Broken::RowsDeleted => {
                for table in ["orders", "items"] {
                    let delete = format!("delete from {table} where id % 3 = 0");
                    self.sql("shop").await.run(&delete).await.map_err(|e| e.to_string())?;
                }
                Vec::new()
            }
            Broken::SlotDropped => {
                let (connect, failed) = (self.connect(), |e: cdc_pipeline::client::ClientError| e.to_string());
                connect.stopped("shop", DEADLINE).await.map_err(failed)?;
                let sql = self.sql("shop").await;
                wait::until("slot shop without a reader", DEADLINE, || async {
                    let held = sql.slots().await?.into_iter().any(|slot| slot.name.as_str() == "shop" && slot.active);
                    Ok::<_, cdc_pipeline::client::ClientError>(match held {
                        false => wait::Poll::Ready(()),
                        true => wait::Poll::NotYet("it is active".into()),
                    })
                })
                .await
                .map_err(failed)?;
                sql.run("select pg_drop_replication_slot('shop')").await.map_err(failed)?;
                // Deleted are some that an earlier drill left, each time others.
                for table in ["orders", "items"] {
                    let key = format!("shop.{table}");
                    let gone: Vec<i64> = self.rows[&key].iter().rev().skip(2).step_by(3).take(3).copied().collect();
                    let ids = gone.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
                    self.sql("shop")
                        .await
                        .run(&format!("delete from {table} where id in ({ids})"))
                        .await
                        .map_err(failed)?;
                    self.rows.get_mut(&key).unwrap().retain(|id| !gone.contains(id));
                }
                self.insert().await?;
                connect.resume("shop").await.map_err(failed)?;
                Vec::new()
            }
            Broken::RegistryLost => vec![Fault::RegistryLoseStorage { refill: true }],
            Broken::LevelsChanged => [("orders", "NONE"), ("items", "FULL_TRANSITIVE")]
                .map(|(table, level)| Fault::RegistrySetLevel {
                    subject: Some(Subject::new(format!("shop.public.{table}-value"))),
                    level: level.into(),
                })
                .to_vec(),
            Broken::IntToText => {
                vec![Fault::AlterColumn { table: orders, column: "score".into(), change: ColumnChange::IntToText }]
            }
            Broken::AddNotNull => vec![Fault::AlterColumn {
                table: orders,
                column: format!("added_{}", self.drills),
                change: ColumnChange::AddNotNull,
            }],
        };
        for fault in &faults {
            let guard = fault.inject(&self.target()).await.map_err(|e| e.to_string())?;
            if fault == &(Fault::RegistryLoseStorage { refill: true }) {
                // Under the new ids.
                self.insert().await?;
                self.delivered().await;
            }
            let report = guard.landed().await;
            if report.landed != Landed::Confirmed {
                return Err(format!("{} did not land: {}", report.fault, report.evidence));
            }
        }
        Ok(())
    }

    /// What clients do between the two runs: they commit wherever that counts, and the topic that is gone is made for them by the broker,
    /// with its defaults.
    pub(super) async fn meanwhile(&mut self, before: &State, goes_back: bool) -> Result<(), String> {
        let url = self.config().postgres.url.clone();
        let counts = match Postgres::connect_database(&url, "shop", "test").await {
            Ok(sql) => !goes_back || sql.timeline().await.map_err(|e| e.to_string())?.get() > before.timeline,
            Err(_) => false,
        };
        if counts {
            self.insert().await?;
        }
        let kafka = self.kafka();
        if !kafka.topics().await.map_err(|e| e.to_string())?.contains_key(ORDERS) {
            let defaults = TopicSpec { name: ORDERS.into(), partitions: 4, replication: 1, settings: BTreeMap::new() };
            kafka.create_topics(&[defaults]).await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Waits until the running sink was given every row of its topic's table at some time.
    async fn sink_has_all(&mut self) -> Result<(), String> {
        match self.sink_lacks(false).await {
            0 => Ok(()),
            lacks => Err(format!("sink files was not given {lacks} rows before anything was broken")),
        }
    }

    /// How many rows of its topic's table the running sink was not given: since the fault, where the topic was filled anew, or ever. Waits
    /// for them.
    pub(super) async fn sink_lacks(&mut self, anew: bool) -> usize {
        let wanted = &self.rows["shop.orders"];
        let written = Mutex::new(&mut self.written);
        let look = || {
            let mut written = written.lock().unwrap();
            written.read();
            wanted.difference(if anew { &written.since } else { &written.ever }).count()
        };
        // What does not come is counted.
        let _ = wait::until("every row in the file of sink files", DEADLINE, || async {
            Ok::<_, cdc_pipeline::client::ClientError>(match look() {
                0 => wait::Poll::Ready(()),
                lacks => wait::Poll::NotYet(format!("{lacks} are missing")),
            })
        })
        .await;
        look()
    }

    /// Runs a command on this pipeline to its end.
    pub(super) fn run(&self, line: &str, environment: &[(&str, &str)]) -> Ended {
        let output = Command::new(PROGRAM)
            .args(line.split_whitespace())
            .args(["--config", self.stack.file().as_str()])
            .env("CDC_DRILL_BIN", PROGRAM)
            .env("TMPDIR", &self.places.temporary)
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (exit, signal) = (output.status.code(), output.status.signal());
        Ended { exit, signal, out: text(output.stdout), err: text(output.stderr) }
    }

    /// A file for the moments of one command, outside of what is compared.
    pub(super) fn trace(&self) -> Utf8PathBuf {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        self.stack.dir.join(format!("moments-{}", NEXT.fetch_add(1, Ordering::Relaxed)))
    }
}
