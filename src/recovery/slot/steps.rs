//! The slot playbook, with both ways to make topics right, and what people do about damaged pages instead.

use super::compensate;
use crate::{
    moment::{self, HALF_WAY, Inside},
    recovery::{
        RecoveryError,
        pipeline::{captured_tables, drop_slot},
        repair::{
            DELETE_OFFSETS, DELETE_TOPICS, FORCE_SNAPSHOT, GROUP_OFFSETS, OF_SEVERAL, PUBLICATION, RECREATE_TOPICS,
            RESTORE_CONFIG, RESUME, Repair, STOP_CONNECTORS, acted, nothing, step,
        },
        step::{Done, Step},
    },
};

const DROP_SLOT: Step<Repair> = step(
    [
        "drop-slot",
        "ends strangers' sessions on the slots and drops them",
        "every connector STOPPED, no tasks",
        "no slot is there",
    ],
    ("slot-loss/invalidated", "refused"),
    |s| s.pipeline.sources.iter().map(|c| format!("slot {} and any session that streams from it", c.slot)).collect(),
    |s| Box::pin(s.pipeline.stand_still("drop-slot")),
    OF_SEVERAL,
    |s| Box::pin(drop_slots(s)),
    |s| Box::pin(slots_gone(s)),
);

const COMPENSATE_KEYS: Step<Repair> = step(
    [
        "compensate",
        "writes a delete and a tombstone for each key in the topics that is no longer in its table",
        "snapshots complete",
        "every key whose latest record shows a row has that row",
    ],
    ("slot-loss/dropped-compensate", "state"),
    nothing,
    |s| Box::pin(s.pipeline.streams("compensate", true)),
    OF_SEVERAL,
    |s| Box::pin(compensate::compensate(s)),
    |s| Box::pin(async { Ok(format!("{} keys deleted from the topics", s.compensated)) }),
);

const REWRITE_TABLES: Step<Repair> = step(
    [
        "zero-damaged-pages",
        "reads damaged pages as empty and rewrites the tables without them",
        "the server answers",
        "the tables can be read",
    ],
    ("database-corruption/heap-pages", "restored-to-target"),
    nothing,
    |_| Box::pin(async { Ok("the server answers".to_owned()) }),
    Inside::Atomic,
    |s| Box::pin(rewrite(s)),
    |s| Box::pin(readable(s)),
);

/// The slot playbook with purged topics.
pub(crate) static PURGE: [Step<Repair>; 10] = [
    STOP_CONNECTORS,
    DROP_SLOT,
    PUBLICATION,
    DELETE_TOPICS,
    RECREATE_TOPICS,
    GROUP_OFFSETS,
    DELETE_OFFSETS,
    FORCE_SNAPSHOT,
    RESUME,
    RESTORE_CONFIG,
];

/// The slot playbook with topics that stay.
pub(crate) static COMPENSATE: [Step<Repair>; 8] =
    [STOP_CONNECTORS, DROP_SLOT, PUBLICATION, DELETE_OFFSETS, FORCE_SNAPSHOT, RESUME, COMPENSATE_KEYS, RESTORE_CONFIG];

/// What people do about damaged pages who do not restore.
pub(crate) static ZERO_DAMAGED_PAGES: [Step<Repair>; 10] = [
    STOP_CONNECTORS,
    REWRITE_TABLES,
    DROP_SLOT,
    DELETE_TOPICS,
    RECREATE_TOPICS,
    GROUP_OFFSETS,
    DELETE_OFFSETS,
    FORCE_SNAPSHOT,
    RESUME,
    RESTORE_CONFIG,
];

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
    Ok(format!("{} slots gone", s.pipeline.sources.len()))
}

async fn rewrite(s: &mut Repair) -> Result<Done, RecoveryError> {
    for source in &s.pipeline.sources {
        let server = s.pipeline.session(source).await?;
        server.run("set zero_damaged_pages = on").await?;
        for table in captured_tables(&server, &source.capture).await? {
            server.run(&format!("vacuum full {}", table.quoted())).await?;
        }
    }
    acted(Ok(()))
}

async fn readable(s: &mut Repair) -> Result<String, RecoveryError> {
    let mut rows = 0;
    for source in &s.pipeline.sources {
        let server = s.pipeline.session(source).await?;
        for table in captured_tables(&server, &source.capture).await? {
            rows += server.value::<u64>(&format!("select count(*) from {}", table.quoted())).await?;
        }
    }
    Ok(format!("{rows} rows are left"))
}
