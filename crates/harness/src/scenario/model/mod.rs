//! The scenario language as types. Externally tagged, kebab-case, unknown fields refused: a mistake is then pointed at
//! where it stands. Descriptions here become the descriptions in `scenarios/schema.json`.

mod control;
mod fault;
mod objectives;
mod pipeline;
mod recover;
mod scenario;
mod stack;
mod step;
mod workload;

pub use control::{Control, NaiveCommand, Red};
pub use fault::{
    AlterColumn, DeleteAll, DeleteSubject, Fault, FlipHeapBytes, LoseRecords, LoseStorage, SetLevel, StarvePostgres,
    SubjectSide,
};
pub use objectives::{DowntimeObjective, Objectives, RpoObjective};
pub use pipeline::{Compatibility, ConnectorPart, PipelinePart};
pub use recover::{Coordinated, Recover, ReplayRecovery, Runbook, SchemaRecovery, SlotRecovery, WhileRecovering};
pub use scenario::{Scenario, Variant};
pub use stack::{ConnectPart, PostgresPart, RegistryPart, StackPart};
pub use step::{Backup, BackupCommand, ConsumerGroup, DeleteSchemaVersion, GroupReset, Load, Prove, Step};
pub use workload::{Pgbench, Sql, SqlTransaction, WorkloadCommand, WorkloadPart};
