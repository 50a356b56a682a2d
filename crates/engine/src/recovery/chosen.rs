//! Which steps a recovery takes, over which state: chosen by looking, or as its record has it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    Playbook, RecoveryError, Request,
    composer::Composer,
    coordinated::{self, Coordinated},
    course::Course,
    memory::{Asked, Beginning, Memory, Place},
    pipeline::Pipeline,
    repair::{Decided, Repair, Table, is_of_repair},
    schema, slot,
    step::{self, Moments, Step, StepInfo},
};
use crate::backup::ClusterName;
use cdc_model::vocabulary::TopicsRepair;
use cdc_pipeline::{attach, config::Config};

/// The repairs' lists of steps.
static TABLES: [&Table; 6] =
    [&slot::PURGE, &slot::COMPENSATE, &schema::DAMAGE, &schema::REJECT, &schema::ACCEPT, &schema::SOUND];

/// The state of a recovery that did not end.
pub(super) enum State {
    Coordinated(Box<Coordinated>),
    Repair(Box<Repair>),
}

/// A state and the steps that are taken over it.
pub(super) enum Chosen {
    Coordinated(Box<Coordinated>, Vec<Step<Coordinated>>),
    Repair(Box<Repair>, Steps),
}

/// The steps of a repair.
pub(super) struct Steps {
    /// The name of the list that they were made of.
    name: String,
    pub(super) steps: Vec<Step<Repair>>,
}

/// A step by its name, as a record has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StepTaken {
    pub(super) name: String,
    /// What it does, in a sentence.
    pub(super) does: String,
}

impl StepTaken {
    fn of(info: &StepInfo) -> StepTaken {
        StepTaken { name: info.id.to_owned(), does: info.does.to_owned() }
    }
}

/// The steps that a record of an earlier release, which does not have them, is about.
pub(super) fn declared_for(memory: &Memory) -> Result<Vec<StepTaken>, RecoveryError> {
    let all: Vec<StepInfo> = match is_of_repair(memory)? {
        false => coordinated::STEPS.to_vec(),
        true => {
            let decided: Decided = memory.decided()?;
            let table = TABLES.iter().find(|table| table.name == decided.table);
            table.map(|table| table.steps.iter().map(|step| step.info).collect()).unwrap_or_default()
        }
    };
    Ok(all.iter().filter(|step| !memory.asked().without.contains(step.id)).map(StepTaken::of).collect())
}

/// Every playbook's steps by the name of their list, with the moments of each step.
pub fn tables() -> Vec<(&'static str, Vec<Moments>)> {
    let coordinated = (Playbook::Coordinated.word(), step::moments(&coordinated::TABLE));
    [coordinated].into_iter().chain(TABLES.iter().map(|table| (table.name, step::moments(table.steps)))).collect()
}

/// Looks at everything, refuses what cannot work, and composes the steps; of a recovery that goes on nothing is chosen anew.
pub(super) async fn choose(
    config: &Config,
    request: &Request,
    composer: &dyn Composer,
    record: Option<&Memory>,
) -> Result<Chosen, RecoveryError> {
    if let Some(memory) = record {
        return go_on(config, request, composer, memory).await;
    }
    if let Some(steps) = composer.instead() {
        let name = composer.variation().procedure.unwrap_or_default();
        return Ok(Chosen::repair(Repair::look(config, request, None).await?, name, steps));
    }
    let composed = |state, table: &Table| Chosen::repair(state, table.name.to_owned(), composer.repair(table.steps));
    match request.playbook {
        Playbook::Coordinated => {
            let state = Coordinated::plan(config, request).await?;
            Ok(Chosen::coordinated(state, composer.coordinated(&coordinated::TABLE)))
        }
        Playbook::Slot => {
            let mut state = Repair::look(config, request, None).await?;
            let diagnosed = slot::diagnose(&mut state).await?;
            slot::refuse_unprivileged(&state, &diagnosed, request.topics == TopicsRepair::Compensate).await?;
            state.pipeline.refuse_locked_out().await?;
            match request.topics {
                TopicsRepair::Compensate => {
                    slot::refuse_unkeyed(&state).await?;
                    Ok(composed(state, &slot::COMPENSATE))
                }
                TopicsRepair::Purge => {
                    let chosen = composed(state, &slot::PURGE);
                    if chosen.pipeline().course.empties_topics() {
                        chosen.pipeline().refuse_active()?;
                    }
                    Ok(chosen)
                }
            }
        }
        Playbook::Schema => {
            let mut state = Repair::look(config, request, None).await?;
            let table = schema::plan(&mut state).await?;
            Ok(composed(state, table))
        }
    }
}

/// The state of a recovery that did not end, as it was found then.
pub(super) async fn again(config: &Config, request: &Request, memory: &Memory) -> Result<State, RecoveryError> {
    if !is_of_repair(memory)? {
        return Ok(State::Coordinated(Box::new(Coordinated::again(config, request, memory).await?)));
    }
    let decided: Decided = memory.decided()?;
    let mut state = Repair::look(config, request, Some(memory)).await?;
    state.pipeline.narrow(&decided.sources, decided.hold);
    if decided.table == schema::DAMAGE.name {
        // What `find-records` learned counts.
        state.choose_affected();
    }
    (state.findings, state.not_looked_at) = (decided.findings, decided.not_looked_at);
    Ok(State::Repair(Box::new(state)))
}

/// The same with its steps, and how far they came.
async fn go_on(
    config: &Config,
    request: &Request,
    composer: &dyn Composer,
    memory: &Memory,
) -> Result<Chosen, RecoveryError> {
    match again(config, request, memory).await? {
        State::Coordinated(state) => {
            let mut chosen = Chosen::coordinated(*state, composer.coordinated(&coordinated::TABLE));
            if let Chosen::Coordinated(state, _) = &mut chosen {
                state.look_how_far(memory).await;
            }
            Ok(chosen)
        }
        State::Repair(state) => {
            let name = memory.decided::<Decided>()?.table;
            let steps = match composer.instead() {
                Some(steps) => steps,
                None => composer.repair(table_of(memory, &name)?.steps),
            };
            let mut chosen = Chosen::repair(*state, name, steps);
            if let Chosen::Repair(state, _) = &mut chosen {
                state.look_how_far(memory).await?;
            }
            Ok(chosen)
        }
    }
}

fn table_of(memory: &Memory, name: &str) -> Result<&'static Table, RecoveryError> {
    TABLES.iter().find(|table| table.name == name).copied().ok_or_else(|| {
        RecoveryError::impossible(
            memory.folder().as_str(),
            "a table of steps",
            format!("`{name}`"),
            "the record is of another version",
        )
    })
}

impl Chosen {
    fn coordinated(mut state: Coordinated, steps: Vec<Step<Coordinated>>) -> Chosen {
        state.pipeline.course = Course::of(&steps);
        Chosen::Coordinated(Box::new(state), steps)
    }

    fn repair(mut state: Repair, name: String, steps: Vec<Step<Repair>>) -> Chosen {
        state.pipeline.course = Course::of(&steps);
        Chosen::Repair(Box::new(state), Steps { name, steps })
    }

    /// Writes down what was found and decided, before anything is changed.
    pub(super) fn begin(&self, place: &Place, asked: Asked, cluster: ClusterName) -> Result<Memory, RecoveryError> {
        match self {
            Chosen::Coordinated(state, _) => {
                let (found, decided) = (&state.pipeline.found, &state.goal());
                Memory::begin(place, &Beginning { asked, cluster, found, decided })
            }
            Chosen::Repair(state, list) => {
                let decided = &Decided {
                    table: list.name.clone(),
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

    /// The steps by name, for the record.
    pub(super) fn taken(&self) -> Vec<StepTaken> {
        match self {
            Chosen::Coordinated(_, steps) => steps.iter().map(|step| StepTaken::of(&step.info)).collect(),
            Chosen::Repair(_, list) => list.steps.iter().map(|step| StepTaken::of(&step.info)).collect(),
        }
    }

    pub(super) fn keep_in(&mut self, memory: &Memory) -> Result<(), RecoveryError> {
        match self {
            Chosen::Coordinated(state, _) => {
                state.keep_in(memory);
                Ok(())
            }
            Chosen::Repair(state, _) => state.keep_in(memory),
        }
    }

    pub(super) fn pipeline(&self) -> &Pipeline {
        match self {
            Chosen::Coordinated(state, _) => &state.pipeline,
            Chosen::Repair(state, _) => &state.pipeline,
        }
    }

    pub(super) fn pipeline_mut(&mut self) -> &mut Pipeline {
        match self {
            Chosen::Coordinated(state, _) => &mut state.pipeline,
            Chosen::Repair(state, _) => &mut state.pipeline,
        }
    }

    /// The connectors that the recovery stops or changes.
    pub(super) fn concerned(&self) -> BTreeSet<String> {
        let pipeline = self.pipeline();
        let sources = pipeline.sources.iter().chain(&pipeline.others).map(|s| s.name.clone());
        sources.chain(pipeline.sinks.iter().map(|s| s.name.clone())).collect()
    }

    /// What is touched by name belongs to the pipeline, where the configuration says what does.
    pub(super) fn refuse_strangers(&self, config: &Config) -> Result<(), RecoveryError> {
        let (pipeline, subjects) = match self {
            Chosen::Coordinated(state, _) => (&state.pipeline, Vec::new()),
            Chosen::Repair(state, _) => (&state.pipeline, state.touched_subjects()),
        };
        let sources = pipeline.sources.iter().chain(&pipeline.others);
        attach::within(config, "topic prefix", sources.map(|s| s.prefix.as_str()))?;
        attach::within(config, "topic", pipeline.topics.iter().map(|t| t.name.as_str()))?;
        attach::within(config, "subject", subjects.iter().map(|s| s.as_str()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_a_name_of_its_own_and_one_order() {
        let names: BTreeSet<&str> = TABLES.iter().map(|table| table.name).collect();
        assert_eq!(names.len(), TABLES.len());
        for table in TABLES {
            let ids: BTreeSet<&str> = table.steps.iter().map(|step| step.info.id).collect();
            assert_eq!(ids.len(), table.steps.len(), "{}: a record tells steps by their ids", table.name);
        }
    }
}
