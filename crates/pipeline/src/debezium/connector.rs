//! A connector's settings, as far as they say what it captures, from where, and under which names.

use std::collections::{BTreeMap, BTreeSet};

use super::{Lists, Masks, NAMING_STRATEGY, Operation, Operations, TopicNames};
use cdc_model::units::SlotName;

/// The class of the PostgreSQL connector.
pub const CLASS: &str = "io.debezium.connector.postgresql.PostgresConnector";
/// Whether a class is that connector's, by its name or by the aliases that Connect gives it.
pub fn is_debezium(class: &str) -> bool {
    [CLASS, "PostgresConnector", "Postgres"].contains(&class)
}

/// Debezium's defaults for what a configuration leaves out.
pub const DEFAULT_SLOT: &str = "debezium";
/// The publication.
pub const DEFAULT_PUBLICATION: &str = "dbz_publication";
/// The server's port.
pub const DEFAULT_PORT: &str = "5432";
/// The database, which Debezium requires; PostgreSQL's own default.
pub const DEFAULT_DATABASE: &str = "postgres";

/// What a connector captures and where from, by its own settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connector {
    /// `database.dbname`.
    pub database: Option<String>,
    /// `slot.name`.
    pub slot: SlotName,
    /// `publication.name`.
    pub publication: String,
    /// `publication.autocreate.mode` is `filtered`: at each start the connector makes the publication hold the tables that its
    /// lists take, without row filters and lists of columns.
    pub owns_publication: bool,
    /// `publish.via.partition.root`: it makes its publication send partitions' changes under their roots' names.
    pub by_root: bool,
    /// `topic.prefix` and `topic.delimiter`.
    pub topics: TopicNames,
    /// The topics that it may use beside those of tables: of transactions, heartbeats, messages, signals, notifications and its
    /// schema history.
    pub other_topics: BTreeSet<String>,
    /// Its lists.
    pub lists: Lists,
    /// Its settings that write other values than the table has.
    pub masks: Masks,
    /// The kinds of changes that it writes: all but `skipped.operations`.
    pub operations: Operations,
    /// Settings by which records may go to other topics than their tables' own: transforms and strategies that are not known to
    /// leave them alone.
    pub renames_topics: Vec<String>,
}

/// Debezium's transforms that leave records in their topics.
const DEBEZIUM_TRANSFORMS: [&str; 3] = ["ExtractNewRecordState", "ExtractChangedRecordState", "HeaderToValue"];

/// Kafka's.
const KAFKA_TRANSFORMS: [&str; 8] = [
    "InsertField$Key",
    "InsertField$Value",
    "ReplaceField$Key",
    "ReplaceField$Value",
    "MaskField$Value",
    "Cast$Value",
    "InsertHeader",
    "DropHeaders",
];

/// Whether a transform's class is known to leave records in their topics. Classes of other packages are unknown, whatever their
/// names.
fn leaves_topics_alone(class: &str) -> bool {
    match class.rsplit_once('.') {
        Some(("io.debezium.transforms", name)) => DEBEZIUM_TRANSFORMS.contains(&name),
        Some(("org.apache.kafka.connect.transforms", name)) => KAFKA_TRANSFORMS.contains(&name),
        _ => false,
    }
}

impl Connector {
    /// Reads a connector's configuration.
    pub fn of(config: &BTreeMap<String, String>) -> Connector {
        let text = |key: &str| config.get(key).map(|value| value.trim()).filter(|value| !value.is_empty());
        let or = |key: &str, default: &str| text(key).unwrap_or(default).to_owned();
        let skipped: Vec<&str> = text("skipped.operations").unwrap_or("t").split(',').map(str::trim).collect();
        let writes = |operation: Operation| !skipped.iter().any(|s| s.starts_with(operation.letter()));
        let topics = TopicNames { prefix: or("topic.prefix", ""), delimiter: or("topic.delimiter", ".") };
        Connector {
            database: text("database.dbname").map(str::to_owned),
            slot: SlotName::new(or("slot.name", DEFAULT_SLOT)),
            publication: or("publication.name", DEFAULT_PUBLICATION),
            owns_publication: text("publication.autocreate.mode").is_some_and(|m| m.eq_ignore_ascii_case("filtered")),
            by_root: text("publish.via.partition.root").is_some_and(|v| v.eq_ignore_ascii_case("true")),
            other_topics: other_topics(config, &topics),
            topics,
            lists: Lists::of(config),
            masks: Masks::of(config),
            operations: Operations::all_where(writes),
            renames_topics: renames_topics(config),
        }
    }
}

fn other_topics(config: &BTreeMap<String, String>, topics: &TopicNames) -> BTreeSet<String> {
    let text = |key: &str| config.get(key).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    let TopicNames { prefix, delimiter } = topics;
    let transaction = text("topic.transaction").unwrap_or_else(|| "transaction".to_owned());
    let beat = text("topic.heartbeat.prefix").unwrap_or_else(|| "__debezium-heartbeat".to_owned());
    let always = [
        format!("{prefix}{delimiter}{transaction}"),
        text("topic.heartbeat.name").unwrap_or_else(|| format!("{beat}{delimiter}{prefix}")),
        // Whatever the delimiter is.
        format!("{prefix}.message"),
        text("signal.kafka.topic").unwrap_or_else(|| format!("{prefix}-signal")),
    ];
    let named = ["notification.sink.topic.name", "schema.history.internal.kafka.topic"].into_iter().filter_map(text);
    always.into_iter().chain(named).collect()
}

fn renames_topics(config: &BTreeMap<String, String>) -> Vec<String> {
    let text = |key: &str| config.get(key).map_or("", |value| value.trim());
    let strategy = text("topic.naming.strategy");
    let strategy = (!["", NAMING_STRATEGY].contains(&strategy)).then(|| format!("topic.naming.strategy={strategy}"));
    let transforms = text("transforms").split(',').map(str::trim).filter(|alias| !alias.is_empty());
    let routing = transforms.filter_map(|alias| {
        let key = format!("transforms.{alias}.type");
        let class = text(&key);
        // It routes by a field of the row where one is named.
        let routes = !text(&format!("transforms.{alias}.route.by.field")).is_empty();
        (routes || !leaves_topics_alone(class)).then(|| format!("{key}={class}"))
    });
    strategy.into_iter().chain(routing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connector(settings: &[(&str, &str)]) -> Connector {
        Connector::of(&settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn what_is_left_out_has_debeziums_default() {
        let plain = connector(&[]);
        assert_eq!((plain.slot.as_str(), plain.publication.as_str()), ("debezium", "dbz_publication"));
        assert_eq!(plain.topics.delimiter, ".");
        assert!(!plain.owns_publication);
        assert_eq!(plain.operations.to_string(), "insert, update, delete");
        assert_eq!(
            connector(&[("skipped.operations", "none")]).operations.to_string(),
            "insert, update, delete, truncate"
        );
        assert_eq!(connector(&[("skipped.operations", "u, d")]).operations.to_string(), "insert, truncate");
    }

    #[test]
    fn what_may_send_records_to_other_topics_is_named() {
        let of = |pairs: &[(&str, &str)]| connector(pairs).renames_topics;
        let unwrap = ("transforms.u.type", "io.debezium.transforms.ExtractNewRecordState");
        assert!(of(&[("transforms", "u"), unwrap]).is_empty());
        assert_eq!(of(&[("transforms", "u"), unwrap, ("transforms.u.route.by.field", "kind")]).len(), 1);
        let router = ("transforms.r.type", "org.apache.kafka.connect.transforms.RegexRouter");
        assert_eq!(
            of(&[("transforms", "u, r"), unwrap, router]),
            ["transforms.r.type=org.apache.kafka.connect.transforms.RegexRouter"]
        );
        let namesake = ("transforms.u.type", "com.example.ExtractNewRecordState");
        assert_eq!(of(&[("transforms", "u"), namesake]).len(), 1);
        assert!(of(&[("topic.naming.strategy", "io.debezium.schema.SchemaTopicNamingStrategy")]).is_empty());
        for strategy in ["a.B", "a.SchemaTopicNamingStrategy", "io.debezium.schema.DefaultTopicNamingStrategy"] {
            assert_eq!(of(&[("topic.naming.strategy", strategy)]), [format!("topic.naming.strategy={strategy}")]);
        }
    }
}
