//! What a stack should be: data, no process yet.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;

use cdc_model::vocabulary::RegistryStorageKind;
use cdc_pipeline::config::{ConnectConfig, Hook, KafkaConfig, RegistryConfig};

/// A server of a stack: not there, run by the stack, or run by somebody else.
#[derive(Clone, Debug, Default)]
pub enum Part<L, E> {
    /// The stack does without it.
    #[default]
    Absent,
    /// The stack runs it.
    Local(L),
    /// It runs already; this is how to reach it.
    External(E),
}

/// A whole stack.
#[derive(Clone, Debug, Default)]
pub struct StackSpec {
    /// The PostgreSQL cluster.
    pub postgres: Option<PostgresSpec>,
    /// The broker.
    pub kafka: Part<(), KafkaConfig>,
    /// The Connect worker.
    pub connect: Part<(), ConnectConfig>,
    /// The schema registry.
    pub registry: Part<RegistrySpec, RegistryConfig>,
    /// Hooks of servers that others run, copied into the configuration.
    pub control: BTreeMap<String, Hook>,
    /// Brokers of the stack's own, of which the first is the controller; at least one.
    pub brokers: u16,
    /// Connect workers of the stack's own, in one cluster; at least one.
    pub workers: u16,
    /// More settings of every broker; a later one stands for an earlier one, and `@listeners@` and `@port@` for its own.
    pub kafka_settings: Vec<(String, String)>,
    /// Ports asked for, by server; the others are chosen.
    pub ports: BTreeMap<String, u16>,
    /// The Connect worker, where the stack runs it.
    pub worker: WorkerSpec,
}

impl StackSpec {
    /// All four servers.
    pub fn whole(registry: RegistryStorageKind) -> StackSpec {
        StackSpec {
            postgres: Some(PostgresSpec::default()),
            kafka: Part::Local(()),
            connect: Part::Local(()),
            registry: Part::Local(RegistrySpec::new(registry)),
            ..StackSpec::default()
        }
    }
}

/// A Connect worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSpec {
    /// Its group, which also begins the names of its three topics: several workers on one broker need different ones.
    pub group: String,
    /// Folders with the jars of one further plugin each; they are copied.
    pub plugins: Vec<Utf8PathBuf>,
}

impl Default for WorkerSpec {
    fn default() -> Self {
        WorkerSpec { group: "connect".to_owned(), plugins: Vec::new() }
    }
}

impl WorkerSpec {
    /// The topics that it keeps its state in: configurations, offsets, status.
    pub fn topics(&self) -> [String; 3] {
        ["configs", "offsets", "status"].map(|name| format!("{}-{name}", self.group))
    }
}

/// A PostgreSQL cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresSpec {
    /// The size of a WAL segment in MiB: a power of two.
    pub wal_segment_mib: u32,
    /// `max_slot_wal_keep_size`: `-1`, or a size; small to have slots invalidated.
    pub max_slot_wal_keep_size: String,
    /// Whether WAL is archived into the repository.
    pub archive: bool,
    /// More settings, in the end of `postgresql.conf`, values as PostgreSQL wants them, quotes included.
    pub settings: Vec<(String, String)>,
    /// That the data folder is restored from a backup before the server starts, instead of being made.
    pub restored: Option<RestoredSpec>,
}

/// A data folder that was somebody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredSpec {
    /// Its major version.
    pub major: u32,
    /// The folder of PostgreSQL's programs of that version; those of the stack where it has no name.
    pub bin: Utf8PathBuf,
}

impl Default for PostgresSpec {
    fn default() -> Self {
        PostgresSpec {
            wal_segment_mib: 16,
            max_slot_wal_keep_size: "-1".to_owned(),
            archive: true,
            settings: Vec::new(),
            restored: None,
        }
    }
}

/// A schema registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrySpec {
    /// Where it keeps its schemas.
    pub storage: RegistryStorageKind,
    /// Begins the names of its topics and consumer groups, so that several can share a broker; empty for the usual names.
    pub topic_prefix: String,
}

impl RegistrySpec {
    /// A registry under the usual names.
    pub fn new(storage: RegistryStorageKind) -> RegistrySpec {
        RegistrySpec { storage, topic_prefix: String::new() }
    }
}
