//! What needs nothing of the old server is done and checked while it runs: the base backup is extracted beside the data folder, its
//! files and the archived WAL are compared with their checksums, and PostgreSQL's programs are tried on the result.

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    Coordinated,
    record::{Goal, PREPARED, Prepared},
};
use crate::{
    backup::{
        BackupError, Origin, Point, Store, is_there,
        parts::postgres::{self as base, Extracted},
        wal,
    },
    recovery::{
        Progress, RecoveryError,
        memory::Memory,
        replay::{blocking, check_archived, replays, wait_for_end},
        server::{MAIN, Outside, end_orphans, major_of, refuse_other_version, remove_made, start_dry},
        shortlist::damaged,
        step::Done,
        target::reaches,
    },
};
use cdc_model::{
    moment,
    units::{IfThere, Lsn, counted},
};

const STEP: &str = "prepare";

impl Coordinated {
    /// Makes the folder that is going to be replayed, or finds that an earlier run has made it. Destroys nothing; what was made is
    /// removed again when something is wrong.
    pub(super) async fn prepare(&mut self) -> Result<Done, RecoveryError> {
        if self.learned.restored.is_some() {
            return Ok(Done::Nothing("an earlier run has replayed it"));
        }
        let fresh = self.fresh();
        let outcome = self.prepare_in(&fresh).await;
        // What was replayed for hours is worth more than room: the next run goes on with it.
        if outcome.is_err() && !replays(&fresh)? {
            self.remove_prepared().await?;
        }
        outcome
    }

    async fn prepare_in(&mut self, fresh: &Utf8Path) -> Result<Done, RecoveryError> {
        let major = self.point.postgres()?.version.major();
        refuse_other_version(&self.tools, major).await?;
        self.check_archived(self.point.postgres()?.start_lsn, self.aim.at).await?;
        let wal = self.layout.wal.as_ref().map(|old| named(old, &self.id()));
        self.prepared.change(|p| (p.folder, p.wal) = (Some(fresh.to_owned()), wal))?;
        if self.prepared.extracted.is_some() && replays(fresh)? {
            return Ok(Done::Nothing("an earlier run has begun to replay it"));
        }
        let found = self.whole(fresh).await?;
        let (extracted, done) = match found {
            Some(whole) => (whole, Done::Nothing("an earlier run has extracted it")),
            None => (self.extract(fresh).await?, Done::Acted),
        };
        moment::pass("extracted").await?;
        self.prepared.change(|p| p.extracted = Some((extracted.files, extracted.bytes)))?;
        self.put_configuration_outside()?;
        self.start_dry(fresh, true).await?;
        Ok(done)
    }

    /// What an earlier run extracted, where every file of it is what the server listed. Of anything else nobody knows what it is.
    async fn whole(&self, fresh: &Utf8Path) -> Result<Option<Extracted>, RecoveryError> {
        if !is_there(fresh)? {
            return Ok(None);
        }
        let (point, folder) = (self.point.clone(), fresh.to_owned());
        let wal = self.prepared.wal.clone();
        let linked = wal.as_ref().is_none_or(|wal| fresh.join("pg_wal").read_link_utf8().is_ok_and(|to| to == *wal));
        match blocking(move || Ok(base::compare_folder(&point, &folder))).await? {
            Ok(whole) if linked => Ok(Some(whole)),
            Ok(_) => Ok(None),
            Err(error) => {
                tracing::info!(%fresh, %error, "extracted anew");
                Ok(None)
            }
        }
    }

    async fn extract(&self, fresh: &Utf8Path) -> Result<Extracted, RecoveryError> {
        self.remove_unused().await?;
        let made = Store::owned(fresh, self.owner.ids()).folder(fresh);
        made.map_err(|error| {
            RecoveryError::impossible(
                fresh.as_str(),
                "a folder that can be made beside the data folder",
                error.to_string(),
                "the restored data folder is made there, and the two are exchanged by renaming",
            )
        })?;
        let (point, into, owner) = (self.point.clone(), fresh.to_owned(), self.owner.account());
        let (watch, tools) = (self.pipeline.watch.clone(), self.tools.clone());
        let total = base::bytes_to_restore(&self.point)?;
        let extracted = blocking(move || {
            let heard = |done| watch.tell(Progress::Bytes { what: "base backup".into(), done, total });
            Ok(base::extract(&point, &tools, &into, owner, &heard)?)
        })
        .await;
        let extracted = extracted.map_err(|error| match error {
            RecoveryError::Backup(cause) if cause.is_damage() => self.damaged(cause),
            other => other,
        })?;
        self.owner.open_as_before(fresh)?;
        if let Some(wal) = &self.prepared.wal {
            self.put_wal_elsewhere(fresh, wal)?;
        }
        Ok(extracted)
    }

    /// The base backup of the recovery point is not what was written; another point may do.
    fn damaged(&self, cause: BackupError) -> RecoveryError {
        let origin = Origin { system_id: Some(self.system_id), kafka: None, registry: None };
        let fits = |other: &Point| reaches(other, &self.aim).unwrap_or(false);
        damaged(&self.repository, &self.request, &origin, self.point.id(), cause, fits)
    }

    /// Keeps the WAL on the file system that the old server has it on. A base backup holds no WAL: its folder is empty.
    fn put_wal_elsewhere(&self, fresh: &Utf8Path, wal: &Utf8Path) -> Result<(), RecoveryError> {
        let store = Store::owned(wal, self.owner.ids());
        store.folder(wal)?;
        store.folder(&wal.join("archive_status"))?;
        let own = fresh.join("pg_wal");
        std::fs::remove_dir_all(&own).if_there().map_err(|e| RecoveryError::io("remove", &own, e))?;
        std::os::unix::fs::symlink(wal, &own).map_err(|e| RecoveryError::io("make link", &own, e))?;
        self.owner.give(&own)
    }

    /// Compares archived segments that replay reads with the checksums of the archive's index, from one position to another or to
    /// the end of what is archived now.
    pub(super) async fn check_archived(&mut self, from: Lsn, to: Option<Lsn>) -> Result<(), RecoveryError> {
        let archive = self.repository.archive(self.system_id);
        let watch = self.pipeline.watch.clone();
        let end = check_archived(&archive, &self.point, &self.aim, self.segment_size, (from, to), watch).await?;
        self.prepared.change(|p| p.wal_checked_to = Some(end))
    }

    /// The same of what was archived since, now that the old server writes no more.
    pub(super) async fn check_rest(&mut self) -> Result<(), RecoveryError> {
        let Some(from) = self.prepared.wal_checked_to else { return Ok(()) };
        let to = self.aim.at.or(self.learned.end.as_ref().map(|end| end.last));
        match to.is_none_or(|to| from < to) {
            true => self.check_archived(from, to).await,
            false => Ok(()),
        }
    }

    /// Tries PostgreSQL on the extracted folder: with the configuration that the old server has now, where that still lies with it,
    /// or with what is in the folder.
    pub(super) async fn start_dry(&self, fresh: &Utf8Path, with_old: bool) -> Result<(), RecoveryError> {
        let major = self.point.postgres()?.version.major();
        let found = major_of(fresh)?;
        if found != Some(major) {
            let found = found.map_or_else(|| "none".to_owned(), |found| found.to_string());
            return Err(RecoveryError::unmet(STEP, format!("PG_VERSION {major} in {fresh}"), found));
        }
        let own = self.pgdata.join(crate::recovery::server::MAIN);
        let of_old = with_old && self.layout.config_file.is_none() && is_there(&own)?;
        let config_file = if of_old { Some(&own) } else { self.layout.config_file.as_ref() };
        let tried = start_dry(&self.tools, &self.owner, fresh, config_file.map(Utf8PathBuf::as_path), major).await;
        match tried {
            // The old server's own files may be what is broken; those of the backup stay then.
            Err(error) if of_old => {
                tracing::warn!(%error, "the old server's configuration");
                start_dry(&self.tools, &self.owner, fresh, None, major).await
            }
            tried => tried,
        }
    }

    /// What was prepared, read back.
    pub(super) async fn is_prepared(&self) -> Result<String, RecoveryError> {
        let fresh = self.fresh();
        if !is_there(&fresh)? {
            return Err(RecoveryError::unmet(STEP, format!("the extracted base backup in {fresh}"), "no such folder"));
        }
        let (files, bytes) = self.prepared.extracted.unwrap_or_default();
        let checked = self.prepared.wal_checked_to.map_or_else(|| "nothing".to_owned(), |to| to.to_string());
        Ok(format!(
            "{files}, {} MB, as the server listed them; archived WAL as it was stored up to {checked}; PostgreSQL {} starts on them",
            bytes.div_ceil(1 << 20),
            self.point.postgres()?.version.major(),
            files = counted(files, "file")
        ))
    }

    /// The folder that is made beside the data folder.
    pub(super) fn fresh(&self) -> Utf8PathBuf {
        self.beside("restoring")
    }

    /// A folder of this recovery beside the data folder.
    pub(super) fn beside(&self, what: &str) -> Utf8PathBuf {
        named(&self.pgdata, &format!("{what}-{}", self.id()))
    }

    /// Makes the configuration outside the data folder that is gone.
    fn put_configuration_outside(&mut self) -> Result<(), RecoveryError> {
        if self.tools.elsewhere() {
            return Ok(());
        }
        // A data folder that is gone cannot say what its files name: the restored one can.
        let data = if is_there(&self.pgdata.join(MAIN))? { self.pgdata.clone() } else { self.fresh() };
        let main = self.layout.config_file.clone().unwrap_or_else(|| data.join(MAIN));
        let outside = Outside::look(&self.point, &data, &main)?;
        self.prepared.change(|p| {
            let made: Vec<_> = outside.to_make().into_iter().filter(|path| !p.outside.contains(path)).collect();
            p.outside.extend(made);
        })?;
        outside.put(self.owner.ids())
    }

    /// Removes what was prepared, replayed or not, while it is not in its place.
    pub(crate) async fn remove_prepared(&mut self) -> Result<(), RecoveryError> {
        remove_made(&self.point, &self.prepared.outside)?;
        self.learned.change(|l| l.restored = None)?;
        self.prepared.change(|p| p.extracted = None)?;
        self.remove_unused().await
    }

    /// Ends what a replay left running whose server has ended: a start on the same folder would be refused.
    pub(super) fn end_orphans(&self) -> Result<(), RecoveryError> {
        if self.tools.elsewhere() { Ok(()) } else { end_orphans(&self.fresh()) }
    }

    /// Removes the folder and its WAL, once a server that replayed there has ended: it ends with its owner.
    async fn remove_unused(&self) -> Result<(), RecoveryError> {
        let fresh = self.fresh();
        wait_for_end(&self.tools, &fresh).await?;
        // Nothing is written into it from here on.
        wal::clear_prefetched(&fresh)?;
        for folder in [Some(&fresh), self.prepared.wal.as_ref()].into_iter().flatten() {
            std::fs::remove_dir_all(folder).if_there().map_err(|e| RecoveryError::io("remove", folder, e))?;
        }
        base::remove_sources(&fresh);
        Ok(())
    }
}

/// The name of something beside a folder.
fn named(folder: &Utf8Path, ending: &str) -> Utf8PathBuf {
    folder.with_file_name(format!("{}.{ending}", folder.file_name().unwrap_or("data")))
}

/// What was made for a data folder, by the record: where it was not put in place, nobody needs it once the recovery has ended.
pub(crate) fn prepared(memory: &Memory) -> Result<Vec<(&'static str, Utf8PathBuf)>, RecoveryError> {
    let Some(Prepared { folder, wal, .. }) = memory.learned(PREPARED)? else { return Ok(Vec::new()) };
    let goal: Goal = memory.decided()?;
    let wal = wal.map(|wal| ("prepared WAL folder", wal));
    let old_wal = goal.layout().wal.clone().map(|wal| ("WAL folder", wal));
    let mut found: Vec<_> = folder.map(|folder| ("prepared data folder", folder)).into_iter().collect();
    for (what, folder) in wal.into_iter().chain(old_wal) {
        // One of the two is that of the running server.
        let current = goal.pgdata().join("pg_wal");
        let used = current.canonicalize_utf8().if_there().map_err(|e| RecoveryError::io("look at", &current, e))?;
        let real = folder.canonicalize_utf8().if_there().map_err(|e| RecoveryError::io("look at", &folder, e))?;
        if real.is_some() && used.is_some() && real != used {
            found.push((what, folder));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_lies_beside_what_it_is_made_for() {
        assert_eq!(named(Utf8Path::new("/a/main"), "restoring-1"), "/a/main.restoring-1");
    }
}
