//! Which connectors are looked at, and what the worker says of them.

use std::{collections::BTreeSet, sync::Arc};

use super::Systems;
use crate::{
    VerifyError,
    decode::settings::ConnectorSettings,
    observation::{ConnectorView, Unidentified},
};
use cdc_pipeline::{
    client::{
        ClientError,
        cluster::{Cluster, Readers, is_postgres},
        connect::ConnectorConfig,
    },
    debezium::{CLASS, Coverage},
};

/// The connectors to look at: those named, or every Debezium PostgreSQL connector of the worker on the configured server; and
/// those of which it is not known whether they read from that server.
pub async fn connectors(
    systems: &Systems,
    wanted: &[String],
) -> Result<(Vec<ConnectorView>, Vec<Unidentified>), VerifyError> {
    let there = systems.connect.connectors().await?;
    if let Some(missing) = wanted.iter().find(|w| !there.contains(w)) {
        let found = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        let hint = if there.is_empty() { NO_CONNECTOR } else { "name one of these with --connector" };
        return Err(VerifyError::NoConnector { connector: missing.clone(), found, hint });
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
            offsets_unread: None,
            publication: false,
            coverage: Coverage::default(),
            unpublished: Vec::new(),
            uncaptured: Vec::new(),
            orphans: Vec::new(),
            notes: Vec::new(),
        });
    }
    if views.is_empty() {
        return Err(none_to_read(&there, &unidentified));
    }
    Ok((views, unidentified))
}

const NO_CONNECTOR: &str =
    "is [connect] url the worker's, and has it a connector? `cdc-drill stack connector` makes one in a sandbox";

/// None of the worker's connectors is one that verify reads and that is known to read from the configured server.
fn none_to_read(there: &[String], unidentified: &[Unidentified]) -> VerifyError {
    let (found, hint) = match (there.is_empty(), unidentified.is_empty()) {
        (true, _) => ("none".to_owned(), NO_CONNECTOR),
        (false, true) => (there.join(", "), "is [postgres] url that of the server that they read from?"),
        (false, false) => {
            let why = unidentified.iter().map(|one| format!("{} ({})", one.connector, one.why));
            let why = why.collect::<Vec<_>>().join(", ");
            (format!("{}; not looked at: {why}", there.join(", ")), "name one with --connector")
        }
    };
    let connector = format!("of class {CLASS}");
    VerifyError::NoConnector { connector, found, hint }
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
pub(super) async fn status(systems: &Systems, view: &mut ConnectorView) {
    let name = view.settings.name.clone();
    view.status = systems.connect.status(&name).await.map_err(|e| e.to_string());
    (view.offsets, view.offsets_unread) = match systems.connect.offsets(&name).await {
        Ok(offsets) => (offsets, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use cdc_model::units::Failure;

    #[test]
    fn nobody_is_told_to_name_a_connector_where_there_is_none() {
        let one = Unidentified { connector: "far".into(), why: "no route".into(), excluded: false };
        let text = |there: &[&str], unidentified: &[Unidentified]| {
            let there: Vec<String> = there.iter().map(|name| (*name).to_owned()).collect();
            none_to_read(&there, unidentified).in_full()
        };
        let none = text(&[], &[]);
        assert!(none.contains("found none") && !none.contains("--connector"), "{none}");
        let sinks = text(&["sink"], &[]);
        assert!(sinks.contains("found sink") && sinks.contains("[postgres] url"), "{sinks}");
        assert!(text(&["far"], &[one]).contains("far (no route)\nhint: name one with --connector"));
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
        let config = ConnectorConfig::from([("connector.class".to_owned(), class.to_owned())]);
        let found = not_read("cdc", &config, kind);
        assert_eq!(found.is_some(), named.is_some(), "{found:?}");
        assert!(found.is_none_or(|one| one.excluded && one.why.contains(named.unwrap_or_default())));
    }
}
