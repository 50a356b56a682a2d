//! Taking a recovery point, under load.

use super::{
    Done,
    load::{facts, load_during_backup},
    runbook,
};
use crate::{
    run::{Known, RunError, chronicle::Fact, rig::Rig},
    scenario::BackupPlan,
};
use cdc_engine::backup::{self, CreateOptions};
use cdc_model::event::StepOutcome;
use cdc_model::units::counted;

/// Takes a recovery point, or lets the scenario's command take a backup.
pub(super) async fn take(rig: &mut Rig, known: Known<'_>, wanted: &BackupPlan) -> Result<Done, RunError> {
    let (name, only) = match wanted {
        BackupPlan::Command(command) => return runbook::backup(rig, known, command).await,
        BackupPlan::Engine { name, only } => (name, only),
    };
    let options = CreateOptions { only: only.iter().copied().collect() };
    let Rig { pipeline, writers, .. } = rig;
    let load = load_during_backup();
    let silent = |_| {};
    let (created, loaded) = tokio::join!(
        backup::create(&pipeline.config, &options, &silent),
        writers.load(known.plan, &pipeline.config, &load)
    );
    let created = created?;
    let loaded = loaded?;
    let point = created.point().clone();
    let detail = format!("recovery point {point} of {}", counted(created.manifest.bytes, "byte"));
    let taken = Fact::PointTaken { name: name.clone(), point };
    Ok(Done { facts: facts(&loaded).chain([taken]).collect(), outcome: StepOutcome { detail, loaded: Some(loaded) } })
}
