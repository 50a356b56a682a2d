//! The words that scenarios, the command line and the engine share, each once: what a person can ask for, and what a report names. Their
//! spelling in files is theirs; descriptions become those of `scenarios/schema.json`. Pure, and without clap: `cli` says how a word
//! is asked for on the command line.

mod backup;
mod check;
mod fault;
mod load;
mod naive;
mod placeholder;
mod recovery;
mod registry;
mod words;

pub use backup::BackupPart;
pub use check::CheckId;
pub use fault::{ColumnChange, RecordsLostBy};
pub use load::Must;
pub use naive::{Instead, Naive};
pub use placeholder::Placeholder;
pub use recovery::{Loss, OnConflict, PartLoss, TopicsRepair};
pub use registry::RegistryStorageKind;
pub use words::UnknownWord;
