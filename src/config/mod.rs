//! What the commands need to know of a pipeline: one section a system, file < environment < flags.

mod hook;
mod model;
mod tools;

pub(crate) use hook::wrong;
pub use hook::{Hook, HookError, Timeouts, Verb, recorded};
pub use model::{
    Config, ConfigError, ConnectConfig, KafkaConfig, PostgresConfig, RegistryConfig, RegistryFlavour, RegistryStorage,
    RepositoryConfig,
};
pub use tools::Tools;
