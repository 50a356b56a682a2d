//! What a database administrator does about a slot: it is made again under its old name, and the connector goes on from its old
//! offsets.

use serde_json::{Map, Value, json};

use cdc_engine::recovery::{
    RecoveryError,
    compose::{Coordinated, Done, OverPipeline, Pipeline, RESTORE, Reading, Step, acted, drop_slot, force_snapshot},
};
use cdc_model::units::Lsn;
use cdc_pipeline::client::connect::stored_position;
use cdc_postgres::sql::literal;

/// A restore after which nobody reads the tables.
pub(crate) const RESTORE_UNREAD: Step<Coordinated> =
    Step { act: |s| Box::pin(async { acted(s.restore(Reading::State).await) }), ..RESTORE };

/// Makes the slots by hand where the playbook would let the connectors make them.
pub(crate) fn make_slots<S: OverPipeline>() -> Step<S> {
    Step {
        act: |s| Box::pin(make(s.pipeline())),
        after: |s| Box::pin(made(s.pipeline(), "force-snapshot")),
        ..force_snapshot()
    }
}

/// The slot again under its old name. A connector that would refuse to start, as its stored offset lies before the slot, is given the
/// slot's position.
async fn make(pipeline: &Pipeline) -> Result<Done, RecoveryError> {
    if pipeline.sources.is_empty() {
        return Ok(Done::Nothing("no connector has a slot"));
    }
    for source in &pipeline.sources {
        let server = pipeline.session(source).await?;
        drop_slot(&server, &source.slot).await?;
        let name = literal(source.slot.as_str());
        let sql = format!("select lsn from pg_create_logical_replication_slot({name}, 'pgoutput')");
        let at: Lsn = server.value(&sql).await?;
        let mut stored = pipeline.connect.offsets(&source.name).await?;
        let behind = |o: &Map<String, Value>| stored_position(o).is_some_and(|lsn| lsn < at);
        if !stored.iter().any(|o| o.offset.as_ref().is_some_and(behind)) {
            continue;
        }
        let now = jiff::Timestamp::now().as_microsecond();
        let handed = json!({"lsn": at.0, "lsn_proc": at.0, "lsn_commit": at.0, "txId": 1, "ts_usec": now});
        for entry in &mut stored {
            entry.offset = handed.as_object().cloned();
        }
        pipeline.connect.patch_offsets(&source.name, &stored).await?;
    }
    Ok(Done::Acted)
}

async fn made(pipeline: &Pipeline, step: &str) -> Result<String, RecoveryError> {
    for source in &pipeline.sources {
        let slots = pipeline.session(source).await?.slots().await?;
        if slots.iter().all(|slot| slot.name != source.slot) {
            return Err(RecoveryError::unmet(step, format!("slot {} made by hand", source.slot), "none"));
        }
    }
    Ok("slots made by hand".into())
}
