//! Controls: what is left out, and what became of it.

use serde::{Deserialize, Serialize};

use super::FindingKind;
use crate::units::Verdict;

/// What a control leaves out and what must then be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlPlan {
    /// Unique within the variant: `without-delete-offsets`, `naive-slot-by-hand`.
    pub id: String,
    /// The step left out, or the naive procedure done instead.
    pub without: String,
    /// The check that must be red.
    pub check: String,
    /// The kind of finding it must report.
    pub kind: FindingKind,
    /// Whether connector and task must say RUNNING while the check is red.
    pub silent: bool,
}

/// How a control came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlReport {
    /// The control as planned.
    pub plan: ControlPlan,
    /// Passed: red as named, and confirmed. Failed: green. Inconclusive: red for another reason.
    pub verdict: Verdict,
    /// Whether the named check reported the named kind.
    pub red: bool,
    /// All findings of the named check; none when it has none of the named kind.
    pub findings_total: u64,
    /// What an independent query said about one finding.
    pub confirmed: String,
    /// Why the verdict, in a sentence.
    pub reason: String,
}
