//! Turn it off and on again.

use cdc_engine::recovery::{
    RecoveryError, StepInfo,
    compose::{Done, Inside, Repair, Step, nothing},
};
use cdc_pipeline::client::{limits, wait, wait::Poll};

/// Everything is restarted.
pub(crate) const STEPS: [Step<Repair>; 1] = [RESTART];

/// Restarts the connectors; whether they come up is nobody's concern here.
pub(crate) const RESTART: Step<Repair> = Step {
    info: StepInfo {
        id: "restart",
        does: "restarts the connectors and their tasks",
        precondition: "the worker answers",
        postcondition: "whatever state they are in",
    },
    destroys: nothing,
    before: |s| Box::pin(async { Ok(s.pipeline.found()) }),
    inside: Inside::Atomic,
    act: |s| Box::pin(restart(s)),
    after: |s| Box::pin(states(s)),
};

async fn restart(s: &Repair) -> Result<Done, RecoveryError> {
    for source in &s.pipeline.sources {
        s.pipeline.connect.restart(&source.name).await?;
        let settled = wait::until("a restarted connector", limits::registries::SETTLED, || async {
            let status = s.pipeline.connect.status(&source.name).await?;
            let failed = status.failure().is_some();
            Ok::<_, RecoveryError>(match status.all_running() || failed {
                true => Poll::Ready(()),
                false => Poll::NotYet(status.summary()),
            })
        });
        let _ = settled.await;
    }
    Ok(Done::Acted)
}

async fn states(s: &Repair) -> Result<String, RecoveryError> {
    let mut states = Vec::new();
    for source in &s.pipeline.sources {
        states.push(format!("{}: {}", source.name, s.pipeline.connect.status(&source.name).await?.summary()));
    }
    Ok(states.join("; "))
}
