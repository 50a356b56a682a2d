//! A restore, carried out.

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use super::{
    place::{Record, Restored},
    plan::RestorePlan,
};
use crate::{
    backup::{
        Activity, Store,
        parts::postgres::{self as base},
    },
    recovery::{
        Progress, RecoveryError, Watch,
        replay::{
            Player, blocking, check_archived, clean_settings, no_settings_left, remove_if_there, replays, wait_for_end,
        },
        server::{Replay, copy_reachable, read_control_data, start_dry},
    },
};
use cdc_model::{
    moment,
    units::{IfThere, Lsn, PointId, SystemId, Timeline, system_id_text},
};

const STEP: &str = "restore";
/// Under which name its moments can be interrupted.
pub(in crate::recovery) const PROCEDURE: &str = "postgres-restore";
/// What has just been done, in order; `moved` is before what makes the folder a data folder.
pub(in crate::recovery) const MOMENTS: [&str; 7] =
    ["begun", "extracted", "replaying", "promoted", "replayed", "moved", "placed"];
/// A cluster that was stopped cleanly, by its control file.
const SHUT_DOWN: &str = "shut down";

/// What a restore did, or would do.
#[derive(Clone, Debug, Serialize)]
pub struct RestoreOutcome {
    /// The data folder.
    pub pgdata: Utf8PathBuf,
    /// The cluster.
    #[serde(with = "system_id_text")]
    pub system_id: SystemId,
    /// The recovery point.
    pub point: PointId,
    /// The target, as it was asked for.
    pub target: String,
    /// The timeline that is replayed.
    pub replayed: Timeline,
    /// The last transaction that is kept, by the archived WAL: `743, committed at 2026-11-22T20:50:11Z (0/307D9F8)`. Absent where none
    /// committed since the recovery point.
    pub last_commit: Option<String>,
    /// Its time, by the server's clock.
    pub last_commit_at: Option<jiff::Timestamp>,
    /// The position behind the last replayed record, by the server's word; absent in a plan.
    pub ended_at: Option<Lsn>,
    /// The timeline that the restored cluster is on; absent in a plan.
    pub timeline: Option<Timeline>,
    /// What a person should know.
    pub notes: Vec<String>,
}

impl RestorePlan {
    /// What it says before anything is done.
    pub fn outcome(&self) -> RestoreOutcome {
        self.told(None)
    }

    fn told(&self, restored: Option<&Restored>) -> RestoreOutcome {
        let Record { point, aim, system_id, last_commit, last_commit_at, .. } = &self.record;
        RestoreOutcome {
            pgdata: self.place.pgdata.clone(),
            system_id: *system_id,
            point: point.clone(),
            target: self.request.target.to_string(),
            replayed: aim.followed().timeline,
            last_commit: last_commit.clone(),
            last_commit_at: *last_commit_at,
            ended_at: restored.map(|restored| restored.end),
            timeline: restored.map(|restored| restored.timeline),
            notes: self.notes.iter().chain(&aim.notes).cloned().collect(),
        }
    }

    /// Carries it out. Ends with a data folder of a server that was shut down, on a timeline of its own, without recovery settings.
    pub async fn run(mut self, watch: &Watch) -> Result<RestoreOutcome, RecoveryError> {
        let lock = self.repository.lock(Activity::Restore, "postgres restore")?;
        let taken = self.place.take(&self.owner)?;
        // Again, now that no other may begin.
        self.place.look()?;
        moment::of_step(PROCEDURE, self.carry_out(watch)).await?;
        drop((taken, lock));
        let mut outcome = self.told(self.record.restored.as_ref());
        outcome.notes.push(
            "nothing was archived: a server that is started there archives as its configuration says, this timeline included; where the \
             old server goes on, give it an archive of its own"
                .to_owned(),
        );
        Ok(outcome)
    }

    async fn carry_out(&mut self, watch: &Watch) -> Result<(), RecoveryError> {
        let fresh = self.place.fresh();
        if self.record.restored.is_none() {
            self.place.write(&self.owner, &self.record)?;
            moment::pass("begun").await?;
            wait_for_end(&self.request.tools, &fresh).await?;
            if !replays(&fresh)? {
                self.extract(&fresh, watch).await?;
            }
            moment::pass("extracted").await?;
            let restored = self.replay(&fresh, watch).await?;
            self.record.restored = Some(restored);
            self.place.write(&self.owner, &self.record)?;
            moment::pass("replayed").await?;
        }
        self.place.put_content()?;
        moment::pass("moved").await?;
        self.place.put()?;
        moment::pass("placed").await?;
        self.owner.open_as_before(&self.place.pgdata)?;
        no_settings_left(&self.place.pgdata)?;
        self.place.clear()
    }

    /// The base backup, every file compared with its checksum, and the WAL that it needs.
    async fn extract(&self, fresh: &Utf8Path, watch: &Watch) -> Result<(), RecoveryError> {
        let facts = self.point.postgres()?;
        std::fs::remove_dir_all(fresh).if_there().map_err(|e| RecoveryError::io("remove", fresh, e))?;
        Store::owned(&self.place.pgdata, self.owner.ids()).folder(fresh)?;
        let archive = self.repository.archive(self.record.system_id);
        let reach = (facts.start_lsn, self.aim().at.or(self.record.end));
        check_archived(&archive, &self.point, self.aim(), self.segment_size, reach, watch.clone()).await?;
        let (point, into, owner) = (self.point.clone(), fresh.to_owned(), self.owner.account());
        let (watch, tools) = (watch.clone(), self.request.tools.clone());
        let total = base::bytes_to_restore(&self.point)?;
        blocking(move || {
            let heard = |done| watch.tell(Progress::Bytes { what: "base backup".into(), done, total });
            base::extract(&point, &tools, &into, owner, &heard)?;
            Ok(())
        })
        .await?;
        self.owner.open_as_before(fresh)?;
        clean_settings(fresh)?;
        self.outside.put(self.owner.ids())?;
        start_dry(&self.request.tools, &self.owner, fresh, self.config_file.as_deref(), facts.version.major()).await
    }

    /// Replays to the target, looks at the server, and shuts it down.
    async fn replay(&self, fresh: &Utf8Path, watch: &Watch) -> Result<Restored, RecoveryError> {
        let tools = &self.request.tools;
        let program = copy_reachable(&self.program, &self.owner, tools, &self.place.work().join("bin"))?;
        let player = Player {
            tools,
            owner: &self.owner,
            repository: &self.repository,
            system_id: self.record.system_id,
            segment_size: self.segment_size,
            point: &self.point,
            aim: self.aim(),
            exclusive: self.request.exclusive,
            pinned: true,
            program: &program,
            salvaged: &self.salvaged,
            config_file: self.config_file.as_deref(),
        };
        let store = Store::owned(&self.place.pgdata, self.owner.ids());
        let log = self.place.log();
        store.write(&log, b"")?;
        let sink = store.append(&log)?;
        let mut playing = player.start(fresh, (&log, sink))?;
        moment::pass("replaying").await?;
        let to = self.aim().at.or(self.record.end);
        let heard = |heard| {
            if let Some(progress) = player.progress(heard, to) {
                watch.tell(progress);
            }
        };
        let replay = playing.server.promoted(&heard).await?;
        moment::pass("promoted").await?;
        let session = playing.server.connect(&self.request.url, Some("template1")).await?;
        let timeline = player.look(&session, &mut playing.server, fresh, &replay).await?;
        let end: Lsn = session.value("select pg_last_wal_replay_lsn()").await?;
        drop(session);
        match self.record.end {
            None => player.reached(&replay)?,
            Some(end) => reached_end(&replay, end)?,
        }
        playing.server.shut_down().await?;
        // It names the settings of this start; another start must not repeat them.
        remove_if_there(&fresh.join("postmaster.opts"))?;
        let control = read_control_data(tools, fresh).await?;
        if control.state != SHUT_DOWN || control.timeline != timeline {
            let expected = format!("a cluster that is {SHUT_DOWN}, on timeline {timeline}");
            let found = format!("{}, on timeline {}; the server's log is {log}", control.state, control.timeline);
            return Err(RecoveryError::unmet(STEP, expected, found));
        }
        no_settings_left(fresh)?;
        Ok(Restored { timeline, end })
    }
}

/// Without a target a server takes every hole for the end of the WAL.
fn reached_end(replay: &Replay, end: Lsn) -> Result<(), RecoveryError> {
    if replay.redo_done == Some(end) {
        return Ok(());
    }
    let done = replay.redo_done.map_or_else(|| "nothing".to_owned(), |done| done.to_string());
    Err(RecoveryError::unmet(STEP, format!("redo done at {end}, the last record of the archive"), done))
}
