//! Where the files of a recovery point are, and how far its writing has come.

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    BackupError, files,
    format::{
        Format,
        layout::{PARTIAL, STARTED, manifest_digits},
    },
    hash::sha256,
    storage,
};
use cdc_model::units::PointId;

/// A point's folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The point.
    pub(crate) id: PointId,
    /// The folder.
    pub(crate) folder: Utf8PathBuf,
    /// The format of its repository.
    pub(crate) format: Format,
    /// Whether it is being written, or was when something ended its writing: the point does not exist.
    pub(crate) unfinished: bool,
}

impl Place {
    /// Every point's folder below `root`, by id.
    pub(crate) fn all(root: &Utf8Path, format: Format) -> Result<Vec<Place>, BackupError> {
        let mut places = Vec::new();
        for entry in storage::entries(root)?.into_iter().flatten().filter(|entry| entry.is_folder) {
            let folder = entry.path.clone();
            let name = entry.name();
            let (id, unfinished) = match format {
                Format::One => name.strip_suffix(PARTIAL).map_or((name, false), |id| (id, true)),
                Format::Two => {
                    let held = storage::entries(&folder)?.unwrap_or_default();
                    let is_begun = held.iter().any(|entry| entry.name() == STARTED);
                    let is_bound = held.iter().any(|entry| manifest_digits(entry.name()).is_some());
                    // Some servers of objects list folders whose objects were all removed, which are none.
                    let may_be_none = !is_begun && !is_bound && storage::is_in_a_bucket(&folder);
                    if may_be_none && storage::files_below(&folder)?.is_empty() {
                        continue;
                    }
                    (name, is_begun && !is_bound)
                }
            };
            places.push(Place { id: PointId::new(id), folder, format, unfinished });
        }
        places.sort();
        Ok(places)
    }
}

/// A manifest as its file is.
#[derive(Debug)]
pub(crate) struct ManifestFile {
    pub(crate) path: Utf8PathBuf,
    pub(crate) bytes: Vec<u8>,
    pub(crate) sha256: String,
}

/// The manifest in a folder whose bytes are what its name says; none where there is no manifest at all, an error where all are damaged.
pub(crate) fn manifest(folder: &Utf8Path) -> Result<Option<ManifestFile>, BackupError> {
    let mut damaged = None;
    for (path, digits) in manifests(folder)? {
        let bytes = files::read(&path)?;
        let sha256 = sha256(&bytes);
        match sha256.starts_with(&digits) {
            true => return Ok(Some(ManifestFile { path, bytes, sha256 })),
            false => damaged = Some(BackupError::checksum(path, digits, sha256)),
        }
    }
    damaged.map_or(Ok(None), Err)
}

/// The files in a point's folder whose names are those of manifests in format 2, with the digits of their hash.
pub(crate) fn manifests(folder: &Utf8Path) -> Result<Vec<(Utf8PathBuf, String)>, BackupError> {
    let mut found = Vec::new();
    for entry in storage::entries(folder)?.into_iter().flatten() {
        if let Some(digits) = manifest_digits(entry.name()) {
            found.push((entry.path.clone(), digits.to_owned()));
        }
    }
    found.sort();
    Ok(found)
}

/// Removes what was written of a point that does not exist. What says that it does not goes last: a half of it is never taken for
/// a damaged point.
pub(crate) fn remove_unfinished(folder: &Utf8Path) -> Result<(), BackupError> {
    for entry in storage::entries(folder)?.into_iter().flatten() {
        match entry.is_folder {
            true => storage::remove_all(&entry.path)?,
            false if entry.name() == STARTED => {}
            false => files::remove(&entry.path)?,
        }
    }
    files::remove(&folder.join(STARTED))?;
    storage::remove_all(folder)
}
