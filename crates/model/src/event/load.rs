//! What a load did, as counts.

use serde::{Deserialize, Serialize};

use crate::units::counted;

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
    /// The same by kind of transaction, each that the scenario names, also one that was not drawn. Empty where the scenario names none,
    /// and in a run of an earlier release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<KindCounts>,
}

/// What became of the transactions of one kind that a scenario names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindCounts {
    /// The kind's name in the scenario.
    pub name: String,
    /// Transactions tried.
    pub attempted: u64,
    /// COMMIT was answered.
    pub acknowledged: u64,
    /// Rolled back on purpose by the writers.
    pub rolled_back: u64,
    /// Rolled back by an error.
    pub failed: u64,
    /// COMMIT was sent and not answered.
    pub unknown: u64,
    /// Rows that the acknowledged ones touched, by the word of their statements or by the server's own count of changes, whichever is
    /// more; none where a statement is of a sort that neither counts, such as DDL.
    pub rows: Option<u64>,
    /// The last error of the statements; where the server refused none, the last of a connection that was lost.
    pub last_error: Option<KindError>,
}

/// Why a transaction failed that was to be committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindError {
    /// Whether the server gave it as its answer; otherwise the connection was lost.
    pub refused: bool,
    /// The error, in one line.
    pub message: String,
}

impl KindCounts {
    /// A kind that was not tried.
    pub fn of(name: &str) -> KindCounts {
        KindCounts { name: name.to_owned(), ..KindCounts::default() }
    }

    /// Adds what became of more transactions of the kind.
    pub fn add(&mut self, more: &KindCounts) {
        // None tried says nothing of what its statements are.
        self.rows = match (self.attempted, more.attempted) {
            (0, _) => more.rows,
            (_, 0) => self.rows,
            _ => self.rows.zip(more.rows).map(|(a, b)| a + b),
        };
        self.attempted += more.attempted;
        self.acknowledged += more.acknowledged;
        self.rolled_back += more.rolled_back;
        self.failed += more.failed;
        self.unknown += more.unknown;
        let stays = |later: &KindError| self.last_error.as_ref().is_some_and(|known| known.refused && !later.refused);
        if let Some(later) = more.last_error.as_ref().filter(|later| !stays(later)) {
            self.last_error = Some(later.clone());
        }
    }

    /// Each kind once, with what became of it in all of these loads together, in the order of the scenario.
    pub fn together<'k>(loads: impl IntoIterator<Item = &'k [KindCounts]>) -> Vec<KindCounts> {
        let mut all: Vec<KindCounts> = Vec::new();
        for counts in loads.into_iter().flatten() {
            match all.iter_mut().find(|known| known.name == counts.name) {
                Some(known) => known.add(counts),
                None => all.push(counts.clone()),
            }
        }
        all
    }

    /// Why a drill in which this became of the kind has not exercised it; none where it has.
    pub fn not_exercised(&self) -> Option<String> {
        let KindCounts { name, attempted, acknowledged, rolled_back, rows, last_error, .. } = self;
        let times = |count: u64| counted(count, "transaction");
        if *acknowledged > 0 {
            return (*rows == Some(0))
                .then(|| format!("kind {name}: {} committed and touched no row", times(*acknowledged)));
        }
        if *attempted == *rolled_back {
            let on_purpose = if *attempted > 0 { ", but for those rolled back on purpose" } else { "" };
            return Some(format!("kind {name} was never tried{on_purpose}: the loads have too few transactions"));
        }
        let error = last_error.as_ref().map(|e| format!("; last error: {}", e.message)).unwrap_or_default();
        let tried = attempted - rolled_back;
        Some(format!("kind {name} never committed: {} tried{error}", times(tried)))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(attempted: u64, acknowledged: u64, rolled_back: u64, rows: Option<u64>) -> KindCounts {
        let failed = attempted - acknowledged - rolled_back;
        let message = "column \"x\" does not exist".to_owned();
        let last_error = (failed > 0).then_some(KindError { refused: true, message });
        KindCounts { attempted, acknowledged, rolled_back, failed, rows, last_error, ..KindCounts::of("refer") }
    }

    #[test]
    fn a_kind_is_exercised_by_one_commit_that_touches_a_row() {
        assert_eq!(kind(9, 1, 1, Some(1)).not_exercised(), None);
        // What DDL does is in no count.
        assert_eq!(kind(9, 1, 1, None).not_exercised(), None);
        let why = |counts: KindCounts| counts.not_exercised().unwrap();
        assert_eq!(why(kind(9, 2, 1, Some(0))), "kind refer: 2 transactions committed and touched no row");
        let never = "kind refer never committed: 8 transactions tried; last error: column \"x\" does not exist";
        assert_eq!(why(kind(9, 0, 1, None)), never);
        assert_eq!(why(kind(0, 0, 0, None)), "kind refer was never tried: the loads have too few transactions");
        assert!(
            why(kind(2, 0, 2, None)).starts_with("kind refer was never tried, but for those rolled back on purpose")
        );
        // A COMMIT without an answer is none that is known.
        let unanswered = KindCounts { attempted: 1, unknown: 1, ..KindCounts::of("refer") };
        assert_eq!(why(unanswered), "kind refer never committed: 1 transaction tried");
    }

    #[test]
    fn loads_are_counted_together() {
        let loads =
            [vec![kind(4, 0, 0, Some(0)), KindCounts::of("book")], vec![kind(0, 0, 0, None), kind(2, 1, 0, Some(3))]];
        let all = KindCounts::together(loads.iter().map(Vec::as_slice));
        assert_eq!(all.iter().map(|k| k.name.as_str()).collect::<Vec<_>>(), ["refer", "book"]);
        assert_eq!((all[0].attempted, all[0].acknowledged, all[0].failed, all[0].rows), (6, 1, 5, Some(3)));
        assert_eq!(all[0].not_exercised(), None, "it failed in one load, and committed in another");
        assert!(all[1].not_exercised().is_some());
    }
}
