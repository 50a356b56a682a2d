//! Whether a server answers. Asked of the server itself: an open port is no answer.

use super::operations::{Folder, tail};
use crate::stack::{StackError, plan::ServerPlan};
use cdc_model::units::Secret;
use cdc_pipeline::{
    client::{
        ClientError,
        connect::Connect,
        kafka::Kafka,
        limits,
        postgres::Postgres,
        registry::Registry,
        wait::{Poll, until},
    },
    config::Config,
};

/// Where the servers of a stack answer.
#[derive(Clone, Debug, Default)]
pub(in crate::stack) struct Addresses {
    pub(in crate::stack) postgres: Option<Secret>,
    pub(in crate::stack) kafka: Option<String>,
    pub(in crate::stack) connect: Option<String>,
    pub(in crate::stack) registry: Option<String>,
}

impl Addresses {
    /// The addresses that a configuration names.
    pub(in crate::stack) fn of(config: &Config) -> Addresses {
        Addresses {
            postgres: Some(config.postgres.url.clone()),
            kafka: Some(config.kafka.bootstrap.clone()),
            connect: Some(config.connect.url.clone()),
            registry: Some(config.registry.url.clone()),
        }
    }

    /// Asks the server one question. A server of several is asked at its own address.
    pub(in crate::stack) async fn ask(&self, plan: &ServerPlan) -> Result<(), ClientError> {
        match plan.name.split('-').next().unwrap_or_default() {
            "postgres" => {
                if let Some(url) = &self.postgres {
                    Postgres::connect(url, "cdc-drill readiness").await?.run("select 1").await?;
                }
            }
            "kafka" => {
                // A client made before the port is open would wait for its own, slower, next attempt.
                port_open(&plan.endpoint).await?;
                Kafka::connect(&plan.endpoint)?.topics().await?;
            }
            "connect" => {
                Connect::new(&plan.endpoint).connectors().await?;
            }
            _ => {
                Registry::new(&plan.endpoint).info().await?;
            }
        }
        Ok(())
    }

    /// Waits until the server answers; a server that has died ends the wait at once.
    pub(in crate::stack) async fn wait(&self, folder: &Folder, name: &str) -> Result<(), StackError> {
        let plan = folder.server(name)?;
        let what = format!("{name} to answer");
        let waited = until(&what, limits::servers::START, || async {
            match self.ask(plan).await {
                Ok(()) => Ok(Poll::Ready(())),
                Err(_) if folder.pid(name).is_none() => Ok(Poll::Hopeless("its process has ended".to_owned())),
                Err(error) => Err(error),
            }
        });
        waited.await.map_err(|error| StackError::DidNotStart {
            server: name.to_owned(),
            detail: error.to_string(),
            log: plan.log.clone(),
            tail: tail(&plan.log),
        })
    }
}

async fn port_open(address: &str) -> Result<(), ClientError> {
    let first = address.split(',').next().unwrap_or(address);
    let opened = tokio::net::TcpStream::connect(first).await;
    opened.map(drop).map_err(|e| ClientError::Unreachable {
        system: "kafka",
        address: first.to_owned(),
        detail: e.to_string(),
    })
}
