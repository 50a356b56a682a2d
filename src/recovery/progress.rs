//! How far a step is that takes as long as it takes.

use std::{fmt, sync::Arc};

use crate::units::Lsn;

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Bytes that were written or read.
    Bytes {
        /// Of what.
        what: &'static str,
        /// How many so far.
        done: u64,
        /// How many there are.
        total: u64,
    },
    /// WAL that was replayed.
    Replay {
        /// Where replay is; absent before its first record.
        at: Option<Lsn>,
        /// Where it began.
        from: Lsn,
        /// Where it ends; absent where nobody knows.
        to: Option<Lsn>,
    },
}

/// Takes what steps tell of their progress, from whatever thread they are on. Called often.
#[derive(Clone)]
pub struct Watch(Arc<dyn Fn(Progress) + Send + Sync>);

impl Watch {
    /// One that calls this.
    pub fn new(hear: impl Fn(Progress) + Send + Sync + 'static) -> Watch {
        Watch(Arc::new(hear))
    }

    pub(super) fn tell(&self, progress: Progress) {
        (self.0)(progress);
    }
}

impl Default for Watch {
    fn default() -> Watch {
        Watch::new(|_| {})
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}
