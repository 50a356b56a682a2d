//! Recovery points: capturing, storing, checking and handing out what a recovery needs.
//!
//! The repository is a folder that can be read without this tool: `points/<id>/` holds one recovery point, bound by its
//! `manifest.json`, and `wal/<system id>/<timeline>/` the archived write-ahead log. May be called by the commands, by
//! `run` and by `recovery`; decides nothing about how to recover.

mod check;
mod create;
mod error;
pub(crate) mod files;
#[cfg(test)]
pub(crate) mod fixture;
mod identity;
mod lock;
mod manifest;
mod origin;
mod repository;
mod writer;

pub mod parts;
pub mod wal;

pub use check::{CheckOptions, Defect, DefectKind, VerifyReport, verify};
pub use create::{CreateOptions, Created, MOMENTS, Progress, create};
pub use error::BackupError;
pub(crate) use files::{Store, is_there};
pub use files::{decode_name, encode_name};
pub use lock::{Activity, ClusterName, Left, Lock};
pub use manifest::{
    Clock, ConnectFacts, Consistency, ConsistencyCheck, DataFolder, FORMAT, FileEntry, KafkaFacts, Kind, Manifest,
    Part, PostgresFacts, RegistryFacts, SchemaHistory, SchemaHistoryTopic, Tool, Window,
};
pub use origin::{Foreign, Origin};
pub use repository::{Newest, PassedOver, Point, PointSelector, PointSummary, Repository};
