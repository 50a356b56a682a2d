//! What can go wrong with a repository.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    file_system::file_system,
    prune::Room,
    storage::{is_in_a_bucket, is_of_a_bucket},
    wal::WalGap,
};
use cdc_model::units::{Exit, Failure, Hint, PointId};
use cdc_pipeline::client::{ClientError, limits::facts::HEARTBEAT_OLD};

/// A backup, an archive operation or a check that could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The configuration does not tell something that is needed.
    #[error(transparent)]
    Config(#[from] cdc_pipeline::config::ConfigError),
    /// The pipeline may not be backed up by this configuration.
    #[error(transparent)]
    Attach(#[from] cdc_pipeline::attach::AttachError),
    /// It was interrupted on purpose.
    #[error(transparent)]
    Interrupted(#[from] cdc_model::moment::Interrupted),
    /// The folder is not a repository.
    #[error("{path} is not a backup repository: {found}")]
    NotARepository {
        /// The folder.
        path: Utf8PathBuf,
        /// What is there instead.
        found: String,
    },
    /// The address of a bucket is not well-formed. It is not shown where it may hold a secret.
    #[error("address of a repository in a bucket: {why}")]
    Address {
        /// What was expected and found.
        why: String,
    },
    /// A bucket's server does not do what locks in it need; nothing was written.
    #[error(
        "{path} cannot hold a repository: its server ignores {ignored} of a PUT request, so locks in it would not hold"
    )]
    NoConditions {
        /// The address.
        path: Utf8PathBuf,
        /// The condition.
        ignored: &'static str,
    },
    /// The repository or point was written by a newer version.
    #[error("{path} has format {found}; this program knows formats up to {known}")]
    FormatTooNew {
        /// The file that says so.
        path: Utf8PathBuf,
        /// The format found.
        found: u32,
        /// The newest known format.
        known: u32,
    },
    /// Another process is at work.
    #[error("lock {path} is held by {holder}")]
    LockHeld {
        /// The lock's file.
        path: Utf8PathBuf,
        /// Who holds it, since when.
        holder: String,
    },
    /// A recovery has begun to change the pipeline and has not ended.
    #[error("recovery {recovery} is unfinished: `cdc-drill {asked}` did not end, and its record is {folder}")]
    RecoveryUnfinished {
        /// Its id.
        recovery: String,
        /// What it was asked for, in the words of the command line.
        asked: String,
        /// The folder that holds its record.
        folder: Utf8PathBuf,
        /// The repository that it restores from.
        repository: Utf8PathBuf,
    },
    /// A recovery has begun since the capture of a recovery point did.
    #[error("recovery point discarded: a recovery has begun since its capture did: {counter} has changed")]
    Disturbed {
        /// The counter of recoveries that has changed.
        counter: Utf8PathBuf,
    },
    /// The lock is no longer this process's.
    #[error("lock {path} is lost: expected this process's file, found {found}")]
    LockLost {
        /// The lock's file.
        path: Utf8PathBuf,
        /// What is there instead.
        found: String,
    },
    /// An activity that refuses no other was asked about its lock.
    #[error("{activity} has no lock: no activity is refused because of it")]
    NoLock {
        /// The activity.
        activity: String,
    },
    /// No such recovery point.
    #[error("repository {repository} has no recovery point {wanted}; it has {there}")]
    NoSuchPoint {
        /// The repository.
        repository: Utf8PathBuf,
        /// What was asked for.
        wanted: String,
        /// What there is.
        there: String,
    },
    /// A recovery point that lacks something.
    #[error("recovery point {point} is incomplete: {what}")]
    Incomplete {
        /// The point.
        point: PointId,
        /// What is missing or too much.
        what: String,
    },
    /// The parts of a point that was taken are of different times; nothing of it is kept.
    #[error("recovery point {point} discarded: its parts are of different times: {what}")]
    Torn {
        /// The point.
        point: PointId,
        /// What does not hold between them.
        what: String,
    },
    /// A part that this point does not hold was asked for.
    #[error("recovery point {point} has no {part}: {reason}")]
    PartAbsent {
        /// The point.
        point: PointId,
        /// The part.
        part: &'static str,
        /// Why, as the manifest says.
        reason: String,
    },
    /// Stored bytes are not the bytes that were written.
    #[error("checksum of {path}: expected {expected}, found {found}")]
    Checksum {
        /// The file, or a file within an archive.
        path: String,
        /// What was written down.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The WAL archive has a hole.
    #[error(transparent)]
    WalGap(#[from] WalGap),
    /// A segment is in the archive with other content: two servers archive into one folder, or one went back in time.
    #[error(
        "{name} is in the archive already ({path}) with other content: archived sha256 {archived}, offered {offered}"
    )]
    WalConflict {
        /// The WAL file.
        name: String,
        /// Where it is archived.
        path: Utf8PathBuf,
        /// The checksum of what is archived.
        archived: String,
        /// The checksum of what was offered.
        offered: String,
    },
    /// A file that is not what its name says.
    #[error("{path} is not a usable WAL file: {why}")]
    NotWal {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The base backup met a damaged page; nothing of it is kept.
    #[error("base backup discarded: the cluster has damaged pages: {detail}")]
    PageChecksum {
        /// What the server said.
        detail: String,
    },
    /// The cluster cannot be backed up as it is.
    #[error("cannot back up {cluster}: {why}")]
    Unsupported {
        /// The cluster's address.
        cluster: String,
        /// Why.
        why: String,
        /// What to do, where that is not plain.
        hint: Option<Hint>,
    },
    /// What was asked for cannot be done with this topic as it is; nothing was touched.
    #[error("topic {topic}: {why}")]
    Topic {
        /// The topic.
        topic: String,
        /// What was expected and found.
        why: String,
        /// What to do, where that is not plain.
        hint: Option<Hint>,
    },
    /// A replay wrote something that is not what it should have written.
    #[error("replay into topic {topic}: {why}")]
    Replay {
        /// The topic.
        topic: String,
        /// What was expected and found.
        why: String,
    },
    /// No such backup of a topic.
    #[error("repository {repository} has no backup of {wanted}; it has {there}")]
    NoSuchTopicBackup {
        /// The repository.
        repository: Utf8PathBuf,
        /// What was asked for.
        wanted: String,
        /// What there is.
        there: String,
    },
    /// A program failed.
    #[error("{tool}: {status}: {detail}")]
    Tool {
        /// The program.
        tool: String,
        /// How it ended.
        status: String,
        /// What it said last.
        detail: String,
    },
    /// A repository is encrypted and its keys are missing, unsafe or others, or it is not encrypted as it should be. Nothing was touched.
    #[error("keys of {repository}: {why}")]
    Keys {
        /// The repository.
        repository: Utf8PathBuf,
        /// What was expected and found.
        why: String,
        /// What to do.
        hint: Hint,
    },
    /// A stored file has no meaning.
    #[error("{path}: {message}")]
    Malformed {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A system did not answer as asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A recovery point would take more room than there is.
    #[error("no recovery point is taken into {repository}: {room}")]
    BudgetExceeded {
        /// The repository.
        repository: Utf8PathBuf,
        /// The room once everything went that may go.
        room: Room,
    },
    /// The base backup takes more room than there is.
    #[error("base backup into {repository} given up: it takes more than the {} that the budget or the disk has for it", bytesize::ByteSize(*.room))]
    OutOfRoom {
        /// The repository.
        repository: Utf8PathBuf,
        /// The bytes that it could have taken.
        room: u64,
    },
    /// Something that repositories of an older format do not have.
    #[error("{path} has format 1: {wanted} needs format 2")]
    OldFormat {
        /// The repository.
        path: Utf8PathBuf,
        /// What was asked for.
        wanted: &'static str,
    },
    /// Points or WAL were removed on purpose while a check looked at them.
    #[error("{path} has changed: the repository was pruned during the check")]
    PrunedMeanwhile {
        /// What says which were removed.
        path: Utf8PathBuf,
    },
    /// A file system is full.
    #[error(
        "{what} {path}: no space: the file system of {file_system} has {} MB free",
        .free >> 20
    )]
    NoSpace {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: Utf8PathBuf,
        /// Where the file system begins.
        file_system: Utf8PathBuf,
        /// The bytes free on it once what was written was removed.
        free: u64,
    },
    /// The file system refused.
    #[error("{what} {path}: {cause}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: Utf8PathBuf,
        /// Why not.
        cause: io::Error,
    },
}

/// Whether an error is the word of a system that stores, and not about what is stored.
pub(crate) fn has_a_system_said(error: &io::Error) -> bool {
    is_full(error) || error.raw_os_error().is_some() || is_of_a_bucket(error)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Failure for BackupError {
    fn exit(&self) -> Exit {
        match self {
            BackupError::Config(error) => error.exit(),
            BackupError::Attach(error) => error.exit(),
            BackupError::Interrupted(error) => error.exit(),
            BackupError::NotARepository { .. }
            | BackupError::Address { .. }
            | BackupError::NoSuchPoint { .. }
            | BackupError::NoSuchTopicBackup { .. } => Exit::Invalid,
            BackupError::Topic { .. } => Exit::PlanImpossible,
            BackupError::Replay { .. } => Exit::CheckFailed,
            BackupError::FormatTooNew { .. } => Exit::FormatTooNew,
            BackupError::LockHeld { .. }
            | BackupError::RecoveryUnfinished { .. }
            | BackupError::Disturbed { .. }
            | BackupError::PrunedMeanwhile { .. }
            | BackupError::LockLost { .. } => Exit::LockHeld,
            BackupError::BudgetExceeded { .. } | BackupError::OutOfRoom { .. } | BackupError::NoSpace { .. } => {
                Exit::BudgetExceeded
            }
            BackupError::Keys { .. } => Exit::KeysRefused,
            BackupError::NoLock { .. } => Exit::Internal,
            BackupError::Incomplete { .. } | BackupError::Torn { .. } => Exit::BackupIncomplete,
            BackupError::Checksum { .. }
            | BackupError::PageChecksum { .. }
            | BackupError::NotWal { .. }
            | BackupError::Malformed { .. } => Exit::ChecksumMismatch,
            BackupError::WalGap(error) => error.exit(),
            BackupError::WalConflict { .. } => Exit::Refused,
            BackupError::Unsupported { .. }
            | BackupError::PartAbsent { .. }
            | BackupError::NoConditions { .. }
            | BackupError::OldFormat { .. } => Exit::PlanImpossible,
            BackupError::Tool { .. } => Exit::Inconclusive,
            BackupError::Client(error) => error.exit(),
            // No permission, read-only, full, broken, gone.
            BackupError::Io { cause, .. } if has_a_system_said(cause) => Exit::Inconclusive,
            BackupError::Io { .. } => Exit::Internal,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        let hint: Hint = match self {
            BackupError::Config(error) => return error.hints(),
            BackupError::Attach(error) => return error.hints(),
            BackupError::Interrupted(error) => return error.hints(),
            BackupError::WalGap(error) => return error.hints(),
            BackupError::Client(error) => return error.hints(),
            BackupError::NotARepository { path, .. } => {
                let place = if is_in_a_bucket(path) { "where nothing is" } else { "in an empty folder" };
                format!("`cdc-drill backup init --repository {path}` makes one {place}").into()
            }
            BackupError::FormatTooNew { .. } => "use the version that wrote it".into(),
            BackupError::LockHeld { .. } => format!(
                "wait until it has ended; a holder that died on this machine loses the lock at once, on another one {} s \
                 after its last heartbeat",
                HEARTBEAT_OLD.as_secs()
            )
            .into(),
            BackupError::RecoveryUnfinished { repository, .. } => format!(
                "`cdc-drill recover resume` goes on with it, `recover status` says how far it is, with the configuration \
                 that names the repository {repository}"
            )
            .into(),
            BackupError::Disturbed { .. } => "take another one when the recovery has ended".into(),
            BackupError::LockLost { .. } => {
                "another process took it over while this one was suspended, or the file was removed".into()
            }
            BackupError::WalConflict { .. } => {
                "two servers must not archive under one system identifier and timeline".into()
            }
            BackupError::PageChecksum { .. } => {
                "the last good recovery point is the one before; find the table with pg_amcheck".into()
            }
            BackupError::Torn { .. } => "take another one while no connector and no schema changes".into(),
            BackupError::BudgetExceeded { repository, room } => {
                let repair = format!(
                    "`cdc-drill backup check --deep --repository {repository}`: the last point that has passed it is never removed, \
                     so an older one can go when a newer one has"
                );
                let raise = match room.free < room.expected.saturating_add(room.for_wal) {
                    true => "make room on the file system".to_owned(),
                    false => "raise [backup] budget, or lower keep or keep_days".to_owned(),
                };
                return vec![raise.into(), repair.into()];
            }
            BackupError::OutOfRoom { .. } => {
                "raise [backup] budget, or make room on the file system; nothing of this recovery point was kept".into()
            }
            BackupError::OldFormat { path, .. } => {
                format!("`cdc-drill backup upgrade --repository {path}` changes the format, in place").into()
            }
            BackupError::PrunedMeanwhile { .. } => "check again".into(),
            BackupError::NoSpace { .. } => "make room there; nothing of this recovery point was kept".into(),
            BackupError::Unsupported { hint, .. } | BackupError::Topic { hint, .. } => {
                return hint.iter().cloned().collect();
            }
            BackupError::Replay { .. } => {
                "whoever writes to the topic must stop; delete it and replay again: the same command makes it anew".into()
            }
            BackupError::Keys { hint, .. } => hint.clone(),
            BackupError::NoConditions { .. } => "use a server of objects that heeds them, or a folder".into(),
            BackupError::Address { .. }
            | BackupError::NoLock { .. }
            | BackupError::NoSuchPoint { .. }
            | BackupError::NoSuchTopicBackup { .. }
            | BackupError::Incomplete { .. }
            | BackupError::PartAbsent { .. }
            | BackupError::Checksum { .. }
            | BackupError::NotWal { .. }
            | BackupError::Tool { .. }
            | BackupError::Malformed { .. }
            | BackupError::Io { .. } => return Vec::new(),
        };
        vec![hint]
    }

    /// A lock is given back, a segment is archived yet, and a file that another program is writing is complete next time.
    fn is_transient(&self) -> bool {
        match self {
            BackupError::Config(error) => error.is_transient(),
            BackupError::Attach(error) => error.is_transient(),
            BackupError::Interrupted(error) => error.is_transient(),
            BackupError::WalGap(error) => error.is_transient(),
            BackupError::Client(error) => error.is_transient(),
            BackupError::LockHeld { .. }
            | BackupError::Disturbed { .. }
            | BackupError::Torn { .. }
            | BackupError::PrunedMeanwhile { .. }
            | BackupError::Checksum { .. }
            | BackupError::NotWal { .. }
            | BackupError::Malformed { .. }
            | BackupError::Tool { .. }
            | BackupError::Io { .. } => true,
            BackupError::NotARepository { .. }
            | BackupError::Address { .. }
            | BackupError::NoConditions { .. }
            | BackupError::Keys { .. }
            | BackupError::FormatTooNew { .. }
            | BackupError::RecoveryUnfinished { .. }
            | BackupError::LockLost { .. }
            | BackupError::NoLock { .. }
            | BackupError::NoSuchPoint { .. }
            | BackupError::NoSuchTopicBackup { .. }
            | BackupError::Topic { .. }
            | BackupError::Replay { .. }
            | BackupError::Incomplete { .. }
            | BackupError::PartAbsent { .. }
            | BackupError::WalConflict { .. }
            | BackupError::PageChecksum { .. }
            | BackupError::Unsupported { .. }
            | BackupError::BudgetExceeded { .. }
            | BackupError::OutOfRoom { .. }
            | BackupError::OldFormat { .. }
            | BackupError::NoSpace { .. } => false,
        }
    }
}

impl BackupError {
    /// Whether what is stored is not what was written: another recovery point may be whole.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, BackupError::Checksum { .. } | BackupError::Incomplete { .. } | BackupError::Malformed { .. })
    }

    /// Whether the file system or the bucket refused, and not what was read or asked.
    pub(crate) fn is_of_a_system(&self) -> bool {
        matches!(self, BackupError::Io { cause, .. } if has_a_system_said(cause))
    }

    /// Names the file system, where one is full.
    pub(crate) fn with_file_system(self) -> BackupError {
        match self {
            BackupError::Io { what, path, cause } if is_full(&cause) => match file_system(&path) {
                Ok((file_system, free)) => BackupError::NoSpace { what, path, file_system, free },
                Err(_) => BackupError::Io { what, path, cause },
            },
            other => other,
        }
    }

    /// What could not be done with a file or folder: `write`.
    pub fn io(what: &'static str, path: &Utf8Path) -> impl FnOnce(io::Error) -> BackupError {
        let path = path.to_owned();
        move |cause| BackupError::Io { what, path, cause }
    }

    pub(crate) fn topic(topic: &str, why: impl std::fmt::Display) -> BackupError {
        BackupError::Topic { topic: topic.to_owned(), why: why.to_string(), hint: None }
    }

    /// The same with a hint, where the error has none of its own.
    pub(crate) fn with_hint(self, text: impl Into<Hint>) -> BackupError {
        match self {
            BackupError::Topic { topic, why, hint: None } => BackupError::Topic { topic, why, hint: Some(text.into()) },
            other => other,
        }
    }

    pub(crate) fn malformed(path: &Utf8Path, message: impl std::fmt::Display) -> BackupError {
        BackupError::Malformed { path: path.to_owned(), message: message.to_string() }
    }

    pub(crate) fn checksum(path: impl ToString, expected: impl ToString, found: impl ToString) -> BackupError {
        BackupError::Checksum { path: path.to_string(), expected: expected.to_string(), found: found.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn what_a_file_system_refuses_is_no_internal_error() {
        let exit = |source: io::Error| BackupError::io("open", Utf8Path::new("/repository"))(source).exit();
        for errno in [Errno::EACCES, Errno::EROFS, Errno::ENOSPC, Errno::EDQUOT, Errno::EIO, Errno::ESTALE] {
            assert_eq!(exit(errno.into()), Exit::Inconclusive, "{errno}");
        }
        assert_eq!(exit(io::Error::other("a header that ends early")), Exit::Internal);
    }
}
