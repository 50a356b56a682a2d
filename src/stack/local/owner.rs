//! The owner of a stack: as long as it lives, and no longer, the servers run.

use std::fs::File;

use camino::{Utf8Path, Utf8PathBuf};

use crate::stack::StackError;

/// The lock file's name. Its presence means that the stack has an owner.
pub(super) const OWNER_LOCK: &str = "owner.lock";

/// Held by the harness for its life. However the harness ends, the kernel releases the lock, and every supervisor of the
/// stack, which waits for it, ends its server.
#[derive(Debug)]
pub struct OwnerLock {
    path: Utf8PathBuf,
    held: File,
}

impl OwnerLock {
    /// Takes ownership of the stack in `dir`, before its servers are started.
    pub fn take(dir: &Utf8Path) -> Result<OwnerLock, StackError> {
        let path = dir.join(OWNER_LOCK);
        let failed = |e| StackError::io("lock", &path, e);
        let held = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        match held.try_lock() {
            Ok(()) => Ok(OwnerLock { path, held }),
            Err(std::fs::TryLockError::WouldBlock) => Err(StackError::Occupied {
                dir: dir.to_owned(),
                detail: "another harness owns it".to_owned(),
                hint: "wait until that run has ended, or use another folder".to_owned(),
            }),
            Err(std::fs::TryLockError::Error(e)) => Err(failed(e)),
        }
    }

    /// Gives ownership up and lets the servers run on without an owner.
    pub fn release_servers(self) -> Result<(), StackError> {
        // The name goes first: a supervisor that gets the lock looks whether the name is still there.
        std::fs::remove_file(&self.path).map_err(|e| StackError::io("remove", &self.path, e))?;
        drop(self.held);
        Ok(())
    }
}
