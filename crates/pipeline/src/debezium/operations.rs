//! Kinds of changes, and sets of them.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Operation {
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// TRUNCATE.
    Truncate,
}

impl Operation {
    const ALL: [Operation; 4] = [Operation::Insert, Operation::Update, Operation::Delete, Operation::Truncate];

    /// Its letter in `skipped.operations` and in events.
    pub fn letter(self) -> char {
        match self {
            Operation::Insert => 'c',
            Operation::Update => 'u',
            Operation::Delete => 'd',
            Operation::Truncate => 't',
        }
    }

    /// Its word in a publication's `publish`.
    pub fn word(self) -> &'static str {
        match self {
            Operation::Insert => "insert",
            Operation::Update => "update",
            Operation::Delete => "delete",
            Operation::Truncate => "truncate",
        }
    }
}

/// A set of them; shown as `insert, update`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operations(BTreeSet<Operation>);

impl Operations {
    /// Those for which this holds.
    pub fn all_where(holds: impl Fn(Operation) -> bool) -> Operations {
        Operations(Operation::ALL.into_iter().filter(|o| holds(*o)).collect())
    }

    /// Whether it is one of them.
    pub fn has(&self, operation: Operation) -> bool {
        self.0.contains(&operation)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that are not in the other set.
    #[must_use]
    pub fn without(&self, other: &Operations) -> Operations {
        Operations(&self.0 - &other.0)
    }
}

impl fmt::Display for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.0.iter().map(|o| o.word()).collect();
        f.write_str(&words.join(", "))
    }
}
