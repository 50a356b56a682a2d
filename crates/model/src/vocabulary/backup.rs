//! Recovery points.

use super::words::words;

words! {
    /// A part of a recovery point.
    #[allow(missing_docs, reason = "the parts' own names")]
    pub enum BackupPart: "part" {
        Postgres = "postgres",
        Connect = "connect",
        Registry = "registry",
        Topics = "topics",
    }
}
