//! The locks of a recovery: in its repository, and beside the data folder, where recoveries from other repositories see it.

use camino::Utf8Path;

use super::{RecoveryError, memory::Memory};
use crate::backup::{Activity, Left, Lock, Repository};

/// Held while a recovery is at work. What they say of an unfinished one outlives this process.
#[derive(Debug)]
pub(super) struct Locks {
    repository: Lock,
    beside: Option<Lock>,
}

impl Locks {
    /// Takes both; the second where the data folder is known and can be reached. Refused where another repository has a recovery
    /// of this data folder that did not end.
    pub(super) fn take(repository: &Repository, pgdata: &Utf8Path, owner: &str) -> Result<Locks, RecoveryError> {
        let own = repository.lock(Activity::Recover, owner)?;
        let beside = match pgdata.as_str().is_empty() {
            true => None,
            false => Lock::beside(pgdata, owner)?,
        };
        let left = beside.iter().flat_map(Lock::left).find(|left| left.repository != repository.path());
        if let Some(Left { recovery, folder, repository, .. }) = left {
            return Err(RecoveryError::Refused {
                what: format!(
                    "recovery {recovery} of data folder {pgdata}, from the repository {repository}, did not end; its record is {folder}"
                ),
                hint: "`recover resume` with the configuration that names that repository goes on with it".into(),
            });
        }
        Ok(Locks { repository: own, beside })
    }

    /// Takes those of a recovery that is remembered.
    pub(super) fn of(memory: &Memory, owner: &str) -> Result<Locks, RecoveryError> {
        Locks::take(&memory.repository()?, Utf8Path::new(&memory.cluster().pgdata), owner)
    }

    /// Says that this recovery is unfinished until [`Locks::clear`], whatever becomes of this process.
    pub(super) fn leave(&self, memory: &Memory) -> Result<(), RecoveryError> {
        for lock in self.all() {
            lock.leave(Left {
                recovery: memory.id().to_owned(),
                folder: memory.folder().to_owned(),
                repository: memory.repository_path().to_owned(),
                asked: memory.asked().in_words(),
                cluster: memory.cluster().clone(),
            })?;
        }
        Ok(())
    }

    /// Says that this recovery is no longer unfinished.
    pub(super) fn clear(&self, recovery: &str) -> Result<(), RecoveryError> {
        self.all().try_for_each(|lock| Ok(lock.clear(recovery)?))
    }

    /// Fails if another process has taken one of them over: this one was suspended for too long, and must change nothing more.
    pub(super) fn still_ours(&self) -> Result<(), RecoveryError> {
        self.all().try_for_each(|lock| Ok(lock.still_ours()?))
    }

    fn all(&self) -> impl Iterator<Item = &Lock> {
        std::iter::once(&self.repository).chain(&self.beside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backup::BackupError,
        recovery::memory::tests::{begin, place},
        units::Exit,
    };

    #[test]
    fn an_unfinished_recovery_refuses_backups_and_recoveries_from_other_repositories() {
        let ((folder, first), (_other, second)) = (place(), place());
        let pgdata = Utf8Path::from_path(folder.path()).unwrap().join("data");
        std::fs::create_dir(&pgdata).unwrap();
        let memory = begin(&first);
        let (first, second) = (first.repository(), second.repository());
        let locks = Locks::take(first, &pgdata, "recover run schema").unwrap();
        locks.leave(&memory).unwrap();
        locks.still_ours().unwrap();
        drop(locks);
        let refused = first.lock(Activity::Create, "backup create").unwrap_err();
        assert!(matches!(refused, BackupError::RecoveryUnfinished { .. }), "{refused}");
        let refused = Locks::take(second, &pgdata, "recover run slot").unwrap_err();
        assert_eq!(refused.exit(), Exit::Refused);
        assert!(refused.to_string().contains(memory.id()), "{refused}");
        let again = Locks::take(first, &pgdata, "recover run schema").unwrap();
        again.clear(memory.id()).unwrap();
        drop(again);
        drop(Locks::take(second, &pgdata, "recover run slot").unwrap());
        drop(first.lock(Activity::Create, "backup create").unwrap());
    }
}
