//! Load, alone and beside other steps.

use super::Done;
use crate::{
    run::chronicle::{Fact, FailedLoad},
    scenario::Load,
};
use cdc_model::event::Loaded;

/// What a load brought about.
pub(super) fn loaded(load: Loaded) -> Done {
    Done { facts: facts(&load).collect(), outcome: load.into() }
}

/// What judgement has to know of a load.
pub(super) fn facts(load: &Loaded) -> impl Iterator<Item = Fact> + use<> {
    FailedLoad::of(load).map(Fact::LoadFailed).into_iter().chain(kinds(load))
}

/// What became of the kinds of transactions that the scenario names. It counts for writers that kept trying as well, whose failures,
/// while the server is down, are no failures of the load.
pub(super) fn kinds(load: &Loaded) -> Option<Fact> {
    match load {
        Loaded::Writers(counts) if !counts.kinds.is_empty() => Some(Fact::KindsTried(counts.kinds.clone())),
        Loaded::Writers(_) | Loaded::Pgbench { .. } | Loaded::Command { .. } => None,
    }
}

/// Transactions that run beside a backup: a recovery point is always taken under load.
const LOAD_DURING_BACKUP: u64 = 80;

/// What runs beside a backup.
pub(super) fn load_during_backup() -> Load {
    Load { transactions: LOAD_DURING_BACKUP, must: Vec::new(), tables: None }
}
