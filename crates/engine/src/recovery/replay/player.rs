//! A server on an extracted base backup that replays to a target and promotes itself.

use std::fs::File;

use camino::Utf8Path;

use super::archived::archived_since;
use crate::{
    backup::{Point, Repository, Store, is_there},
    recovery::{
        Progress, RecoveryError,
        server::{
            ASKED_FOR, Fenced, Heard, Owner, Replay, Seen, end_orphans, is_occupied, is_same, recovery_settings_in,
        },
        target::Aim,
        wal::{WINDOW, history_in, restore},
    },
};
use cdc_model::units::{IfThere, Lsn, SystemId, Timeline};
use cdc_pipeline::{
    client::{
        limits,
        postgres::Postgres,
        wait::{self, Poll},
    },
    config::{Temporary, Tools},
};
use cdc_postgres::{
    command,
    wal::{SegmentSize, WalFile},
};

const STEP: &str = "restore";

/// How a data folder is replayed.
#[derive(Clone, Copy)]
pub(crate) struct Player<'a> {
    pub(crate) tools: &'a Tools,
    pub(crate) owner: &'a Owner,
    pub(crate) repository: &'a Repository,
    pub(crate) system_id: SystemId,
    pub(crate) segment_size: SegmentSize,
    pub(crate) point: &'a Point,
    pub(crate) aim: &'a Aim,
    /// Whether replay stops before the target instead of behind it.
    pub(crate) exclusive: bool,
    /// Whether it follows the target's timeline and no later one.
    pub(crate) pinned: bool,
    /// What fetches archived WAL.
    pub(crate) program: &'a Utf8Path,
    /// Where segments are that the archive may not take.
    pub(crate) salvaged: &'a Utf8Path,
    /// The server's main file, where it is not in the data folder.
    pub(crate) config_file: Option<&'a Utf8Path>,
}

/// A server that replays.
pub(crate) struct Playing {
    pub(crate) server: Fenced,
    /// WAL as plain files; removed with what is in it when replay has ended.
    _laid_out: Option<Temporary>,
}

impl Player<'_> {
    /// Starts the server on a folder without recovery settings; what it says goes to the log, an open file and its name.
    pub(crate) fn start(&self, data: &Utf8Path, log: (&Utf8Path, File)) -> Result<Playing, RecoveryError> {
        Store::new(data)?.write(&data.join("recovery.signal"), b"")?;
        let laid_out = self.lay_out_wal()?;
        let settings = self.settings(laid_out.as_ref().map(Temporary::path))?;
        let server = Fenced::start(self.tools, (data, self.config_file), self.owner, log, &settings)?;
        Ok(Playing { server, _laid_out: laid_out })
    }

    /// How far a replay is on its way to `to`.
    pub(crate) fn progress(&self, heard: Heard, to: Option<Lsn>) -> Option<Progress> {
        let at = match heard.seen {
            Some(Seen::At(at)) => Some(at),
            Some(Seen::Segment(name)) => name.start(self.segment_size),
            None => None,
        };
        let from = self.point.postgres().ok()?.start_lsn;
        let (asked_for, still_seconds) = (heard.asked_for, heard.still.as_secs());
        Some(Progress::Replay { at, from, to, asked_for, still_seconds })
    }

    /// Requires that the server is what it should be: on this folder, of this cluster, promoted, alive, and on a timeline of its own.
    pub(crate) async fn look(
        &self,
        session: &Postgres,
        server: &mut Fenced,
        data: &Utf8Path,
        replay: &Replay,
    ) -> Result<Timeline, RecoveryError> {
        let place = session.text("show data_directory").await?.unwrap_or_default();
        if !is_same(Utf8Path::new(&place), data) {
            return Err(RecoveryError::unmet(STEP, format!("a server on {}", data), format!("it is on {place}")));
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
        Ok(timeline)
    }

    /// Requires that replay stopped at a target that is a position, by the server's own log.
    pub(crate) fn reached(&self, replay: &Replay) -> Result<(), RecoveryError> {
        let Some(stopping) = &replay.stopping else {
            let expected = match &self.aim.setting {
                Some((name, value)) => format!("`recovery stopping` at {name} = {value}"),
                None => "`recovery stopping`".to_owned(),
            };
            return Err(RecoveryError::unmet(STEP, expected, "replay went to the end of the WAL"));
        };
        let held = self.aim.holds(stopping, replay.redo_done);
        held.map_err(|(expected, found)| RecoveryError::unmet(STEP, expected, found))
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
        let segments = archived_since(&archive, self.point, self.segment_size)?.into_iter().map(WalFile::Segment);
        let histories = archive.history_files()?.into_keys().map(WalFile::History);
        for file in segments.chain(histories) {
            restore(&archive, &file, &folder.path().join(file.to_string()))?;
        }
        Ok(Some(folder))
    }

    /// On the command line, not in the folder: nothing of them outlives this start.
    fn settings(&self, laid_out: Option<&Utf8Path>) -> Result<Vec<(&str, String)>, RecoveryError> {
        let fetch = match laid_out {
            Some(folder) => format!("cp {}/%f %p", command::word(folder.as_str())),
            None => {
                // The file's name: what is in it is nobody's argument.
                let identity = self.repository.identity_file_for(self.owner.numbers().0)?;
                let identity = identity.map(|file| format!("CDC_DRILL_IDENTITY={} ", command::word(file.as_str())));
                format!(
                    "{}{} wal fetch --repository {} --system-id {} %f %p",
                    identity.unwrap_or_default(),
                    command::word(self.program.as_str()),
                    command::word(self.repository.path().as_str()),
                    self.system_id
                )
            }
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
            ("recovery_target_inclusive", if self.exclusive { "off" } else { "on" }.to_owned()),
        ];
        if self.pinned {
            settings.push(("recovery_target_timeline", self.aim.followed().timeline.to_string()));
        }
        settings.extend(self.aim.setting.iter().map(|(name, value)| (name.as_str(), value.clone())));
        // A library would archive whatever `archive_command` is.
        if self.point.postgres()?.version.archives_by_library() {
            settings.push(("archive_library", String::new()));
        }
        Ok(settings)
    }
}

/// Removes a file that may not be there.
pub(crate) fn remove_if_there(path: &Utf8Path) -> Result<(), RecoveryError> {
    let removed = std::fs::remove_file(path).if_there();
    removed.map(drop).map_err(|e| RecoveryError::io("remove", path, e))
}

/// Removes recovery settings that the base backup brought along: with ours they would be two targets.
pub(crate) fn clean_settings(data: &Utf8Path) -> Result<(), RecoveryError> {
    let path = data.join("postgresql.auto.conf");
    let text = fs_err::read_to_string(&path).map_err(|e| RecoveryError::io("read", &path, e))?;
    let (kept, out) = recovery_settings_in(&text);
    if !out.is_empty() {
        Store::new(data)?.write(&path, kept.as_bytes())?;
    }
    remove_if_there(&data.join("standby.signal"))
}

/// Where a timeline left the one before it.
pub(crate) fn switch_of(data: &Utf8Path, timeline: Timeline) -> Result<Option<Lsn>, RecoveryError> {
    let path = data.join("pg_wal").join(WalFile::History(timeline).to_string());
    Ok(history_in(&path, timeline)?.ancestors.last().map(|a| a.end))
}

/// Requires that the data folder would start as a plain server.
pub(crate) fn no_settings_left(data: &Utf8Path) -> Result<String, RecoveryError> {
    let path = data.join("postgresql.auto.conf");
    let text = fs_err::read_to_string(&path).map_err(|e| RecoveryError::io("read", &path, e))?;
    let mut left = recovery_settings_in(&text).1;
    for signal in ["recovery.signal", "standby.signal"] {
        if is_there(&data.join(signal))? {
            left.push(signal.to_owned());
        }
    }
    match left.is_empty() {
        true => Ok("no recovery setting is left in the data folder".into()),
        false => Err(RecoveryError::unmet("open", "no recovery setting in the data folder", left.join("; "))),
    }
}

/// Whether a server has begun to replay in a folder, and has not ended. It goes on from its last restart point then. The label is
/// renamed once everything that was extracted is on disk, and the signal is removed when the target is reached.
pub(crate) fn replays(fresh: &Utf8Path) -> Result<bool, RecoveryError> {
    Ok(is_there(&fresh.join("recovery.signal"))? && !is_there(&fresh.join("backup_label"))?)
}

/// Waits until the server that replayed in a folder has ended, with what it left running: it ends with its owner.
pub(crate) async fn wait_for_end(tools: &Tools, data: &Utf8Path) -> Result<(), RecoveryError> {
    let running = data.join("postmaster.pid");
    wait::until(&format!("the server on {data} to end"), limits::postgres::STOP, || async {
        if !is_there(&running)? {
            return Ok::<_, RecoveryError>(Poll::Ready(()));
        }
        if tools.elsewhere() {
            return Ok(Poll::NotYet(format!("{running} is there")));
        }
        end_orphans(data)?;
        // A power cut leaves the file without its server.
        let left = !is_occupied(data)?;
        Ok(if left { Poll::Ready(()) } else { Poll::NotYet(format!("{running} is there")) })
    })
    .await?;
    Ok(())
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

    #[test]
    fn a_replay_goes_on_only_between_its_beginning_and_its_target() {
        let made = tempfile::tempdir().unwrap();
        let fresh = Utf8Path::from_path(made.path()).unwrap();
        assert!(!replays(fresh).unwrap(), "it is over");
        std::fs::write(fresh.join("recovery.signal"), "").unwrap();
        assert!(replays(fresh).unwrap());
        std::fs::write(fresh.join("backup_label"), "").unwrap();
        assert!(!replays(fresh).unwrap(), "nobody knows what is on disk");
    }
}
