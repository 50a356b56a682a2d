//! The servers.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use cdc_model::vocabulary::RegistryStorageKind;

/// How the servers are set up. A variant's own part wins field by field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct StackPart {
    /// The schema registry.
    pub registry: RegistryPart,
    /// The source database.
    pub postgres: PostgresPart,
    /// The Connect worker.
    pub connect: ConnectPart,
}

/// The Connect worker, which drills share unless one brings plugins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ConnectPart {
    /// Folders with the jars of one plugin each: converters, transforms, whatever the connector's configuration names. The
    /// drill then has a worker of its own.
    #[schemars(with = "Vec<String>")]
    pub plugins: Vec<Utf8PathBuf>,
}

/// The schema registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RegistryPart {
    /// Where it keeps its schemas; `h2` unless said otherwise.
    pub storage: Option<RegistryStorageKind>,
}

/// The source database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct PostgresPart {
    /// The size of a WAL segment in MiB, a power of two from 1 to 1024; 16 unless said otherwise.
    #[schemars(range(min = 1, max = 1024))]
    pub wal_segment_mib: Option<u32>,
    /// How much WAL a slot may hold back, in MiB; unlimited unless said otherwise.
    #[schemars(range(min = 1))]
    pub max_slot_wal_keep_mib: Option<u32>,
    /// Further server settings, by name.
    pub settings: BTreeMap<String, String>,
}
