//! Breaking something.

use super::Done;
use crate::{
    fault::{Fault, Target},
    run::{
        Emitter, Known, RunError,
        chronicle::{Fact, Layout, Source},
        rig::{Pipeline, Rig},
    },
    scenario::{self, SubjectSide},
};
use cdc_model::{
    event::{FaultReport, Landed, What},
    units::SlotName,
};
use cdc_pipeline::config::Means;
use cdc_verify::look::{self, Systems};

/// What a fault needs to know that is aimed at a connector.
pub(super) fn target(pipeline: &Pipeline, source: &Source) -> Target {
    let name = source.name.clone();
    Target {
        config: pipeline.config.clone(),
        connector: name.clone(),
        prefix: name.clone(),
        slot: SlotName::new(name),
        tables: source.tables.clone(),
    }
}

/// Of a fault that names a table, the connector that captures it; of any other, the first.
fn aimed_at<'l>(layout: &'l Layout, fault: &scenario::Fault) -> &'l Source {
    let table = match fault {
        scenario::Fault::DeleteAll(f) => Some(&f.table),
        scenario::Fault::FlipHeapBytes(f) => Some(&f.table),
        scenario::Fault::AlterColumn(f) => Some(&f.table),
        scenario::Fault::LoseRecords(f) => Some(&f.table),
        scenario::Fault::RegistryDeleteSubject(f) => Some(&f.table),
        scenario::Fault::RegistrySetLevel(f) => f.table.as_ref(),
        scenario::Fault::KillPostgres
        | scenario::Fault::PausePostgres
        | scenario::Fault::DisconnectPostgres
        | scenario::Fault::StarvePostgres(_)
        | scenario::Fault::DropSlot
        | scenario::Fault::InvalidateSlot
        | scenario::Fault::RegistryLoseStorage(_) => None,
    };
    match table {
        Some(table) => layout.source_of(&table.0),
        None => &layout.sources[0],
    }
}

/// The scenario's fault as the injector takes it. The seed chooses pages.
pub(super) fn injected(layout: &Layout, seed: u64, wanted: &scenario::Fault) -> Fault {
    match wanted {
        scenario::Fault::DeleteAll(f) => Fault::DeleteAll { table: f.table.0.clone() },
        scenario::Fault::FlipHeapBytes(f) => Fault::FlipHeapBytes { table: f.table.0.clone(), pages: f.pages, seed },
        scenario::Fault::KillPostgres => Fault::KillPostgres,
        scenario::Fault::PausePostgres => Fault::DisturbPostgres { means: Means::Pause },
        scenario::Fault::DisconnectPostgres => Fault::DisturbPostgres { means: Means::Disconnect },
        scenario::Fault::StarvePostgres(f) => Fault::DisturbPostgres { means: Means::Memory(f.mib) },
        scenario::Fault::DropSlot => Fault::DropSlot,
        scenario::Fault::InvalidateSlot => Fault::InvalidateSlot,
        scenario::Fault::AlterColumn(f) => {
            Fault::AlterColumn { table: f.table.0.clone(), column: f.column.clone(), change: f.change }
        }
        scenario::Fault::LoseRecords(f) => Fault::LoseRecords { topic: layout.topic(&f.table.0), by: f.by },
        scenario::Fault::RegistryDeleteSubject(f) => {
            Fault::RegistryDeleteSubject { subject: layout.subject(&f.table.0, f.side) }
        }
        scenario::Fault::RegistrySetLevel(f) => Fault::RegistrySetLevel {
            subject: f.table.as_ref().map(|t| layout.subject(&t.0, SubjectSide::Value)),
            level: f.level.word().to_owned(),
        },
        scenario::Fault::RegistryLoseStorage(f) => Fault::RegistryLoseStorage { refill: f.refill },
    }
}

/// Injects a fault; one that did not land ends the drill as inconclusive.
pub(super) async fn take(rig: &mut Rig, known: Known<'_>, wanted: &scenario::Fault) -> Result<Done, RunError> {
    let fault = injected(known.layout(), known.plan.seed, wanted);
    let systems = Systems::new(&rig.pipeline.config)?;
    let before = look::registry(&systems, &known.layout().subject_prefix()).await?;
    let source = aimed_at(known.layout(), wanted);
    let held = held(&systems, &fault).await?;
    let guard = fault.inject(&target(&rig.pipeline, source)).await?;
    let seen = guard.landed().await;
    rig.guards.push(guard);
    let evidence = seen.evidence.clone();
    reported(&rig.emit, seen)?;
    let injected = Fact::FaultInjected { connector: source.name.clone(), fault: wanted.clone() };
    let facts = [Fact::RegistryBeforeFault(before), injected].into_iter().chain(held);
    Ok(Done { facts: facts.collect(), outcome: evidence.into() })
}

/// What the topic holds that is to lose its records.
async fn held(systems: &Systems, fault: &Fault) -> Result<Option<Fact>, RunError> {
    let Fault::LoseRecords { topic, by } = fault else { return Ok(None) };
    let records = look::held(systems, topic).await?;
    let ends = systems.kafka.watermarks(topic).await?.into_iter().map(|(_, end)| end).collect();
    Ok(Some(Fact::RecordsHeld { topic: topic.clone(), by: *by, records, ends }))
}

/// Reports a fault; one that did not land is an error.
pub(super) fn reported(emit: &Emitter, report: FaultReport) -> Result<(), RunError> {
    let landed = report.landed;
    let error = RunError::NotLanded { fault: report.fault.clone(), evidence: report.evidence.clone() };
    emit.emit(What::Fault(report));
    if landed == Landed::Confirmed { Ok(()) } else { Err(error) }
}
