//! Configurations of the connectors that a stack has plugins for: Debezium's for PostgreSQL, and Kafka's own sink that appends
//! records to a file. Both with the converter settings that give Confluent's wire format.

use camino::Utf8Path;

use super::StackError;
use cdc_model::units::TableName;
use cdc_pipeline::{
    client::connect::ConnectorConfig,
    config::{Config, ConnectConfig},
};

/// What a person says of a connector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectorRequest {
    /// Its name, also its topic prefix; slot and publication are named after it.
    pub name: String,
    /// The database it reads from.
    pub database: String,
    /// The tables it captures.
    pub tables: Vec<TableName>,
}

/// What the converters need of a worker's JVM. Their client keeps its connections to the registry alive. Where the registry closes
/// one under a request (it was restarted, say), Java's client sends a GET again, but no POST, by which schemas are registered: the
/// task fails with "HTTP/1.1 header parser received no bytes", whatever `errors.retry.timeout` is. Registering is repeatable.
pub(super) const CONVERTER_JVM: &str = "-Djdk.httpclient.enableAllMethodRetry=true";
/// Apicurio's Avro converter.
const AVRO_CONVERTER: &str = "io.apicurio.registry.utils.converter.AvroConverter";
/// Topics the worker makes for a new table: several partitions, so that order is only kept per key, as in real life.
const PARTITIONS: &str = "3";
/// A re-snapshot is most of the time that a recovery takes, and the records in the connector's queue are most of the worker's
/// live heap: every collection copies them. A quarter of Debezium's default queue keeps the pipeline full, and the worker
/// is 120 MB smaller and collects garbage for a fourth less time. The linger fills batches: see `connect.properties`.
const TUNING: [(&str, &str); 6] = [
    ("snapshot.fetch.size", "2048"),
    ("max.queue.size", "2048"),
    ("max.batch.size", "1024"),
    ("poll.interval.ms", "50"),
    ("producer.override.linger.ms", "50"),
    ("producer.override.batch.size", "131072"),
];

/// The connector's configuration for the pipeline that `config` describes.
pub fn debezium_config(config: &Config, request: &ConnectorRequest) -> Result<ConnectorConfig, StackError> {
    if request.tables.is_empty() {
        return Err(setting("tables", "at least one schema.table", "none"));
    }
    let identifier = identifier(&request.name)?;
    let postgres = cdc_pipeline::client::postgres::address(&config.postgres.url)
        .map_err(|_| setting("postgres url", "postgres://user:password@host:port/database", "another text"))?;
    let host = match postgres.get_hosts().first() {
        Some(tokio_postgres::config::Host::Tcp(host)) => host.clone(),
        _ => {
            return Err(setting(
                "postgres url",
                "a host that the Connect worker can reach",
                "a socket folder or nothing",
            ));
        }
    };
    let port = postgres.get_ports().first().copied().unwrap_or(5432).to_string();
    let password = String::from_utf8_lossy(postgres.get_password().unwrap_or_default()).into_owned();
    let tables = request.tables.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut map = ConnectorConfig::new();
    let mut set = |key: &str, value: &str| map.insert(key.to_owned(), value.to_owned());
    set("connector.class", "io.debezium.connector.postgresql.PostgresConnector");
    set("tasks.max", "1");
    set("database.hostname", &host);
    set("database.port", &port);
    set("database.user", postgres.get_user().unwrap_or("postgres"));
    set("database.password", &password);
    set("database.dbname", &request.database);
    set("topic.prefix", &request.name);
    set("table.include.list", &tables);
    set("plugin.name", "pgoutput");
    set("slot.name", &identifier);
    set("publication.name", &identifier);
    set("publication.autocreate.mode", "filtered");
    set("snapshot.mode", "initial");
    for side in ["key", "value"] {
        converter(side, &config.registry.url, &mut set);
    }
    set("topic.creation.default.replication.factor", "1");
    set("topic.creation.default.partitions", PARTITIONS);
    // A recovery re-reads the tables; the events of a long-gone row must still be there to be judged.
    set("topic.creation.default.cleanup.policy", "delete");
    for (key, value) in TUNING {
        set(key, value);
    }
    use_schema_resolver(&mut map, &config.connect);
    Ok(map)
}

/// The configuration of a sink that appends each record of `topics` to a file of the worker's machine, a line a record, as the
/// worker's account. A change reads `Struct{after=Struct{id=1},...}`, and a tombstone `null`.
pub fn file_sink_config(config: &Config, topics: &[String], file: &Utf8Path) -> Result<ConnectorConfig, StackError> {
    if topics.is_empty() {
        return Err(setting("topics", "at least one topic", "none"));
    }
    let mut map = ConnectorConfig::new();
    let mut set = |key: &str, value: &str| map.insert(key.to_owned(), value.to_owned());
    set("connector.class", "org.apache.kafka.connect.file.FileStreamSinkConnector");
    set("tasks.max", "1");
    set("topics", &topics.join(","));
    set("file", file.as_str());
    for side in ["key", "value"] {
        converter(side, &config.registry.url, &mut set);
    }
    use_schema_resolver(&mut map, &config.connect);
    Ok(map)
}

/// Lets Apicurio's Avro converter use the schema resolver that the workers have, where the configuration names none.
pub fn use_schema_resolver(connector: &mut ConnectorConfig, workers: &ConnectConfig) {
    let Some(class) = &workers.schema_resolver else { return };
    for side in ["key", "value"] {
        if connector.get(&format!("{side}.converter")).is_some_and(|converter| converter == AVRO_CONVERTER) {
            let setting = format!("{side}.converter.apicurio.registry.schema-resolver");
            connector.entry(setting).or_insert_with(|| class.clone());
        }
    }
}

/// The payload is Confluent's: a zero byte, the schema id in four bytes, Avro.
fn converter(side: &str, registry: &str, set: &mut impl FnMut(&str, &str) -> Option<String>) {
    let settings = [
        ("", AVRO_CONVERTER),
        (".apicurio.registry.auto-register", "true"),
        (".apicurio.registry.find-latest", "true"),
        (".apicurio.registry.as-confluent", "true"),
        (".apicurio.registry.use-id", "contentId"),
        (".apicurio.registry.headers.enabled", "false"),
    ];
    for (key, value) in settings {
        set(&format!("{side}.converter{key}"), value);
    }
    set(
        &format!("{side}.converter.apicurio.registry.url"),
        &format!("{}/apis/registry/v2", registry.trim_end_matches('/')),
    );
}

/// A slot's name may hold lower-case letters, digits and underscores.
fn identifier(name: &str) -> Result<String, StackError> {
    let fits =
        !name.is_empty() && name.len() <= 50 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    if !fits {
        return Err(setting("connector name", "1 to 50 letters, digits, `_`, `-`, `.` (it begins topic names)", name));
    }
    Ok(name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect())
}

fn setting(what: &str, expected: &str, found: &str) -> StackError {
    StackError::Setting { what: what.to_owned(), expected: expected.to_owned(), found: found.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::Failure;
    use cdc_model::units::Secret;
    use cdc_pipeline::config::*;

    fn config() -> Config {
        Config {
            postgres: PostgresConfig::new(Secret::new("postgres://u:p@127.0.0.1:5433/d"), "/d".into(), "/b".into()),
            kafka: KafkaConfig::plain("h:2"),
            connect: ConnectConfig::plain("http://h:3", "o"),
            registry: RegistryConfig::plain("http://h:4/", RegistryFlavour::Apicurio, None),
            repository: RepositoryConfig::at("/r".into()),
            backup: BackupConfig::default(),
            recovery: RecoveryConfig::default(),
            prove: ProveConfig::default(),
            control: Default::default(),
            monitor: MonitorConfig::default(),
            objectives: ObjectivesConfig::default(),
            notify: None,
            attach: None,
        }
    }

    #[test]
    fn names_follow_the_connector_and_the_wire_format_is_confluents() {
        let request = ConnectorRequest {
            name: "Shop-1".into(),
            database: "shop".into(),
            tables: vec![TableName::new("public", "a"), TableName::new("s", "b")],
        };
        let map = debezium_config(&config(), &request).unwrap();
        let get = |key: &str| map.get(key).map(String::as_str).unwrap_or_default();
        assert_eq!(get("slot.name"), "shop_1");
        assert_eq!(get("topic.prefix"), "Shop-1");
        assert_eq!(get("table.include.list"), "public.a,s.b");
        assert_eq!((get("database.port"), get("database.password")), ("5433", "p"));
        assert_eq!(get("value.converter.apicurio.registry.url"), "http://h:4/apis/registry/v2");
        assert_eq!(get("key.converter.apicurio.registry.headers.enabled"), "false");
    }

    #[test]
    fn a_sink_reads_what_the_connector_writes_and_no_topics_are_refused() {
        let topics = ["shop.public.a".to_owned(), "shop.public.b".to_owned()];
        let map = file_sink_config(&config(), &topics, Utf8Path::new("/d/a.txt")).unwrap();
        assert_eq!((map["topics"].as_str(), map["file"].as_str()), ("shop.public.a,shop.public.b", "/d/a.txt"));
        let request =
            ConnectorRequest { name: "shop".into(), database: "d".into(), tables: vec![TableName::new("public", "a")] };
        let source = debezium_config(&config(), &request).unwrap();
        let converters = |map: &ConnectorConfig| {
            let of = map.iter().filter(|(key, _)| key.contains(".converter"));
            of.map(|(key, value)| (key.clone(), value.clone())).collect::<Vec<_>>()
        };
        assert_eq!(converters(&map), converters(&source));
        assert_eq!(
            file_sink_config(&config(), &[], Utf8Path::new("/d")).unwrap_err().exit(),
            cdc_model::units::Exit::Invalid
        );
    }

    #[test]
    fn only_apicurios_converter_on_workers_that_have_the_resolver_gets_it_and_never_instead_of_another() {
        let setting = |side: &str| format!("{side}.converter.apicurio.registry.schema-resolver");
        let request =
            ConnectorRequest { name: "a".into(), database: "d".into(), tables: vec![TableName::new("public", "a")] };
        let mut config = config();
        let without = debezium_config(&config, &request).unwrap();
        assert!(!without.keys().any(|key| key.ends_with("schema-resolver")), "{without:?}");
        config.connect.schema_resolver = Some("x.Own".to_owned());
        let with = debezium_config(&config, &request).unwrap();
        assert_eq!((with[&setting("key")].as_str(), with[&setting("value")].as_str()), ("x.Own", "x.Own"));
        let mut given = ConnectorConfig::from_iter([
            ("key.converter".to_owned(), "org.apache.kafka.connect.json.JsonConverter".to_owned()),
            ("value.converter".to_owned(), AVRO_CONVERTER.to_owned()),
            (setting("value"), "y.Theirs".to_owned()),
        ]);
        let before = given.clone();
        use_schema_resolver(&mut given, &config.connect);
        assert_eq!(given, before);
    }

    #[test]
    fn no_tables_and_a_name_that_topics_cannot_have_are_refused() {
        let request = ConnectorRequest { name: "a".into(), database: "d".into(), tables: vec![] };
        assert_eq!(debezium_config(&config(), &request).unwrap_err().exit(), cdc_model::units::Exit::Invalid);
        let request =
            ConnectorRequest { name: "a b".into(), database: "d".into(), tables: vec![TableName::new("a", "b")] };
        assert!(debezium_config(&config(), &request).is_err());
    }
}
