//! The scenario language as types. Externally tagged, kebab-case, unknown fields refused: a mistake is then pointed at
//! where it stands. Descriptions here become the descriptions in `scenarios/schema.json`.

mod check;
mod control;
mod fault;
mod objectives;
mod pipeline;
mod recover;
mod scenario;
mod stack;
mod step;
mod workload;

pub use check::CheckId;
pub use control::{Control, Naive, NaiveCommand, Red};
pub use fault::{
    AlterColumn, ColumnChange, DeleteAll, DeleteSubject, Fault, FlipHeapBytes, LoseStorage, SetLevel, StarvePostgres,
    SubjectSide,
};
pub use objectives::{DowntimeObjective, Objectives, RpoObjective};
pub use pipeline::{Compatibility, ConnectorPart, PipelinePart};
pub use recover::{
    AcceptOrReject, Coordinated, Recover, Runbook, SchemaRecovery, SlotRecovery, TopicsRepair, WhileRecovering,
};
pub use scenario::{Scenario, Variant};
pub use stack::{ConnectPart, PostgresPart, RegistryPart, RegistryStorageKind, StackPart};
pub use step::{
    Backup, BackupCommand, BackupPart, ConsumerGroup, DeleteSchemaVersion, GroupReset, Load, Must, Prove, Step,
};
pub use workload::{Pgbench, Sql, SqlTransaction, WorkloadCommand, WorkloadPart};
