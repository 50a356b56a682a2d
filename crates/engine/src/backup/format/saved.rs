//! The parts of a pipeline as they are saved.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use cdc_model::units::{Lsn, Offset, TableName};
use cdc_pipeline::client::{
    connect::{ConnectorConfig, StoredOffset},
    kafka::TopicSpec,
};

/// A connector as captured. Its configuration may hold passwords: it is written only to files that only the owner reads.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedConnector {
    /// Its name.
    pub name: String,
    /// `source` or `sink`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `RUNNING`, `STOPPED`, ...
    pub state: String,
    /// Its tasks.
    pub tasks: Vec<SavedTask>,
    /// Its configuration, `${...}` unresolved.
    pub config: ConnectorConfig,
    /// The topics it has used.
    pub topics: Vec<String>,
    /// Its stored positions.
    pub offsets: Vec<StoredOffset>,
    /// Why its topics and positions could not be read and are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
}

impl std::fmt::Debug for SavedConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SavedConnector").field("name", &self.name).field("state", &self.state).finish_non_exhaustive()
    }
}

impl SavedConnector {
    /// The LSNs among its stored positions.
    pub(crate) fn stored_lsns(&self) -> Vec<Lsn> {
        let offsets = self.offsets.iter().filter_map(|o| o.offset.as_ref());
        offsets.filter_map(|o| o.get("lsn").and_then(Value::as_u64).map(Lsn)).collect()
    }
}

/// A task as captured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedTask {
    /// Its number.
    pub id: u32,
    /// Its state.
    pub state: String,
}

/// A raw record of a topic: a line of `connect/offsets.jsonl` and of a schema history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawRecord {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub kpart: i32,
    /// The offset.
    pub koffset: i64,
    /// Milliseconds since the Unix epoch.
    pub ts: Option<i64>,
    /// The key, base64; null is a null key.
    pub raw_key_b64: Option<String>,
    /// The value, base64; null is a tombstone.
    pub raw_value_b64: Option<String>,
    /// Headers in order, values base64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, Option<String>)>,
    /// The connector that an offset belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connector: Option<String>,
    /// The source partition of an offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<Value>,
    /// The position; absent for a tombstone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<Value>,
}

/// A topic as captured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicState {
    /// What is needed to make it again.
    pub spec: TopicSpec,
    /// The first and next offset of each partition.
    pub watermarks: Vec<Watermark>,
    /// Its id: a topic that was deleted and made again has another one. Absent in points of earlier releases, and of brokers that do not say
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// The extent of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// The partition.
    pub partition: i32,
    /// The first offset that is still there.
    pub low: Offset,
    /// The offset the next record gets.
    pub high: Offset,
}

/// A consumer group as captured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupState {
    /// Its id.
    pub name: String,
    /// `Stable`, `Empty`, ...
    pub state: String,
    /// `client-id@host` of each member.
    pub members: Vec<String>,
    /// The offsets it has committed.
    pub offsets: Vec<GroupOffset>,
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset the group will read.
    pub offset: Offset,
}

/// The publications of one database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabasePublications {
    /// The database.
    pub database: String,
    /// Its publications, by name.
    pub publications: Vec<Publication>,
}

/// A publication and the tables it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// Its name.
    pub name: String,
    /// `FOR ALL TABLES`.
    pub all_tables: bool,
    /// Publishes inserts.
    pub insert: bool,
    /// Publishes updates.
    pub update: bool,
    /// Publishes deletes.
    pub delete: bool,
    /// Publishes truncates.
    pub truncate: bool,
    /// Publishes partitions as their root.
    pub via_root: bool,
    /// The tables it publishes, listed or not, as the server resolves them.
    pub tables: Vec<TableName>,
    /// What it was made of; absent in points of earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<NamedMembers>,
}

/// The members that a publication was given by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedMembers {
    /// Tables.
    pub tables: Vec<PublishedTable>,
    /// Schemas, each with all of its tables.
    pub schemas: Vec<String>,
}

/// A table that a publication was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedTable {
    /// The table.
    pub name: TableName,
    /// The row filter, as an SQL expression.
    pub filter: Option<String>,
    /// The list of columns.
    pub columns: Option<Vec<String>>,
}

/// The sequences of one database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseSequences {
    /// The database.
    pub database: String,
    /// Its sequences, by name.
    pub sequences: Vec<SequenceState>,
}

/// A sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceState {
    /// Its name.
    pub name: TableName,
    /// The last value it gave; absent before the first.
    pub last_value: Option<i64>,
    /// Its step.
    pub increment: i64,
}

/// A setting that is not the default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value.
    pub setting: String,
    /// The unit of the value.
    pub unit: Option<String>,
    /// Where it was set: `configuration file`, `command line`.
    pub source: String,
    /// In which file.
    pub sourcefile: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connector_does_not_print_its_configuration() {
        let connector = SavedConnector {
            name: "shop".into(),
            kind: "source".into(),
            state: "RUNNING".into(),
            tasks: vec![],
            config: [("database.password".to_owned(), "hunter2".to_owned())].into(),
            topics: vec![],
            offsets: vec![],
            unread: None,
        };
        assert!(!format!("{connector:?}").contains("hunter2"));
    }
}
