//! What the commands need to know of a pipeline: one section a system, file < environment < flags.

mod bucket;
mod error;
mod hook;
mod model;
mod monitor;
mod operator;
mod prove;
mod secrets;
mod temporary;
mod tools;

pub use bucket::BucketAddress;
pub use error::ConfigError;
pub use hook::{Hook, HookError, MEANS_VARIABLE, Means, Timeouts, Verb, recorded};
pub use model::{
    AttachConfig, BackupConfig, Config, ConnectConfig, KafkaConfig, Permission, PointAfter, PostgresConfig,
    ProveConfig, RecoveryConfig, RegistryConfig, RegistryFlavour, RegistryStorage, RepositoryConfig, SecurityProtocol,
    SslMode, TopicsBackup,
};
pub use monitor::{MonitorConfig, NotifyConfig, NotifyOn, ObjectivesConfig, Span};
pub use operator::{Concerned, OperatorConfig};
pub use prove::ProveSettings;
pub use secrets::RestAuth;
pub use temporary::{Temporary, free_bytes};
pub use tools::Tools;
