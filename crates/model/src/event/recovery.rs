//! Recoveries: their steps, how long they took, and what they lost.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How long what clients use was down, over all runs of a recovery; or may be at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Downtime {
    /// Seconds from the stop of the old server to the restored one that takes sessions; none where no server is stopped. A server that
    /// was down already was so for longer.
    pub database_seconds: Option<f64>,
    /// Seconds from the stop of the connectors to their new streams, behind complete snapshots.
    pub connectors_seconds: Option<f64>,
}

impl Downtime {
    /// Each part with its name, where it is known.
    pub fn parts(self) -> impl Iterator<Item = (&'static str, f64)> {
        let parts = [("database", self.database_seconds), ("connectors", self.connectors_seconds)];
        parts.into_iter().filter_map(|(name, seconds)| Some((name, seconds?)))
    }

    /// The parts that are limited by `limits` and longer, with the limit; a part that is not known is none of them.
    pub fn longer_than(self, limits: Downtime) -> impl Iterator<Item = (&'static str, f64, f64)> {
        let limit = move |part: &str| limits.parts().find(|(name, _)| *name == part).map(|(_, seconds)| seconds);
        self.parts()
            .filter_map(move |(name, seconds)| limit(name).map(|limit| (name, seconds, limit)))
            .filter(|(_, seconds, limit)| seconds > limit)
    }

    /// The longer one of each part.
    #[must_use]
    pub fn max(self, other: Downtime) -> Downtime {
        let longer = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::max);
        Downtime {
            database_seconds: longer(self.database_seconds, other.database_seconds),
            connectors_seconds: longer(self.connectors_seconds, other.connectors_seconds),
        }
    }
}

impl fmt::Display for Downtime {
    /// `the database for 2.1 s, the connectors for 6.0 s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.parts().map(|(name, seconds)| format!("the {name} for {seconds:.1} s")).collect();
        f.write_str(&parts.join(", "))
    }
}

/// One step of a recovery, done or planned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// The step's name: `delete-offsets`.
    pub name: String,
    /// What it destroys, by name; empty when nothing.
    pub destroys: Vec<String>,
    /// What must hold before, as read back.
    pub precondition: String,
    /// Seconds since the recovery's start when the step began; zero in a plan.
    pub started_seconds: f64,
    /// How long it took; zero in a plan.
    pub seconds: f64,
    /// `planned`, `done`, `skipped`, `failed` or `omitted`.
    pub result: StepResult,
    /// The postcondition as read back, or the error.
    pub detail: String,
    /// The control hooks that it called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookCall>,
}

/// One call of a control hook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HookCall {
    /// `[control.postgres] stop`.
    pub hook: String,
    /// How long it took.
    pub seconds: f64,
    /// Its exit status; none when a signal or its deadline ended it.
    pub status: Option<i32>,
    /// The last lines it wrote.
    pub said: Vec<String>,
}

/// How a recovery step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepResult {
    /// Not run: a plan.
    Planned,
    /// Its postcondition was read back.
    Done,
    /// There was nothing for it to do, which was read back too.
    Skipped,
    /// Its postcondition was not reached.
    Failed,
    /// Left out on purpose by a control.
    Omitted,
}

/// Recovery point objective, measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rpo {
    /// Acknowledged before the target and missing.
    pub lost: Amount,
    /// Acknowledged after the target, and so given up by choosing it.
    pub given_up: Amount,
}

/// An amount of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Amount {
    /// Transactions.
    pub transactions: u64,
    /// Row changes in them.
    pub rows: u64,
    /// From the first of them to the last.
    pub seconds: f64,
}
