//! What can be seen of a connector from outside: configuration, state, topics by id, stored offset, slot.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    client::{
        cluster::{connector_session, is_postgres},
        connect::{Connect, ConnectorConfig, ConnectorStatus, StoredOffset},
        kafka::Kafka,
        postgres::Slot,
    },
    config::Config,
    debezium::Connector,
    recovery::RecoveryError,
    units::Offset,
};

/// One connector as it was seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Neighbour {
    /// Its name.
    pub(crate) name: String,
    /// Its configuration.
    pub(crate) config: ConnectorConfig,
    /// `connector RUNNING, task 0 RUNNING`; on which worker a task runs is not part of it.
    pub(crate) state: String,
    /// The topics it writes to.
    pub(crate) topics: BTreeMap<String, TopicSeen>,
    /// Its stored offsets.
    pub(crate) offsets: Vec<StoredOffset>,
    /// Its slot, where its server let us look.
    pub(crate) slot: Option<Slot>,
    /// Why there is no slot here.
    pub(crate) slot_unseen: Option<String>,
}

/// A topic as it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TopicSeen {
    /// Its id: another one is another topic.
    pub(crate) id: String,
    /// Where each partition ends.
    pub(crate) ends: Vec<Offset>,
}

/// Looks at every connector of the workers but those of the recovery, which `concerned` names.
pub(crate) async fn look(config: &Config, concerned: &BTreeSet<String>) -> Result<Vec<Neighbour>, RecoveryError> {
    let (connect, kafka) = (Connect::of(&config.connect), Kafka::of(&config.kafka)?);
    let mut found = Vec::new();
    for name in connect.connectors().await?.into_iter().filter(|n| !concerned.contains(n)) {
        if let Some((settings, status)) = connect.described(&name).await? {
            found.push(one(&connect, &kafka, name, settings, &status).await?);
        }
    }
    Ok(found)
}

async fn one(
    connect: &Connect,
    kafka: &Kafka,
    name: String,
    config: ConnectorConfig,
    status: &ConnectorStatus,
) -> Result<Neighbour, RecoveryError> {
    let written = connect.topics(&name).await?;
    let mut topics = BTreeMap::new();
    for (topic, id) in kafka.topic_ids(&written).await? {
        let ends = kafka.watermarks(&topic).await?.into_iter().map(|(_, end)| end).collect();
        topics.insert(topic, TopicSeen { id, ends });
    }
    let offsets = connect.offsets(&name).await?;
    let (slot, slot_unseen) = match slot(&config).await {
        Ok(slot) => (Some(slot), None),
        Err(why) => (None, Some(why)),
    };
    Ok(Neighbour { name, config, state: status.summary(), topics, offsets, slot, slot_unseen })
}

/// The connector's slot, asked with its own credentials where its configuration has them in the open.
async fn slot(config: &ConnectorConfig) -> Result<Slot, String> {
    let get = |key: &str| config.get(key).map(String::as_str).unwrap_or_default();
    if !is_postgres(config) || get("database.hostname").is_empty() {
        return Err("it reads from no PostgreSQL".to_owned());
    }
    let wanted = Connector::of(config).slot;
    let session = connector_session(config).await?;
    let slots = session.slots().await.map_err(|e| e.to_string())?;
    slots.into_iter().find(|s| s.name == wanted).ok_or_else(|| format!("its server has no slot {wanted}"))
}
