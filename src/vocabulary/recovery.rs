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
