//! Retention and budget: which recovery points and which archived WAL go, decided apart from how they go.
//!
//! [`decide`] is a pure function of what a repository holds. [`carry_out`] announces what goes in `pruned.json` and removes it then, so
//! that the same can go on after a kill at any moment.

mod act;
mod carry_out;
mod command;
mod decide;
mod keep;
mod room;
mod stock;
#[cfg(test)]
mod tests;
mod topics;

pub use command::{PruneOptions, PruneReport, PrunedPoint, prune};
pub(super) use command::{prune_after_backup, room_for_backup};
pub use keep::Keep;
pub use room::Room;
pub use topics::PrunedTopicBackup;
