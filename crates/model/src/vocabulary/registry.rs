//! Schema registries.

use super::words::words;

words! {
    /// Where the registry keeps its schemas.
    pub enum RegistryStorageKind: "kind of storage" {
        /// An H2 database in a file.
        H2 = "h2",
        /// Topics of the broker.
        Kafkasql = "kafkasql",
    }
}
