//! What people do about a registry who have no recovery: for controls.

use crate::{
    client::{limits, registry::Registry, wait, wait::Poll},
    moment::Inside,
    recovery::{
        RecoveryError,
        repair::{Repair, nothing, step},
        step::{Done, Step},
    },
};

const RESTART: Step<Repair> = step(
    ["restart", "restarts the connectors and their tasks", "the worker answers", "whatever state they are in"],
    ("schema-conflict/int-to-text-reject", "state"),
    nothing,
    |s| Box::pin(async { Ok(s.pipeline.found()) }),
    Inside::Atomic,
    |s| Box::pin(restart(s)),
    |s| Box::pin(states(s)),
);

const REGISTER_AGAIN: Step<Repair> = step(
    [
        "re-register",
        "registers every schema of the dump again, by name",
        "the registry answers",
        "every answer was 200",
    ],
    ("schema-conflict/registry-lost", "schema-ids"),
    nothing,
    |_| Box::pin(async { Ok("there is a dump".to_owned()) }),
    Inside::Atomic,
    |s| Box::pin(register_again(s)),
    |s| Box::pin(async { Ok(s.registry_note.clone()) }),
);

const LOWER_EVERYWHERE: Step<Repair> = step(
    [
        "lower-levels",
        "sets every compatibility level to NONE, and leaves it",
        "the registry answers",
        "every answer was 200",
    ],
    ("schema-conflict/set-not-null-accept", "compatibility"),
    nothing,
    |_| Box::pin(async { Ok("the registry answers".to_owned()) }),
    Inside::Atomic,
    |s| Box::pin(lower(s)),
    |s| Box::pin(async { Ok(s.registry_note.clone()) }),
);

/// Turn it off and on again.
pub(crate) static RESTART_ONLY: [Step<Repair>; 1] = [RESTART];
/// The schemas again, trusting the answers.
pub(crate) static RE_REGISTER: [Step<Repair>; 2] = [REGISTER_AGAIN, RESTART];
/// No more refusals, ever.
pub(crate) static LOWER_LEVELS: [Step<Repair>; 2] = [LOWER_EVERYWHERE, RESTART];

async fn restart(s: &mut Repair) -> Result<Done, RecoveryError> {
    for source in &s.pipeline.sources {
        s.pipeline.connect.restart(&source.name).await?;
        // Whether it comes up is not this procedure's concern.
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

async fn states(s: &mut Repair) -> Result<String, RecoveryError> {
    let mut states = Vec::new();
    for source in &s.pipeline.sources {
        states.push(format!("{}: {}", source.name, s.pipeline.connect.status(&source.name).await?.summary()));
    }
    Ok(states.join("; "))
}

async fn register_again(s: &mut Repair) -> Result<Done, RecoveryError> {
    let registry = Registry::of(&s.pipeline.config.registry);
    let Some(point) = &s.point else { return Ok(Done::Nothing("there is no dump")) };
    let mut versions = point.dump()?.versions;
    versions.sort_by_key(|v| (v.subject.clone(), v.version));
    let (mut accepted, mut refused) = (0, 0);
    for version in versions {
        match registry.register(&version.subject, &version.schema, &version.references).await {
            Ok(_) => accepted += 1,
            Err(e) if e.status().is_some() => refused += 1,
            Err(e) => return Err(e.into()),
        }
    }
    s.registry_note = format!("{accepted} registered, {refused} refused");
    Ok(Done::Acted)
}

async fn lower(s: &mut Repair) -> Result<Done, RecoveryError> {
    let registry = Registry::of(&s.pipeline.config.registry);
    registry.set_global_level("NONE").await?;
    let mut lowered = 0;
    for subject in registry.subjects(false).await? {
        if registry.subject_level(&subject).await?.is_some() {
            registry.set_subject_level(&subject, "NONE").await?;
            lowered += 1;
        }
    }
    s.registry_note = format!("the global level and {lowered} subjects' own are NONE");
    Ok(Done::Acted)
}
