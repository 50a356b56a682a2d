//! The scratch stack: made, given what was restored, and removed with everything that it held.

use std::{os::unix::fs::PermissionsExt, path::Path};

use camino::{Utf8Path, Utf8PathBuf};

use super::error::ProveError;
use crate::stack::{
    Account, Backend, LocalStack, OwnerLock, Part, PostgresSpec, Progress, RegistrySpec, RestoredSpec, StackSpec,
};
use cdc_engine::{
    backup::{Point, PointSelector},
    recovery::{RestoreOutcome, RestoreRequest, Target, Watch, plan_restore},
};
use cdc_model::{
    units::{Lsn, Secret, SystemId},
    vocabulary::RegistryStorageKind,
};
use cdc_pipeline::{client::limits, config::Tools};

/// A folder that goes with this value, and everything in it.
#[derive(Debug)]
pub(super) struct ScratchFolder {
    path: Utf8PathBuf,
    keep: bool,
}

impl ScratchFolder {
    /// Makes it, for the servers' account and nobody else: rows of the point will be in it.
    pub(super) fn make(path: Utf8PathBuf, keep: bool) -> Result<ScratchFolder, ProveError> {
        std::fs::create_dir(&path).map_err(ProveError::file("make the scratch folder", &path))?;
        let folder = ScratchFolder { path, keep };
        let path = &folder.path;
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o700))
            .map_err(ProveError::file("set the mode of", path))?;
        Account::choose()?.give(path)?;
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Utf8Path {
        &self.path
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Err(error) = std::fs::remove_dir_all(Path::new(self.path.as_str())) {
            tracing::warn!(folder = %self.path, %error, "the scratch folder is left: it holds rows of the recovery point");
        }
    }
}

/// How the database of a point is restored.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) repository: Utf8PathBuf,
    pub(super) point: PointSelector,
    pub(super) major: u32,
    /// The cluster: a repository may have several.
    pub(super) system_id: SystemId,
    /// Where PostgreSQL's programs are; those of the stack where it has no name.
    pub(super) bin: Utf8PathBuf,
    /// Names a superuser of the cluster.
    pub(super) url: Secret,
}

/// A part of the scratch stack that runs, or will. Its servers end with it.
#[derive(Debug)]
pub(super) struct Scratch {
    pub(super) stack: LocalStack,
    // Before the folder that it is in: the servers end first.
    _owner: OwnerLock,
}

impl Scratch {
    /// Lays out a database server alone.
    pub(super) fn database(dir: &Utf8Path, source: &Source, backend: &dyn Backend) -> Result<Scratch, ProveError> {
        Scratch::of(dir, StackSpec { postgres: Some(postgres(source)), ..StackSpec::default() }, backend)
    }

    /// Lays out all four servers; without a database that was restored, one that is empty.
    pub(super) fn whole(dir: &Utf8Path, source: &Source, backend: &dyn Backend) -> Result<Scratch, ProveError> {
        let spec = StackSpec {
            postgres: Some(postgres(source)),
            kafka: Part::Local(()),
            connect: Part::Local(()),
            registry: Part::Local(RegistrySpec::new(RegistryStorageKind::H2)),
            ..StackSpec::default()
        };
        Scratch::of(dir, spec, backend)
    }

    fn of(dir: &Utf8Path, spec: StackSpec, backend: &dyn Backend) -> Result<Scratch, ProveError> {
        let stack = LocalStack::create(dir, spec, backend)?;
        let owner = stack.own()?;
        Ok(Scratch { stack, _owner: owner })
    }

    /// Restores the database into the stack's data folder: to the end of the archived WAL, or to just before a position.
    pub(super) async fn restore(&self, source: &Source, before: Option<Lsn>) -> Result<RestoreOutcome, ProveError> {
        let postgres = self.stack.postgres_config()?;
        let pgdata = postgres.pgdata;
        // The account of the captured server need not be there; the folder belongs to that of the scratch servers.
        Account::choose()?.folder(&pgdata)?;
        std::fs::set_permissions(&pgdata, PermissionsExt::from_mode(0o700))
            .map_err(ProveError::file("set the mode of", &pgdata))?;
        let request = RestoreRequest {
            tools: Tools::here(&postgres.bin),
            url: source.url.clone(),
            point: source.point.clone(),
            target: before.map_or(Target::Latest, Target::Lsn),
            exclusive: before.is_some(),
            system_id: Some(source.system_id),
            // Which of its checks failed is judged apart.
            accept_inconsistent_point: true,
            ..RestoreRequest::of_repository(pgdata, source.repository.clone(), None, "postgres")
        };
        Ok(plan_restore(&request).await?.run(&Watch::new(|_| {})).await?)
    }

    /// Stops every server and waits for it.
    pub(super) async fn stop(&self) -> Result<(), ProveError> {
        self.stack.stop_all().await?;
        Ok(self.stack.folder().all_gone(limits::servers::ALL_GONE).await?)
    }

    /// Starts every server but that of the database.
    pub(super) async fn start_others(&self, progress: &dyn Progress) -> Result<(), ProveError> {
        Ok(self.stack.start_others(progress).await?)
    }

    /// Starts the server on the restored data folder.
    pub(super) async fn start_database(&mut self, progress: &dyn Progress) -> Result<(), ProveError> {
        Ok(self.stack.start_database(progress).await?)
    }
}

fn postgres(source: &Source) -> PostgresSpec {
    PostgresSpec {
        archive: false,
        restored: Some(RestoredSpec { major: source.major, bin: source.bin.clone() }),
        ..PostgresSpec::default()
    }
}

/// What a point is restored from.
pub(super) fn source(point: &Point, repository: &Utf8Path, bin: &Utf8Path, url: &Secret) -> Result<Source, ProveError> {
    Ok(Source {
        repository: repository.to_owned(),
        point: PointSelector::Id(point.id().clone()),
        major: point.postgres()?.version.major(),
        system_id: point.postgres()?.system_id,
        bin: bin.to_owned(),
        url: url.clone(),
    })
}
