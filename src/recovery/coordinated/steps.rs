//! The playbook: sixteen steps, each with what it destroys, what must hold before, and what is read back after.

use super::{Coordinated, state::Learned};
use crate::{
    client::{
        limits,
        postgres::{Found, Postgres},
        wait,
        wait::Poll,
    },
    moment::{self, HALF_WAY, Inside},
    recovery::{
        RecoveryError,
        step::{Answer, Done, GoesOn, NoticedBy, Step, StepInfo},
    },
};

const fn noticed(variant: &'static str, check: &'static str) -> NoticedBy {
    NoticedBy { variant, check }
}

macro_rules! info {
    ($id:literal, $does:literal, before: $before:literal, after: $after:literal, $variant:literal => $check:literal) => {
        StepInfo {
            id: $id,
            does: $does,
            precondition: $before,
            postcondition: $after,
            noticed_by: noticed($variant, $check),
        }
    };
}

/// The steps in order, as they are declared.
pub const STEPS: [StepInfo; 16] = [
    info!("prepare", "extracts the base backup beside the old data folder, compares it and the archived WAL with their checksums, tries the server on it",
        before: "the recovery point has a base backup", after: "everything is as it was stored; the server would start",
        "database-corruption/logical-disaster" => "refused"),
    info!("stop-connectors", "stops sinks, then sources", before: "the worker answers",
        after: "every connector STOPPED, no tasks", "database-corruption/logical-disaster" => "refused"),
    info!("fence", "stops the old server", before: "no connector has tasks",
        after: "the old server does not run and does not answer", "database-corruption/writers-continue" => "restored-to-target"),
    info!("salvage", "copies WAL that never reached the archive and fixes where the WAL ends", before: "the old server is down",
        after: "the last valid record is read back without the old server's files", "database-corruption/heap-pages-killed" => "restored-to-target"),
    info!("pin-timeline", "names the timeline to replay", before: "the target's timeline descends from the recovery point's",
        after: "replay will follow that timeline and no later one", "database-corruption/second-recovery" => "restored-to-target"),
    info!("restore", "replays to the target behind the fence, sets the old data folder aside",
        before: "the archive has every segment up to the target, as it was stored", after: "target reached by the server's own log and state, promoted, captured tables readable",
        "database-corruption/logical-disaster" => "restored-to-target"),
    info!("open", "starts the server in its own place", before: "no recovery setting is left in the data folder",
        after: "the server answers, writes, and is the restored one", "database-corruption/logical-disaster" => "refused"),
    info!("delete-topics", "deletes the data topics", before: "every connector STOPPED, no tasks; no group reads the topics",
        after: "the topics are gone", "database-corruption/logical-disaster" => "ghosts"),
    info!("recreate-topics", "creates the data topics", before: "their settings are known",
        after: "partitions, replicas and settings as before; empty", "database-corruption/logical-disaster" => "positions"),
    info!("group-offsets", "commits offset 0 for groups that had offsets", before: "the groups have no active member",
        after: "offset 0 on every partition", "database-corruption/logical-disaster" => "positions"),
    info!("delete-offsets", "deletes the connectors' stored offsets", before: "every connector STOPPED, no tasks",
        after: "offsets read back as []", "database-corruption/logical-disaster" => "loss"),
    info!("clear-schema-history", "empties schema history topics that connectors name", before: "every connector STOPPED, no tasks",
        after: "the topics hold no record", "database-corruption/schema-history" => "positions"),
    info!("publication", "creates or completes the publications", before: "the server answers; no slot exists yet",
        after: "every captured table is in its publication", "database-corruption/publication-gap" => "positions"),
    info!("force-snapshot", "clears the slots' places and overrides a snapshot mode that would not snapshot", before: "every connector STOPPED, no tasks",
        after: "no slot there; the mode takes a full snapshot", "database-corruption/no-data-connector" => "state"),
    info!("resume", "resumes sources, waits for their snapshots, then resumes sinks", before: "the publications hold the captured tables",
        after: "tasks RUNNING, slots active, snapshots complete", "database-corruption/logical-disaster" => "liveness"),
    info!("restore-config", "puts the connectors' configurations back", before: "tasks RUNNING, slots active",
        after: "configurations as found", "database-corruption/no-data-connector" => "leaks"),
];

/// A step that declares itself in [`STEPS`].
const fn step(
    index: usize,
    destroys: fn(&Coordinated) -> Vec<String>,
    before: for<'a> fn(&'a Coordinated) -> Answer<'a, String>,
    inside: Inside,
    act: for<'a> fn(&'a mut Coordinated) -> Answer<'a, Done>,
    after: for<'a> fn(&'a mut Coordinated) -> Answer<'a, String>,
) -> Step<Coordinated> {
    Step { info: STEPS[index], destroys, before, inside, act, after }
}

fn nothing(_: &Coordinated) -> Vec<String> {
    Vec::new()
}

/// The act is done object by object.
const OF_SEVERAL: Inside = Inside::Between(&[HALF_WAY]);

/// The steps as they run.
pub(crate) static TABLE: [Step<Coordinated>; 16] = [
    step(
        0,
        nothing,
        |s| Box::pin(async { has_base(s) }),
        Inside::Between(&["extracted"]),
        |s| Box::pin(s.prepare()),
        |s| Box::pin(s.is_prepared()),
    ),
    step(
        1,
        |s| s.pipeline.named_connectors(),
        |s| Box::pin(async { Ok(s.pipeline.found()) }),
        OF_SEVERAL,
        |s| Box::pin(async { acted(s.pipeline.stop_connectors().await) }),
        |s| Box::pin(s.pipeline.stand_still("stop-connectors")),
    ),
    step(
        2,
        |s| vec![format!("sessions of the server on {}", s.pgdata)],
        |s| Box::pin(s.pipeline.stand_still("fence")),
        Inside::Atomic,
        |s| Box::pin(fence(s)),
        |s| Box::pin(fenced(s)),
    ),
    step(
        3,
        nothing,
        |s| Box::pin(server_down(s)),
        OF_SEVERAL,
        |s| Box::pin(async { acted(s.salvage().await) }),
        |s| Box::pin(s.salvaged("salvage")),
    ),
    step(
        4,
        nothing,
        |s| Box::pin(async { on_the_way(s) }),
        Inside::Atomic,
        |s| Box::pin(async { acted(s.learned.change(|l| l.pinned = true)) }),
        |s| Box::pin(async { Ok(format!("recovery_target_timeline = {}", s.aim.timeline)) }),
    ),
    step(
        5,
        |s| vec![format!("the place of data folder {} (renamed to {0}.aside-<time>)", s.pgdata)],
        |s| Box::pin(continuous(s)),
        Inside::Between(&["replaying", "promoted", "replayed", "set-aside", "exchanged"]),
        |s| {
            Box::pin(async {
                s.check_rest().await?;
                acted(s.restore().await)
            })
        },
        |s| Box::pin(async { restored(s) }),
    ),
    step(
        6,
        nothing,
        |s| Box::pin(async { s.no_settings_left() }),
        Inside::Between(&["started"]),
        |s| Box::pin(open(s)),
        |s| Box::pin(opened(s)),
    ),
    step(
        7,
        |s| s.pipeline.topics.iter().map(|t| format!("topic {} ({} partitions)", t.name, t.partitions)).collect(),
        |s| Box::pin(s.pipeline.may_be_emptied("delete-topics")),
        OF_SEVERAL,
        |s| {
            Box::pin(async {
                s.pipeline.settle_topics().await?;
                acted(s.pipeline.delete_topics().await)
            })
        },
        |s| Box::pin(s.pipeline.topics_gone("delete-topics")),
    ),
    step(
        8,
        nothing,
        |s| Box::pin(async { Ok(format!("settings of {} topics known", s.pipeline.topics.len())) }),
        OF_SEVERAL,
        |s| {
            Box::pin(async {
                Ok(match s.pipeline.create_topics().await? {
                    0 => Done::Nothing("all topics are there"),
                    _ => Done::Acted,
                })
            })
        },
        |s| {
            let empty = !s.pipeline.options.omits("delete-topics");
            Box::pin(s.pipeline.topics_as_before("recreate-topics", empty))
        },
    ),
    step(
        9,
        |s| s.pipeline.groups.iter().map(|g| format!("offsets of group {}", g.name)).collect(),
        |s| Box::pin(s.pipeline.groups_at_rest("group-offsets")),
        OF_SEVERAL,
        |s| Box::pin(group_offsets(s)),
        |s| Box::pin(s.pipeline.groups_at_zero("group-offsets")),
    ),
    step(
        10,
        |s| s.pipeline.sources.iter().map(|c| format!("stored offsets of connector {}", c.name)).collect(),
        |s| Box::pin(s.pipeline.stand_still("delete-offsets")),
        OF_SEVERAL,
        |s| Box::pin(async { acted(s.pipeline.delete_offsets().await) }),
        |s| Box::pin(s.pipeline.offsets_gone("delete-offsets")),
    ),
    step(
        11,
        |s| s.pipeline.schema_histories().into_iter().map(|t| format!("records of schema history {t}")).collect(),
        |s| Box::pin(s.pipeline.stand_still("clear-schema-history")),
        Inside::Between(&["deleted"]),
        |s| {
            Box::pin(async {
                Ok(match s.pipeline.clear_schema_history().await? {
                    0 => Done::Nothing("no schema history is there"),
                    _ => Done::Acted,
                })
            })
        },
        |s| Box::pin(s.pipeline.schema_history_empty("clear-schema-history")),
    ),
    step(
        12,
        nothing,
        |s| Box::pin(answers(s)),
        OF_SEVERAL,
        |s| {
            Box::pin(async {
                Ok(match s.pipeline.publish(Some(&s.point)).await? {
                    0 => Done::Nothing("the publications are as they were"),
                    _ => Done::Acted,
                })
            })
        },
        |s| Box::pin(s.pipeline.published("publication")),
    ),
    step(
        13,
        |s| s.pipeline.force_destroys(),
        |s| Box::pin(s.pipeline.stand_still("force-snapshot")),
        OF_SEVERAL,
        |s| Box::pin(async { acted(s.pipeline.force_snapshot().await) }),
        |s| Box::pin(s.pipeline.snapshot_forced("force-snapshot")),
    ),
    step(
        14,
        nothing,
        |s| Box::pin(answers(s)),
        Inside::Between(&[HALF_WAY, "streaming"]),
        |s| Box::pin(resume(s)),
        |s| {
            let snapshot = s.expects_snapshot();
            Box::pin(s.pipeline.streams("resume", snapshot))
        },
    ),
    step(
        15,
        nothing,
        |s| Box::pin(s.pipeline.resumed("restore-config")),
        OF_SEVERAL,
        |s| {
            Box::pin(async {
                Ok(match s.pipeline.restore_config().await? {
                    0 => Done::Nothing("nothing was overridden"),
                    _ => Done::Acted,
                })
            })
        },
        |s| Box::pin(s.pipeline.config_as_before("restore-config")),
    ),
];

/// Whether a step changes nothing that anybody uses: one that fails has only to clear away what it made.
pub fn changes_nothing(step: &str) -> bool {
    step == STEPS[0].id
}

fn has_base(s: &Coordinated) -> Result<String, RecoveryError> {
    let facts = s.point.postgres()?;
    Ok(format!(
        "recovery point {} has a base backup of {} files, {} MB",
        s.point.id(),
        facts.base_files,
        facts.base_raw_bytes.div_ceil(1 << 20)
    ))
}

fn acted(outcome: Result<(), RecoveryError>) -> Result<Done, RecoveryError> {
    outcome.map(|()| Done::Acted)
}

async fn fence(s: &mut Coordinated) -> Result<Done, RecoveryError> {
    let runs = s.control.running().await?;
    if runs {
        s.control.stop().await?;
    }
    s.make_lost_folder()?;
    Ok(if runs { Done::Acted } else { Done::Nothing("the server was down already") })
}

/// Down by the hook's word and by the processes of this machine, and nobody answers at its address: a stranger there would take the
/// clients' commits.
async fn fenced(s: &mut Coordinated) -> Result<String, RecoveryError> {
    if s.control.running().await? {
        return Err(RecoveryError::unmet("fence", "the old server down", "it runs"));
    }
    let at_rest = Some(s.control_file()?);
    if s.learned.at_rest != at_rest {
        // It ran since an earlier run of the recovery looked: what was restored then lacks what it wrote.
        s.discard().await?;
        s.learned.change(|l| *l = Learned { at_rest, ..Learned::default() })?;
    }
    let there = match Postgres::find(&s.pipeline.config.postgres.url, "cdc-drill-recovery").await {
        Found::Silence(_) => None,
        Found::Session(session) => Some(format!("a server answers at {}", session.address())),
        Found::Refuses(error) | Found::Unready(error) => Some(error.to_string()),
    };
    if let Some(there) = there {
        return Err(RecoveryError::unmet("fence", "nobody at the old server's address", there));
    }
    s.count_given_up().await?;
    let untold = s.control.untold()?.map(|why| format!("; {why}")).unwrap_or_default();
    Ok(format!("the old server does not run, and nothing answers at its address{untold}"))
}

async fn server_down(s: &Coordinated) -> Result<String, RecoveryError> {
    if s.pipeline.options.omits("fence") {
        return Ok("the old server may run: the fence was left out".into());
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
        "{stopped}; redo done at {done}; promoted to timeline {}; {} rows readable in captured tables; old data folder: {}",
        restored.timeline, restored.rows, restored.aside
    ))
}

async fn open(s: &mut Coordinated) -> Result<Done, RecoveryError> {
    match start(s).await? {
        true => Ok(Done::Acted),
        false => Ok(Done::Nothing("the server runs")),
    }
}

/// Starts the server unless it runs, and waits for sessions; says whether it started it.
async fn start(s: &Coordinated) -> Result<bool, RecoveryError> {
    let runs = s.control.running().await?;
    if !runs {
        s.control.start().await?;
        moment::pass("started").await?;
    }
    let config = &s.pipeline.config;
    wait::until("the server to accept sessions", limits::postgres::OPEN, || async {
        Postgres::connect(&config.postgres.url, "cdc-drill-recovery").await.map(|_| Poll::Ready(()))
    })
    .await?;
    Ok(!runs)
}

impl Coordinated {
    /// Starts the old server again, whose data folder is in its place.
    pub(super) async fn start_old(&self) -> Result<(), RecoveryError> {
        start(self).await.map(drop)
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

async fn group_offsets(s: &mut Coordinated) -> Result<Done, RecoveryError> {
    Ok(match s.pipeline.reset_groups().await? {
        false => Done::Nothing("no group had offsets on the data topics"),
        true => Done::Acted,
    })
}

async fn answers(s: &Coordinated) -> Result<String, RecoveryError> {
    let session = Postgres::connect(&s.pipeline.config.postgres.url, "cdc-drill-recovery").await?;
    Ok(format!("{} answers", session.address()))
}

async fn resume(s: &mut Coordinated) -> Result<Done, RecoveryError> {
    if s.is_done("force-snapshot").is_none() {
        let ends = s.pipeline.ends().await?;
        s.learned.change(|l| l.cut = ends)?;
    }
    let snapshot = s.expects_snapshot();
    acted(s.pipeline.resume(snapshot).await)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_step_says_what_notices_its_absence() {
        let ids: BTreeSet<&str> = STEPS.iter().map(|s| s.id).collect();
        assert_eq!(ids.len(), STEPS.len());
        assert!(STEPS.iter().all(|s| s.noticed_by.variant.contains('/') && !s.noticed_by.check.is_empty()));
        assert!(TABLE.iter().zip(&STEPS).all(|(step, info)| step.info == *info));
    }
}
