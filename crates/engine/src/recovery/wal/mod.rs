//! The write-ahead log as a recovery sees it: what is where, where it ends, and what is marked in it.

mod dump;
mod scan;
mod view;

#[cfg(test)]
mod tests;

pub(super) use dump::{Commit, Tail, TransactionEnd};
pub(super) use scan::Scanned;
pub(super) use view::{WINDOW, WalView, history_in, restore};
