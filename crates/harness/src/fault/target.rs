//! What faults are aimed at.

use cdc_model::units::{SlotName, Subject, TableName};
use cdc_pipeline::{
    client::{ClientError, connect::Connect, kafka::Kafka, postgres::Postgres, registry::Registry},
    config::Config,
};

/// One pipeline, as its configuration describes it.
#[derive(Clone, Debug)]
pub struct Target {
    /// How to reach and control it.
    pub config: Config,
    /// The connector.
    pub connector: String,
    /// Its `topic.prefix`.
    pub prefix: String,
    /// Its replication slot.
    pub slot: SlotName,
    /// The captured tables.
    pub tables: Vec<TableName>,
}

impl Target {
    pub(super) async fn sql(&self) -> Result<Postgres, ClientError> {
        Postgres::connect(&self.config.postgres.url, "cdc-drill fault").await
    }

    pub(super) fn connect(&self) -> Connect {
        Connect::of(&self.config.connect)
    }

    pub(super) fn registry(&self) -> Registry {
        Registry::of(&self.config.registry)
    }

    pub(super) fn kafka(&self) -> Result<Kafka, ClientError> {
        Kafka::of(&self.config.kafka)
    }

    /// The topic of a captured table.
    pub fn topic(&self, table: &TableName) -> String {
        format!("{}.{}.{}", self.prefix, table.schema, table.name)
    }

    /// The subject of a captured table's keys or values.
    pub fn subject(&self, table: &TableName, side: &str) -> Subject {
        Subject::new(format!("{}-{side}", self.topic(table)))
    }
}
