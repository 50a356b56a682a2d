//! Holding that what a drill depends on came about.

use super::fault::{reported, target};
use crate::{
    fault,
    run::{
        Known, RunError,
        rig::{Rig, quiesce},
    },
    scenario::{self, Fault},
};
use cdc_model::units::{Lsn, counted};
use cdc_pipeline::client::connect::stored_position;

/// Waits for a condition without which the drill would prove nothing.
pub(super) async fn take(rig: &Rig, known: Known<'_>, prove: &scenario::Prove) -> Result<String, RunError> {
    let seen = match prove {
        scenario::Prove::DeliveredBeyond(mark) => return delivered_beyond(rig, known, prove, mark).await,
        scenario::Prove::WalBeyond(mark) => return wal_beyond(rig, known, mark).await,
        scenario::Prove::SlotMissing => return slot_missing(rig, known, prove).await,
        scenario::Prove::SchemaRefused(table) => {
            let target = target(&rig.pipeline, known.layout().source_of(&table.0));
            fault::schema_refused(&target, &table.0).await?
        }
        scenario::Prove::RecordsUnderOtherIds(count) => {
            let target = target(&rig.pipeline, &known.layout().sources[0]);
            let before = rig.guards.iter().find_map(|g| g.registry_before());
            let before = before.ok_or_else(|| RunError::Scenario {
                scenario: known.plan.id.to_string(),
                what: "prove: records-under-other-ids".into(),
                expected: "a registry-lose-storage fault before it".into(),
                found: "none".into(),
                hint: "put the fault before the proof".into(),
            })?;
            fault::records_under_other_ids(&target, before, *count).await?
        }
    };
    let evidence = seen.evidence.clone();
    reported(&rig.emit, seen)?;
    Ok(evidence)
}

/// Waits until everything committed is delivered, and looks at each connector's stored position.
async fn delivered_beyond(
    rig: &Rig,
    known: Known<'_>,
    prove: &scenario::Prove,
    mark: &str,
) -> Result<String, RunError> {
    let beyond = known.mark(mark)?.lsn;
    let unmet = |seen: String| RunError::Condition { condition: format!("{} {mark}", prove.word()), seen };
    quiesce(&rig.pipeline, &rig.run).await.map_err(|error| match error {
        RunError::NotQuiet { seen } => unmet(seen),
        other => other,
    })?;
    let mut stored = Vec::new();
    for name in known.layout().connectors() {
        let offsets = rig.pipeline.connect().offsets(&name).await?;
        let at = offsets.iter().filter_map(|o| o.offset.as_ref().and_then(stored_position)).max();
        match at {
            Some(lsn) if lsn > beyond => stored.push(format!("{name} stored {lsn}")),
            other => {
                let at = other.map_or("nothing".to_owned(), |lsn| lsn.to_string());
                return Err(unmet(format!("connector {name} has stored {at}, the mark is at {beyond}")));
            }
        }
    }
    Ok(format!("everything is delivered; {}, beyond {mark} at {beyond}", stored.join(", ")))
}

/// Goes on to new segments until the WAL is longer than the mark's position.
async fn wal_beyond(rig: &Rig, known: Known<'_>, mark: &str) -> Result<String, RunError> {
    let beyond = known.mark(mark)?.lsn;
    let db = rig.pipeline.sql().await?;
    let mut switched = 0;
    loop {
        let end: Lsn = db.value("select pg_current_wal_insert_lsn()").await?;
        if end > beyond {
            return Ok(format!(
                "the WAL ends at {end}, beyond {mark} at {beyond}; {} switched",
                counted(switched, "segment")
            ));
        }
        // A segment without a record is not switched: the record makes that each turn is a step forward.
        db.run("select pg_logical_emit_message(false, 'cdc-drill', 'on to the next segment')").await?;
        db.run("select pg_switch_wal()").await?;
        switched += 1;
    }
}

async fn slot_missing(rig: &Rig, known: Known<'_>, prove: &scenario::Prove) -> Result<String, RunError> {
    let slots = rig.pipeline.sql().await?.slots().await?;
    let dropped = known.chronicle.faults().filter(|(_, fault)| matches!(fault, Fault::DropSlot));
    let names: Vec<&str> = dropped.map(|(connector, _)| connector).collect();
    match slots.iter().find(|slot| names.iter().any(|name| slot.name.as_str() == *name)) {
        None => Ok("no slot is there".to_owned()),
        Some(slot) => Err(RunError::Condition {
            condition: prove.word().to_owned(),
            seen: format!("slot {} is there: a connector made it again", slot.name),
        }),
    }
}
