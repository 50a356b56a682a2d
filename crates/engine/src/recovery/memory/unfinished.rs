//! Which of the recoveries that are remembered in a place did not end.

use camino::Utf8PathBuf;

use super::{
    folder::{Ending, Memory},
    place::{Place, UNFINISHED_WRITE},
};
use crate::{
    backup::{BackupError, ClusterName, Left, files::is_there},
    recovery::{RecoveryError, server::is_same},
};
use cdc_model::units::IfThere;
use cdc_pipeline::config::Config;

impl Place {
    /// Where a recovery is remembered that has begun.
    pub(crate) fn of_record(memory: &Memory) -> Result<Place, RecoveryError> {
        let folder = memory.folder().parent().unwrap_or(memory.folder());
        Ok(Place { folder: folder.to_owned(), repository: memory.repository()? })
    }

    /// Whether the recovery that a lock speaks of is unfinished. Its record is asked, here, where it may have been moved to, or else
    /// where the lock says; one that cannot be found there may be.
    pub(crate) fn is_unfinished(&self, left: &Left) -> Result<bool, RecoveryError> {
        let here = self.folder.join(&left.recovery);
        Ok(!Memory::is_closed(if is_there(&here)? { &here } else { &left.folder })?)
    }

    /// The folders of all recoveries that began, oldest first.
    pub(crate) fn all(&self) -> Result<Vec<Utf8PathBuf>, RecoveryError> {
        let unlisted = |e| RecoveryError::io("list", &self.folder, e);
        let Some(entries) = self.folder.read_dir_utf8().if_there().map_err(unlisted)? else { return Ok(Vec::new()) };
        let mut folders = Vec::new();
        for entry in entries {
            let entry = entry.map_err(unlisted)?;
            if !entry.file_name().ends_with(UNFINISHED_WRITE) {
                folders.push(entry.into_path());
            }
        }
        folders.sort();
        Ok(folders)
    }

    /// Whether a recovery of this id is remembered that was closed with a verified result.
    pub(crate) fn ended_well(&self, id: &str) -> Result<bool, RecoveryError> {
        Ok(Memory::ending(&self.folder.join(id))? == Some(Ending::Verified))
    }

    /// The recovery of this cluster that began a step and was not closed. There is at most one: no other may begin beside it. One that
    /// is remembered elsewhere, or that restores from another repository, is refused by name.
    pub(crate) fn unfinished(&self, cluster: &ClusterName) -> Result<Option<Memory>, RecoveryError> {
        for folder in self.all()?.into_iter().rev() {
            if Memory::is_closed(&folder)? {
                continue;
            }
            let memory = Memory::open(&folder)?;
            if memory.has_begun() && memory.cluster().is_that_of(cluster) {
                self.refuse_other_repository(&memory)?;
                return Ok(Some(memory));
            }
        }
        match self.elsewhere(cluster)? {
            None => Ok(None),
            Some(Elsewhere { left: Left { recovery, folder, .. }, is_there }) => {
                let place = folder.parent().unwrap_or(&folder);
                let hint = match is_there {
                    true => format!("name {place} in [recovery] folder until the recovery has ended"),
                    false => "put the record back, or name the folder that it is in now in [recovery] folder; `recover abort --leave` gives \
                         the recovery up, with what it found".to_owned(),
                };
                let found = if is_there { "" } else { ", where none is now" };
                Err(RecoveryError::Refused {
                    what: format!(
                        "recovery {recovery} of this cluster did not end, and its record is {folder}{found}; the configuration has \
                         its records in {}",
                        self.folder
                    ),
                    hint,
                })
            }
        }
    }

    fn refuse_other_repository(&self, memory: &Memory) -> Result<(), RecoveryError> {
        if is_same(memory.repository_path(), self.repository.path()) {
            return Ok(());
        }
        Err(RecoveryError::Refused {
            what: format!(
                "recovery {} of this cluster, recorded in {}, did not end and restores from the repository {}; the configuration \
                 names {}",
                memory.id(),
                memory.folder(),
                memory.repository_path(),
                self.repository.path()
            ),
            hint: format!("name {} in [repository] path until the recovery has ended", memory.repository_path()),
        })
    }

    /// The recovery of this cluster that the repository's lock knows to be unfinished, and whose record is in another folder. Where
    /// the record was moved along with the setting, it is here.
    pub(crate) fn elsewhere(&self, cluster: &ClusterName) -> Result<Option<Elsewhere>, RecoveryError> {
        for left in self.repository.unfinished_recoveries()? {
            let here = self.folder.join(&left.recovery);
            if left.folder.parent() == Some(&self.folder) || !left.cluster.is_that_of(cluster) || is_there(&here)? {
                continue;
            }
            if !is_there(&left.folder)? {
                return Ok(Some(Elsewhere { left, is_there: false }));
            }
            if !Memory::is_closed(&left.folder)? && Memory::open(&left.folder)?.has_begun() {
                return Ok(Some(Elsewhere { left, is_there: true }));
            }
        }
        Ok(None)
    }
}

/// An unfinished recovery that is remembered in another folder than the configured one.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    pub(crate) left: Left,
    /// Whether the record is there.
    pub(crate) is_there: bool,
}

/// The recovery of the configuration's cluster that did not end, if there is one.
pub(crate) fn unfinished_of(config: &Config) -> Result<Option<Memory>, RecoveryError> {
    Place::of(config)?.unfinished(&ClusterName::of(config))
}

/// Requires that no recovery of the configuration's cluster is unfinished: what it found is what it goes on with. Where there is no
/// repository, none began.
pub fn refuse_unfinished(config: &Config) -> Result<(), RecoveryError> {
    let place = match Place::of(config) {
        Ok(place) => place,
        Err(RecoveryError::Backup(BackupError::NotARepository { .. })) => return Ok(()),
        Err(error) => return Err(error),
    };
    refuse_in(&place, &ClusterName::of(config))
}

fn refuse_in(place: &Place, cluster: &ClusterName) -> Result<(), RecoveryError> {
    match place.unfinished(cluster)? {
        None => Ok(()),
        Some(memory) => Err(RecoveryError::Refused {
            what: format!("recovery {} of this cluster, begun {}, did not end", memory.id(), memory.began()),
            hint: "`recover status` says how far it is, `recover resume` goes on with it".into(),
        }),
    }
}

/// The same where one is expected.
pub(crate) fn the_unfinished(config: &Config) -> Result<Memory, RecoveryError> {
    unfinished_of(config)?.ok_or_else(|| {
        RecoveryError::impossible(
            format!("{}, the folder of the records of recoveries", config.recoveries()),
            "a recovery of this cluster that did not end",
            "none",
            "`recover plan` says what a recovery would do, `recover run` begins one",
        )
    })
}

#[cfg(test)]
pub(in crate::recovery) mod tests {
    use std::os::unix::fs::MetadataExt;

    use camino::Utf8Path;

    use super::*;
    use crate::{
        backup::Repository,
        recovery::{
            locks::Locks,
            memory::tests::{begin, cluster},
        },
    };
    use cdc_model::units::Failure;

    /// Records in `<folder>/<records>` of recoveries from the repository `<folder>/<repository>`.
    pub(in crate::recovery) fn place(folder: &tempfile::TempDir, repository: &str, records: &str) -> Place {
        let root = Utf8Path::from_path(folder.path()).unwrap();
        Place { folder: root.join(records), repository: Repository::init(&root.join(repository)).unwrap() }
    }

    /// The default place in a repository that was moved.
    pub(in crate::recovery) fn moved(repository: &Utf8Path) -> Place {
        Place { folder: repository.join("recoveries"), repository: Repository::open(repository).unwrap() }
    }

    /// A recovery that was killed in its first step, with what its lock says.
    fn killed(place: &Place) -> Memory {
        let memory = begin(place);
        Locks::take(place, Utf8Path::new(""), "recover run schema", Some(&memory)).unwrap().leave(&memory).unwrap();
        memory.begun("stop-connectors", &[]).unwrap();
        memory
    }

    #[test]
    fn records_are_where_the_setting_says_and_know_their_repository() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(&folder, "repository", "elsewhere/deep/records");
        let memory = killed(&place);
        assert_eq!(memory.folder().parent(), Some(place.folder()));
        assert_eq!(memory.repository_path(), place.repository().path());
        let found = place.unfinished(&cluster()).unwrap().unwrap();
        assert_eq!((found.id(), found.repository_path()), (memory.id(), place.repository().path()));
    }

    #[test]
    fn what_would_disturb_an_unfinished_recovery_is_refused_until_it_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(&folder, "repository", "repository/recoveries");
        assert!(refuse_in(&place, &cluster()).is_ok());
        let memory = killed(&place);
        let refused = refuse_in(&place, &cluster()).unwrap_err();
        assert_eq!(refused.exit(), cdc_model::units::Exit::Refused);
        assert!(refused.to_string().contains(memory.id()), "{refused}");
        let other = ClusterName { pgdata: "/other".into(), address: "h:2".into(), system_id: None };
        assert!(refuse_in(&place, &other).is_ok(), "another cluster's");
        memory.close(Ending::Verified).unwrap();
        assert!(refuse_in(&place, &cluster()).is_ok());
    }

    #[test]
    fn a_recovery_is_not_lost_when_the_setting_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (before, after) = (place(&folder, "repository", "before"), place(&folder, "repository", "after"));
        let memory = killed(&before);
        let refused = after.unfinished(&cluster()).unwrap_err();
        assert_eq!(refused.exit(), cdc_model::units::Exit::Refused);
        for part in [memory.id(), memory.folder().as_str(), after.folder().as_str(), before.folder().as_str()] {
            assert!(refused.in_full().contains(part), "no `{part}` in {refused}");
        }
        let other = ClusterName { pgdata: "/other".into(), address: "h:2".into(), system_id: None };
        assert!(after.unfinished(&other).unwrap().is_none(), "another cluster in the same repository");
        // Gone: what it found is lost, which a person has to know.
        let aside = folder.path().join("aside");
        std::fs::rename(memory.folder(), &aside).unwrap();
        let refused = after.unfinished(&cluster()).unwrap_err().in_full();
        assert!(refused.contains("where none is now") && refused.contains("abort --leave"), "{refused}");
        // Moved along with the setting.
        after.store().unwrap();
        std::fs::rename(&aside, after.folder().join(memory.id())).unwrap();
        assert_eq!(after.unfinished(&cluster()).unwrap().unwrap().id(), memory.id());
        Memory::open(&after.folder().join(memory.id())).unwrap().close(Ending::Verified).unwrap();
        assert!(after.unfinished(&cluster()).unwrap().is_none());
    }

    #[test]
    fn a_recovery_from_another_repository_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (place(&folder, "one", "records"), place(&folder, "two", "records"));
        let memory = killed(&one);
        let refused = two.unfinished(&cluster()).unwrap_err();
        assert_eq!(refused.exit(), cdc_model::units::Exit::Refused);
        for part in [memory.id(), one.repository().path().as_str(), two.repository().path().as_str()] {
            assert!(refused.in_full().contains(part), "no `{part}` in {refused}");
        }
        assert!(one.unfinished(&cluster()).unwrap().is_some());
        // The same one by another path.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(one.repository().path(), &link).unwrap();
        let link = Utf8Path::from_path(&link).unwrap();
        let by_link = Place { folder: one.folder().to_owned(), repository: Repository::open(link).unwrap() };
        assert!(by_link.unfinished(&cluster()).unwrap().is_some());
    }

    #[test]
    fn records_belong_to_the_owner_of_the_repository_whoever_writes_them() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("left out: only root gives files away");
            return;
        }
        for records in ["repository/recoveries", "elsewhere"] {
            let folder = tempfile::tempdir().unwrap();
            let root = Utf8Path::from_path(folder.path()).unwrap();
            place(&folder, "repository", records);
            std::os::unix::fs::chown(root.join("repository"), Some(65534), Some(65534)).unwrap();
            let place = place(&folder, "repository", records);
            let memory = begin(&place);
            memory.begun("fence", &[]).unwrap();
            Memory::open(memory.folder()).unwrap().write("dump.json", b"{}").unwrap();
            let files = memory.folder().read_dir_utf8().unwrap().map(|entry| entry.unwrap().into_path());
            for path in files.chain([memory.folder().to_owned(), place.folder().to_owned()]) {
                let meta = std::fs::metadata(&path).unwrap();
                assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o077), (65534, 65534, 0), "{path}");
            }
        }
    }
}
