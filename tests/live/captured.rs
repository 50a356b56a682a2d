//! What a recovery empties, fills again and verifies is one set: publications with filters, lists of columns and partitions,
//! topics that others write to or that keep nothing, and connectors that the worker has lost.

use std::os::unix::fs::PermissionsExt;

use camino::Utf8PathBuf;
use cdc_harness::stack::{ConnectorRequest, debezium_config};
use cdc_model::units::TableName;
use cdc_pipeline::client::{
    ClientError,
    connect::{Connect, ConnectorConfig},
    kafka::{Kafka, Refusal, TopicSpec},
    wait,
};

use super::sandbox::{DEADLINE, Stack, cdc_drill, expect};

/// A stack in a folder that the servers' account can get through.
fn stack() -> (tempfile::TempDir, Stack) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    let stack = Stack::beside_lent(root.join("stack"));
    (folder, stack)
}

pub(crate) fn connect(stack: &Stack) -> Connect {
    Connect::of(&stack.config().connect)
}

/// The configuration of a connector on the database of its name, with these settings over it.
fn settings(stack: &Stack, name: &str, over: &[(&str, &str)]) -> ConnectorConfig {
    let tables = vec![TableName::new("public", "orders")];
    let request = ConnectorRequest { name: name.into(), database: name.into(), tables };
    let mut config = debezium_config(stack.config(), &request).unwrap();
    config.extend(over.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    config
}

async fn ends(stack: &Stack, topic: &str) -> i64 {
    ends_now(stack, topic).await.unwrap()
}

/// A topic that was made a moment ago may have no leader yet.
async fn ends_now(stack: &Stack, topic: &str) -> Result<i64, ClientError> {
    let kafka = Kafka::of(&stack.config().kafka)?;
    Ok(match kafka.topics().await?.contains_key(topic) {
        true => kafka.watermarks(topic).await?.iter().map(|(_, end)| end.0).sum(),
        false => 0,
    })
}

async fn filled(stack: &Stack, topic: &str, records: i64) {
    wait::until(&format!("{records} records in {topic}"), DEADLINE, || async {
        Ok::<_, ClientError>(match ends_now(stack, topic).await? {
            there if there >= records => wait::Poll::Ready(()),
            there => wait::Poll::NotYet(there.to_string()),
        })
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_is_what_it_was_or_the_recovery_is_refused() {
    let (_folder, stack) = stack();
    let file = stack.file();
    stack.sql("postgres").await.run("create database shop").await.unwrap();
    let sql = stack.sql("shop").await;
    let schema = "create table ev (id int, k int, primary key (id, k)) partition by range (k);
        create table ev_1 partition of ev for values from (0) to (10);
        create table ev_2 partition of ev for values from (10) to (20);
        insert into ev select g, g % 20 from generate_series(1, 40) g;
        create table people (id int primary key, region text, secret text);
        insert into people select g, 'north', 'hidden' from generate_series(1, 10) g;
        create schema \"my.crew\"; create table \"my.crew\".\"Staff.1\" (id int primary key);
        create publication pub for table ev, table people (id, region) where (id < 1000), table \"my.crew\".\"Staff.1\"";
    sql.run(schema).await.unwrap();
    let own = [
        ("publication.name", "pub"),
        ("publication.autocreate.mode", "disabled"),
        ("table.include.list", r"public\.ev.*,public\.people,my\.crew\.Staff\.1"),
    ];
    connect(&stack).put_config("shop", &settings(&stack, "shop", &own)).await.unwrap();
    filled(&stack, "shop.public.people", 10).await;
    expect(0, &format!("backup create --config {file}"), "");
    let members = || async {
        let of = "select string_agg(tablename || attnames::text || coalesce(rowfilter, ''), ' ' order by tablename) \
                  from pg_publication_tables where pubname = 'pub'";
        sql.text(of).await.unwrap()
    };
    let was = members().await;
    let (plan, run) = (format!("recover plan slot --config {file}"), format!("recover run slot --config {file} --yes"));

    // Refused before anything is touched: the step that puts publications right would fail.
    sql.run("create table ev_new (id int primary key)").await.unwrap();
    for refused in [&plan, &run, &format!("recover plan coordinated --config {file}")] {
        expect(40, refused, "table public.ev_new of connector shop");
    }
    assert!(connect(&stack).status("shop").await.unwrap().all_running());
    expect(0, &format!("recover status --config {file}"), "no recovery of this cluster is unfinished");
    sql.run("drop table ev_new").await.unwrap();

    // Put right, and said.
    sql.run("alter publication pub set (publish = 'insert')").await.unwrap();
    expect(0, &plan, r#"alter publication "pub" set (publish = 'insert, update, delete, truncate')"#);
    sql.run("drop publication pub").await.unwrap();
    expect(0, &run, r#"table only "public"."people" ("id", "region") where ((id < 1000))"#);
    assert_eq!(members().await, was);
    expect(0, &run, "the snapshot writes them to its topic all the same");

    // Nothing but the connector's word says that updates are not meant to come, and it says otherwise.
    sql.run(r#"create publication other for table ev, people, "my.crew"."Staff.1" with (publish = 'insert')"#)
        .await
        .unwrap();
    let other = [own[1], own[2], ("publication.name", "other")];
    connect(&stack).put_config("shop", &settings(&stack, "shop", &other)).await.unwrap();
    connect(&stack).running("shop", DEADLINE).await.unwrap();
    expect(40, &plan, "no update, delete: such changes never arrive");
    expect(0, &format!("recover plan coordinated --config {file}"), "does not publish update, delete");
    let skipping = [other[0], other[1], other[2], ("skipped.operations", "u,d,t")];
    connect(&stack).put_config("shop", &settings(&stack, "shop", &skipping)).await.unwrap();
    connect(&stack).running("shop", DEADLINE).await.unwrap();
    let said = expect(0, &plan, "publication.name=other (was pub)");
    assert!(said.err.contains("skipped.operations=u,d,t (was unset)"), "{}", said.err);

    // What the database gives to every session of the connector would end its snapshot.
    sql.run("alter database shop set statement_timeout = '20ms'").await.unwrap();
    expect(0, &plan, "are given statement_timeout=20ms");
    sql.run("alter database shop reset statement_timeout").await.unwrap();

    // A table that is taken out of the list has a topic that nothing fills again: it is left, and said.
    let narrower = [own[0], own[1], ("table.include.list", r"public\.ev.*")];
    connect(&stack).put_config("shop", &settings(&stack, "shop", &narrower)).await.unwrap();
    connect(&stack).running("shop", DEADLINE).await.unwrap();
    let before = ends(&stack, "shop.public.people").await;
    let said = expect(0, &run, "filled by nobody, and left as they are: shop.public.people");
    assert!(
        said.err.contains(r"table.include.list=public\.ev.* (was public\.ev.*,public\.people,my\.crew\.Staff\.1)"),
        "{}",
        said.err
    );
    assert_eq!(ends(&stack, "shop.public.people").await, before);

    // Changes of partitions come under the root's name, a snapshot writes to the partitions' topics too, and no point has the
    // publication.
    sql.run("create publication rooted for table ev with (publish_via_partition_root = true)").await.unwrap();
    let rooted_name = ("publication.name", "rooted");
    let rooted = settings(&stack, "shop", &[own[1], narrower[2], rooted_name]);
    connect(&stack).put_config("shop", &rooted).await.unwrap();
    connect(&stack).running("shop", DEADLINE).await.unwrap();
    let said = expect(0, &format!("recover run coordinated --config {file} --yes"), "the topics hold");
    assert!(said.err.contains("publication.name=rooted (was pub)"), "{}", said.err);
    assert_eq!(ends(&stack, "shop.public.ev").await, 40);
    // A schema has more tables than are published: their topics will not follow them, which a plan says.
    let mut schema = settings(&stack, "shop", &[own[1], rooted_name, ("schema.include.list", "public")]);
    schema.remove("table.include.list");
    connect(&stack).put_config("shop", &schema).await.unwrap();
    connect(&stack).running("shop", DEADLINE).await.unwrap();
    for playbook in ["slot", "coordinated"] {
        let plan = format!("recover plan {playbook} --config {file}");
        expect(0, &plan, "connector shop takes public.people, and publication rooted does not send their changes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_of_others_are_left_and_lost_connectors_come_back() {
    let (_folder, stack) = stack();
    let (file, connect) = (stack.file(), connect(&stack));
    for name in ["shop", "store"] {
        stack.pipeline(name).await;
    }
    // Two shards that write to one topic.
    for name in ["east", "west"] {
        stack.sql("postgres").await.run(&format!("create database {name} template template0")).await.unwrap();
        let rows = "create table orders (id int primary key, note text); insert into orders values (1, 'x')";
        stack.sql(name).await.run(rows).await.unwrap();
        let fan_in = [
            ("transforms", "r"),
            ("transforms.r.type", "org.apache.kafka.connect.transforms.RegexRouter"),
            ("transforms.r.regex", r"(east|west)\.public\.(.*)"),
            ("transforms.r.replacement", "all.$2"),
        ];
        connect.put_config(name, &settings(&stack, name, &fan_in)).await.unwrap();
    }
    filled(&stack, "all.orders", 2).await;
    for topics in ["purge", "compensate"] {
        let plan = format!("recover plan slot --config {file} --connector east --topics {topics}");
        let said = expect(40, &plan, "topics all.orders");
        assert!(said.err.contains("connector west writes to them too"), "{}", said.err);
    }
    let both = format!("recover plan slot --config {file} --connector east --connector west");
    expect(0, &both, "`verify`, which does not read such a connector");
    expect(40, &format!("{both} --topics compensate"), "one whose records go to the topics of its tables");
    // What verify does not read is named, and looking again would not help: the recovery ends all the same, and is not green.
    for connectors in ["--connector east --connector west", ""] {
        let said =
            expect(13, &format!("recover run slot --config {file} {connectors} --yes"), "compare its topics yourself");
        assert_eq!(said.err.contains("the topics hold what the tables hold"), connectors.is_empty(), "{}", said.err);
        expect(0, &format!("recover status --config {file}"), "no recovery of this cluster is unfinished");
    }
    for name in ["east", "west"] {
        connect.stopped(name, DEADLINE).await.unwrap();
        connect.delete(name).await.unwrap();
        stack.sql(name).await.run(&format!("select pg_drop_replication_slot('{name}')")).await.unwrap();
    }

    // A topic that keeps nothing.
    let kafka = Kafka::of(&stack.config().kafka).unwrap();
    let topic = ["shop.public.orders".to_owned()];
    let spec = kafka.topic_specs(&topic).await.unwrap().remove(0);
    let mut short = spec.clone();
    short.settings.insert("retention.ms".into(), "60000".into());
    remade(&stack, &short).await;
    let slot = format!("recover plan slot --config {file} --connector shop");
    expect(40, &slot, "its records are deleted 60 s after they are written (retention.ms=60000)");
    expect(40, &format!("{slot} --accept-loss wal"), "--accept-loss retention");
    let accepted = "accepted as lost: what the snapshot writes into topic shop.public.orders";
    expect(0, &format!("{slot} --accept-loss retention"), accepted);
    remade(&stack, &spec).await;
    // A controller takes 10,000 partitions at once; the topics are asked for in parts.
    let sized = |partitions| TopicSpec { name: format!("large-{partitions}"), partitions, ..spec.clone() };
    assert_eq!(kafka.refused_topics(&[sized(4_000), sized(4_001), sized(4_002)]).await.unwrap(), []);
    let refused = kafka.refused_topics(&[sized(4_003), sized(12_000)]).await.unwrap();
    assert!(matches!(refused.as_slice(), [(name, Refusal::Refused(_))] if name == "large-12000"), "{refused:?}");
    assert_eq!(kafka.brokers_that_create_topics().await.unwrap(), [0; 0]);
    let unreplicated = TopicSpec { replication: 3, ..spec.clone() };
    assert_eq!(kafka.refused_topics(&[unreplicated]).await.unwrap().len(), 1, "one broker makes no three replicas");
    expect(0, &format!("recover run slot --config {file} --connector shop --yes"), "the topics hold what");

    // The worker has lost one connector, and then all.
    expect(0, &format!("backup create --config {file}"), "");
    connect.delete("store").await.unwrap();
    let plan = format!("recover plan coordinated --config {file}");
    expect(0, &plan, "it wrote topics store.public.orders, which no connector fills again");
    connect.delete("shop").await.unwrap();
    for playbook in ["coordinated", "slot"] {
        let plan = format!("recover plan {playbook} --config {file}");
        expect(40, &plan, "expected at least one of them on the worker");
    }
    stack.sql("shop").await.run("delete from orders where id <= 50").await.unwrap();
    let run = format!("recover run coordinated --config {file} --restore-connectors --yes");
    let cut = super::sandbox::cdc_drill_with(&run, &[("CDC_DRILL_INTERRUPT", "stop-connectors:after:fail")]);
    assert_eq!(cut.exit, 11, "{}", cut.err);
    expect(0, &format!("recover abort --config {file}"), "connector shop was not on the worker, and is deleted again");
    assert!(connect.connectors().await.unwrap().is_empty());
    let cut = super::sandbox::cdc_drill_with(&run, &[("CDC_DRILL_INTERRUPT", "delete-offsets:after:kill")]);
    assert_eq!(cut.exit, -1, "{}", cut.err);
    let said = cdc_drill(&run);
    assert_eq!(said.exit, 0, "{}", said.err);
    assert!(said.err.contains("connector shop is not on the worker: it is made again"), "{}", said.err);
    for (name, rows) in [("shop", 150), ("store", 200)] {
        assert!(connect.status(name).await.unwrap().all_running());
        assert_eq!(ends(&stack, &format!("{name}.public.orders")).await, rows);
    }
    expect(0, &format!("verify --config {file}"), "the topics hold what the tables hold");
}

/// Deletes a topic and makes it with other settings, as its owner does.
async fn remade(stack: &Stack, spec: &TopicSpec) {
    let kafka = Kafka::of(&stack.config().kafka).unwrap();
    let name = std::slice::from_ref(&spec.name);
    connect(stack).stopped("shop", DEADLINE).await.unwrap();
    kafka.delete_topics(name).await.unwrap();
    kafka.create_topics(std::slice::from_ref(spec)).await.unwrap();
    connect(stack).resume("shop").await.unwrap();
    connect(stack).running("shop", DEADLINE).await.unwrap();
}
