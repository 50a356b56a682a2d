//! The write-ahead log: how its files are named, what they begin with, which timeline owns which stretch, and how `pg_waldump`
//! prints its records.

mod facts;
mod header;
mod history;
mod record;
mod segment;

pub use facts::{CommitPlace, Commits, RestorePoint, SegmentFacts};
pub use header::{PAGE, SegmentHeader, page_place, payload};
pub use history::{TimelineEntry, TimelineHistory};
pub use record::{Record, missing_file, record_in_error, skipped_to};
pub use segment::{SegmentName, SegmentSize, WalFile, WalNameError, timeline_digits, timeline_of};
