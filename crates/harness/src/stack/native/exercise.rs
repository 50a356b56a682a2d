//! What Java servers are asked while they record an AOT cache: the cache holds what was loaded and linked meanwhile, so
//! that is every kind of request that a drill or a recovery makes of them. What they answer is nobody's concern here,
//! but a server that refuses what the drills rely on would not be worth recording.

use std::collections::BTreeMap;

use crate::stack::{ConnectorRequest, StackError, debezium_config};
use cdc_model::units::{Offset, Subject, SubjectVersion, TableName, TopicPartition};
use cdc_pipeline::{
    client::{
        ClientError,
        connect::{Connect, snapshot_complete},
        kafka::{Kafka, TopicSpec},
        limits,
        postgres::Postgres,
        registry::Registry,
        wait::{Poll, until},
    },
    config::Config,
};

/// Connector, topic prefix and slot.
const NAME: &str = "training";
/// Kinds of columns that drills have, in a table with a key and one without.
const TABLES: &str = "
create type kind as enum ('a', 'b');
create table things (
    id bigint primary key, number integer, small smallint, price numeric(12, 2), free numeric, ratio double precision,
    yes boolean, label text, fixed uuid, made timestamptz, local timestamp, day date, body bytea, data jsonb, sort kind,
    words text[], numbers integer[], twice bigint generated always as (number * 2) stored);
create table lines (position bigint generated always as identity, words text);
alter table lines replica identity full;
insert into things
    select n, n, 1, 1.25, 2.5, 0.5, true, 'x', gen_random_uuid(), now(), now(), now(), '\\x00ff', '{\"a\": [1]}', 'a',
           '{x,y}', '{1,2}'
    from generate_series(1, 1000) n;
insert into lines (words) select repeat('x', n) from generate_series(1, 200) n";
/// Every kind of change.
const CHANGES: &str = "
insert into things (id, sort) values (2000, 'b');
update things set label = 'y', price = null where id < 100;
update things set id = id + 5000 where id between 200 and 300;
delete from things where id between 400 and 500;
update lines set words = 'z' where position < 50;
delete from lines where position > 150;
truncate lines";

/// Asks all servers of a stack.
pub(super) async fn exercise(config: &Config) -> Result<(), StackError> {
    let db = Postgres::connect(&config.postgres.url, "cdc-drill training").await?;
    db.run(TABLES).await?;
    registry(&Registry::of(&config.registry)).await?;
    connector(config, &db).await?;
    broker(&Kafka::of(&config.kafka)?).await?;
    Ok(())
}

/// A connector from its first snapshot over a stop and a reset to the second, and to its end.
async fn connector(config: &Config, db: &Postgres) -> Result<(), StackError> {
    let request = ConnectorRequest {
        name: NAME.to_owned(),
        database: "postgres".to_owned(),
        tables: vec![TableName::new("public", "things"), TableName::new("public", "lines")],
    };
    let settings = debezium_config(config, &request)?;
    let connect = Connect::of(&config.connect);
    connect.root().await?;
    connect.validate(&settings).await?;
    connect.create(NAME, &settings, "RUNNING").await?;
    streams(&connect).await?;
    db.run(CHANGES).await?;
    passed(&connect, db).await?;
    connect.topics(NAME).await?;
    connect.described(NAME).await?;
    connect.stopped(NAME, limits::servers::EXERCISE).await?;
    let offsets = connect.offsets(NAME).await?;
    connect.patch_offsets(NAME, &offsets).await?;
    connect.delete_offsets(NAME).await?;
    connect.put_config(NAME, &settings).await?;
    connect.resume(NAME).await?;
    streams(&connect).await?;
    connect.restart(NAME).await?;
    connect.running(NAME, limits::servers::EXERCISE).await?;
    connect.stopped(NAME, limits::servers::EXERCISE).await?;
    connect.delete(NAME).await?;
    Ok(())
}

async fn streams(connect: &Connect) -> Result<(), ClientError> {
    until("the training connector to stream", limits::servers::EXERCISE, || async {
        if let Some(failure) = connect.status(NAME).await?.failure() {
            return Ok::<_, ClientError>(Poll::Hopeless(failure));
        }
        let offsets = connect.offsets(NAME).await?;
        let complete = offsets.first().and_then(|o| o.offset.as_ref()).is_some_and(snapshot_complete);
        Ok(if complete { Poll::Ready(()) } else { Poll::NotYet("no offset behind the snapshot".to_owned()) })
    })
    .await
}

/// The slot is confirmed past what has been written.
async fn passed(connect: &Connect, db: &Postgres) -> Result<(), ClientError> {
    let end: String = db.value("select pg_current_wal_flush_lsn()::text").await?;
    until("the training connector to have read the changes", limits::servers::EXERCISE, || async {
        if let Some(failure) = connect.status(NAME).await?.failure() {
            return Ok::<_, ClientError>(Poll::Hopeless(failure));
        }
        // Nothing confirms what lies behind the last change, so there has to be more.
        db.run("insert into lines (words) values ('more')").await?;
        let passed = format!("select bool_or(confirmed_flush_lsn >= '{end}')::text from pg_replication_slots");
        let passed = db.text(&passed).await?.as_deref() == Some("true");
        Ok(if passed { Poll::Ready(()) } else { Poll::NotYet("the slot stands before them".to_owned()) })
    })
    .await
}

/// Topics with and without records, a group, and the end of both.
async fn broker(kafka: &Kafka) -> Result<(), ClientError> {
    let topic = format!("{NAME}.topic");
    let settings = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
    let spec = TopicSpec { name: topic.clone(), partitions: 3, replication: 1, settings };
    kafka.create_topics(std::slice::from_ref(&spec)).await?;
    kafka.produce(&topic, Some(0), Some(b"key"), Some(b"value")).await?;
    kafka.produce(&topic, None, Some(b"key"), None).await?;
    let topics: Vec<String> = kafka.topics().await?.into_keys().collect();
    kafka.topic_specs(&topics).await?;
    kafka.topic_ids(&topics).await?;
    for topic in &topics {
        kafka.read_all(topic).await?;
    }
    let partition = TopicPartition { topic: topic.clone(), partition: 0 };
    kafka.commit_group_offsets(NAME, &[(partition.clone(), Offset(0))]).await?;
    kafka.groups().await?;
    kafka.group_offsets(NAME, &[partition]).await?;
    kafka.delete_topics(&[topic]).await
}

/// An import while the registry is empty, which it must be; then a subject's levels and versions, what is refused, an
/// export, and the end of the subject.
async fn registry(registry: &Registry) -> Result<(), ClientError> {
    let subject = Subject::new(format!("{NAME}-value"));
    let schema = |fields: &str| format!(r#"{{"type":"record","name":"Trained","namespace":"x","fields":[{fields}]}}"#);
    let first = schema(r#"{"name":"a","type":"string"}"#);
    let second = schema(r#"{"name":"a","type":"string"},{"name":"b","type":["null","int"],"default":null}"#);
    let refused = schema(r#"{"name":"c","type":"int"}"#);
    registry.info().await?;
    registry.import(registry.export().await?).await?;
    registry.global_mode().await?;
    registry.global_level().await?;
    registry.set_global_level("BACKWARD").await?;
    let id = registry.register(&subject, &first, &[]).await?;
    registry.set_subject_level(&subject, "FULL").await?;
    registry.subject_level(&subject).await?;
    registry.register(&subject, &second, &[]).await?;
    registry.compatible(&subject, &refused).await?;
    if let Err(error) = registry.register(&subject, &refused, &[]).await
        && error.status() != Some(409)
    {
        return Err(error);
    }
    registry.schema(id).await?;
    registry.content(u64::from(id.0)).await?;
    registry.version(&subject, SubjectVersion(1), true).await?;
    for subject in registry.subjects(true).await? {
        registry.versions(&subject, true).await?;
        registry.subject_mode(&subject).await?;
    }
    let listings = [
        "/groups?limit=500&offset=0",
        "/groups/default/artifacts?limit=500&offset=0",
        "/search/versions?groupId=default&orderby=globalId&limit=500&offset=0",
        "/admin/config/properties/apicurio.ccompat.legacy-id-mode.enabled",
    ];
    for path in listings {
        registry.native(reqwest::Method::GET, path, None).await?;
    }
    registry.delete_version(&subject, SubjectVersion(1), true).await?;
    registry.export().await?;
    registry.unset_subject_level(&subject).await?;
    registry.unset_global_level().await?;
    for subject in registry.subjects(true).await? {
        registry.delete_subject(&subject, true).await?;
    }
    Ok(())
}
