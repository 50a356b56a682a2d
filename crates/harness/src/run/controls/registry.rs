//! What people do about a registry who have no recovery.

use super::restart::RESTART;
use cdc_engine::recovery::{
    RecoveryError, StepInfo,
    compose::{Done, Inside, Repair, Step, nothing},
};
use cdc_model::units::counted;
use cdc_pipeline::client::registry::Registry;

/// The schemas again, trusting the answers.
pub(crate) const RE_REGISTER: [Step<Repair>; 2] = [REGISTER_AGAIN, RESTART];
/// No more refusals, ever.
pub(crate) const LOWER_LEVELS: [Step<Repair>; 2] = [LOWER_EVERYWHERE, RESTART];

const REGISTER_AGAIN: Step<Repair> = Step {
    info: StepInfo {
        id: "re-register",
        does: "registers every schema of the dump again, by name",
        precondition: "the registry answers",
        postcondition: "every answer was 200",
    },
    destroys: nothing,
    before: |_| Box::pin(async { Ok("there is a dump".to_owned()) }),
    inside: Inside::Atomic,
    act: |s| Box::pin(register_again(s)),
    after: |s| Box::pin(async { Ok(s.registry_note.clone()) }),
};

const LOWER_EVERYWHERE: Step<Repair> = Step {
    info: StepInfo {
        id: "lower-levels",
        does: "sets every compatibility level to NONE, and leaves it",
        precondition: "the registry answers",
        postcondition: "every answer was 200",
    },
    destroys: nothing,
    before: |_| Box::pin(async { Ok("the registry answers".to_owned()) }),
    inside: Inside::Atomic,
    act: |s| Box::pin(lower(s)),
    after: |s| Box::pin(async { Ok(s.registry_note.clone()) }),
};

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
    s.registry_note = format!("the global level and {lowered}' own are NONE", lowered = counted(lowered, "subject"));
    Ok(Done::Acted)
}
