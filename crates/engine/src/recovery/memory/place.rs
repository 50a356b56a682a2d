//! Where recoveries are remembered.

use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    backup::{Repository, files::Store},
    recovery::RecoveryError,
};
use cdc_pipeline::config::Config;

/// A folder that is being written: nothing was changed yet.
pub(super) const UNFINISHED_WRITE: &str = ".new";

/// The folder in which the recoveries of a configuration are remembered, and the repository that they restore from.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(super) folder: Utf8PathBuf,
    pub(super) repository: Repository,
}

impl Place {
    pub(crate) fn of(config: &Config) -> Result<Place, RecoveryError> {
        Ok(Place { folder: config.recoveries(), repository: Repository::open(&config.repository.path)? })
    }

    pub(crate) fn repository(&self) -> &Repository {
        &self.repository
    }

    pub(super) fn folder(&self) -> &Utf8Path {
        &self.folder
    }

    /// The store of a new record. Records belong to the owner of the folder, and the folder, where it has to be made, to the owner of
    /// the repository: root and the server's account go on with one another's recoveries.
    pub(super) fn store(&self) -> Result<Store, RecoveryError> {
        Ok(Store::make_like(&self.folder, self.repository.path())?)
    }
}
