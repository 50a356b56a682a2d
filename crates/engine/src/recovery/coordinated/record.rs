//! What the record of a coordinated recovery has: what was decided before anything was touched, and what was learned on the way.

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::recovery::{
    RecoveryError,
    memory::Memory,
    server::{Layout, Replay},
    target::{Aim, GivenUp},
    wal::Tail,
};
use cdc_model::units::{Lsn, Offset, PointId, SystemId, Timeline, TopicPartition};
use cdc_postgres::control::ControlData;

/// Under which name the record has what was learned.
pub(super) const LEARNED: &str = "learned";
/// Under which name the record has what was prepared.
pub(super) const PREPARED: &str = "prepared";

/// What was decided by looking, before anything was touched: a run that goes on does not look for the target again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Goal {
    pub(super) point: PointId,
    pub(super) aim: Aim,
    pub(super) system_id: SystemId,
    pub(super) segment_bytes: u64,
    pub(super) pgdata: Utf8PathBuf,
    #[serde(default)]
    pub(super) layout: Layout,
    pub(super) control_data: Option<ControlData>,
    pub(super) old_timeline: Timeline,
    /// Whether the old server was up.
    pub(super) was_running: bool,
    #[serde(default)]
    pub(super) given_up: Vec<GivenUp>,
}

impl Goal {
    /// The data folder, behind links.
    pub(super) fn pgdata(&self) -> &Utf8Path {
        &self.pgdata
    }

    /// Where its parts lie.
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }
}

/// What a recovery learns between its steps.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Learned {
    /// The old folder's control file when the fence stood, as SHA-256; every start of a server writes it.
    pub(super) at_rest: Option<String>,
    /// The transactions that the target leaves out, counted behind the fence.
    #[serde(default)]
    pub(super) given_up: Option<Vec<GivenUp>>,
    /// Segments that were copied.
    pub(super) salvaged: Vec<String>,
    /// What was agreed to be lost.
    pub(super) lost: Option<String>,
    /// The last record of the old server.
    pub(crate) end: Option<Tail>,
    pub(super) pinned: bool,
    /// The restored data folder, once it was looked at.
    pub(crate) restored: Option<Restored>,
    /// Where each partition of the data topics began anew.
    pub(crate) cut: Vec<(TopicPartition, Offset)>,
}

/// What is made before anything stops.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Prepared {
    /// The folder that the base backup is extracted into; written down before it is made.
    pub(super) folder: Option<Utf8PathBuf>,
    /// Its WAL folder, where the old one's lies behind a link.
    pub(super) wal: Option<Utf8PathBuf>,
    /// Files and bytes of the base backup, each compared with its checksum.
    pub(super) extracted: Option<(u64, u64)>,
    /// Up to here every archived segment was compared with its checksum.
    pub(super) wal_checked_to: Option<Lsn>,
    /// Files and folders of the configuration outside the data folder that were made as the recovery point has them.
    #[serde(default)]
    pub(super) outside: Vec<Utf8PathBuf>,
    /// What became of the configuration, for a person.
    pub(super) configuration: Vec<String>,
}

/// How the restored server came out of its replay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Restored {
    /// What its log says.
    pub(crate) replay: Replay,
    /// The timeline it is on now.
    pub(crate) timeline: Timeline,
    /// Where it left the timeline before: later positions from before the recovery are abandoned.
    pub(crate) switch: Option<Lsn>,
    /// Where it was restored.
    pub(super) fresh: Utf8PathBuf,
    /// Where the old data folder is now.
    pub(crate) aside: Utf8PathBuf,
    /// Rows counted in captured tables.
    pub(crate) rows: u64,
}

/// The cluster that a recovery is of.
pub(crate) fn cluster(memory: &Memory) -> Result<SystemId, RecoveryError> {
    Ok(memory.decided::<Goal>()?.system_id)
}
