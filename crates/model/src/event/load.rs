//! What a load did, as counts.

use serde::{Deserialize, Serialize};

/// What a load did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loaded {
    /// By writers with a ledger.
    Writers(WriterCounts),
    /// By pgbench.
    Pgbench {
        /// Transactions that it processed.
        processed: u64,
        /// Transactions that failed.
        failed: u64,
    },
    /// By a command of the scenario's own.
    Command {
        /// Transactions that it was asked for.
        asked: u64,
        /// Transactions of its tokens that are committed.
        committed: u64,
    },
}

/// What writers with a ledger did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterCounts {
    /// Transactions tried.
    pub attempted: u64,
    /// COMMIT was answered.
    pub acknowledged: u64,
    /// Row changes of the acknowledged ones.
    pub rows: u64,
    /// Rolled back on purpose.
    pub rolled_back: u64,
    /// Rolled back by an error.
    pub failed: u64,
    /// COMMIT was sent and not answered.
    pub unknown: u64,
    /// Connections that were refused, while writers kept trying.
    pub refused: u64,
    /// The first error that was not planned.
    pub first_error: Option<String>,
}

/// What a step did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepOutcome {
    /// In words, apart from what was loaded; empty where there is nothing else.
    pub detail: String,
    /// The load that was the step, or that ran beside it.
    pub loaded: Option<Loaded>,
}

impl From<String> for StepOutcome {
    fn from(detail: String) -> StepOutcome {
        StepOutcome { detail, loaded: None }
    }
}

impl From<Loaded> for StepOutcome {
    fn from(loaded: Loaded) -> StepOutcome {
        StepOutcome { detail: String::new(), loaded: Some(loaded) }
    }
}
