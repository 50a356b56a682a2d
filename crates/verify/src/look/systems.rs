//! The systems of one pipeline.

use std::sync::Arc;

use crate::{VerifyError, decode::record::Schemas};
use cdc_pipeline::{
    client::{ClientError, connect::Connect, kafka::Kafka, postgres::Postgres, registry::Registry},
    config::Config,
};

/// The systems of one pipeline.
#[derive(Clone, Debug)]
pub struct Systems {
    /// The configuration.
    pub config: Config,
    /// The broker.
    pub kafka: Kafka,
    /// The Connect worker.
    pub connect: Connect,
    /// The registry.
    pub registry: Registry,
}

impl Systems {
    /// Names the systems; nothing is asked yet.
    pub fn new(config: &Config) -> Result<Systems, VerifyError> {
        Ok(Systems {
            kafka: Kafka::of(&config.kafka)?,
            connect: Connect::of(&config.connect),
            registry: Registry::of(&config.registry),
            config: config.clone(),
        })
    }

    /// Schemas by id, as the registry has them now. Called from threads that may block.
    pub fn schemas(&self) -> Arc<Schemas> {
        let (registry, runtime) = (self.registry.clone(), tokio::runtime::Handle::current());
        Arc::new(Schemas::new(move |id| runtime.block_on(registry.schema(id))))
    }

    /// A session with a database of the server, with the configured one where none is named.
    pub(super) async fn session(&self, database: &str) -> Result<Postgres, ClientError> {
        if database.is_empty() {
            Postgres::connect(&self.config.postgres.url, "cdc-drill verify").await
        } else {
            Postgres::connect_database(&self.config.postgres.url, database, "cdc-drill verify").await
        }
    }
}
