//! What a step brought about.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use crate::scenario::{Fault, GroupReset, Recover};
use cdc_model::{
    event::{Downtime, KindCounts, Loaded},
    units::{Epoch, Exit, Lsn, Offset, PointId, Timeline, TopicPartition, counted, pairs},
    vocabulary::{OnConflict, RecordsLostBy, TopicsRepair},
};
use cdc_verify::{PointView, RegistryView, observation::HeldRecord};
use cdc_workload::ledger::Tables;

/// Something that happened in a drill and that judgement depends on, in the order of the chronicle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact {
    /// A place in the WAL was given a name.
    Marked(Mark),
    /// A recovery point was taken.
    PointTaken {
        /// The scenario's name for it.
        name: String,
        /// Its id in the repository.
        point: PointId,
    },
    /// A command of the scenario's own took a backup.
    CommandBackup {
        /// The scenario's name for it.
        name: String,
        /// The pipeline as it was then, by the harness's own look.
        seen: PointView,
    },
    /// Transactions of a load failed that were to be committed, or rolled back on purpose.
    LoadFailed(FailedLoad),
    /// A load tried transactions of the kinds that the scenario names.
    KindsTried(Vec<KindCounts>),
    /// A consumer group was made.
    GroupMade(GroupMade),
    /// The registry as it was before a fault: what records were written under.
    RegistryBeforeFault(RegistryView),
    /// A fault was injected and landed.
    FaultInjected {
        /// The connector that it was aimed at.
        connector: String,
        /// The fault.
        fault: Fault,
    },
    /// What a topic held before it lost its records.
    RecordsHeld {
        /// The topic.
        topic: String,
        /// How they were lost.
        by: RecordsLostBy,
        /// Its records, by partition and offset.
        records: Vec<HeldRecord>,
        /// The next offset of each partition.
        ends: Vec<Offset>,
    },
    /// What stood in a schema-history topic when a coordinated recovery began.
    HistoryBefore {
        /// The topic.
        topic: String,
        /// Its records' values, as text.
        records: Vec<String>,
    },
    /// A recovery ended, or a control left it out: a new epoch begins.
    Recovered(Recovery),
    /// A recovery refused, or failed: the drill goes no further.
    Refused {
        /// Its exit code.
        exit: Exit,
        /// Its error.
        why: String,
    },
    /// What the recovery point holds that the drill is judged by.
    PointRead {
        /// Its id.
        point: PointId,
        /// What it holds.
        view: PointView,
    },
}

/// A place in the WAL that a step named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The scenario's name for it.
    pub name: String,
    /// The restore point's name.
    pub restore_point: String,
    /// Its position.
    pub lsn: Lsn,
    /// The server's clock then.
    pub time: jiff::Timestamp,
    /// The epoch it was set in.
    pub epoch: Epoch,
    /// The tables then, where no ledger knows them.
    pub tables: Option<Tables>,
}

/// A load of which transactions failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedLoad {
    /// How many were tried.
    pub attempted: u64,
    /// How many the server refused.
    pub failed: u64,
    /// Its first error; none where the program that writes does not pass it on.
    pub first_error: Option<String>,
}

impl FailedLoad {
    /// What failed of a load; none where nothing did.
    pub fn of(load: &Loaded) -> Option<FailedLoad> {
        let (attempted, failed, first_error) = match load {
            Loaded::Writers(counts) => (counts.attempted, counts.failed, counts.first_error.clone()),
            Loaded::Pgbench { processed, failed } => (processed + failed, *failed, None),
            Loaded::Command { .. } => return None,
        };
        (failed > 0).then_some(FailedLoad { attempted, failed, first_error })
    }
}

impl std::fmt::Display for FailedLoad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} of a load failed", self.failed, counted(self.attempted, "transaction"))?;
        match &self.first_error {
            Some(error) => write!(f, ", the first: {error}"),
            None => Ok(()),
        }
    }
}

/// A consumer group without members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMade {
    /// Its name on the broker.
    pub group: String,
    /// Where a consumer of it begins that finds no committed offset.
    pub reset: GroupReset,
    /// What it has committed.
    #[serde(with = "pairs")]
    pub committed: BTreeMap<TopicPartition, Offset>,
}

/// What a recovery was to keep of the epoch that it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EpochEnd {
    /// Everything committed in it.
    Kept,
    /// Everything up to the end of this timeline; epochs that began later, on other timelines, are abandoned as a whole.
    End {
        /// The timeline.
        timeline: Timeline,
    },
    /// What was committed up to this mark; later epochs before this recovery are abandoned as a whole.
    Mark {
        /// The mark.
        mark: Mark,
        /// The timeline on which its position is meant, where the scenario names one.
        timeline: Option<Timeline>,
    },
}

/// One recovery that the drill went through, or left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// What it was to keep.
    pub end: EpochEnd,
    /// The epoch that it ended.
    pub epoch: Epoch,
    /// The timeline that the epoch after it is on.
    pub timeline: Timeline,
    /// How it was done.
    pub means: Means,
    /// What it had to do to the data topics.
    pub topics: Topics,
    /// Whether it had to register the schema that the registry refused.
    pub accepts: bool,
    /// The tables that no ledger knows, as they stood when it had ended, or why they could not be read; none where nothing
    /// was captured at its mark, or writers went on.
    pub restored: Option<Result<Tables, String>>,
    /// Seconds it took.
    pub seconds: f64,
    /// How long it kept database and connectors down; none where a command did it, or it was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downtime: Option<Downtime>,
}

/// How a recovery was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Means {
    /// A control left it out.
    LeftOut,
    /// A playbook of the engine, with steps left out or a naive procedure in its place where a control says so.
    Playbook {
        /// The recovery point that it was based on, where it needed one.
        point: Option<PointId>,
        /// Where each partition of the data topics began anew; none where topics were not touched.
        cut: Vec<(TopicPartition, Offset)>,
        /// The data folder that it set aside, with WAL in it.
        aside: Option<Utf8PathBuf>,
    },
    /// A command of the scenario's own.
    Command {
        /// Where the WAL of the server lies that was there before, below `pg_wal`.
        wal: Utf8PathBuf,
        /// Whether it put another data folder in the place of the server's: the epochs before it are on other WAL, whatever their
        /// timelines are called.
        replaced: bool,
    },
}

/// What a recovery has to do to the data topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topics {
    /// They are emptied and filled by a new snapshot.
    Rebuilt,
    /// Their records stay.
    Kept,
}

impl From<&Recover> for Topics {
    fn from(wanted: &Recover) -> Topics {
        match wanted {
            Recover::Slot(slot) if slot.topics == TopicsRepair::Compensate => Topics::Kept,
            Recover::Schema(_) | Recover::Replay(_) => Topics::Kept,
            Recover::Slot(_) | Recover::Coordinated(_) | Recover::Exec(_) => Topics::Rebuilt,
        }
    }
}

/// Whether a recovery has to register the schema that the registry refused.
pub(super) fn accepts(wanted: &Recover) -> bool {
    matches!(wanted, Recover::Schema(schema) if schema.on_conflict == OnConflict::Accept)
}

impl Recovery {
    /// A recovery as the scenario asks for it.
    pub fn asked(wanted: &Recover, end: EpochEnd, epoch: Epoch, timeline: Timeline, means: Means) -> Recovery {
        let (topics, accepts) = (Topics::from(wanted), accepts(wanted));
        Recovery { end, epoch, timeline, means, topics, accepts, restored: None, seconds: 0.0, downtime: None }
    }

    /// Whether a command of the scenario's own did it.
    pub(crate) fn is_by_command(&self) -> bool {
        matches!(self.means, Means::Command { .. })
    }
}
