//! How the shared vocabulary is asked for on the command line.

use std::{error::Error, str::FromStr};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use cdc_model::units::counted;
use cdc_model::vocabulary::{Loss, OnConflict, PartLoss, RegistryStorageKind, TopicsRepair};

/// Takes one of these words, which the help lists.
fn one_of<T>(words: Vec<PossibleValue>) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: Error + Send + Sync + 'static> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| word.parse::<T>())
}

/// A repair of topics.
pub(super) fn topics_repair() -> impl TypedValueParser<Value = TopicsRepair> {
    let help = |repair| match repair {
        TopicsRepair::Purge => "They are deleted and recreated before the new snapshot",
        TopicsRepair::Compensate => "A delete and a tombstone are written for each key that is no longer in its table",
    };
    one_of(TopicsRepair::ALL.map(|repair| PossibleValue::new(repair.word()).help(help(repair))).into())
}

/// What becomes of an incompatible change.
pub(super) fn on_conflict() -> impl TypedValueParser<Value = OnConflict> {
    let help = |decision| match decision {
        OnConflict::Reject => "It is undone at the source",
        OnConflict::Accept => "It is let through, for that subject only",
    };
    one_of(OnConflict::ALL.map(|decision| PossibleValue::new(decision.word()).help(help(decision))).into())
}

/// What may be lost.
pub(super) fn loss() -> impl TypedValueParser<Value = Loss> {
    let help = |loss| match loss {
        Loss::Wal => "Transactions that were acknowledged after the last WAL that can be read",
        Loss::Registry => "What a registry that stores in the cluster was given since the target",
        Loss::Retention => "Records that a topic deletes less than an hour after the snapshot wrote them",
    };
    one_of(Loss::ALL.map(|loss| PossibleValue::new(loss.word()).help(help(loss))).into())
}

/// What the restore of a part may give up.
pub(super) fn part_loss() -> impl TypedValueParser<Value = PartLoss> {
    let help = |loss| match loss {
        PartLoss::Offsets => "Stored offsets that are not safe: the connector begins anew as its snapshot.mode says",
    };
    one_of(PartLoss::ALL.map(|loss| PossibleValue::new(loss.word()).help(help(loss))).into())
}

/// Where a registry stores.
pub(super) fn registry_storage() -> impl TypedValueParser<Value = RegistryStorageKind> {
    one_of(RegistryStorageKind::ALL.map(|kind| PossibleValue::new(kind.word())).into())
}

/// How long ago something was, in its largest unit.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => counted(seconds, "second"),
        60..3_600 => counted(seconds / 60, "minute"),
        3_600..86_400 => counted(seconds / 3_600, "hour"),
        _ => counted(seconds / 86_400, "day"),
    }
}
