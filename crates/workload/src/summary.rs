//! A load: what is asked, and what came of it.

use std::collections::BTreeSet;

use super::WorkloadError;
use cdc_model::{event::KindCounts, units::TableName, vocabulary::Must};

/// What a load is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadSpec {
    /// How many transactions are tried, over all writers.
    pub transactions: u64,
    /// What must occur among them.
    pub must: Vec<Must>,
    /// Only these tables are written, besides the token's row in `audit_log`; all unless said otherwise.
    pub tables: Option<Vec<TableName>>,
}

/// What a load did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadSummary {
    /// Transactions tried.
    pub attempted: u64,
    /// COMMIT was answered.
    pub acknowledged: u64,
    /// Rolled back on purpose.
    pub rolled_back: u64,
    /// Rolled back by an error.
    pub failed: u64,
    /// COMMIT was sent and not answered.
    pub unknown: u64,
    /// Row changes of the acknowledged ones.
    pub rows: u64,
    /// Connections that were refused, while writers kept trying.
    pub refused: u64,
    /// What occurred.
    pub seen: BTreeSet<Must>,
    /// What had to occur and did not.
    pub missing: Vec<Must>,
    /// The first error that was not planned.
    pub first_error: Option<String>,
    /// What became of each kind of transaction that the scenario names; empty where it names none.
    pub kinds: Vec<KindCounts>,
    /// How long it took.
    pub seconds: f64,
}

impl LoadSummary {
    /// The summary of a load of so many transactions; an error where none was committed although some were to be, because a drill would
    /// prove nothing with it.
    pub(crate) fn committed(self, transactions: u64) -> Result<LoadSummary, WorkloadError> {
        if self.acknowledged > 0 || self.failed + self.unknown == 0 {
            return Ok(self);
        }
        let error = self.first_error.unwrap_or_default();
        let why = format!("expected some to commit, found none; first error: {error}");
        Err(WorkloadError::Plan { transactions, why })
    }

    /// Adds what another writer did.
    pub(crate) fn add(&mut self, other: LoadSummary) {
        self.attempted += other.attempted;
        self.acknowledged += other.acknowledged;
        self.rolled_back += other.rolled_back;
        self.failed += other.failed;
        self.unknown += other.unknown;
        self.rows += other.rows;
        self.refused += other.refused;
        self.seen.extend(other.seen);
        self.kinds = KindCounts::together([&*self.kinds, &*other.kinds]);
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_of_which_nothing_commits_is_an_error() {
        let first_error = Some("relation \"a\" does not exist".to_owned());
        let load = |acknowledged, failed, rolled_back| {
            let summary = LoadSummary {
                acknowledged,
                failed,
                rolled_back,
                first_error: first_error.clone(),
                ..LoadSummary::default()
            };
            summary.committed(9).map_err(|error| error.to_string())
        };
        assert!(load(1, 8, 0).is_ok() && load(0, 0, 1).is_ok());
        let error = load(0, 8, 1).unwrap_err();
        assert!(error.contains("found none; first error: relation \"a\" does not exist"), "{error}");
    }
}
