//! The write-ahead log as a recovery sees it: what is where, where it ends, and what is marked in it.

mod dump;
mod scratch;
mod view;

pub(super) use dump::{Commit, Tail};
pub(super) use scratch::Scratch;
pub(super) use view::{Scanned, WalView, history_in, restore};
