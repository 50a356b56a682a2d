//! The restore itself: the prepared data folder, replayed and looked at behind the fence, and put in the old one's place.

use camino::Utf8Path;

use super::{Coordinated, exchange::Exchange, record::Restored};
use crate::{
    backup::{Store, files, is_there},
    recovery::{
        Progress, RecoveryError,
        pipeline::captured_tables,
        server::{ASKED_FOR, Configuration, Fenced, Heard, Replay, Seen, is_same, recovery_settings_in, tls_files},
        wal::{WINDOW, history_in, restore},
    },
};
use cdc_model::{
    moment,
    units::{IfThere, Lsn, Timeline},
};
use cdc_pipeline::config::Temporary;
use cdc_postgres::{
    command,
    wal::{SegmentName, WalFile},
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

    async fn replay_in(
        &mut self,
        fresh: &Utf8Path,
        reading: Reading,
    ) -> Result<(Replay, Timeline, Option<Lsn>, u64), RecoveryError> {
        clean_settings(fresh)?;
        self.keep_configuration(fresh).await?;
        Store::new(fresh)?.write(&fresh.join("recovery.signal"), b"")?;

        // Removed with what is in it when replay has ended.
        let laid_out = self.lay_out_wal()?;
        let settings = self.replay_settings(laid_out.as_ref().map(Temporary::path));
        let log = self.own_file(STEP, "postgres.log")?;
        // Emptied: what an earlier start said must not be read as this one's.
        self.repository.store().write(&log, b"")?;
        let sink = self.repository.store().append(&log)?;
        let place = (fresh, self.layout.config_file.as_deref());
        self.end_orphans()?;
        let mut server = Fenced::start(&self.tools, place, &self.owner, (&log, sink), &settings)?;
        moment::pass("replaying").await?;
        let replay = server.promoted(&|heard| self.tell(heard)).await?;
        moment::pass("promoted").await?;
        let looked = self.look(&mut server, &replay, reading).await;
        server.stop().await?;
        let (timeline, rows) = looked?;
        moment::pass("replayed").await?;
        // It names the settings of this start; another start must not repeat them.
        remove_if_there(&fresh.join("postmaster.opts"))?;
        let switch = switch_of(fresh, timeline)?;
        Ok((replay, timeline, switch, rows))
    }

    fn tell(&self, heard: Heard) {
        let Ok(facts) = self.point.postgres() else { return };
        let at = match heard.seen {
            Some(Seen::At(at)) => Some(at),
            Some(Seen::Segment(name)) => name.start(self.segment_size),
            None => None,
        };
        let to = self.aim.at.or(self.learned.end.as_ref().map(|end| end.last));
        let (asked_for, still_seconds) = (heard.asked_for, heard.still.as_secs());
        let from = facts.start_lsn;
        self.pipeline.watch.tell(Progress::Replay { at, from, to, asked_for, still_seconds });
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

    /// Requires that the data folder would start as a plain server.
    pub(super) fn no_settings_left(&self) -> Result<String, RecoveryError> {
        let path = self.pgdata.join("postgresql.auto.conf");
        let text = fs_err::read_to_string(&path).map_err(|e| RecoveryError::io("read", &path, e))?;
        let mut left = recovery_settings_in(&text).1;
        for signal in ["recovery.signal", "standby.signal"] {
            if is_there(&self.pgdata.join(signal))? {
                left.push(signal.to_owned());
            }
        }
        match left.is_empty() {
            true => Ok("no recovery setting is left in the data folder".into()),
            false => Err(RecoveryError::unmet("open", "no recovery setting in the data folder", left.join("; "))),
        }
    }

    /// Archived segments that replay from the point on may ask for.
    pub(super) fn archived_since_the_point(&self) -> Result<Vec<SegmentName>, RecoveryError> {
        let first = self.segment_size.segment_of(self.point.postgres()?.start_lsn);
        let archive = self.repository.archive(self.system_id);
        let mut names = Vec::new();
        for timeline in archive.timelines()? {
            let segments = archive.segments(timeline)?.into_iter();
            names.extend(segments.filter(|name| name.number(self.segment_size).is_some_and(|n| n >= first)));
        }
        Ok(names)
    }

    /// The archive as plain files beside the data folder, for a server that runs where this program does not: an image of
    /// another C library, a root file system that is read-only. Every file's checksum is verified on the way.
    fn lay_out_wal(&self) -> Result<Option<Temporary>, RecoveryError> {
        if !self.tools.elsewhere() {
            return Ok(None);
        }
        let folder = self.tools.large_temporary(WINDOW, 0);
        let folder = folder.map_err(|e| RecoveryError::io("make folder for WAL in", &self.tools.scratch(), e))?;
        let archive = self.repository.archive(self.system_id);
        let segments = self.archived_since_the_point()?.into_iter().map(WalFile::Segment);
        let histories = archive.history_files()?.into_keys().map(WalFile::History);
        for file in segments.chain(histories) {
            restore(&archive, &file, &folder.path().join(file.to_string()))?;
        }
        Ok(Some(folder))
    }

    /// On the command line, not in the folder: nothing of them outlives this start.
    fn replay_settings(&self, laid_out: Option<&Utf8Path>) -> Vec<(&str, String)> {
        let fetch = match laid_out {
            Some(folder) => format!("cp {}/%f %p", command::word(folder.as_str())),
            None => format!(
                "{} wal fetch --repository {} --system-id {} %f %p",
                command::word(self.archiver.as_str()),
                command::word(self.repository.path().as_str()),
                self.system_id
            ),
        };
        let salvaged = command::word(self.salvaged.as_str());
        let mut settings = vec![
            // What is said on standard error goes to the server's log, wherever the server runs.
            (
                "restore_command",
                format!(
                    "echo '{ASKED_FOR}%f' >&2; if [ -f {salvaged}/%f ]; then cp {salvaged}/%f %p; else {fetch}; fi"
                ),
            ),
            ("recovery_target_action", "promote".to_owned()),
            // Replay must not fail for settings that only matter to sessions during it.
            ("hot_standby", "off".to_owned()),
            // What must be archived stays marked, and is archived from its final place.
            ("archive_command", String::new()),
            ("recovery_target_inclusive", if self.request.exclusive { "off" } else { "on" }.to_owned()),
        ];
        if self.learned.pinned {
            settings.push(("recovery_target_timeline", self.aim.timeline.to_string()));
        }
        settings.extend(self.aim.setting.iter().map(|(name, value)| (name.as_str(), value.clone())));
        settings
    }

    /// Looks at the restored server before anybody else can: identity, state, target reached, tables readable.
    async fn look(
        &self,
        server: &mut Fenced,
        replay: &Replay,
        reading: Reading,
    ) -> Result<(Timeline, u64), RecoveryError> {
        let session = server.connect(&self.pipeline.config.postgres.url, None).await?;
        let place = session.text("show data_directory").await?.unwrap_or_default();
        if !is_same(Utf8Path::new(&place), &self.fresh()) {
            return Err(RecoveryError::unmet(
                STEP,
                format!("a server on {}", self.fresh()),
                format!("it is on {place}"),
            ));
        }
        let found = session.system_id().await?;
        if found != self.system_id {
            return Err(RecoveryError::unmet(STEP, format!("system identifier {}", self.system_id), found.to_string()));
        }
        if session.text("select pg_is_in_recovery()").await?.as_deref() != Some("f") || !server.alive() {
            return Err(RecoveryError::unmet(STEP, "a server that is promoted and alive", "it is not"));
        }
        let timeline = session.timeline().await?;
        if timeline <= self.aim.timeline || replay.new_timeline != Some(timeline) {
            let found = format!("timeline {timeline} (its log: {:?})", replay.new_timeline);
            return Err(RecoveryError::unmet(STEP, format!("a timeline after {}", self.aim.timeline), found));
        }
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
            if replay.stopping.is_none() {
                return Err(RecoveryError::unmet(
                    STEP,
                    format!("`recovery stopping` at {}", self.request.target),
                    "replay went to the end of the WAL",
                ));
            }
            return self
                .aim
                .holds(replay.redo_done)
                .map_err(|(expected, found)| RecoveryError::unmet(STEP, expected, found));
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

fn remove_if_there(path: &Utf8Path) -> Result<(), RecoveryError> {
    let removed = std::fs::remove_file(path).if_there();
    removed.map(drop).map_err(|e| RecoveryError::io("remove", path, e))
}

/// Removes recovery settings that the base backup brought along: with ours they would be two targets.
fn clean_settings(data: &Utf8Path) -> Result<(), RecoveryError> {
    let path = data.join("postgresql.auto.conf");
    let text = fs_err::read_to_string(&path).map_err(|e| RecoveryError::io("read", &path, e))?;
    let (kept, out) = recovery_settings_in(&text);
    if !out.is_empty() {
        Store::new(data)?.write(&path, kept.as_bytes())?;
    }
    remove_if_there(&data.join("standby.signal"))
}

/// Where a timeline left the one before it.
fn switch_of(data: &Utf8Path, timeline: Timeline) -> Result<Option<Lsn>, RecoveryError> {
    let path = data.join("pg_wal").join(WalFile::History(timeline).to_string());
    Ok(history_in(&path, timeline)?.ancestors.last().map(|a| a.end))
}

fn rename(from: &Utf8Path, to: &Utf8Path) -> Result<(), RecoveryError> {
    std::fs::rename(from, to).map_err(|e| RecoveryError::io("rename to", to, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_base_backup_brought_along_is_removed_or_the_restore_ends() {
        let folder = tempfile::tempdir().unwrap();
        let data = Utf8Path::from_path(folder.path()).unwrap();
        let settings = data.join("postgresql.auto.conf");
        fs_err::write(&settings, "work_mem = '4MB'\nrecovery_target = 'immediate'\n").unwrap();
        fs_err::write(data.join("standby.signal"), "").unwrap();
        clean_settings(data).unwrap();
        assert_eq!(fs_err::read_to_string(&settings).unwrap(), "work_mem = '4MB'\n");
        assert!(!is_there(&data.join("standby.signal")).unwrap());
        // With it the restored server would be a standby.
        fs_err::create_dir(data.join("standby.signal")).unwrap();
        assert!(clean_settings(data).unwrap_err().to_string().contains("standby.signal"));
    }
}
