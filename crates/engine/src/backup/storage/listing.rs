//! What is below an address.

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};

use super::bucket::{Names, Object};
use crate::backup::BackupError;
use cdc_model::units::IfThere;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An object of this size.
    Object(u64),
    /// There are others below it. A bucket has no empty ones.
    Folder,
    /// A link, or another special file.
    Other,
}

/// A name in a folder.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) path: Utf8PathBuf,
    pub(crate) is_folder: bool,
    /// The size, where the list has it.
    size: Option<u64>,
}

impl Entry {
    pub(crate) fn name(&self) -> &str {
        self.path.file_name().unwrap_or_default()
    }

    /// The size of the object; none for one that is gone by now.
    pub(crate) fn size(&self) -> Result<Option<u64>, BackupError> {
        match self.size {
            Some(size) => Ok(Some(size)),
            None => {
                let meta = fs::metadata(&self.path).if_there().map_err(BackupError::io("look at", &self.path))?;
                Ok(meta.map(|meta| meta.len()))
            }
        }
    }
}

/// What is in a folder; none where there is no such folder.
pub(crate) fn entries(folder: &Utf8Path) -> Result<Option<Vec<Entry>>, BackupError> {
    let mut found = Vec::new();
    if let Some(object) = Object::at(folder).map_err(BackupError::io("list", folder))? {
        let Names { objects, folders } = object.list().map_err(BackupError::io("list", folder))?;
        let entry = |name: &str, size: Option<u64>| Entry { path: folder.join(name), is_folder: size.is_none(), size };
        found.extend(objects.iter().map(|(name, size)| entry(name, Some(*size))));
        found.extend(folders.iter().map(|name| entry(name, None)));
        return Ok((!found.is_empty()).then_some(found));
    }
    let entries = folder.read_dir_utf8().if_there().map_err(BackupError::io("list", folder))?;
    let Some(entries) = entries else { return Ok(None) };
    for entry in entries {
        let entry = entry.map_err(BackupError::io("list", folder))?;
        // What is being archived meanwhile comes and goes.
        let kind = entry.file_type().if_there().map_err(BackupError::io("look at", entry.path()))?;
        found.extend(kind.map(|kind| Entry { path: entry.path().to_owned(), is_folder: kind.is_dir(), size: None }));
    }
    Ok(Some(found))
}

/// Every object below a folder, with its size: none for a folder that is missing. What is removed meanwhile is left out.
pub(crate) fn files_below(folder: &Utf8Path) -> Result<Vec<(Utf8PathBuf, u64)>, BackupError> {
    let mut found = Vec::new();
    for entry in entries(folder)?.unwrap_or_default() {
        match (entry.is_folder, entry.size) {
            (true, _) => found.extend(files_below(&entry.path)?),
            (false, Some(size)) => found.push((entry.path, size)),
            (false, None) => {
                let meta = fs::symlink_metadata(&entry.path).if_there();
                let meta = meta.map_err(BackupError::io("look at", &entry.path))?;
                found.extend(meta.map(|meta| (entry.path.clone(), meta.len())));
            }
        }
    }
    Ok(found)
}

/// Bytes of everything in a folder. What is removed meanwhile has none: archivers come and go.
pub(crate) fn size_of(folder: &Utf8Path) -> Result<u64, BackupError> {
    if let Some(object) = Object::at(folder).map_err(BackupError::io("list", folder))? {
        return object.size_below().map_err(BackupError::io("list", folder));
    }
    Ok(files_below(folder)?.iter().map(|(_, size)| size).sum())
}

/// What an address names; none for nothing.
pub(crate) fn look(path: &Utf8Path) -> Result<Option<Kind>, BackupError> {
    if let Some(object) = Object::at(path).map_err(BackupError::io("look at", path))? {
        let meta = object.meta().if_there().map_err(BackupError::io("look at", path))?;
        return Ok(meta.map(|meta| Kind::Object(meta.size)));
    }
    let meta = fs::symlink_metadata(path).if_there().map_err(BackupError::io("look at", path))?;
    Ok(meta.map(|meta| match meta.file_type() {
        kind if kind.is_file() => Kind::Object(meta.len()),
        kind if kind.is_dir() => Kind::Folder,
        _ => Kind::Other,
    }))
}

/// Removes a folder and everything in it; it may be gone.
pub(crate) fn remove_all(folder: &Utf8Path) -> Result<(), BackupError> {
    let removed = match Object::at(folder).map_err(BackupError::io("remove", folder))? {
        Some(object) => object.remove_below(),
        None => fs::remove_dir_all(folder).if_there().map(drop),
    };
    removed.map_err(BackupError::io("remove", folder))
}
