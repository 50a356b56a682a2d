//! The locks of a recovery: in its repository, and beside the data folder, where recoveries from other repositories see it.

use camino::Utf8Path;

use super::{
    RecoveryError,
    memory::{Guard, Memory, Place},
};
use crate::backup::{Left, Lock};

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
        place: &Place,
        pgdata: &Utf8Path,
        owner: &str,
        goes_on: Option<&Memory>,
    ) -> Result<Locks, RecoveryError> {
        Locks::take_for(place, pgdata, owner, goes_on.map(Memory::id))
    }

    /// The same for a recovery by its id: its record may be lost.
    pub(super) fn take_for(
        place: &Place,
        pgdata: &Utf8Path,
        owner: &str,
        goes_on: Option<&str>,
    ) -> Result<Locks, RecoveryError> {
        let own = place.repository().lock_for_recovery(owner, goes_on)?;
        let beside = match pgdata.as_str().is_empty() {
            true => None,
            false => Lock::beside(pgdata, owner, goes_on)?,
        };
        let left = beside.as_ref().map(Lock::left).unwrap_or_default();
        refuse_another(place, pgdata, &left, goes_on)?;
        Ok(Locks { repository: own, beside })
    }

    /// Takes those of a recovery that is remembered.
    pub(super) fn of(memory: &Memory, owner: &str) -> Result<Locks, RecoveryError> {
        Locks::take(&Place::of_record(memory)?, Utf8Path::new(&memory.cluster().pgdata), owner, Some(memory))
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

    fn all(&self) -> impl Iterator<Item = &Lock> {
        std::iter::once(&self.repository).chain(&self.beside)
    }
}

impl Guard for Locks {
    fn still_ours(&self) -> Result<(), RecoveryError> {
        self.all().try_for_each(|lock| Ok(lock.still_ours()?))
    }

    fn clear(&self, recovery: &str) -> Result<(), RecoveryError> {
        self.all().try_for_each(|lock| Ok(lock.clear(recovery)?))
    }
}

/// Requires that no other recovery of a data folder is unfinished than the one that goes on. Takes no lock.
pub(super) fn refuse_others(place: &Place, pgdata: &Utf8Path, goes_on: Option<&Memory>) -> Result<(), RecoveryError> {
    match pgdata.as_str().is_empty() {
        true => Ok(()),
        false => refuse_another(place, pgdata, &Lock::left_beside(pgdata)?, goes_on.map(Memory::id)),
    }
}

fn refuse_another(place: &Place, pgdata: &Utf8Path, left: &[Left], goes_on: Option<&str>) -> Result<(), RecoveryError> {
    for left in left.iter().filter(|left| goes_on != Some(left.recovery.as_str())) {
        if place.is_unfinished(left)? {
            return Err(RecoveryError::Refused {
                what: format!(
                    "recovery {} of data folder {pgdata}, from the repository {}, did not end; its record is {}",
                    left.recovery, left.repository, left.folder
                ),
                hint: "`recover resume` with the configuration that names that repository goes on with it".into(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backup::{Activity, BackupError},
        recovery::memory::{
            Ending, moved as moved_to,
            tests::{begin, place},
        },
    };
    use cdc_model::units::{Exit, Failure};

    #[test]
    fn an_unfinished_recovery_refuses_backups_and_recoveries_from_other_repositories() {
        let ((folder, first), (_other, second)) = (place(), place());
        let pgdata = Utf8Path::from_path(folder.path()).unwrap().join("data");
        std::fs::create_dir(&pgdata).unwrap();
        let memory = begin(&first);
        let locks = Locks::take(&first, &pgdata, "recover run schema", None).unwrap();
        locks.leave(&memory).unwrap();
        locks.still_ours().unwrap();
        drop(locks);
        let refused = first.repository().lock(Activity::Create, "backup create").unwrap_err();
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
        std::fs::rename(first.repository().path(), &moved).unwrap();
        let moved = moved_to(Utf8Path::from_path(&moved).unwrap());
        let memory = Memory::open(&moved.repository().path().join("recoveries").join(memory.id())).unwrap();
        assert_eq!(memory.repository_path(), moved.repository().path());
        let again = Locks::take(&moved, &pgdata, "recover run schema", Some(&memory)).unwrap();
        again.leave(&memory).unwrap();
        // The process was killed between closing the record and clearing the locks.
        memory.close(Ending::Verified).unwrap();
        drop(again);
        drop(Locks::take(&second, &pgdata, "recover run slot", None).unwrap());
        let again = Locks::take(&moved, &pgdata, "recover run schema", None).unwrap();
        again.clear(memory.id()).unwrap();
        drop(again);
        let first = moved;
        drop(first.repository().lock(Activity::Create, "backup create").unwrap());
    }
}
