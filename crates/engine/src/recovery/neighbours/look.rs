//! What can be seen of a connector from outside: configuration, state, topics by id, stored offset, slot.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::slots::{self, SlotSeen};
use crate::recovery::RecoveryError;
use cdc_model::units::Offset;
use cdc_pipeline::{
    client::{
        ClientError,
        connect::{Connect, ConnectorConfig, ConnectorStatus, StoredOffset},
        kafka::Kafka,
        limits::asking,
        postgres::Slot,
    },
    config::Config,
};

/// How many connectors are looked at side by side; the worker and the brokers answer for each.
const SIDE_BY_SIDE: usize = 8;

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
    /// Why its topics and offsets could not be looked at; none where they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unseen: Option<String>,
    /// Its slot, where its server has one of that name and let us look.
    pub(crate) slot: Option<Slot>,
    /// Why its slot could not be looked at; none where its server answered.
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

/// Looks at every connector of the workers but those of the recovery, which `concerned` names. Each server is asked once, and not
/// for long.
pub(crate) async fn look(config: &Config, concerned: &BTreeSet<String>) -> Result<Vec<Neighbour>, RecoveryError> {
    let mut found = from_outside(config, concerned).await?;
    let configs: Vec<&ConnectorConfig> = found.iter().map(|n| &n.config).collect();
    let seen = slots::of(&configs, asking::NEIGHBOUR.now()).await;
    found.iter_mut().zip(seen).for_each(|(neighbour, seen)| neighbour.set_slot(seen));
    Ok(found)
}

/// Looks at them again, to compare them with `before`. A slot that was not seen then is not looked for: there is nothing to compare
/// it with. A server that answered then is given time.
pub(crate) async fn look_again(
    config: &Config,
    concerned: &BTreeSet<String>,
    before: &[Neighbour],
) -> Result<Vec<Neighbour>, RecoveryError> {
    let mut found = from_outside(config, concerned).await?;
    let was_seen = |name: &str| before.iter().any(|was| was.name == name && was.slot.is_some());
    let mut again: Vec<&mut Neighbour> = found.iter_mut().filter(|n| was_seen(&n.name)).collect();
    let configs: Vec<&ConnectorConfig> = again.iter().map(|n| &n.config).collect();
    let seen = slots::of(&configs, asking::POSTGRES_SESSION.now()).await;
    again.iter_mut().zip(seen).for_each(|(neighbour, seen)| neighbour.set_slot(seen));
    Ok(found)
}

/// What worker and brokers say of them.
async fn from_outside(config: &Config, concerned: &BTreeSet<String>) -> Result<Vec<Neighbour>, RecoveryError> {
    let (connect, kafka) = (Connect::of(&config.connect), Kafka::of(&config.kafka)?);
    let names = connect.connectors().await?.into_iter().filter(|n| !concerned.contains(n));
    let looks = names.map(|name| {
        let (connect, kafka) = (&connect, &kafka);
        async move {
            match connect.described(&name).await? {
                Some((settings, status)) => one(connect, kafka, name, settings, &status).await.map(Some),
                None => Ok(None),
            }
        }
    });
    let found = futures::stream::iter(looks).buffered(SIDE_BY_SIDE).try_collect::<Vec<_>>().await?;
    Ok(found.into_iter().flatten().collect())
}

async fn one(
    connect: &Connect,
    kafka: &Kafka,
    name: String,
    config: ConnectorConfig,
    status: &ConnectorStatus,
) -> Result<Neighbour, RecoveryError> {
    let read = async { Ok::<_, ClientError>((connect.topics(&name).await?, connect.offsets(&name).await?)) };
    let (written, offsets, unseen) = match read.await {
        Ok((written, offsets)) => (written, offsets, None),
        // Another's name is no reason to leave this pipeline down.
        Err(error) if error.is_unaddressable() => (Vec::new(), Vec::new(), Some(error.to_string())),
        Err(error) => return Err(error.into()),
    };
    let mut topics = BTreeMap::new();
    for (topic, id) in kafka.topic_ids(&written).await? {
        let ends = kafka.watermarks(&topic).await?.into_iter().map(|(_, end)| end).collect();
        topics.insert(topic, TopicSeen { id, ends });
    }
    let slot_unseen = Some("not looked for".to_owned());
    Ok(Neighbour { name, config, state: status.summary(), topics, offsets, unseen, slot: None, slot_unseen })
}

impl Neighbour {
    fn set_slot(&mut self, seen: SlotSeen) {
        (self.slot, self.slot_unseen) = match seen {
            SlotSeen::There(slot) => (Some(slot), None),
            SlotSeen::Absent => (None, None),
            SlotSeen::Unseen(why) => (None, Some(why)),
        };
    }
}
