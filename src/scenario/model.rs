//! The scenario language as types. Externally tagged, kebab-case, unknown fields refused: a mistake is then pointed at
//! where it stands. Descriptions here become the descriptions in `scenarios/schema.json`.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::words::{HumanDuration, Level, Named, TableRef, Target};
use crate::event::{Downtime, FindingKind};

/// A scenario: what to load, break and recover, and what must then hold. Each variant is one drill, and one more for
/// each of its controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// The version of this language: 1.
    pub version: u32,
    /// Names the scenario: lower case, digits, hyphens.
    pub id: String,
    /// What it is about, in a sentence.
    pub title: String,
    /// The servers.
    #[serde(default)]
    pub stack: StackPart,
    /// What runs on them and is protected.
    #[serde(default)]
    pub pipeline: PipelinePart,
    /// What writes to the source database.
    #[serde(default)]
    pub workload: WorkloadPart,
    /// The ways it can go, each a drill of its own, by id.
    pub variants: Named<Variant>,
}

/// How the servers are set up. A variant's own part wins field by field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct StackPart {
    /// The schema registry.
    pub registry: RegistryPart,
    /// The source database.
    pub postgres: PostgresPart,
    /// The Connect worker.
    pub connect: ConnectPart,
}

/// The Connect worker, which drills share unless one brings plugins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ConnectPart {
    /// Folders with the jars of one plugin each: converters, transforms, whatever the connector's configuration names. The
    /// drill then has a worker of its own.
    #[schemars(with = "Vec<String>")]
    pub plugins: Vec<Utf8PathBuf>,
}

/// The schema registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RegistryPart {
    /// Where it keeps its schemas; `h2` unless said otherwise.
    pub storage: Option<RegistryStorageKind>,
}

/// Where the registry keeps its schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RegistryStorageKind {
    /// An H2 database in a file.
    H2,
    /// Topics of the broker.
    Kafkasql,
}

/// The source database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct PostgresPart {
    /// The size of a WAL segment in MiB, a power of two from 1 to 1024; 16 unless said otherwise.
    #[schemars(range(min = 1, max = 1024))]
    pub wal_segment_mib: Option<u32>,
    /// How much WAL a slot may hold back, in MiB; unlimited unless said otherwise.
    #[schemars(range(min = 1))]
    pub max_slot_wal_keep_mib: Option<u32>,
    /// Further server settings, by name.
    pub settings: BTreeMap<String, String>,
}

/// What runs on the servers and is protected. A variant's own part wins field by field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct PipelinePart {
    /// An SQL file that makes the tables. With `workload: { pgbench: ... }` it runs after pgbench has made its own.
    #[schemars(with = "Option<String>")]
    pub schema: Option<Utf8PathBuf>,
    /// A JSON file with the source connector's configuration. Placeholders in it stand for what differs between drills:
    /// `{name}`, `{prefix}`, `{slot}`, `{publication}`, `{partitions}`, `{host}`, `{port}`, `{user}`, `{password}`,
    /// `{database}`, `{registry}`.
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

/// What writes to the source database: the seeded shop workload, pgbench, a scenario's own SQL or command. A variant's own part
/// wins field by field; a variant that names another kind of workload drops what only the former kind has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct WorkloadPart {
    /// The seed of every random choice; `run --seed` wins.
    pub seed: Option<u64>,
    /// Rows before the first recovery point.
    #[schemars(range(min = 1))]
    pub rows: Option<u64>,
    /// Connections that write at the same time.
    #[schemars(range(min = 1, max = 64))]
    pub writers: Option<u32>,
    /// pgbench, which ships with PostgreSQL, instead of the shop workload.
    pub pgbench: Option<Pgbench>,
    /// Transactions of the scenario's own, for any schema, instead of the shop workload.
    pub sql: Option<Sql>,
    /// A command of the scenario's own that writes, for any schema, instead of the shop workload.
    pub command: Option<WorkloadCommand>,
}

/// pgbench as the workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Pgbench {
    /// Its scale: 100,000 accounts each.
    #[schemars(range(min = 1, max = 1000))]
    pub scale: u32,
    /// Connections that write at the same time.
    #[schemars(range(min = 1, max = 64))]
    pub clients: u32,
}

/// SQL as the workload. Each transaction also leaves rows in `public.drill_transactions`, which the drill makes, captures
/// and publishes itself as it does with `public.markers`: they tell which transactions are there, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sql {
    /// An SQL file that runs once, after the schema and before the connector: the rows that are there first.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub seed_file: Option<Utf8PathBuf>,
    /// The transactions; the seed draws one after the other, by weight.
    #[schemars(length(min = 1))]
    pub transactions: Vec<SqlTransaction>,
}

/// A command as the workload. It runs once a load and is told what to do by its environment: see the README. Each of its
/// transactions must write two rows into `public.drill_transactions`, as those of `sql` do; by these the drill knows which
/// transactions committed, whole, and in which order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WorkloadCommand {
    /// An SQL file that runs once, after the schema and before the connector: the rows that are there first.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub seed_file: Option<Utf8PathBuf>,
    /// Run by `sh -c`, in an empty folder of its own.
    #[schemars(length(min = 1))]
    pub command: String,
    /// How long one load may take; 2 minutes unless said otherwise.
    #[serde(default)]
    pub timeout: Option<HumanDuration>,
}

/// One kind of transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SqlTransaction {
    /// Names it: in errors, and in its row of `public.drill_transactions`.
    pub name: String,
    /// How often it is drawn, against the weights of the others; 1 unless said otherwise.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub weight: u32,
    /// Its statements, in order, between a BEGIN and a COMMIT that are not written here. Placeholders: `{token}`, unique
    /// over runs and timelines; `{n}`, a number from 1 that no other transaction of the drill has; `{random:A..B}`, a
    /// number drawn from the seed, both ends included; `{writer}`, the writer's number from 0. A brace before anything but
    /// a letter is a brace; before a letter it is written `{{`.
    #[schemars(length(min = 1))]
    pub statements: Vec<String>,
}

fn one() -> u32 {
    1
}

/// One way a scenario can go: one drill, and one more for each control.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Variant {
    /// What this variant is about, in a sentence; the scenario's title unless said otherwise.
    #[serde(default)]
    pub title: Option<String>,
    /// Changes to the scenario's `stack`.
    #[serde(default)]
    pub stack: StackPart,
    /// Changes to the scenario's `pipeline`.
    #[serde(default)]
    pub pipeline: PipelinePart,
    /// Changes to the scenario's `workload`.
    #[serde(default)]
    pub workload: WorkloadPart,
    /// What happens, in order.
    #[schemars(length(min = 1))]
    pub steps: Vec<Step>,
    /// What must hold afterwards.
    #[schemars(length(min = 1))]
    pub checks: Vec<CheckId>,
    /// How fast and how complete the recovery must be.
    #[serde(default)]
    pub objectives: Objectives,
    /// The same drill with something left out or done the naive way; each must come out red as it says.
    #[serde(default)]
    pub controls: Vec<Control>,
}

/// One step of a drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The writers do this many transactions and stop.
    Load(Load),
    /// Takes a recovery point; writers write meanwhile.
    Backup(Backup),
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
    /// drill's connector, or of the first of several.
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

impl Step {
    /// The step's name in the language.
    pub fn word(&self) -> &'static str {
        match self {
            Step::Load(_) => "load",
            Step::Backup(_) => "backup",
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

/// What a load can be made to contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Must {
    /// Rows with keys that did not exist before.
    InsertNewKeys,
    /// Updates of existing rows.
    Update,
    /// Deletes of existing rows.
    Delete,
    /// Updates that change a row's key.
    ChangeKey,
    /// Transactions that are rolled back.
    RollBack,
    /// Transactions with a savepoint that is rolled back to.
    Savepoint,
    /// Transactions over several tables.
    MultiTable,
}

impl Must {
    /// The word in the language.
    pub fn word(self) -> &'static str {
        match self {
            Must::InsertNewKeys => "insert-new-keys",
            Must::Update => "update",
            Must::Delete => "delete",
            Must::ChangeKey => "change-key",
            Must::RollBack => "roll-back",
            Must::Savepoint => "savepoint",
            Must::MultiTable => "multi-table",
        }
    }
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

/// A part of a recovery point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the parts' own names")]
pub enum BackupPart {
    Postgres,
    Connect,
    Registry,
    Topics,
}

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
            Fault::RegistryDeleteSubject(_) => "registry-delete-subject",
            Fault::RegistrySetLevel(_) => "registry-set-level",
            Fault::RegistryLoseStorage(_) => "registry-lose-storage",
        }
    }

    /// Whether it damages the registry, so that the drill needs one of its own.
    pub fn damages_registry(&self) -> bool {
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
            | Fault::AlterColumn(_) => false,
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

/// A change of a column that the registry refuses under BACKWARD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ColumnChange {
    /// An integer column becomes text.
    IntToText,
    /// A nullable column without default becomes NOT NULL.
    SetNotNull,
    /// A new column, NOT NULL and without default.
    AddNotNull,
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

/// A recovery: by one of the three playbooks, or by a command of the scenario's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Recover {
    /// Stop, restore, wipe, reset, re-snapshot.
    Coordinated(Coordinated),
    /// Diagnose and replace the replication slot, repair the topics.
    Slot(SlotRecovery),
    /// Diagnose and repair the registry, or decide on an incompatible change.
    Schema(SchemaRecovery),
    /// Run a command: a runbook of the scenario's own. It is judged by the data that it leaves, as the playbooks are.
    Exec(Runbook),
}

impl Recover {
    /// The playbook's name; `exec` for a command.
    pub fn playbook(&self) -> &'static str {
        match self {
            Recover::Coordinated(_) => "coordinated",
            Recover::Slot(_) => "slot",
            Recover::Schema(_) => "schema",
            Recover::Exec(_) => "exec",
        }
    }

    /// What the writers do meanwhile.
    pub fn writers(&self) -> WhileRecovering {
        match self {
            Recover::Coordinated(r) => r.writers,
            Recover::Slot(r) => r.writers,
            Recover::Schema(r) => r.writers,
            Recover::Exec(r) => r.writers,
        }
    }

    /// What of the epoch that it ends it is to keep.
    pub fn target(&self) -> &Target {
        match self {
            Recover::Coordinated(r) => &r.target,
            Recover::Exec(r) => &r.target,
            Recover::Slot(_) | Recover::Schema(_) => &Target::Latest,
        }
    }

    /// The backup it starts from, where the scenario names one.
    pub fn point(&self) -> Option<&str> {
        match self {
            Recover::Coordinated(r) => r.point.as_deref(),
            Recover::Schema(r) => r.point.as_deref(),
            Recover::Slot(_) | Recover::Exec(_) => None,
        }
    }
}

/// What clients do while the recovery runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhileRecovering {
    /// They were stopped before.
    #[default]
    Stop,
    /// They go on trying to commit from before the recovery until after it.
    Continue,
}

/// The coordinated playbook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Coordinated {
    /// Where recovery stops.
    pub target: Target,
    /// The timeline on which the target lies; the mark's own timeline, or the current one for `latest`, unless said
    /// otherwise.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub timeline: Option<u32>,
    /// The backup to start from; the last one before the target unless said otherwise.
    #[serde(default)]
    pub point: Option<String>,
    /// What the writers do meanwhile.
    #[serde(default)]
    pub writers: WhileRecovering,
}

/// The slot playbook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SlotRecovery {
    /// How the topics are made right.
    pub topics: TopicsRepair,
    /// What the writers do meanwhile.
    pub writers: WhileRecovering,
}

/// How topics are made right after a hole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TopicsRepair {
    /// They are deleted and recreated before the new snapshot.
    #[default]
    Purge,
    /// A delete and a tombstone are written for each key that is no longer in its table.
    Compensate,
}

/// The schema playbook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SchemaRecovery {
    /// What to do about an incompatible change.
    pub on_conflict: AcceptOrReject,
    /// The backup that holds the registry as it should be; the last one unless said otherwise.
    pub point: Option<String>,
    /// What the writers do meanwhile.
    pub writers: WhileRecovering,
}

/// A runbook of the scenario's own. Everything that it needs to know is in its environment: see the README. What it
/// leaves behind is judged; an exit status other than 0, or none within its time, is a failed recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Runbook {
    /// Run by `sh -c`, in an empty folder of its own.
    #[schemars(length(min = 1))]
    pub command: String,
    /// What it is to keep: everything (`latest`), or what was committed before a mark.
    #[serde(default)]
    pub target: Target,
    /// How long it may take; 2 minutes unless said otherwise.
    #[serde(default)]
    pub timeout: Option<HumanDuration>,
    /// What the writers do meanwhile.
    #[serde(default)]
    pub writers: WhileRecovering,
}

/// A command that stands in for a recovery, and is to keep what that is to keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NaiveCommand {
    /// Run by `sh -c`, in an empty folder of its own.
    #[schemars(length(min = 1))]
    pub command: String,
    /// How long it may take; 2 minutes unless said otherwise.
    #[serde(default)]
    pub timeout: Option<HumanDuration>,
}

/// The decision about an incompatible change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AcceptOrReject {
    /// It is undone at the source.
    #[default]
    Reject,
    /// It is let through for that subject only.
    Accept,
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

/// The checks, by the claim that each makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CheckId {
    /// The tables equal the ledger replayed to the target: nothing more, nothing less.
    RestoredToTarget,
    /// The latest event per key equals the table row, both ways.
    State,
    /// Every acknowledged transaction after recovery is in the topics.
    Loss,
    /// Nothing of the abandoned timeline is visible in any data topic.
    Ghosts,
    /// Duplicates only where at-least-once allows them.
    Duplicates,
    /// Per key, streamed events follow LSN and offset within one epoch.
    Order,
    /// No transaction is half visible at the end.
    Atomicity,
    /// Every record's schema id resolves to the schema it was written with.
    SchemaIds,
    /// Levels, modes, subjects and versions equal the recovery point's, and an incompatible schema is refused again.
    Compatibility,
    /// Stored offset, slot, topic settings and groups are as they must be.
    Positions,
    /// A canary row written now arrives in time.
    Liveness,
    /// Nothing the drill did is left.
    Leaks,
}

impl CheckId {
    /// All checks, in the order they are reported.
    pub const ALL: [CheckId; 12] = [
        CheckId::RestoredToTarget,
        CheckId::State,
        CheckId::Loss,
        CheckId::Ghosts,
        CheckId::Duplicates,
        CheckId::Order,
        CheckId::Atomicity,
        CheckId::SchemaIds,
        CheckId::Compatibility,
        CheckId::Positions,
        CheckId::Liveness,
        CheckId::Leaks,
    ];

    /// The check's id in the language and in reports.
    pub fn word(self) -> &'static str {
        match self {
            CheckId::RestoredToTarget => "restored-to-target",
            CheckId::State => "state",
            CheckId::Loss => "loss",
            CheckId::Ghosts => "ghosts",
            CheckId::Duplicates => "duplicates",
            CheckId::Order => "order",
            CheckId::Atomicity => "atomicity",
            CheckId::SchemaIds => "schema-ids",
            CheckId::Compatibility => "compatibility",
            CheckId::Positions => "positions",
            CheckId::Liveness => "liveness",
            CheckId::Leaks => "leaks",
        }
    }
}

impl std::fmt::Display for CheckId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.word())
    }
}

/// What the recovery must keep to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Objectives {
    /// Recovery time: how long until the pipeline is whole again, at most. Longer fails the drill, on whatever machine.
    pub rto: Option<HumanDuration>,
    /// Recovery time as it was measured on the reference machine (2 cores, 24 GiB, quiet, five drills at a time), at most.
    /// Scaled by the speed that this machine is measured to have; longer is reported and fails nothing.
    pub reference_rto: Option<HumanDuration>,
    /// How long what clients use may be down, at most. Longer fails the drill, on whatever machine.
    pub downtime: Option<DowntimeObjective>,
    /// The same as it was measured on the reference machine; scaled and reported like `reference-rto`, and never a failure.
    pub reference_downtime: Option<DowntimeObjective>,
    /// Recovery point: how much may be missing.
    pub rpo: Option<RpoObjective>,
}

/// How long what clients use may be down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DowntimeObjective {
    /// From the stop of the old server to the restored one that takes sessions: only a coordinated recovery stops one.
    pub database: Option<HumanDuration>,
    /// From the stop of the connectors to their new streams, behind complete snapshots.
    pub connectors: Option<HumanDuration>,
}

impl DowntimeObjective {
    /// The limits, as reports have them.
    pub fn limits(self) -> Downtime {
        let seconds = |limit: Option<HumanDuration>| limit.map(|limit| limit.0.as_secs_f64());
        Downtime { database_seconds: seconds(self.database), connectors_seconds: seconds(self.connectors) }
    }
}

/// How much may be missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RpoObjective {
    /// Acknowledged transactions before the target that may be missing.
    pub transactions: u64,
}

/// The same drill with something left out or done the naive way. It must come out red as it says; red for another
/// reason, or green, fails the drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Control {
    /// Names it within the variant; `without-<step>` or `naive-<procedure>` unless said otherwise.
    #[serde(default)]
    pub id: Option<String>,
    /// What is left out: `recovery`, or a step of the playbook by name.
    #[serde(default)]
    pub without: Option<String>,
    /// What is done instead of the recovery, or, beside `without`, instead of the step that is left out.
    #[serde(default)]
    pub naive: Option<Naive>,
    /// The finding that must be there.
    #[serde(default)]
    pub red: Option<Red>,
    /// Instead of `red`: the recovery itself must refuse to go on, with this exit code.
    #[serde(default)]
    pub refuses: Option<u8>,
    /// Whether connector and task must say RUNNING while the check is red.
    #[serde(default)]
    pub silent: bool,
}

/// The finding that a control must lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Red {
    /// The check that reports it; one of the variant's.
    pub check: CheckId,
    /// Its kind.
    pub kind: FindingKind,
}

/// What people do who have no recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Naive {
    /// The slot is created again by hand, under its old name, and the connector resumes with its old offsets.
    SlotByHand,
    /// The server reads broken pages as empty (`zero_damaged_pages`), and the connector takes a new snapshot.
    ZeroDamagedPages,
    /// A new slot and a new snapshot into the old topics.
    ResnapshotWithoutPurge,
    /// The schemas are registered again, in the order in which somebody finds them.
    ReRegister,
    /// The global compatibility level is set to NONE, and stays there.
    LowerLevelGlobally,
    /// Everything is restarted.
    RestartOnly,
    /// A command of the scenario's own.
    Exec(NaiveCommand),
}

impl Naive {
    /// The procedure's name in the language.
    pub fn word(&self) -> &'static str {
        match self {
            Naive::SlotByHand => "slot-by-hand",
            Naive::ZeroDamagedPages => "zero-damaged-pages",
            Naive::ResnapshotWithoutPurge => "resnapshot-without-purge",
            Naive::ReRegister => "re-register",
            Naive::LowerLevelGlobally => "lower-level-globally",
            Naive::RestartOnly => "restart-only",
            Naive::Exec(_) => "exec",
        }
    }
}
