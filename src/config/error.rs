//! Why a configuration cannot be used.

use camino::Utf8PathBuf;

use super::HookError;
use crate::units::Exit;

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
    /// A secret, or a certificate, that is missing, doubled, or where it must not be.
    #[error("{key}: {detail}")]
    Secret {
        /// Which.
        key: String,
        /// What is wrong with it; never the secret itself.
        detail: String,
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
            ConfigError::Read { .. }
            | ConfigError::Parse { .. }
            | ConfigError::Secret { .. }
            | ConfigError::DataFolder(_) => Exit::Invalid,
            ConfigError::Hook(_) => Exit::Inconclusive,
        }
    }
}
