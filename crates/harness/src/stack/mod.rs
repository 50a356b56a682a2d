//! What runs and how to reach it. The local backend runs the four systems as native processes, without root's rights and
//! without a daemon; its programs are fetched once, pinned by version and sha256. The Docker backend runs them as
//! containers of given images.

mod account;
mod backend;
mod binary;
mod blocking;
mod choice;
mod config_file;
mod connector;
mod docker;
mod doctor;
mod error;
mod fetch;
mod fixture;
mod folder;
mod native;
mod plan;
mod ports;
mod process;
mod progress;
mod refresh;
#[allow(clippy::module_inception, reason = "the stack as a whole")]
mod stack;
mod write;

pub use account::Account;
pub use backend::Backend;
pub use binary::find_binary;
pub use choice::BackendChoice;
pub use connector::{ConnectorRequest, debezium_config, file_sink_config, use_schema_resolver};
pub use docker::{Docker, Images};
pub use doctor::{Diagnosis, diagnose};
pub use error::StackError;
pub use fetch::{Programs, cache_folder, object_server};
pub use folder::{Folder, OwnerLock, ServerStatus, supervise};
pub use native::Native;
pub use plan::{
    Broker, Cluster, ContainerPlan, Network, Part, Place, PostgresSpec, RegistrySpec, RestoredSpec, ServerPlan,
    StackSpec, WorkerSpec,
};
pub use ports::PortLease;
pub use process::{Process, pss_bytes_of};
pub use progress::{Progress, Silent};
pub use stack::{CONFIG_FILE, LocalStack};
