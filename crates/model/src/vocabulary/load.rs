//! Loads.

use super::words::words;

words! {
    /// What a load can be made to contain.
    pub enum Must: "kind of change" {
        /// Rows with keys that did not exist before.
        InsertNewKeys = "insert-new-keys",
        /// Updates of existing rows.
        Update = "update",
        /// Deletes of existing rows.
        Delete = "delete",
        /// Updates that change a row's key.
        ChangeKey = "change-key",
        /// Transactions that are rolled back.
        RollBack = "roll-back",
        /// Transactions with a savepoint that is rolled back to.
        Savepoint = "savepoint",
        /// Transactions over several tables.
        MultiTable = "multi-table",
    }
}
