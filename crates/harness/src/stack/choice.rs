//! Which backend is wanted, and opening it.

use std::sync::Arc;

use super::{Backend, Programs, Progress, StackError, docker::Docker, native::Native};
use cdc_pipeline::config::Config;

/// Which backend is wanted.
#[derive(Clone, Debug, Default)]
pub enum BackendChoice {
    /// Native processes of this machine.
    #[default]
    Local,
    /// Containers of this machine's Docker engine.
    Docker,
    /// Broker, Connect workers and registry of a pipeline that exists, and native processes for the rest.
    Attach(Box<Config>),
}

impl BackendChoice {
    /// Prepares the backend: fetches what is missing, or asks whether the engine answers. `name` is for what it makes
    /// beside servers.
    pub async fn open(&self, name: &str, progress: &dyn Progress) -> Result<Arc<dyn Backend>, StackError> {
        let existing = match self {
            BackendChoice::Docker => return Ok(Arc::new(Docker::open(name, progress).await?)),
            BackendChoice::Local => None,
            BackendChoice::Attach(config) => Some((**config).clone()),
        };
        let programs = Programs::ensure(progress).await?;
        Ok(Arc::new(Native::new(programs).beside(existing)))
    }
}
