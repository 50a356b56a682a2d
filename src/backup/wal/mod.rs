//! The WAL archive of a repository: `wal/<system id>/<timeline>/<segment>.zst` with an `index.jsonl`.
//!
//! [`push()`] and [`fetch()`] are what PostgreSQL's `archive_command` and `restore_command` run; [`Archive`] answers what is
//! there and what is missing.

mod archive;
mod command;
mod segment;
mod timeline;

#[cfg(test)]
pub(crate) use segment::tests::segment_bytes;

pub use archive::{Archive, IndexLine, SegmentState, WalGap};
pub use command::{Fetched, Pushed, fetch, push};
pub use segment::{SegmentHeader, SegmentName, SegmentSize, WalFile, read_header};
pub use timeline::{TimelineEntry, TimelineHistory};
