//! Recovery points: capturing, storing, checking and handing out what a recovery needs.
//!
//! The repository, a folder or a place in a bucket, can be read without this tool: `points/<id>/` holds one recovery point, bound by its
//! `manifest.json`, and `wal/<system id>/<timeline>/` the archived write-ahead log. May be called by the commands, by
//! `run` and by `recovery`; decides nothing about how to recover.

mod attempts;
mod bases;
#[cfg(test)]
mod bucket_tests;
mod chain;
mod check;
mod clocks;
mod create;
mod dated;
mod error;
pub(crate) mod file_system;
pub(crate) mod files;
#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod format;
pub(crate) mod hash;
mod identity;
mod listing;
mod lock;
mod origin;
mod place;
mod point;
mod proofs;
mod prune;
mod pruned;
mod repository;
#[cfg(test)]
mod room_tests;
mod seal;
mod storage;
mod upgrade;
mod version;
mod writer;

pub mod parts;
pub mod topics;
pub mod wal;

pub use attempts::{Attempt, Ended, Task, TaskRecord};
pub use check::{
    ArchiverEvent, ArchiverStanding, CheckOptions, CheckReport, Defect, DefectKind, Lost, Passed, PointStanding, Reach,
    ServerArchiving, VerifyReport, check, verify,
};
pub use clocks::seconds_of_changes;
pub use create::{CreateOptions, Created, MOMENTS, Progress, create};
pub use dated::dated_id;
pub use error::BackupError;
pub(crate) use files::{Store, is_there};
pub use format::{
    Chain, Clock, ClockOf, ConnectFacts, Consistency, ConsistencyCheck, DataFolder, DatabasePublications,
    DatabaseSequences, FileEntry, Format, GroupOffset, GroupState, KafkaFacts, Kind, Link, Manifest, NamedMembers,
    Origin, Part, PostgresFacts, Publication, PublishedTable, RawRecord, RegistryFacts, SavedConnector, SavedTask,
    SchemaHistory, SchemaHistoryTopic, SequenceState, Setting, Tool, TopicRecords, TopicState, Watermark, Window,
    decode_name, encode_name,
};
pub(crate) use listing::list_with_points;
pub use listing::{ArchivedCluster, ListedPoint, Listing, list};
pub use lock::{Activity, ClusterName, Left, Lock, host};
pub use origin::Foreign;
pub use point::{HashedFile, Point};
pub use proofs::{EVIDENCE, Proof, ProofFile, ProofSize, ProofStep};
pub use prune::{Keep, PruneOptions, PruneReport, PrunedPoint, PrunedTopicBackup, Room, prune};
pub use pruned::PruneReason;
pub use repository::{Newest, PassedOver, PointSelector, PointSummary, Repository};
pub(crate) use storage::{is_in_a_bucket, size_of};
pub use upgrade::{UpgradeProgress, Upgraded, upgrade};
