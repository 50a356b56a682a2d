//! Planning and running a playbook.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use super::{
    EndOfWal, OnStep, Options, Outcome, Playbook, Recovered, RecoveryError, Request, Watch,
    abort::way_on,
    coordinated::{self, Coordinated},
    locks::{self, Locks},
    memory::{Asked, Beginning, Ending, Memory, Place},
    neighbours,
    pipeline::{Outdated, Pipeline},
    repair::{Decided, Repair},
    schema, slot,
    step::{self, Moments, Step, StepInfo},
    unfinished,
};
use crate::{
    attach,
    backup::ClusterName,
    client::postgres::{self, Postgres},
    config::{Config, Permission},
    event::Downtime,
    units::Verdict,
    vocabulary::{Naive, TopicsRepair},
};

/// Looks at everything, and says what a run would do and destroy. Changes nothing.
pub async fn plan(config: &Config, request: &Request, options: &Options) -> Result<Outcome, RecoveryError> {
    let options = options.effective();
    let named = config;
    let config = &known(config, request).await?;
    let place = Place::of(config)?;
    let record = unfinished_of(config, &place, request, &options)?;
    locks::refuse_others(&place, &config.postgres.pgdata, record.as_ref())?;
    let mut findings = unfinished::planned(config, &place, request.playbook).await?;
    findings.extend(dropped(named, config));
    if let Some(memory) = &record {
        let (id, began) = (memory.id(), memory.began());
        findings
            .push(format!("recovery {id}, begun {began}, did not end: a run goes on with it, as it was found then"));
    }
    let mut outcome = match chosen(config, request, &options, record.as_ref()).await? {
        Chosen::Coordinated(state) => {
            let steps = step::planned(&coordinated::TABLE, state.as_ref(), &options);
            Outcome { steps, ..of_coordinated(&state, Verdict::Inconclusive) }
        }
        Chosen::Repair(state, table) => {
            let steps = step::planned(table, state.as_ref(), &options);
            Outcome { steps, ..of_repair(&state, table, Verdict::Inconclusive) }
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
    options: &Options,
    on: &mut OnStep<'_>,
    watch: &Watch,
) -> Result<Recovered, RecoveryError> {
    let began = Instant::now();
    let options = options.effective();
    let named = config;
    let config = &known(config, request).await?;
    let place = Place::of(config)?;
    let goes_on = unfinished_of(config, &place, request, &options)?;
    match &goes_on {
        Some(memory) => permit_again(config, memory).await?,
        None => permit(config, request).await?,
    }
    let owner = format!("recover run {}", request.playbook);
    let locks = Arc::new(Locks::take(&place, &config.postgres.pgdata, &owner, goes_on.as_ref())?);
    // Again, now that no other may begin.
    let record = unfinished_of(config, &place, request, &options)?;
    let mut unfinished = unfinished::put_back(config, &place, request.playbook).await?;
    unfinished.extend(dropped(named, config));
    let mut chosen = chosen(config, request, &options, record.as_ref()).await?;
    chosen.refuse_strangers(config)?;
    if let Chosen::Coordinated(state) = &mut chosen {
        state.place_archiver()?;
    }
    let others = match request.neighbours {
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
            let asked = Asked::of(request, &options);
            let memory = chosen.begin(&place, asked, ClusterName::of(config))?;
            memory.note(NEIGHBOURS, &before)?;
            (memory, before)
        }
    };
    locks.leave(&memory)?;
    memory.guard(locks);
    memory.note("run", &(std::process::id(), env!("CARGO_PKG_VERSION")))?;
    memory.note("put-back-first", &unfinished)?;
    chosen.keep_in(&memory)?;
    chosen.pipeline_mut().watch = watch.kept_in(&memory);
    let mut recovered = carry_out(chosen, &options, &memory, began, on).await?;
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

/// Ends a recovery whose result was verified. One that is red stays unfinished without it: the same command verifies again, and does
/// no step twice whose result stands.
pub fn conclude(recovered: &Recovered) -> Result<(), RecoveryError> {
    let memory = Memory::open(&recovered.record)?;
    let locks = Locks::of(&memory, "recover run")?;
    memory.close(Ending::Verified)?;
    locks.clear(memory.id())
}

/// Under which name the record has how the connectors of others were.
const NEIGHBOURS: &str = "neighbours-before";

/// Requires that this configuration may begin a recovery.
pub async fn permit(config: &Config, request: &Request) -> Result<(), RecoveryError> {
    Ok(attach::permit_recovery(config, request.system_id).await?)
}

/// Requires that this configuration may go on with a recovery.
pub(super) async fn permit_again(config: &Config, memory: &Memory) -> Result<(), RecoveryError> {
    let (data, system_id) = match memory.asked().playbook {
        Playbook::Coordinated => (coordinated::standing(memory)?, Some(coordinated::cluster(memory)?)),
        Playbook::Slot | Playbook::Schema => (config.postgres.pgdata.clone(), None),
    };
    Ok(attach::permit_again(config, Permission::Recover, &data, system_id).await?)
}

/// The recovery of this cluster that did not end, if this is the same request.
fn unfinished_of(
    config: &Config,
    place: &Place,
    request: &Request,
    options: &Options,
) -> Result<Option<Memory>, RecoveryError> {
    let Some(memory) = place.unfinished(&ClusterName::of(config))? else { return Ok(None) };
    match memory.asked().differs(&Asked::of(request, options)) {
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
    options: &Options,
    memory: &Memory,
    began: Instant,
    on: &mut OnStep<'_>,
) -> Result<Recovered, RecoveryError> {
    let (id, record) = (memory.id().to_owned(), memory.folder().to_owned());
    match chosen {
        Chosen::Coordinated(mut state) => {
            let steps = match step::run(&coordinated::TABLE, state.as_mut(), options, memory, began, on).await {
                Ok(steps) => steps,
                Err(error) => {
                    refused_in_time(&mut state, memory).await?;
                    return Err(error);
                }
            };
            let (sources, resting) = state.pipeline.resting().await?;
            let restored = state.learned.restored.as_ref();
            let end = state.learned.end.as_ref();
            let downtime = downtime(&Memory::open(memory.folder())?);
            Ok(Recovered {
                outcome: Outcome { steps, downtime, ..of_coordinated(&state, Verdict::Passed) },
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
        Chosen::Repair(mut state, table) => {
            let steps = step::run(table, state.as_mut(), options, memory, began, on).await?;
            let (sources, resting) = state.pipeline.resting().await?;
            let downtime = downtime(&Memory::open(memory.folder())?);
            Ok(Recovered {
                outcome: Outcome { steps, downtime, ..of_repair(&state, table, Verdict::Passed) },
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
        Playbook::Schema => {}
        Playbook::Coordinated => {
            let mut config = config.settled().await?;
            // One that was dropped comes back with the target; the server itself can be asked all the same.
            if let Some(beside) = Postgres::beside_a_dropped_database(&config.postgres.url).await {
                config.postgres.url = beside;
            }
            return Ok(config);
        }
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

/// A playbook's state and its steps.
pub(super) enum Chosen {
    Coordinated(Box<Coordinated>),
    Repair(Box<Repair>, &'static [Step<Repair>]),
}

const DAMAGE: &str = "damage";
/// The repairs' steps, by the names under which records have them.
static TABLES: [(&str, &[Step<Repair>]); 10] = [
    ("purge", &slot::PURGE),
    ("compensate", &slot::COMPENSATE),
    (DAMAGE, &schema::DAMAGE),
    ("reject", &schema::REJECT),
    ("accept", &schema::ACCEPT),
    ("sound", &schema::SOUND),
    ("zero-damaged-pages", &slot::ZERO_DAMAGED_PAGES),
    ("re-register", &schema::RE_REGISTER),
    ("lower-levels", &schema::LOWER_LEVELS),
    ("restart-only", &schema::RESTART_ONLY),
];

/// The steps of a recovery that did not end, by its record.
pub(super) fn steps_of(memory: &Memory) -> Result<Vec<StepInfo>, RecoveryError> {
    let asked = memory.asked();
    if asked.playbook == Playbook::Coordinated && naive_table(asked.naive).is_none() {
        return Ok(coordinated::STEPS.to_vec());
    }
    let decided: Decided = memory.decided()?;
    let table = TABLES.iter().find(|(name, _)| *name == decided.table).map_or(&[][..], |(_, steps)| *steps);
    Ok(table.iter().map(|step| step.info).collect())
}

/// Every table of steps by its name, with the moments of each step. Procedures of controls are none: no person can ask for them.
pub fn tables() -> Vec<(&'static str, Vec<Moments>)> {
    let of_controls: Vec<_> = Naive::ALL.into_iter().filter_map(|naive| naive_table(Some(naive))).collect();
    let repairs = TABLES.iter().filter(|(_, steps)| of_controls.iter().all(|other| !std::ptr::eq(*other, *steps)));
    let coordinated = (Playbook::Coordinated.word(), step::moments(&coordinated::TABLE));
    [coordinated].into_iter().chain(repairs.map(|(name, steps)| (*name, step::moments(steps)))).collect()
}

impl Chosen {
    /// Writes down what was found and decided, before anything is changed.
    fn begin(&self, place: &Place, asked: Asked, cluster: ClusterName) -> Result<Memory, RecoveryError> {
        match self {
            Chosen::Coordinated(state) => {
                let (found, decided) = (&state.pipeline.found, &state.goal());
                Memory::begin(place, &Beginning { asked, cluster, found, decided })
            }
            Chosen::Repair(state, table) => {
                let name = TABLES.iter().find(|(_, steps)| std::ptr::eq(*steps, *table)).map_or("", |(name, _)| *name);
                let decided = &Decided {
                    table: name.to_owned(),
                    point: state.point.as_ref().map(|point| point.id().clone()),
                    sources: state.pipeline.sources.iter().map(|s| s.name.clone()).collect(),
                    hold: !state.pipeline.others.is_empty(),
                    findings: state.findings.clone(),
                    not_looked_at: state.not_looked_at.clone(),
                };
                let found = &state.pipeline.found;
                Memory::begin(place, &Beginning { asked, cluster, found, decided })
            }
        }
    }

    fn keep_in(&mut self, memory: &Memory) -> Result<(), RecoveryError> {
        match self {
            Chosen::Coordinated(state) => {
                state.keep_in(memory);
                Ok(())
            }
            Chosen::Repair(state, _) => state.keep_in(memory),
        }
    }

    fn pipeline(&self) -> &Pipeline {
        match self {
            Chosen::Coordinated(state) => &state.pipeline,
            Chosen::Repair(state, _) => &state.pipeline,
        }
    }

    fn pipeline_mut(&mut self) -> &mut Pipeline {
        match self {
            Chosen::Coordinated(state) => &mut state.pipeline,
            Chosen::Repair(state, _) => &mut state.pipeline,
        }
    }

    /// The connectors that the recovery stops or changes.
    fn concerned(&self) -> BTreeSet<String> {
        let pipeline = self.pipeline();
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

/// A recovery that did not end, as it was chosen then.
pub(super) async fn again(
    config: &Config,
    request: &Request,
    options: &Options,
    memory: &Memory,
) -> Result<Chosen, RecoveryError> {
    if request.playbook == Playbook::Coordinated && naive_table(options.naive).is_none() {
        return Ok(Chosen::Coordinated(Box::new(Coordinated::again(config, request, options, memory).await?)));
    }
    let decided: Decided = memory.decided()?;
    let table = TABLES.iter().find(|(name, _)| *name == decided.table).map(|(_, steps)| *steps).ok_or_else(|| {
        RecoveryError::impossible(
            memory.folder().as_str(),
            "a table of steps",
            format!("`{}`", decided.table),
            "the record is of another version",
        )
    })?;
    let mut state = Repair::look(config, request, options, Some(memory)).await?;
    state.pipeline.narrow(&decided.sources, decided.hold);
    if decided.table == DAMAGE {
        // What `find-records` learned counts.
        state.choose_affected();
    }
    (state.findings, state.not_looked_at) = (decided.findings, decided.not_looked_at);
    state.look_how_far(memory).await?;
    Ok(Chosen::Repair(Box::new(state), table))
}

async fn chosen(
    config: &Config,
    request: &Request,
    options: &Options,
    record: Option<&Memory>,
) -> Result<Chosen, RecoveryError> {
    if let Some(memory) = record {
        return again(config, request, options, memory).await;
    }
    if let Some(table) = naive_table(options.naive) {
        let state = Repair::look(config, request, options, None).await?;
        return Ok(Chosen::Repair(Box::new(state), table));
    }
    match request.playbook {
        Playbook::Coordinated => Ok(Chosen::Coordinated(Box::new(Coordinated::plan(config, request, options).await?))),
        Playbook::Slot => {
            let mut state = Repair::look(config, request, options, None).await?;
            let diagnosed = slot::diagnose(&mut state).await?;
            slot::refuse_unprivileged(&state, &diagnosed, request.topics == TopicsRepair::Compensate).await?;
            state.pipeline.refuse_locked_out().await?;
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
            let mut state = Repair::look(config, request, options, None).await?;
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
        downtime: None,
    }
}

fn of_repair(state: &Repair, table: &[Step<Repair>], verdict: Verdict) -> Outcome {
    const EMPTIES: &str = "delete-topics";
    let empties = table.iter().any(|step| step.info.id == EMPTIES) && !state.pipeline.options.omits(EMPTIES);
    let pipeline = &state.pipeline;
    let downstream = empties.then(|| pipeline.downstream_finding(&pipeline.groups, Outdated::Unread)).flatten();
    Outcome {
        playbook: state.request.playbook,
        point: state.point.as_ref().map(|p| p.id().clone()),
        target: None,
        steps: Vec::new(),
        verdict,
        findings: state.findings.iter().cloned().chain(downstream).collect(),
        not_looked_at: state.not_looked_at.clone(),
        neighbours: None,
        downtime: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_a_name_of_its_own_and_one_order() {
        let names: BTreeSet<&str> = TABLES.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), TABLES.len());
        for (name, steps) in TABLES {
            let ids: BTreeSet<&str> = steps.iter().map(|step| step.info.id).collect();
            assert_eq!(ids.len(), steps.len(), "{name}: a record tells steps by their ids");
            assert!(TABLES.iter().any(|(_, other)| std::ptr::eq(*other, steps)));
        }
    }
}
