//! `archive_command` and `restore_command`.

use camino::Utf8Path;

use super::{offered::Stored, read_header};
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
pub fn push(repository: &Repository, pgdata: &Utf8Path, path: &Utf8Path) -> Result<Pushed, BackupError> {
    let path = if path.is_absolute() { path.to_owned() } else { pgdata.join(path) };
    let file = wal_file(&path)?;
    // Segments say which cluster they belong to; the other files are small texts that do not.
    let system_id = match &file {
        WalFile::Segment(name) | WalFile::Partial(name) => read_header(&path, *name)?.system_id,
        WalFile::History(_) | WalFile::BackupLabel(..) => {
            control::system_id(pgdata).map_err(BackupError::io("read", &control::file(pgdata)))?
        }
    };
    match repository.archive(system_id).add(&file, &path)? {
        Stored::New => Ok(Pushed::Stored),
        Stored::AlreadyThere => Ok(Pushed::AlreadyThere),
    }
}

/// Puts one archived file where recovery wants it: what `restore_command` runs, in the data folder. Only the exact name
/// is looked for.
pub fn fetch(repository: &Repository, system_id: SystemId, name: &str, to: &Utf8Path) -> Result<Fetched, BackupError> {
    let file = name.parse::<WalFile>().map_err(|e| BackupError::NotWal { path: name.into(), why: e.to_string() })?;
    if repository.archive(system_id).restore(&file, to)? {
        return Ok(Fetched::Placed);
    }
    // "Not there" ends a recovery: an upgrade of the repository that ends between two looks must not.
    let now = Repository::open(repository.path())?;
    let changed = now.format() != repository.format();
    if changed && now.archive(system_id).restore(&file, to)? { Ok(Fetched::Placed) } else { Ok(Fetched::NotThere) }
}

fn wal_file(path: &Utf8Path) -> Result<WalFile, BackupError> {
    let name = path.file_name().unwrap_or_default();
    name.parse().map_err(|e: WalNameError| BackupError::NotWal { path: path.to_owned(), why: e.to_string() })
}
