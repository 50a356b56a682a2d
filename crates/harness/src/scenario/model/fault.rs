//! What is broken on purpose.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scenario::words::{Level, TableRef};
use cdc_model::vocabulary::{ColumnChange, RecordsLostBy};

/// Something broken on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A DELETE without WHERE.
    DeleteAll(DeleteAll),
    /// Checkpoint, evict, and flip bytes in heap pages; proved by a read that fails naming the block.
    FlipHeapBytes(FlipHeapBytes),
    /// `kill -9` of the server while acknowledged commits sit in a WAL segment that was never archived.
    KillPostgres,
    /// Freezes every process of the server: clients are taken in, and nobody answers.
    PausePostgres,
    /// Takes the server off its network; needs a backend where it has one.
    DisconnectPostgres,
    /// Leaves the server less memory than its sessions want; needs a backend that can.
    StarvePostgres(StarvePostgres),
    /// Ends the slot's walsender and drops the slot before the connector is back.
    DropSlot,
    /// Writes WAL until `max_slot_wal_keep_size` invalidates the slot.
    InvalidateSlot,
    /// Changes a column in a way the registry refuses, and writes a row so that the refusal happens.
    AlterColumn(AlterColumn),
    /// A data topic loses its records; proved by the topic's id or by the offsets at which its logs begin.
    LoseRecords(LoseRecords),
    /// Deletes a subject for good, with its own level.
    RegistryDeleteSubject(DeleteSubject),
    /// Changes a compatibility level.
    RegistrySetLevel(SetLevel),
    /// The registry's storage is lost and it starts empty.
    RegistryLoseStorage(LoseStorage),
}

impl Fault {
    /// The fault's name in the language.
    pub fn word(&self) -> &'static str {
        match self {
            Fault::DeleteAll(_) => "delete-all",
            Fault::FlipHeapBytes(_) => "flip-heap-bytes",
            Fault::KillPostgres => "kill-postgres",
            Fault::PausePostgres => "pause-postgres",
            Fault::DisconnectPostgres => "disconnect-postgres",
            Fault::StarvePostgres(_) => "starve-postgres",
            Fault::DropSlot => "drop-slot",
            Fault::InvalidateSlot => "invalidate-slot",
            Fault::AlterColumn(_) => "alter-column",
            Fault::LoseRecords(_) => "lose-records",
            Fault::RegistryDeleteSubject(_) => "registry-delete-subject",
            Fault::RegistrySetLevel(_) => "registry-set-level",
            Fault::RegistryLoseStorage(_) => "registry-lose-storage",
        }
    }

    /// Whether it damages the registry, so that the drill needs one of its own.
    pub(crate) fn damages_registry(&self) -> bool {
        match self {
            Fault::RegistryDeleteSubject(_) | Fault::RegistrySetLevel(_) | Fault::RegistryLoseStorage(_) => true,
            Fault::DeleteAll(_)
            | Fault::FlipHeapBytes(_)
            | Fault::KillPostgres
            | Fault::PausePostgres
            | Fault::DisconnectPostgres
            | Fault::StarvePostgres(_)
            | Fault::DropSlot
            | Fault::InvalidateSlot
            | Fault::AlterColumn(_)
            | Fault::LoseRecords(_) => false,
        }
    }
}

/// A memory limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StarvePostgres {
    /// How much the server may use, in MiB.
    pub mib: u32,
}

/// A DELETE without WHERE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeleteAll {
    /// The table that is emptied.
    pub table: TableRef,
}

/// Flipped bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FlipHeapBytes {
    /// A captured table.
    pub table: TableRef,
    /// In how many of its pages.
    #[schemars(range(min = 1))]
    pub pages: u32,
}

/// A change of a column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AlterColumn {
    /// A captured table.
    pub table: TableRef,
    /// The column: of the table, or the one to add.
    pub column: String,
    /// What is done to it.
    pub change: ColumnChange,
}

/// A topic that loses its records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LoseRecords {
    /// The captured table whose topic it is.
    pub table: TableRef,
    /// How they are lost.
    pub by: RecordsLostBy,
}

/// A subject to delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeleteSubject {
    /// The captured table whose subject it is.
    pub table: TableRef,
    /// The subject of its keys or of its values; of its values unless said otherwise.
    #[serde(default)]
    pub side: SubjectSide,
}

/// Keys or values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "plain words")]
pub enum SubjectSide {
    Key,
    #[default]
    Value,
}

/// A level to set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SetLevel {
    /// The level.
    pub level: Level,
    /// The captured table whose value subject it is set for; the global level unless said otherwise.
    #[serde(default)]
    pub table: Option<TableRef>,
}

/// A registry that lost everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LoseStorage {
    /// Whether a restarted connector then registers its schemas again, under other ids.
    pub refill: bool,
}
