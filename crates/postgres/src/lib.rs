//! PostgreSQL's own formats and words: names and headers of WAL files, timeline histories, the control file, what its programs
//! take and print, quoting, and what differs between its versions. Knowledge of PostgreSQL that more than one module needs stands
//! here once; whoever asks a server or runs a program stands elsewhere.

pub mod backup_manifest;
pub mod command;
pub mod configuration;
pub mod control;
pub mod programs;
pub mod script;
pub mod sql;
pub mod version;
pub mod wal;
