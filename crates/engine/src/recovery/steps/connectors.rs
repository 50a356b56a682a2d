//! Connectors are stopped first, and resumed last.

use super::OverPipeline;
use crate::recovery::{
    RecoveryError,
    step::{Done, OF_SEVERAL, Step, StepInfo, acted, nothing},
    steps::server_answers,
};
use cdc_model::moment::{HALF_WAY, Inside};

/// Stops sinks, then sources.
pub const fn stop_connectors<S: OverPipeline>() -> Step<S> {
    Step {
        info: StepInfo {
            id: "stop-connectors",
            does: "stops sinks, then sources",
            precondition: "the worker answers",
            postcondition: "every connector STOPPED, no tasks",
        },
        destroys: |s| s.pipeline().named_connectors(),
        before: |s| Box::pin(async { Ok(s.pipeline().found()) }),
        inside: OF_SEVERAL,
        act: |s| Box::pin(async { acted(s.pipeline().stop_connectors().await) }),
        after: |s| Box::pin(s.pipeline().stopped("stop-connectors")),
    }
}

/// Resumes everything, and waits until the sources stream.
pub const fn resume<S: OverPipeline>() -> Step<S> {
    Step {
        info: StepInfo {
            id: "resume",
            does: "resumes sources, waits for their snapshots, then resumes sinks",
            precondition: "the server answers",
            postcondition: "tasks RUNNING, slots active, snapshots complete",
        },
        destroys: nothing,
        before: |s| Box::pin(server_answers(s)),
        inside: Inside::Between(&[HALF_WAY, "streaming"]),
        act: |s| Box::pin(resumed(s)),
        after: |s| {
            let snapshot = s.pipeline().course.takes_snapshots();
            Box::pin(s.pipeline().streams("resume", snapshot))
        },
    }
}

async fn resumed<S: OverPipeline>(s: &mut S) -> Result<Done, RecoveryError> {
    if s.is_done("force-snapshot").is_none() {
        let ends = s.pipeline().ends().await?;
        s.keep_cut(ends)?;
    }
    let snapshot = s.pipeline().course.takes_snapshots();
    acted(s.pipeline().resume(snapshot).await)
}

/// Puts back what was overridden, and brings to rest what was found at rest.
pub const fn restore_config<S: OverPipeline>() -> Step<S> {
    Step {
        info: StepInfo {
            id: "restore-config",
            does: "puts the connectors' configurations back",
            precondition: "tasks RUNNING, slots active",
            postcondition: "configurations as found",
        },
        destroys: nothing,
        before: |s| Box::pin(s.pipeline().resumed("restore-config")),
        inside: OF_SEVERAL,
        act: |s| {
            Box::pin(async {
                Ok(match s.pipeline().restore_config().await? {
                    0 => Done::Nothing("nothing was overridden"),
                    _ => Done::Acted,
                })
            })
        },
        after: |s| Box::pin(s.pipeline().config_as_before("restore-config")),
    }
}
