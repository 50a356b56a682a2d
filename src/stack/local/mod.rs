//! The local backend: a stack is a folder.
//!
//! | file below DIR | what |
//! |---|---|
//! | `stack.json` | every server: how it is started and stopped, where it listens and logs |
//! | `cdc-drill.toml` | the configuration for every other command; holds the password, mode 0600 |
//! | `pids/NAME.json` | the supervisor and the server, with start times; there while it runs |
//! | `pids/NAME.lock` | held by the supervisor, so that no server is started twice |
//! | `owner.lock` | held by the harness that owns the stack; its death ends the servers |
//! | `owner.released` | the owner gave the servers up on purpose: they live on |
//! | `logs/NAME.log` | what the server wrote |
//! | `postgres/ kafka/ connect/ registry/ tmp/ repository/` | data, of the account that runs the servers |
//!
//! Starting, stopping and looking are operations on the folder: the harness does them in-process, and `cdc-drill stack
//! start|stop|running NAME` does the same for a person and for the hooks in `cdc-drill.toml`.

mod binary;
mod config_file;
mod exercise;
mod folder;
mod java;
mod native;
mod owner;
mod postgres;
mod ready;
mod servers;
mod spec;
mod stack;
mod supervisor;
mod training;

pub use binary::find_binary;
pub(in crate::stack) use folder::parse_signal;
pub use folder::{Folder, ServerPlan, ServerStatus};
pub(in crate::stack) use java::JavaServer;
pub use native::Native;
pub use owner::OwnerLock;
pub use postgres::Cluster;
pub(in crate::stack) use postgres::{CONTAINER_PORT, Initdb, shell_word};
pub use servers::Broker;
pub(in crate::stack) use servers::{numbered, registry_environment, registry_storage};
pub use spec::{Part, PostgresSpec, RegistrySpec, RegistryStorageKind, StackSpec, WorkerSpec};
pub use stack::{CONFIG_FILE, LocalStack};
pub use supervisor::supervise;
pub(in crate::stack) use supervisor::{Supervised, orphaned};
