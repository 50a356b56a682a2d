//! Planning and running a playbook.

use std::{sync::Arc, time::Instant};

use super::{
    EndOfWal, OnStep, Outcome, Playbook, Recovered, RecoveryError, Request, Watch,
    chosen::{Chosen, choose},
    composer::{AsDeclared, Composer},
    coordinated::{self, Coordinated},
    locks::{self, Locks},
    memory::{Asked, Ending, Guard, Memory, Place},
    neighbours,
    operator::Operator,
    pipeline::Outdated,
    repair::{Repair, is_of_repair},
    slot, step, unfinished,
    way_back::way_on,
};
use crate::backup::ClusterName;
use cdc_model::{event::Downtime, units::Verdict};
use cdc_pipeline::{
    attach,
    client::postgres::{self, Postgres},
    config::{Config, Permission},
};

/// Looks at everything, and says what a run would do and destroy. Changes nothing.
pub async fn plan(config: &Config, request: &Request) -> Result<Outcome, RecoveryError> {
    let named = config;
    let config = &known(config, request).await?;
    let place = Place::of(config)?;
    let record = unfinished_of(config, &place, &Asked::of(request, AsDeclared.variation()))?;
    locks::refuse_others(&place, &config.postgres.pgdata, record.as_ref())?;
    let mut findings = unfinished::planned(config, &place, request.playbook).await?;
    findings.extend(dropped(named, config));
    findings.extend(earlier(record.as_ref(), place.repository().recoverer()?));
    let mut outcome = match choose(config, request, &AsDeclared, record.as_ref()).await? {
        Chosen::Coordinated(state, steps) => {
            let steps = step::planned(&steps, state.as_ref());
            Outcome { steps, ..of_coordinated(&state, Verdict::Inconclusive) }
        }
        Chosen::Repair(state, list) => {
            let steps = step::planned(&list.steps, state.as_ref());
            Outcome { steps, ..of_repair(&state, Verdict::Inconclusive) }
        }
    };
    outcome.findings.splice(..0, findings);
    Ok(outcome)
}

/// Runs a playbook, or goes on with the recovery of this request that did not end. Each step is reported as it ends, also the one
/// that fails. The caller verifies afterwards, and says so with [`conclude`].
pub async fn run(
    config: &Config,
    request: &Request,
    on: &mut OnStep<'_>,
    watch: &Watch,
) -> Result<Recovered, RecoveryError> {
    run_composed(config, request, &AsDeclared, on, watch).await
}

/// The same of the steps that a composer makes of the playbook's.
pub async fn run_composed(
    config: &Config,
    request: &Request,
    composer: &dyn Composer,
    on: &mut OnStep<'_>,
    watch: &Watch,
) -> Result<Recovered, RecoveryError> {
    let began = Instant::now();
    let asked = Asked::of(request, composer.variation());
    let named = config;
    let config = &known(config, request).await?;
    let place = Place::of(config)?;
    let goes_on = unfinished_of(config, &place, &asked)?;
    match &goes_on {
        Some(memory) => permit_again(config, memory).await?,
        None => permit(config, request).await?,
    }
    let owner = format!("recover run {}", request.playbook);
    let locks = Arc::new(Locks::take(&place, &config.postgres.pgdata, &owner, goes_on.as_ref())?);
    // Again, now that no other may begin.
    let record = unfinished_of(config, &place, &asked)?;
    let mut unfinished = unfinished::put_back(config, &place, request.playbook).await?;
    unfinished.extend(dropped(named, config));
    let mut chosen = choose(config, request, composer, record.as_ref()).await?;
    chosen.refuse_strangers(config)?;
    if let Chosen::Coordinated(state, _) = &mut chosen {
        state.place_archiver()?;
    }
    let operator = Operator::of(config, chosen.pipeline());
    operator.hold().await?;
    let under_way = UnderWay { config, place: &place, began, locks, asked, record, neighbours: request.neighbours };
    let ran = under_way.run(chosen, unfinished, on, watch).await;
    operator.after(ran, &place, &ClusterName::of(config)).await
}

/// What a run knows when it has chosen its steps.
struct UnderWay<'a> {
    config: &'a Config,
    place: &'a Place,
    began: Instant,
    locks: Arc<Locks>,
    asked: Asked,
    record: Option<Memory>,
    neighbours: bool,
}

impl UnderWay<'_> {
    async fn run(
        self,
        mut chosen: Chosen,
        unfinished: Vec<String>,
        on: &mut OnStep<'_>,
        watch: &Watch,
    ) -> Result<Recovered, RecoveryError> {
        let UnderWay { config, place, began, locks, asked, record, neighbours: asks_neighbours } = self;
        let others = match asks_neighbours {
            true => Some(chosen.concerned()),
            false => None,
        };
        let (mut memory, before) = match record {
            Some(memory) => {
                let before = memory.learned(NEIGHBOURS)?.unwrap_or_default();
                (memory, before)
            }
            None => {
                let before = match &others {
                    Some(concerned) => neighbours::look(config, concerned).await?,
                    None => Vec::new(),
                };
                let memory = chosen.begin(place, asked, ClusterName::of(config))?;
                memory.note(NEIGHBOURS, &before)?;
                (memory, before)
            }
        };
        locks.leave(&memory)?;
        memory.guard(locks);
        memory.note("run", &(std::process::id(), env!("CARGO_PKG_VERSION")))?;
        memory.note("put-back-first", &unfinished)?;
        memory.note(STEPS_TAKEN, &chosen.taken())?;
        chosen.keep_in(&memory)?;
        chosen.pipeline_mut().watch = watch.kept_in(&memory);
        let mut recovered = carry_out(chosen, &memory, began, on).await?;
        recovered.outcome.findings.splice(..0, unfinished);
        if let (Some(concerned), false) = (&others, before.is_empty()) {
            let after = neighbours::look_again(config, concerned, &before).await?;
            memory.note("neighbours-after", &after)?;
            let check = neighbours::compare(&before, &after);
            recovered.outcome.verdict = recovered.outcome.verdict.and(check.verdict);
            recovered.outcome.neighbours = Some(check);
        }
        Ok(recovered)
    }
}

/// Ends a recovery whose result was verified. One that is red stays unfinished without it: the same command verifies again, and does
/// no step twice whose result stands.
pub fn conclude(recovered: &Recovered) -> Result<(), RecoveryError> {
    let memory = Memory::open(&recovered.record)?;
    let locks = Locks::of(&memory, "recover run")?;
    memory.close(Ending::Verified)?;
    locks.clear(memory.id())
}

/// What a plan says of a recovery that did not end, and of one that is at work. The lock is the repository's: whoever holds it may be at
/// work on another cluster.
fn earlier(record: Option<&Memory>, at_work: Option<String>) -> Option<String> {
    match (record, at_work) {
        (None, None) => None,
        (None, Some(by)) => {
            Some(format!("a recovery from this repository is at work: {by}; a run is refused until it has ended"))
        }
        (Some(memory), None) => {
            let (id, began) = (memory.id(), memory.began());
            Some(format!("recovery {id}, begun {began}, did not end: a run goes on with it, as it was found then"))
        }
        (Some(memory), Some(by)) => {
            let step = memory.steps_begun().filter(|step| !memory.ended_step(step)).last();
            let step = step.map(|step| format!(", in step {step}")).unwrap_or_default();
            Some(format!(
                "recovery {}, begun {}, has not ended{step}; at work: {by}; a run is refused until that has ended",
                memory.id(),
                memory.began()
            ))
        }
    }
}

/// Under which name the record has the steps that are taken.
pub(super) const STEPS_TAKEN: &str = "steps";
/// Under which name the record has how the connectors of others were.
const NEIGHBOURS: &str = "neighbours-before";

/// Requires that this configuration may begin a recovery.
pub async fn permit(config: &Config, request: &Request) -> Result<(), RecoveryError> {
    Ok(attach::permit_recovery(config, request.system_id).await?)
}

/// Requires that this configuration may go on with a recovery.
pub(super) async fn permit_again(config: &Config, memory: &Memory) -> Result<(), RecoveryError> {
    let (data, system_id) = match is_of_repair(memory)? {
        false => (coordinated::standing(memory)?, Some(coordinated::cluster(memory)?)),
        true => (config.postgres.pgdata.clone(), None),
    };
    Ok(attach::permit_again(config, Permission::Recover, &data, system_id).await?)
}

/// The recovery of this cluster that did not end, if this is the same request.
fn unfinished_of(config: &Config, place: &Place, asked: &Asked) -> Result<Option<Memory>, RecoveryError> {
    let Some(memory) = place.unfinished(&ClusterName::of(config))? else { return Ok(None) };
    match memory.asked().differs(asked) {
        None => Ok(Some(memory)),
        Some(differs) => Err(RecoveryError::Unfinished {
            id: memory.id().to_owned(),
            began: memory.began().to_owned(),
            differs,
            record: memory.folder().to_owned(),
            next: way_on(&memory),
        }),
    }
}

async fn carry_out(
    chosen: Chosen,
    memory: &Memory,
    began: Instant,
    on: &mut OnStep<'_>,
) -> Result<Recovered, RecoveryError> {
    let (id, record) = (memory.id().to_owned(), memory.folder().to_owned());
    match chosen {
        Chosen::Coordinated(mut state, steps) => {
            let steps = match step::run(&steps, state.as_mut(), memory, began, on).await {
                Ok(steps) => steps,
                Err(error) => {
                    refused_in_time(&mut state, memory).await?;
                    return Err(error);
                }
            };
            let (sources, resting) = state.pipeline.resting().await?;
            let archiving = state.prove_archiving().await;
            let verdict = archiving.as_ref().map_or(Verdict::Passed, |check| check.verdict);
            let restored = state.learned.restored.as_ref();
            let end = state.learned.end.as_ref();
            let downtime = downtime(&Memory::open(memory.folder())?);
            Ok(Recovered {
                outcome: Outcome { steps, downtime, archiving, ..of_coordinated(&state, verdict) },
                id,
                record,
                sources,
                resting,
                seconds: began.elapsed().as_secs_f64(),
                epoch_cut: state.learned.cut.clone(),
                abandoned: restored.and_then(|r| r.switch.map(|at| (state.abandoned_timeline(), at))),
                timeline: restored.map(|r| r.timeline),
                end_of_wal: end.map(|t| EndOfWal { timeline: state.old_timeline(), last_record: t.last }),
                aside: restored.map(|r| r.aside.clone()),
            })
        }
        Chosen::Repair(mut state, list) => {
            let steps = step::run(&list.steps, state.as_mut(), memory, began, on).await?;
            let (sources, resting) = state.pipeline.resting().await?;
            let downtime = downtime(&Memory::open(memory.folder())?);
            Ok(Recovered {
                outcome: Outcome { steps, downtime, ..of_repair(&state, Verdict::Passed) },
                id,
                record,
                sources,
                resting,
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
pub(super) async fn known(config: &Config, request: &Request) -> Result<Config, RecoveryError> {
    match request.playbook {
        Playbook::Coordinated => {
            let mut config = config.settled().await?;
            // One that was dropped comes back with the target; the server itself can be asked all the same.
            if let Some(beside) = Postgres::beside_a_dropped_database(&config.postgres.url).await {
                config.postgres.url = beside;
            }
            Ok(config)
        }
        // A server that does not answer is refused where the pipeline is looked at.
        Playbook::Slot | Playbook::Schema => {
            let mut config = config.clone();
            if let Ok(server) = Postgres::connect(&config.postgres.url, "cdc-drill-recovery").await {
                let named = match request.playbook {
                    // Before what an earlier recovery left is put back.
                    Playbook::Slot => slot::data_folder(&config, &server).await?.ok(),
                    Playbook::Coordinated | Playbook::Schema => None,
                };
                if config.postgres.pgdata.as_str().is_empty() {
                    let found = match named {
                        Some(folder) => Ok(folder),
                        None => slot::folder_beside_which_it_is_locked(&server).await,
                    };
                    match found {
                        Ok(folder) => config.postgres.pgdata = folder,
                        Err(why) => tracing::warn!(
                            "whether a recovery from another repository is at work or unfinished is not known without a data folder: {why}"
                        ),
                    }
                }
            }
            Ok(config)
        }
    }
}

/// What a person should know where the server is asked through another database than the one that is named.
fn dropped(named: &Config, known: &Config) -> Option<String> {
    let database = |config: &Config| {
        let address = postgres::address(&config.postgres.url).ok()?;
        Some(address.get_dbname().or(address.get_user())?.to_owned())
    };
    let (named, known) = (database(named)?, database(known)?);
    (named != known).then(|| {
        format!(
            "the server has no database {named}, which [postgres] url names: it is asked through database {known}. A recovery to a target \
             before the database was dropped brings it back"
        )
    })
}

/// What failed before anything was stopped or changed is no recovery to go on with: what was made for it goes.
async fn refused_in_time(state: &mut Coordinated, memory: &Memory) -> Result<(), RecoveryError> {
    if Memory::open(memory.folder())?.steps_begun().all(coordinated::changes_nothing) {
        state.remove_prepared().await?;
        memory.close(Ending::Refused)?;
        memory.let_go()?;
    }
    Ok(())
}

/// By the record, which has all runs.
fn downtime(memory: &Memory) -> Option<Downtime> {
    let (database, connectors) = (("fence", "open"), ("stop-connectors", "resume"));
    let downtime = Downtime {
        database_seconds: memory.seconds_between(database.0, database.1),
        connectors_seconds: memory.seconds_between(connectors.0, connectors.1),
    };
    (downtime.parts().count() > 0).then_some(downtime)
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
        archiving: None,
        new_point: None,
        downtime: None,
    }
}

fn of_repair(state: &Repair, verdict: Verdict) -> Outcome {
    let pipeline = &state.pipeline;
    let downstream = pipeline
        .course
        .empties_topics()
        .then(|| pipeline.downstream_finding(&pipeline.groups, Outdated::Unread))
        .flatten();
    Outcome {
        playbook: state.request.playbook,
        point: state.point.as_ref().map(|p| p.id().clone()),
        target: None,
        steps: Vec::new(),
        verdict,
        findings: state.findings.iter().cloned().chain(downstream).collect(),
        not_looked_at: state.not_looked_at.clone(),
        neighbours: None,
        archiving: None,
        new_point: None,
        downtime: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::memory::tests::{begun, report};

    #[test]
    fn a_plan_says_who_is_at_work_and_on_which_step() {
        assert_eq!(earlier(None, None), None);
        let by = || Some("recover run slot (pid 7 on h, since then)".to_owned());
        assert!(earlier(None, by()).unwrap().contains("is at work: recover run slot (pid 7"));
        let (_folder, memory) = begun();
        memory.begun("prepare", &[]).unwrap();
        memory.ended(&report("prepare")).unwrap();
        memory.begun("fence", &[]).unwrap();
        let memory = Memory::open(memory.folder()).unwrap();
        let said = earlier(Some(&memory), by()).unwrap();
        for part in [memory.id(), memory.began(), "in step fence;", "at work: recover run slot (pid 7"] {
            assert!(said.contains(part), "no `{part}` in {said}");
        }
        let said = earlier(Some(&memory), None).unwrap();
        assert!(said.ends_with("did not end: a run goes on with it, as it was found then"), "{said}");
    }
}
