//! What comparing has come to so far.

use cdc_model::event::Finding;

/// What comparing has come to so far.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) rows: u64,
    pub(super) values: u64,
    pub(super) notes: Vec<String>,
    pub(super) findings: Vec<Finding>,
    /// Findings that nobody kept, and that count all the same.
    pub(super) unshown: u64,
    /// What may be a difference and may be none.
    pub(super) undecided: Vec<Finding>,
}
