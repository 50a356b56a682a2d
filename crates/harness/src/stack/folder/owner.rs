//! The owner of a stack: as long as it lives, and no longer, the servers run.

use std::fs::File;

use camino::{Utf8Path, Utf8PathBuf};

use crate::stack::StackError;

/// The lock file's name. Its presence means that the stack has an owner.
pub(super) const OWNER_LOCK: &str = "owner.lock";

/// Says that the owner gave the servers up on purpose. A word of its own: a folder that is being removed loses the lock's name first,
/// and its servers must not live on for that.
pub(super) const RELEASED: &str = "owner.released";

/// Held by the harness for its life. However the harness ends, the kernel releases the lock, and every supervisor of the
/// stack, which waits for it, ends its server.
#[derive(Debug)]
pub struct OwnerLock {
    dir: Utf8PathBuf,
    held: File,
}

impl OwnerLock {
    /// Takes ownership of the stack in `dir`, before its servers are started.
    pub fn take(dir: &Utf8Path) -> Result<OwnerLock, StackError> {
        let path = dir.join(OWNER_LOCK);
        let failed = |e| StackError::io("lock", &path, e);
        let held = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        match held.try_lock() {
            Ok(()) => {
                let released = dir.join(RELEASED);
                match std::fs::remove_file(&released) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(StackError::io("remove", &released, e)),
                    _ => Ok(OwnerLock { dir: dir.to_owned(), held }),
                }
            }
            Err(std::fs::TryLockError::WouldBlock) => Err(StackError::Occupied {
                dir: dir.to_owned(),
                detail: "another harness owns it".to_owned(),
                hint: "wait until that run has ended, or use another folder".to_owned(),
            }),
            Err(std::fs::TryLockError::Error(e)) => Err(failed(e)),
        }
    }

    /// Gives ownership up and lets the servers run on without an owner.
    pub(crate) fn release_servers(self) -> Result<(), StackError> {
        // The word comes first: a supervisor that gets the lock looks for it.
        let released = self.dir.join(RELEASED);
        std::fs::write(&released, "").map_err(|e| StackError::io("write", &released, e))?;
        let path = self.dir.join(OWNER_LOCK);
        std::fs::remove_file(&path).map_err(|e| StackError::io("remove", &path, e))?;
        drop(self.held);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_given_up_by_a_word_and_taken_again_without_it() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(temp.path()).unwrap();
        let owner = OwnerLock::take(dir).unwrap();
        assert!(!dir.join(RELEASED).exists(), "an owner that dies has said nothing");
        owner.release_servers().unwrap();
        assert!(dir.join(RELEASED).exists() && !dir.join(OWNER_LOCK).exists());
        let _again = OwnerLock::take(dir).unwrap();
        assert!(!dir.join(RELEASED).exists());
    }
}
