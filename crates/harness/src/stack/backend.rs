//! Where servers run. A backend lays each server out as a [`ServerPlan`]; everything after that is the same for all.

use super::{
    StackError,
    plan::{Broker, Cluster, Place, PostgresSpec, RegistrySpec, ServerPlan, WorkerSpec},
};
use cdc_model::units::Secret;
use cdc_pipeline::config::{Config, RegistryStorage};

/// How servers come to be.
pub trait Backend: std::fmt::Debug + Send + Sync {
    /// The pipeline of somebody's whose broker, workers and registry are used instead of servers of a run's own.
    fn existing(&self) -> Option<&Config> {
        None
    }

    /// The schema resolver that its workers have beside Apicurio's Avro converter, by class; Apicurio's own otherwise.
    fn schema_resolver(&self) -> Option<&'static str> {
        None
    }

    /// A broker of a cluster; the first one is the controller too.
    fn broker(
        &self,
        place: &Place<'_>,
        broker: &Broker<'_>,
        settings: &[(String, String)],
    ) -> Result<ServerPlan, StackError>;

    /// A Connect worker, by its number in its cluster.
    fn worker(
        &self,
        place: &Place<'_>,
        spec: &WorkerSpec,
        number: u16,
        port: u16,
        bootstrap: &str,
    ) -> Result<ServerPlan, StackError>;

    /// A schema registry, with what a recovery must know of its store. The second port is for its management.
    fn registry(
        &self,
        place: &Place<'_>,
        spec: &RegistrySpec,
        ports: [u16; 2],
        bootstrap: Option<&str>,
    ) -> Result<(ServerPlan, RegistryStorage), StackError>;

    /// A PostgreSQL cluster.
    fn cluster(
        &self,
        place: &Place<'_>,
        spec: &PostgresSpec,
        port: u16,
        password: Secret,
    ) -> Result<Cluster, StackError>;
}
