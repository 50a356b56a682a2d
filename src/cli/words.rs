//! How the shared vocabulary is asked for on the command line.

use clap::{ValueEnum, builder::PossibleValue};

use crate::vocabulary::{Loss, OnConflict, RegistryStorageKind, TopicsRepair};

/// A word with what the help says of it; without one where the option says enough.
fn possible(word: &'static str, help: Option<&'static str>) -> Option<PossibleValue> {
    let value = PossibleValue::new(word);
    Some(match help {
        Some(help) => value.help(help),
        None => value,
    })
}

impl ValueEnum for TopicsRepair {
    fn value_variants<'a>() -> &'a [Self] {
        const { &TopicsRepair::ALL }
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        possible(
            self.word(),
            Some(match self {
                TopicsRepair::Purge => "They are deleted and recreated before the new snapshot",
                TopicsRepair::Compensate => {
                    "A delete and a tombstone are written for each key that is no longer in its table"
                }
            }),
        )
    }
}

impl ValueEnum for OnConflict {
    fn value_variants<'a>() -> &'a [Self] {
        const { &OnConflict::ALL }
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        possible(
            self.word(),
            Some(match self {
                OnConflict::Reject => "It is undone at the source",
                OnConflict::Accept => "It is let through, for that subject only",
            }),
        )
    }
}

impl ValueEnum for Loss {
    fn value_variants<'a>() -> &'a [Self] {
        const { &Loss::ALL }
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        possible(
            self.word(),
            Some(match self {
                Loss::Wal => "Transactions that were acknowledged after the last WAL that can be read",
                Loss::Registry => "What a registry that stores in the cluster was given since the target",
                Loss::Retention => "Records that a topic deletes less than an hour after the snapshot wrote them",
            }),
        )
    }
}

impl ValueEnum for RegistryStorageKind {
    fn value_variants<'a>() -> &'a [Self] {
        const { &RegistryStorageKind::ALL }
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        possible(self.word(), None)
    }
}
