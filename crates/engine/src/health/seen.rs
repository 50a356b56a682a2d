//! What was seen of a pipeline and its repository.

use cdc_model::units::{Lsn, PointId, SystemId, Timeline, Verdict, system_id_text};
use cdc_pipeline::config::{MonitorConfig, ObjectivesConfig};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    backup::{ArchiverEvent, Kind, Lost, Reach, TaskRecord},
    recovery::OpenRecovery,
};

/// An answer, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Known<T> {
    /// What was seen.
    Known(T),
    /// Why it could not be asked.
    Unknown(String),
}

impl<T> Known<T> {
    /// What was seen.
    pub fn get(&self) -> Option<&T> {
        match self {
            Known::Known(value) => Some(value),
            Known::Unknown(_) => None,
        }
    }

    /// An answer of a system, or the words of its error.
    pub(super) fn of<E: std::fmt::Display>(answer: Result<T, E>) -> Known<T> {
        answer.map_or_else(|error| Known::Unknown(error.to_string()), Known::Known)
    }
}

/// Everything that is judged and counted.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    /// What the pipeline is called.
    pub pipeline: String,
    /// When, by this machine's clock.
    pub at: Timestamp,
    /// What is late and what is much.
    pub limits: MonitorConfig,
    /// What was promised of a recovery.
    pub objectives: ObjectivesConfig,
    /// What the repository has; none where there is no repository.
    pub holdings: Known<Option<Holdings>>,
    /// What the database server says.
    pub server: Known<ServerSeen>,
    /// Who else answers: `kafka`, `connect`, `registry`.
    pub systems: Vec<SystemSeen>,
    /// A recovery of this pipeline that has not ended.
    pub open_recovery: Known<Option<OpenRecovery>>,
    /// How tasks ended last.
    pub tasks: Known<Vec<TaskRecord>>,
    /// The newest proof of a point of this pipeline.
    pub proof: Known<Option<ProofSeen>>,
}

/// What a repository has of a pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Holdings {
    /// The repository.
    pub repository: String,
    /// The pipeline's points, oldest first. A damaged one is of every pipeline.
    pub points: Vec<PointSeen>,
    /// How far a recovery can go from the newest point that it would start from.
    pub window: Option<Window>,
    /// Where archived WAL is missing between what is there.
    pub holes: Vec<WalHole>,
    /// What the repository takes, in bytes.
    pub used: u64,
    /// What it may take.
    pub budget: u64,
    /// What is free on its file system; null in a bucket.
    pub free: Option<u64>,
    /// What could not be looked at.
    pub notes: Vec<String>,
}

/// A recovery point.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PointSeen {
    /// Its id.
    pub point: PointId,
    /// Which parts it has; null where its manifest is damaged.
    pub kind: Option<Kind>,
    /// When its capture began.
    pub begin: Option<Timestamp>,
    /// When it ended.
    pub end: Option<Timestamp>,
    /// What it takes.
    pub bytes: u64,
    /// Why it cannot be used; null where its files are there, with their sizes.
    pub defect: Option<String>,
    /// The consistency checks that failed when it was taken.
    pub failed_checks: Vec<String>,
    /// When it last passed a deep check.
    pub checked: Option<Timestamp>,
    /// The hash of its manifest.
    #[serde(skip)]
    pub manifest: Option<String>,
    /// What a recovery from it can end in.
    #[serde(skip)]
    pub reachable: Vec<Reach>,
}

impl PointSeen {
    /// Whether a recovery starts from it unasked.
    pub fn is_usable(&self) -> bool {
        self.kind == Some(Kind::Full) && self.defect.is_none() && self.failed_checks.is_empty()
    }
}

/// A stretch of moments that the pipeline can go back to, each of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Window {
    /// The cluster.
    #[serde(with = "system_id_text")]
    pub system_id: SystemId,
    /// The timeline.
    pub timeline: Timeline,
    /// The first position.
    pub from: Lsn,
    /// The first position behind it.
    pub to: Lsn,
    /// When the point ended that it begins with.
    pub from_time: Option<Timestamp>,
    /// The time of the last commit in it; null where nothing says so.
    pub to_time: Option<Timestamp>,
}

/// Archived WAL that is missing, with other WAL behind it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct WalHole {
    /// The timeline.
    pub timeline: Timeline,
    /// The first segment that is missing.
    pub segment: String,
    /// Whether it lies behind the newest point that a recovery starts from: the newest position is out of reach.
    pub is_behind_newest: bool,
}

/// What the database server says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServerSeen {
    /// Where it writes, or replays.
    pub position: Option<Lsn>,
    /// How it archives.
    pub archiver: Known<ArchiverSeen>,
    /// Its replication slots.
    pub slots: Vec<SlotSeen>,
}

/// How a server archives, beside what the repository has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArchiverSeen {
    /// `archive_mode`.
    pub mode: String,
    /// Whether the last attempt failed.
    pub failing: bool,
    /// How many failed since the statistics were reset.
    pub failures: u64,
    /// The last that failed.
    pub last_failed: Option<ArchiverEvent>,
    /// The last that succeeded.
    pub last_archived: Option<ArchiverEvent>,
    /// How many finished files wait.
    pub late: u64,
    /// How long the oldest of them does, in seconds.
    pub oldest_waiting_seconds: Option<u64>,
    /// Files that the server gave away and that are nowhere.
    pub lost: Vec<Lost>,
}

/// A replication slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SlotSeen {
    /// Its name.
    pub name: String,
    /// Whether somebody streams from it.
    pub active: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Why nobody can stream from it again; null where somebody can.
    pub invalidated: Option<String>,
    /// The WAL that it holds back, in bytes.
    pub retained_bytes: Option<u64>,
}

/// Whether a system answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SystemSeen {
    /// `kafka`, `connect` or `registry`.
    pub system: &'static str,
    /// Why it does not; null where it does.
    pub silent: Option<String>,
}

/// A proof of a point.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProofSeen {
    /// The point.
    pub point: PointId,
    /// The hash of its manifest.
    #[serde(skip)]
    pub manifest: String,
    /// When it ended.
    pub at: Option<Timestamp>,
    /// How.
    pub verdict: Verdict,
    /// The command's exit code.
    pub exit_code: u8,
    /// Why it did not pass; empty where it did.
    pub reason: String,
    /// How long the restore took.
    pub rto_seconds: Option<f64>,
    /// When the last proof that passed had ended; null where none did.
    pub passed_at: Option<Timestamp>,
}

/// How long a recovery was last measured to take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LastRto {
    /// In seconds.
    pub seconds: f64,
    /// By what.
    pub source: RtoSource,
    /// When.
    pub at: Timestamp,
}

/// What measured it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RtoSource {
    /// A proof of a point.
    Proof,
    /// A drill on another stack.
    Drill,
    /// A recovery of this pipeline.
    Recovery,
}

impl RtoSource {
    /// The word in metrics.
    pub fn word(self) -> &'static str {
        match self {
            RtoSource::Proof => "proof",
            RtoSource::Drill => "drill",
            RtoSource::Recovery => "recovery",
        }
    }
}
