//! The playbook: sixteen steps, each with what it destroys, what must hold before, and what is read back after.

use super::{
    Coordinated,
    fence::{fence, fenced},
    replay::Reading,
    start::start,
};
use crate::recovery::{
    RecoveryError,
    replay::no_settings_left,
    step::{Done, OF_SEVERAL, Step, StepInfo, acted, infos, nothing},
    steps::{
        delete_offsets, delete_topics, force_snapshot, group_offsets, publication, recreate_topics, restore_config,
        resume, stop_connectors,
    },
};
use cdc_model::moment::Inside;
use cdc_model::units::counted;
use cdc_pipeline::client::postgres::Postgres;

const fn info(
    id: &'static str,
    does: &'static str,
    precondition: &'static str,
    postcondition: &'static str,
) -> StepInfo {
    StepInfo { id, does, precondition, postcondition }
}

const PREPARE: Step<Coordinated> = Step {
    info: info(
        "prepare",
        "extracts the base backup beside the old data folder, compares it and the archived WAL with their checksums, tries the server on it",
        "the recovery point has a base backup",
        "everything is as it was stored; the server would start",
    ),
    destroys: nothing,
    before: |s| Box::pin(async { has_base(s) }),
    inside: Inside::Between(&["extracted"]),
    act: |s| Box::pin(s.prepare()),
    after: |s| Box::pin(s.is_prepared()),
};

const FENCE: Step<Coordinated> = Step {
    info: info(
        "fence",
        "stops the old server",
        "no connector has tasks",
        "the old server does not run and does not answer",
    ),
    destroys: |s| vec![format!("sessions of the server on {}", s.pgdata)],
    before: |s| Box::pin(s.pipeline.stand_still("fence")),
    inside: Inside::Atomic,
    act: |s| Box::pin(fence(s)),
    after: |s| Box::pin(fenced(s)),
};

const SALVAGE: Step<Coordinated> = Step {
    info: info(
        "salvage",
        "copies WAL that never reached the archive and fixes where the WAL ends",
        "the old server is down",
        "the last valid record is read back without the old server's files",
    ),
    destroys: nothing,
    before: |s| Box::pin(server_down(s)),
    inside: OF_SEVERAL,
    act: |s| Box::pin(async { acted(s.salvage().await) }),
    after: |s| Box::pin(s.salvaged("salvage")),
};

const PIN_TIMELINE: Step<Coordinated> = Step {
    info: info(
        "pin-timeline",
        "names the timeline to replay",
        "the target's timeline descends from the recovery point's",
        "replay will follow that timeline and no later one",
    ),
    destroys: nothing,
    before: |s| Box::pin(async { on_the_way(s) }),
    inside: Inside::Atomic,
    act: |s| Box::pin(async { acted(s.learned.change(|l| l.pinned = true)) }),
    after: |s| Box::pin(async { Ok(format!("recovery_target_timeline = {}", s.aim.followed().timeline)) }),
};

/// Replays to the target, and reads the captured tables before anybody else can.
pub const RESTORE: Step<Coordinated> = Step {
    info: info(
        "restore",
        "replays to the target behind the fence, sets the old data folder aside",
        "the archive has every segment up to the target, as it was stored",
        "target reached by the server's own log and state, promoted, captured tables readable",
    ),
    destroys: |s| vec![format!("the place of data folder {} (renamed to {0}.aside-<time>)", s.pgdata)],
    before: |s| Box::pin(continuous(s)),
    inside: Inside::Between(&["replaying", "promoted", "replayed", "set-aside", "exchanged"]),
    act: |s| Box::pin(async { acted(s.restore(Reading::CapturedTables).await) }),
    after: |s| Box::pin(async { restored(s) }),
};

const OPEN: Step<Coordinated> = Step {
    info: info(
        "open",
        "starts the server in its own place",
        "no recovery setting is left in the data folder; no connector has tasks",
        "the server answers, writes, and is the restored one",
    ),
    destroys: nothing,
    before: |s| Box::pin(ready_to_open(s)),
    inside: Inside::Between(&["started"]),
    act: |s| Box::pin(open(s)),
    after: |s| Box::pin(opened(s)),
};

/// Of a database that has gone back, only now it is known which tables it has.
const DELETE_TOPICS: Step<Coordinated> = Step {
    act: |s| {
        Box::pin(async {
            s.pipeline.settle_topics().await?;
            (delete_topics::<Coordinated>().act)(s).await
        })
    },
    ..delete_topics()
};

const CLEAR_SCHEMA_HISTORY: Step<Coordinated> = Step {
    info: info(
        "clear-schema-history",
        "empties schema history topics that connectors name",
        "every connector STOPPED, no tasks",
        "the topics hold no record",
    ),
    destroys: |s| s.pipeline.schema_histories().into_iter().map(|t| format!("records of schema history {t}")).collect(),
    before: |s| Box::pin(s.pipeline.stand_still("clear-schema-history")),
    inside: Inside::Between(&["deleted"]),
    act: |s| {
        Box::pin(async {
            Ok(match s.pipeline.clear_schema_history().await? {
                0 => Done::Nothing("no schema history is there"),
                _ => Done::Acted,
            })
        })
    },
    after: |s| Box::pin(s.pipeline.schema_history_empty("clear-schema-history")),
};

/// The steps in their order.
const ORDER: [Step<Coordinated>; 16] = [
    PREPARE,
    stop_connectors(),
    FENCE,
    SALVAGE,
    PIN_TIMELINE,
    RESTORE,
    OPEN,
    DELETE_TOPICS,
    recreate_topics(),
    group_offsets(),
    delete_offsets(),
    CLEAR_SCHEMA_HISTORY,
    publication(),
    force_snapshot(),
    resume(),
    restore_config(),
];

/// The steps as they run.
pub static TABLE: [Step<Coordinated>; 16] = ORDER;

/// The steps in order, as they are declared.
pub const STEPS: [StepInfo; 16] = infos(&ORDER);

/// Whether a step changes nothing that anybody uses: one that fails has only to clear away what it made.
pub fn changes_nothing(step: &str) -> bool {
    step == PREPARE.info.id
}

fn has_base(s: &Coordinated) -> Result<String, RecoveryError> {
    let facts = s.point.postgres()?;
    Ok(format!(
        "recovery point {} has a base backup of {}, {} MB",
        s.point.id(),
        counted(facts.base_files, "file"),
        facts.base_raw_bytes.div_ceil(1 << 20)
    ))
}

async fn server_down(s: &Coordinated) -> Result<String, RecoveryError> {
    if !s.pipeline.course.fences() {
        return Ok("the old server may run: there is no fence".into());
    }
    match s.control.running().await? {
        false => Ok("the old server is down".into()),
        true => Err(RecoveryError::unmet("salvage", "the old server down", "it runs again")),
    }
}

fn on_the_way(s: &Coordinated) -> Result<String, RecoveryError> {
    let from = s.point.postgres()?.timeline;
    Ok(match from == s.aim.timeline {
        true => format!("recovery point {} is on timeline {from} itself", s.point.id()),
        false => format!("timeline {} descends from {from}, that of recovery point {}", s.aim.timeline, s.point.id()),
    })
}

/// Every segment is there, now that the salvage is done; and with it the exact end.
async fn continuous(s: &Coordinated) -> Result<String, RecoveryError> {
    let from = s.point.postgres()?.start_lsn;
    let view = s.view(false)?;
    let to = match (s.aim.at, &s.learned.end) {
        (Some(at), _) => at,
        (None, Some(end)) => end.last,
        (None, None) => view.tail(s.aim.timeline).await?.last,
    };
    view.continuous(&s.aim.history, from, to)?;
    Ok(format!("every segment from {from} to {to} is there"))
}

fn restored(s: &Coordinated) -> Result<String, RecoveryError> {
    let Some(restored) = &s.learned.restored else {
        return Err(RecoveryError::unmet("restore", "a restored data folder", "none"));
    };
    let stopped = restored.replay.stopping.clone().unwrap_or_else(|| "replayed to the end of the WAL".into());
    let done = restored.replay.redo_done.map_or("nothing".into(), |at| at.to_string());
    Ok(format!(
        "{stopped}; redo done at {done}; promoted to timeline {}; {} readable in captured tables; old data folder: {}",
        restored.timeline,
        counted(restored.rows, "row"),
        restored.aside
    ))
}

/// A connector that was started again meanwhile would read the new history from the old one's position, as soon as the server answers.
async fn ready_to_open(s: &Coordinated) -> Result<String, RecoveryError> {
    let settings = no_settings_left(&s.pgdata)?;
    match s.pipeline.course.stops_connectors() {
        true => Ok(format!("{settings}; {}", s.pipeline.stand_still("open").await?)),
        false => Ok(settings),
    }
}

async fn open(s: &mut Coordinated) -> Result<Done, RecoveryError> {
    match start(s).await? {
        true => Ok(Done::Acted),
        false => Ok(Done::Nothing("the server runs")),
    }
}

async fn opened(s: &mut Coordinated) -> Result<String, RecoveryError> {
    let unmet = |expected: String, found: String| RecoveryError::unmet("open", expected, found);
    let session = Postgres::connect(&s.pipeline.config.postgres.url, "cdc-drill-recovery").await?;
    let system_id = session.system_id().await?;
    if system_id != s.system_id {
        return Err(unmet(format!("system identifier {}", s.system_id), system_id.to_string()));
    }
    if session.text("select pg_is_in_recovery()").await?.as_deref() != Some("f") {
        return Err(unmet("a server that writes".into(), "it is in recovery".into()));
    }
    let timeline = session.timeline().await?;
    match &s.learned.restored {
        Some(restored) if restored.timeline != timeline => {
            Err(unmet(format!("timeline {}", restored.timeline), timeline.to_string()))
        }
        _ => Ok(format!("{} answers on timeline {timeline}", session.address())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_step_has_a_name_of_its_own() {
        let ids: BTreeSet<&str> = STEPS.iter().map(|s| s.id).collect();
        assert_eq!(ids.len(), STEPS.len());
        assert!(TABLE.iter().zip(&STEPS).all(|(step, info)| step.info == *info));
    }
}
