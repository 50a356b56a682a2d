//! A database of all types with connectors on it, by the commands that a person has.

use std::time::Duration;

use cdc_pipeline::{
    client::{
        ClientError,
        connect::{Connect, ConnectorConfig},
        kafka::Kafka,
        postgres::Postgres,
        wait::{self, Poll},
    },
    config::Config,
};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::sandbox::{Stack, cdc_drill, expect};
use crate::{
    packs::Keeper,
    specimens::{EXTENSIONS, SPECIMENS, TYPES},
    tables::{Table, UPDATED},
};

/// Hundreds of columns take a busy machine a while.
const DEADLINE: Duration = Duration::from_secs(180);

const LEFT_OUT: &str = "
    select t.oid::regtype::text
    from pg_type t left join pg_class c on c.oid = t.typrelid
    where t.typtype <> 'p'
      and (t.typrelid = 0 or c.relkind = 'c')
      and not exists (select from pg_type element where element.typarray = t.oid)
      and not exists (
          select from pg_attribute a join pg_class r on r.oid = a.attrelid
          where a.atttypid = t.oid and a.attnum > 0 and r.relkind = 'r'
            and r.relnamespace = 'public'::regnamespace and r.relname ~ '^(scalars|required|arrays|keyless|keys_[0-9]+)$')
    order by 1";

/// One database and its connectors.
pub struct Pipeline<'s> {
    stack: &'s Stack,
    config: Config,
    database: String,
    pub sql: Postgres,
    pub tables: Vec<Table>,
    pub keepers: Vec<Keeper>,
    writer: Option<JoinHandle<()>>,
}

/// Changes nothing, again and again: only what is published moves a connector past the changes that are not, and before that no
/// difference counts.
async fn write(sql: Postgres) {
    loop {
        sql.run(&format!("update scalars set id = id where id = {UPDATED}")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// What `verify` says of tables and topics.
pub struct Said {
    pub verdict: String,
    pub notes: Vec<String>,
    pub total: u64,
    pub findings: Vec<Finding>,
}

/// A finding.
#[derive(Debug)]
pub struct Finding {
    pub kind: String,
    pub table: String,
    pub key: String,
    pub expected: String,
    pub found: String,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl<'s> Pipeline<'s> {
    /// Tables with rows, connectors that have read them, and changes that they have streamed.
    pub async fn start(stack: &'s Stack, database: &str, keepers: Vec<Keeper>) -> Pipeline<'s> {
        let config = Config::load(&stack.file()).unwrap();
        stack.sql("postgres").await.run(&format!("create database {database}")).await.unwrap();
        let sql = stack.sql(database).await;
        let extensions = EXTENSIONS.map(|e| format!("create extension if not exists {e} cascade;")).concat();
        sql.run(&(extensions + TYPES)).await.unwrap();
        let (mut keyable, mut arrays) = (Vec::new(), Vec::new());
        for specimen in SPECIMENS {
            let (name, ty) = (specimen.column, specimen.sql);
            if specimen.values.len() > 1
                && sql.run(&format!("create temp table key_{name} (c {ty} primary key)")).await.is_ok()
            {
                keyable.push(name.to_owned());
            }
            if sql.run(&format!("create temp table array_{name} (c {ty}[])")).await.is_ok() {
                arrays.push(name.to_owned());
            }
        }
        let nanoseconds = keepers.iter().any(|k| k.counts_nanoseconds());
        let tables = Table::all(&keyable, &arrays, nanoseconds);
        let mut pipeline =
            Pipeline { stack, config, database: database.to_owned(), sql, tables, keepers, writer: None };
        for table in &pipeline.tables {
            pipeline
                .sql
                .run(&(table.create() + &table.before()))
                .await
                .unwrap_or_else(|e| panic!("{}: {e}", table.name));
        }
        assert_eq!(pipeline.left_out().await, [""; 0], "types that no column has");
        for keeper in &pipeline.keepers {
            pipeline.connect(*keeper).await;
        }
        for keeper in &pipeline.keepers {
            pipeline.snapshot_is_read(*keeper).await;
        }
        for table in &pipeline.tables {
            pipeline.sql.run(&table.streamed()).await.unwrap_or_else(|e| panic!("{}: {e}", table.name));
        }
        pipeline.writer = Some(tokio::spawn(write(stack.sql(database).await)));
        pipeline
    }

    /// The types of the catalogue that no column of the zoo has. Array types are not looked for, since every type's array is tried,
    /// and neither are row types of tables, which are composite types as any.
    async fn left_out(&self) -> Vec<String> {
        self.sql.texts(LEFT_OUT).await.unwrap().into_iter().flatten().flatten().collect()
    }

    async fn connect(&self, keeper: Keeper) {
        let names: Vec<String> = self.tables.iter().map(|t| format!("public.{}", t.name)).collect();
        let line = format!(
            "stack connector --config {} --name {} --database {} --tables {}",
            self.stack.file(),
            keeper.name(),
            self.database,
            names.join(",")
        );
        let mut config: ConnectorConfig = serde_json::from_str(&expect(0, &line, "").out).unwrap();
        config.extend(keeper.settings());
        Connect::of(&self.config.connect).put_config(&keeper.name(), &config).await.unwrap();
    }

    async fn snapshot_is_read(&self, keeper: Keeper) {
        let (kafka, connect) = (Kafka::of(&self.config.kafka).unwrap(), Connect::of(&self.config.connect));
        let name = keeper.name();
        let what = format!("connector {name} to read all tables");
        let arrived = wait::until(&what, DEADLINE, || async {
            if let Some(failure) = connect.status(&name).await?.failure() {
                return Ok::<_, ClientError>(Poll::Hopeless(failure));
            }
            for table in &self.tables {
                let topic = format!("{name}.public.{}", table.name);
                let ends: i64 = kafka.watermarks(&topic).await?.iter().map(|(_, end)| end.0).sum();
                if ends < table.rows_before() {
                    return Ok(Poll::NotYet(format!("{ends} records in {topic}")));
                }
            }
            Ok(Poll::Ready(()))
        });
        arrived.await.unwrap();
    }

    /// Runs updates of all tables that no publication lets through. By the time anybody looks, publications are whole again:
    /// what the connectors' readers of the WAL go by is how they were when a row changed.
    pub async fn unpublished(&self, sql: impl Fn(&Table) -> String) {
        self.publish("insert, delete").await;
        self.run(sql).await;
        self.publish("insert, update, delete").await;
    }

    async fn publish(&self, operations: &str) {
        for keeper in &self.keepers {
            self.sql.run(&format!("alter publication {} set (publish = '{operations}')", keeper.name())).await.unwrap();
        }
    }

    /// Runs statements of all tables.
    pub async fn run(&self, sql: impl Fn(&Table) -> String) {
        for table in &self.tables {
            self.sql.run(&sql(table)).await.unwrap_or_else(|e| panic!("{}: {e}", table.name));
        }
    }

    /// Asks for a connector's tables and topics.
    pub fn verify(&self, keeper: Keeper, deadline: &str) -> Said {
        let line =
            format!("verify --config {} --connector {} --deadline {deadline} --json", self.stack.file(), keeper.name());
        let said = cdc_drill(&line);
        let answer: Value = serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{line}: {e}\n{}", said.err));
        let checks = answer["checks"].as_array().unwrap();
        let state = checks.iter().find(|c| c["id"] == "state").unwrap_or_else(|| panic!("{answer:#}"));
        let findings = checks.iter().flat_map(|c| c["findings"].as_array().unwrap()).map(|f| Finding {
            kind: text(&f["kind"]),
            table: match &f["table"] {
                Value::String(name) => name.rsplit('.').next().unwrap_or_default().to_owned(),
                table => text(&table["name"]),
            },
            key: text(&f["key"]),
            expected: text(&f["expected"]),
            found: text(&f["found"]),
        });
        Said {
            verdict: text(&answer["verdict"]),
            notes: state["notes"].as_array().unwrap().iter().map(text).collect(),
            total: checks.iter().map(|c| c["findings_total"].as_u64().unwrap_or_default()).sum(),
            findings: findings.collect(),
        }
    }

    /// Takes connectors and slots away, for those that come next.
    pub async fn end(self) {
        if let Some(writer) = &self.writer {
            assert!(!writer.is_finished(), "the writer has ended");
            writer.abort();
        }
        let connect = Connect::of(&self.config.connect);
        for keeper in &self.keepers {
            connect.delete(&keeper.name()).await.unwrap();
        }
        for keeper in &self.keepers {
            let drop = format!("select pg_drop_replication_slot('{}')", keeper.name());
            let dropped =
                wait::until("the slot to be free", DEADLINE, || async { self.sql.run(&drop).await.map(Poll::Ready) });
            dropped.await.unwrap();
        }
    }
}
