//! What a step must know of the other parts.

use super::{tables::KnownTables, workload::WorkloadKind};
use cdc_model::vocabulary::RegistryStorageKind;

/// What the other parts of a variant say that decides whether a step can work.
pub(super) struct Surroundings {
    /// The captured tables.
    pub(super) tables: KnownTables,
    /// Whether there are several connectors.
    pub(super) several: bool,
    /// What writes.
    pub(super) workload: WorkloadKind,
    /// Where the registry keeps its schemas.
    pub(super) registry: RegistryStorageKind,
    /// Whether the server limits the WAL that a slot holds back.
    pub(super) limits_slots: bool,
}
