//! Where recoveries are remembered, and which of them did not end.

use camino::Utf8PathBuf;

use super::{ClusterName, Ending, Memory};
use crate::{
    backup::{Left, Repository},
    config::Config,
    recovery::RecoveryError,
    units::IfThere,
};

pub(super) const FOLDER: &str = "recoveries";
/// A folder that is being written: nothing was changed yet.
pub(super) const UNFINISHED_WRITE: &str = ".new";

/// The folders of all recoveries that began, oldest first.
pub(crate) fn all(repository: &Repository) -> Result<Vec<Utf8PathBuf>, RecoveryError> {
    let root = repository.path().join(FOLDER);
    let entries = match root.read_dir_utf8() {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(RecoveryError::io("list", &root, e)),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| RecoveryError::io("list", &root, e))?;
        if !entry.file_name().ends_with(UNFINISHED_WRITE) {
            folders.push(entry.into_path());
        }
    }
    folders.sort();
    Ok(folders)
}

/// Whether a recovery of this id is remembered that was closed with a verified result.
pub(crate) fn ended_well(repository: &Repository, id: &str) -> Result<bool, RecoveryError> {
    Ok(Memory::ending(&repository.path().join(FOLDER).join(id))? == Some(Ending::Verified))
}

/// Whether the recovery that a lock speaks of is unfinished. Its record is asked, in this repository, which may have been moved
/// since, or else where the lock says; one that cannot be found there may be.
pub(crate) fn is_unfinished(repository: &Repository, left: &Left) -> Result<bool, RecoveryError> {
    let here = repository.path().join(FOLDER).join(&left.recovery);
    let is_here = std::fs::metadata(&here).if_there().map_err(|e| RecoveryError::io("look at", &here, e))?.is_some();
    Ok(!Memory::is_closed(if is_here { &here } else { &left.folder })?)
}

/// The recovery of this cluster that began a step and was not closed. There is at most one: no other may begin beside it.
pub(crate) fn unfinished(repository: &Repository, cluster: &ClusterName) -> Result<Option<Memory>, RecoveryError> {
    for folder in all(repository)?.into_iter().rev() {
        if Memory::is_closed(&folder)? {
            continue;
        }
        let memory = Memory::open(&folder)?;
        if memory.has_begun() && memory.cluster().is_that_of(cluster) {
            return Ok(Some(memory));
        }
    }
    Ok(None)
}

/// The recovery of the configuration's cluster that did not end, if there is one.
pub(crate) fn unfinished_of(config: &Config) -> Result<Option<Memory>, RecoveryError> {
    unfinished(&Repository::open(&config.repository.path)?, &ClusterName::of(config))
}

/// The same where one is expected.
pub(crate) fn the_unfinished(config: &Config) -> Result<Memory, RecoveryError> {
    unfinished_of(config)?.ok_or_else(|| {
        RecoveryError::impossible(
            format!("repository {}", config.repository.path),
            "a recovery of this cluster that did not end",
            "none",
            "`recover plan` says what a recovery would do, `recover run` begins one",
        )
    })
}
