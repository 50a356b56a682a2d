//! Waiting for connectors that may stream or fail.

use super::Pipeline;
use crate::run::RunError;
use cdc_pipeline::client::{ClientError, limits, postgres::Slot, wait};

/// Waits until each of the drill's connectors streams or its task has failed; says which.
pub(crate) async fn settled(pipeline: &Pipeline) -> Result<String, RunError> {
    let mut said = Vec::new();
    for name in pipeline.layout.connectors() {
        said.push(connector_settled(pipeline, &name).await);
    }
    Ok(said.join("; "))
}

async fn connector_settled(pipeline: &Pipeline, name: &str) -> String {
    let connect = pipeline.connect();
    let db = pipeline.sql().await.ok();
    let slot = async || match &db {
        Some(db) => Ok(db.slots().await?.into_iter().find(|s| s.name.as_str() == name)),
        None => Ok::<_, ClientError>(None),
    };
    // On an invalidated slot it neither streams nor fails: it asks 900 times, two seconds apart, whether there is another.
    let asks_for_a_lost_slot = async |slot: Option<&Slot>| match (&db, slot) {
        (Some(db), Some(slot)) if slot.invalidated().is_some() => {
            Ok(db.text(ASKS_FOR_A_SLOT).await?.as_deref() == Some("t"))
        }
        _ => Ok(false),
    };
    let said = wait::until(&format!("connector {name} to stream or fail"), limits::connectors::SETTLED, || async {
        let status = connect.status(name).await?;
        if let Some(failure) = status.failure() {
            return Ok(wait::Poll::Ready(failure));
        }
        let slot = slot().await?;
        let streams = status.all_running() && slot.as_ref().is_some_and(|s| s.active);
        if streams {
            return Ok(wait::Poll::Ready(status.summary()));
        }
        let asks = status.connector.state == "RUNNING" && asks_for_a_lost_slot(slot.as_ref()).await?;
        Ok::<_, ClientError>(match asks {
            true => {
                wait::Poll::Ready(format!("{}; it asks again and again for its slot, which is lost", status.summary()))
            }
            false => wait::Poll::NotYet(status.summary()),
        })
    })
    .await;
    // A connector that neither streams nor fails is a state of its own, which the signals will tell.
    said.unwrap_or_else(|error| error.to_string())
}

/// Whether a connector's session has asked for a slot and waits to ask again.
const ASKS_FOR_A_SLOT: &str = "select exists (select from pg_stat_activity where application_name like 'Debezium%' \
                               and state like 'idle%' and query like '%pg_replication_slots%')";
