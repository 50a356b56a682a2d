//! Faults.

use super::words::words;

words! {
    /// How a topic loses its records.
    pub enum RecordsLostBy: "way to lose records" {
        /// The topic is deleted.
        Deletion = "deletion",
        /// Its records are deleted, to the end of every partition; the topic stays.
        Truncation = "truncation",
    }
}

words! {
    /// A change of a column that the registry refuses under BACKWARD.
    pub enum ColumnChange: "change of a column" {
        /// An integer column becomes text.
        IntToText = "int-to-text",
        /// A nullable column without default becomes NOT NULL.
        SetNotNull = "set-not-null",
        /// A new column, NOT NULL and without default.
        AddNotNull = "add-not-null",
    }
}
