//! Each check by its name.

use super::{
    atomicity, compatibility, duplicates, ghosts, history, leaks, liveness, loss, order, positions, restored_to_target,
    schema_ids, state,
};
use crate::observation::{Expectation, Observation};
use cdc_model::{event::CheckReport, vocabulary::CheckId};

/// Judges by one check.
pub fn judge(check: CheckId, seen: &Observation, expected: &Expectation<'_>) -> CheckReport {
    match check {
        CheckId::RestoredToTarget => restored_to_target(seen, expected),
        CheckId::State => state(seen, expected),
        CheckId::Loss => loss(seen, expected),
        CheckId::Ghosts => ghosts(seen, expected),
        CheckId::Duplicates => duplicates(seen, expected),
        CheckId::Order => order(seen, expected),
        CheckId::Atomicity => atomicity(seen, expected),
        CheckId::History => history(seen, expected),
        CheckId::SchemaIds => schema_ids(seen, expected),
        CheckId::Compatibility => compatibility(seen, expected),
        CheckId::Positions => positions(seen, expected),
        CheckId::Liveness => liveness(seen, expected),
        CheckId::Leaks => leaks(seen, expected),
    }
}
