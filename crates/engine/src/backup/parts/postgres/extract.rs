//! Putting a base backup's files back, every checksum verified on the way.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, BufReader, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt, chown},
    path::Component,
};

use camino::{Utf8Path, Utf8PathBuf};

use super::increment;
use crate::backup::{
    BackupError, Point,
    bases::bases,
    error::has_a_system_said,
    files::is_there,
    format::layout::{BACKUP_MANIFEST, BASE},
    hash::{BUFFER, Hashing, Sha256, sha256_file},
    storage,
};
use cdc_model::units::{IfThere, counted};
use cdc_pipeline::config::{Temporary, Tools};
use cdc_postgres::backup_manifest::{self, Listed};

/// The account that the restored files belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extracted {
    /// How many files.
    pub files: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// Restores a point's base backup into a folder that is missing or empty. Its files have the modes they were saved with,
/// without access for others, and belong to `owner` (or to this process). There is a `backup_label` and no
/// `recovery.signal`: the caller decides how the server starts, and must not start it without one. On any mistake the
/// folder is emptied again.
///
/// What has changed since another point's base backup is combined with that one, in a temporary folder beside `into`, by PostgreSQL's
/// own program.
///
/// `heard` is given the bytes that were written so far, now and then.
///
/// Nothing is synced here: PostgreSQL syncs a data folder that was not shut down cleanly before it replays.
pub fn extract(
    point: &Point,
    tools: &Tools,
    into: &Utf8Path,
    owner: Option<Owner>,
    heard: &dyn Fn(u64),
) -> Result<Extracted, BackupError> {
    let below = bases(point)?;
    let there = fs::read_dir(into).if_there().map_err(BackupError::io("list", into))?;
    let existed = there.is_some();
    if there.is_some_and(|mut entries| entries.next().is_some()) {
        let source = io::Error::new(io::ErrorKind::AlreadyExists, "the folder is not empty");
        return Err(BackupError::Io { what: "restore into", path: into.to_owned(), cause: source });
    }
    fs::create_dir_all(into).map_err(BackupError::io("make folder", into))?;
    set(into, 0o700, owner)?;
    let result = match below.is_empty() {
        true => walk(point, Some((into, owner)), heard),
        false => combined(&below, point, tools, into, owner, heard),
    };
    if result.is_err() {
        let _ = fs::remove_dir_all(into);
        if existed {
            let _ = fs::create_dir(into);
        }
    }
    result
}

/// Restores base backups that add to one another, the full one first and that of the point last.
fn combined(
    below: &[Point],
    point: &Point,
    tools: &Tools,
    into: &Utf8Path,
    owner: Option<Owner>,
    heard: &dyn Fn(u64),
) -> Result<Extracted, BackupError> {
    let (beside, prefix) = sources_of(into);
    let scratch = tools.temporary(&prefix, Some(beside));
    let scratch = scratch.map_err(BackupError::io("make a temporary folder in", beside))?;
    let reader = tools.reader().map(|(uid, gid)| Owner { uid, gid });
    let (mut sources, mut written) = (Vec::new(), 0);
    for source in below.iter().chain([point]) {
        let folder = scratch.path().join(source.id().as_str());
        make_folder(&folder, 0o700, reader)?;
        written += walk(source, Some((&folder, reader)), &|bytes| heard(written + bytes))?.bytes;
        sources.push(folder);
    }
    set(into, 0o700, reader.or(owner))?;
    increment::combine(point, &sources, tools, into)?;
    give(into, owner)?;
    compare_folder(point, into)
}

/// Where base backups are extracted that a folder is combined of, and what the name there begins with.
fn sources_of(into: &Utf8Path) -> (&Utf8Path, String) {
    (into.parent().unwrap_or(into), format!(".{}-sources-", into.file_name().unwrap_or("data")))
}

/// Removes what an [`extract`] that was killed has left beside the folder.
pub(crate) fn remove_sources(into: &Utf8Path) {
    let (beside, prefix) = sources_of(into);
    Temporary::clear(&prefix, beside);
}

/// Reads the whole base backup and compares every file with the server's own list, writing nothing.
pub(crate) fn check(point: &Point) -> Result<Extracted, BackupError> {
    walk(point, None, &|_| {})
}

/// Compares an extracted folder, of which nobody knows how much is on disk, with the server's own list: every file with its
/// checksum, and none that is not in the list. A link in the place of `pg_wal` is passed over, as a base backup holds no WAL.
pub(crate) fn compare_folder(point: &Point, folder: &Utf8Path) -> Result<Extracted, BackupError> {
    let mut expected = match point.postgres()?.adds_to {
        None => of_manifest(point)?,
        Some(_) => increment::expected(point, folder)?,
    };
    let mut done = Extracted { files: 0, bytes: 0 };
    compare_below(folder, folder, &mut expected, &mut done)?;
    none_missing(folder, &expected).map(|()| done)
}

fn compare_below(
    root: &Utf8Path,
    folder: &Utf8Path,
    expected: &mut BTreeMap<String, Listed>,
    done: &mut Extracted,
) -> Result<(), BackupError> {
    for entry in folder.read_dir_utf8().map_err(BackupError::io("list", folder))? {
        let path = entry.map_err(BackupError::io("list", folder))?.into_path();
        let name = path.strip_prefix(root).unwrap_or(&path).to_string();
        let kind = fs::symlink_metadata(&path).map_err(BackupError::io("look at", &path))?.file_type();
        if kind.is_dir() {
            compare_below(root, &path, expected, done)?;
            continue;
        }
        if kind.is_symlink() && name == "pg_wal" {
            continue;
        }
        if !kind.is_file() {
            return Err(BackupError::malformed(&path, "neither file nor folder"));
        }
        let (sha256, size) = sha256_file(&path)?;
        if name != backup_manifest::NAME {
            verify(expected, &name, &sha256, size)?;
        }
        done.files += 1;
        done.bytes += size;
    }
    Ok(())
}

fn none_missing(of: &Utf8Path, expected: &BTreeMap<String, Listed>) -> Result<(), BackupError> {
    match expected.keys().next() {
        None => Ok(()),
        Some(missing) => Err(BackupError::checksum(
            of,
            format!("{missing} and {}", counted(expected.len() - 1, "other")),
            "not there",
        )),
    }
}

/// The files of the base backup as the server listed them, each with its checksum where it has one.
pub(crate) fn listed(point: &Point) -> Result<BTreeMap<String, Option<String>>, BackupError> {
    Ok(of_manifest(point)?.into_iter().map(|(name, (_, checksum))| (name, checksum)).collect())
}

/// The files of a point's base backup, as the server listed them.
fn of_manifest(point: &Point) -> Result<BTreeMap<String, Listed>, BackupError> {
    backup_manifest::files(&point.file(BACKUP_MANIFEST)?)
        .map_err(|why| BackupError::malformed(&point.folder.join(BACKUP_MANIFEST), why))
}

fn walk(
    point: &Point,
    into: Option<(&Utf8Path, Option<Owner>)>,
    heard: &dyn Fn(u64),
) -> Result<Extracted, BackupError> {
    point.postgres()?;
    let path = point.folder.join(BASE);
    let mut expected = of_manifest(point)?;
    let entry = point.manifest.files.iter().find(|f| f.path == BASE);
    let (Some(entry), true) = (entry, is_there(&path)?) else {
        return Err(BackupError::Incomplete { point: point.id().clone(), what: format!("it has no {BASE}") });
    };
    let damaged = |e: io::Error| match has_a_system_said(&e) {
        true => BackupError::Io { what: "read", path: path.clone(), cause: e },
        false => BackupError::checksum(&path, "a zstd tar stream", e),
    };
    let mut stored = Hashing::new(BufReader::with_capacity(BUFFER, storage::open(&path)?));
    let opened = point.seal.reader(&path, &mut stored)?;
    let mut raw = Hashing::new(zstd::Decoder::new(opened).map_err(damaged)?);
    let mut done = Extracted { files: 0, bytes: 0 };
    let mut buffer = vec![0u8; BUFFER];
    let mut archive = tar::Archive::new(&mut raw);
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let name = safe_name(&entry).map_err(|why| BackupError::malformed(&path, why))?;
        let mode = entry.header().mode().map_err(damaged)? & 0o770;
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            if let Some((root, owner)) = into {
                make_folder(&root.join(&name), mode, owner)?;
            }
            continue;
        }
        if !kind.is_file() {
            // Links would point out of the data folder; a backup that had them was refused when it was taken.
            return Err(BackupError::malformed(&path, format!("{name} is neither file nor folder")));
        }
        let out = match into {
            Some((root, owner)) => Some(create(&root.join(&name), mode, owner)?),
            None => None,
        };
        let before = done.bytes;
        let (sha256, size) =
            transfer(&mut entry, out, &mut buffer, &name, &damaged, &|written| heard(before + written))?;
        done.files += 1;
        done.bytes += size;
        if name != backup_manifest::NAME {
            verify(&mut expected, &name, &sha256, size)?;
        }
    }
    io::copy(&mut raw, &mut io::sink()).map_err(damaged)?;
    compare(&path, entry.raw_sha256.as_deref(), raw.finish().0)?;
    io::copy(&mut stored, &mut io::sink()).map_err(damaged)?;
    compare(&path, Some(&entry.sha256), stored.finish().0)?;
    none_missing(&path, &expected).map(|()| done)
}

fn verify(expected: &mut BTreeMap<String, Listed>, name: &str, sha256: &str, size: u64) -> Result<(), BackupError> {
    let Some((listed, checksum)) = expected.remove(name) else {
        return Err(BackupError::checksum(name, "a line in backup_manifest", "none"));
    };
    if listed != size {
        return Err(BackupError::checksum(name, counted(listed, "byte"), counted(size, "byte")));
    }
    match checksum {
        Some(checksum) if checksum != sha256 => Err(BackupError::checksum(name, checksum, sha256)),
        _ => Ok(()),
    }
}

fn compare(path: &Utf8Path, expected: Option<&str>, found: String) -> Result<(), BackupError> {
    match expected {
        Some(expected) if expected != found => Err(BackupError::checksum(path, expected, found)),
        _ => Ok(()),
    }
}

/// The entry's name as a path below the data folder; `.` for the folder itself.
fn safe_name<R: Read>(entry: &tar::Entry<'_, R>) -> Result<String, String> {
    let path = entry.path().map_err(|e| e.to_string())?.into_owned();
    let path = Utf8PathBuf::from_path_buf(path).map_err(|p| format!("file name {} is not UTF-8", p.display()))?;
    let mut name = Utf8PathBuf::new();
    for component in path.as_std_path().components() {
        match component {
            Component::CurDir => {}
            Component::Normal(part) => name.push(part.to_string_lossy().as_ref()),
            _ => return Err(format!("{path} leaves the data folder")),
        }
    }
    Ok(name.into_string())
}

fn make_folder(path: &Utf8Path, mode: u32, owner: Option<Owner>) -> Result<(), BackupError> {
    fs::create_dir_all(path).map_err(BackupError::io("make folder", path))?;
    set(path, mode, owner)
}

fn create(path: &Utf8Path, mode: u32, owner: Option<Owner>) -> Result<File, BackupError> {
    if let Some(parent) = path.parent()
        && !is_there(parent)?
    {
        make_folder(parent, 0o700, owner)?;
    }
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(BackupError::io("create", path))?;
    set(path, mode, owner)?;
    Ok(file)
}

fn set(path: &Utf8Path, mode: u32, owner: Option<Owner>) -> Result<(), BackupError> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(BackupError::io("set the mode of", path))?;
    match owner {
        Some(owner) => chown(path, Some(owner.uid), Some(owner.gid)).map_err(BackupError::io("change owner of", path)),
        None => Ok(()),
    }
}

/// Gives everything below a folder to its owner, without access for others.
fn give(path: &Utf8Path, owner: Option<Owner>) -> Result<(), BackupError> {
    let meta = fs::symlink_metadata(path).map_err(BackupError::io("look at", path))?;
    if meta.is_symlink() {
        return Err(BackupError::malformed(path, "neither file nor folder"));
    }
    set(path, meta.permissions().mode() & 0o770, owner)?;
    if meta.is_dir() {
        for entry in path.read_dir_utf8().map_err(BackupError::io("list", path))? {
            give(entry.map_err(BackupError::io("list", path))?.path(), owner)?;
        }
    }
    Ok(())
}

fn transfer(
    from: &mut impl Read,
    mut out: Option<File>,
    buffer: &mut [u8],
    name: &str,
    damaged: &impl Fn(io::Error) -> BackupError,
    heard: &dyn Fn(u64),
) -> Result<(String, u64), BackupError> {
    let (mut hash, mut size) = (Sha256::new(), 0u64);
    loop {
        let n = match from.read(buffer) {
            Ok(0) => return Ok((hash.finish(), size)),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(damaged(e)),
        };
        hash.update(&buffer[..n]);
        size += n as u64;
        if let Some(out) = &mut out {
            out.write_all(&buffer[..n]).map_err(BackupError::io("write", Utf8Path::new(name)))?;
        }
        heard(size);
    }
}
