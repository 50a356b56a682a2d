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
    FailedLoad::of(load).map(Fact::LoadFailed).into_iter()
}

/// Transactions that run beside a backup: a recovery point is always taken under load.
const LOAD_DURING_BACKUP: u64 = 80;

/// What runs beside a backup.
pub(super) fn load_during_backup() -> Load {
    Load { transactions: LOAD_DURING_BACKUP, must: Vec::new(), tables: None }
}
