//! What a step brought about.

use crate::run::chronicle::Fact;
use cdc_model::event::StepOutcome;

/// What a step brought about.
#[derive(Debug)]
pub(crate) struct Done {
    /// As far as judgement depends on it.
    pub facts: Vec<Fact>,
    /// For a person.
    pub outcome: StepOutcome,
}

impl Done {
    /// Something that judgement does not depend on.
    pub(crate) fn nothing(outcome: impl Into<StepOutcome>) -> Done {
        Done { facts: Vec::new(), outcome: outcome.into() }
    }

    /// One fact.
    pub(crate) fn one(fact: Fact, outcome: impl Into<StepOutcome>) -> Done {
        Done { facts: vec![fact], outcome: outcome.into() }
    }
}
