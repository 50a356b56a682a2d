//! Taking a recovery back, or giving it up.

use std::{collections::BTreeSet, sync::Arc};

use camino::Utf8Path;

use super::{
    RecoveryError,
    chosen::{State, again},
    coordinated, engine,
    locks::Locks,
    memory::{Elsewhere, Ending, Guard, Place, the_unfinished},
    repair::is_of_repair,
    way_back::{NO_WAY_BACK, point_of_no_return},
};
use crate::backup::ClusterName;
use cdc_pipeline::config::Config;

/// Takes back the recovery of this cluster that did not end, as long as there is a way back; says what it did.
pub async fn abort(config: &Config) -> Result<Vec<String>, RecoveryError> {
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
    match again(config, &request, &memory).await? {
        State::Coordinated(mut state) => {
            state.keep_in(&memory);
            said.extend(state.take_back().await?);
            said.extend(state.pipeline.states_as_found(made).await?);
        }
        State::Repair(state) => said.extend(state.pipeline.states_as_found(made).await?),
    }
    memory.close(Ending::Aborted)?;
    locks.clear(memory.id())?;
    Ok(said)
}

/// Gives up the recovery of this cluster that did not end. Everything stays as it is; the record says what was found.
pub fn give_up(config: &Config) -> Result<String, RecoveryError> {
    let place = Place::of(config)?;
    if let Some(Elsewhere { left, is_there: false }) = place.elsewhere(&ClusterName::of(config))? {
        let locks = Locks::take_for(
            &place,
            Utf8Path::new(&left.cluster.pgdata),
            "recover abort --leave",
            Some(&left.recovery),
        )?;
        locks.clear(&left.recovery)?;
        return Ok(format!("recovery {} is given up; its record was {} and is not there", left.recovery, left.folder));
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
    Ok(format!("recovery {} is given up; what it found is in {}", memory.id(), memory.folder()))
}
