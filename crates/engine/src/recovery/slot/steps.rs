//! The slot playbook, with both ways to make topics right.

use super::compensate;
use crate::recovery::{
    RecoveryError,
    pipeline::drop_slot,
    repair::{Repair, Table},
    step::{Done, OF_SEVERAL, Step, StepInfo, nothing},
    steps::{
        delete_offsets, delete_topics, force_snapshot, group_offsets, publication, recreate_topics, restore_config,
        resume, stop_connectors,
    },
};
use cdc_model::moment::{self, HALF_WAY};
use cdc_model::units::counted;

/// Clears the slots' places, whoever streams from them.
pub const DROP_SLOT: Step<Repair> = Step {
    info: StepInfo {
        id: "drop-slot",
        does: "ends strangers' sessions on the slots and drops them",
        precondition: "every connector STOPPED, no tasks",
        postcondition: "no slot is there",
    },
    destroys: |s| {
        let sources = s.pipeline.sources.iter();
        sources.map(|c| format!("slot {} and any session that streams from it", c.slot)).collect()
    },
    before: |s| Box::pin(s.pipeline.stand_still("drop-slot")),
    inside: OF_SEVERAL,
    act: |s| Box::pin(drop_slots(s)),
    after: |s| Box::pin(slots_gone(s)),
};

const COMPENSATE_KEYS: Step<Repair> = Step {
    info: StepInfo {
        id: "compensate",
        does: "writes a delete and a tombstone for each key in the topics that is no longer in its table",
        precondition: "snapshots complete",
        postcondition: "every key whose latest record shows a row has that row",
    },
    destroys: nothing,
    before: |s| Box::pin(s.pipeline.streams("compensate", true)),
    inside: OF_SEVERAL,
    act: |s| Box::pin(compensate::compensate(s)),
    after: |s| Box::pin(async { Ok(format!("{} deleted from the topics", counted(s.compensated, "key"))) }),
};

/// The slot playbook with purged topics.
pub(crate) static PURGE: Table = Table {
    name: "purge",
    steps: &[
        stop_connectors(),
        DROP_SLOT,
        publication(),
        delete_topics(),
        recreate_topics(),
        group_offsets(),
        delete_offsets(),
        force_snapshot(),
        resume(),
        restore_config(),
    ],
};

/// The slot playbook with topics that stay.
pub(crate) static COMPENSATE: Table = Table {
    name: "compensate",
    steps: &[
        stop_connectors(),
        DROP_SLOT,
        publication(),
        delete_offsets(),
        force_snapshot(),
        resume(),
        COMPENSATE_KEYS,
        restore_config(),
    ],
};

async fn drop_slots(s: &mut Repair) -> Result<Done, RecoveryError> {
    let mut dropped = 0;
    for source in &s.pipeline.sources {
        let server = s.pipeline.session(source).await?;
        dropped += usize::from(drop_slot(&server, &source.slot).await?);
        moment::pass(HALF_WAY).await?;
    }
    Ok(if dropped == 0 { Done::Nothing("no slot was there") } else { Done::Acted })
}

async fn slots_gone(s: &mut Repair) -> Result<String, RecoveryError> {
    for source in &s.pipeline.sources {
        let slots = s.pipeline.session(source).await?.slots().await?;
        if slots.iter().any(|x| x.name == source.slot) {
            return Err(RecoveryError::unmet("drop-slot", format!("no slot {}", source.slot), "it is there"));
        }
    }
    Ok(format!("{} gone", counted(s.pipeline.sources.len(), "slot")))
}
