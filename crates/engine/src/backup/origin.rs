//! Of which pipeline a recovery point is: one repository may have those of several.

use super::Manifest;
use cdc_model::units::SystemId;
use cdc_pipeline::{
    client::{ClientError, kafka::Kafka, postgres::Postgres},
    config::Config,
};

/// What tells a pipeline from others. What is not known tells nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The PostgreSQL cluster's system identifier.
    pub system_id: Option<SystemId>,
    /// The Kafka cluster's id.
    pub kafka: Option<String>,
}

/// What another pipeline's point differs by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Foreign {
    /// It is of the PostgreSQL cluster with this system identifier.
    Cluster(SystemId),
    /// It is of this PostgreSQL cluster, and its topics are of the Kafka cluster with this id.
    Kafka(String),
}

impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Foreign::Cluster(id) => write!(f, "the cluster with system identifier {id}"),
            Foreign::Kafka(id) => write!(f, "a pipeline on Kafka cluster {id}"),
        }
    }
}

impl Origin {
    /// That of a pipeline whose servers answer.
    pub async fn of_pipeline(config: &Config) -> Result<Origin, ClientError> {
        let server = Postgres::connect(&config.postgres.url, "cdc-drill").await?;
        let kafka = Kafka::of(&config.kafka)?.own_cluster_id().await?;
        Ok(Origin { system_id: Some(server.system_id().await?), kafka: Some(kafka) })
    }

    /// That of a point.
    pub fn of(manifest: &Manifest) -> Origin {
        Origin {
            system_id: manifest.pg.get().map(|facts| facts.system_id),
            kafka: manifest.kafka.get().and_then(|facts| facts.cluster_id.clone()),
        }
    }

    /// By what a point is another pipeline's; `None` for one of this pipeline.
    pub fn foreign(&self, manifest: &Manifest) -> Option<Foreign> {
        let point = Origin::of(manifest);
        other(&self.system_id, point.system_id)
            .map(Foreign::Cluster)
            .or_else(|| other(&self.kafka, point.kafka).map(Foreign::Kafka))
    }
}

/// What was found, where it is known to be another than the own one.
fn other<T: PartialEq>(own: &Option<T>, found: Option<T>) -> Option<T> {
    found.filter(|found| own.as_ref().is_some_and(|own| own != found))
}
