//! The WAL archive of a repository, one of each cluster: `wal/<system id>/`.
//!
//! [`push()`] and [`fetch()`] are what PostgreSQL's `archive_command` and `restore_command` run; [`Archive`] answers what is
//! there and what is missing. How files are kept is the format's: [`objects`] or, in repositories of format 1, [`indexed`].

mod archive;
mod command;
mod continuity;
mod following;
mod frame;
mod gap;
mod head;
mod header;
mod held;
mod index;
mod indexed;
mod intake;
mod judge;
mod name;
mod objects;
mod offered;
mod prefetch;
#[cfg(test)]
mod tests;

pub use archive::Archive;
pub use command::{Fetched, Pushed, fetch, push};
pub use following::default_workers;
pub use gap::WalGap;
pub(crate) use head::Head;
pub use header::read_header;
pub use held::Held;
pub(crate) use index::Index;
use index::IndexLine;
pub use intake::SegmentState;
pub use objects::PUSH_MOMENTS;
pub use prefetch::{clear_prefetched, prefetch};
