//! The backend itself.

use super::{java::Aot, servers::Site};
use crate::stack::{
    Backend, Place, Programs, StackError,
    binary::{find_binary, reachable_binary},
    fixture,
    plan::{Broker, Cluster, Initdb, PostgresSpec, RegistrySpec, ServerPlan, WorkerSpec},
};
use cdc_model::units::Secret;
use cdc_pipeline::config::{Config, RegistryStorage};

/// Servers listen on loopback.
const HOST: &str = "127.0.0.1";

/// Runs the fetched components.
#[derive(Clone, Debug)]
pub struct Native {
    programs: Programs,
    aot: Aot,
    existing: Option<Config>,
}

impl Native {
    /// With the Java AOT caches that are there.
    pub fn new(programs: Programs) -> Native {
        Native::with(programs, Aot::Use)
    }

    pub(super) fn with(programs: Programs, aot: Aot) -> Native {
        Native { programs, aot, existing: None }
    }

    /// Beside the broker, workers and registry of somebody's.
    #[must_use]
    pub(in crate::stack) fn beside(mut self, existing: Option<Config>) -> Native {
        self.existing = existing;
        self
    }

    fn site<'a>(&'a self, place: &Place<'a>) -> Result<Site<'a>, StackError> {
        place.account.must_reach(&self.programs.java())?;
        Ok(Site { dir: place.dir, programs: &self.programs, account: place.account, aot: self.aot })
    }
}

impl Backend for Native {
    fn existing(&self) -> Option<&Config> {
        self.existing.as_ref()
    }

    fn schema_resolver(&self) -> Option<&'static str> {
        Some(fixture::RESOLVER_CLASS)
    }

    fn broker(
        &self,
        place: &Place<'_>,
        broker: &Broker<'_>,
        settings: &[(String, String)],
    ) -> Result<ServerPlan, StackError> {
        self.site(place)?.kafka(broker, settings)
    }

    fn worker(
        &self,
        place: &Place<'_>,
        spec: &WorkerSpec,
        number: u16,
        port: u16,
        bootstrap: &str,
    ) -> Result<ServerPlan, StackError> {
        self.site(place)?.connect(spec, number, port, bootstrap)
    }

    fn registry(
        &self,
        place: &Place<'_>,
        spec: &RegistrySpec,
        ports: [u16; 2],
        bootstrap: Option<&str>,
    ) -> Result<(ServerPlan, RegistryStorage), StackError> {
        self.site(place)?.registry(spec, ports[0], ports[1], bootstrap)
    }

    fn cluster(
        &self,
        place: &Place<'_>,
        spec: &PostgresSpec,
        port: u16,
        password: Secret,
    ) -> Result<Cluster, StackError> {
        let archiver = reachable_binary(&find_binary(None)?, place.account, &place.dir.join("bin"))?;
        let initdb = Initdb::Program { bin: self.programs.postgres_bin(), archiver };
        Cluster::new(place, spec.clone(), initdb, HOST, port, password)
    }
}
