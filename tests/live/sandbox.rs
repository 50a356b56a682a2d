//! A stack by the command line, and what the program says. Nothing here calls the library where a person would call a command.

use std::{process::Command, time::Duration};

use camino::Utf8PathBuf;
use cdc_harness::stack::{ConnectorRequest, debezium_config};
use cdc_model::units::TableName;
use cdc_pipeline::{
    client::{connect::Connect, kafka::Kafka, postgres::Postgres, wait},
    config::Config,
};

use super::{PROGRAM, lent::Lent};

/// What never comes is told after this time. Nothing is wrong with a machine that needs a good part of it.
pub(super) const DEADLINE: Duration = Duration::from_secs(600);

pub(super) struct Said {
    pub(super) exit: i32,
    pub(super) out: String,
    pub(super) err: String,
}

pub(super) fn cdc_drill(line: &str) -> Said {
    cdc_drill_with(line, &[])
}

pub(super) fn cdc_drill_with(line: &str, environment: &[(&str, &str)]) -> Said {
    let mut command = Command::new(PROGRAM);
    command.args(line.split_whitespace()).env("CDC_DRILL_BIN", PROGRAM).envs(environment.iter().copied());
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { exit: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

pub(super) fn expect(exit: i32, line: &str, part: &str) -> Said {
    let said = cdc_drill(line);
    assert_eq!(said.exit, exit, "{line}\n{}{}", said.err, said.out);
    assert!(said.err.contains(part), "{line}: no `{part}` in\n{}", said.err);
    said
}

/// A stack by the command line; it is taken down whatever happens.
pub(super) struct Stack {
    pub(super) dir: Utf8PathBuf,
    pub(super) config: Config,
    /// Its brokers, worker and registry, where they are not its own; dropped after the server that they were lent to.
    lent: Option<Lent>,
}

impl Stack {
    /// A PostgreSQL server of its own beside brokers, a worker and a registry that tests hand on to one another.
    pub(super) fn beside_lent(dir: Utf8PathBuf) -> Stack {
        let lent = Lent::take();
        let mut stack = Stack::up(dir, &format!("--join {}", lent.file()));
        stack.lent = Some(lent);
        stack
    }

    /// All servers of its own.
    pub(super) fn up(dir: Utf8PathBuf, more: &str) -> Stack {
        Stack::up_with(dir, more, &[])
    }

    pub(super) fn up_with(dir: Utf8PathBuf, more: &str, environment: &[(&str, &str)]) -> Stack {
        let said = cdc_drill_with(&format!("stack up --dir {dir} {more}"), environment);
        assert_eq!(said.exit, 0, "{}", said.err);
        let config = Config::load(&dir.join("cdc-drill.toml")).unwrap();
        Stack { dir, config, lent: None }
    }

    pub(super) fn file(&self) -> Utf8PathBuf {
        self.dir.join("cdc-drill.toml")
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) async fn sql(&self, database: &str) -> Postgres {
        Postgres::connect_database(&self.config.postgres.url, database, "test").await.unwrap()
    }

    /// A database with a table of 200 rows, and a connector of the same name that has read them.
    pub(super) async fn pipeline(&self, name: &str) {
        self.sql("postgres").await.run(&format!("create database {name}")).await.unwrap();
        let rows = "create table orders (id int primary key, note text); \
                    insert into orders select g, 'x' || g from generate_series(1, 200) g";
        self.sql(name).await.run(rows).await.unwrap();
        let tables = vec![TableName::new("public", "orders")];
        let request = ConnectorRequest { name: name.into(), database: name.into(), tables };
        let connector = debezium_config(&self.config, &request).unwrap();
        Connect::of(&self.config.connect).put_config(name, &connector).await.unwrap();
        self.records(name, 200).await;
    }

    pub(super) async fn records(&self, name: &str, at_least: i64) {
        let kafka = Kafka::of(&self.config.kafka).unwrap();
        let topic = format!("{name}.public.orders");
        wait::until(&format!("{at_least} records in {topic}"), DEADLINE, || async {
            let ends: i64 = kafka.watermarks(&topic).await?.iter().map(|(_, end)| end.0).sum();
            Ok::<_, cdc_pipeline::client::ClientError>(match ends >= at_least {
                true => wait::Poll::Ready(()),
                false => wait::Poll::NotYet(format!("{ends}")),
            })
        })
        .await
        .unwrap();
    }

    pub(super) async fn topic_id(&self, name: &str) -> String {
        let topic = format!("{name}.public.orders");
        let ids = Kafka::of(&self.config.kafka).unwrap().topic_ids(std::slice::from_ref(&topic)).await.unwrap();
        ids[&topic].clone()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = cdc_drill(&format!("stack down --dir {}", self.dir));
    }
}
