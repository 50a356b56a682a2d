//! Why a configuration cannot be used.

use camino::Utf8PathBuf;

use super::HookError;
use cdc_model::units::{Exit, Failure, Hint};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read configuration {path}: {cause}")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        cause: std::io::Error,
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
        /// What to do, where that is not plain.
        hint: Option<Hint>,
    },
    /// The data folder is not known.
    #[error("data folder of postgres: {0}")]
    DataFolder(String),
    /// A hook gave no answer.
    #[error(transparent)]
    Hook(#[from] HookError),
}

impl Failure for ConfigError {
    fn exit(&self) -> Exit {
        match self {
            ConfigError::Read { .. }
            | ConfigError::Parse { .. }
            | ConfigError::Secret { .. }
            | ConfigError::DataFolder(_) => Exit::Invalid,
            ConfigError::Hook(error) => error.exit(),
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            ConfigError::Read { .. } => vec!["`cdc-drill stack up --dir DIR` writes DIR/cdc-drill.toml".into()],
            ConfigError::Secret { hint, .. } => hint.iter().cloned().collect(),
            ConfigError::DataFolder(_) => {
                vec!["name it in [postgres] pgdata, or a command that prints it in [control.postgres] pgdata".into()]
            }
            ConfigError::Parse { .. } => Vec::new(),
            ConfigError::Hook(error) => error.hints(),
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            ConfigError::Hook(error) => error.is_transient(),
            ConfigError::Read { .. }
            | ConfigError::Parse { .. }
            | ConfigError::Secret { .. }
            | ConfigError::DataFolder(_) => false,
        }
    }
}
