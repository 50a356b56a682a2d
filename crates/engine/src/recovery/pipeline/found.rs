//! Everything of the pipeline that a recovery has to put back or to leave as it is, as it was before anything was touched.
//! It is written down before the first change; a run that goes on with the recovery reads it and does not look again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::backup::Publication;
use cdc_model::units::{Offset, SlotName, TopicPartition};
use cdc_pipeline::{
    client::{
        connect::{ConnectorConfig, ConnectorStatus, StoredOffset},
        kafka::TopicSpec,
        postgres::Slot,
    },
    debezium::{Connector, DEFAULT_DATABASE},
};

/// The pipeline around one cluster, as found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Found {
    /// Every source connector of the cluster, by name.
    pub(crate) sources: Vec<Source>,
    /// Sinks on the data topics, by name.
    pub(crate) sinks: Vec<Sink>,
    /// The data topics with their settings; of those that were gone already the recovery point's.
    pub(crate) topics: Vec<TopicSpec>,
    /// The ids of those data topics that were there: another id is another topic.
    pub(crate) topic_ids: BTreeMap<String, String>,
    /// The schema history topics that were there.
    pub(crate) histories: Vec<TopicSpec>,
    /// Groups with offsets on the data topics.
    pub(crate) groups: Vec<GroupOffsets>,
    /// The sources' stored offsets, by connector.
    pub(crate) offsets: BTreeMap<String, Vec<StoredOffset>>,
    /// The cluster's slots.
    pub(crate) slots: Vec<Slot>,
    /// Those that no source connector names.
    pub(crate) other_slots: Vec<Slot>,
    /// Subscriptions of the cluster.
    pub(crate) subscriptions: Vec<String>,
    /// Connectors that may read from the cluster and are no part of the recovery, and why their servers are not known.
    pub(crate) unidentified: BTreeMap<String, String>,
    /// The sources' publications, by connector; of a server that does not answer there are none.
    #[serde(default)]
    pub(crate) publications: BTreeMap<String, Publication>,
    /// The topics that each source connector of the worker has written to, whatever it reads from.
    #[serde(default)]
    pub(crate) writers: BTreeMap<String, BTreeSet<String>>,
    /// The connectors that were not on the worker and are made again, with their configurations.
    #[serde(default)]
    pub(crate) restored: BTreeMap<String, ConnectorConfig>,
    /// What a person should know of the pipeline as it was found.
    #[serde(default)]
    pub(crate) notes: Vec<String>,
}

impl Found {
    /// A source's publication.
    pub(crate) fn publication(&self, source: &Source) -> Option<&Publication> {
        self.publications.get(&source.name)
    }
}

/// A source connector on the cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "SourceAsWritten", into = "SourceAsWritten")]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Its configuration as found.
    pub config: ConnectorConfig,
    /// Its state as found.
    pub status: ConnectorStatus,
    /// The database it reads.
    pub database: String,
    /// Its slot.
    pub slot: SlotName,
    /// Its publication.
    pub publication: String,
    /// `topic.prefix`.
    pub prefix: String,
    /// What it captures.
    pub capture: Connector,
    /// The topics of the tables that it captures: those that its snapshot fills again.
    pub topics: Vec<String>,
    /// Topics that it has written to, or whose names say so, and that nothing would fill again.
    pub left: Vec<String>,
    /// The schema history topic it names.
    pub schema_history: Option<String>,
}

impl Source {
    /// A connector whose topics are not known yet.
    pub(crate) fn of(config: ConnectorConfig, status: ConnectorStatus) -> Source {
        let capture = Connector::of(&config);
        Source {
            name: status.name.clone(),
            database: capture.database.clone().unwrap_or_else(|| DEFAULT_DATABASE.to_owned()),
            slot: capture.slot.clone(),
            publication: capture.publication.clone(),
            prefix: capture.topics.prefix.clone(),
            schema_history: config.get("schema.history.internal.kafka.topic").cloned(),
            capture,
            config,
            status,
            topics: Vec::new(),
            left: Vec::new(),
        }
    }

    /// Whether its records name schemas of a registry, as far as its own converters say; a worker's default may.
    pub(super) fn needs_registry(&self) -> bool {
        let plain = |side: &str| {
            let class = self.config.get(side).map(String::as_str).unwrap_or_default();
            ["JsonConverter", "StringConverter", "ByteArrayConverter"].iter().any(|name| class.ends_with(name))
        };
        !(plain("key.converter") && plain("value.converter"))
    }

    /// `snapshot.mode`, `initial` by default.
    pub(crate) fn snapshot_mode(&self) -> &str {
        self.config.get("snapshot.mode").map_or("initial", String::as_str)
    }
}

/// What does not follow from a source's configuration.
#[derive(Serialize, Deserialize)]
struct SourceAsWritten {
    config: ConnectorConfig,
    status: ConnectorStatus,
    topics: Vec<String>,
    left: Vec<String>,
}

impl From<SourceAsWritten> for Source {
    fn from(written: SourceAsWritten) -> Source {
        let SourceAsWritten { config, status, topics, left } = written;
        Source { topics, left, ..Source::of(config, status) }
    }
}

impl From<Source> for SourceAsWritten {
    fn from(source: Source) -> SourceAsWritten {
        let Source { config, status, topics, left, .. } = source;
        SourceAsWritten { config, status, topics, left }
    }
}

/// A sink connector on the data topics.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sink {
    /// Its name.
    pub(crate) name: String,
    /// Its configuration as found.
    pub(crate) config: ConnectorConfig,
    /// Its state as found.
    pub(crate) status: ConnectorStatus,
    /// The group it reads in.
    pub(crate) group: String,
    /// The data topics that it reads.
    #[serde(default)]
    pub(crate) topics: Vec<String>,
}

/// A consumer group with offsets on data topics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupOffsets {
    /// The group.
    pub(crate) name: String,
    /// The offsets it had committed on partitions of data topics.
    pub(crate) offsets: Vec<(TopicPartition, Offset)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_pipeline::client::connect::StateOf;

    #[test]
    fn a_source_comes_back_from_its_configuration() {
        let config = ConnectorConfig::from([
            ("topic.prefix".to_owned(), "shop".to_owned()),
            ("database.dbname".to_owned(), "store".to_owned()),
            ("slot.name".to_owned(), "cdc".to_owned()),
            ("table.include.list".to_owned(), "public.a".to_owned()),
            ("schema.history.internal.kafka.topic".to_owned(), "history".to_owned()),
            ("snapshot.mode".to_owned(), "no_data".to_owned()),
        ]);
        let status = ConnectorStatus {
            name: "shop-source".into(),
            connector: StateOf { state: "PAUSED".into(), trace: None },
            tasks: Vec::new(),
            kind: "source".into(),
        };
        let source = Source {
            topics: vec!["shop.public.a".into()],
            left: vec!["shop.public.b".into()],
            ..Source::of(config, status)
        };
        let text = serde_json::to_string(&source).unwrap();
        let again: Source = serde_json::from_str(&text).unwrap();
        assert_eq!(format!("{again:?}"), format!("{source:?}"));
        assert_eq!((again.slot.as_str(), again.snapshot_mode(), again.database.as_str()), ("cdc", "no_data", "store"));
    }
}
