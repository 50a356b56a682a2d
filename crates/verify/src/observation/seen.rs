//! Everything that one look at a pipeline showed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Canary, ConnectorView, HeldRecord, Probe, Quiet, RegistryView, TableView, Unidentified};
use crate::fold::TopicFold;
use cdc_model::units::{Lsn, Offset, TableName, Timeline, TopicPartition, pairs};
use cdc_pipeline::client::{group::Consumed, kafka::TopicSpec, postgres::Slot};

/// Everything that one look at a pipeline showed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Observation {
    /// The server's end of WAL and timeline; why not, where it did not answer.
    pub server: Option<Result<ServerView, String>>,
    /// The connectors that were looked at.
    pub connectors: Vec<ConnectorView>,
    /// Other connectors of the worker to PostgreSQL, of which not all is known.
    pub unidentified: Vec<Unidentified>,
    /// Every captured table.
    pub tables: Vec<TableView>,
    /// What each data topic folds to.
    pub topics: BTreeMap<String, TopicFold>,
    /// All slots of the server.
    pub slots: Vec<Slot>,
    /// The registry; why not, where it did not answer.
    pub registry: Option<Result<RegistryView, String>>,
    /// Settings of the data topics.
    pub specs: BTreeMap<String, TopicSpec>,
    /// First and next offsets of the data topics' partitions.
    #[serde(with = "pairs")]
    pub ends: BTreeMap<TopicPartition, (Offset, Offset)>,
    /// Committed offsets of consumer groups on the data topics.
    #[serde(with = "pairs::each")]
    pub groups: BTreeMap<String, BTreeMap<TopicPartition, Offset>>,
    /// What a consumer of each group was given that joined it at the end: it reads as the group's applications do.
    #[serde(with = "pairs::each")]
    pub consumed: BTreeMap<String, BTreeMap<TopicPartition, Consumed>>,
    /// How the wait for quiet ended, for each connector.
    pub quiet: Vec<Quiet>,
    /// The canary rows of the liveness check.
    pub canaries: Vec<Canary>,
    /// Records of schema-history topics, as text.
    pub histories: BTreeMap<String, Vec<String>>,
    /// What the topics hold now that lost their records, as far as they are there.
    #[serde(default)]
    pub held: BTreeMap<String, Vec<HeldRecord>>,
    /// Schemas that were offered to the registry.
    pub probes: Vec<Probe>,
    /// Things that a drill left behind, as its parts report them.
    pub leftovers: Vec<String>,
    /// What a person should know about this look.
    pub notes: Vec<String>,
}

impl Observation {
    /// The topics to which several tables map, as their names are adjusted to the same one, and those tables. What a record
    /// there is of its topic does not say, so neither table can be compared.
    pub(crate) fn shared_topics(&self) -> BTreeMap<&str, BTreeSet<(&str, &TableName)>> {
        let mut by_topic: BTreeMap<&str, BTreeSet<(&str, &TableName)>> = BTreeMap::new();
        for table in &self.tables {
            by_topic.entry(&table.topic).or_default().insert((&table.database, &table.name));
        }
        by_topic.retain(|_, tables| tables.len() > 1);
        by_topic
    }

    /// Whether a schema id stands in any record that was read.
    pub(crate) fn has_schema_ids(&self) -> bool {
        self.topics.values().flat_map(|fold| &fold.partitions).any(|p| !p.ids.is_empty())
    }
}

/// The server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerView {
    /// `pg_current_wal_lsn()`.
    pub lsn: Lsn,
    /// The timeline that it writes on.
    pub timeline: Timeline,
}
