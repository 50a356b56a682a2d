//! Giving a place in the WAL a name.

use super::Done;
use crate::run::{
    Known, RunError,
    chronicle::{Fact, Mark},
    rig::Rig,
};
use cdc_model::units::TableName;
use cdc_workload as workload;

/// Sets a restore point, and captures the tables that no ledger knows.
pub(super) async fn take(rig: &Rig, known: Known<'_>, name: &str) -> Result<Done, RunError> {
    let (db, layout) = (rig.pipeline.sql().await?, known.layout());
    let restore_point = format!("{}_{name}", layout.name);
    let lsn = db.value(&format!("select pg_create_restore_point('{restore_point}')")).await?;
    let time: jiff::Timestamp =
        db.value("select to_char(clock_timestamp(), 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')").await?;
    let captured: Vec<TableName> = layout.tables().cloned().collect();
    let mut beyond = rig.writers.beyond_ledger(&captured);
    // Marker rows go on being placed when the target is reached.
    beyond.retain(|table| layout.sources.iter().all(|source| source.markers != *table));
    let tables = match beyond.is_empty() {
        true => None,
        false => Some(workload::capture(&rig.pipeline.config.postgres.url, &beyond).await?),
    };
    let words = format!("restore point {restore_point} at {lsn}");
    let epoch = known.chronicle.epoch();
    Ok(Done::one(Fact::Marked(Mark { name: name.to_owned(), restore_point, lsn, time, epoch, tables }), words))
}
