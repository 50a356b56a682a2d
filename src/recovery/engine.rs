//! Planning and running a playbook.

use std::{collections::BTreeSet, time::Instant};

use super::{
    EndOfWal, Naive, OnStep, Options, Outcome, Playbook, Recovered, RecoveryError, Request, TopicsRepair,
    coordinated::{self, Coordinated},
    journal::Journal,
    neighbours,
    repair::Repair,
    schema, slot,
    step::{self, Step},
    unfinished,
};
use crate::{
    attach,
    backup::Repository,
    client::postgres::Postgres,
    config::{Config, Permission},
    units::Verdict,
};

/// Looks at everything, and says what a run would do and destroy. Changes nothing.
pub async fn plan(config: &Config, request: &Request, options: &Options) -> Result<Outcome, RecoveryError> {
    let options = options.effective();
    let config = &known(config, request).await?;
    let unfinished = unfinished::planned(config, request.playbook).await?;
    let mut outcome = match chosen(config, request, &options).await? {
        Chosen::Coordinated(state) => {
            let steps = step::planned(&coordinated::TABLE, &state, &options);
            Outcome { steps, ..of_coordinated(&state, Verdict::Inconclusive) }
        }
        Chosen::Repair(state, table) => {
            let steps = step::planned(table, &state, &options);
            Outcome { steps, ..of_repair(&state, Verdict::Inconclusive) }
        }
    };
    // The steps are planned on what is there now.
    outcome.findings.splice(..0, unfinished);
    Ok(outcome)
}

/// Runs a playbook. Each step is reported as it ends, also the one that fails. The caller verifies afterwards.
pub async fn run(
    config: &Config,
    request: &Request,
    options: &Options,
    on: &mut OnStep<'_>,
) -> Result<Recovered, RecoveryError> {
    let began = Instant::now();
    let options = options.effective();
    let config = &known(config, request).await?;
    attach::permit(config, Permission::Recover).await?;
    let repository = Repository::open(&config.repository.path)?;
    let _lock = repository.lock("recovery", &format!("recover run {}", request.playbook))?;
    let unfinished = unfinished::put_back(config, request.playbook).await?;
    let mut chosen = chosen(config, request, &options).await?;
    chosen.refuse_strangers(config)?;
    if let Chosen::Coordinated(state) = &mut chosen {
        state.place_archiver()?;
    }
    let journal = Journal::create(repository.path())?;
    journal.note("request", &(request.playbook, request.target.to_string()))?;
    let others = match request.neighbours {
        true => Some(chosen.concerned()),
        false => None,
    };
    let before = match &others {
        Some(concerned) => neighbours::look(config, concerned).await?,
        None => Vec::new(),
    };
    journal.note("neighbours-before", &before)?;
    journal.note("put-back-first", &unfinished)?;
    let mut recovered = carry_out(chosen, &options, journal.clone(), began, on).await?;
    recovered.outcome.findings.splice(..0, unfinished);
    if let (Some(concerned), false) = (&others, before.is_empty()) {
        let after = neighbours::look(config, concerned).await?;
        journal.note("neighbours-after", &after)?;
        let check = neighbours::compare(&before, &after);
        recovered.outcome.verdict = recovered.outcome.verdict.and(check.verdict);
        recovered.outcome.neighbours = Some(check);
    }
    Ok(recovered)
}

async fn carry_out(
    chosen: Chosen,
    options: &Options,
    journal: Journal,
    began: Instant,
    on: &mut OnStep<'_>,
) -> Result<Recovered, RecoveryError> {
    match chosen {
        Chosen::Coordinated(mut state) => {
            state.journal = Some(journal.clone());
            let steps = step::run(&coordinated::TABLE, state.as_mut(), options, &journal, began, on).await?;
            let restored = state.restored.as_ref();
            let end = state.end.as_ref();
            Ok(Recovered {
                outcome: Outcome { steps, ..of_coordinated(&state, Verdict::Passed) },
                journal: journal.path().to_owned(),
                seconds: began.elapsed().as_secs_f64(),
                epoch_cut: state.cut.clone(),
                abandoned: restored.and_then(|r| r.switch.map(|at| (state.abandoned_timeline(), at))),
                timeline: restored.map(|r| r.timeline),
                end_of_wal: end.map(|t| EndOfWal { timeline: state.old_timeline(), last_record: t.last }),
                aside: restored.map(|r| r.aside.clone()),
            })
        }
        Chosen::Repair(mut state, table) => {
            state.journal = Some(journal.clone());
            let steps = step::run(table, state.as_mut(), options, &journal, began, on).await?;
            Ok(Recovered {
                outcome: Outcome { steps, ..of_repair(&state, Verdict::Passed) },
                journal: journal.path().to_owned(),
                seconds: began.elapsed().as_secs_f64(),
                epoch_cut: state.cut.clone(),
                abandoned: None,
                timeline: None,
                end_of_wal: None,
                aside: None,
            })
        }
    }
}

/// The configuration with the data folder known, where the playbook needs it. One that is not the server's is refused.
async fn known(config: &Config, request: &Request) -> Result<Config, RecoveryError> {
    match request.playbook {
        Playbook::Schema => {}
        Playbook::Coordinated => return Ok(config.settled().await?),
        Playbook::Slot => {
            // A server that does not answer is refused where the pipeline is looked at.
            if let Ok(server) = Postgres::connect(&config.postgres.url, "cdc-drill-recovery").await {
                // Before what an earlier recovery left is put back.
                let _ = slot::data_folder(config, &server).await?;
            }
        }
    }
    Ok(config.clone())
}

/// A playbook's state and its steps.
enum Chosen {
    Coordinated(Box<Coordinated>),
    Repair(Box<Repair>, &'static [Step<Repair>]),
}

impl Chosen {
    /// The connectors that the recovery stops or changes.
    fn concerned(&self) -> BTreeSet<String> {
        let pipeline = match self {
            Chosen::Coordinated(state) => &state.pipeline,
            Chosen::Repair(state, _) => &state.pipeline,
        };
        let sources = pipeline.sources.iter().chain(&pipeline.others).map(|s| s.name.clone());
        sources.chain(pipeline.sinks.iter().map(|s| s.name.clone())).collect()
    }

    /// What is touched by name belongs to the pipeline, where the configuration says what does.
    fn refuse_strangers(&self, config: &Config) -> Result<(), RecoveryError> {
        let (pipeline, subjects) = match self {
            Chosen::Coordinated(state) => (&state.pipeline, Vec::new()),
            Chosen::Repair(state, _) => (&state.pipeline, state.touched_subjects()),
        };
        let sources = pipeline.sources.iter().chain(&pipeline.others);
        attach::within(config, "topic prefix", sources.map(|s| s.prefix.as_str()))?;
        attach::within(config, "topic", pipeline.topics.iter().map(|t| t.name.as_str()))?;
        attach::within(config, "subject", subjects.iter().map(|s| s.as_str()))?;
        Ok(())
    }
}

async fn chosen(config: &Config, request: &Request, options: &Options) -> Result<Chosen, RecoveryError> {
    if let Some(table) = naive_table(options.naive) {
        let state = Repair::look(config, request, options).await?;
        return Ok(Chosen::Repair(Box::new(state), table));
    }
    match request.playbook {
        Playbook::Coordinated => Ok(Chosen::Coordinated(Box::new(Coordinated::plan(config, request, options).await?))),
        Playbook::Slot => {
            let mut state = Repair::look(config, request, options).await?;
            let diagnosed = slot::diagnose(&mut state).await?;
            slot::refuse_unprivileged(&state, &diagnosed, request.topics == TopicsRepair::Compensate).await?;
            let table: &[Step<Repair>] = match request.topics {
                TopicsRepair::Compensate => {
                    slot::refuse_unkeyed(&state).await?;
                    &slot::COMPENSATE
                }
                TopicsRepair::Purge => {
                    if !options.omits("delete-topics") {
                        state.pipeline.refuse_active()?;
                    }
                    &slot::PURGE
                }
            };
            Ok(Chosen::Repair(Box::new(state), table))
        }
        Playbook::Schema => {
            let mut state = Repair::look(config, request, options).await?;
            let table = schema::plan(&mut state).await?;
            Ok(Chosen::Repair(Box::new(state), table))
        }
    }
}

/// Naive procedures that have steps of their own; the others are a playbook with steps left out.
fn naive_table(naive: Option<Naive>) -> Option<&'static [Step<Repair>]> {
    match naive? {
        Naive::ZeroDamagedPages => Some(&slot::ZERO_DAMAGED_PAGES),
        Naive::ReRegister => Some(&schema::RE_REGISTER),
        Naive::LowerLevelGlobally => Some(&schema::LOWER_LEVELS),
        Naive::RestartOnly => Some(&schema::RESTART_ONLY),
        Naive::SlotByHand | Naive::ResnapshotWithoutPurge => None,
    }
}

fn of_coordinated(state: &Coordinated, verdict: Verdict) -> Outcome {
    Outcome {
        playbook: Playbook::Coordinated,
        point: Some(state.point.id().clone()),
        target: Some(state.request.target.clone()),
        steps: Vec::new(),
        verdict,
        findings: state.findings(),
        not_looked_at: Vec::new(),
        neighbours: None,
    }
}

fn of_repair(state: &Repair, verdict: Verdict) -> Outcome {
    Outcome {
        playbook: state.request.playbook,
        point: state.point.as_ref().map(|p| p.id().clone()),
        target: None,
        steps: Vec::new(),
        verdict,
        findings: state.findings.clone(),
        not_looked_at: state.not_looked_at.clone(),
        neighbours: None,
    }
}
