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
    let guard = fault.inject(&target(&rig.pipeline, source)).await?;
    let seen = guard.landed().await;
    rig.guards.push(guard);
    let evidence = seen.evidence.clone();
    reported(&rig.emit, seen)?;
    let injected = Fact::FaultInjected { connector: source.name.clone(), fault: wanted.clone() };
    Ok(Done { facts: vec![Fact::RegistryBeforeFault(before), injected], outcome: evidence.into() })
}

/// Reports a fault; one that did not land is an error.
pub(super) fn reported(emit: &Emitter, report: FaultReport) -> Result<(), RunError> {
    let landed = report.landed;
    let error = RunError::NotLanded { fault: report.fault.clone(), evidence: report.evidence.clone() };
    emit.emit(What::Fault(report));
    if landed == Landed::Confirmed { Ok(()) } else { Err(error) }
}
