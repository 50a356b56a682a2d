//! The WAL archive of a repository: `wal/<system id>/<timeline>/<segment>.zst` with an `index.jsonl`.
//!
//! [`push()`] and [`fetch()`] are what PostgreSQL's `archive_command` and `restore_command` run; [`Archive`] answers what is
//! there and what is missing.

mod archive;
mod command;
mod header;

pub use archive::{Archive, IndexLine, SegmentState, WalGap};
pub use command::{Fetched, Pushed, fetch, push};
pub use header::read_header;
