//! How a topic folds to a table. Pure, and compact: a million rows fit in a few hundred megabytes.
//!
//! A keyed table is what the last event of each key leaves. Within a partition the offsets are the order, whatever the
//! positions in the WAL say: an incremental snapshot's reads have none, and after a point-in-time recovery they begin
//! again. A TRUNCATE concerns all partitions and stands in one, and a key may stand in several after a change of their
//! number: there [`Clock`](order::Clock) decides, and what it cannot order is reported ([`Standing::Unordered`]).
//!
//! A table without a key is a multiset of images: an insert adds one, a delete takes one away, an update does both; the
//! events of all partitions are put in the order in which the connector made them, and those that were delivered again
//! are known by their position and left out. A snapshot's read restates a row: it adds an image only where there are
//! fewer than that snapshot has read.

mod keys;
mod loose;
mod order;
mod partition;
mod seen;
#[cfg(test)]
mod tests;
mod topic;

pub use keys::{Entry, Fast, KeyMap};
pub use loose::{ImageColumns, Images, LooseFold, Range};
pub use partition::PartitionFold;
pub use seen::{Deferred, FirstWith, Logged, Loose, Place, Problem, Standing, Truncate, Use};
pub use topic::TopicFold;
