//! Taking a recovery back, or giving it up.

use std::{collections::BTreeSet, sync::Arc};

use camino::Utf8Path;

use super::{
    Options, Playbook, RecoveryError, coordinated,
    engine::{self, Chosen},
    locks::Locks,
    memory::{Elsewhere, Ending, Memory, Place, the_unfinished},
};
use crate::{backup::ClusterName, config::Config};

/// What there is to do where a recovery cannot be taken back.
pub(super) const NO_WAY_BACK: &str =
    "`recover resume` is the way forward; `recover abort --leave` gives the recovery up and leaves everything as it is";
/// Steps behind which nothing was changed that could not be taken back.
const TAKEN_BACK: [&str; 8] =
    ["prepare", "stop-connectors", "fence", "salvage", "pin-timeline", "restore", "dump-broken", "find-records"];

/// What comes next for a recovery that did not end.
pub(super) fn way_on(memory: &Memory) -> &'static str {
    match point_of_no_return(memory) {
        None => "`recover resume` goes on with it, `recover abort` takes it back",
        Some(_) => NO_WAY_BACK,
    }
}

/// The first step that has begun and cannot be taken back.
fn point_of_no_return(memory: &Memory) -> Option<&str> {
    memory.steps_begun().find(|step| !TAKEN_BACK.contains(step))
}

/// Takes back the recovery of this cluster that did not end, as long as there is a way back; says what it did.
pub async fn abort(config: &Config) -> Result<Vec<String>, RecoveryError> {
    let mut memory = the_unfinished(config)?;
    engine::permit_again(config, &memory).await?;
    let locks = Arc::new(Locks::of(&memory, "recover abort")?);
    // Again, now that no other may go on with it.
    memory = the_unfinished(config)?;
    memory.guard(locks.clone());
    let asked = memory.asked().clone();
    let options = Options { omit: asked.omit.clone(), naive: asked.naive };
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
    match engine::again(config, &request, &options, &memory).await? {
        Chosen::Coordinated(mut state) => {
            state.keep_in(&memory);
            said.extend(state.take_back().await?);
            said.extend(state.pipeline.states_as_found(made).await?);
        }
        Chosen::Repair(state, _) => said.extend(state.pipeline.states_as_found(made).await?),
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
    if memory.asked().playbook == Playbook::Coordinated && coordinated::is_half_exchanged(&memory)? {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::coordinated::STEPS;

    #[test]
    fn what_can_be_taken_back_is_what_comes_before_clients_may_commit() {
        let before_open = STEPS.iter().map(|step| step.id).take_while(|id| *id != "open");
        assert!(before_open.into_iter().all(|step| TAKEN_BACK.contains(&step)));
        let behind = STEPS.iter().map(|step| step.id).skip_while(|id| *id != "open");
        assert!(behind.into_iter().all(|step| !TAKEN_BACK.contains(&step)));
    }
}
