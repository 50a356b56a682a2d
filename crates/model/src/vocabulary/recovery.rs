//! Recoveries.

use super::words::words;

words! {
    /// How topics are made right after a hole.
    #[derive(Default)]
    pub enum TopicsRepair: "repair of topics" {
        /// They are deleted and recreated before the new snapshot.
        #[default]
        Purge = "purge",
        /// A delete and a tombstone are written for each key that is no longer in its table.
        Compensate = "compensate",
    }
}

words! {
    /// The decision about an incompatible change.
    #[derive(Default)]
    #[schemars(rename = "AcceptOrReject")]
    pub enum OnConflict: "decision" {
        /// It is undone at the source.
        #[default]
        Reject = "reject",
        /// It is let through for that subject only.
        Accept = "accept",
    }
}

words! {
    /// Something that a recovery may lose for good. Each is agreed to by its name, and to agree to one is to agree to no other.
    pub enum Loss: "loss" {
        /// Transactions that were acknowledged after the last WAL that can be read.
        Wal = "wal",
        /// What a registry that stores in the cluster was given since the target.
        Registry = "registry",
        /// Records that a topic deletes less than an hour after the snapshot wrote them.
        Retention = "retention",
    }
}

impl Loss {
    /// The option by which it is agreed to.
    pub const fn option(self) -> &'static str {
        match self {
            Loss::Wal => "--accept-loss wal",
            Loss::Registry => "--accept-loss registry",
            Loss::Retention => "--accept-loss retention",
        }
    }
}

words! {
    /// Something that the restore of a part may give up, agreed to by its name.
    pub enum PartLoss: "loss" {
        /// Stored offsets of connectors: what they have not read yet is only known by a new snapshot.
        Offsets = "offsets",
    }
}
