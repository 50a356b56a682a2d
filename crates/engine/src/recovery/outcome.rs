//! What a recovery hands back.

use serde::Serialize;

use super::{NewPoint, Playbook, Target};
use cdc_model::{
    event::{CheckReport, Downtime, StepReport},
    units::{Lsn, Offset, PointId, Timeline, TopicPartition, Verdict},
};

/// What the command prints: a plan, or what was done.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// `coordinated`, `slot` or `schema`.
    pub playbook: Playbook,
    /// The recovery point used; null when the playbook needs none.
    pub point: Option<PointId>,
    /// Where point-in-time recovery stopped; null when nothing went back in time.
    pub target: Option<Target>,
    /// The steps, planned or done.
    pub steps: Vec<StepReport>,
    /// `passed` when every step reached its postcondition; `inconclusive` for a plan.
    pub verdict: Verdict,
    /// What was diagnosed, and what a person should know.
    pub findings: Vec<String>,
    /// What the diagnosis could not look at, and why; nothing is known of it.
    pub not_looked_at: Vec<String>,
    /// That the connectors of others were left alone: their topics by id, offsets and slots before and after. Null in a
    /// plan, and where there are no others.
    pub neighbours: Option<CheckReport>,
    /// That WAL of the restored server's timeline reaches the archive, read back from there. Null in a plan, and where nothing was restored.
    pub archiving: Option<CheckReport>,
    /// The recovery point that was taken in the end. Null in a plan, where nothing was restored, and where `[recovery] point` does not ask
    /// for one.
    pub new_point: Option<NewPoint>,
    /// How long what clients use was down. Null in a plan, and where nothing was stopped.
    pub downtime: Option<Downtime>,
}

/// The last record of the old server's WAL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndOfWal {
    /// The timeline it is on.
    pub timeline: Timeline,
    /// Where it starts.
    pub last_record: Lsn,
}

/// A recovery that reached all of its postconditions.
#[derive(Clone, Debug, Serialize)]
pub struct Recovered {
    /// What was done.
    pub outcome: Outcome,
    /// The recovery's id.
    pub id: String,
    /// The folder of its record.
    pub record: camino::Utf8PathBuf,
    /// The source connectors of the cluster.
    pub sources: Vec<String>,
    /// Those of them that are at rest, as they were found: nobody can say of them that they deliver.
    pub resting: Vec<String>,
    /// Seconds from the start of this run to its last step's end.
    pub seconds: f64,
    /// Where each partition of the data topics began anew.
    pub epoch_cut: Vec<(TopicPartition, Offset)>,
    /// The timeline that was left, and where: positions beyond, from before the recovery, are abandoned.
    pub abandoned: Option<(Timeline, Lsn)>,
    /// The timeline the restored server is on.
    pub timeline: Option<Timeline>,
    /// The end of the old server's WAL.
    pub end_of_wal: Option<EndOfWal>,
    /// The data folder that was set aside.
    pub aside: Option<camino::Utf8PathBuf>,
}
