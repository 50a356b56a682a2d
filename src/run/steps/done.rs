//! What a step brought about.

use crate::{event::StepOutcome, run::chronicle::Fact};

/// What a step brought about.
#[derive(Debug)]
pub struct Done {
    /// As far as judgement depends on it.
    pub facts: Vec<Fact>,
    /// For a person.
    pub outcome: StepOutcome,
}

impl Done {
    /// Something that judgement does not depend on.
    pub fn nothing(outcome: impl Into<StepOutcome>) -> Done {
        Done { facts: Vec::new(), outcome: outcome.into() }
    }

    /// One fact.
    pub fn one(fact: Fact, outcome: impl Into<StepOutcome>) -> Done {
        Done { facts: vec![fact], outcome: outcome.into() }
    }
}
