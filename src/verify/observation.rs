//! What was seen, and what was to be seen: plain data.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize, Serializer};

use super::{
    decode::{
        row::{Cell, cells, push},
        settings::ConnectorSettings,
        table::Columns,
    },
    error::VerifyError,
    fold::TopicFold,
};
use crate::{
    client::{
        connect::{ConnectorConfig, ConnectorStatus, StoredOffset},
        group::Consumed,
        kafka::TopicSpec,
        postgres::Slot,
    },
    debezium::Coverage,
    units::{Epoch, KeyColumns, Lsn, Offset, SchemaId, TableName, Timeline, TopicPartition, packed, pairs},
    workload::{
        RowShape,
        ledger::{Ledger, TableState, Tables},
    },
};

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
    pub fn shared_topics(&self) -> BTreeMap<&str, BTreeSet<(&str, &TableName)>> {
        let mut by_topic: BTreeMap<&str, BTreeSet<(&str, &TableName)>> = BTreeMap::new();
        for table in &self.tables {
            by_topic.entry(&table.topic).or_default().insert((&table.database, &table.name));
        }
        by_topic.retain(|_, tables| tables.len() > 1);
        by_topic
    }

    /// Whether a schema id stands in any record that was read.
    pub fn has_schema_ids(&self) -> bool {
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

/// A connector.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "SavedConnectorView")]
pub struct ConnectorView {
    /// Its configuration, understood. In JSON its name alone: the configuration says the rest.
    #[serde(rename = "name", serialize_with = "name_of")]
    pub settings: Arc<ConnectorSettings>,
    /// Its configuration as the worker has it.
    pub config: ConnectorConfig,
    /// Its state; why not, where the worker did not answer.
    pub status: Result<ConnectorStatus, String>,
    /// Its stored offsets.
    pub offsets: Vec<StoredOffset>,
    /// Whether its publication exists.
    pub publication: bool,
    /// What it captures, by its lists, the catalogue and its publication.
    pub coverage: Coverage,
    /// Tables that its lists choose and its publication lacks, where it has a list of tables or their topics have records: their
    /// changes should arrive, and never do.
    pub unpublished: Vec<TableName>,
    /// The other tables that its lists choose and its publication lacks: left out of it on purpose, or new.
    pub uncaptured: Vec<TableName>,
    /// Topics of its tables that are compared with none.
    pub orphans: Vec<Orphan>,
    /// What a person should know about it.
    pub notes: Vec<String>,
}

/// A connector as JSON has it.
#[derive(Deserialize)]
struct SavedConnectorView {
    name: String,
    config: ConnectorConfig,
    status: Result<ConnectorStatus, String>,
    offsets: Vec<StoredOffset>,
    publication: bool,
    coverage: Coverage,
    unpublished: Vec<TableName>,
    uncaptured: Vec<TableName>,
    orphans: Vec<Orphan>,
    notes: Vec<String>,
}

impl TryFrom<SavedConnectorView> for ConnectorView {
    type Error = VerifyError;

    fn try_from(saved: SavedConnectorView) -> Result<ConnectorView, VerifyError> {
        let SavedConnectorView { name, config, status, offsets, publication, .. } = saved;
        let SavedConnectorView { coverage, unpublished, uncaptured, orphans, notes, .. } = saved;
        let settings = Arc::new(ConnectorSettings::parse(&name, &config)?);
        Ok(ConnectorView {
            settings,
            config,
            status,
            offsets,
            publication,
            coverage,
            unpublished,
            uncaptured,
            orphans,
            notes,
        })
    }
}

fn name_of<S: Serializer>(settings: &Arc<ConnectorSettings>, serializer: S) -> Result<S::Ok, S::Error> {
    settings.name.serialize(serializer)
}

impl ConnectorView {
    /// A number of the stored offset.
    pub fn offset_number(&self, field: &str) -> Option<u64> {
        self.offsets.iter().filter_map(|o| o.offset.as_ref()?.get(field)?.as_u64()).max()
    }

    /// The stored position.
    pub fn stored_lsn(&self) -> Option<Lsn> {
        self.offset_number("lsn").or_else(|| self.offset_number("lsn_proc")).map(Lsn)
    }
}

/// A connector to PostgreSQL that was not looked at: it is not known from which server it reads, or how its records are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unidentified {
    /// Its name.
    pub connector: String,
    /// Why that is not known, and what excludes it.
    pub why: String,
    /// Whether something does: it names what the server does not have, or what another connector has, or is of a class that is not
    /// read.
    pub excluded: bool,
}

/// A topic with records that is compared with no table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// The topic.
    pub topic: String,
    /// Why.
    pub kind: OrphanKind,
    /// How many records.
    pub records: u64,
}

/// Why a topic with records is compared with no table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrphanKind {
    /// The changes of its table, a partitioned table or a partition, go to other topics.
    Elsewhere(TableName),
    /// The connector's lists leave its table out.
    LeftOut(TableName),
    /// There is no such table.
    Gone {
        /// The table, by the topic's name.
        table: TableName,
        /// Whether the connector's list of tables has it by its name, and not by a pattern that a table of long ago may match
        /// too.
        named: bool,
    },
    /// It begins as the topics of the connector's tables do, and which table it is of does not follow from its name.
    Unexplained,
}

/// A captured table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TableView {
    /// The table.
    pub name: TableName,
    /// Its database.
    pub database: String,
    /// Who captures it.
    pub connector: String,
    /// Where its events go.
    pub topic: String,
    /// Its columns.
    #[serde(with = "shared")]
    pub columns: Arc<Columns>,
    /// The columns of its primary key.
    pub primary_key: Vec<usize>,
    /// `d`, `f`, `i` or `n`.
    pub replica_identity: char,
    /// Its rows; why not, where they could not be read.
    pub rows: Result<Rows, String>,
    /// Rows that a snapshot writes to the topic and whose changes never go there: those of tables that inherit from this one, and
    /// those outside of the publication's row filter.
    pub unstreamed: Rows,
    /// How many rows a second connection counts in the same snapshot.
    pub count: Result<u64, String>,
}

/// A shared value, in JSON the value.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(shared: &Arc<T>, serializer: S) -> Result<S::Ok, S::Error> {
        (**shared).serialize(serializer)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Arc<T>, D::Error> {
        T::deserialize(d).map(Arc::new)
    }
}

/// Rows of a table as packed cells, in blocks: a large table grows without being copied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    blocks: Vec<Block>,
    count: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Block {
    #[serde(with = "packed")]
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// A block is closed when it is as large as this.
const BLOCK_BYTES: usize = 1 << 20;

impl Rows {
    /// Adds a row.
    pub fn add<'a>(&mut self, row: impl IntoIterator<Item = Cell<'a>>) {
        if self.blocks.last().is_none_or(|b| b.bytes.len() >= BLOCK_BYTES) {
            if let Some(full) = self.blocks.last_mut() {
                full.bytes.shrink_to_fit();
                full.ends.shrink_to_fit();
            }
            self.blocks.push(Block::default());
        }
        if let Some(block) = self.blocks.last_mut() {
            for cell in row {
                push(&mut block.bytes, cell);
            }
            block.ends.push(block.bytes.len());
            self.count += 1;
        }
    }

    /// How many rows.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The rows, packed.
    pub fn packed(&self) -> impl Iterator<Item = &[u8]> {
        self.blocks.iter().flat_map(|block| {
            let starts = std::iter::once(0).chain(block.ends.iter().copied());
            starts.zip(&block.ends).map(|(start, end)| &block.bytes[start..*end])
        })
    }
}

impl TableView {
    /// Names of these columns.
    pub fn names(&self, columns: &[usize]) -> Vec<String> {
        columns.iter().filter_map(|c| self.columns.list.get(*c)).map(|c| c.name.clone()).collect()
    }

    /// The table as the ledger keeps tables, by its primary key.
    pub fn state(&self) -> Option<TableState> {
        let rows = self.rows.as_ref().ok()?;
        let names = self.names(&self.primary_key);
        let key = KeyColumns::new(names.iter().map(String::as_str));
        let mut state = TableState::default();
        let shape = RowShape::new(self.columns.list.iter().map(|c| c.name.as_str()));
        for packed in rows.packed() {
            let row: Vec<Cell<'_>> = cells(packed).collect();
            let row = shape.row(|place| row.get(place)?.text());
            if key.is_empty() {
                *state.unkeyed.entry(row).or_default() += 1;
            } else {
                state.keyed.insert(key.key(|name| row.text(name)), row);
            }
        }
        Some(state)
    }
}

/// How the wait for quiet ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiet {
    /// The marker's topic.
    pub topic: String,
    /// The marker's table.
    pub table: TableName,
    /// The marker.
    pub token: String,
    /// Where the server's WAL ended once the marker was committed.
    pub lsn: Lsn,
    /// Whether the marker was read and the stored offset is past it.
    pub reached: Result<(), Interrupted>,
}

/// Why the wait for quiet ended without the marker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interrupted {
    /// Whether something is dead, rather than slow.
    pub dead: bool,
    /// What was seen last.
    pub seen: String,
}

/// A row written to see whether it arrives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// Its table.
    pub table: TableName,
    /// Its topic.
    pub topic: String,
    /// Its token.
    pub token: String,
    /// Milliseconds until it was read; why not, where it was not.
    pub arrived_ms: Result<u64, String>,
}

/// A schema that was offered to the registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The subject.
    pub subject: String,
    /// Whether it is compatible with the subject's versions under the recovery point's level.
    pub compatible: bool,
    /// What the registry answered: whether it would take it.
    pub accepted: Result<bool, String>,
}

/// A registry, as far as records and rules depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryView {
    /// The global compatibility level; `None` is unset, which is not `NONE`.
    pub global_level: Option<String>,
    /// The global mode.
    pub global_mode: Option<String>,
    /// The subjects.
    pub subjects: BTreeMap<String, SubjectView>,
    /// Schemas that are no subject's and that records were written with: artifacts of another group than the default one,
    /// as a converter registers them that is given one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub elsewhere: BTreeMap<SchemaId, GroupVersion>,
}

/// A version of an artifact in a group of the registry that subjects do not reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupVersion {
    /// The group.
    pub group: String,
    /// The artifact.
    pub artifact: String,
    /// Its version.
    pub version: String,
    /// Its exact text.
    pub schema: String,
}

/// A subject.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectView {
    /// Its own level; `None` is unset, which is not `NONE`.
    pub level: Option<String>,
    /// Its own mode; `None` where it has none or the registry knows none.
    pub mode: Option<String>,
    /// Its versions.
    pub versions: BTreeMap<u32, VersionView>,
}

/// A version of a subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionView {
    /// Its schema id.
    pub id: SchemaId,
    /// Its exact text.
    pub schema: String,
    /// Whether it is soft-deleted.
    pub deleted: bool,
}

impl RegistryView {
    /// The text of an id.
    pub fn text(&self, id: SchemaId) -> Option<&str> {
        let of_subjects = self.subjects.values().flat_map(|s| s.versions.values()).find(|v| v.id == id);
        of_subjects.map(|v| &v.schema).or_else(|| self.elsewhere.get(&id).map(|v| &v.schema)).map(String::as_str)
    }
}

/// What is to be seen.
#[derive(Debug, Default)]
pub struct Expectation<'a> {
    /// What the workload did.
    pub ledger: Option<&'a Ledger>,
    /// Rows that were there before the ledger began.
    pub base: Tables,
    /// Where each recovery cut the history.
    pub cuts: Vec<Cut>,
    /// Tables whose rows no ledger knows, captured at the target.
    pub captured: Option<Captured>,
    /// The column with the token.
    pub token_column: String,
    /// The first offsets of the current epoch, by partition: what stands before was there before the recovery and was
    /// kept on purpose. Partitions not named begin at zero.
    pub epoch_offsets: BTreeMap<TopicPartition, Offset>,
    /// Positions in the WAL that the connector may have delivered twice: from a stored offset that was lower than what
    /// had been sent, up to the end of what had been sent.
    pub redelivery: Vec<(Lsn, Lsn)>,
    /// The registry as the recovery point has it.
    pub registry: Option<RegistryView>,
    /// Versions that were registered after the recovery point and are kept.
    pub newer_versions: NewerVersions,
    /// The text of each schema id when records were written under it.
    pub written: BTreeMap<SchemaId, String>,
    /// Settings of the data topics as the recovery point has them.
    pub specs: BTreeMap<String, TopicSpec>,
    /// The offsets that consumer groups must have.
    pub groups: BTreeMap<String, BTreeMap<TopicPartition, Offset>>,
    /// Schema-history topics that must be there and hold nothing from before the recovery: what stood in each then.
    pub cleared_histories: BTreeMap<String, Vec<String>>,
    /// Slots that may be there besides the connectors'.
    pub slots: BTreeSet<String>,
    /// Connector configurations as they must be again.
    pub configs: BTreeMap<String, ConnectorConfig>,
}

/// Tables captured twice: at the target, and when the recovery had ended, before anybody wrote to them again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// As the recovery must leave them.
    pub at_target: Tables,
    /// As it left them, or why they could not be read.
    pub restored: Result<Tables, String>,
}

/// Which versions may be there that the recovery point does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NewerVersions {
    /// None.
    #[default]
    None,
    /// These, by subject and version.
    These(BTreeSet<(String, u32)>),
    /// Any that is newer than all of the subject's versions in the point, and subjects the point does not have: for a
    /// pipeline that lives on.
    Any,
}

/// Where a recovery cut the history: transactions of this epoch and earlier ones that committed behind it are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The last epoch before the recovery.
    pub epoch: Epoch,
    /// The target's position; `None` when the target was the end of WAL, which gives nothing up.
    pub lsn: Option<Lsn>,
    /// Whether a commit at the very position is kept.
    pub inclusive: bool,
}

/// What became of a committed transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is part of the surviving history.
    Kept,
    /// A recovery's target gave it up.
    GivenUp,
    /// No commit record was found for it, so it cannot be told.
    Undecided,
}

impl Expectation<'_> {
    /// What became of a committed transaction of the ledger.
    pub fn fate(&self, ledger: &Ledger, entry: &crate::workload::ledger::Entry) -> Fate {
        for cut in self.cuts.iter().filter(|c| entry.epoch <= c.epoch) {
            let Some(lsn) = cut.lsn else { continue };
            match ledger.commit(entry) {
                // Cuts of later epochs are on other timelines; only the epoch's own cut compares with its positions.
                Some(_) if entry.epoch < cut.epoch && self.cuts.iter().any(|c| c.epoch == entry.epoch) => {}
                Some(commit) if commit.lsn < lsn || (cut.inclusive && commit.lsn == lsn) => {}
                Some(_) => return Fate::GivenUp,
                None => return Fate::Undecided,
            }
        }
        Fate::Kept
    }
}
