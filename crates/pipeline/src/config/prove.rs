//! What a proof needs of a configuration: the repository, PostgreSQL's programs and the signature. Not the pipeline, whose servers and
//! secrets may be gone.

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;

use super::{
    BucketAddress, ConfigError, ObjectivesConfig,
    model::{ProveConfig, RepositoryConfig},
};
use cdc_model::units::Secret;

/// The part of `cdc-drill.toml` that a proof reads.
#[derive(Clone, Debug)]
pub struct ProveSettings {
    /// The repository, and who can read it.
    pub repository: RepositoryConfig,
    /// The folder with PostgreSQL's programs; empty for none named.
    pub bin: Utf8PathBuf,
    /// The database's address, of which a proof takes the account's name. Nothing connects to it.
    pub url: Option<Secret>,
    /// How proofs are signed.
    pub prove: ProveConfig,
    /// What was promised of a recovery.
    pub objectives: ObjectivesConfig,
    /// Whether somebody is to hear how a proof ends: that takes the whole configuration.
    pub notifies: bool,
}

#[derive(Deserialize)]
struct File {
    repository: RepositoryConfig,
    #[serde(default)]
    postgres: PostgresSection,
    #[serde(default)]
    prove: ProveConfig,
    #[serde(default)]
    objectives: ObjectivesConfig,
    notify: Option<toml::Table>,
}

#[derive(Default, Deserialize)]
struct PostgresSection {
    #[serde(default)]
    bin: Utf8PathBuf,
    #[serde(default)]
    url: Option<Secret>,
}

impl ProveSettings {
    /// Reads a configuration file; relative paths in it are relative to the file's folder. Files and variables that hold secrets are not
    /// read.
    pub fn load(path: &Utf8Path) -> Result<ProveSettings, ConfigError> {
        let unread = |cause| ConfigError::Read { path: path.to_owned(), cause };
        let text = std::fs::read_to_string(path).map_err(unread)?;
        let file: File = toml::from_str(&text)
            .map_err(|e| ConfigError::Parse { path: path.to_owned(), message: e.message().to_owned() })?;
        let folder = path.parent().filter(|p| !p.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
        let base = camino::absolute_utf8(folder).map_err(unread)?;
        let absolute = |path: Utf8PathBuf| match path.as_str().is_empty() || BucketAddress::is_one(&path) {
            true => path,
            false => base.join(path),
        };
        Ok(ProveSettings {
            repository: RepositoryConfig {
                path: absolute(file.repository.path),
                identity_file: file.repository.identity_file.map(absolute),
                ..file.repository
            },
            bin: absolute(file.postgres.bin),
            url: file.postgres.url,
            prove: file.prove,
            objectives: file.objectives,
            notifies: file.notify.is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_that_are_gone_are_not_missed() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().join("c.toml");
        let text = "[postgres]\nurl='postgres://admin@h/d'\npassword_file='/gone'\nbin='bin'\n[kafka]\nbootstrap='h:1'\n\
            [connect]\nurl='http://h'\n[registry]\nurl='http://h'\nflavour='apicurio'\n[repository]\npath='r'\n\
            [prove]\nsign=['sign', '{file}']\n";
        std::fs::write(&path, text).unwrap();
        let settings = ProveSettings::load(&path).unwrap();
        assert_eq!(settings.repository.path, Utf8Path::from_path(folder.path()).unwrap().join("r"));
        assert_eq!((settings.bin.file_name(), settings.prove.sign.len(), settings.notifies), (Some("bin"), 2, false));
        std::fs::write(&path, "[kafka]\nbootstrap='h:1'\n").unwrap();
        assert!(ProveSettings::load(&path).unwrap_err().to_string().contains("repository"));
    }
}
