//! The checks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The checks, by the claim that each makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CheckId {
    /// The tables equal the ledger replayed to the target: nothing more, nothing less.
    RestoredToTarget,
    /// The latest event per key equals the table row, both ways.
    State,
    /// Every acknowledged transaction after recovery is in the topics.
    Loss,
    /// Nothing of the abandoned timeline is visible in any data topic.
    Ghosts,
    /// Duplicates only where at-least-once allows them.
    Duplicates,
    /// Per key, streamed events follow LSN and offset within one epoch.
    Order,
    /// No transaction is half visible at the end.
    Atomicity,
    /// Every record's schema id resolves to the schema it was written with.
    SchemaIds,
    /// Levels, modes, subjects and versions equal the recovery point's, and an incompatible schema is refused again.
    Compatibility,
    /// Stored offset, slot, topic settings and groups are as they must be.
    Positions,
    /// A canary row written now arrives in time.
    Liveness,
    /// Nothing the drill did is left.
    Leaks,
}

impl CheckId {
    /// All checks, in the order they are reported.
    pub const ALL: [CheckId; 12] = [
        CheckId::RestoredToTarget,
        CheckId::State,
        CheckId::Loss,
        CheckId::Ghosts,
        CheckId::Duplicates,
        CheckId::Order,
        CheckId::Atomicity,
        CheckId::SchemaIds,
        CheckId::Compatibility,
        CheckId::Positions,
        CheckId::Liveness,
        CheckId::Leaks,
    ];

    /// The check's id in the language and in reports.
    pub fn word(self) -> &'static str {
        match self {
            CheckId::RestoredToTarget => "restored-to-target",
            CheckId::State => "state",
            CheckId::Loss => "loss",
            CheckId::Ghosts => "ghosts",
            CheckId::Duplicates => "duplicates",
            CheckId::Order => "order",
            CheckId::Atomicity => "atomicity",
            CheckId::SchemaIds => "schema-ids",
            CheckId::Compatibility => "compatibility",
            CheckId::Positions => "positions",
            CheckId::Liveness => "liveness",
            CheckId::Leaks => "leaks",
        }
    }
}

impl std::fmt::Display for CheckId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.word())
    }
}
