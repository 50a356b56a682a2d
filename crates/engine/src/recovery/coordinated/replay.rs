//! The restore itself: the prepared data folder, replayed and looked at behind the fence, and put in the old one's place.

use camino::Utf8Path;

use super::{Coordinated, exchange::Exchange, record::Restored};
use crate::{
    backup::{Store, files, is_there, wal},
    recovery::{
        RecoveryError,
        pipeline::captured_tables,
        replay::{Player, clean_settings, remove_if_there, switch_of},
        server::{Configuration, Fenced, Heard, Replay, tls_files},
    },
};
use cdc_model::{
    moment,
    units::{IfThere, Lsn, Timeline},
};

const STEP: &str = "restore";

/// What is read of a restored server before anybody else can reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Its own state, and every captured table. Reading sets hint bits, which a cluster with checksums writes to the WAL.
    CapturedTables,
    /// Its own state alone.
    State,
}

impl Coordinated {
    /// Replays the prepared folder to the target, looks at it, and exchanges it with the old data folder. What an earlier run replayed
    /// and looked at is put in its place as it is. A folder that was not replayed to its end stays: nothing is given up because of
    /// time, and the next run makes it anew only where it must.
    pub async fn restore(&mut self, reading: Reading) -> Result<(), RecoveryError> {
        self.check_rest().await?;
        if self.learned.restored.is_none() {
            let (fresh, aside) = (self.fresh(), self.beside("aside"));
            if self.prepared.extracted.is_none() || !is_there(&fresh)? {
                let expected = format!("a prepared data folder: the base backup extracted into {fresh}");
                return Err(RecoveryError::unmet(STEP, expected, "none"));
            }
            let (replay, timeline, switch, rows) = self.replay_in(&fresh, reading).await?;
            files::sync_folder(&fresh)?;
            self.learned.change(|l| l.restored = Some(Restored { replay, timeline, switch, fresh, aside, rows }))?;
        }
        self.exchange().await
    }

    /// Puts the restored data folder into the place of the old one, from wherever an earlier run left the two.
    async fn exchange(&mut self) -> Result<(), RecoveryError> {
        let Some(restored) = self.learned.restored.clone() else { return Ok(()) };
        let Restored { fresh, aside, .. } = &restored;
        let parent = self.pgdata.parent().unwrap_or(&self.pgdata).to_owned();
        loop {
            match Exchange::of(&self.pgdata, &restored)? {
                Exchange::Before => {
                    self.still_fenced().await?;
                    rename(&self.pgdata, aside)?;
                    moment::pass("set-aside").await?;
                }
                Exchange::Half => {
                    rename(fresh, &self.pgdata)?;
                    moment::pass("exchanged").await?;
                }
                Exchange::After => return Ok(()),
            }
            files::sync_folder(&parent)?;
        }
    }

    /// Gives up what was replayed, and makes a folder anew that was not: the old server ran since.
    pub(super) async fn discard(&mut self) -> Result<(), RecoveryError> {
        if self.learned.restored.is_none() {
            return Ok(());
        }
        self.remove_prepared().await?;
        if self.pipeline.course.prepares() {
            self.prepare().await?;
        }
        Ok(())
    }

    /// How the prepared folder is replayed.
    fn player(&self) -> Player<'_> {
        Player {
            tools: &self.tools,
            owner: &self.owner,
            repository: &self.repository,
            system_id: self.system_id,
            segment_size: self.segment_size,
            point: &self.point,
            aim: &self.aim,
            exclusive: self.request.exclusive,
            pinned: self.learned.pinned,
            program: &self.archiver,
            salvaged: &self.salvaged,
            config_file: self.layout.config_file.as_deref(),
        }
    }

    async fn replay_in(
        &mut self,
        fresh: &Utf8Path,
        reading: Reading,
    ) -> Result<(Replay, Timeline, Option<Lsn>, u64), RecoveryError> {
        clean_settings(fresh)?;
        self.keep_configuration(fresh).await?;
        let log = self.own_file(STEP, "postgres.log")?;
        // Emptied: what an earlier start said must not be read as this one's.
        self.repository.store().write(&log, b"")?;
        let sink = self.repository.store().append(&log)?;
        self.end_orphans()?;
        let mut playing = self.player().start(fresh, (&log, sink))?;
        moment::pass("replaying").await?;
        let replay = playing.server.promoted(&|heard| self.tell(heard)).await?;
        moment::pass("promoted").await?;
        let looked = self.look(&mut playing.server, &replay, reading).await;
        playing.server.stop().await?;
        wal::clear_prefetched(fresh)?;
        let (timeline, rows) = looked?;
        moment::pass("replayed").await?;
        // It names the settings of this start; another start must not repeat them.
        remove_if_there(&fresh.join("postmaster.opts"))?;
        let switch = switch_of(fresh, timeline)?;
        Ok((replay, timeline, switch, rows))
    }

    fn tell(&self, heard: Heard) {
        let to = self.aim.at.or(self.learned.end.as_ref().map(|end| end.last));
        if let Some(progress) = self.player().progress(heard, to) {
            self.pipeline.watch.tell(progress);
        }
    }

    /// Gives the folder the configuration that the old server had last: a base backup has it as it was, and an address that was let in
    /// since must not be locked out. Where the server would not start with it, and where it cannot be read, that of the backup stays.
    async fn keep_configuration(&mut self, fresh: &Utf8Path) -> Result<(), RecoveryError> {
        let outside = self.layout.config_file.is_some();
        let (now, base) = (Configuration::of(&self.pgdata, outside), Configuration::of(fresh, outside));
        let differing = now.differing(&base);
        let store = Store::owned(fresh, self.owner.ids());
        now.put_into(&store, &base)?;
        // Kept settings name them, and a base backup may be older than they are.
        for file in tls_files(&self.tools, &self.owner, fresh, self.layout.config_file.as_deref()).await {
            let old = self.pgdata.join(&file);
            if let Some(bytes) = std::fs::read(&old).if_there().map_err(|e| RecoveryError::io("read", &old, e))? {
                let to = fresh.join(&file);
                store.folder(to.parent().unwrap_or(fresh))?;
                store.write(&to, &bytes)?;
            }
        }
        let unreadable = now.unreadable.iter().map(|what| format!("configuration of the recovery point kept: {what}"));
        let mut told: Vec<String> = unreadable.collect();
        match self.start_dry(fresh, false).await {
            Ok(()) => told.extend(differing.iter().map(|file| format!("configuration kept as it was last: {file}"))),
            Err(error) => {
                base.put_into(&store, &Configuration::of(fresh, outside))?;
                self.start_dry(fresh, false).await?;
                told.push(format!(
                    "configuration of the recovery point kept: the server does not start with the last one: {error}"
                ));
            }
        }
        self.prepared.change(|p| p.configuration = told)
    }

    /// Looks at the restored server before anybody else can: what it is, target reached, tables readable.
    async fn look(
        &self,
        server: &mut Fenced,
        replay: &Replay,
        reading: Reading,
    ) -> Result<(Timeline, u64), RecoveryError> {
        let session = server.connect(&self.pipeline.config.postgres.url, None).await?;
        let timeline = self.player().look(&session, server, &self.fresh(), replay).await?;
        self.reached(replay)?;
        let mut rows = 0;
        for source in self.pipeline.sources.iter().filter(|_| reading == Reading::CapturedTables) {
            let session = server.connect(&self.pipeline.config.postgres.url, Some(&source.database)).await?;
            for table in captured_tables(&session, &source.capture).await? {
                rows += session.value::<u64>(&format!("select count(*) from {}", table.quoted())).await?;
            }
        }
        Ok((timeline, rows))
    }

    /// The target was reached when the server says so; `latest`, when it replayed exactly to the known end.
    fn reached(&self, replay: &Replay) -> Result<(), RecoveryError> {
        if self.aim.at.is_some() {
            return self.player().reached(replay);
        }
        // Without the salvage nobody knows where the WAL ended.
        let Some(end) = &self.learned.end else { return Ok(()) };
        match replay.redo_done {
            Some(done) if done == end.last => Ok(()),
            // Without the fence the archive goes on while it is replayed.
            Some(done) if !self.pipeline.course.fences() && done > end.last => Ok(()),
            done => {
                let done = done.map_or("nothing".into(), |d| d.to_string());
                Err(RecoveryError::unmet(
                    STEP,
                    format!("redo done at {}, the last valid record of timeline {}", end.last, self.old_timeline),
                    format!("redo done at {done}: the WAL between {done} and {} is missing", end.last),
                ))
            }
        }
    }
}

fn rename(from: &Utf8Path, to: &Utf8Path) -> Result<(), RecoveryError> {
    std::fs::rename(from, to).map_err(|e| RecoveryError::io("rename to", to, e))
}
