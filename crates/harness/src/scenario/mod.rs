//! The scenario language: what to load, break and recover, and what must then hold. Pure: a file's text becomes a
//! [`Scenario`], a checked [`Scenario`] becomes a [`Plan`]; nothing here talks to a system.
//!
//! `model` is the language, `words` its small values, `parse` the only file that names the YAML crate, `resolve` the one pass from a
//! scenario to its drills, with every mistake that the types of the language cannot exclude, `plan` the resolved drills, `template` SQL
//! with placeholders, `library` where files and fixtures come from, and `catalogue` what `scenario list` shows.

mod builtin;
mod catalogue;
mod error;
mod library;
mod model;
mod parse;
mod plan;
mod playbook;
mod resolve;
mod schema;
mod template;
mod words;

#[cfg(test)]
mod tests;

pub use catalogue::{Catalogue, ControlEntry, Entry, Needs, StepNeed, VariantEntry, catalogue};
pub use error::{Mistake, Problem, ScenarioError, Seg};
pub use library::{Library, Loaded};
pub use model::{
    AlterColumn, Backup, BackupCommand, Compatibility, ConnectPart, ConnectorPart, ConsumerGroup, Control, Coordinated,
    DeleteAll, DeleteSchemaVersion, DeleteSubject, DowntimeObjective, Fault, FlipHeapBytes, GroupReset, Load,
    LoseRecords, LoseStorage, NaiveCommand, Objectives, Pgbench, PipelinePart, PostgresPart, Prove, Recover, Red,
    RegistryPart, ReplayRecovery, RpoObjective, Runbook, Scenario, SchemaRecovery, SetLevel, SlotRecovery, Sql,
    SqlTransaction, StackPart, StarvePostgres, Step, SubjectSide, Variant, WhileRecovering, WorkloadCommand,
    WorkloadPart,
};
pub use parse::parse;
pub use plan::{
    Absence, BackupPlan, Change, ConnectorPlan, ControlRun, DrillPlan, Expect, Fixture, ObjectivesPlan, PipelinePlan,
    Plan, StackPlan, StepPlan, TransactionPlan, WorkloadPlan,
};
pub use playbook::steps_of;
pub use resolve::{Fixtures, resolve};
pub use schema::{schema, schema_text};
pub use template::{Template, TemplateError};
pub use words::{HumanDuration, Level, Named, TableRef, Target, TargetBy};
