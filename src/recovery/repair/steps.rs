//! Steps that both playbooks are made of.

use super::Repair;
use crate::{
    client::postgres::Postgres,
    moment::{HALF_WAY, Inside},
    recovery::{
        RecoveryError,
        step::{Answer, Done, GoesOn, NoticedBy, Step, StepInfo},
    },
    vocabulary::Naive,
};

/// A step over a repair. `noticed` is `(variant, check)`.
pub(crate) const fn step(
    texts: [&'static str; 4],
    noticed: (&'static str, &'static str),
    destroys: fn(&Repair) -> Vec<String>,
    before: for<'a> fn(&'a Repair) -> Answer<'a, String>,
    inside: Inside,
    act: for<'a> fn(&'a mut Repair) -> Answer<'a, Done>,
    after: for<'a> fn(&'a mut Repair) -> Answer<'a, String>,
) -> Step<Repair> {
    let [id, does, precondition, postcondition] = texts;
    let noticed_by = NoticedBy { variant: noticed.0, check: noticed.1 };
    Step { info: StepInfo { id, does, precondition, postcondition, noticed_by }, destroys, before, inside, act, after }
}

/// The act is done object by object.
pub(crate) const OF_SEVERAL: Inside = Inside::Between(&[HALF_WAY]);

/// Destroys nothing.
pub(crate) fn nothing(_: &Repair) -> Vec<String> {
    Vec::new()
}

/// The action was done.
pub(crate) fn acted(outcome: Result<(), RecoveryError>) -> Result<Done, RecoveryError> {
    outcome.map(|()| Done::Acted)
}

pub(crate) const STOP_CONNECTORS: Step<Repair> = step(
    ["stop-connectors", "stops sinks, then sources", "the worker answers", "every connector STOPPED, no tasks"],
    ("slot-loss/dropped-initial", "refused"),
    |s| s.pipeline.named_connectors(),
    |s| Box::pin(async { Ok(s.pipeline.found()) }),
    OF_SEVERAL,
    |s| Box::pin(async { acted(s.pipeline.stop_connectors().await) }),
    |s| Box::pin(s.pipeline.stand_still("stop-connectors")),
);

pub(crate) const PUBLICATION: Step<Repair> = step(
    [
        "publication",
        "creates or completes the publications",
        "the server answers",
        "every captured table is in its publication",
    ],
    ("slot-loss/dropped-initial", "loss"),
    nothing,
    |s| Box::pin(answers(s)),
    OF_SEVERAL,
    |s| {
        Box::pin(async {
            Ok(match s.pipeline.publish(s.point.as_ref()).await? {
                0 => Done::Nothing("the publications are as they were"),
                _ => Done::Acted,
            })
        })
    },
    |s| Box::pin(s.pipeline.published("publication")),
);

pub(crate) const DELETE_TOPICS: Step<Repair> = step(
    [
        "delete-topics",
        "deletes the data topics",
        "every connector STOPPED, no tasks; no group reads the topics",
        "the topics are gone",
    ],
    ("slot-loss/dropped-initial", "state"),
    |s| s.pipeline.topics.iter().map(|t| format!("topic {} ({} partitions)", t.name, t.partitions)).collect(),
    |s| Box::pin(s.pipeline.may_be_emptied("delete-topics")),
    OF_SEVERAL,
    |s| {
        Box::pin(async {
            match s.pipeline.topics.is_empty() {
                true => Ok(Done::Nothing("no topic is rebuilt")),
                false => acted(s.pipeline.delete_topics().await),
            }
        })
    },
    |s| Box::pin(s.pipeline.topics_gone("delete-topics")),
);

pub(crate) const RECREATE_TOPICS: Step<Repair> = step(
    [
        "recreate-topics",
        "creates the data topics",
        "their settings are known",
        "partitions, replicas and settings as before; empty",
    ],
    ("slot-loss/dropped-initial", "positions"),
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
);

pub(crate) const GROUP_OFFSETS: Step<Repair> = step(
    [
        "group-offsets",
        "commits offset 0 for groups that had offsets",
        "the groups have no active member",
        "offset 0 on every partition",
    ],
    ("slot-loss/dropped-initial", "positions"),
    |s| s.pipeline.groups.iter().map(|g| format!("offsets of group {}", g.name)).collect(),
    |s| Box::pin(s.pipeline.groups_at_rest("group-offsets")),
    OF_SEVERAL,
    |s| {
        Box::pin(async {
            Ok(match s.pipeline.reset_groups().await? {
                false => Done::Nothing("no group had offsets on the data topics"),
                true => Done::Acted,
            })
        })
    },
    |s| Box::pin(s.pipeline.groups_at_zero("group-offsets")),
);

pub(crate) const DELETE_OFFSETS: Step<Repair> = step(
    [
        "delete-offsets",
        "deletes the connectors' stored offsets",
        "every connector STOPPED, no tasks",
        "offsets read back as []",
    ],
    ("slot-loss/dropped-initial", "refused"),
    |s| s.pipeline.sources.iter().map(|c| format!("stored offsets of connector {}", c.name)).collect(),
    |s| Box::pin(s.pipeline.stand_still("delete-offsets")),
    OF_SEVERAL,
    |s| {
        Box::pin(async {
            match s.pipeline.sources.is_empty() {
                true => Ok(Done::Nothing("no connector begins anew")),
                false => acted(s.pipeline.delete_offsets().await),
            }
        })
    },
    |s| Box::pin(s.pipeline.offsets_gone("delete-offsets")),
);

pub(crate) const FORCE_SNAPSHOT: Step<Repair> = step(
    [
        "force-snapshot",
        "drops the slots and overrides a snapshot mode that would not snapshot",
        "every connector STOPPED, no tasks",
        "no slot there; the mode takes a full snapshot",
    ],
    ("slot-loss/dropped-no-data", "state"),
    |s| s.pipeline.force_destroys(),
    |s| Box::pin(s.pipeline.stand_still("force-snapshot")),
    OF_SEVERAL,
    |s| {
        Box::pin(async {
            if s.pipeline.sources.is_empty() {
                return Ok(Done::Nothing("no connector begins anew"));
            }
            acted(s.pipeline.force_snapshot().await)
        })
    },
    |s| Box::pin(s.pipeline.snapshot_forced("force-snapshot")),
);

pub(crate) const RESUME: Step<Repair> = step(
    [
        "resume",
        "resumes sources, waits for their snapshots, then resumes sinks",
        "the server answers",
        "tasks RUNNING, slots active, snapshots complete",
    ],
    ("slot-loss/dropped-initial", "liveness"),
    nothing,
    |s| Box::pin(answers(s)),
    Inside::Between(&[HALF_WAY, "streaming"]),
    |s| Box::pin(resume(s)),
    |s| {
        let snapshot = expects_snapshot(s);
        Box::pin(s.pipeline.streams("resume", snapshot))
    },
);

pub(crate) const RESTORE_CONFIG: Step<Repair> = step(
    [
        "restore-config",
        "puts the connectors' configurations back",
        "tasks RUNNING, slots active",
        "configurations as found",
    ],
    ("slot-loss/dropped-no-data", "positions"),
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
);

async fn answers(s: &Repair) -> Result<String, RecoveryError> {
    let session = Postgres::connect(&s.pipeline.config.postgres.url, "cdc-drill-recovery").await?;
    Ok(format!("{} answers", session.address()))
}

fn expects_snapshot(s: &Repair) -> bool {
    let options = &s.pipeline.options;
    options.naive != Some(Naive::SlotByHand) && !options.omits("force-snapshot") && !options.omits("delete-offsets")
}

async fn resume(s: &mut Repair) -> Result<Done, RecoveryError> {
    if s.is_done("force-snapshot").is_none() {
        let ends = s.pipeline.ends().await?;
        s.cut.change(|cut| *cut = ends)?;
    }
    let snapshot = expects_snapshot(s);
    acted(s.pipeline.resume(snapshot).await)
}
