//! Up to which step a recovery can be taken back, by its record.

use super::memory::Memory;

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
pub(super) fn point_of_no_return(memory: &Memory) -> Option<&str> {
    memory.steps_begun().find(|step| !TAKEN_BACK.contains(step))
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
