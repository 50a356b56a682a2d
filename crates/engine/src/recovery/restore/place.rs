//! The data folder that a restore is for: what may be in it, and the folder within it where everything is made.

use std::fs::{File, TryLockError};

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use crate::{
    backup::{Store, files, is_there},
    recovery::{
        RecoveryError,
        server::{Owner, is_occupied},
        target::Aim,
    },
};
use cdc_model::units::{IfThere, Lsn, PointId, SystemId, Timeline};

/// The folder within the data folder; gone when the restore has ended.
pub(super) const WORK: &str = ".cdc-drill-restore";
const RECORD: &str = "restore.json";
const LOCK: &str = "restore.lock";
const LOG: &str = "postgres.log";
/// What a server takes a folder for a data folder by: moved last.
const LAST: &str = "PG_VERSION";
/// How many of the entries that are in the way a refusal names.
const NAMED: usize = 3;

/// What was decided and done, on disk before it is acted upon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// The request in words.
    pub(super) asked: String,
    pub(super) point: PointId,
    pub(super) aim: Aim,
    pub(super) system_id: SystemId,
    /// For the end of the WAL: where its last record starts.
    pub(super) end: Option<Lsn>,
    /// The last transaction that is kept, as the archive has it.
    pub(super) last_commit: Option<String>,
    /// Its time.
    #[serde(default)]
    pub(super) last_commit_at: Option<jiff::Timestamp>,
    /// The replayed data folder, once it was read back and shut down.
    pub(super) restored: Option<Restored>,
}

/// How the server came out of its replay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Restored {
    pub(super) timeline: Timeline,
    /// Behind the last replayed record, by the server's word.
    pub(super) end: Lsn,
}

/// The data folder to be.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) pgdata: Utf8PathBuf,
}

impl Place {
    /// Requires a folder that no server works in and that has nothing in it but an earlier run of a restore. Touches nothing; the
    /// earlier run's record, if there is one.
    pub(super) fn look(&self) -> Result<Option<Record>, RecoveryError> {
        let pgdata = &self.pgdata;
        if is_occupied(pgdata)? {
            return Err(RecoveryError::Refused {
                what: format!("data folder {pgdata}: expected no server, found one at work in it"),
                hint: "restore into another folder, or stop the server and move its folder away".into(),
            });
        }
        let record = self.read()?;
        let mut there = self.entries()?;
        there.retain(|name| name != WORK);
        // Parts of the restored data folder may have been moved to their place.
        if there.is_empty() || record.as_ref().is_some_and(|record| record.restored.is_some()) {
            return Ok(record);
        }
        there.sort();
        let (count, named) = (there.len(), there.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", "));
        let more = if count > NAMED { format!(" and {} more", count - NAMED) } else { String::new() };
        Err(RecoveryError::Refused {
            what: format!("data folder {pgdata}: expected an empty folder, found {named}{more}"),
            hint: "nothing is overwritten: name a folder that is empty or not there; of a file system of its own, one below its root"
                .into(),
        })
    }

    fn entries(&self) -> Result<Vec<String>, RecoveryError> {
        let unlisted = |e| RecoveryError::io("list", &self.pgdata, e);
        let Some(entries) = self.pgdata.read_dir_utf8().if_there().map_err(unlisted)? else { return Ok(Vec::new()) };
        entries.map(|entry| entry.map(|entry| entry.file_name().to_owned()).map_err(unlisted)).collect()
    }

    fn read(&self) -> Result<Option<Record>, RecoveryError> {
        let path = self.work().join(RECORD);
        let Some(bytes) = files::read_if_there(&path)? else { return Ok(None) };
        let record = serde_json::from_slice(&bytes).map_err(|error| {
            RecoveryError::impossible(
                path.as_str(),
                "the record of a restore",
                error.to_string(),
                format!("remove {} to begin anew: nothing else of a restore that did not end is anywhere", self.work()),
            )
        })?;
        Ok(Some(record))
    }

    /// Makes the folder and what is in it, for this process alone while it runs; the lock ends with the file.
    pub(super) fn take(&self, owner: &Owner) -> Result<File, RecoveryError> {
        if !is_there(&self.pgdata)? {
            owner.make_folder(&self.pgdata)?;
        }
        let store = Store::owned(&self.pgdata, owner.ids());
        store.folder(&self.work())?;
        let path = self.work().join(LOCK);
        let file = store.append(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(RecoveryError::Refused {
                what: format!("data folder {}: another restore is at work in it", self.pgdata),
                hint: "wait for its end".into(),
            }),
            Err(TryLockError::Error(e)) => Err(RecoveryError::io("lock", &path, e)),
        }
    }

    pub(super) fn write(&self, owner: &Owner, record: &Record) -> Result<(), RecoveryError> {
        let path = self.work().join(RECORD);
        let bytes = files::canonical_json(&path, record)?;
        Ok(Store::owned(&self.pgdata, owner.ids()).write(&path, &bytes)?)
    }

    /// What is made there, on the file system of the data folder.
    pub(super) fn work(&self) -> Utf8PathBuf {
        self.pgdata.join(WORK)
    }

    /// The data folder before it is in its place.
    pub(super) fn fresh(&self) -> Utf8PathBuf {
        self.work().join("data")
    }

    /// What the restored server says.
    pub(super) fn log(&self) -> Utf8PathBuf {
        self.work().join(LOG)
    }

    /// Moves the restored data folder to its place, from wherever an earlier run left it. What makes it a data folder comes last.
    pub(super) fn put(&self) -> Result<(), RecoveryError> {
        self.put_content()?;
        self.put_those(|name| name == LAST)
    }

    /// The same of everything else.
    pub(super) fn put_content(&self) -> Result<(), RecoveryError> {
        self.put_those(|name| name != LAST)
    }

    fn put_those(&self, wanted: impl Fn(&str) -> bool) -> Result<(), RecoveryError> {
        let fresh = self.fresh();
        let unlisted = |e| RecoveryError::io("list", &fresh, e);
        let mut names = Vec::new();
        for entry in fresh.read_dir_utf8().if_there().map_err(unlisted)?.into_iter().flatten() {
            names.push(entry.map_err(unlisted)?.file_name().to_owned());
        }
        for name in names.iter().filter(|name| wanted(name)) {
            let (from, to) = (fresh.join(name), self.pgdata.join(name));
            std::fs::rename(&from, &to).map_err(|e| RecoveryError::io("move to its place", &from, e))?;
        }
        files::sync_folder(&self.pgdata)?;
        Ok(())
    }

    /// Removes what a restore that has ended needs no more: the record last.
    pub(super) fn clear(&self) -> Result<(), RecoveryError> {
        let work = self.work();
        let unlisted = |e| RecoveryError::io("list", &work, e);
        for entry in work.read_dir_utf8().if_there().map_err(unlisted)?.into_iter().flatten() {
            let entry = entry.map_err(unlisted)?;
            let path = entry.path();
            if entry.file_name() == RECORD {
                continue;
            }
            let removed = if entry.file_type().map_err(unlisted)?.is_dir() {
                std::fs::remove_dir_all(path)
            } else {
                std::fs::remove_file(path)
            };
            removed.if_there().map_err(|e| RecoveryError::io("remove", path, e))?;
        }
        std::fs::remove_dir_all(&work).if_there().map_err(|e| RecoveryError::io("remove", &work, e))?;
        Ok(files::sync_folder(&self.pgdata)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdc_model::units::{Exit, Failure};
    use cdc_postgres::wal::TimelineHistory;

    fn place() -> (tempfile::TempDir, Place) {
        let made = tempfile::tempdir().unwrap();
        let pgdata = Utf8PathBuf::from_path_buf(made.path().join("data")).unwrap();
        (made, Place { pgdata })
    }

    fn record(restored: bool) -> Record {
        let history = TimelineHistory::first();
        let aim = Aim { timeline: Timeline::FIRST, history, at: None, cut: None, setting: None, notes: Vec::new() };
        let restored = restored.then(|| Restored { timeline: Timeline::literal(2), end: Lsn(7) });
        Record {
            asked: "--target latest".into(),
            point: PointId::new("20261122T100000Z-0001"),
            aim,
            system_id: SystemId(7),
            end: None,
            last_commit: None,
            last_commit_at: None,
            restored,
        }
    }

    fn write(place: &Place, record: &Record) {
        fs_err::create_dir_all(place.work()).unwrap();
        fs_err::write(place.work().join(RECORD), serde_json::to_vec(record).unwrap()).unwrap();
    }

    #[test]
    fn only_a_folder_with_nothing_in_it_will_do() {
        let (_made, place) = place();
        assert!(place.look().unwrap().is_none(), "it is not there");
        fs_err::create_dir(&place.pgdata).unwrap();
        assert!(place.look().unwrap().is_none(), "it is empty");
        write(&place, &record(false));
        assert!(place.look().unwrap().is_some(), "an earlier run");
        for name in ["PG_VERSION", "lost+found", "a", "b"] {
            fs_err::write(place.pgdata.join(name), "").unwrap();
            let error = place.look().unwrap_err();
            assert_eq!(error.exit(), Exit::Refused);
            assert!(error.to_string().contains("expected an empty folder"), "{error}");
        }
        assert!(place.look().unwrap_err().to_string().contains("PG_VERSION, a, b and 1 more"));
        write(&place, &record(true));
        assert!(place.look().unwrap().unwrap().restored.is_some(), "its parts are in their place already");
        fs_err::write(place.work().join(RECORD), "{}").unwrap();
        assert_eq!(place.look().unwrap_err().exit(), Exit::PlanImpossible);
    }

    #[test]
    fn a_data_folder_is_moved_to_its_place_from_wherever_it_was_left() {
        let (_made, place) = place();
        write(&place, &record(true));
        fs_err::create_dir_all(place.fresh().join("base")).unwrap();
        for name in ["PG_VERSION", "postgresql.conf"] {
            fs_err::write(place.fresh().join(name), name).unwrap();
        }
        // An earlier run came half-way.
        fs_err::rename(place.fresh().join("base"), place.pgdata.join("base")).unwrap();
        place.put().unwrap();
        place.put().unwrap();
        place.clear().unwrap();
        let mut there = place.entries().unwrap();
        there.sort();
        assert_eq!(there, ["PG_VERSION", "base", "postgresql.conf"]);
    }
}
