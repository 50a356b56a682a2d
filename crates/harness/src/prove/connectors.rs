//! A connector of the point, made for the scratch stack: it reads from the scratch server and writes to the scratch broker and registry, and
//! knows no address and no secret of the pipeline that it came from. Pure.

use cdc_engine::backup::SavedConnector;
use cdc_pipeline::{client::connect::ConnectorConfig, debezium::is_debezium};

/// Settings that lead to systems of the pipeline, or need what its worker has, by how they begin. Without them a connector does the same.
const LEFT_OUT: [&str; 12] = [
    "database.ssl",
    "driver.",
    "producer.override.",
    "consumer.override.",
    "admin.override.",
    "signal.kafka.",
    "schema.history.",
    "openlineage.",
    "notification.sink.",
    "slot.failover",
    "snapshot.select.statement.overrides",
    "snapshot.include.collection.list",
];
/// Settings by which converters and clients prove who they are, by what their names contain behind the converter's prefix.
const CREDENTIALS: [&str; 9] =
    ["auth", "bearer", "oauth", "sasl", "ssl.", "truststore", "keystore", "proxy", "credentials"];

/// Where the scratch stack is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: cdc_model::units::Secret,
    pub(super) bootstrap: String,
    pub(super) registry: String,
}

/// The connector as it is restored, and what about it is another one than in the point.
pub(super) fn moved(
    saved: &SavedConnector,
    number: usize,
    to: &Place,
) -> Result<(SavedConnector, Vec<String>), String> {
    let class = saved.config.get("connector.class").map(String::as_str).unwrap_or_default();
    if saved.kind == "sink" {
        return Err("a sink would write into somebody's system".to_owned());
    }
    if !is_debezium(class) {
        return Err(format!("its class is {class}: its source is not in the point"));
    }
    let mut notes = Vec::new();
    let mut config = ConnectorConfig::new();
    for (key, value) in &saved.config {
        match setting(key, value, to) {
            Setting::Kept => _ = config.insert(key.clone(), value.clone()),
            Setting::Changed(value) => _ = config.insert(key.clone(), value),
            Setting::LeftOut => notes.push(format!("without {key}")),
            Setting::Unknown => notes.push(format!("without {key}, whose value a provider of the worker gives")),
        }
    }
    let own = [
        ("database.hostname", to.host.clone()),
        ("database.port", to.port.to_string()),
        ("database.user", to.user.clone()),
        ("database.password", to.password.expose().to_owned()),
        ("slot.name", format!("cdc_drill_proof_{number}")),
        // A point has no records of a topic, or had them replayed before: in both cases every row is read again.
        ("snapshot.mode", "initial".to_owned()),
    ];
    config.extend(own.map(|(key, value)| (key.to_owned(), value)));
    let state = "RUNNING".to_owned();
    Ok((SavedConnector { config, state, ..saved.clone() }, notes))
}

enum Setting {
    Kept,
    Changed(String),
    LeftOut,
    Unknown,
}

fn setting(key: &str, value: &str, to: &Place) -> Setting {
    let behind_converter =
        ["key.converter.", "value.converter.", "header.converter."].iter().find_map(|start| key.strip_prefix(start));
    if LEFT_OUT.iter().any(|start| key.starts_with(start)) {
        return Setting::LeftOut;
    }
    if key.ends_with("bootstrap.servers") {
        return Setting::Changed(to.bootstrap.clone());
    }
    if key.contains("registry.url") {
        return Setting::Changed(registry_url(key, value, to));
    }
    if behind_converter.is_some_and(|rest| CREDENTIALS.iter().any(|word| rest.contains(word))) {
        return Setting::LeftOut;
    }
    if key.starts_with("topic.creation.") {
        // One broker.
        if key.ends_with(".replication.factor") {
            return Setting::Changed("1".to_owned());
        }
        if key.ends_with(".min.insync.replicas") {
            return Setting::LeftOut;
        }
    }
    let is_given =
        ["database.hostname", "database.port", "database.user", "database.password", "slot.name"].contains(&key);
    match value.contains("${") && value.contains(':') && !is_given && !key.starts_with("transforms.") {
        true => Setting::Unknown,
        false => Setting::Kept,
    }
}

/// The same API of the scratch registry: Confluent's, or a version of Apicurio's own.
fn registry_url(key: &str, value: &str, to: &Place) -> String {
    let own = to.registry.trim_end_matches('/');
    match (value.find("/apis/"), key.ends_with("schema.registry.url") && !key.contains("apicurio")) {
        (Some(at), _) => format!("{own}{}", value[at..].split(',').next().unwrap_or_default()),
        (None, true) => format!("{own}/apis/ccompat/v7"),
        (None, false) => format!("{own}/apis/registry/v2"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::Secret;
    use cdc_pipeline::debezium::CLASS;

    fn place() -> Place {
        Place {
            host: "127.0.0.1".into(),
            port: 5999,
            user: "postgres".into(),
            password: Secret::new("scratch"),
            bootstrap: "127.0.0.1:9999".into(),
            registry: "http://127.0.0.1:8888/".into(),
        }
    }

    fn saved(kind: &str, config: &[(&str, &str)]) -> SavedConnector {
        SavedConnector {
            name: "shop".into(),
            kind: kind.into(),
            state: "PAUSED".into(),
            tasks: Vec::new(),
            config: config.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            topics: Vec::new(),
            offsets: Vec::new(),
            unread: None,
        }
    }

    #[test]
    fn nothing_of_the_source_is_left_in_a_connector() {
        let source = saved(
            "source",
            &[
                ("connector.class", CLASS),
                ("database.hostname", "source.example"),
                ("database.port", "5432"),
                ("database.user", "${vault:db:user}"),
                ("database.password", "of-the-source"),
                ("database.dbname", "shop"),
                ("database.sslmode", "verify-full"),
                ("database.sslrootcert", "/etc/source.example.pem"),
                ("slot.name", "shop"),
                ("table.include.list", "public.orders"),
                ("snapshot.mode", "never"),
                ("producer.override.bootstrap.servers", "source.example:9092"),
                ("signal.kafka.bootstrap.servers", "source.example:9092"),
                ("some.bootstrap.servers", "source.example:9092"),
                ("value.converter.apicurio.registry.url", "http://source.example:8080/apis/registry/v3"),
                ("key.converter.schema.registry.url", "http://source.example:8081"),
                ("value.converter.basic.auth.user.info", "source.example:of-the-source"),
                ("topic.creation.default.replication.factor", "3"),
                ("topic.creation.default.min.insync.replicas", "2"),
                ("header.secret", "${file:/etc/source.example:key}"),
            ],
        );
        let (moved, notes) = moved(&source, 1, &place()).unwrap();
        let text = format!("{:?}", moved.config);
        for of_source in ["source.example", "of-the-source", "${"] {
            assert!(!text.contains(of_source), "{of_source} in {text}");
        }
        let get = |key: &str| moved.config.get(key).map(String::as_str);
        assert_eq!(get("table.include.list"), Some("public.orders"), "what it captures stays");
        assert_eq!((get("database.port"), get("database.dbname")), (Some("5999"), Some("shop")));
        assert_eq!((get("snapshot.mode"), get("slot.name")), (Some("initial"), Some("cdc_drill_proof_1")));
        assert_eq!(get("value.converter.apicurio.registry.url"), Some("http://127.0.0.1:8888/apis/registry/v3"));
        assert_eq!(get("key.converter.schema.registry.url"), Some("http://127.0.0.1:8888/apis/ccompat/v7"));
        assert_eq!(get("topic.creation.default.replication.factor"), Some("1"));
        assert_eq!(moved.state, "RUNNING");
        assert!(notes.iter().any(|note| note.contains("header.secret")), "{notes:?}");
        assert!(!notes.join(" ").contains("of-the-source"), "{notes:?}");
    }

    #[test]
    fn nothing_that_would_write_elsewhere_or_has_no_source_here_is_restored() {
        let sink = saved("sink", &[("connector.class", "io.debezium.connector.jdbc.JdbcSinkConnector")]);
        assert!(moved(&sink, 1, &place()).unwrap_err().contains("sink"));
        let other = saved("source", &[("connector.class", "io.debezium.connector.mysql.MySqlConnector")]);
        assert!(moved(&other, 1, &place()).unwrap_err().contains("MySql"));
        let by_alias = saved("source", &[("connector.class", "PostgresConnector")]);
        assert!(moved(&by_alias, 1, &place()).is_ok());
    }
}
