//! Source connectors begin anew: without stored offsets, with complete publications, and in a mode that takes a snapshot.

use super::OverPipeline;
use crate::recovery::{
    RecoveryError,
    step::{Done, OF_SEVERAL, Step, StepInfo, acted, nothing},
};
use cdc_pipeline::client::postgres::Postgres;

/// Deletes what the connectors remember of their positions.
pub const fn delete_offsets<S: OverPipeline>() -> Step<S> {
    Step {
        info: StepInfo {
            id: "delete-offsets",
            does: "deletes the connectors' stored offsets",
            precondition: "every connector STOPPED, no tasks",
            postcondition: "offsets read back as []",
        },
        destroys: |s| s.pipeline().sources.iter().map(|c| format!("stored offsets of connector {}", c.name)).collect(),
        before: |s| Box::pin(s.pipeline().stand_still("delete-offsets")),
        inside: OF_SEVERAL,
        act: |s| {
            Box::pin(async {
                match s.pipeline().sources.is_empty() {
                    true => Ok(Done::Nothing("no connector begins anew")),
                    false => acted(s.pipeline().delete_offsets().await),
                }
            })
        },
        after: |s| Box::pin(s.pipeline().offsets_gone("delete-offsets")),
    }
}

/// Creates or completes the publications.
pub(crate) const fn publication<S: OverPipeline>() -> Step<S> {
    Step {
        info: StepInfo {
            id: "publication",
            does: "creates or completes the publications",
            precondition: "the server answers",
            postcondition: "every captured table is in its publication",
        },
        destroys: nothing,
        before: |s| Box::pin(server_answers(s)),
        inside: OF_SEVERAL,
        act: |s| {
            Box::pin(async {
                Ok(match s.pipeline().publish(s.point()).await? {
                    0 => Done::Nothing("the publications are as they were"),
                    _ => Done::Acted,
                })
            })
        },
        after: |s| Box::pin(s.pipeline().published("publication")),
    }
}

/// Clears the slots' places, and makes sure that a full snapshot is taken.
pub const fn force_snapshot<S: OverPipeline>() -> Step<S> {
    Step {
        info: StepInfo {
            id: "force-snapshot",
            does: "drops slots that are left and overrides a snapshot mode that would not snapshot",
            precondition: "every connector STOPPED, no tasks",
            postcondition: "no slot there; the mode takes a full snapshot",
        },
        destroys: |s| s.pipeline().force_destroys(),
        before: |s| Box::pin(s.pipeline().stand_still("force-snapshot")),
        inside: OF_SEVERAL,
        act: |s| {
            Box::pin(async {
                match s.pipeline().sources.is_empty() {
                    true => Ok(Done::Nothing("no connector begins anew")),
                    false => acted(s.pipeline().force_snapshot().await),
                }
            })
        },
        after: |s| Box::pin(s.pipeline().snapshot_forced("force-snapshot")),
    }
}

/// The precondition of steps that ask the server.
pub(crate) async fn server_answers<S: OverPipeline>(s: &S) -> Result<String, RecoveryError> {
    let session = Postgres::connect(&s.pipeline().config.postgres.url, "cdc-drill-recovery").await?;
    Ok(format!("{} answers", session.address()))
}
