//! The locks of a recovery: in its repository, and beside the data folder, where recoveries from other repositories see it.

use camino::Utf8Path;

use super::{
    RecoveryError,
    memory::{self, Memory},
};
use crate::backup::{Activity, Left, Lock, Repository};

/// Held while a recovery is at work. What they say of an unfinished one outlives this process.
#[derive(Debug)]
pub(super) struct Locks {
    repository: Lock,
    beside: Option<Lock>,
}

impl Locks {
    /// Takes both; the second where the data folder is known and can be reached. Refused where another recovery of this data
    /// folder did not end than the one that goes on.
    pub(super) fn take(
        repository: &Repository,
        pgdata: &Utf8Path,
        owner: &str,
        goes_on: Option<&Memory>,
    ) -> Result<Locks, RecoveryError> {
        let own = repository.lock(Activity::Recover, owner)?;
        let beside = match pgdata.as_str().is_empty() {
            true => None,
            false => Lock::beside(pgdata, owner)?,
        };
        refuse_another(repository, pgdata, beside.as_ref().and_then(Lock::left), goes_on)?;
        Ok(Locks { repository: own, beside })
    }

    /// Takes those of a recovery that is remembered.
    pub(super) fn of(memory: &Memory, owner: &str) -> Result<Locks, RecoveryError> {
        Locks::take(&memory.repository()?, Utf8Path::new(&memory.cluster().pgdata), owner, Some(memory))
    }

    /// Says that this recovery is unfinished until [`Locks::clear`], whatever becomes of this process.
    pub(super) fn leave(&self, memory: &Memory) -> Result<(), RecoveryError> {
        for lock in self.all() {
            lock.leave(Left {
                recovery: memory.id().to_owned(),
                folder: memory.folder().to_owned(),
                repository: memory.repository()?.path().to_owned(),
                asked: memory.asked().in_words(),
            })?;
        }
        Ok(())
    }

    /// Says that no recovery is unfinished.
    pub(super) fn clear(&self) -> Result<(), RecoveryError> {
        self.all().try_for_each(|lock| Ok(lock.clear()?))
    }

    /// Fails if another process has taken one of them over: this one was suspended for too long, and must change nothing more.
    pub(super) fn still_ours(&self) -> Result<(), RecoveryError> {
        self.all().try_for_each(|lock| Ok(lock.still_ours()?))
    }

    fn all(&self) -> impl Iterator<Item = &Lock> {
        std::iter::once(&self.repository).chain(&self.beside)
    }
}

/// Requires that no other recovery of a data folder is unfinished than the one that goes on. Takes no lock.
pub(super) fn refuse_others(
    repository: &Repository,
    pgdata: &Utf8Path,
    goes_on: Option<&Memory>,
) -> Result<(), RecoveryError> {
    match pgdata.as_str().is_empty() {
        true => Ok(()),
        false => refuse_another(repository, pgdata, Lock::left_beside(pgdata)?, goes_on),
    }
}

fn refuse_another(
    repository: &Repository,
    pgdata: &Utf8Path,
    left: Option<Left>,
    goes_on: Option<&Memory>,
) -> Result<(), RecoveryError> {
    let Some(left) = left.filter(|left| goes_on.is_none_or(|memory| memory.id() != left.recovery)) else {
        return Ok(());
    };
    match memory::is_unfinished(repository, &left)? {
        false => Ok(()),
        true => Err(RecoveryError::Refused {
            what: format!(
                "recovery {} of data folder {pgdata}, from the repository {}, did not end",
                left.recovery, left.repository
            ),
            hint: "`recover resume` with the configuration that names that repository goes on with it".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backup::BackupError,
        recovery::memory::{
            Ending,
            tests::{begin, repository},
        },
        units::Exit,
    };

    #[test]
    fn an_unfinished_recovery_refuses_backups_and_recoveries_from_other_repositories() {
        let (folder, first) = repository();
        let (_other, second) = repository();
        let pgdata = Utf8Path::from_path(folder.path()).unwrap().join("data");
        std::fs::create_dir(&pgdata).unwrap();
        let memory = begin(&first);
        let locks = Locks::take(&first, &pgdata, "recover run schema", None).unwrap();
        locks.leave(&memory).unwrap();
        locks.still_ours().unwrap();
        drop(locks);
        let refused = first.lock(Activity::Create, "backup create").unwrap_err();
        assert!(matches!(refused, BackupError::RecoveryUnfinished { .. }), "{refused}");
        let refused = Locks::take(&second, &pgdata, "recover run slot", None).unwrap_err();
        assert_eq!(refused.exit(), Exit::Refused);
        assert!(refused.to_string().contains(memory.id()), "{refused}");
        let refused = refuse_others(&second, &pgdata, None).unwrap_err();
        assert!(refused.to_string().contains(memory.id()), "{refused}");
        refuse_others(&first, &pgdata, Some(&memory)).unwrap();
        // Nor does another one of the same repository, which takes this data folder for another cluster's.
        let refused = Locks::take(&first, &pgdata, "recover run slot", Some(&begin(&first))).unwrap_err();
        assert!(refused.to_string().contains(memory.id()), "{refused}");
        // A repository that was moved goes on with its recoveries.
        let moved = folder.path().join("moved");
        std::fs::rename(first.path(), &moved).unwrap();
        let moved = Repository::open(Utf8Path::from_path(&moved).unwrap()).unwrap();
        let memory = Memory::open(&moved.path().join("recoveries").join(memory.id())).unwrap();
        let again = Locks::take(&moved, &pgdata, "recover run schema", Some(&memory)).unwrap();
        again.leave(&memory).unwrap();
        // The process was killed between closing the record and clearing the locks.
        memory.close(Ending::Verified).unwrap();
        drop(again);
        drop(Locks::take(&second, &pgdata, "recover run slot", None).unwrap());
        let again = Locks::take(&moved, &pgdata, "recover run schema", None).unwrap();
        again.clear().unwrap();
        drop(again);
        let first = moved;
        drop(first.lock(Activity::Create, "backup create").unwrap());
    }
}
