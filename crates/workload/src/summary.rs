//! A load: what is asked, and what came of it.

use std::collections::BTreeSet;

use cdc_model::units::TableName;
use cdc_model::vocabulary::Must;

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
    /// How long it took.
    pub seconds: f64,
}

impl LoadSummary {
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
        self.first_error = self.first_error.take().or(other.first_error);
    }
}
