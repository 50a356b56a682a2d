//! Taking a lock by the matrix, and noticing what began beside it.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    Activity, Left,
    file::{LockFile, State},
    held::HeldLock,
    matrix::{By, refused_by},
    place::LockPlace,
};
use crate::backup::{
    BackupError,
    files::{Store, is_there, place_of, read_if_there},
    hash::sha256,
    storage::is_in_a_bucket,
};

/// Where the locks of one repository, or of one data folder, lie.
#[derive(Clone, Debug)]
enum Ground {
    /// `locks/` in a repository.
    Repository(Store),
    /// `.cdc-drill/` beside a data folder, with the data folder's name. Only recoveries are shown there: a backup
    /// changes nothing that another repository could mind.
    DataFolder { store: Store, name: String },
}

impl Ground {
    /// None for a path that names no folder.
    fn beside(pgdata: &Utf8Path) -> Result<Option<Ground>, BackupError> {
        // Configurations may name one folder by several paths.
        let pgdata = &place_of(pgdata)?;
        let (Some(parent), Some(name)) = (pgdata.parent(), pgdata.file_name()) else { return Ok(None) };
        // Between the exchange of two data folders there is none.
        let like = if is_there(pgdata)? { pgdata } else { parent };
        Ok(Some(Ground::DataFolder { store: Store::owned_like(parent, like)?, name: name.to_owned() }))
    }

    fn store(&self) -> &Store {
        match self {
            Ground::Repository(store) | Ground::DataFolder { store, .. } => store,
        }
    }

    fn lock_path(&self, activity: Activity) -> Option<Utf8PathBuf> {
        let name = activity.lock_name()?;
        match self {
            Ground::Repository(store) => Some(store.root().join("locks").join(format!("{name}.lock"))),
            Ground::DataFolder { store, name } if activity == Activity::Recover => {
                Some(store.root().join(".cdc-drill").join(format!("{name}.lock")))
            }
            Ground::DataFolder { .. } => None,
        }
    }

    fn place(&self, activity: Activity) -> Result<Option<LockPlace>, BackupError> {
        self.lock_path(activity).map(|path| LockPlace::new(self.store(), path)).transpose()
    }

    /// Whether looking at one lock and taking another cannot be made one step.
    fn has_no_guard(&self) -> bool {
        is_in_a_bucket(self.store().root())
    }

    /// What the lock of recoveries says here.
    fn recovery(&self) -> Result<State, BackupError> {
        self.place(Activity::Recover)?.map_or(Ok(State::Absent), |place| place.look())
    }

    /// The file that counts the recoveries that have begun here.
    fn counter(&self) -> Utf8PathBuf {
        match self {
            Ground::Repository(store) => store.root().join("locks").join(COUNTER),
            Ground::DataFolder { store, name } => store.root().join(".cdc-drill").join(format!("{name}.recoveries")),
        }
    }

    /// The counter's text: only whether it changes matters. None before the first recovery.
    fn counted(&self) -> Result<Option<String>, BackupError> {
        let bytes = read_if_there(&self.counter())?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Refuses an activity that the matrix refuses beside what is here.
    fn refuse(&self, begins: Activity) -> Result<(), BackupError> {
        self.refuse_by(refused_by(begins).iter())
    }

    /// The same for one that holds its lock already.
    fn refuse_by_others(&self, begins: Activity) -> Result<(), BackupError> {
        self.refuse_by(refused_by(begins).iter().filter(|by| **by != By::AtWork(begins)))
    }

    fn refuse_by<'b>(&self, all: impl Iterator<Item = &'b By>) -> Result<(), BackupError> {
        for by in all {
            match by {
                By::AtWork(activity) => {
                    let Some(place) = self.place(*activity)? else { continue };
                    if let State::Held { by, .. } = place.look()? {
                        return Err(place.held(by));
                    }
                }
                By::Unfinished => {
                    if let Some(left) = self.recovery()?.left().into_iter().next() {
                        let Left { recovery, folder, repository, asked, .. } = left;
                        return Err(BackupError::RecoveryUnfinished { recovery, asked, folder, repository });
                    }
                }
            }
        }
        Ok(())
    }
}

/// What makes looking and writing one step in a folder.
fn guard_in(store: &Store) -> Utf8PathBuf {
    store.root().join("locks").join(LockFile::GUARD)
}

/// The file that counts recoveries.
const COUNTER: &str = "recoveries";

/// Its text: a number, and digits of the number's hash.
fn counter_of(number: u64) -> String {
    format!("{number} {}\n", &sha256(number.to_string().as_bytes())[..16])
}

/// A ground, and how many recoveries had begun there when it was first looked at.
#[derive(Debug)]
struct Watched {
    ground: Ground,
    recoveries: Option<String>,
}

impl Watched {
    /// The count comes first, and a recovery counts itself when it holds the lock: one that is not seen at work here
    /// changes the count later.
    fn begin(ground: Ground, begins: Activity) -> Result<Watched, BackupError> {
        let recoveries = ground.counted()?;
        ground.refuse(begins)?;
        Ok(Watched { ground, recoveries })
    }

    /// Counts the recovery that holds the lock, under the guard. A counter that holds no number begins anew, which is a
    /// change too.
    fn count(&mut self) -> Result<(), BackupError> {
        let before = self.recoveries.as_deref().and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        let now = counter_of(before.unwrap_or_default().wrapping_add(1));
        self.ground.store().write(&self.ground.counter(), now.as_bytes())?;
        self.recoveries = Some(now);
        Ok(())
    }

    /// Every recovery counts itself before it looks at anything.
    fn undisturbed(&self) -> Result<(), BackupError> {
        match self.ground.counted()? == self.recoveries {
            true => Ok(()),
            false => Err(BackupError::Disturbed { counter: self.ground.counter() }),
        }
    }
}

/// The lock of an activity. Dropping it releases it; what was left stays.
///
/// It is held by an flock, by which every process of this machine tells whether its holder lives, and by a heartbeat
/// for other machines. A holder that was suspended may lose it to one of those: [`Lock::still_ours`] tells. In a bucket there is
/// no flock: on this machine the holder's process tells.
#[derive(Debug)]
#[must_use]
pub struct Lock {
    begins: Activity,
    /// None for an activity that refuses nobody.
    own: Option<Box<dyn HeldLock>>,
    watched: Vec<Watched>,
}

impl Lock {
    /// Takes the lock for an activity in a repository. Fails with [`BackupError::LockHeld`] or
    /// [`BackupError::RecoveryUnfinished`] where the matrix refuses it. `goes_on` is the recovery that goes on: that it died before is
    /// no news.
    pub(crate) fn take(
        store: &Store,
        begins: Activity,
        owner: &str,
        goes_on: Option<&str>,
    ) -> Result<Lock, BackupError> {
        Lock::take_on(Ground::Repository(store.clone()), begins, owner, goes_on)
    }

    /// Takes the lock of a recovery beside a data folder, `<parent>/.cdc-drill/<name>.lock`: recoveries from two
    /// repositories do not see one another elsewhere. It belongs to the data folder's owner. Where this account cannot
    /// reach it there is none, with a warning. `goes_on` is the recovery that goes on, if one does.
    pub fn beside(pgdata: &Utf8Path, owner: &str, goes_on: Option<&str>) -> Result<Option<Lock>, BackupError> {
        let taken = Ground::beside(pgdata).and_then(|ground| match ground {
            Some(ground) => Lock::take_on(ground, Activity::Recover, owner, goes_on).map(Some),
            None => Ok(None),
        });
        match taken {
            Err(error) if out_of_reach(&error) => {
                tracing::warn!(
                    "no lock beside the data folder {pgdata}; recoveries from other repositories are not seen: {error}"
                );
                Ok(None)
            }
            other => other,
        }
    }

    /// Every file that the locks of a repository may have.
    pub(crate) fn files_in(store: &Store) -> Vec<Utf8PathBuf> {
        let ground = Ground::Repository(store.clone());
        let all = [Activity::Create, Activity::Recover, Activity::Maintain, Activity::Prove];
        let mut files: Vec<Utf8PathBuf> = all.into_iter().filter_map(|activity| ground.lock_path(activity)).collect();
        files.extend(Lock::files_made_in(store));
        // Earlier releases locked the spool.
        files.push(store.root().join("locks").join(".spool"));
        files
    }

    /// Those that are made with a repository.
    pub(crate) fn files_made_in(store: &Store) -> Vec<Utf8PathBuf> {
        let ground = Ground::Repository(store.clone());
        let guard = (!ground.has_no_guard()).then(|| guard_in(store));
        [ground.counter()].into_iter().chain(guard).collect()
    }

    /// Makes them.
    pub(crate) fn make_files_in(store: &Store) -> Result<(), BackupError> {
        let ground = Ground::Repository(store.clone());
        if !is_there(&ground.counter())? {
            store.write(&ground.counter(), counter_of(0).as_bytes())?;
        }
        match ground.has_no_guard() {
            true => Ok(()),
            false => store.append(&guard_in(store)).map(drop),
        }
    }

    /// Whether a file of the locks holds what it may hold, where that can be told.
    pub(crate) fn is_sound(path: &Utf8Path, bytes: &[u8]) -> bool {
        let number = || std::str::from_utf8(bytes).ok()?.split_whitespace().next()?.parse::<u64>().ok();
        match path.file_name() {
            Some(LockFile::GUARD) => bytes.is_empty(),
            // Earlier releases wrote the number alone.
            Some(COUNTER) => {
                number().is_some_and(|n| [counter_of(n), format!("{n}\n")].iter().any(|t| t.as_bytes() == bytes))
            }
            Some(_) | None => true,
        }
    }

    fn take_on(ground: Ground, begins: Activity, owner: &str, goes_on: Option<&str>) -> Result<Lock, BackupError> {
        let Some(place) = ground.place(begins)? else {
            let watched = vec![Watched::begin(ground, begins)?];
            return Ok(Lock { begins, own: None, watched });
        };
        let guard = place.guard()?;
        let mut watched = Watched::begin(ground, begins)?;
        let own = place.take_for(owner, goes_on)?;
        // Of two that take locks which exclude one another, each has written its own before it looks: one of them sees the other at least.
        if watched.ground.has_no_guard() {
            watched.ground.refuse_by_others(begins)?;
        }
        let counted = if begins == Activity::Recover { watched.count() } else { Ok(()) };
        // Releasing a lock takes the guard again.
        drop(guard);
        counted?;
        Ok(Lock { begins, own: Some(own), watched: vec![watched] })
    }

    /// Looks for recoveries from other repositories beside the data folder too, now and in [`Lock::undisturbed`]. Where
    /// this account cannot look there, a warning says so.
    pub(crate) fn watch_beside(&mut self, pgdata: &Utf8Path) -> Result<(), BackupError> {
        let watched = Ground::beside(pgdata).and_then(|ground| match ground {
            Some(ground) => Watched::begin(ground, self.begins).map(Some),
            None => Ok(None),
        });
        match watched {
            Ok(watched) => self.watched.extend(watched),
            // A data folder that is not on this machine, or not there.
            Err(BackupError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(error) if out_of_reach(&error) => {
                tracing::warn!("recoveries from other repositories are not looked for beside {pgdata}: {error}");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The recoveries that were unfinished when the lock was taken, or that this process has left since.
    pub fn left(&self) -> Vec<Left> {
        self.own.as_ref().map(|own| own.left()).unwrap_or_default()
    }

    /// The recoveries of a repository that are unfinished. Takes no lock.
    pub(crate) fn left_in(store: &Store) -> Result<Vec<Left>, BackupError> {
        Ok(Ground::Repository(store.clone()).recovery()?.left())
    }

    /// The recoveries of a data folder that are unfinished, by the lock beside it. Takes no lock; none where this account cannot look.
    pub(crate) fn left_beside(pgdata: &Utf8Path) -> Result<Vec<Left>, BackupError> {
        let seen =
            Ground::beside(pgdata).and_then(|ground| ground.map_or(Ok(State::Absent), |ground| ground.recovery()));
        match seen {
            Err(error) if out_of_reach(&error) => Ok(Vec::new()),
            seen => Ok(seen?.left()),
        }
    }

    /// Who recovers from a repository now. Takes no lock.
    pub(crate) fn recoverer_in(store: &Store) -> Result<Option<String>, BackupError> {
        Ok(Ground::Repository(store.clone()).recovery()?.holder().map(str::to_owned))
    }

    /// Whether somebody is at this in a repository now. Takes no lock.
    pub(crate) fn is_held_in(store: &Store, activity: Activity) -> Result<bool, BackupError> {
        let Some(place) = Ground::Repository(store.clone()).place(activity)? else { return Ok(false) };
        Ok(matches!(place.look()?, State::Held { .. }))
    }

    /// Says, durably, that a recovery begins to change the pipeline. From now on it is unfinished until
    /// [`Lock::clear`], whatever becomes of this process.
    pub fn leave(&self, left: Left) -> Result<(), BackupError> {
        self.own()?.leave(left)
    }

    /// Says, durably, that this recovery is no longer unfinished. The lock stays held.
    pub fn clear(&self, recovery: &str) -> Result<(), BackupError> {
        self.own()?.clear(recovery)
    }

    /// Fails with [`BackupError::LockLost`] if another process has taken the lock over, or somebody has removed its
    /// file.
    pub fn still_ours(&self) -> Result<(), BackupError> {
        self.own()?.still_ours()
    }

    /// Fails if the lock is lost, and with [`BackupError::Disturbed`] if a recovery has begun since it was taken.
    pub(crate) fn undisturbed(&self) -> Result<(), BackupError> {
        self.watched.iter().try_for_each(Watched::undisturbed)?;
        self.still_ours()
    }

    fn own(&self) -> Result<&dyn HeldLock, BackupError> {
        self.own.as_deref().ok_or(BackupError::NoLock { activity: format!("{:?}", self.begins) })
    }
}

/// Whether the lock's place is none for this account.
fn out_of_reach(error: &BackupError) -> bool {
    use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
    matches!(error, BackupError::Io { cause, .. }
        if matches!(cause.kind(), NotFound | PermissionDenied | ReadOnlyFilesystem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::{ClusterName, Repository};
    use cdc_model::units::{Exit, Failure};
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    fn repository(folder: &tempfile::TempDir, name: &str) -> Repository {
        Repository::init(&Utf8Path::from_path(folder.path()).unwrap().join(name)).unwrap()
    }

    fn left(repository: &Repository) -> Left {
        Left {
            recovery: "20261122T201400Z-1a2b".into(),
            folder: repository.path().join("recoveries/20261122T201400Z-1a2b"),
            repository: repository.path().to_owned(),
            asked: "recover run coordinated --target latest".into(),
            cluster: ClusterName { pgdata: "/data".into(), address: "h:1".into(), system_id: None },
        }
    }

    fn held(result: Result<Lock, BackupError>) -> String {
        let error = result.unwrap_err();
        assert!(matches!(error, BackupError::LockHeld { .. }), "{error}");
        assert_eq!(error.exit(), Exit::LockHeld);
        error.to_string()
    }

    #[test]
    fn a_second_taker_is_told_who_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let repository = repository(&folder, "repository");
        let create = || repository.lock(Activity::Create, "backup create");
        let first = create().unwrap();
        let said = held(create());
        assert!(said.contains(&format!("backup create (pid {}", std::process::id())), "{said}");
        assert!(!said.contains("remove"), "{said}");
        drop(first);
        drop(create().unwrap());
    }

    #[test]
    fn a_recovery_refuses_backups_and_does_not_wait_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let repository = repository(&folder, "repository");
        let backup = repository.lock(Activity::Create, "backup create").unwrap();
        let recovery = repository.lock(Activity::Recover, "recover run slot").unwrap();
        held(repository.lock(Activity::Recover, "recover run slot"));
        drop(backup);
        let said = held(repository.lock(Activity::Create, "backup create"));
        assert!(said.contains("recover run slot (pid"), "{said}");
        drop(recovery);
        drop(repository.lock(Activity::Create, "backup create").unwrap());
    }

    #[test]
    fn an_unfinished_recovery_refuses_backups_until_it_is_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let repository = repository(&folder, "repository");
        repository.lock(Activity::Recover, "recover run coordinated").unwrap().leave(left(&repository)).unwrap();
        let error = repository.lock(Activity::Create, "backup create").unwrap_err();
        assert_eq!(error.exit(), Exit::LockHeld);
        let said = error.in_full();
        let Left { recovery, folder, asked, .. } = left(&repository);
        assert!(
            [&*recovery, folder.as_str(), &asked, "cdc-drill recover resume"].iter().all(|part| said.contains(part)),
            "{said}"
        );

        let again = repository.lock(Activity::Recover, "recover run coordinated").unwrap();
        assert_eq!(again.left(), [left(&repository)]);
        again.clear(&left(&repository).recovery).unwrap();
        again.still_ours().unwrap();
        drop(again);
        drop(repository.lock(Activity::Create, "backup create").unwrap());
    }

    #[test]
    fn what_refuses_nobody_is_never_refused_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let repository = repository(&folder, "repository");
        let recovery = repository.lock(Activity::Recover, "recover run slot").unwrap();
        recovery.leave(left(&repository)).unwrap();
        let files = || std::fs::read_dir(repository.path().join("locks")).unwrap().count();
        let before = files();
        for activity in [Activity::Push, Activity::Check, Activity::Restore] {
            let lock = repository.lock(activity, "x").unwrap();
            lock.undisturbed().unwrap_err();
            assert_eq!(lock.leave(left(&repository)).unwrap_err().exit(), Exit::Internal);
            assert_eq!(files(), before);
        }
    }

    #[test]
    fn a_recovery_that_ran_meanwhile_is_noticed_whatever_the_counter_said() {
        let folder = tempfile::tempdir().unwrap();
        let repository = repository(&folder, "repository");
        let counter = repository.path().join("locks/recoveries");
        for before in [None, Some("7\n"), Some("no number"), Some("")] {
            if let Some(text) = before {
                fs::write(&counter, text).unwrap();
            }
            let backup = repository.lock(Activity::Create, "backup create").unwrap();
            backup.undisturbed().unwrap();
            let recovery = repository.lock(Activity::Recover, "recover run slot").unwrap();
            assert!(matches!(backup.undisturbed(), Err(BackupError::Disturbed { .. })), "{before:?}");
            recovery.undisturbed().unwrap();
            drop(recovery);
            assert!(matches!(backup.undisturbed(), Err(BackupError::Disturbed { .. })), "{before:?}");
        }
    }

    #[test]
    fn one_data_folder_is_recovered_from_one_repository_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (repository(&folder, "one"), repository(&folder, "two"));
        let pgdata = Utf8Path::from_path(folder.path()).unwrap().join("main");
        fs::create_dir(&pgdata).unwrap();
        let beside = || Lock::beside(&pgdata, "recover run coordinated", None);
        let (_first, _second) = (one.lock(Activity::Recover, "x").unwrap(), two.lock(Activity::Recover, "x").unwrap());
        let first = beside().unwrap().unwrap();
        let said = held(beside().map(Option::unwrap));
        assert!(said.contains(&format!("{}/.cdc-drill/main.lock", pgdata.parent().unwrap())), "{said}");
        // By other paths too.
        std::os::unix::fs::symlink("main", pgdata.with_file_name("link")).unwrap();
        for path in ["link", "main/../main", "one/../link/"] {
            let path = pgdata.parent().unwrap().join(path);
            held(Lock::beside(&path, "recover run coordinated", None).map(Option::unwrap));
        }
        first.leave(left(&one)).unwrap();
        drop(first);
        // Also while the folders are being exchanged.
        fs::remove_dir(&pgdata).unwrap();
        let second = beside().unwrap().unwrap();
        assert_eq!(second.left(), [left(&one)]);
        second.clear(&left(&one).recovery).unwrap();
        drop(second);
        assert_eq!(beside().unwrap().unwrap().left(), []);
    }

    #[test]
    fn a_backup_looks_beside_the_data_folder_too() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (repository(&folder, "one"), repository(&folder, "two"));
        let pgdata = Utf8Path::from_path(folder.path()).unwrap().join("main");
        fs::create_dir(&pgdata).unwrap();
        let create = || {
            let mut lock = two.lock(Activity::Create, "backup create").unwrap();
            lock.watch_beside(&pgdata).map(|()| lock)
        };
        let backup = create().unwrap();
        assert!(!pgdata.with_file_name(".cdc-drill").exists(), "looking makes nothing");
        backup.undisturbed().unwrap();
        let recovery = Lock::beside(&pgdata, "recover run coordinated", None).unwrap().unwrap();
        assert!(matches!(backup.undisturbed(), Err(BackupError::Disturbed { .. })));
        drop(backup);
        held(create());
        recovery.leave(left(&one)).unwrap();
        drop(recovery);
        let said = create().unwrap_err().to_string();
        assert!(said.contains(one.path().as_str()), "{said}");
        Lock::beside(&pgdata, "recover run coordinated", None).unwrap().unwrap().clear(&left(&one).recovery).unwrap();
        let backup = create().unwrap();
        drop(Lock::beside(&pgdata, "recover run coordinated", None).unwrap());
        assert!(matches!(backup.undisturbed(), Err(BackupError::Disturbed { .. })), "it came and went");
    }

    #[test]
    fn a_data_folder_that_is_not_here_has_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        let repository = repository(&folder, "repository");
        let elsewhere = Utf8Path::from_path(folder.path()).unwrap().join("nowhere/18/main");
        let mut backup = repository.lock(Activity::Create, "backup create").unwrap();
        for pgdata in [elsewhere.as_path(), Utf8Path::new("")] {
            assert!(Lock::beside(pgdata, "recover run slot", None).unwrap().is_none());
            backup.watch_beside(pgdata).unwrap();
        }
        backup.undisturbed().unwrap();
        assert!(!elsewhere.parent().unwrap().exists());
    }

    #[test]
    fn the_lock_beside_belongs_to_the_data_folders_owner() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("left out: only root gives files away");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let pgdata = Utf8Path::from_path(folder.path()).unwrap().join("main");
        fs::create_dir(&pgdata).unwrap();
        std::os::unix::fs::chown(&pgdata, Some(65534), Some(65534)).unwrap();
        let _lock = Lock::beside(&pgdata, "recover run coordinated", None).unwrap().unwrap();
        for path in [".cdc-drill", ".cdc-drill/main.lock", ".cdc-drill/main.recoveries", ".cdc-drill/.guard"] {
            let meta = fs::metadata(pgdata.with_file_name(path)).unwrap();
            assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o077), (65534, 65534, 0), "{path}");
        }
    }
}
