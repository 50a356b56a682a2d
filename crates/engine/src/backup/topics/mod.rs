//! The records of topics: archived in segments, verified, and replayed into a topic that is empty.
//!
//! A backup has everything that the backup before it has, and what came since: segments are shared. What was lost before it was read is
//! a recorded gap. A replay verifies everything it will write, and refuses a topic that has other content, before it writes anything.

mod archive;
mod batch;
mod capture;
mod convert;
mod manifest;
mod mapping;
mod pruned;
mod replay;
mod schemas;
mod sealed;
mod segment;
mod target;
mod until;
mod verify;

pub(crate) use archive::{Loaded, TopicArchive};
pub use capture::{BACKUP_MOMENTS, TopicProgress, back_up_topics, connectors_topics};
pub(crate) use capture::{Copied, copy_topics};
pub use manifest::{
    CommittedGroup, Gap, GapReason, PartitionBackup, PreviousBackup, SchemaMeaning, Schemas, SegmentOf, TopicBackup,
};
pub(crate) use pruned::{PrunedBackup, PrunedBackups};
pub use replay::{MovedOffset, REPLAY_MOMENTS, Replay, ReplayOptions, Replayed, plan_replay};
pub use until::{NotUntil, Until};
pub(crate) use verify::check_topics;
#[cfg(test)]
pub(crate) use verify::tests;
pub use verify::{ListedBackup, TopicReport, list_topics, verify_topics};
