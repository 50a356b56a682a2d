//! Of which pipeline a recovery point is: one repository may have those of several.

use super::{Manifest, Origin};
use cdc_model::units::SystemId;
use cdc_pipeline::{
    client::{ClientError, kafka::Kafka, postgres::Postgres},
    config::Config,
};

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
        Ok(Origin { system_id: Some(server.system_id().await?), kafka: Some(kafka), registry: None })
    }

    /// That of a pipeline, as far as its servers answer.
    pub(crate) async fn of_answering(config: &Config) -> Origin {
        let system_id = async { Postgres::connect(&config.postgres.url, "cdc-drill").await?.system_id().await };
        let kafka = async { Kafka::of(&config.kafka)?.own_cluster_id().await };
        Origin { system_id: system_id.await.ok(), kafka: kafka.await.ok(), registry: None }
    }

    /// That of a point.
    pub fn of(manifest: &Manifest) -> Origin {
        let known = manifest.pipeline.clone();
        Origin {
            system_id: known.system_id.or(manifest.pg.get().map(|facts| facts.system_id)),
            kafka: known.kafka.or(manifest.kafka.get().and_then(|facts| facts.cluster_id.clone())),
            registry: known.registry,
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
