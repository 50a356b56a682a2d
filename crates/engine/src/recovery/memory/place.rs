//! Where recoveries are remembered.

use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    backup::{Repository, files::Store, is_in_a_bucket},
    recovery::RecoveryError,
};
use cdc_model::units::SystemId;
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
        let path = &config.repository.path;
        let repository = Repository::of(&config.repository)?;
        // A record is appended to and locked, which objects in a bucket cannot be.
        if is_in_a_bucket(path) && config.recovery.folder.is_none() {
            return Err(RecoveryError::impossible(
                format!("the records of recoveries from {path}"),
                "a folder for them",
                "none",
                "name one in [recovery] folder: a bucket cannot hold them",
            ));
        }
        let folder = config.recoveries();
        if repository.is_encrypted() && folder.starts_with(path) {
            return Err(RecoveryError::impossible(
                format!("the records of recoveries from {path}"),
                "a folder outside of the repository, which is encrypted",
                folder,
                "name one in [recovery] folder: they hold what a recovery works with, as it is",
            ));
        }
        Ok(Place { folder, repository })
    }

    pub(crate) fn repository(&self) -> &Repository {
        &self.repository
    }

    pub(super) fn folder(&self) -> &Utf8Path {
        &self.folder
    }

    /// Where recoveries put the last segments of a cluster's old servers. Replay copies them as plain files, so beside the records where
    /// the repository is in a bucket or encrypted.
    pub(crate) fn salvaged(&self, system_id: SystemId) -> Utf8PathBuf {
        match is_in_a_bucket(self.repository.path()) || self.repository.is_encrypted() {
            true => self.folder.with_file_name("salvage").join(system_id.to_string()),
            false => self.repository.salvaged(system_id),
        }
    }

    /// The store of a new record. Records belong to the owner of the folder, and the folder, where it has to be made, to the owner of
    /// the repository: root and the server's account go on with one another's recoveries.
    pub(super) fn store(&self) -> Result<Store, RecoveryError> {
        Ok(Store::make_like(&self.folder, self.repository.path())?)
    }
}
