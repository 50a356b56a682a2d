//! What a drill's pipeline is called and what it captures.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::scenario::SubjectSide;
use cdc_model::units::{Subject, TableName};

/// The setting by which a historized connector names its schema-history topic.
const SCHEMA_HISTORY: &str = "schema.history.internal.kafka.topic";

/// Names of a drill's pipeline. They are decided before anything starts and never change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The drill's name; a single connector has it too.
    pub name: String,
    /// The source connectors; at least one.
    pub sources: Vec<Source>,
    /// Whether the registry is this drill's alone.
    pub own_registry: bool,
}

/// A source connector of a drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Topic prefix, connector, slot and publication all have this name.
    pub name: String,
    /// Its configuration as created.
    pub config: BTreeMap<String, String>,
    /// The tables that it captures.
    pub tables: Vec<TableName>,
    /// The one of them that marker rows are written to.
    pub markers: TableName,
}

impl Source {
    /// The topic of a table that it captures.
    pub fn topic(&self, table: &TableName) -> String {
        format!("{}.{}.{}", self.name, table.schema, table.name)
    }

    /// The schema-history topic that it names, if it names one.
    pub fn schema_history(&self) -> Option<&String> {
        self.config.get(SCHEMA_HISTORY)
    }
}

impl Layout {
    /// The captured tables of all connectors.
    pub fn tables(&self) -> impl Iterator<Item = &TableName> {
        self.sources.iter().flat_map(|source| &source.tables)
    }

    /// The connector that captures a table; the first, where none is known to.
    pub fn source_of(&self, table: &TableName) -> &Source {
        self.sources.iter().find(|s| s.tables.contains(table)).unwrap_or(&self.sources[0])
    }

    /// The names of all connectors.
    pub fn connectors(&self) -> Vec<String> {
        self.sources.iter().map(|s| s.name.clone()).collect()
    }

    /// The configurations of all connectors as created, by name.
    pub fn configs(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        self.sources.iter().map(|s| (s.name.clone(), s.config.clone())).collect()
    }

    /// The topic of a captured table.
    pub fn topic(&self, table: &TableName) -> String {
        self.source_of(table).topic(table)
    }

    /// The data topics.
    pub fn topics(&self) -> Vec<String> {
        self.tables().map(|t| self.topic(t)).collect()
    }

    /// The subject of a captured table.
    pub fn subject(&self, table: &TableName, side: SubjectSide) -> Subject {
        let side = match side {
            SubjectSide::Key => "key",
            SubjectSide::Value => "value",
        };
        Subject::new(format!("{}-{side}", self.topic(table)))
    }

    /// The name that a scenario's consumer group has on the shared broker.
    pub fn group(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// The schema-history topics that the connectors name.
    pub fn schema_histories(&self) -> Vec<String> {
        self.sources.iter().filter_map(Source::schema_history).cloned().collect()
    }

    /// How the names of the subjects begin that are this drill's business: on a shared registry those of its own topics, else all.
    pub fn subject_prefix(&self) -> String {
        if self.own_registry { String::new() } else { self.topic_start() }
    }

    /// How the names of all its topics begin, and of no other drill's.
    pub(crate) fn topic_start(&self) -> String {
        match self.sources.as_slice() {
            [only] => format!("{}.", only.name),
            _ => format!("{}_", self.name),
        }
    }
}
