//! A lock, wherever it is: a file, or an object in a bucket.

use std::fs::File;

use camino::Utf8PathBuf;

use super::{
    file::{LockFile, State},
    held::HeldLock,
    object::LockObject,
};
use crate::backup::{BackupError, files::Store, storage::Object};

/// The place of one lock.
#[derive(Clone, Debug)]
pub(super) enum LockPlace {
    File(LockFile),
    Object(LockObject),
}

impl LockPlace {
    pub(super) fn new(store: &Store, path: Utf8PathBuf) -> Result<LockPlace, BackupError> {
        Ok(match Object::at(&path).map_err(BackupError::io("open", &path))? {
            None => LockPlace::File(LockFile::new(store, path)),
            Some(object) => LockPlace::Object(LockObject::new(object, path)),
        })
    }

    /// Makes "look and write" one step among all that change locks here, where that can be. In a bucket it cannot.
    pub(super) fn guard(&self) -> Result<Option<File>, BackupError> {
        match self {
            LockPlace::File(file) => file.guard(),
            LockPlace::Object(_) => Ok(None),
        }
    }

    /// What it means now. Changes nothing.
    pub(super) fn look(&self) -> Result<State, BackupError> {
        match self {
            LockPlace::File(file) => file.look(),
            LockPlace::Object(object) => object.look(),
        }
    }

    pub(super) fn held(&self, by: String) -> BackupError {
        match self {
            LockPlace::File(file) => file.held(by),
            LockPlace::Object(object) => object.held(by),
        }
    }

    /// Takes it, for a recovery that goes on if one does. The caller holds the guard.
    pub(super) fn take_for(&self, owner: &str, goes_on: Option<&str>) -> Result<Box<dyn HeldLock>, BackupError> {
        Ok(match self {
            LockPlace::File(file) => Box::new(file.take_for(owner, goes_on)?),
            LockPlace::Object(object) => Box::new(object.take_for(owner, goes_on)?),
        })
    }
}
