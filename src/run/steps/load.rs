//! Load beside other steps.

use crate::scenario::Load;

/// Transactions that run beside a backup: a recovery point is always taken under load.
const LOAD_DURING_BACKUP: u64 = 80;

/// What runs beside a backup.
pub(super) fn load_during_backup() -> Load {
    Load { transactions: LOAD_DURING_BACKUP, must: Vec::new(), tables: None }
}
