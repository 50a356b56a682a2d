//! The write-ahead log as a recovery sees it: what is where, where it ends, and what is marked in it.

mod dump;
mod view;

pub(super) use dump::{Commit, Tail, TransactionEnd};
pub(super) use view::{Scanned, WINDOW, WalView, history_in, restore};
