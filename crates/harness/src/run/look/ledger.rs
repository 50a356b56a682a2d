//! What the workload did, and in which order it committed.

use crate::run::{
    RunError,
    chronicle::{Chronicle, WalSource},
    rig::Rig,
};
use cdc_engine::backup::Repository;
use cdc_pipeline::config::Tools;
use cdc_workload as workload;
use cdc_workload::{
    WalPlace, WalRange,
    ledger::{CommitOrder, Ledger},
};

/// The ledger with commit order from the WAL of every timeline that the drill was on, unknown outcomes settled.
pub(crate) async fn ledger(rig: &Rig, chronicle: &Chronicle) -> Result<Option<Ledger>, RunError> {
    let config = &rig.pipeline.config;
    let db = rig.pipeline.sql().await?;
    let archive = Repository::of(&config.repository)?.archive(db.system_id().await?);
    archive.drain()?;
    let mut order = CommitOrder::new();
    for (epoch, timeline) in chronicle.timelines() {
        let mut places = Vec::new();
        for source in chronicle.wal_of(epoch) {
            match source {
                WalSource::Kept(folder) | WalSource::Aside(folder) => {
                    places.push(WalPlace::Folder(folder.join("pg_wal")))
                }
                WalSource::Archive => {
                    let files = archive.files(timeline)?.into_iter().map(|held| (held.file, held.path)).collect();
                    places.push(WalPlace::Archive { folder: archive.folder().to_owned(), files });
                }
                WalSource::Server => places.push(WalPlace::Folder(config.postgres.pgdata.join("pg_wal"))),
            }
        }
        let range = WalRange { places, timeline, from: None, to: None };
        order.insert(epoch, workload::commit_order(&Tools::of(config), range).await?.commits);
    }
    let Some(mut ledger) = rig.writers.ledger(&db, order).await? else { return Ok(None) };
    // What the drill does not capture is not looked at, so nothing can be claimed about it.
    for entry in &mut ledger.entries {
        entry.changes.retain(|change| chronicle.layout.tables().any(|table| *table == change.table));
    }
    Ok(Some(ledger))
}
