//! A lock that this process holds: taking it, keeping it, what is left in it, and giving it back.

use std::{
    fmt, fs,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    file::{Content, Left, LockFile, State},
    heartbeat::Heartbeat,
    holder::Holder,
};
use crate::backup::{BackupError, files::read_if_there};
use cdc_pipeline::client::limits::facts::HEARTBEAT;

/// A lock that this process holds, wherever it is.
pub(super) trait HeldLock: fmt::Debug + Send + Sync {
    /// What is unfinished: what was found when the lock was taken, or was left since.
    fn left(&self) -> Vec<Left>;

    /// Writes, durably, what becomes of what is in the lock.
    fn change(&self, change: &dyn Fn(&Content) -> Content) -> Result<(), BackupError>;

    /// Writes down, durably, that a recovery is unfinished from now on. Others of its cluster no longer are.
    fn leave(&self, left: Left) -> Result<(), BackupError> {
        self.change(&|there| {
            let mut content = there.again();
            content.holder = content.holder.map(|holder| holder.at_work_on(&left.recovery));
            content.left.retain(|other| other.recovery != left.recovery && !other.cluster.is_that_of(&left.cluster));
            content.left.push(left.clone());
            content
        })
    }

    /// Writes down, durably, that a recovery is no longer unfinished.
    fn clear(&self, recovery: &str) -> Result<(), BackupError> {
        self.change(&|there| {
            let mut content = there.again();
            content.left.retain(|left| left.recovery != recovery);
            content
        })
    }

    /// Fails if another process has taken the lock over, or somebody has removed it.
    fn still_ours(&self) -> Result<(), BackupError>;
}

impl LockFile {
    /// Takes the lock. The caller holds the guard.
    #[cfg(test)]
    pub(super) fn take(&self, owner: &str) -> Result<Held, BackupError> {
        self.take_for(owner, None)
    }

    /// Takes the lock for a recovery that goes on, if it is one. The caller holds the guard.
    pub(super) fn take_for(&self, owner: &str, goes_on: Option<&str>) -> Result<Held, BackupError> {
        let state = self.look()?;
        let is_own = state.is_own(goes_on);
        let left = match state {
            State::Absent => Vec::new(),
            State::Left(left) => left,
            State::Held { by, .. } => return Err(self.held(by)),
            State::Dead { by, how, left, .. } => {
                match is_own {
                    true => tracing::info!(path = %self.path(), "going on after {by}: {how}"),
                    false => tracing::warn!(path = %self.path(), "taking over the lock of {by}: {how}"),
                }
                left
            }
        };
        let (file, written) = self.write(|device| {
            let holder = Holder::this_process(owner, device);
            let holder = match goes_on {
                Some(recovery) => holder.at_work_on(recovery),
                None => holder,
            };
            Content { holder: Some(holder), left }
        })?;
        // Without it the file stays, as that of a holder that ended: it may say what was left.
        let heartbeat = Heartbeat::start(file, HEARTBEAT);
        let heartbeat = heartbeat.map_err(BackupError::io("start the heartbeat of", self.path()))?;
        Ok(Held { file: self.clone(), written: Mutex::new(written), heartbeat: Some(heartbeat) })
    }
}

/// A lock that this process holds, until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    file: LockFile,
    written: Mutex<Content>,
    heartbeat: Option<Heartbeat>,
}

impl Held {
    fn written(&self) -> MutexGuard<'_, Content> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_there(&self, written: &Content) -> Result<(), BackupError> {
        let path = self.file.path();
        let bytes = read_if_there(path)?;
        let now: Option<Content> = bytes.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok());
        if now.as_ref() == Some(written) {
            return Ok(());
        }
        let found = match (&bytes, now.and_then(|content| content.holder)) {
            (None, _) => "no file".to_owned(),
            (_, Some(holder)) => format!("that of {holder}"),
            (_, None) => "one that names no holder".to_owned(),
        };
        Err(BackupError::LockLost { path: path.to_owned(), found })
    }

    fn release(&mut self) -> Result<(), BackupError> {
        let _guard = self.file.guard()?;
        let written = self.written().clone();
        self.is_there(&written)?;
        match written.left {
            left if !left.is_empty() => self.file.write(|_| Content { holder: None, left }).map(drop),
            _ => fs::remove_file(self.file.path()).map_err(BackupError::io("remove", self.file.path())),
        }
    }
}

impl HeldLock for Held {
    fn left(&self) -> Vec<Left> {
        self.written().left.clone()
    }

    fn change(&self, change: &dyn Fn(&Content) -> Content) -> Result<(), BackupError> {
        let mut written = self.written();
        let _guard = self.file.guard()?;
        self.is_there(&written)?;
        let (file, content) = self.file.write(|_| change(&written))?;
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.follow(file);
        }
        *written = content;
        Ok(())
    }

    fn still_ours(&self) -> Result<(), BackupError> {
        self.is_there(&self.written())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Err(error) = self.release() {
            tracing::warn!(%error, "lock not released; it counts as that of a process that has ended");
        }
        // Last: as long as the file says that this process holds it, it does.
        drop(self.heartbeat.take());
    }
}
