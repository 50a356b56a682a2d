//! One step of a removal.

use camino::Utf8PathBuf;

use crate::backup::{
    BackupError, Lock, Repository, files,
    pruned::Pruned,
    storage,
    topics::{PrunedBackups, TopicArchive},
};

/// One step.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Says what goes.
    Announce(Pruned),
    /// Says what goes of a topic's archive.
    AnnounceTopic(TopicArchive, PrunedBackups),
    /// Removes a file.
    File(Utf8PathBuf),
    /// Removes a folder and what is left in it.
    Folder(Utf8PathBuf),
}

/// Does one step. What is gone already is done.
pub(super) fn act(repository: &Repository, lock: &Lock, act: &Act) -> Result<(), BackupError> {
    // Whoever was suspended for long may have lost the lock to a recovery that needs what goes.
    lock.still_ours()?;
    match act {
        Act::Announce(pruned) => pruned.write(repository.store()),
        Act::AnnounceTopic(archive, pruned) => pruned.write(archive),
        Act::File(path) => files::remove(path),
        Act::Folder(path) => storage::remove_all(path),
    }
}
