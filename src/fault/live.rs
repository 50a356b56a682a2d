//! Every fault on a real stack: it lands, its evidence says so, and a pipeline without it is not mistaken for broken.
//!
//! Needs a stack of `cdc-drill stack up` that nobody else uses, as `CDC_DRILL_TEST_CONFIG`; its server is killed in the
//! end. Run by `cargo test --lib fault::live -- --ignored --test-threads 1`.

use std::time::Duration;

use camino::Utf8Path;

use super::*;
use crate::{
    client::{
        ClientError,
        connect::ConnectorConfig,
        postgres::Postgres,
        wait::{self, Poll},
    },
    config::Config,
    event::Landed,
    units::{Secret, SlotName, TableName},
};

const DEADLINE: Duration = Duration::from_secs(60);
const SCHEMA: &str = "
create table people (id integer primary key, score integer, name text not null);
create table items (id integer primary key, label text not null);
insert into people select n, n, repeat('p', 100) from generate_series(1, 2000) n;
insert into items select n, 'item' from generate_series(1, 100) n;
";

struct Pipe {
    target: Target,
    db: Postgres,
}

impl Pipe {
    /// A database, a publication and a connector of its own.
    async fn open(name: &str) -> Pipe {
        let path = std::env::var("CDC_DRILL_TEST_CONFIG").expect("CDC_DRILL_TEST_CONFIG is not set");
        let mut config = Config::load(Utf8Path::new(&path)).unwrap();
        let name = format!("{name}_{}", std::process::id());
        let admin = Postgres::connect(&config.postgres.url, "test").await.unwrap();
        admin.run(&format!("create database {name}")).await.unwrap();
        let (base, _) = config.postgres.url.expose().rsplit_once('/').unwrap();
        config.postgres.url = Secret::new(format!("{base}/{name}"));
        let db = Postgres::connect(&config.postgres.url, "test").await.unwrap();
        db.run(SCHEMA).await.unwrap();
        let tables = vec![TableName::new("public", "people"), TableName::new("public", "items")];
        db.run(&format!("create publication {name} for table people, items")).await.unwrap();
        let target =
            Target { config, connector: name.clone(), prefix: name.clone(), slot: SlotName::new(name), tables };
        let pipe = Pipe { target, db };
        pipe.target.registry().set_global_level("BACKWARD").await.unwrap();
        pipe.target.connect().create(&pipe.target.connector, &pipe.connector(), "RUNNING").await.unwrap();
        pipe.reached(100).await;
        pipe
    }

    fn connector(&self) -> ConnectorConfig {
        let file: ConnectorConfig = serde_json::from_str(include_str!("../../fixtures/connectors/shop.json")).unwrap();
        let url: tokio_postgres::Config = self.target.config.postgres.url.expose().parse().unwrap();
        let name = &self.target.connector;
        let port = url.get_ports()[0].to_string();
        let password = String::from_utf8(url.get_password().unwrap().to_vec()).unwrap();
        let values = [
            ("{name}", name.as_str()),
            ("{prefix}", name),
            ("{slot}", name),
            ("{publication}", name),
            ("{database}", name),
            ("{host}", "127.0.0.1"),
            ("{port}", &port),
            ("{user}", "postgres"),
            ("{password}", &password),
            ("{registry}", &self.target.config.registry.url),
            ("{partitions}", "3"),
        ];
        let fill = |text: String| values.iter().fold(text, |text, (from, to)| text.replace(from, to));
        let mut config: ConnectorConfig = file.into_iter().map(|(k, v)| (k, fill(v))).collect();
        config.insert("table.include.list".into(), "public.people,public.items".into());
        config
    }

    /// Waits until the topic of `items` has this many records.
    async fn reached(&self, records: i64) {
        let topic = self.target.topic(&self.target.tables[1]);
        let kafka = self.target.kafka().unwrap();
        wait::until("records", DEADLINE, || async {
            let there: i64 = kafka.watermarks(&topic).await?.iter().map(|(_, end)| end.0).sum();
            Ok::<_, ClientError>(if there >= records { Poll::Ready(()) } else { Poll::NotYet(there.to_string()) })
        })
        .await
        .unwrap();
    }

    async fn breaks(&self, fault: Fault) -> FaultGuard {
        let guard = fault.inject(&self.target).await.unwrap();
        let report = guard.landed().await;
        println!("{}: {:?}: {}", report.fault, report.landed, report.evidence);
        for signal in signals(&self.target, &[fault]).await {
            println!("    {} said {}{}", signal.source, signal.said, if signal.lied { " (a lie)" } else { "" });
        }
        assert_eq!(report.landed, Landed::Confirmed);
        guard
    }

    async fn close(self) {
        let connect = self.target.connect();
        connect.delete(&self.target.connector).await.unwrap();
    }
}

fn people() -> TableName {
    TableName::new("public", "people")
}

#[tokio::test]
#[ignore = "needs a stack"]
async fn a_delete_without_where() {
    let pipe = Pipe::open("emptied").await;
    let guard = pipe.breaks(Fault::DeleteAll { table: people() }).await;
    pipe.db.run("insert into people values (1, 1, 'later')").await.unwrap();
    assert_eq!(guard.landed().await.landed, Landed::Confirmed, "a row that came later is not its failure");
    let empty = Fault::DeleteAll { table: people() };
    pipe.db.run("truncate people").await.unwrap();
    assert_eq!(empty.inject(&pipe.target).await.unwrap().landed().await.landed, Landed::Mismatch, "nothing to delete");
    pipe.close().await;
}

#[tokio::test]
#[ignore = "needs a stack"]
async fn flipped_bytes_stay_flipped() {
    let pipe = Pipe::open("flipped").await;
    // The page is cached and dirty when it is damaged.
    pipe.db.run("update people set score = score + 1").await.unwrap();
    let guard = pipe.breaks(Fault::FlipHeapBytes { table: people(), pages: 3, seed: 7 }).await;
    pipe.db.run("checkpoint").await.unwrap();
    assert_eq!(guard.landed().await.landed, Landed::Confirmed);
    assert!(pipe.db.run("select sum(score) from people").await.is_err());
    let too_many = Fault::FlipHeapBytes { table: TableName::new("public", "items"), pages: 50, seed: 7 };
    assert!(too_many.inject(&pipe.target).await.unwrap_err().to_string().contains("at least 50 pages"));
    pipe.close().await;
}

#[tokio::test]
#[ignore = "needs a stack"]
async fn changes_that_the_registry_refuses() {
    for (at, change) in
        [ColumnChange::IntToText, ColumnChange::SetNotNull, ColumnChange::AddNotNull].into_iter().enumerate()
    {
        let pipe = Pipe::open(&format!("altered{at}")).await;
        let column = if change == ColumnChange::AddNotNull { "added" } else { "score" };
        let guard = pipe.breaks(Fault::AlterColumn { table: people(), column: column.into(), change }).await;
        drop(guard);
        pipe.close().await;
    }
    let pipe = Pipe::open("widened").await;
    let change = ColumnChange::Sql("alter table people alter column score type bigint".into());
    let guard =
        Fault::AlterColumn { table: people(), column: "score".into(), change }.inject(&pipe.target).await.unwrap();
    let report = guard.landed().await;
    println!("{report:?}");
    assert_eq!(report.landed, Landed::Mismatch, "a widening is not refused");
    pipe.close().await;
}

#[tokio::test]
#[ignore = "needs a stack"]
async fn a_slot_is_dropped_under_its_reader() {
    let pipe = Pipe::open("dropped").await;
    drop(pipe.breaks(Fault::DropSlot).await);
    assert!(Fault::DropSlot.inject(&pipe.target).await.unwrap_err().to_string().contains("expected a slot"));
    pipe.close().await;
}

#[tokio::test]
#[ignore = "needs a stack"]
async fn a_slot_is_invalidated_and_the_setting_put_back() {
    let pipe = Pipe::open("invalidated").await;
    let error = Fault::InvalidateSlot.inject(&pipe.target).await.unwrap_err().to_string();
    assert!(error.contains("stop the connector first"), "{error}");
    pipe.target.connect().stopped(&pipe.target.connector, DEADLINE).await.unwrap();
    let before = pipe.db.text("show max_slot_wal_keep_size").await.unwrap();
    drop(pipe.breaks(Fault::InvalidateSlot).await);
    let after = Postgres::connect(&pipe.target.config.postgres.url, "test").await.unwrap();
    assert_eq!(after.text("show max_slot_wal_keep_size").await.unwrap(), before);
    pipe.close().await;
}

#[tokio::test]
#[ignore = "needs a stack"]
async fn the_registry_is_damaged_in_three_ways() {
    let pipe = Pipe::open("registry").await;
    let registry = pipe.target.registry();
    let subject = pipe.target.subject(&people(), "value");
    registry.set_subject_level(&subject, "FULL").await.unwrap();
    drop(pipe.breaks(Fault::RegistrySetLevel { subject: Some(subject.clone()), level: "NONE".into() }).await);
    drop(pipe.breaks(Fault::RegistrySetLevel { subject: None, level: "NONE".into() }).await);
    drop(pipe.breaks(Fault::RegistryDeleteSubject { subject }).await);

    // Somebody else's schema under the first id after the loss: the old ids cannot come back by luck.
    let guard = pipe.breaks(Fault::RegistryLoseStorage { refill: true }).await;
    let other = r#"{"type":"record","name":"Other","fields":[{"name":"a","type":"string"}]}"#;
    registry.register(&crate::units::Subject::new("other-value"), other, &[]).await.unwrap();
    let ends = async || {
        let kafka = pipe.target.kafka().unwrap();
        let topic = pipe.target.topic(&pipe.target.tables[1]);
        kafka.watermarks(&topic).await.unwrap().iter().map(|(_, end)| end.0).sum::<i64>()
    };
    let began = ends().await;
    pipe.db.run("insert into items select n, 'new' from generate_series(1001, 1150) n").await.unwrap();
    pipe.reached(began + 150).await;
    let before = guard.registry_before().unwrap();
    let report = records_under_other_ids(&pipe.target, before, 100).await.unwrap();
    println!("{report:?}");
    assert_eq!(report.landed, Landed::Confirmed);
    assert_eq!(guard.landed().await.landed, Landed::Confirmed, "{:?}", guard.landed().await);
    pipe.close().await;
}

#[tokio::test]
#[ignore = "needs a stack"]
async fn z_the_server_is_killed() {
    let pipe = Pipe::open("killed").await;
    drop(pipe.breaks(Fault::KillPostgres).await);
}
