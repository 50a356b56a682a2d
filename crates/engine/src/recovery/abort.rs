//! Taking a recovery back, or giving it up.

use std::{collections::BTreeSet, sync::Arc};

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use super::{
    RecoveryError,
    chosen::{State, again},
    coordinated, engine,
    locks::Locks,
    memory::{Elsewhere, Ending, Guard, Memory, Place, the_unfinished},
    operator::Operator,
    repair::is_of_repair,
    way_back::{NO_WAY_BACK, point_of_no_return},
};
use crate::backup::ClusterName;
use cdc_pipeline::config::Config;

/// A recovery that goes on no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Abandoned {
    /// The recovery's id.
    pub recovery: String,
    /// Whether it was left as it stood; else it was taken back.
    pub given_up: bool,
    /// Its record, which stays.
    pub record: Utf8PathBuf,
    /// What was done, each in a sentence.
    pub done: Vec<String>,
}

impl Abandoned {
    fn of(memory: &Memory, given_up: bool, done: Vec<String>) -> Abandoned {
        Abandoned { recovery: memory.id().to_owned(), given_up, record: memory.folder().to_owned(), done }
    }

    /// For a person, a line each.
    pub fn lines(&self) -> Vec<String> {
        let Abandoned { recovery, given_up, record, done } = self;
        let end = match given_up {
            true => format!("recovery {recovery} is given up: everything stays as it is; record: {record}"),
            false => format!("recovery {recovery} is taken back; record: {record}"),
        };
        done.iter().cloned().chain([end]).collect()
    }
}

/// Takes back the recovery of this cluster that did not end, as long as there is a way back; says what it did.
pub async fn abort(config: &Config) -> Result<Abandoned, RecoveryError> {
    let mut memory = the_unfinished(config)?;
    engine::permit_again(config, &memory).await?;
    let locks = Arc::new(Locks::of(&memory, "recover abort")?);
    // Again, now that no other may go on with it.
    memory = the_unfinished(config)?;
    memory.guard(locks.clone());
    let asked = memory.asked().clone();
    if let Some(step) = point_of_no_return(&memory) {
        return Err(RecoveryError::Refused {
            what: format!("step {step} of recovery {} has begun, which cannot be taken back", memory.id()),
            hint: NO_WAY_BACK.into(),
        });
    }
    let request = asked.request(BTreeSet::new())?;
    let config = &engine::known(config, &request).await?;
    let mut said = Vec::new();
    // Before that step a connector of a name that was missing is somebody else's.
    let made = memory.began_step("stop-connectors");
    let operator = match again(config, &request, &memory).await? {
        State::Coordinated(mut state) => {
            state.keep_in(&memory);
            said.extend(state.take_back().await?);
            said.extend(state.pipeline.states_as_found(made).await?);
            Operator::of(config, &state.pipeline)
        }
        State::Repair(state) => {
            said.extend(state.pipeline.states_as_found(made).await?);
            Operator::of(config, &state.pipeline)
        }
    };
    // Before the record is closed: where it fails, the same command goes on here.
    said.extend(operator.release().await?);
    memory.close(Ending::Aborted)?;
    locks.clear(memory.id())?;
    Ok(Abandoned::of(&memory, false, said))
}

/// Gives up the recovery of this cluster that did not end. Everything stays as it is; the record says what was found.
pub fn give_up(config: &Config) -> Result<Abandoned, RecoveryError> {
    let place = Place::of(config)?;
    if let Some(Elsewhere { left, is_there: false }) = place.elsewhere(&ClusterName::of(config))? {
        let locks = Locks::take_for(
            &place,
            Utf8Path::new(&left.cluster.pgdata),
            "recover abort --leave",
            Some(&left.recovery),
        )?;
        locks.clear(&left.recovery)?;
        let done = vec![format!("the record of recovery {} is not there; its locks are cleared", left.recovery)];
        return Ok(Abandoned { recovery: left.recovery, given_up: true, record: left.folder, done });
    }
    let memory = the_unfinished(config)?;
    if !is_of_repair(&memory)? && coordinated::is_half_exchanged(&memory)? {
        return Err(RecoveryError::Refused {
            what: format!("recovery {} stands between two renames: no data folder is in its place", memory.id()),
            hint: "`recover resume` goes on with it, `recover abort` puts the old data folder back".into(),
        });
    }
    let locks = Locks::of(&memory, "recover abort --leave")?;
    let memory = the_unfinished(config)?;
    memory.close(Ending::GivenUp)?;
    locks.clear(memory.id())?;
    Ok(Abandoned::of(&memory, true, Vec::new()))
}
