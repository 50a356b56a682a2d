//! The steps of a drill.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fault, Recover};
use crate::scenario::words::{HumanDuration, TableRef};
use cdc_model::vocabulary::{BackupPart, Must};

/// One step of a drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Step")]
pub enum Step<B = Backup> {
    /// The writers do this many transactions and stop.
    Load(Load),
    /// Takes a recovery point; writers write meanwhile.
    Backup(B),
    /// Backs up the records of a captured table's topic, as `topic backup` does. Writers do not write meanwhile.
    BackUpRecords(TableRef),
    /// Sets a named restore point and records its LSN, time and timeline under this name.
    Mark(String),
    /// Breaks something and proves that it landed.
    Fault(Fault),
    /// Proves an effect of the fault that only shows after a further load, or brings about a condition on which the drill
    /// and its controls depend, and proves it. What cannot be proved makes the drill inconclusive, by the name of the proof.
    Prove(Prove),
    /// Records what the systems say of themselves while the pipeline is broken: connector, task, slot, registry.
    Signals,
    /// Runs a playbook to its end. A second one begins a further epoch.
    Recover(Recover),
    /// Runs one statement in the captured database as its owner. `{publication}` and `{slot}` stand for those of the
    /// drill's connector, or of the first of several. An `insert`, `update`, `delete` or `merge` that touches no row makes
    /// the drill inconclusive.
    Sql(String),
    /// Waits until everything committed so far has reached its topic.
    Quiesce,
    /// Stops the source connector: state STOPPED, no tasks.
    StopConnector,
    /// Resumes a stopped connector, and returns when its task streams or has failed.
    StartConnector,
    /// Restarts connector and tasks, and returns when the task streams or has failed.
    RestartConnector,
    /// Makes a consumer group that has committed its offsets on every data topic and has no member. When the drill is over, a
    /// consumer joins it: one that is not given every record of a rebuilt topic is a finding of `positions`.
    ConsumerGroup(ConsumerGroup),
    /// Deletes one version of a table's value subject for good, to leave a gap in its versions.
    DeleteSchemaVersion(DeleteSchemaVersion),
}

impl<B> Step<B> {
    /// The step's name in the language.
    pub fn word(&self) -> &'static str {
        match self {
            Step::Load(_) => "load",
            Step::Backup(_) => "backup",
            Step::BackUpRecords(_) => "back-up-records",
            Step::Mark(_) => "mark",
            Step::Fault(_) => "fault",
            Step::Prove(_) => "prove",
            Step::Signals => "signals",
            Step::Recover(_) => "recover",
            Step::Sql(_) => "sql",
            Step::Quiesce => "quiesce",
            Step::StopConnector => "stop-connector",
            Step::StartConnector => "start-connector",
            Step::RestartConnector => "restart-connector",
            Step::ConsumerGroup(_) => "consumer-group",
            Step::DeleteSchemaVersion(_) => "delete-schema-version",
        }
    }
}

/// A load, counted in transactions so that counts can stand in reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Load {
    /// How many transactions are tried, over all writers.
    #[schemars(range(min = 1))]
    pub transactions: u64,
    /// What must occur among them at least once, or the drill is inconclusive.
    #[serde(default)]
    pub must: Vec<Must>,
    /// Only these tables are written; all unless said otherwise.
    #[serde(default)]
    pub tables: Option<Vec<TableRef>>,
}

/// A recovery point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Backup {
    /// The name by which later steps refer to it; with `exec` it stands there.
    #[serde(default)]
    pub name: Option<String>,
    /// Only this part; the whole unless said otherwise.
    #[serde(default)]
    pub only: Option<BackupPart>,
    /// Instead of this program's own: a command of the scenario's own takes the backup.
    #[serde(default)]
    pub exec: Option<BackupCommand>,
}

impl Backup {
    /// Its name, wherever it stands; empty when there is none.
    pub fn name(&self) -> &str {
        self.name.as_deref().or(self.exec.as_ref().map(|e| e.name.as_str())).unwrap_or_default()
    }
}

/// A command that takes a backup, under load as any other. What it needs to know is in its environment, as for `recover:
/// { exec: ... }`. An exit status other than 0 ends the drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BackupCommand {
    /// The backup's name; the command finds it as `CDC_DRILL_BACKUP`.
    pub name: String,
    /// Run by `sh -c`.
    #[schemars(length(min = 1))]
    pub command: String,
    /// How long it may take; 2 minutes unless said otherwise.
    #[serde(default)]
    pub timeout: Option<HumanDuration>,
}

/// An effect of a fault that shows after a further load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Prove {
    /// At least this many records were written under schema ids that the lost registry had given to other schemas, or
    /// never gave.
    RecordsUnderOtherIds(u64),
    /// The named table's subject refused a schema, and the connector's task failed of it.
    SchemaRefused(TableRef),
    /// Every connector has delivered all that was committed so far, and has stored a position beyond this mark's LSN: topics
    /// and positions hold what a recovery to the mark abandons.
    DeliveredBeyond(String),
    /// The server's WAL goes beyond this mark's LSN, also on a timeline that left before it: segments are switched until it
    /// does.
    WalBeyond(String),
    /// The slot that a `drop-slot` dropped is still missing: nothing of what was committed since can be streamed.
    SlotMissing,
}

impl Prove {
    /// Its word in a scenario's file.
    pub fn word(&self) -> &'static str {
        match self {
            Prove::RecordsUnderOtherIds(_) => "records-under-other-ids",
            Prove::SchemaRefused(_) => "schema-refused",
            Prove::DeliveredBeyond(_) => "delivered-beyond",
            Prove::WalBeyond(_) => "wal-beyond",
            Prove::SlotMissing => "slot-missing",
        }
    }
}

/// A probe consumer group on the data topics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ConsumerGroup {
    /// Its name within the drill.
    pub name: String,
    /// Its `auto.offset.reset`; `latest` unless said otherwise: such a group skips a snapshot when nobody sets its offsets.
    #[serde(default)]
    pub reset: GroupReset,
}

/// Where a group without offsets begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the broker's own words")]
pub enum GroupReset {
    #[default]
    Latest,
    Earliest,
}

/// A version to delete for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeleteSchemaVersion {
    /// The captured table whose value subject it is.
    pub table: TableRef,
    /// The version's number.
    #[schemars(range(min = 1))]
    pub version: u32,
}
