//! Load, alone and beside other steps.

use super::Done;
use crate::{run::rig::Loaded, scenario::Load};

/// What a load brought about.
pub(super) fn loaded(load: Loaded) -> Done {
    Done { facts: load.facts().collect(), words: load.words }
}

/// Transactions that run beside a backup: a recovery point is always taken under load.
const LOAD_DURING_BACKUP: u64 = 80;

/// What runs beside a backup.
pub(super) fn load_during_backup() -> Load {
    Load { transactions: LOAD_DURING_BACKUP, must: Vec::new(), tables: None }
}
