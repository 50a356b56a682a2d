//! What is asked of a restore.

use camino::Utf8PathBuf;

use crate::{
    backup::PointSelector,
    recovery::{Playbook, Request, Target},
};
use cdc_model::units::{Secret, SystemId, Timeline};
use cdc_pipeline::config::{Config, RepositoryConfig, Tools};

/// Everything a person decides about a restore.
#[derive(Clone, Debug)]
pub struct RestoreRequest {
    /// The data folder: empty, or not there.
    pub pgdata: Utf8PathBuf,
    /// The repository, with what is known of its keys.
    pub repository: RepositoryConfig,
    /// PostgreSQL's programs.
    pub tools: Tools,
    /// Names the account, a superuser of the cluster, as which the restored server is read back. Nothing is connected to by its address.
    pub url: Secret,
    /// The server's main file, where it is not in the data folder; where the recovery point says that it was, when absent.
    pub config_file: Option<Utf8PathBuf>,
    /// Where to start from.
    pub point: PointSelector,
    /// Where to stop.
    pub target: Target,
    /// The timeline on which the target lies; found from the target when absent.
    pub timeline: Option<Timeline>,
    /// Stop just before the target instead of just after it.
    pub exclusive: bool,
    /// The cluster, where the repository knows several.
    pub system_id: Option<SystemId>,
    /// Start from a recovery point whose consistency checks failed when it was taken.
    pub accept_inconsistent_point: bool,
}

impl RestoreRequest {
    /// From a repository alone, with PostgreSQL's programs in a folder, or in `PATH` where it has no name.
    pub fn of_repository(
        pgdata: Utf8PathBuf,
        repository: Utf8PathBuf,
        bin: Option<Utf8PathBuf>,
        user: &str,
    ) -> RestoreRequest {
        RestoreRequest {
            pgdata,
            repository: RepositoryConfig::at(repository),
            tools: Tools::here(&bin.unwrap_or_default()),
            url: Secret::new(format!("postgres://{user}@localhost/template1")),
            config_file: None,
            point: PointSelector::Latest,
            target: Target::Latest,
            timeline: None,
            exclusive: false,
            system_id: None,
            accept_inconsistent_point: false,
        }
    }

    /// From the repository, with the programs and the account, that a pipeline's configuration names.
    pub fn of_config(pgdata: Utf8PathBuf, config: &Config) -> RestoreRequest {
        RestoreRequest {
            tools: Tools::of(config),
            url: config.postgres.url.clone(),
            config_file: config.postgres.config_file.clone(),
            repository: config.repository.clone(),
            ..RestoreRequest::of_repository(pgdata, config.repository.path.clone(), None, "postgres")
        }
    }

    /// As a recovery looks for its target.
    pub(super) fn as_recovery(&self) -> Request {
        Request {
            point: self.point.clone(),
            target: self.target.clone(),
            timeline: self.timeline,
            exclusive: self.exclusive,
            system_id: self.system_id,
            accept_inconsistent_point: self.accept_inconsistent_point,
            ..Request::new(Playbook::Coordinated)
        }
    }

    /// What makes it this request and no other, in the words of the command line.
    pub(super) fn in_words(&self) -> String {
        let mut words = format!("--point {} --target {}", self.point, self.target);
        if let Some(timeline) = self.timeline {
            words += &format!(" --timeline {timeline}");
        }
        if self.exclusive {
            words += " --exclusive";
        }
        if let Some(id) = self.system_id {
            words += &format!(" --system-id {id}");
        }
        words
    }
}
