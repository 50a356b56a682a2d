//! What a step brought about.

use crate::run::chronicle::Fact;

/// What a step brought about.
#[derive(Debug)]
pub struct Done {
    /// As far as judgement depends on it.
    pub facts: Vec<Fact>,
    /// For a person.
    pub words: String,
}

impl Done {
    /// Something that judgement does not depend on.
    pub fn nothing(words: impl Into<String>) -> Done {
        Done { facts: Vec::new(), words: words.into() }
    }

    /// One fact.
    pub fn one(fact: Fact, words: impl Into<String>) -> Done {
        Done { facts: vec![fact], words: words.into() }
    }
}
