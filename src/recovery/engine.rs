//! Planning and running a playbook.

use std::time::Instant;

use super::{
    EndOfWal, OnStep, Options, Outcome, Playbook, Recovered, RecoveryError, Request,
    coordinated::{self, Coordinated},
    journal::Journal,
    step,
};
use crate::{backup::Repository, config::Config, units::Verdict};

/// Looks at everything, and says what a run would do and destroy. Changes nothing.
pub async fn plan(config: &Config, request: &Request, options: &Options) -> Result<Outcome, RecoveryError> {
    match request.playbook {
        Playbook::Coordinated => {
            let state = Coordinated::plan(config, request, options).await?;
            let steps = step::planned(&coordinated::TABLE, &state, options);
            Ok(Outcome { steps, ..outcome_of(&state, Verdict::Inconclusive) })
        }
        Playbook::Slot | Playbook::Schema => todo!(),
    }
}

/// Runs a playbook. Each step is reported as it ends, also the one that fails. The caller verifies afterwards.
pub async fn run(
    config: &Config,
    request: &Request,
    options: &Options,
    on: &mut OnStep<'_>,
) -> Result<Recovered, RecoveryError> {
    let began = Instant::now();
    let repository = Repository::open(&config.repository.path)?;
    let _lock = repository.lock("recovery", "recover run")?;
    match request.playbook {
        Playbook::Coordinated => {
            let mut state = Coordinated::plan(config, request, options).await?;
            let journal = Journal::create(repository.path())?;
            state.journal = Some(journal.clone());
            let steps = step::run(&coordinated::TABLE, &mut state, options, &journal, began, on).await?;
            let restored = state.restored.as_ref();
            Ok(Recovered {
                outcome: Outcome { steps, ..outcome_of(&state, Verdict::Passed) },
                journal: journal.path().to_owned(),
                seconds: began.elapsed().as_secs_f64(),
                epoch_cut: state.cut.clone(),
                abandoned: restored.and_then(|r| r.switch.map(|at| (state.abandoned_timeline(), at))),
                timeline: restored.map(|r| r.timeline),
                end_of_wal: state
                    .end
                    .as_ref()
                    .map(|t| EndOfWal { timeline: state.old_timeline(), last_record: t.last }),
                aside: restored.map(|r| r.aside.clone()),
            })
        }
        Playbook::Slot | Playbook::Schema => todo!(),
    }
}

fn outcome_of(state: &Coordinated, verdict: Verdict) -> Outcome {
    Outcome {
        playbook: Playbook::Coordinated,
        point: Some(state.point.id().clone()),
        target: Some(state.request.target.clone()),
        steps: Vec::new(),
        verdict,
        findings: state.findings(),
    }
}
