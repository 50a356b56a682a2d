//! The manifest of a recovery point: what binds its parts together. Written last; a folder without it is no point.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use serde_json::{Value, json};

use cdc_model::units::{Lsn, PointId, SystemId, Timeline, system_id_text};
use cdc_pipeline::client::postgres::Slot;
use cdc_postgres::version::Version;

/// One recovery point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The [`Format`](super::Format) of the repository that it was written to.
    pub format: u32,
    /// The point.
    pub point: PointId,
    /// Its place among all points of the repository; none in format 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<Chain>,
    /// The pipeline that it is of, whichever parts it holds; nothing in format 1.
    #[serde(default, skip_serializing_if = "Origin::is_unknown")]
    pub pipeline: Origin,
    /// Whether it holds everything.
    pub kind: Kind,
    /// Always `complete`: an incomplete point has no manifest.
    pub status: String,
    /// What wrote it.
    pub tool: Tool,
    /// When it was captured.
    pub window: Window,
    /// How far the clocks of the systems are ahead of this machine's, in milliseconds, by system.
    pub clock_skew_ms: BTreeMap<String, i64>,
    /// The cluster.
    pub pg: Part<PostgresFacts>,
    /// The connectors.
    pub connect: Part<ConnectFacts>,
    /// The registry.
    pub registry: Part<RegistryFacts>,
    /// Topics and groups.
    pub kafka: Part<KafkaFacts>,
    /// Whether the parts agree with each other.
    pub consistency: Consistency,
    /// Every file of the point but the manifest and its checksum.
    pub files: Vec<FileEntry>,
    /// The sum of the files' sizes.
    pub bytes: u64,
}

/// Which parts a point holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// All parts.
    Full,
    /// Everything but the cluster.
    StateOnly,
    /// Some parts, as asked for.
    Selected,
}

/// The program that wrote a point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// When a point was captured, RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The first question to a system.
    pub begin: String,
    /// The last answer.
    pub end: String,
    /// Whose clock showed these times.
    #[serde(default, skip_serializing_if = "ClockOf::is_the_programs")]
    pub clock: ClockOf,
}

/// Whose clock showed a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClockOf {
    /// That of the machine that the program ran on: the server was not asked.
    #[default]
    Program,
    /// The server's own.
    Server,
}

impl ClockOf {
    fn is_the_programs(&self) -> bool {
        *self == ClockOf::Program
    }
}

/// What tells a pipeline from others. What is not known tells nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The PostgreSQL cluster's system identifier.
    pub system_id: Option<SystemId>,
    /// The Kafka cluster's id.
    pub kafka: Option<String>,
    /// What tells the registry from others: when and as what its oldest version was registered. It outlives a refill, and
    /// decides nothing.
    #[serde(default)]
    pub registry: Option<String>,
}

impl Origin {
    /// Whether nothing is known.
    fn is_unknown(&self) -> bool {
        *self == Origin::default()
    }
}

/// Which points there were before a point: one that is missing is missed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// 1 for the first point of a repository.
    pub number: u64,
    /// The point before it.
    pub previous: Option<Link>,
}

/// A point as the one after it remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The point.
    pub point: PointId,
    /// The hash of its manifest.
    pub manifest: String,
}

/// A part that is there, or why it is not. In JSON an object with `present`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part<T> {
    /// Captured.
    Present(T),
    /// Not captured.
    Absent {
        /// Why.
        reason: String,
    },
}

impl<T> Part<T> {
    /// The part, when it is there.
    pub fn get(&self) -> Option<&T> {
        match self {
            Part::Present(facts) => Some(facts),
            Part::Absent { .. } => None,
        }
    }

    /// Why it is not there; empty when it is.
    pub fn reason(&self) -> &str {
        match self {
            Part::Present(_) => "",
            Part::Absent { reason } => reason,
        }
    }
}

impl<T: Serialize> Serialize for Part<T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let value = match self {
            Part::Absent { reason } => json!({"present": false, "reason": reason}),
            Part::Present(facts) => {
                let mut value = serde_json::to_value(facts).map_err(S::Error::custom)?;
                value["present"] = Value::Bool(true);
                value
            }
        };
        value.serialize(s)
    }
}

impl<'de, T: serde::de::DeserializeOwned> Deserialize<'de> for Part<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(d)?;
        match value["present"].as_bool() {
            Some(true) => serde_json::from_value(value).map(Part::Present).map_err(D::Error::custom),
            Some(false) => {
                Ok(Part::Absent { reason: value["reason"].as_str().unwrap_or("no reason recorded").to_owned() })
            }
            None => Err(D::Error::missing_field("present")),
        }
    }
}

/// The cluster as backed up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresFacts {
    /// The system identifier, in decimal.
    #[serde(with = "system_id_text")]
    pub system_id: SystemId,
    /// `server_version_num`.
    pub version: Version,
    /// The timeline the backup was taken on.
    pub timeline: Timeline,
    /// The checksum of the timeline's history file; absent on timeline 1.
    pub history_sha256: Option<String>,
    /// Where replay begins.
    pub start_lsn: Lsn,
    /// Where the restored cluster becomes consistent: no target may be before it.
    pub stop_lsn: Lsn,
    /// The segment of `start_lsn`.
    pub start_wal: String,
    /// The segment of `stop_lsn`.
    pub stop_wal: String,
    /// Every segment from the start to the restore point; all were in the archive when this was written.
    pub wal_required: Vec<String>,
    /// The size of the cluster's segments.
    pub segment_bytes: u64,
    /// A named restore point just after the backup.
    pub restore_point: String,
    /// Where it stands.
    pub restore_point_lsn: Lsn,
    /// Whether the cluster has page checksums, so that the backup proved its pages.
    pub data_checksums: bool,
    /// The point whose base backup this one's adds to: it holds what has changed since. Absent for a full one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adds_to: Option<Link>,
    /// How many files the base backup holds.
    pub base_files: u64,
    /// The size of the base backup before compression.
    pub base_raw_bytes: u64,
    /// The databases that clients may connect to.
    pub databases: Vec<String>,
    /// The replication slots; a restored cluster has none.
    pub slots: Vec<Slot>,
    /// What the server's own clock showed; absent in points of versions that did not ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<Clock>,
    /// The data folder; absent where it was not on the machine that took the point, and in points of versions that did not look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<DataFolder>,
    /// `postgresql.conf` where it was outside the data folder, so that the base backup does not hold it; absent where it was inside,
    /// and in points of earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_file: Option<Utf8PathBuf>,
}

/// A server's clock around its base backup, RFC 3339. Commits are timed by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Before it began.
    pub start: String,
    /// When it had ended.
    pub stop: String,
}

/// Whose a data folder was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFolder {
    /// The account's number.
    pub uid: u32,
    /// Its group's.
    pub gid: u32,
    /// The permission bits.
    pub mode: u32,
}

/// The connectors as captured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectFacts {
    /// The Kafka cluster the worker works on.
    pub cluster_id: Option<String>,
    /// The worker's version.
    pub version: Option<String>,
    /// How many connectors there are.
    pub connectors: u64,
    /// How many records the offsets topic held, tombstones included; absent where it could not be read.
    pub offset_records: Option<u64>,
    /// Why the raw offsets are absent.
    pub offset_records_absent: Option<String>,
    /// The highest LSN among stored offsets.
    pub offsets_max_lsn: Option<Lsn>,
    /// The schema history.
    pub schema_history: SchemaHistory,
}

/// Whether connectors have a schema history topic, and what became of it. PostgreSQL connectors have none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaHistory {
    /// Whether at least one was captured.
    pub present: bool,
    /// Why not.
    pub reason: Option<String>,
    /// Each topic that a connector names.
    pub topics: Vec<SchemaHistoryTopic>,
}

/// A schema history topic that a connector's configuration names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaHistoryTopic {
    /// The connector.
    pub connector: String,
    /// The topic.
    pub topic: String,
    /// Whether the broker has it and it was captured.
    pub present: bool,
    /// Why not.
    pub reason: Option<String>,
    /// How many records were captured.
    pub records: u64,
    /// Where they are in the point.
    pub file: Option<String>,
}

/// The registry as captured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryFacts {
    /// `apicurio`.
    pub flavour: String,
    /// Its version.
    pub version: String,
    /// Which of the registry's ids stands in records: `contentId` or `globalId`.
    pub id_kind: String,
    /// How many subjects there are, soft-deleted ones included.
    pub subjects: u64,
    /// How many versions.
    pub versions: u64,
    /// How many of them are soft-deleted.
    pub soft_deleted: u64,
    /// The highest schema id.
    pub max_id: Option<u32>,
    /// The version that was registered first, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub birth: Option<String>,
    /// The global compatibility level; null is unset.
    pub global_compat: Option<String>,
    /// The global mode.
    pub global_mode: Option<String>,
    /// Limits of the API that were met: what is beyond them is not in the dump.
    pub caps_hit: Vec<String>,
}

/// Topics and groups as captured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaFacts {
    /// The cluster's id.
    pub cluster_id: Option<String>,
    /// Whether records of topics were archived with the point: `none` or `archived`.
    pub data: String,
    /// The backups of topics' records that were made with the point. They lie beside it, in the repository.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<TopicRecords>,
    /// How many topics there are.
    pub topics: u64,
    /// How many groups.
    pub groups: u64,
    /// Offsets that could not be captured.
    pub gaps: Vec<String>,
}

/// A backup of a topic's records that was made with a point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRecords {
    /// The topic.
    pub topic: String,
    /// The backup's id.
    pub backup: String,
}

/// What does not hold where parts are of different times.
const TORN: [&str; 3] = ["offset_lsn<=stop_lsn", "connectors_unchanged", SCHEMA_IDS];
/// The registry's dump has the schemas of the records that were archived for the first time.
pub(crate) const SCHEMA_IDS: &str = "schema_ids_dumped";

/// Whether the parts of a point agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consistency {
    /// Each claim that was looked at.
    pub checks: Vec<ConsistencyCheck>,
}

impl Consistency {
    /// The claims that did not hold.
    pub fn failed(&self) -> impl Iterator<Item = &ConsistencyCheck> {
        self.checks.iter().filter(|check| !check.ok)
    }

    /// Those of them that say that parts are of different times: something changed while they were captured. The others say that
    /// the pipeline itself was not as it should be.
    pub(crate) fn torn(&self) -> impl Iterator<Item = &ConsistencyCheck> {
        self.failed().filter(|check| TORN.contains(&check.id.as_str()))
    }
}

/// One claim about two parts together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsistencyCheck {
    /// The claim: `offset_lsn<=stop_lsn`.
    pub id: String,
    /// Whether it holds.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
}

impl std::fmt::Display for ConsistencyCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.id, if self.ok { "holds" } else { "does not hold" }, self.detail)
    }
}

/// One file of a point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative to the point's folder.
    pub path: String,
    /// The stored size.
    pub size: u64,
    /// The checksum of the stored bytes.
    pub sha256: String,
    /// The size before compression, of a compressed file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_size: Option<u64>,
    /// The checksum before compression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_sha256: Option<String>,
}
