//! How servers are laid out, as data: the same for every backend.

mod broker;
mod cluster;
mod container;
mod place;
mod registry;
mod restored;
mod server;
mod spec;

pub use broker::Broker;
pub(in crate::stack) use broker::{kafka_uuid, numbered};
pub use cluster::Cluster;
pub(in crate::stack) use cluster::{CONTAINER_PORT, Initdb, environment};
pub(in crate::stack) use container::LABEL;
pub use container::{ContainerPlan, Network};
pub use place::Place;
pub(in crate::stack) use registry::{registry_environment, registry_storage};
pub use server::ServerPlan;
pub(in crate::stack) use server::parse_signal;
pub use spec::{Part, PostgresSpec, RegistrySpec, RestoredSpec, StackSpec, WorkerSpec};
