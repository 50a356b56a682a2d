//! The faults by name, and the guard that each leaves.

use super::{
    FaultError, Target,
    alter::Altered,
    database::Emptied,
    disturb::Disturbed,
    kill::Killed,
    pages::Flipped,
    records::RecordsLost,
    registry::{LevelSet, Lost, SubjectGone},
    slot::{Dropped, Invalidated},
};
use cdc_model::{
    event::{FaultReport, HookCall, Landed},
    units::{Subject, TableName},
    vocabulary::{ColumnChange, RecordsLostBy},
};
use cdc_pipeline::{
    attach,
    config::{Means, Permission, recorded},
};

/// Something to break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A DELETE without WHERE.
    DeleteAll {
        /// The table.
        table: TableName,
    },
    /// Checkpoint, evict, and flip bytes in heap pages that hold rows, under the living server.
    FlipHeapBytes {
        /// The table.
        table: TableName,
        /// In how many pages.
        pages: u32,
        /// Chooses the pages.
        seed: u64,
    },
    /// `kill -9` of the server and all of its processes.
    KillPostgres,
    /// The server is frozen, off its network, or short of memory.
    DisturbPostgres {
        /// Which of these.
        means: Means,
    },
    /// The walsender is terminated and the slot dropped before the connector is back.
    DropSlot,
    /// WAL is written until `max_slot_wal_keep_size` invalidates the slot. The connector must be stopped.
    InvalidateSlot,
    /// A column is changed, and a row written so that the change reaches the registry.
    AlterColumn {
        /// The table.
        table: TableName,
        /// The column: of the table, or the one to add.
        column: String,
        /// What is done.
        change: ColumnChange,
    },
    /// A topic loses its records.
    LoseRecords {
        /// The topic.
        topic: String,
        /// How.
        by: RecordsLostBy,
    },
    /// A subject is deleted for good, and its level with it.
    RegistryDeleteSubject {
        /// The subject.
        subject: Subject,
    },
    /// A compatibility level is changed.
    RegistrySetLevel {
        /// Of this subject; the global one unless said otherwise.
        subject: Option<Subject>,
        /// The level.
        level: String,
    },
    /// The registry's store is lost and it starts empty.
    RegistryLoseStorage {
        /// Whether the connector is restarted, so that it registers its schemas again.
        refill: bool,
    },
}

/// What a fault left, to look for its effect.
#[derive(Debug)]
enum Trace {
    Emptied(Emptied),
    Flipped(Flipped),
    Killed(Killed),
    Disturbed(Disturbed),
    Dropped(Dropped),
    Invalidated(Invalidated),
    Altered(Altered),
    RecordsLost(RecordsLost),
    SubjectGone(SubjectGone),
    LevelSet(LevelSet),
    Lost(Lost),
}

/// A fault that was injected. Look for its effect, and heal it on every exit.
#[must_use = "a fault that nobody looks for proves nothing"]
#[derive(Debug)]
pub struct FaultGuard {
    fault: &'static str,
    target: Target,
    trace: Trace,
    /// What was called to inject it.
    hooks: Vec<HookCall>,
}

impl Fault {
    /// The fault's name in the scenario language.
    pub fn word(&self) -> &'static str {
        match self {
            Fault::DeleteAll { .. } => "delete-all",
            Fault::FlipHeapBytes { .. } => "flip-heap-bytes",
            Fault::KillPostgres => "kill-postgres",
            Fault::DisturbPostgres { means: Means::Pause } => "pause-postgres",
            Fault::DisturbPostgres { means: Means::Disconnect } => "disconnect-postgres",
            Fault::DisturbPostgres { means: Means::Memory(_) } => "starve-postgres",
            Fault::DropSlot => "drop-slot",
            Fault::InvalidateSlot => "invalidate-slot",
            Fault::AlterColumn { .. } => "alter-column",
            Fault::LoseRecords { .. } => "lose-records",
            Fault::RegistryDeleteSubject { .. } => "registry-delete-subject",
            Fault::RegistrySetLevel { .. } => "registry-set-level",
            Fault::RegistryLoseStorage { .. } => "registry-lose-storage",
        }
    }

    /// Whether it damages the registry.
    pub(crate) fn damages_registry(&self) -> bool {
        matches!(
            self,
            Fault::RegistryDeleteSubject { .. } | Fault::RegistrySetLevel { .. } | Fault::RegistryLoseStorage { .. }
        )
    }

    /// Whether it damages the source database itself.
    pub(crate) fn damages_database(&self) -> bool {
        matches!(self, Fault::DeleteAll { .. } | Fault::FlipHeapBytes { .. } | Fault::KillPostgres)
    }

    /// Whether only the connector that it is aimed at suffers from it.
    pub(crate) fn is_of_one_connector(&self) -> bool {
        match self {
            Fault::DeleteAll { .. }
            | Fault::FlipHeapBytes { .. }
            | Fault::DropSlot
            | Fault::InvalidateSlot
            | Fault::AlterColumn { .. }
            | Fault::LoseRecords { .. }
            | Fault::RegistryDeleteSubject { .. } => true,
            Fault::RegistrySetLevel { subject, .. } => subject.is_some(),
            Fault::KillPostgres | Fault::DisturbPostgres { .. } | Fault::RegistryLoseStorage { .. } => false,
        }
    }

    /// Breaks it; a pipeline of somebody's only where it is permitted.
    pub async fn inject(&self, target: &Target) -> Result<FaultGuard, FaultError> {
        attach::permit(&target.config, Permission::Inject).await?;
        attach::within(&target.config, "topic prefix", [target.prefix.as_str()])?;
        let (trace, hooks) = recorded(self.injected(target)).await;
        Ok(FaultGuard { fault: self.word(), target: target.clone(), trace: trace?, hooks })
    }

    async fn injected(&self, target: &Target) -> Result<Trace, FaultError> {
        Ok(match self {
            Fault::DeleteAll { table } => Trace::Emptied(Emptied::inject(target, table).await?),
            Fault::FlipHeapBytes { table, pages, seed } => {
                Trace::Flipped(Flipped::inject(target, table, *pages, *seed).await?)
            }
            Fault::KillPostgres => Trace::Killed(Killed::inject(target).await?),
            Fault::DisturbPostgres { means } => Trace::Disturbed(Disturbed::inject(self.word(), target, *means).await?),
            Fault::DropSlot => Trace::Dropped(Dropped::inject(target).await?),
            Fault::InvalidateSlot => Trace::Invalidated(Invalidated::inject(target).await?),
            Fault::AlterColumn { table, column, change } => {
                Trace::Altered(Altered::inject(target, table, column, change).await?)
            }
            Fault::LoseRecords { topic, by } => Trace::RecordsLost(RecordsLost::inject(target, topic, *by).await?),
            Fault::RegistryDeleteSubject { subject } => Trace::SubjectGone(SubjectGone::inject(target, subject).await?),
            Fault::RegistrySetLevel { subject, level } => {
                Trace::LevelSet(LevelSet::inject(target, subject.as_ref(), level).await?)
            }
            Fault::RegistryLoseStorage { refill } => Trace::Lost(Lost::inject(target, *refill).await?),
        })
    }
}

impl FaultGuard {
    /// Looks for the effect. What cannot be looked at is inconclusive, never an error.
    pub async fn landed(&self) -> FaultReport {
        let (seen, looked) = recorded(self.look()).await;
        let (landed, evidence) = seen.unwrap_or_else(|e| (Landed::Inconclusive, e.to_string()));
        let hooks = self.hooks.iter().cloned().chain(looked).collect();
        FaultReport { fault: self.fault.to_owned(), landed, evidence, hooks }
    }

    async fn look(&self) -> Result<(Landed, String), FaultError> {
        match &self.trace {
            Trace::Emptied(trace) => trace.look(&self.target).await,
            Trace::Flipped(trace) => trace.look(&self.target).await,
            Trace::Killed(trace) => trace.look(&self.target).await,
            Trace::Disturbed(trace) => trace.look(&self.target).await,
            Trace::Dropped(trace) => trace.look(&self.target).await,
            Trace::Invalidated(trace) => trace.look(&self.target).await,
            Trace::Altered(trace) => trace.look(&self.target).await,
            Trace::RecordsLost(trace) => trace.look(&self.target).await,
            Trace::SubjectGone(trace) => trace.look(&self.target).await,
            Trace::LevelSet(trace) => trace.look(&self.target).await,
            Trace::Lost(trace) => trace.look(&self.target).await,
        }
    }

    /// What the registry held before it was lost; for [`super::records_under_other_ids`].
    pub(crate) fn registry_before(&self) -> Option<&super::RegistryBefore> {
        match &self.trace {
            Trace::Lost(lost) => Some(&lost.before),
            _ => None,
        }
    }

    /// Undoes what the fault needed and recovery need not know of. Safe to call more than once, and on a server that is
    /// gone.
    pub(crate) async fn heal(self) -> Result<(), FaultError> {
        match &self.trace {
            Trace::Invalidated(trace) => trace.heal(&self.target).await,
            Trace::Disturbed(trace) => trace.heal(&self.target).await,
            _ => Ok(()),
        }
    }
}
