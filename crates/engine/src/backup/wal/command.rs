//! `archive_command` and `restore_command`.

use std::num::NonZeroUsize;

use camino::Utf8Path;

use super::{Archive, offered::Stored, prefetch::Prefetched, read_header};
use crate::backup::{BackupError, Repository};
use cdc_model::units::SystemId;
use cdc_postgres::{
    control,
    wal::{WalFile, WalNameError},
};

/// What `push` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// The file is now in the archive.
    Stored,
    /// It was there already, with the same content.
    AlreadyThere,
}

/// What `fetch` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The file is in place, its checksum verified.
    Placed,
    /// The archive has no such file. Recovery asks for many that do not exist: this is an answer, not an error.
    NotThere,
}

/// Takes one file into the archive: what `archive_command` runs. `path` is PostgreSQL's `%p`, relative to `pgdata`.
/// Returns only when the file is durable. The same file again is fine; other content under the same name is refused.
///
/// With a segment those are taken that the server has finished behind it, `workers` at a time: they are acknowledged, by their content,
/// when the server asks for them.
pub fn push(
    repository: &Repository,
    pgdata: &Utf8Path,
    path: &Utf8Path,
    workers: NonZeroUsize,
) -> Result<Pushed, BackupError> {
    let path = if path.is_absolute() { path.to_owned() } else { pgdata.join(path) };
    let file = wal_file(&path)?;
    // Segments say which cluster they belong to; the other files are small texts that do not.
    let system_id = match &file {
        WalFile::Segment(name) | WalFile::Partial(name) => read_header(&path, *name)?.system_id,
        WalFile::History(_) | WalFile::BackupLabel(..) => {
            control::system_id(pgdata).map_err(BackupError::io("read", &control::file(pgdata)))?
        }
    };
    match repository.archive(system_id).add_with_following(&file, &path, workers)? {
        Stored::New => Ok(Pushed::Stored),
        Stored::AlreadyThere => Ok(Pushed::AlreadyThere),
    }
}

/// Puts one archived file where recovery wants it: what `restore_command` runs, in the data folder. Only the exact name
/// is looked for. For a recovery the segments that follow are fetched beforehand by `program`, this program, in a process of its own.
pub fn fetch(
    repository: &Repository,
    system_id: SystemId,
    name: &str,
    to: &Utf8Path,
    program: Option<&Utf8Path>,
) -> Result<Fetched, BackupError> {
    let file = name.parse::<WalFile>().map_err(|e| BackupError::NotWal { path: name.into(), why: e.to_string() })?;
    let prefetched = Prefetched::beside(to).map(|prefetched| (prefetched, program));
    if restore(&repository.archive(system_id), &file, to, prefetched.as_ref())? {
        return Ok(Fetched::Placed);
    }
    // "Not there" ends a recovery: an upgrade of the repository that ends between two looks must not.
    let now = Repository::open(repository.path())?;
    let changed = now.format() != repository.format();
    if changed && restore(&now.archive(system_id), &file, to, prefetched.as_ref())? {
        Ok(Fetched::Placed)
    } else {
        Ok(Fetched::NotThere)
    }
}

fn restore(
    archive: &Archive,
    file: &WalFile,
    to: &Utf8Path,
    prefetched: Option<&(Prefetched, Option<&Utf8Path>)>,
) -> Result<bool, BackupError> {
    let found = archive.find(file)?;
    let Some((prefetched, program)) = prefetched else {
        return found.map_or(Ok(false), |held| held.restore(to).map(|()| true));
    };
    match (found, file) {
        (Some(held), WalFile::Segment(name)) => {
            if !prefetched.hand_out(&held, to)? {
                held.restore(to)?;
            }
            if let Some(program) = program {
                prefetched.fetch_behind(archive, *name, program);
            }
            Ok(true)
        }
        // Recovery asks for these when it begins and when it ends.
        (found, _) => {
            if let Err(error) = prefetched.clear() {
                tracing::debug!(%error, "what was fetched beforehand stays");
            }
            found.map_or(Ok(false), |held| held.restore(to).map(|()| true))
        }
    }
}

fn wal_file(path: &Utf8Path) -> Result<WalFile, BackupError> {
    let name = path.file_name().unwrap_or_default();
    name.parse().map_err(|e: WalNameError| BackupError::NotWal { path: path.to_owned(), why: e.to_string() })
}
