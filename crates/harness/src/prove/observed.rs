//! What is asked of the scratch stack.

use std::collections::{BTreeMap, BTreeSet};

use super::error::ProveError;
use cdc_engine::backup::{
    Point,
    parts::postgres::{DatabaseFingerprints, TableFingerprint, fingerprint},
};
use cdc_model::units::{Secret, SubjectVersion, TableName};
use cdc_pipeline::{
    client::{
        ClientError,
        connect::{Connect, snapshot_complete},
        kafka::Kafka,
        limits,
        postgres::Postgres,
        registry::Registry,
        wait::{self, Poll},
    },
    config::Config,
};

/// The rows of tables as a restored server has them, by database and table.
pub(super) type FoundTables = BTreeMap<(String, TableName), Option<TableFingerprint>>;

/// Reads the fingerprints of the same tables.
pub(super) async fn tables(url: &Secret, wanted: &[&DatabaseFingerprints]) -> Result<FoundTables, ProveError> {
    let mut found = FoundTables::new();
    for of in wanted {
        let session = Postgres::connect_database(url, &of.database, "cdc-drill prove").await?;
        for table in &of.tables {
            let there = fingerprint(&session, &table.table).await?;
            found.insert((of.database.clone(), table.table.clone()), there);
        }
    }
    Ok(found)
}

/// What all databases take, and the server's version.
pub(super) async fn database(url: &Secret) -> Result<(u64, Option<String>), ProveError> {
    let session = Postgres::connect(url, "cdc-drill prove").await?;
    let bytes = session.value("select sum(pg_database_size(oid))::bigint from pg_database").await?;
    Ok((bytes, session.text("show server_version").await?))
}

/// The versions of the worker and the registry.
pub(super) async fn versions(config: &Config) -> (Option<String>, Option<String>) {
    let version = |value: serde_json::Value| value["version"].as_str().map(str::to_owned);
    let connect = Connect::of(&config.connect).root().await.ok().and_then(version);
    let registry = Registry::of(&config.registry).info().await.ok().and_then(version);
    (connect, registry)
}

/// The versions of each subject, soft-deleted ones included.
pub(super) async fn subjects(config: &Config) -> Result<BTreeMap<String, Vec<SubjectVersion>>, ProveError> {
    let registry = Registry::of(&config.registry);
    let mut all = BTreeMap::new();
    for subject in registry.subjects(true).await? {
        all.insert(subject.0.clone(), registry.versions(&subject, true).await?);
    }
    Ok(all)
}

/// Waits until the snapshots of all connectors are complete. What they wait for is not judged here: a connector that failed, or that has
/// no row to read, ends the wait with what was seen.
pub(super) async fn snapshots(config: &Config, names: &[String]) -> Result<(), ClientError> {
    let (connect, kafka) = (Connect::of(&config.connect), Kafka::of(&config.kafka)?);
    wait::while_moving("the snapshots of the connectors", limits::connectors::STALLED, || async {
        let mut records = 0;
        for topic in kafka.topics().await?.keys() {
            records += kafka.watermarks(topic).await?.iter().map(|(_, end)| end.0).sum::<i64>();
        }
        for name in names {
            let status = connect.status(name).await?;
            if let Some(failure) = status.failure() {
                return Ok::<_, ClientError>((Poll::Hopeless(format!("connector {name}: {failure}")), records));
            }
            let offsets = connect.offsets(name).await?;
            let stored: Vec<_> = offsets.iter().filter_map(|stored| stored.offset.as_ref()).collect();
            if stored.is_empty() || !stored.iter().all(|offset| snapshot_complete(offset)) {
                return Ok((Poll::NotYet(format!("connector {name} has not read all rows")), records));
            }
        }
        Ok((Poll::Ready(()), records))
    })
    .await
}

/// The connectors that had stored offsets when the point was taken: of each key the last record counts.
pub(super) fn stored_offsets(point: &Point) -> Result<BTreeSet<String>, ProveError> {
    let mut last: BTreeMap<(String, String), bool> = BTreeMap::new();
    for record in point.offset_records()? {
        let Some(name) = record.connector else { continue };
        let is_set = record.offset.is_some_and(|offset| !offset.is_null());
        last.insert((name, record.partition.unwrap_or_default().to_string()), is_set);
    }
    Ok(last.into_iter().filter(|(_, is_set)| *is_set).map(|((name, _), _)| name).collect())
}
