//! The WAL archive of a repository: `wal/<system id>/<timeline>/<segment>.zst` with an `index.jsonl`.
//!
//! [`push()`] and [`fetch()`] are what PostgreSQL's `archive_command` and `restore_command` run; [`Archive`] answers what is
//! there and what is missing.

mod archive;
mod command;
mod content;
mod continuity;
mod gap;
mod header;
mod index;
mod intake;
#[cfg(test)]
mod tests;

pub use archive::Archive;
pub use command::{Fetched, Pushed, fetch, push};
pub use gap::WalGap;
pub use header::read_header;
pub use index::IndexLine;
pub use intake::SegmentState;
