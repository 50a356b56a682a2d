//! The room that a repository has, in bytes.

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// The WAL that is always kept room for, where the archive does not say how much comes: four segments of the usual size.
const WAL_LEAST: u64 = 64 << 20;
/// The share of the room that is kept for WAL at most: one in so many.
const WAL_MOST: u64 = 4;

/// What a repository takes, may take, and needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// What it takes.
    pub used: u64,
    /// What it may take.
    pub budget: u64,
    /// What is free on its file system; [`Room::NO_LIMIT`] in a bucket.
    pub free: u64,
    /// What is kept for archived WAL that is still to come.
    pub for_wal: u64,
    /// What a recovery point that is to be taken will need, as far as can be told.
    pub expected: u64,
}

impl Room {
    /// What is free where nothing but the budget limits what is stored.
    pub const NO_LIMIT: u64 = u64::MAX;

    /// The room with a reserve for WAL, by the bytes that were archived since the newest recovery point began.
    pub(super) fn with_wal(self, since_newest: u64) -> Room {
        Room { for_wal: since_newest.max(WAL_LEAST).min(self.limit() / WAL_MOST), ..self }
    }

    /// What it can take: the budget, or what the disk holds.
    pub(super) fn limit(&self) -> u64 {
        self.budget.min(self.used.saturating_add(self.free))
    }

    /// What is left for a recovery point.
    pub(super) fn left(&self) -> u64 {
        self.limit().saturating_sub(self.used.saturating_add(self.for_wal))
    }

    /// What is missing of the room for WAL and for the point that is expected.
    pub(super) fn short(&self) -> u64 {
        let wanted = self.used.saturating_add(self.for_wal).saturating_add(self.expected);
        wanted.saturating_sub(self.limit())
    }

    /// The room once some bytes are removed.
    pub(super) fn without(self, freed: u64) -> Room {
        Room { used: self.used.saturating_sub(freed), free: self.free.saturating_add(freed), ..self }
    }
}

impl std::fmt::Display for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Room { used, budget, free, for_wal, expected } = *self;
        let [used, budget, for_wal, expected] = [used, budget, for_wal, expected].map(ByteSize);
        let of_it = match free {
            Room::NO_LIMIT => String::new(),
            free => format!(", {} free on the file system", ByteSize(free)),
        };
        write!(f, "{used} used of a budget of {budget}{of_it}, {for_wal} of it kept for WAL, {expected} needed")
    }
}
