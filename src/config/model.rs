//! The configuration file `cdc-drill.toml`, as `stack up` writes it and as a person writes it for a pipeline of their own.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{Hook, HookError, Verb};
use crate::units::{Exit, Secret, redact_url};

/// Everything the commands need to reach a pipeline.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The source database.
    pub postgres: PostgresConfig,
    /// The broker.
    pub kafka: KafkaConfig,
    /// The Connect worker.
    pub connect: ConnectConfig,
    /// The schema registry.
    pub registry: RegistryConfig,
    /// Where recovery points and WAL live.
    pub repository: RepositoryConfig,
    /// How to stop and start what the engine must stop and start, by server: `postgres`, `registry`.
    #[serde(default)]
    pub control: BTreeMap<String, Hook>,
}

/// The PostgreSQL cluster.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// `postgres://user:password@host:port/database` of a superuser.
    pub url: Secret,
    /// The cluster's data folder, as this machine sees it; empty when `[control.postgres] pgdata` prints it.
    #[serde(default)]
    pub pgdata: Utf8PathBuf,
    /// The folder with `postgres`, `pg_basebackup`, `pg_waldump`, `pg_verifybackup`, of the cluster's major version; by
    /// default they are found by `PATH`.
    #[serde(default)]
    pub bin: Utf8PathBuf,
}

impl std::fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("url", &redact_url(self.url.expose()))
            .field("pgdata", &self.pgdata)
            .field("bin", &self.bin)
            .finish()
    }
}

/// The broker.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port[,host:port]`.
    pub bootstrap: String,
}

/// The Connect worker.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectConfig {
    /// The REST interface: `http://host:port`.
    pub url: String,
    /// The worker's `offset.storage.topic`.
    #[serde(default = "default_offsets_topic")]
    pub offsets_topic: String,
}

fn default_offsets_topic() -> String {
    "connect-offsets".to_owned()
}

/// The schema registry.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// The base address, without the API's path: `http://host:port`.
    pub url: String,
    /// Which product it is: the APIs differ.
    pub flavour: RegistryFlavour,
    /// Where it keeps its schemas; needed to restore ids into an empty store.
    #[serde(default)]
    pub storage: Option<RegistryStorage>,
}

/// The registry product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegistryFlavour {
    /// Apicurio Registry 3.
    Apicurio,
}

/// The registry's store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RegistryStorage {
    /// An H2 database in files whose names begin with this path.
    H2 {
        /// The path without H2's own endings: `/data/registry/db`.
        path: Utf8PathBuf,
    },
    /// Topics of the broker.
    Kafkasql {
        /// Every topic the registry keeps state in.
        topics: Vec<String>,
    },
}

/// Where recovery points live.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryConfig {
    /// The repository's folder.
    pub path: Utf8PathBuf,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read configuration {path}: {source}\nhint: `cdc-drill stack up --dir DIR` writes DIR/cdc-drill.toml")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a configuration.
    #[error("configuration {path}: {message}")]
    Parse {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong and where; values are not quoted, they may be secret.
        message: String,
    },
    /// The data folder is not known.
    #[error(
        "data folder of postgres: {0}\nhint: name it in [postgres] pgdata, or a command that prints it in [control.postgres] pgdata"
    )]
    DataFolder(String),
    /// A hook gave no answer.
    #[error(transparent)]
    Hook(#[from] HookError),
}

impl ConfigError {
    /// The exit code for a command that ends with this error.
    pub fn exit(&self) -> Exit {
        match self {
            ConfigError::Read { .. } | ConfigError::Parse { .. } | ConfigError::DataFolder(_) => Exit::Invalid,
            ConfigError::Hook(_) => Exit::Inconclusive,
        }
    }
}

impl Config {
    /// This configuration with the data folder known, asking the hook that prints it where the file does not name it.
    pub async fn settled(&self) -> Result<Config, ConfigError> {
        let mut config = self.clone();
        if !config.postgres.pgdata.as_str().is_empty() {
            return Ok(config);
        }
        let hook = config.control.get("postgres").filter(|h| h.pgdata.is_some());
        let hook = hook.ok_or_else(|| ConfigError::DataFolder("not in the configuration".into()))?;
        let call = hook.expect("postgres", Verb::Pgdata).await?;
        let line = call.said.last().map(String::as_str).unwrap_or_default();
        if !line.starts_with('/') {
            return Err(ConfigError::DataFolder(format!("{} printed `{line}`, expected an absolute path", call.hook)));
        }
        config.postgres.pgdata = line.into();
        Ok(config)
    }

    /// Reads a configuration file; relative paths in it are relative to the file's folder.
    pub fn load(path: &Utf8Path) -> Result<Config, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let mut config: Config = toml::from_str(&text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start.min(text.len())].lines().count().max(1));
            let at = line.map(|l| format!("line {l}: ")).unwrap_or_default();
            ConfigError::Parse { path: path.to_owned(), message: format!("{at}{}", error.message()) }
        })?;
        let base = path.parent().unwrap_or(Utf8Path::new(".")).to_owned();
        let absolute = |p: &mut Utf8PathBuf| {
            if p.is_relative() && !p.as_str().is_empty() {
                *p = base.join(&*p);
            }
        };
        absolute(&mut config.postgres.pgdata);
        absolute(&mut config.postgres.bin);
        absolute(&mut config.repository.path);
        if let Some(RegistryStorage::H2 { path }) = &mut config.registry.storage {
            absolute(path);
        }
        if let Ok(url) = std::env::var("CDC_DRILL_POSTGRES_URL") {
            config.postgres.url = Secret::new(url);
        }
        Ok(config)
    }
}
