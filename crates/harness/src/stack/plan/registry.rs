//! What a registry is given, wherever it runs.

use std::collections::BTreeMap;

use camino::Utf8Path;

use super::spec::RegistrySpec;
use crate::stack::StackError;
use cdc_model::vocabulary::RegistryStorageKind;
use cdc_pipeline::config::RegistryStorage;

/// A registry's environment, but for where it listens. `tmp` is a folder for its temporary files.
pub(in crate::stack) fn registry_environment(
    spec: &RegistrySpec,
    storage: &RegistryStorage,
    tmp: &Utf8Path,
    bootstrap: Option<&str>,
) -> Result<BTreeMap<String, String>, StackError> {
    let mut env = BTreeMap::new();
    let mut set = |name: &str, value: &str| env.insert(name.to_owned(), value.to_owned());
    for (name, value) in REGISTRY_SETTINGS {
        set(name, value);
    }
    set("APICURIO_IMPORT_WORK_DIR", tmp.as_str());
    set("APICURIO_STORAGE_SNAPSHOT_LOCATION", tmp.as_str());
    match storage {
        RegistryStorage::H2 { path } => {
            set("APICURIO_STORAGE_KIND", "sql");
            set("APICURIO_STORAGE_SQL_KIND", "h2");
            set("APICURIO_DATASOURCE_URL", &format!("jdbc:h2:file:{path}"));
        }
        RegistryStorage::Kafkasql { topics } => {
            let bootstrap = bootstrap.ok_or_else(|| StackError::Setting {
                what: "registry storage kafkasql".to_owned(),
                expected: "a broker in the stack".to_owned(),
                found: "none".to_owned(),
            })?;
            set("APICURIO_STORAGE_KIND", "kafkasql");
            set("APICURIO_KAFKASQL_BOOTSTRAP_SERVERS", bootstrap);
            // The default of 5 s is waited in full at every start.
            set("APICURIO_KAFKASQL_CONSUMER_POLL_TIMEOUT", "100");
            let names = ["APICURIO_KAFKASQL_TOPIC", "APICURIO_KAFKASQL_SNAPSHOTS_TOPIC", "APICURIO_EVENTS_KAFKA_TOPIC"];
            for (name, topic) in names.iter().zip(topics) {
                set(name, topic);
            }
            set("APICURIO_KAFKASQL_CONSUMER_GROUP_PREFIX", &format!("{}apicurio-", spec.topic_prefix));
        }
    }
    Ok(env)
}

/// Keeps few database sessions, and lets subjects be deleted: registry damage needs it.
const REGISTRY_SETTINGS: [(&str, &str); 8] = [
    ("QUARKUS_LOG_CONSOLE_COLOR", "false"),
    ("QUARKUS_BANNER_ENABLED", "false"),
    ("QUARKUS_LOG_CONSOLE_FORMAT", "%d{yyyy-MM-dd HH:mm:ss.SSS} %-5p %c{2.}: %s%e%n"),
    ("QUARKUS_HTTP_ACCESS_LOG_ENABLED", "false"),
    ("APICURIO_REST_DELETION_ARTIFACT_ENABLED", "true"),
    ("APICURIO_REST_DELETION_ARTIFACT_VERSION_ENABLED", "true"),
    ("APICURIO_REST_DELETION_GROUP_ENABLED", "true"),
    ("APICURIO_DATASOURCE_JDBC_INITIAL_SIZE", "2"),
];

/// Where it keeps its schemas.
pub(in crate::stack) fn registry_storage(spec: &RegistrySpec, home: &Utf8Path) -> RegistryStorage {
    match spec.storage {
        RegistryStorageKind::H2 => RegistryStorage::H2 { path: home.join("db") },
        RegistryStorageKind::Kafkasql => {
            let names = ["kafkasql-journal", "kafkasql-snapshots", "registry-events"];
            RegistryStorage::Kafkasql { topics: names.iter().map(|n| format!("{}{n}", spec.topic_prefix)).collect() }
        }
    }
}
