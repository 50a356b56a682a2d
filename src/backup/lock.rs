//! Locks of a repository: one file a lock, taken over when its process is gone.

use std::fs::{self, File};

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{BackupError, files::Store};

/// Who holds a lock, as the lock's file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    /// What it does: `backup create`.
    owner: String,
    /// The machine, and its boot: a process id means nothing on another.
    host: String,
    boot: String,
    pid: u32,
    /// The process's start time in clock ticks since boot: a process id is used again, the pair is not.
    start_ticks: u64,
    /// When the lock was taken, RFC 3339.
    started: String,
}

/// A held lock; dropping it releases it.
#[derive(Debug)]
#[must_use]
pub struct RepositoryLock {
    path: Utf8PathBuf,
    holder: Holder,
}

impl RepositoryLock {
    /// Takes the lock `name` for `owner`, taking it over from a process of this machine that no longer lives.
    pub(crate) fn take(store: &Store, name: &str, owner: &str) -> Result<RepositoryLock, BackupError> {
        let folder = store.root().join("locks");
        store.folder(&folder)?;
        let path = folder.join(format!("{name}.lock"));
        let holder = Holder::this_process(owner);
        // The guard makes "look, remove the stale file, make mine" one step; the kernel releases it with the process.
        let guard_path = folder.join(".guard");
        let guard = store.append(&guard_path)?;
        guard.lock().map_err(BackupError::io("lock", &guard_path))?;
        if let Some(text) = read_if_there(&path)? {
            match serde_json::from_slice::<Holder>(&text) {
                Ok(other) if other.lives() => {
                    let holder =
                        format!("{} (pid {} on {}) since {}", other.owner, other.pid, other.host, other.started);
                    return Err(BackupError::LockHeld { name: name.to_owned(), path, holder });
                }
                // A holder that was killed, also in the middle of writing this file: the guard is free, so it is gone.
                Ok(_) | Err(_) => fs::remove_file(&path).map_err(BackupError::io("remove stale lock", &path))?,
            }
        }
        let text = serde_json::to_vec(&holder).map_err(|e| BackupError::malformed(&path, e))?;
        let mut file = store.create(&path)?;
        std::io::Write::write_all(&mut file, &text).map_err(BackupError::io("write", &path))?;
        file.sync_all().map_err(BackupError::io("sync", &path))?;
        Ok(RepositoryLock { path, holder })
    }
}

impl Drop for RepositoryLock {
    fn drop(&mut self) {
        // Only if it is still ours: somebody may have removed it by hand and another process taken it.
        let ours = read_if_there(&self.path)
            .ok()
            .flatten()
            .and_then(|text| serde_json::from_slice::<Holder>(&text).ok())
            .is_some_and(|h| h == self.holder);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path, %error, "lock not released; it is stale once this process has ended");
        }
    }
}

fn read_if_there(path: &Utf8PathBuf) -> Result<Option<Vec<u8>>, BackupError> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(BackupError::io("read", path)(e)),
    }
}

impl Holder {
    fn this_process(owner: &str) -> Holder {
        let pid = std::process::id();
        Holder {
            owner: owner.to_owned(),
            host: host(),
            boot: boot(),
            pid,
            start_ticks: start_ticks(pid).unwrap_or_default(),
            started: jiff::Timestamp::now().to_string(),
        }
    }

    /// Whether the holder may still be at work. A holder on another machine cannot be asked: it is taken to live.
    fn lives(&self) -> bool {
        if self.host != host() {
            return true;
        }
        self.boot == boot() && start_ticks(self.pid) == Some(self.start_ticks)
    }
}

fn host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").map(|h| h.trim().to_owned()).unwrap_or_default()
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|h| h.trim().to_owned()).unwrap_or_default()
}

/// Field 22 of `/proc/<pid>/stat`; the command's name before it may hold spaces and parentheses.
fn start_ticks(pid: u32) -> Option<u64> {
    let mut text = String::new();
    let mut file = File::open(format!("/proc/{pid}/stat")).ok()?;
    std::io::Read::read_to_string(&mut file, &mut text).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Exit;
    use camino::Utf8Path;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(Utf8Path::from_path(folder.path()).unwrap()).unwrap();
        (folder, store)
    }

    #[test]
    fn a_second_taker_is_told_who_holds_it() {
        let (_folder, store) = store();
        let first = RepositoryLock::take(&store, "backup", "backup create").unwrap();
        let error = RepositoryLock::take(&store, "backup", "backup create").unwrap_err();
        assert_eq!(error.exit(), Exit::LockHeld);
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        let _other = RepositoryLock::take(&store, "recovery", "recover run").unwrap();
        drop(first);
        let _again = RepositoryLock::take(&store, "backup", "backup create").unwrap();
    }

    #[test]
    fn the_lock_of_a_dead_process_is_taken_over() {
        let (_folder, store) = store();
        let path = store.root().join("locks/backup.lock");
        // The same pid with another start time is another process.
        let mut dead = Holder::this_process("backup create");
        dead.start_ticks += 1;
        store.folder(&store.root().join("locks")).unwrap();
        fs::write(&path, serde_json::to_vec(&dead).unwrap()).unwrap();
        drop(RepositoryLock::take(&store, "backup", "x").unwrap());
        fs::write(&path, b"{\"owner\":\"to").unwrap();
        drop(RepositoryLock::take(&store, "backup", "x").unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn a_lock_of_another_machine_is_respected() {
        let (_folder, store) = store();
        let mut other = Holder::this_process("backup create");
        other.host = "elsewhere".into();
        store.folder(&store.root().join("locks")).unwrap();
        fs::write(store.root().join("locks/backup.lock"), serde_json::to_vec(&other).unwrap()).unwrap();
        assert_eq!(RepositoryLock::take(&store, "backup", "x").unwrap_err().exit(), Exit::LockHeld);
    }
}
