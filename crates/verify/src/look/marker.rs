//! Rows that are written to see when they arrive, and waiting for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use rdkafka::Message;

use super::{Systems, topics::ends};
use crate::{
    decode::settings::ConnectorSettings,
    observation::{Canary, Interrupted, Quiet},
};
use cdc_model::units::{Lsn, Offset, TableName, TopicPartition};
use cdc_pipeline::client::{
    ClientError,
    limits::Bound,
    wait::{self, Poll},
};

/// A row written to see when it arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Its table.
    pub table: TableName,
    /// The table's topic.
    pub topic: String,
    /// Its token, which stands in one of its text columns.
    pub token: String,
    /// The server's end of WAL just before the marker was written. With all writers at rest, a stored offset that is
    /// not before it is past everything that they did.
    pub lsn: Lsn,
    /// The ends of the topic's partitions before the marker was written; a partition not named is read from its start.
    pub from: BTreeMap<TopicPartition, Offset>,
}

impl Marker {
    /// Notes where things stand; write the marker's row after this.
    pub async fn prepare(
        systems: &Systems,
        table: TableName,
        topic: String,
        token: String,
    ) -> Result<Marker, ClientError> {
        let session = systems.session("").await?;
        let lsn = session.value("select pg_current_wal_insert_lsn()::text").await?;
        let before = ends(systems, &BTreeSet::from([topic.clone()])).await?;
        let from = before.into_iter().map(|(partition, (_, high))| (partition, high)).collect();
        Ok(Marker { table, topic, token, lsn, from })
    }
}

/// Waits until the marker is read from its topic and the connector's stored offset is past what was before it. A FAILED
/// task or a lost slot ends the wait at once; else it ends when nothing moves for `standstill`.
pub async fn quiesce(
    systems: &Systems,
    connector: &Arc<ConnectorSettings>,
    marker: &Marker,
    standstill: impl Into<Bound>,
) -> Quiet {
    let arrived = std::cell::Cell::new(false);
    let reached = wait::while_moving("the marker", standstill, || async {
        let (dead, motion) = motion(systems, connector, &marker.topic).await?;
        if let Some(dead) = dead {
            return Ok::<_, ClientError>((Poll::Hopeless(dead), motion));
        }
        if !arrived.get() {
            arrived.set(contains(systems, marker).await?);
        }
        let stored = systems.connect.offsets(&connector.name).await?;
        let number = |field: &str| stored.iter().filter_map(|o| o.offset.as_ref()?.get(field)?.as_u64()).max();
        let stored = number("lsn").or_else(|| number("lsn_proc")).map(Lsn);
        match (arrived.get(), stored) {
            (true, Some(lsn)) if lsn >= marker.lsn => Ok((Poll::Ready(()), motion)),
            (arrived, stored) => {
                let shown = stored.map_or("none".to_owned(), |l| l.to_string());
                let read = if arrived { "read" } else { "not read" };
                let seen = format!("marker {read} from {}, stored offset {shown} of {}", marker.topic, marker.lsn);
                Ok((Poll::NotYet(seen), Motion { stored, ..motion }))
            }
        }
    });
    let reached = match reached.await {
        Ok(()) => Ok(()),
        Err(ClientError::Hopeless { why, .. }) => Err(Interrupted { dead: true, seen: why }),
        Err(error) => Err(Interrupted { dead: false, seen: error.to_string() }),
    };
    Quiet {
        topic: marker.topic.clone(),
        table: marker.table.clone(),
        token: marker.token.clone(),
        lsn: marker.lsn,
        reached,
    }
}

/// Waits until the marker is read from its topic: a canary. The wait ends when nothing moves for `standstill`.
pub async fn arrival(
    systems: &Systems,
    connector: &Arc<ConnectorSettings>,
    marker: &Marker,
    standstill: impl Into<Bound>,
) -> Canary {
    let began = Instant::now();
    let reached = wait::while_moving("the canary", standstill, || async {
        let (dead, motion) = motion(systems, connector, &marker.topic).await?;
        let seen = match (contains(systems, marker).await?, dead) {
            (true, _) => Poll::Ready(()),
            (false, Some(dead)) => Poll::Hopeless(dead),
            (false, None) => Poll::NotYet(format!("not in {}", marker.topic)),
        };
        Ok::<_, ClientError>((seen, motion))
    });
    let arrived_ms = reached.await.map(|()| began.elapsed().as_millis() as u64).map_err(|e| e.to_string());
    Canary { table: marker.table.clone(), topic: marker.topic.clone(), token: marker.token.clone(), arrived_ms }
}

/// How far a connector has come. While any of it changes, what is waited for may still come.
#[derive(Debug, Default, PartialEq, Eq)]
struct Motion {
    /// The end of the topic's partitions, summed up.
    records: i64,
    /// What the server has sent to the connector, and what that has confirmed.
    sent: Option<Lsn>,
    confirmed: Option<Lsn>,
    /// The stored offset.
    stored: Option<Lsn>,
}

/// What makes waiting useless, and how far the connector has come.
async fn motion(
    systems: &Systems,
    connector: &Arc<ConnectorSettings>,
    topic: &str,
) -> Result<(Option<String>, Motion), ClientError> {
    let ends = ends(systems, &BTreeSet::from([topic.to_owned()])).await?;
    let records = ends.values().map(|(_, high)| high.0).sum();
    let mut motion = Motion { records, ..Motion::default() };
    if let Ok(status) = systems.connect.status(&connector.name).await
        && let Some(failure) = status.failure()
    {
        return Ok((Some(failure), motion));
    }
    let asked = async {
        let session = systems.session("").await?;
        let slot = session.slots().await?.into_iter().find(|s| s.name == connector.slot);
        let sent = match slot.as_ref().and_then(|s| s.active_pid) {
            Some(pid) => session.text(&format!("select sent_lsn from pg_stat_replication where pid = {pid}")).await?,
            None => None,
        };
        Ok::<_, ClientError>((slot, sent.and_then(|lsn| lsn.parse().ok())))
    };
    // A server that restarts comes back; the standstill ends the wait for one that does not.
    let Ok((slot, sent)) = asked.await else { return Ok((None, motion)) };
    let Some(slot) = slot else { return Ok((Some(format!("slot {} is missing", connector.slot)), motion)) };
    (motion.confirmed, motion.sent) = (slot.confirmed_flush_lsn, sent);
    Ok((slot.invalidated().map(|reason| format!("slot {} is lost: {reason}", connector.slot)), motion))
}

/// Whether the marker's token stands in a record behind the offsets of before. Both converters write text as it is.
async fn contains(systems: &Systems, marker: &Marker) -> Result<bool, ClientError> {
    let now = ends(systems, &BTreeSet::from([marker.topic.clone()])).await?;
    let ranges: Vec<_> = now
        .into_iter()
        .map(|(partition, (low, high))| {
            let from = marker.from.get(&partition).copied().filter(|f| *f <= high).unwrap_or(low);
            (partition, from.max(low), high)
        })
        .collect();
    let (kafka, token) = (systems.kafka.clone(), marker.token.clone().into_bytes());
    let work = tokio::task::spawn_blocking(move || {
        let mut found = false;
        kafka.scan(&ranges, |message| {
            found |= message.payload().is_some_and(|v| v.windows(token.len().max(1)).any(|w| w == token));
        })?;
        Ok(found)
    });
    match work.await {
        Ok(result) => result,
        Err(error) => {
            Err(ClientError::Hopeless { what: "a blocking task".into(), why: error.to_string(), hints: Vec::new() })
        }
    }
}
