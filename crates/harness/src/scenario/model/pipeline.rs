//! What runs on the servers and is protected.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scenario::words::{Level, TableRef};

/// What runs on the servers and is protected. A variant's own part wins field by field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct PipelinePart {
    /// An SQL file that makes the tables. With `workload: { pgbench: ... }` it runs after pgbench has made its own.
    #[schemars(with = "Option<String>")]
    pub schema: Option<Utf8PathBuf>,
    /// A JSON file with the source connector's configuration. Placeholders in it stand for what differs between drills:
    /// `{name}`, `{prefix}`, `{slot}`, `{publication}`, `{partitions}`, `{host}`, `{port}`, `{user}`, `{password}`,
    /// `{database}`, `{registry}`, `{bootstrap}`. Without `topic.creation.default.partitions` and `topic.creation.default.replication.factor`
    /// it gets them: `partitions`, and `-1` for the broker's default.
    #[schemars(with = "Option<String>")]
    pub connector: Option<Utf8PathBuf>,
    /// Settings laid over the connector's file, or over each of several, with the same placeholders.
    pub connector_settings: BTreeMap<String, String>,
    /// Several source connectors on the same database instead of `connector`. Each has a topic prefix, a slot and a publication
    /// of its own, and tables that no other captures. They are created, waited for, recovered, verified and removed together;
    /// faults of the slot hit the first one's.
    pub connectors: Vec<ConnectorPart>,
    /// The tables that are captured; those of the connector's `table.include.list` unless said otherwise. With `connectors`
    /// each has its own.
    pub tables: Option<Vec<TableRef>>,
    /// How many partitions each data topic has; 3 unless said otherwise.
    #[schemars(range(min = 1, max = 64))]
    pub partitions: Option<u32>,
    /// Settings of each data topic, by the broker's names (`retention.ms`): the connector gets them as
    /// `topic.creation.default.*`, and `positions` holds the topics to them.
    pub topic_settings: BTreeMap<String, String>,
    /// The registry's compatibility levels.
    pub compatibility: Option<Compatibility>,
    /// How many subjects of other people are registered before the connector's: one of them is deleted for good, which
    /// leaves a hole in the ids, and two share one schema and so one id. With more of them than the connector has schemas,
    /// registering those again cannot hit an old id by luck, in whatever order.
    #[schemars(range(max = 100))]
    pub foreign_subjects: Option<u32>,
}

/// One of several source connectors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ConnectorPart {
    /// Its name within the drill: connector, topic prefix, slot and publication are named after the drill and this.
    pub name: String,
    /// A JSON file with its configuration, with the placeholders of `connector`.
    #[schemars(with = "String")]
    pub file: Utf8PathBuf,
    /// The tables that it captures; those of its `table.include.list` unless said otherwise.
    #[serde(default)]
    pub tables: Option<Vec<TableRef>>,
    /// Settings laid over its file and over `connector-settings`.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

/// Compatibility levels of the registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Compatibility {
    /// The global level.
    pub global: Level,
    /// The levels of single subjects, `<prefix>.<schema>.<table>-key` or `-value`. Each drill puts its own topic prefix in
    /// the place of the one that is written here.
    #[serde(default)]
    pub subjects: BTreeMap<String, Level>,
}
