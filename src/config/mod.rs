//! What the commands need to know of a pipeline: one section a system, file < environment < flags.

mod model;

pub use model::{
    Config, ConfigError, ConnectConfig, Hook, KafkaConfig, PostgresConfig, RegistryConfig, RegistryFlavour,
    RegistryStorage, RepositoryConfig,
};
