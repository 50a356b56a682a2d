//! The file of a lock: who holds it, and what an activity left behind that did not end.
//!
//! A file is never changed in place. Each write is a new file that gets the name, so that a crash leaves the old
//! content or the new one, and whoever reads a file that was replaced meanwhile notices.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
};

use camino::{Utf8Path, Utf8PathBuf};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::{
    ClusterName,
    holder::{Flock, Holder, Life, beats},
};
use crate::backup::{
    BackupError,
    files::{self, Store},
};
use cdc_pipeline::client::limits::facts::HEARTBEAT_OLD;

/// A recovery that has begun to change the pipeline and has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Its id.
    pub recovery: String,
    /// The folder that holds its record.
    pub folder: Utf8PathBuf,
    /// The repository that it restores from.
    pub repository: Utf8PathBuf,
    /// What it was asked for, in the words of the command line: `recover run coordinated --target latest`.
    pub asked: String,
    /// The cluster that it is of.
    pub cluster: ClusterName,
}

/// What a lock file says. One that says nothing is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) holder: Option<Holder>,
    /// One a cluster: several may share a repository.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) left: Vec<Left>,
}

impl Content {
    /// The same for another write of the file.
    pub(super) fn again(&self) -> Content {
        Content { holder: self.holder.as_ref().map(Holder::again), left: self.left.clone() }
    }
}

/// What a lock file means at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody holds it and nothing is unfinished.
    Absent,
    /// Nobody holds it; recoveries are unfinished.
    Left(Vec<Left>),
    /// Somebody is at work.
    Held { by: String, left: Vec<Left> },
    /// Its holder ended without releasing it.
    Dead {
        by: String,
        how: String,
        /// The recovery that it was at work on.
        recovery: Option<String>,
        left: Vec<Left>,
    },
}

impl State {
    /// Whether its holder died at work on this recovery, which goes on now.
    pub(super) fn is_own(&self, goes_on: Option<&str>) -> bool {
        matches!(self, State::Dead { recovery: Some(recovery), .. } if goes_on == Some(recovery))
    }

    /// Who is at work.
    pub(super) fn holder(&self) -> Option<&str> {
        match self {
            State::Held { by, .. } => Some(by),
            State::Absent | State::Left(_) | State::Dead { .. } => None,
        }
    }

    pub(super) fn left(self) -> Vec<Left> {
        match self {
            State::Absent => Vec::new(),
            State::Left(left) => left,
            State::Held { left, .. } | State::Dead { left, .. } => left,
        }
    }
}

/// The file of one lock. Its folder may be missing as long as nobody takes the lock.
#[derive(Clone, Debug)]
pub(super) struct LockFile {
    store: Store,
    path: Utf8PathBuf,
}

impl LockFile {
    /// What makes "look and write" one step: a file beside those of the locks.
    pub(super) const GUARD: &str = ".guard";

    pub(super) fn new(store: &Store, path: Utf8PathBuf) -> LockFile {
        LockFile { store: store.clone(), path }
    }

    pub(super) fn path(&self) -> &Utf8Path {
        &self.path
    }

    fn folder(&self) -> &Utf8Path {
        self.path.parent().unwrap_or(Utf8Path::new("."))
    }

    /// Makes "look and write" one step among all that change lock files of this folder. The kernel releases it with the
    /// process. None where the file system has no locks: there, of two that write at once, the first finds out by
    /// `still_ours`.
    pub(super) fn guard(&self) -> Result<Option<File>, BackupError> {
        self.store.folder(self.folder())?;
        let path = self.folder().join(LockFile::GUARD);
        let guard = self.store.append(&path)?;
        match guard.lock() {
            Ok(()) => {}
            Err(error) if unsupported(&error) => return Ok(None),
            Err(error) => return Err(BackupError::io("lock", &path)(error)),
        }
        self.remove_halves()?;
        Ok(Some(guard))
    }

    /// Removes what a process left that was killed while it wrote here. Only under the guard, which all writers hold.
    fn remove_halves(&self) -> Result<(), BackupError> {
        let folder = self.folder();
        for entry in folder.read_dir_utf8().map_err(BackupError::io("list", folder))? {
            let entry = entry.map_err(BackupError::io("list", folder))?;
            if entry.file_name().starts_with('.') && entry.file_name().ends_with(".tmp") {
                fs::remove_file(entry.path()).map_err(BackupError::io("remove", entry.path()))?;
            }
        }
        Ok(())
    }

    /// What the file means now. Needs no guard and changes nothing.
    pub(super) fn look(&self) -> Result<State, BackupError> {
        loop {
            let mut file = match File::open(&self.path) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(State::Absent),
                Err(e) => return Err(BackupError::io("open", &self.path)(e)),
            };
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(BackupError::io("read", &self.path))?;
            let state = self.judge(&file, &bytes)?;
            // A holder lets go of a file when it has replaced or removed it: one that is no longer there proves no
            // death.
            let replaced = || files::read_if_there(&self.path).map(|now| now.as_deref() != Some(bytes.as_slice()));
            if matches!(state, State::Dead { .. }) && replaced()? {
                continue;
            }
            return Ok(state);
        }
    }

    fn judge(&self, file: &File, bytes: &[u8]) -> Result<State, BackupError> {
        let content: Option<Content> = serde_json::from_slice(bytes).ok();
        let flock = self.flock(file)?;
        let (by, recovery, left, life) = match content {
            Some(Content { holder: None, left }) if !left.is_empty() => return Ok(State::Left(left)),
            Some(Content { holder: Some(holder), left }) => {
                let device = file.metadata().map_err(BackupError::io("look at", &self.path))?.dev();
                (holder.to_string(), holder.recovery().map(str::to_owned), left, holder.life(flock, device))
            }
            // Of a version that writes something else, or damaged.
            Some(Content { holder: None, .. }) | None => {
                ("a holder that the file does not name".to_owned(), None, Vec::new(), Life::of_unknown(flock))
            }
        };
        let how = match life {
            Life::Lives => return Ok(State::Held { by, left }),
            Life::Dead => "its process has ended".to_owned(),
            Life::Elsewhere => match files::age(file, self.folder())? {
                age if beats(age) => return Ok(State::Held { by, left }),
                age => format!("its last heartbeat is {} s old (limit: {} s)", age.as_secs(), HEARTBEAT_OLD.as_secs()),
            },
        };
        Ok(State::Dead { by, how, recovery, left })
    }

    fn flock(&self, file: &File) -> Result<Flock, BackupError> {
        // A shared lock: it conflicts with the holder's, and not with that of another process that looks.
        match file.try_lock_shared() {
            Ok(()) => Ok(Flock::Free),
            Err(TryLockError::WouldBlock) => Ok(Flock::Held),
            Err(TryLockError::Error(e)) if unsupported(&e) => Ok(Flock::Unsupported),
            Err(TryLockError::Error(e)) => Err(BackupError::io("test the lock of", &self.path)(e)),
        }
    }

    pub(super) fn held(&self, by: String) -> BackupError {
        BackupError::LockHeld { path: self.path.clone(), holder: by }
    }

    /// Writes the file anew, durably, and locks it where it has a holder. The content may name the file system's
    /// device.
    pub(super) fn write(&self, content: impl FnOnce(u64) -> Content) -> Result<(File, Content), BackupError> {
        let temporary = files::temporary_beside(&self.path);
        let mut file = self.store.create(&temporary)?;
        let finish = || {
            let device = file.metadata().map_err(BackupError::io("look at", &temporary))?.dev();
            let content = content(device);
            let text = files::canonical_json(&self.path, &content)?;
            file.write_all(&text).and_then(|()| file.sync_all()).map_err(BackupError::io("write", &temporary))?;
            if content.holder.is_some() {
                // Nobody else has opened it: it cannot be locked yet.
                match file.try_lock() {
                    Err(TryLockError::Error(e)) if unsupported(&e) => {}
                    other => other.map_err(io::Error::from).map_err(BackupError::io("lock", &temporary))?,
                }
            }
            files::publish(&temporary, &self.path)?;
            Ok((file, content))
        };
        finish().inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })
    }
}

/// Whether a file system says that it has no such locks.
fn unsupported(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::lock::held::HeldLock;
    use cdc_model::units::Failure;
    use cdc_pipeline::client::limits::facts::HEARTBEAT;
    use rstest::rstest;
    use std::time::{Duration, SystemTime};

    fn lock_file() -> (tempfile::TempDir, LockFile) {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        let file = LockFile::new(&Store::new(root).unwrap(), root.join("locks/recovery.lock"));
        drop(file.guard().unwrap());
        (folder, file)
    }

    fn left() -> Left {
        Left {
            recovery: "20261122T201400Z-1a2b".into(),
            folder: "/repository/recoveries/20261122T201400Z-1a2b".into(),
            repository: "/repository".into(),
            asked: "recover run coordinated --target latest".into(),
            cluster: ClusterName { pgdata: "/data".into(), address: "h:1".into(), system_id: None },
        }
    }

    /// Writes a file as `holder` makes it of this process. Its flock is held for as long as what is returned is there.
    fn written(file: &LockFile, holder: impl FnOnce(Holder) -> Holder, age: Duration) -> File {
        let this = |device| Holder::this_process("recover run coordinated", device);
        let (open, _) = file.write(|device| Content { holder: Some(holder(this(device))), left: Vec::new() }).unwrap();
        open.set_modified(SystemTime::now() - age).unwrap();
        open
    }

    const FRESH: Duration = HEARTBEAT;
    const OLD: Duration = HEARTBEAT_OLD.saturating_mul(2);

    fn is_held(file: &LockFile) -> bool {
        match file.look().unwrap() {
            State::Held { .. } => true,
            State::Dead { .. } => false,
            other => panic!("{other:?}"),
        }
    }

    #[rstest]
    #[case::ended(|h| h)]
    #[case::had_this_pid_before(Holder::before)]
    #[case::in_another_namespace(Holder::of_another_namespace)]
    fn a_holder_of_this_kernel_lives_as_long_as_it_holds_the_flock(#[case] holder: fn(Holder) -> Holder) {
        let (_folder, file) = lock_file();
        let open = written(&file, holder, OLD);
        assert!(is_held(&file), "a late heartbeat means nothing here");
        open.set_modified(SystemTime::now()).unwrap();
        drop(open);
        assert!(!is_held(&file), "nor does one from a moment ago");
    }

    #[rstest]
    #[case::another_boot(Holder::of_another_boot)]
    #[case::a_boot_that_is_not_known(Holder::of_an_unknown_boot)]
    #[case::another_mount_of_the_store(Holder::of_another_mount)]
    fn a_holder_elsewhere_lives_as_long_as_its_heart_beats(#[case] holder: fn(Holder) -> Holder) {
        let (_folder, file) = lock_file();
        drop(written(&file, holder, FRESH));
        assert!(is_held(&file));
        assert_eq!(file.take("x").unwrap_err().exit(), cdc_model::units::Exit::LockHeld);
        drop(written(&file, holder, OLD));
        assert!(!is_held(&file));
        let held = file.take("x").unwrap();
        assert!(is_held(&file));
        drop(held);
        let open = written(&file, holder, OLD);
        assert!(is_held(&file), "another machine of the same file server holds it");
        drop(open);
    }

    #[test]
    fn a_heartbeat_from_the_future_is_none_of_the_past() {
        let (_folder, file) = lock_file();
        let open = written(&file, Holder::of_another_boot, Duration::ZERO);
        open.set_modified(SystemTime::now() + OLD).unwrap();
        drop(open);
        assert!(is_held(&file), "the file server's clock was set back");
    }

    #[rstest]
    #[case::half(b"{\"holder\": {\"owner\":\"to")]
    #[case::of_another_version(br#"{"owner": "recover run", "pid": 1}"#)]
    #[case::empty(b"")]
    fn a_file_that_tells_no_holder_is_judged_by_its_age(#[case] bytes: &[u8]) {
        let (_folder, file) = lock_file();
        fs::write(file.path(), bytes).unwrap();
        assert!(is_held(&file));
        let open = File::options().write(true).open(file.path()).unwrap();
        open.set_modified(SystemTime::now() - OLD).unwrap();
        assert!(!is_held(&file));
        open.try_lock().unwrap();
        assert!(is_held(&file));
        drop(open);
        drop(file.take("x").unwrap());
        assert_eq!(file.look().unwrap(), State::Absent);
    }

    #[test]
    fn what_was_left_outlives_holders_that_end_and_holders_that_are_killed() {
        let (_folder, file) = lock_file();
        let held = file.take("recover run coordinated").unwrap();
        assert_eq!(held.left(), []);
        held.leave(left()).unwrap();
        assert!(matches!(file.look().unwrap(), State::Held { left: l, .. } if l == [left()]));
        let killed_in_its_first_run = fs::read(file.path()).unwrap();
        drop(held);
        assert_eq!(file.look().unwrap(), State::Left(vec![left()]));

        let held = file.take_for("recover resume", Some(&left().recovery)).unwrap();
        assert_eq!(held.left(), [left()]);
        let killed = fs::read(file.path()).unwrap();
        held.clear(&left().recovery).unwrap();
        held.still_ours().unwrap();
        drop(held);
        assert_eq!(file.look().unwrap(), State::Absent);
        for killed in [killed_in_its_first_run, killed] {
            fs::write(file.path(), killed).unwrap();
            let dead = file.look().unwrap();
            assert!(matches!(&dead, State::Dead { left: l, .. } if *l == [left()]));
            // Whoever goes on with what the dead one left expects that; to anybody else its death is news.
            assert!(dead.is_own(Some(&left().recovery)));
            assert!(!dead.is_own(None) && !dead.is_own(Some("20261123T080000Z-0001")));
        }
        assert_eq!(file.take("recover resume").unwrap().left(), [left()]);
        assert_eq!(file.look().unwrap(), State::Left(vec![left()]));
    }

    #[test]
    fn recoveries_of_two_clusters_are_unfinished_each_for_itself() {
        let (_folder, file) = lock_file();
        let other = Left {
            recovery: "20261123T080000Z-0001".into(),
            cluster: ClusterName { pgdata: "/other".into(), address: "h:2".into(), system_id: None },
            ..left()
        };
        let held = file.take("recover run coordinated").unwrap();
        held.leave(left()).unwrap();
        held.leave(other.clone()).unwrap();
        held.clear(&other.recovery).unwrap();
        assert_eq!(held.left(), [left()], "the other one's end is not this one's");
        held.leave(other.clone()).unwrap();
        let again = Left { recovery: "20261124T080000Z-0002".into(), ..left() };
        held.leave(again.clone()).unwrap();
        drop(held);
        assert_eq!(file.look().unwrap(), State::Left(vec![other, again]), "one a cluster");
    }

    #[test]
    fn a_holder_that_writes_its_file_anew_is_never_taken_for_dead() {
        let (_folder, file) = lock_file();
        let held = file.take("recover run coordinated").unwrap();
        std::thread::scope(|scope| {
            let writes = scope.spawn(|| (0..300).for_each(|_| held.leave(left()).unwrap()));
            let mut looks = 0;
            while !writes.is_finished() || looks == 0 {
                assert!(is_held(&file), "look {looks}");
                looks += 1;
            }
        });
    }

    #[rstest]
    #[case::taken_over(false)]
    #[case::removed(true)]
    fn a_holder_notices_that_its_lock_is_lost_and_leaves_anothers_alone(#[case] removed: bool) {
        let (_folder, file) = lock_file();
        let held = file.take("recover run coordinated").unwrap();
        held.still_ours().unwrap();
        let other = (!removed).then(|| written(&file, Holder::of_another_boot, FRESH));
        if removed {
            fs::remove_file(file.path()).unwrap();
        }
        let there = files::read_if_there(file.path()).unwrap();
        for lost in [held.still_ours(), held.leave(left()), held.clear("x")] {
            let lost = lost.unwrap_err();
            assert!(matches!(lost, BackupError::LockLost { .. }), "{lost}");
            assert_eq!(lost.exit(), cdc_model::units::Exit::LockHeld);
        }
        drop(held);
        assert_eq!(files::read_if_there(file.path()).unwrap(), there);
        drop(other);
    }

    #[test]
    fn half_written_files_go_and_files_are_the_owners_alone() {
        let (_folder, file) = lock_file();
        let half = files::temporary_beside(file.path());
        fs::write(&half, b"half").unwrap();
        let guard = file.guard().unwrap();
        assert!(guard.is_some() && !half.exists());
        let held = file.take("x").unwrap();
        assert_eq!(fs::metadata(file.path()).unwrap().mode() & 0o777, 0o600);
        drop(guard);
        drop(held);
        let rest: Vec<_> = fs::read_dir(file.folder()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(rest, [".guard"]);
    }

    #[test]
    fn file_systems_without_locks_are_known_by_their_errors() {
        for errno in [Errno::ENOLCK, Errno::EOPNOTSUPP, Errno::ENOSYS] {
            assert!(unsupported(&errno.into()), "{errno}");
        }
        assert!(!unsupported(&Errno::EACCES.into()) && !unsupported(&io::Error::other("x")));
    }
}
